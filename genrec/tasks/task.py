"""A task: what is asked, of which unit, what counts as the answer."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .units import Unit

MOST_NUMBERS = 20


@dataclass(frozen=True)
class Answer:
    """What counts as the answer.

    choices: the words shown to the model, in order. values: for numbers, the value of each choice. column: the choices
    are the distinct values of this column in the training part (`resolve_answer` fills them in).
    """

    kind: Literal["item", "choices", "number"]
    choices: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    column: str | None = None


@dataclass(frozen=True)
class Negatives:
    """How to draw negatives where the data has none."""

    per_positive: int
    draw: Literal["popularity", "uniform"]


@dataclass(frozen=True)
class Task:
    """One task; see the keys of any file in prompts/.

    where: a SQL filter on the unit's rows. dense: the outcome is read at the item position of an event. horizon_days:
    rows that look further ahead than the part's cut-off are dropped. seen, unseen and the other template groups: what
    the task itself fixes (`{days}`, `{choices}`) is filled in. path: file name only. text: the raw YAML. unread: keys
    of earlier files, which nothing reads.
    """

    name: str
    description: str
    unit: Unit
    needs: tuple[str, ...]
    label: str | None
    answer: Answer
    weight: float
    negatives: Negatives | None
    where: str | None
    dense: bool
    ask: tuple[str, ...]
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    conditioned_seen: tuple[str, ...]
    conditioned_unseen: tuple[str, ...]
    like_seen: tuple[str, ...]
    like_unseen: tuple[str, ...]
    horizon_days: int | None
    path: str
    text: str
    unread: tuple[str, ...]

    @property
    def gives_items(self) -> bool:
        """Whether its answer is an item: a list."""
        return self.answer.kind == "item"

    @property
    def is_yes_no(self) -> bool:
        """Whether it has two answers, of which the second is yes."""
        return len(self.answer.choices) == 2 and not self.answer.values

    @property
    def looks_ahead(self) -> bool:
        """Whether it asks what happens within its horizon."""
        return self.horizon_days is not None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that training rows are made of; phrasings that only people use, and the weight, are no part."""
        rows = (self.name, self.unit, self.needs, self.label, self.where, self.dense, self.horizon_days)
        templates = (self.seen, self.conditioned_seen, self.like_seen)
        return hashlib.sha256(repr((rows, self.negatives, self.answer, templates)).encode()).hexdigest()[:16]


def number_word(value: float) -> str:
    return f"{value:.12g}"


def sql_columns(expression: str) -> list[str]:
    from .. import sql

    return sql.columns(expression)
