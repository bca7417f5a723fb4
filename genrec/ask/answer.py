"""A sentence to an answer: text for people, structure for programs."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import GenrecError, RunError, UnavailableError, UnknownNameError
from ..recommender import Recommender
from .answers import answer_request
from .attributes import SHOWN
from .conversation import Conversation, follow, settled
from .examples import shipped
from .reader import Reader
from .refusals import can_ask, is_refused, refusal, understood
from .request import ANYBODY, LISTS, MAX_CHARACTERS, Answer, Asker, Mention, Request
from .sentence import Domain


def reader_of(recommender: Recommender, speaks: str | None = None) -> Reader:
    """A reader that knows a run's users, titles and conditions, and the shipped tasks and the run's own; speaks: as
    `Reader` has it."""
    domains = [
        Domain(name, recommender.tasks(name), recommender.catalogue(name), user_test(recommender, name))
        for name in recommender.datasets
    ]
    return Reader(domains, {**shipped(), **recommender.task_definitions()}, speaks)


def user_test(recommender: Recommender, dataset: str) -> Callable[[str], bool]:
    """Whether a data set has a user."""
    return lambda user: recommender.has_user(user, dataset)


def answer(recommender: Recommender, sentence: str, dataset: str | None = None, explain: bool = False) -> Answer:
    """Answer one sentence; what is not understood or not known is named, never invented. Raises UnknownNameError if the
    answer needs a user who is unknown."""
    return reply(recommender, reader_of(recommender), sentence, Conversation(), dataset, explain, strict=True)[0]


def reply(
    recommender: Recommender,
    reader: Reader,
    sentence: str,
    before: Conversation,
    dataset: str | None = None,
    explain: bool = False,
    asker: Asker = ANYBODY,
    strict: bool = False,
) -> tuple[Answer, Conversation]:
    """The answer to a sentence after others, and the conversation with it. strict: an unknown user whom the answer
    needs is an error, and not the answer."""
    read = reader.read(sentence, dataset, before.last_items, follows=before.request is not None)
    request, context = follow(before, for_user(read, asker.user, before))
    if request.user_id is not None and not asker.may_see(request.user_id):
        text = f"You may not ask about user {request.user_id}."
        return Answer(None, text, content={"refused": text}), before
    if request.task is None:
        return refusal(recommender, reader, request, asker), before
    try:
        request, notes = prepared(recommender, reader, request, before)
        result = answer_request(recommender, reader, request, context, asker, read.kind == "more", explain)
    except (RunError, UnavailableError):
        raise  # nothing that was asked is wrong
    except GenrecError as error:
        if strict and isinstance(error, UnknownNameError) and error.kind == "user":
            raise
        why = error.said_to(asker.may_see) if isinstance(error, UnknownNameError) else str(error)
        text = f"{why}\n{can_ask(recommender, reader, request.language, asker)}"
        failure = Answer(None, text, content={"refused": why}, understood=understood(request))
        return failure, remembered(before, context, request, None)
    if len(sentence) > MAX_CHARACTERS:
        notes += (f"only the first {MAX_CHARACTERS:,} of {len(sentence):,} characters were read",)
    if read.missed and result.task is not None:
        notes += (f"not understood: {', '.join(map(repr, read.missed))}",)
    result = replace(result, understood=understood(request), warnings=notes + result.warnings)
    items = None if result.task is None else [i["item_id"] for i in result.content.get("items", ())]
    return result, remembered(before, context, request, items)


def recall(
    recommender: Recommender,
    reader: Reader,
    sentence: str,
    listed: Sequence[str],
    before: Conversation,
    dataset: str | None = None,
    user: str | None = None,
) -> Conversation:
    """The conversation that `reply` would have returned for a sentence that was answered with these items."""
    read = reader.read(sentence, dataset, before.last_items, follows=before.request is not None)
    request, context = follow(before, for_user(read, user, before))
    if request.task is None:
        return before
    request, _ = prepared(recommender, reader, request, before)
    return remembered(before, context, request, None if is_refused(request) else listed)


def remembered(
    before: Conversation, context: Conversation, request: Request, items: Sequence[str] | None
) -> Conversation:
    """The conversation after a request and the items that answered it; None if it was refused."""
    if request.kind not in LISTS or items is None:
        return before if before.request else replace(before, request=request)
    listed = tuple(dict.fromkeys((*context.listed_items, *items)))
    return replace(context, request=request, last_items=tuple(items) or context.last_items, listed_items=listed)


def for_user(request: Request, user: str | None, before: Conversation) -> Request:
    """A request for the user who asks, if it names none, nor any before it."""
    named = request.user_id is not None or (before.request is not None and before.request.user_id is not None)
    if user is None or named or request.text is not None or (request.like and request.items):
        return request
    return replace(request, user_id=user)


def prepared(
    recommender: Recommender, reader: Reader, request: Request, before: Conversation
) -> tuple[Request, tuple[str, ...]]:
    """The request with its data set and conditions settled, and notes on its titles."""
    notes = [note for m in (*request.items, *request.without) if (note := note_on(m))]
    dataset = request.dataset
    if dataset is None:
        requests = (request, replace(request, user_id=None))  # of a user whom none has, the first that could answer
        fitting = (name for r in requests for name, domain in reader.domains.items() if fits(reader, r, domain))
        dataset = next(fitting, None)
    if any(c.value == SHOWN for c in request.conditions):
        years = years_of(recommender, request, before, dataset or recommender.datasets[0])
        if not years:
            notes.append("there is no list before to compare with, so `older` and `newer` are left out")
        request = replace(request, conditions=settled(request.conditions, years))
    return replace(request, dataset=dataset), tuple(notes)


def years_of(recommender: Recommender, request: Request, before: Conversation, dataset: str) -> list[float]:
    """The years of the items listed before, by the column that the request compares with them."""
    column = next(c.column for c in request.conditions if c.value == SHOWN)
    items = recommender.catalogue(dataset)
    years: list[float] = items.filter(items["item_id"].is_in(list(before.last_items)))[column].drop_nulls().to_list()
    return years


def fits(reader: Reader, request: Request, domain: Domain) -> bool:
    """Whether a data set has the request's task, or lists for a request about them, and its user if it names one."""
    of_list = request.kind in ("rank", "explain") and reader.requests.offered(domain, "next") is not None
    has_user = request.user_id is None or domain.has_user(request.user_id)
    return (of_list or request.task in domain.tasks) and has_user


def note_on(mention: Mention) -> str | None:
    """A note on a title that is not written as it is, or fits several items; else None."""
    if mention.how == "typo":
        return f"{mention.text!r} is read as {mention.title!r}"
    if mention.others:
        return f"{mention.text!r} fits {mention.others + 1} items; {mention.title!r} is taken, the most frequent"
    return f"{mention.text!r} is read as {mention.title!r}" if mention.how == "part" else None
