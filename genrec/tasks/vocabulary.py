"""Token ids of a run: words of the tokenizer, then outcome tokens, then one item token per catalogue item.

Text never becomes an outcome or item token: their ids lie beyond the tokenizer's vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .numbers import nearest_level, short_number

ITEMS = "items"  # the group of a catalogue's item tokens
RATING = "rating"  # the group of a data set's ratings
EVENT = "event"  # the group of a data set's event words, if events differ and carry no rating


@dataclass(frozen=True)
class Group:
    """Tokens that compete with each other: a catalogue's items, or the answers of one task on one data set.

    first, size: the group's token ids are `first .. first + size - 1`.
    words: the answers as text; empty for items. values, edges: for number tasks, their numbers and the bounds of bins
    (`Levels`).
    """

    dataset: str
    name: str
    first: int
    size: int
    words: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def is_items(self) -> bool:
        """Whether this is a catalogue."""
        return self.name == ITEMS

    @property
    def short_words(self) -> tuple[str, ...]:
        """The words of each answer; of a bin of numbers their mean, `73.2`."""
        return tuple(map(short_number, self.values)) if self.edges else self.words

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest number of a number task's training part."""
        numbers = self.edges or self.values
        return numbers[0], numbers[-1]

    def nearest(self, numbers: np.ndarray) -> np.ndarray:
        """Index (n,) of the answer that stands for each number (n,), see `nearest_level`; of a number task only."""
        return nearest_level(numbers, self.values, self.edges)


@dataclass(frozen=True)
class Vocabulary:
    """All groups of a run, in token order; `n_words` is the size of the tokenizer's vocabulary."""

    n_words: int
    groups: tuple[Group, ...]

    @cached_property
    def by_key(self) -> dict[tuple[str, str], Group]:
        """Groups by (data set, name)."""
        return {(g.dataset, g.name): g for g in self.groups}

    @cached_property
    def index(self) -> dict[tuple[str, str], int]:
        """Position of each group by (data set, name)."""
        return {(g.dataset, g.name): i for i, g in enumerate(self.groups)}

    def group(self, dataset: str, name: str) -> Group:
        """The group of a task (or `items`, `event`) on a data set."""
        return self.by_key[dataset, name]

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets, in the order they were given."""
        return tuple(dict.fromkeys(g.dataset for g in self.groups))

    @property
    def n_outcomes(self) -> int:
        """Number of outcome tokens."""
        return sum(g.size for g in self.groups if not g.is_items)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        groups = [
            {"dataset": g.dataset, "name": g.name, "size": g.size}
            | {"words": list(g.words), "values": list(g.values), "edges": list(g.edges)}
            for g in self.groups
        ]
        return {"n_words": self.n_words, "groups": groups}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Vocabulary":
        """The inverse of `to_json`; raises ValueError if a group does not fit its answers or is repeated."""
        groups = [
            Group(g["dataset"], g["name"], 0, g["size"], *(tuple(g[name]) for name in ("words", "values", "edges")))
            for g in value["groups"]
        ]
        for group in groups:
            answers = 0 if group.is_items else group.size
            lengths = len(group.words), len(group.values), len(group.edges)
            is_fine = lengths[0] == answers and lengths[1] in (0, answers) and lengths[2] in (0, lengths[1] + 1)
            if group.size < 1 or not is_fine:
                what = "{} tokens, {} words, {} values and {} edges".format(group.size, *lengths)
                raise ValueError(f"the group {group.name!r} of {group.dataset!r} has {what}")
            if any(list(v) != sorted(v) for v in (group.values, group.edges)):
                raise ValueError(f"the numbers of the group {group.name!r} of {group.dataset!r} are not in order")
        if len({(g.dataset, g.name) for g in groups}) < len(groups):
            raise ValueError("a group is there twice")
        return build_vocabulary(value["n_words"], groups)


def build_vocabulary(n_words: int, groups: Sequence[Group]) -> Vocabulary:
    """Number the tokens of groups, whose `first` is not read: outcome tokens first, then catalogues."""
    numbered, first = [], n_words
    for group in sorted(groups, key=lambda g: g.is_items):
        numbered.append(replace(group, first=first))
        first += group.size
    return Vocabulary(n_words, tuple(numbered))
