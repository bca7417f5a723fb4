"""Task: the question, the unit it is asked of, and the kind of its answer."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .units import Unit

MOST_NUMBERS = 20


@dataclass(frozen=True)
class Answer:
    """The kind of answer of a task.

    choices: the words shown to the model, in order. values: for numbers, the value of each choice. column: the choices
    are the distinct values of this column in the training part (`resolve_answer` fills them in).
    """

    kind: Literal["item", "choices", "number"]
    choices: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    column: str | None = None


@dataclass(frozen=True)
class Negatives:
    """How to draw negatives if the data has none."""

    per_positive: int
    draw: Literal["popularity", "uniform"]


@dataclass(frozen=True)
class Task:
    """One task; see the keys of any file in prompts/.

    where: a SQL filter on the unit's rows. dense: the outcome is read at the item position of an event. horizon_days:
    rows that look further ahead than the part's cut-off are dropped. seen, unseen and the other template groups:
    placeholders that the task itself determines (`{days}`, `{choices}`) are filled in. path: file name only. text: the
    raw YAML. unread: obsolete keys, which nothing reads.
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
        """Whether its answer is an item, so that it gives ranked lists."""
        return self.answer.kind == "item"

    @property
    def is_yes_no(self) -> bool:
        """Whether it has two answers, of which the second is yes."""
        return len(self.answer.choices) == 2 and not self.answer.values

    @property
    def looks_ahead(self) -> bool:
        """Whether it predicts events within a horizon."""
        return self.horizon_days is not None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that determines training rows; the weight and templates that only users see do not."""
        rows = (self.name, self.unit, self.needs, self.label, self.where, self.dense, self.horizon_days)
        templates = (self.seen, self.conditioned_seen, self.like_seen)
        return hashlib.sha256(repr((rows, self.negatives, self.answer, templates)).encode()).hexdigest()[:16]


def number_word(value: float) -> str:
    """A number as the word of a choice: `4`, not `4.0`."""
    return f"{value:.12g}"


def sql_columns(expression: str) -> list[str]:
    """The columns that a SQL expression reads; raises DataError as `sql.columns`."""
    from .. import sql

    return sql.columns(expression)
