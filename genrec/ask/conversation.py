"""The request that a sentence makes after the ones before it: more of the list, other conditions, another user."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .attributes import SHOWN, Condition
from .request import LISTS, Request


@dataclass(frozen=True)
class Conversation:
    """A conversation so far: the last request, the last list, all items listed for the request, and items that the
    person knows."""

    request: Request | None = None
    last_items: tuple[str, ...] = ()
    listed_items: tuple[str, ...] = ()
    known_items: tuple[str, ...] = ()


def follow(before: Conversation, request: Request) -> tuple[Request, Conversation]:
    """The whole request that the request of one sentence makes, and the part of the conversation that holds for it."""
    last = before.request
    if last is None:
        return request, Conversation()
    if request.kind == "seen":  # what the sentence names, else all of the list
        seen = tuple(m.item_id for m in request.items) or before.last_items
        known_items = tuple(dict.fromkeys((*before.known_items, *seen)))
        whole = merged(last, request) if request.items else replace(merged(last, request), k=last.k)
        return whole, replace(before, known_items=known_items, listed_items=())
    if request.kind == "more":
        return merged(last, request), before
    if request.kind == "change" or changes_list(last, request):
        whole = merged(last, request)
        return whole, Conversation(last) if whole.user_id != last.user_id else replace(before, listed_items=())
    if request.kind is None or request.text is not None:
        return request, before
    user, dataset = request.user_id, request.dataset
    if user is None and (request.kind != "next" or not request.items):
        user, dataset = last.user_id, dataset or last.dataset
    whole = replace(request, user_id=user, dataset=dataset)
    return whole, replace(before, listed_items=()) if user == last.user_id else Conversation(last)


def changes_list(last: Request, request: Request) -> bool:
    """Whether a sentence only narrows the list before: it names no item and no user, but conditions or a count."""
    if last.kind not in LISTS or request.kind not in (*LISTS, None):
        return False
    names_other = bool(request.items) or request.user_id is not None
    return not names_other and bool(request.conditions or request.without or request.k)


def merged(last: Request, request: Request) -> Request:
    """The last request with what a follow-up changes."""
    items, like, dataset, user = last.items, last.like, last.dataset, last.user_id
    if request.kind == "change" and request.items:
        items, like, dataset = request.items, last.kind == "next", request.dataset
    if request.user_id is not None:
        user, dataset = request.user_id, request.dataset
    return replace(
        last,
        dataset=dataset,
        user_id=user,
        items=items,
        like=like,
        k=request.k if request.k is not None else last.k,
        without=tuple(dict.fromkeys((*last.without, *request.without))),
        conditions=joined(last.conditions, request.conditions),
        missed=request.missed,
        certainty=request.certainty,
        language=request.language,
    )


def joined(old: Sequence[Condition], new: Sequence[Condition]) -> tuple[Condition, ...]:
    """Old and new conditions together; a new one takes the place of those on its column that it cannot stand beside.

    >>> nineties, since = Condition("year", "between", (1990.0, 1999.0)), Condition("year", ">=", 1980.0)
    >>> [c.words() for c in joined([nineties, Condition("genre", "=", "War")], [since])]
    ['genre War', 'year > 1980']
    """
    rest = [c for c in old if not any(replaces(n, c) for n in new)]
    return tuple(dict.fromkeys((*rest, *new)))


def replaces(new: Condition, old: Condition) -> bool:
    """Numbers on one column replace each other, so do two wanted values; a value ends its own opposite."""
    if new.column != old.column:
        return False
    if not isinstance(new.value, str) or new.value == SHOWN:
        return True
    return (new.op == "=" and old.op == "=") or (new.value == old.value and new.op != old.op)


def settled(conditions: Iterable[Condition], years: Sequence[float]) -> tuple[Condition, ...]:
    """Conditions with `shown` replaced by the middle one of the years of the last list; left out if there are none."""
    middle = sorted(years)[(len(years) - 1) // 2] if years else None
    numbers = (replace(c, value=float(middle)) if c.value == SHOWN and middle is not None else c for c in conditions)
    return tuple(c for c in numbers if c.value != SHOWN)
