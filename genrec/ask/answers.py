"""The answers to requests whose parts are settled: lists, reasons and outcomes, each in words and as values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import GenrecError
from ..recommender import Recommender
from ..recommender.replies import Recommendations, likeliest, value_in_words
from .conversation import Conversation
from .reader import Reader
from .refusals import is_refused, refusal
from .request import DEFAULT_K, Answer, Asker, Request, is_choice_of_event, is_number_of_event

NAMED_CHOICES = 6  # choices of an outcome that are named
ITEM_FIELDS = ("rank", "item_id", "title", "score", "probability")


def answer_request(
    recommender: Recommender,
    reader: Reader,
    request: Request,
    context: Conversation,
    asker: Asker,
    more: bool = False,
    explain: bool = False,
) -> Answer:
    """The answer to a request.

    context: the part of the conversation that holds for it. more: continue the last list. explain: add the reasons of
    each item to a list.
    """
    if request.kind in ("next", "rank") or (request.kind == "basket" and request.items):
        if is_refused(request):
            return refusal(recommender, reader, request, asker)
        return list_answer(recommender, reader, request, context, asker, more, explain)
    if request.kind == "explain":
        return explanation(recommender, request)
    return prediction(recommender, reader, request)


# Lists


def list_answer(
    recommender: Recommender,
    reader: Reader,
    request: Request,
    context: Conversation,
    asker: Asker,
    more: bool,
    explain: bool,
) -> Answer:
    """A ranked list: for a user, from items, near items, with a basket, or of given items."""
    has_user = request.user_id is not None and recommender.has_user(request.user_id, request.dataset)
    user = request.user_id if has_user else None
    warnings: tuple[str, ...] = ()
    if request.user_id is not None and not has_user:
        warnings = recommender.unknown_users(request.user_id, request.dataset, show_users=not asker.bound)
    excluded = [*context.known_items, *(m.item_id for m in request.without), *(context.listed_items if more else ())]
    ranking, strategy = ranked(recommender, reader, request, user, excluded)
    start = len(context.listed_items) if more else 0
    rows = ranking.frame.to_dicts()
    items = [{n: r[n] for n in ITEM_FIELDS if n in r} | {"rank": r["rank"] + start} for r in rows]
    if explain and rows and strategy == "model":
        history = history_of(reader, request)
        reasons = reasons_of(recommender, [r["item_id"] for r in rows], user, history, request.dataset)
        items = [item | {"reasons": reasons.get(item["item_id"], [])} for item in items]
    head = heading(recommender, request, user, strategy, asker) if rows else nothing_left(request)
    task = reader.requests.next_task if request.kind == "rank" else request.task
    text = "\n".join([head, *map(line_of, items)])
    dataset = rows[0]["dataset"] if rows else request.dataset
    return Answer(task, text, dataset, {"strategy": strategy, "items": items}, {}, warnings + ranking.warnings)


def ranked(
    recommender: Recommender, reader: Reader, request: Request, user: str | None, excluded: Sequence[str]
) -> tuple[Recommendations, str]:
    """The items of a list, and how they were found."""
    items = [m.item_id for m in request.items]
    options: dict[str, Any] = {"dataset": request.dataset}
    if request.kind == "rank":
        if len(items) < 2:
            named = items[0] if items else "none"
            raise GenrecError(f"ranking needs at least two items of the catalogue, and I found {named}")
        options |= {"candidates": items, "exclude_seen": False, "k": len(items), "exclude": ()}
    else:
        where = " and ".join(f"({c.sql()})" for c in request.conditions) or None
        options |= {"where": where, "k": request.k or DEFAULT_K, "exclude": excluded}
    history = history_of(reader, request)
    if request.kind != "rank" and items and not history:
        options["basket"] = items
    if history and user is None and request.like:
        similar = recommender.similar(history, options.pop("k"), options.pop("dataset"), **options)
        return similar, "similar"
    if user is not None:
        ranking = recommender.recommend(user, **options, like=history)
    else:
        ranking = recommender.recommend(history=history, **options)
    return ranking, ranking.strategy


def history_of(reader: Reader, request: Request) -> list[str]:
    """The items of a request that stand for a history: none that are ranked, and none of a basket if baskets were
    trained on."""
    if request.kind == "rank" or (request.kind == "basket" and has_baskets(reader, request.dataset)):
        return []
    return [m.item_id for m in request.items]


def has_baskets(reader: Reader, dataset: str | None) -> bool:
    """Whether a data set (None: the first) has a task about baskets."""
    domain = reader.domains[dataset] if dataset is not None else next(iter(reader.domains.values()))
    return reader.requests.offered(domain, "basket") is not None


def heading(recommender: Recommender, request: Request, user: str | None, strategy: str, asker: Asker) -> str:
    """The line above a list."""
    unknown = f"User {request.user_id} is unknown" if request.user_id is not None and user is None else ""
    if strategy == "popular" and unknown:
        close = [] if asker.bound else recommender.close_users(request.user_id or "", request.dataset)
        near = f" Nearest ids: {', '.join(close)}." if close else ""
        return f"{unknown}.{near} The most popular items instead:"
    if strategy == "popular" and user is not None:
        return f"Nothing is known of user {user} yet. The most popular items:"
    if strategy == "popular":
        noun = "" if request.conditions else " items"
        return f"The most popular{noun}{conditions_in_words(request)}, since no user or item is named:"
    if unknown:
        return f"{unknown}. {subject(replace(request, user_id=None))}:"
    return f"{subject(request)}:"


def nothing_left(request: Request) -> str:
    """The line above an empty list."""
    return f"Nothing in the catalogue is left for this{conditions_in_words(request)}."


def subject(request: Request) -> str:
    """Whom and what a list is for, in words."""
    titles = " · ".join(m.title for m in request.items)
    if request.kind == "rank":
        return "In this order" if request.user_id is None else f"In the order of user {request.user_id}'s scores"
    if request.kind == "basket":
        return f"Goes with {titles}"
    parts = [f"For user {request.user_id}"] if request.user_id is not None else []
    if titles:
        parts.append(("like " if request.like or parts else "After ") + titles)
    text = ", ".join(parts)
    return text[:1].upper() + text[1:] + conditions_in_words(request)


def conditions_in_words(request: Request) -> str:
    """`, genre Comedy, year 1990 to 1999`."""
    return "".join(f", {c.words()}" for c in request.conditions)


def line_of(item: Mapping[str, Any]) -> str:
    """A line of a list, with its reasons below."""
    line = f"{item['rank']:3}  {item['title'] or item['item_id']}  ({item['score']:.3f})"
    if reasons := item.get("reasons"):
        named = ", ".join(f"{r['title'] or r['item_id']} (+{r['effect']:.2f})" for r in reasons)
        line += f"\n       because of {named}"
    return line


# Reasons


def reasons_of(
    recommender: Recommender, items: Sequence[str], user: str | None, history: Sequence[str], dataset: str | None
) -> dict[str, list[dict[str, Any]]]:
    """By item, the history's items that raised its score most."""
    past: dict[str, Any] = {"user": user} if user is not None else {"history": history}
    reasons: dict[str, list[dict[str, Any]]] = {}
    for row in recommender.explain(items, dataset=dataset, **past).frame.iter_rows(named=True):
        reasons.setdefault(row["item_id"], []).append(reason_of(row))
    return reasons


def reason_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of an explanation as a reason."""
    return {"item_id": row["reason_item_id"], "title": row["reason_title"], "effect": row["effect"]}


def explanation(recommender: Recommender, request: Request) -> Answer:
    """Why an item is recommended to a user: what in the history raised its score, measured by leaving it out."""
    if request.user_id is None or not request.items:
        missing = "a user" if request.user_id is None else "an item of the catalogue"
        raise GenrecError(f"to explain a recommendation I need {missing}")
    item, user = request.items[0], request.user_id
    explained = recommender.explain(item.item_id, user=user, dataset=request.dataset)
    rows = explained.frame.to_dicts()
    reasons = [reason_of(row) for row in rows]
    text = f"Nothing in the history of user {user} raises the score of {item.title}."
    if rows:
        head = f"{item.title} for user {user}: what raises its score most, and how much it falls without:"
        text = "\n".join([head, *(f"  {r['title'] or r['item_id']}  (+{r['effect']:.3f})" for r in reasons)])
    dataset = rows[0]["dataset"] if rows else request.dataset
    content = {"item_id": item.item_id, "title": item.title, "reasons": reasons}
    return Answer("explain", text, dataset, content, {}, explained.warnings)


# Outcomes


def prediction(recommender: Recommender, reader: Reader, request: Request) -> Answer:
    """The outcome of a task, in words and with its probabilities."""
    task, warnings = offered_task(reader, request)
    kind, item, user = request.kind, request.items[0] if request.items else None, request.user_id
    if kind != "text" and user is None:
        raise GenrecError(f"{task} is asked about a user, and no user is named")
    if kind == "event" and item is None:
        raise GenrecError(f"{task} is asked about an item, and I found none of the catalogue in this")
    outcomes = recommender.predict(
        task,
        users=user if kind != "text" else None,
        items=item.item_id if item and kind == "event" else None,
        texts=request.text if kind == "text" else None,
        dataset=request.dataset,
    )
    row = outcomes.records()[0]
    probabilities = row["probabilities"]
    about = [f"user {user}"] if kind != "text" else []
    if kind == "event" and item and user is not None:
        about.append(item.title)
        past = recommender.history(user, row["dataset"]).filter(item_id=item.item_id)
        if past.height:
            rated = f", rated {past['rating'][-1]:g}" if past["rating"][-1] is not None else ""
            warnings += (f"{item.title} is in the history of user {user} already{rated}",)
    subjects = f" ({', '.join(about)})" if about else ""
    text = f"{task}{subjects}: {outcome_in_words(row['value'], probabilities)}"
    content = {"value": row["value"], "probabilities": probabilities}
    return Answer(task, text, row["dataset"], content, {}, warnings + outcomes.warnings)


def offered_task(reader: Reader, request: Request) -> tuple[str, tuple[str, ...]]:
    """The task of a request; if its data set lacks a choice about an event (would the user like it?), a number for the
    same event, and a warning."""
    task = request.task or ""
    domains = [reader.domains[request.dataset]] if request.dataset else list(reader.domains.values())
    offered = sorted({name for domain in domains for name in domain.tasks})
    if task not in offered and is_choice_of_event(reader.tasks[task]):
        number = next((name for name in offered if is_number_of_event(reader.tasks[name])), None)
        if number is not None:
            return number, (f"{task} was not trained on; the {number} is told instead",)
    return task, ()


def outcome_in_words(value: object, probabilities: Mapping[str, float]) -> str:
    """A value and its probabilities.

    >>> outcome_in_words(4.2, {"4": 0.8, "5": 0.2}), outcome_in_words("yes", {"no": 0.38, "yes": 0.62})
    ('4.20 expected (4: 80%, 5: 20%)', 'yes (probability of yes: 62.0%)')
    """
    if isinstance(value, float):
        named = ", ".join(f"{c}: {p:.0%}" for c, p in likeliest(probabilities))
        return f"{value_in_words(value)} expected ({named})"
    if set(probabilities) == {"no", "yes"}:
        return f"{value} (probability of yes: {probabilities['yes']:.1%})"
    top = sorted(probabilities.items(), key=lambda c: -c[1])[:NAMED_CHOICES]
    return f"{value} ({', '.join(f'{c} {p:.0%}' for c, p in top)})"
