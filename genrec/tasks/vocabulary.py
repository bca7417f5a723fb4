"""Token ids of a run: words of the tokenizer, then outcome tokens, then one item token per catalogue item.

Text never becomes an outcome or item token: their ids lie beyond the tokenizer's vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ITEMS = "items"  # the group of a catalogue's item tokens
EVENT = "event"  # the group of a data set's event words, if events differ and carry no rating


@dataclass(frozen=True)
class Group:
    """Tokens that compete with each other: a catalogue's items, or the answers of one task on one data set.

    first, size: the group's token ids are `first .. first + size - 1`.
    words: the answers as text; empty for items. values: their numbers, for number tasks.
    """

    dataset: str
    name: str
    first: int
    size: int
    words: tuple[str, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def is_items(self) -> bool:
        """Whether this is a catalogue."""
        return self.name == ITEMS


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
            {"dataset": g.dataset, "name": g.name, "size": g.size, "words": list(g.words), "values": list(g.values)}
            for g in self.groups
        ]
        return {"n_words": self.n_words, "groups": groups}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Vocabulary":
        """The inverse of `to_json`; raises ValueError if a group does not fit its answers or is repeated."""
        specs = [(g["dataset"], g["name"], g["size"], tuple(g["words"]), tuple(g["values"])) for g in value["groups"]]
        for dataset, name, size, words, values in specs:
            answers = 0 if name == ITEMS else size
            if size < 1 or len(words) != answers or len(values) not in (0, answers):
                what = f"{size} tokens, {len(words)} words and {len(values)} values"
                raise ValueError(f"the group {name!r} of {dataset!r} has {what}")
        if len({s[:2] for s in specs}) < len(specs):
            raise ValueError("a group is there twice")
        return build_vocabulary(value["n_words"], specs)


def build_vocabulary(
    n_words: int, specs: Sequence[tuple[str, str, int, tuple[str, ...], tuple[float, ...]]]
) -> Vocabulary:
    """Number the groups (dataset, name, size, words, values): outcome tokens first, then catalogues."""
    ordered = [s for s in specs if s[1] != ITEMS] + [s for s in specs if s[1] == ITEMS]
    groups, first = [], n_words
    for dataset, name, size, words, values in ordered:
        groups.append(Group(dataset, name, first, size, words, values))
        first += size
    return Vocabulary(n_words, tuple(groups))
