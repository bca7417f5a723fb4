"""Task: the question, the unit it is asked of, and the kind of its answer."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from .units import Unit


@dataclass(frozen=True)
class Answer:
    """The kind of answer of a task.

    choices: the answers in words, in order. values: for numbers, the value of each choice. edges: of numbers in bins,
    see `Levels`. from_data: the choices are those of the training part (`resolve_answer` fills them in).
    """

    kind: Literal["item", "choices", "number"]
    choices: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    from_data: bool = False

    def to_json(self) -> dict[str, list[Any]]:
        """The answers as plain JSON values: words, values, edges."""
        return {"words": list(self.choices), "values": list(self.values), "edges": list(self.edges)}


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

    def with_answers(self, answers: Mapping[str, Any]) -> "Task":
        """The task with the answers that `Answer.to_json` gave."""
        words, values, edges = (tuple(answers[name]) for name in ("words", "values", "edges"))
        return replace(self, answer=replace(self.answer, choices=words, values=values, edges=edges))

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


def sql_columns(expression: str) -> list[str]:
    """The columns that a SQL expression reads; raises DataError as `sql.columns`."""
    from .. import sql

    return sql.columns(expression)
