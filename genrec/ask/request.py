"""Requests, who asks them, and answers: the values of this room, and the kinds of requests."""

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..tasks.task import Task
from .attributes import Condition
from .language import DEFAULT

DEFAULT_K = 10  # items of a list if no number is named
MAX_K = 1_000  # longest list that a number in a sentence asks for
MAX_CHARACTERS = 2_000  # characters of a sentence that are read

Kind = Literal["next", "basket", "event", "user_time", "text", "rank", "explain", "more", "seen", "change"]
FOLLOW_UPS: tuple[Kind, ...] = ("more", "seen", "change")  # need an answer before them
WITHOUT_TASK: tuple[Kind, ...] = ("rank", "explain", *FOLLOW_UPS)  # requests that are no task, by their names
LISTS: tuple[Kind, ...] = ("next", "basket")  # answered by a list that `more` goes on with
NONE = "none"  # the name of what is no request


def kind_of(task: Task) -> Kind:
    """How a task is asked: `next` and `basket` for items, else its unit."""
    if task.gives_items:
        return "basket" if task.unit == "basket" else "next"
    return task.unit


def is_choice_of_event(task: Task) -> bool:
    """Whether a task asks yes or no of an event itself, as of a click."""
    return task.unit == "event" and task.is_yes_no and not task.looks_ahead


def is_number_of_event(task: Task) -> bool:
    """Whether a task asks for a number of an event itself, as for a rating."""
    return task.unit == "event" and task.answer.kind == "number" and not task.looks_ahead


@dataclass(frozen=True)
class Mention:
    """An item that a sentence names; others: how many more items the name fits; how: `exact`, `part` or `typo`."""

    item_id: str
    title: str
    text: str
    how: str = "exact"
    others: int = 0


@dataclass(frozen=True)
class Request:
    """A sentence as values.

    task: a task's name, `rank`, `explain`, in a conversation also `more`, `seen`, `change`; None if nothing was
    recognised; kind: how it is answered. like: the items are what the wanted ones should resemble. without: items that
    a list should leave out. k: None if no number was named. missed: words that were not understood. language: of the
    remarks about them.
    """

    task: str | None
    dataset: str | None = None
    user_id: str | None = None
    items: tuple[Mention, ...] = ()
    without: tuple[Mention, ...] = ()
    like: bool = False
    k: int | None = None
    conditions: tuple[Condition, ...] = ()
    text: str | None = None
    missed: tuple[str, ...] = ()
    certainty: float = 0.0
    language: str = DEFAULT
    kind: Kind | None = None

    def to_json(self) -> dict[str, Any]:
        """The reading as JSON values."""
        return {
            "user_id": self.user_id,
            "items": [m.item_id for m in self.items],
            "without": [m.item_id for m in self.without],
            "k": self.k,
            "conditions": [c.to_json() for c in self.conditions],
            "text": self.text,
            "missed": list(self.missed),
        }


@dataclass(frozen=True)
class Asker:
    """Who asks. user: for requests that name no user. may_see: whether a user may be asked about, and be named; bound:
    whether that is none but the own."""

    user: str | None = None
    may_see: Callable[[str], bool] = lambda _: True
    bound: bool = False


ANYBODY = Asker()


@dataclass(frozen=True, repr=False)
class Answer:
    """task is None if the sentence was not understood; `content` holds items, reasons, or value and probabilities."""

    task: str | None
    answer: str
    dataset: str | None = None
    content: dict[str, Any] = field(default_factory=dict)
    understood: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "\n".join([self.answer, *(f"warning: {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        text = html.escape(repr(self)).replace("\n", "<br>")
        return f"<div>{text}</div>"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        base = {"dataset": self.dataset, "task": self.task, "answer": self.answer}
        return base | self.content | {"understood": self.understood, "warnings": list(self.warnings)}
