"""What a sentence means after the ones before it: more of the list, other conditions, another user, items known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .conditions import SHOWN, Condition
from .understand import Request

LISTS = ("next_item", "basket")


@dataclass(frozen=True)
class Conversation:
    """What is remembered: the last request, its list, everything listed for it, and items that the person knows."""

    request: Request | None = None
    shown: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


def follow(before: Conversation, said: Request) -> tuple[Request, Conversation]:
    """The whole request that a sentence makes, and what of the conversation still holds for it."""
    last = before.request
    if last is None:
        return said, Conversation()
    if said.task == "seen":  # what the sentence names, else all of the list
        seen = tuple(m.item_id for m in said.items) or before.shown
        known = tuple(dict.fromkeys((*before.known, *seen)))
        request = again(last, said) if said.items else replace(again(last, said), k=last.k)
        return request, replace(before, known=known, listed=())
    if said.task == "more":
        return again(last, said), before
    changes_list = said.task in (*LISTS, None) and last.task in LISTS and not said.items and said.user_id is None
    if said.task == "change" or (changes_list and (said.conditions or said.without or said.k)):
        request = again(last, said)
        other = request.user_id != last.user_id
        return request, Conversation(last) if other else replace(before, listed=())
    if said.task is None or said.text is not None:
        return said, before
    user, dataset = said.user_id, said.dataset
    if user is None and (said.task != "next_item" or not said.items):
        user, dataset = last.user_id, dataset or last.dataset
    same = user == last.user_id
    return replace(said, user_id=user, dataset=dataset), replace(before, listed=()) if same else Conversation(last)


def again(last: Request, said: Request) -> Request:
    """The last request with what a follow-up changes."""
    items, like = last.items, last.like
    if said.task == "change" and said.items:
        items, like = said.items, last.task == "next_item"
    return replace(
        last,
        dataset=said.dataset if said.user_id is not None or said.task == "change" and said.items else last.dataset,
        user_id=said.user_id if said.user_id is not None else last.user_id,
        items=items,
        like=like,
        k=said.k if said.k is not None else last.k,
        without=tuple(dict.fromkeys((*last.without, *said.without))),
        conditions=joined(last.conditions, said.conditions),
        missed=said.missed,
        certainty=said.certainty,
        language=said.language,
    )


def joined(old: Sequence[Condition], new: Sequence[Condition]) -> tuple[Condition, ...]:
    """Old and new conditions together; a new one takes the place of those on its column that it cannot stand beside."""
    kept = [c for c in old if not any(replaces(n, c) for n in new)]
    return tuple(dict.fromkeys((*kept, *new)))


def replaces(new: Condition, old: Condition) -> bool:
    """Numbers on one column replace each other, so do two wanted values; a value ends its own opposite."""
    if new.column != old.column:
        return False
    if not isinstance(new.value, str) or new.value == SHOWN:
        return True
    return (new.op == "=" and old.op == "=") or (new.value == old.value and new.op != old.op)


def settled(conditions: Iterable[Condition], years: Sequence[float]) -> tuple[Condition, ...]:
    """Conditions with `shown` replaced by the middle one of the years shown; left out where none was."""
    middle = sorted(years)[(len(years) - 1) // 2] if years else None
    found = []
    for condition in conditions:
        if condition.value != SHOWN:
            found.append(condition)
        elif middle is not None:
            found.append(replace(condition, value=float(middle)))
    return tuple(found)
