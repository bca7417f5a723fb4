"""A Request to an answer: text for people, structure for programs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import GenrecError, RunError, UnavailableError, UnknownNameError
from ..recommender import Recommender
from ..tasks.task import Task
from ..tasks.taskfile import shipped_tasks
from ..tasks.templates import render
from .conditions import SHOWN
from .conversation import LISTS, Conversation, follow, settled
from .language import language, language_of
from .understand import LONGEST, Known, Mention, Reader, Request

DEFAULT_K = 10
CLOSE = 3  # ids named beside one that is unknown
INSTEAD = {"click": "rating"}  # what answers nearly the same where a data set lacks a task


@dataclass(frozen=True)
class Answer:
    """task is None where the sentence was not understood; `content` holds items, reasons, or value and
    probabilities."""

    task: str | None
    answer: str
    dataset: str | None = None
    content: dict[str, Any] = field(default_factory=dict)
    understood: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        base = {"dataset": self.dataset, "task": self.task, "answer": self.answer}
        return base | self.content | {"understood": self.understood, "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Asker:
    """Who asks. user: for requests that name no user. may_see: whether a user may be asked about, and be named; bound:
    whether that is none but the own."""

    user: str | None = None
    may_see: Callable[[str], bool] = lambda _: True
    bound: bool = False


ANYBODY = Asker()


def reader_of(recommender: Recommender, speaks: str | None = None) -> Reader:
    """A reader that knows a run's users, titles, conditions and tasks; speaks: as `Reader` has it."""
    known = [
        Known(name, tuple(recommender.tasks(name)), recommender.catalogue(name), user_test(recommender, name))
        for name in recommender.datasets
    ]
    return Reader(known, all_tasks(recommender), speaks)


def user_test(recommender: Recommender, dataset: str) -> Any:
    """Whether a data set has a user."""
    return lambda user: recommender.has_user(user, dataset)


def all_tasks(recommender: Recommender) -> dict[str, Task]:
    """The shipped tasks and the run's own; a task of both has the examples of both."""
    tasks = shipped_tasks()
    for name, task in recommender.adapter.tasks.items():
        more = tasks[name].ask if name in tasks else ()
        tasks[name] = replace(task, ask=tuple(dict.fromkeys((*task.ask, *more))))
    return tasks


def answer(recommender: Recommender, sentence: str, dataset: str | None = None, explain: bool = False) -> Answer:
    """Answer one sentence; what is not understood or not known is said, never invented."""
    return reply(recommender, reader_of(recommender), sentence, Conversation(), dataset, explain)[0]


def reply(
    recommender: Recommender,
    reader: Reader,
    sentence: str,
    before: Conversation,
    dataset: str | None = None,
    explain: bool = False,
    asker: Asker = ANYBODY,
) -> tuple[Answer, Conversation]:
    """Answer a sentence after others; returns what to remember too."""
    said = reader.read(sentence, dataset, before.shown, follows=before.request is not None)
    request, held = follow(before, for_user(said, asker.user, before))
    if request.user_id is not None and not asker.may_see(request.user_id):
        text = f"You may not ask about user {request.user_id}."
        return Answer(None, text, content={"refused": text}), before
    if request.task is None:
        return refusal(recommender, reader, request, asker), before
    try:
        request, notes = prepared(recommender, request, before)
        found = respond(recommender, reader, request, held, said.task, explain, asker)
    except (RunError, UnavailableError):
        raise  # nothing that was asked is wrong
    except GenrecError as error:
        why = error.said_to(asker.may_see) if isinstance(error, UnknownNameError) else str(error)
        text = f"{why}\n{can_ask(recommender, reader, request.language, asker)}"
        found = Answer(None, text, content={"refused": why}, understood=understood(request))
        return found, remembered(before, held, request, None)
    if len(sentence) > LONGEST:
        notes += (f"only the first {LONGEST:,} of {len(sentence):,} characters were read",)
    if said.missed and found.task is not None:
        notes += (f"not understood: {', '.join(map(repr, said.missed))}",)
    found = replace(found, understood=understood(request), warnings=notes + found.warnings)
    shown = None if found.task is None else [i["item_id"] for i in found.content.get("items", ())]
    return found, remembered(before, held, request, shown)


def recall(
    recommender: Recommender,
    reader: Reader,
    sentence: str,
    listed: Sequence[str],
    before: Conversation,
    dataset: str | None = None,
    user: str | None = None,
) -> Conversation:
    """What `reply` would have remembered of a sentence that was answered with these items."""
    said = reader.read(sentence, dataset, before.shown, follows=before.request is not None)
    request, held = follow(before, for_user(said, user, before))
    if request.task is None:
        return before
    request, _ = prepared(recommender, request, before)
    return remembered(before, held, request, None if refused(request) else listed)


def remembered(before: Conversation, held: Conversation, request: Request, shown: Sequence[str] | None) -> Conversation:
    """What to remember of a request and the list that answered it; None where it was refused."""
    if request.task not in LISTS or shown is None:
        return before if before.request else replace(before, request=request)
    listed = tuple(dict.fromkeys((*held.listed, *shown)))
    return replace(held, request=request, shown=tuple(shown) or held.shown, listed=listed)


def refused(request: Request) -> bool:
    """Whether all that would narrow a list was not understood."""
    return request.user_id is None and not request.items and bool(request.missed)


def for_user(said: Request, user: str | None, before: Conversation) -> Request:
    """A request for the user who asks, where it names none, nor any before it."""
    named = said.user_id is not None or (before.request is not None and before.request.user_id is not None)
    if user is None or named or said.text is not None or (said.like and said.items):
        return said
    return replace(said, user_id=user)


def understood(request: Request) -> dict[str, Any]:
    """The reading as JSON values."""
    title = request.items[0].title if request.items else None
    return request.to_json() | {"title": title, "k": request.k or DEFAULT_K}


def prepared(recommender: Recommender, request: Request, before: Conversation) -> tuple[Request, tuple[str, ...]]:
    """The request with its data set and conditions settled, and what there is to say about its titles."""
    notes = [note for m in (*request.items, *request.without) if (note := note_on(m))]
    dataset = request.dataset
    if dataset is None and request.task in (*recommender_tasks(recommender), "rank", "explain"):
        dataset = next((d for d in recommender.datasets if fits(recommender, request, d)), None)
    if any(c.value == SHOWN for c in request.conditions):
        name = dataset or recommender.datasets[0]
        column = next(c.column for c in request.conditions if c.value == SHOWN)
        items = recommender.catalogue(name)
        years = items.filter(items["item_id"].is_in(list(before.shown)))[column].drop_nulls().to_list()
        if not years:
            notes.append("there is no list before to compare with, so `older` and `newer` are left out")
        request = replace(request, conditions=settled(request.conditions, years))
    return replace(request, dataset=dataset), tuple(notes)


def recommender_tasks(recommender: Recommender) -> set[str]:
    """Every task of a run."""
    return {task for name in recommender.datasets for task in recommender.tasks(name)}


def fits(recommender: Recommender, request: Request, dataset: str) -> bool:
    """Whether a data set has the request's task, and its user if it names one."""
    task = {"rank": "next_item", "explain": "next_item"}.get(request.task or "", request.task)
    known = request.user_id is None or recommender.has_user(request.user_id, dataset)
    return task in recommender.tasks(dataset) and known


def note_on(mention: Mention) -> str | None:
    """What to say where a title was not unmistakable."""
    if mention.how == "typo":
        return f"{mention.said!r} is read as {mention.title!r}"
    if mention.others:
        return f"{mention.said!r} fits {mention.others + 1} items; {mention.title!r} is taken, the most frequent"
    return f"{mention.said!r} is read as {mention.title!r}" if mention.how == "part" else None


# --- refusing -----------------------------------------------------------------------------------------------------


def refusal(recommender: Recommender, reader: Reader, request: Request, asker: Asker) -> Answer:
    """What was understood, what was not, and what can be asked."""
    says = language().says[request.language]
    joint = says["part_joint"]
    lines = [says["understood"].format(parts=joint.join(parts))] if (parts := entities(request)) else []
    missed = joint.join(map(repr, request.missed))
    asked = "missed" if request.task is not None else "task_missed_in" if missed else "task_missed"
    lines += [says[asked].format(missed=missed), can_ask(recommender, reader, request.language, asker)]
    return Answer(None, "\n".join(lines), understood=understood(request))


def entities(request: Request) -> list[str]:
    """The request and its entities in words."""
    says = language().says[request.language]
    parts = [says.get(request.task, request.task)] if request.task else []
    parts += [says["user"].format(user=request.user_id)] if request.user_id is not None else []
    parts += [m.title for m in request.items]
    parts += [says["without"].format(title=m.title) for m in request.without]
    parts += [c.words() for c in request.conditions]
    return parts + ([says["size"].format(k=request.k)] if request.k is not None else [])


def can_ask(recommender: Recommender, reader: Reader, spoken: str, asker: Asker = ANYBODY) -> str:
    """What can be asked, in a language."""
    says = language().says[spoken]
    return says["can_ask"].format(examples=says["example_joint"].join(examples_of(recommender, reader, spoken, asker)))


def examples_of(recommender: Recommender, reader: Reader, spoken: str, asker: Asker = ANYBODY) -> list[str]:
    """One example for each task of the run, with its own titles and a user who may be named; in another language where
    it has none in this one."""
    found: dict[str, str] = {}

    def first(examples: Sequence[str]) -> str:
        return next((e for e in examples if language_of(re.sub(r"{\w+}", "", e)) == spoken), examples[0])

    for name in recommender.datasets:
        items = recommender.catalogue(name).sort("train_count", descending=True, maintain_order=True)
        titles = [t for t in items["title"].head(5).to_list() if t] or ["..."]
        user = recommender.some_user(name) or "42"
        user = user if asker.may_see(user) else asker.user or "..."
        values = {
            "user_id": user,
            "title": titles[0],
            "titles": ", ".join(titles[:2]),
            "item_id": "1",
            "text": '"..."',
            "k": "5",
            "days": "28",
            "condition": "...",
        }
        own = recommender.tasks(name)
        for task in own:
            if reader.tasks[task].ask:
                found.setdefault(task, render(first(reader.tasks[task].ask), values))
        for extra in ("rank", "explain") if "next_item" in own else ():
            found.setdefault(extra, render(first(language().requests[extra]), values))
    return list(found.values())


# --- answering ----------------------------------------------------------------------------------------------------


def respond(
    recommender: Recommender,
    reader: Reader,
    request: Request,
    held: Conversation,
    said: str | None,
    explain: bool,
    asker: Asker,
) -> Answer:
    """The answer to a request whose parts are settled."""
    task = request.task
    assert task is not None
    if task in ("next_item", "rank") or (task == "basket" and request.items):
        return listed(recommender, reader, request, held, said, explain, asker)
    if task == "explain":
        return explained(recommender, request)
    return predicted(recommender, reader, request)


def listed(
    recommender: Recommender,
    reader: Reader,
    request: Request,
    held: Conversation,
    said: str | None,
    explain: bool,
    asker: Asker,
) -> Answer:
    """A ranked list: for a user, from items, near items, with a basket, or of given items."""
    user, items = request.user_id, [m.item_id for m in request.items]
    where = " and ".join(f"({c.sql()})" for c in request.conditions) or None
    exclude = [*held.known, *(m.item_id for m in request.without), *(held.listed if said == "more" else ())]
    k = request.k or DEFAULT_K
    warnings: tuple[str, ...] = ()
    if refused(request):
        return refusal(recommender, reader, request, asker)
    if request.task == "rank" and len(items) < 2:
        raise GenrecError(
            "ranking needs at least two items of the catalogue, and I found " + (items[0] if items else "none")
        )
    known = user is None or recommender.has_user(user, request.dataset)
    whom, near = f"user {user}", ""
    if not known:
        close = [] if asker.bound else recommender.close_users(user or "", request.dataset, CLOSE)
        near = f" Nearest ids: {', '.join(close)}." if close else ""
        warnings += (f"user {user} is unknown: strategy popular",)
    options: dict[str, Any] = {"dataset": request.dataset, "exclude": exclude}
    ask_user = user if known else None
    if request.task == "rank":
        options |= {"candidates": items, "include_seen": True, "k": len(items), "exclude": ()}
        items = []
    elif request.task == "basket" and basket_offered(recommender, request.dataset):
        options |= {"basket": items, "where": where, "k": k}
        items = []
    else:
        options |= {"where": where, "k": k}
    if items and ask_user is None and request.like:
        found = recommender.similar(items, k, request.dataset, where=where, exclude=exclude)
        strategy = "similar"
    elif ask_user is not None:
        found = recommender.recommend(ask_user, **options, like=items)
        strategy = found.frame["strategy"][0] if found.frame.height else "model"
    else:
        found = recommender.recommend(history=items, **options)
        strategy = found.frame["strategy"][0] if found.frame.height else "model"
    rows = found.frame.to_dicts()
    start = len(held.listed) if said == "more" else 0
    names = ("rank", "item_id", "title", "score", "probability")
    shown = [{n: r[n] for n in names if n in r} | {"rank": r["rank"] + start} for r in rows]
    reasons: dict[str, list[dict[str, Any]]] = {}
    if explain and rows and strategy == "model":
        reasons = reasons_for(recommender, [r["item_id"] for r in rows], ask_user, items, request.dataset)
        shown = [item | {"reasons": reasons.get(item["item_id"], [])} for item in shown]
    if not known:
        head = f"User {user} is unknown.{near} The most popular items instead:"
    elif strategy == "popular" and user is not None:
        head = f"Nothing is known of {whom} yet. The most popular items:"
    elif strategy == "popular":
        items_word = "" if request.conditions else " items"
        head = f"The most popular{items_word}{said_conditions(request)}, since no user or item is named:"
    else:
        head = f"{heading(request, whom)}:"
    if not rows:
        head = f"Nothing in the catalogue is left for this{said_conditions(request)}."
    lines = [line_of(item) for item in shown]
    dataset = rows[0]["dataset"] if rows else request.dataset
    content = {"strategy": strategy, "items": shown}
    return Answer(
        request.task if request.task != "rank" else "next_item",
        "\n".join([head, *lines]),
        dataset,
        content,
        {},
        warnings + found.warnings,
    )


def line_of(item: Mapping[str, Any]) -> str:
    """A line of a list, with its reasons below."""
    line = f"{item['rank']:3}  {item['title'] or item['item_id']}  ({item['score']:.3f})"
    if reasons := item.get("reasons"):
        line += "\n       because of " + ", ".join(
            f"{r['title'] or r['item_id']} (+{r['effect']:.2f})" for r in reasons
        )
    return line


def heading(request: Request, whom: str) -> str:
    """What a list is, in words."""
    titles = " · ".join(m.title for m in request.items)
    if request.task == "rank":
        return f"In the order of {whom}'s scores" if request.user_id is not None else "In this order"
    if request.task == "basket":
        return f"Goes with {titles}"
    parts = [f"For {whom}"] if request.user_id is not None else []
    if titles:
        parts.append(("like " if request.like or parts else "After ") + titles)
    text = ", ".join(parts)
    return text[:1].upper() + text[1:] + said_conditions(request)


def said_conditions(request: Request) -> str:
    """`, genre Comedy, year 1990 to 1999`."""
    return "".join(f", {c.words()}" for c in request.conditions)


def basket_offered(recommender: Recommender, dataset: str | None) -> bool:
    """Whether baskets were trained on."""
    return "basket" in recommender.tasks(dataset or recommender.datasets[0])


def reasons_for(
    recommender: Recommender, items: Sequence[str], user: str | None, history: Sequence[str], dataset: str | None
) -> dict[str, list[dict[str, Any]]]:
    """Per item, the history's items that raised its score most."""
    past: dict[str, Any] = {"user": user} if user is not None else {"history": history}
    frame = recommender.explain(items, dataset=dataset, **past).frame
    found: dict[str, list[dict[str, Any]]] = {}
    for r in frame.iter_rows(named=True):
        reason = {"item_id": r["reason_item_id"], "title": r["reason_title"], "effect": r["effect"]}
        found.setdefault(r["item_id"], []).append(reason)
    return found


def explained(recommender: Recommender, request: Request) -> Answer:
    """Why an item is recommended to a user: what in the history raised its score, measured by leaving it out."""
    if request.user_id is None or not request.items:
        missing = "a user" if request.user_id is None else "an item of the catalogue"
        raise GenrecError(f"to explain a recommendation I need {missing}")
    item = request.items[0]
    found = recommender.explain(item.item_id, user=request.user_id, dataset=request.dataset)
    rows = found.frame.to_dicts()
    reasons = [{"item_id": r["reason_item_id"], "title": r["reason_title"], "effect": r["effect"]} for r in rows]
    if not rows:
        text = f"Nothing in the history of user {request.user_id} raises the score of {item.title}."
    else:
        lines = [f"  {r['title'] or r['item_id']}  (+{r['effect']:.3f})" for r in reasons]
        head = f"{item.title} for user {request.user_id}: what raises its score most, and how much it falls without:"
        text = "\n".join([head, *lines])
    dataset = rows[0]["dataset"] if rows else request.dataset
    content = {"item_id": item.item_id, "title": item.title, "reasons": reasons}
    return Answer("explain", text, dataset, content, {}, found.warnings)


def predicted(recommender: Recommender, reader: Reader, request: Request) -> Answer:
    """The outcome of a task, in words and with its probabilities."""
    task = request.task or ""
    warnings: tuple[str, ...] = ()
    offered = recommender.tasks(request.dataset) if request.dataset else sorted(recommender_tasks(recommender))
    if task not in offered and INSTEAD.get(task) in offered:
        warnings = (f"{task} was not trained on; the {INSTEAD[task]} is told instead",)
        task = INSTEAD[task]
    unit = reader.tasks[task].unit
    item = request.items[0] if request.items else None
    text = request.text if request.text is not None else (item.title if item and unit == "text" else None)
    if unit != "text" and request.user_id is None:
        raise GenrecError(f"{task} is asked about a user, and no user is named")
    if unit == "event" and item is None:
        raise GenrecError(f"{task} is asked about an item, and I found none of the catalogue in this")
    found = recommender.predict(
        task,
        users=request.user_id if unit != "text" else None,
        items=item.item_id if item and unit == "event" else None,
        texts=text if unit == "text" else None,
        dataset=request.dataset,
    )
    row = found.frame.row(0, named=True)
    probabilities = dict(zip(found.choices, row["probabilities"], strict=True))
    if unit == "event" and item and request.user_id is not None:
        past = recommender.history(request.user_id, row["dataset"]).filter(item_id=item.item_id)
        if past.height:
            rated = f", rated {past['rating'][-1]:g}" if past["rating"][-1] is not None else ""
            warnings += (f"{item.title} is in the history of user {request.user_id} already{rated}",)
    about = [f"user {request.user_id}"] if unit != "text" else []
    about += [item.title] if item and unit == "event" else []
    text_form = outcome_words(row["value"], probabilities)
    content = {"value": row["value"], "probabilities": probabilities}
    answer_text = f"{task}{': ' if not about else ' (' + ', '.join(about) + '): '}{text_form}"
    return Answer(task, answer_text, row["dataset"], content, {}, warnings + found.warnings)


def outcome_words(value: object, probabilities: Mapping[str, float]) -> str:
    """`4.12 (1: 2%, ...)`, `yes with probability 62%`, `negative (negative 71%, ...)`."""
    if isinstance(value, float):
        return f"{value:.2f} expected ({', '.join(f'{c}: {p:.0%}' for c, p in probabilities.items())})"
    if set(probabilities) == {"no", "yes"}:
        return f"{value} (probability of yes: {probabilities['yes']:.1%})"
    top = sorted(probabilities.items(), key=lambda c: -c[1])[:6]
    return f"{value} ({', '.join(f'{c} {p:.0%}' for c, p in top)})"
