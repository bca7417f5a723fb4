"""The items of a data set as people name them."""

import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from ..errors import DataError
from ..rows.corpus import Corpus
from .titles import TitleIndex

COMPARED = 2_000  # names that a text is compared with, before others have their turn


@dataclass(frozen=True)
class Shelf:
    """One data set of a run: its catalogue, its corpus for building prompts, and the names of its items."""

    corpus: Corpus
    items: pl.DataFrame
    index: dict[str, int]

    @cached_property
    def ids(self) -> list[str]:
        """Its item ids."""
        return self.items["item_id"].to_list()

    @cached_property
    def names(self) -> list[str | None]:
        """The title of each item."""
        return self.items["title"].to_list()

    @cached_property
    def longest(self) -> int:
        """Characters of its longest title."""
        return max(map(len, filter(None, self.names)), default=0)

    @cached_property
    def titles(self) -> TitleIndex:
        """Its titles."""
        return TitleIndex.of(self.items)


NAMED = ("item_id", "title", "train_count")  # columns of a catalogue that are no attributes
LIKE = 60.0  # of 100: how like the text a title is that a search finds


def most_alike(
    text: str, names: Sequence[str | None], scorer: Callable[..., float], k: int, least: float | None = None
) -> list[int]:
    """The places of the k names at most that are most like a text. least: the likeness (0 to 100) that they must reach,
    case and punctuation aside; None: any, to the letter."""
    from rapidfuzz import process, utils

    from ..turns import in_turns

    found: list[tuple[float, int]] = []
    for part in in_turns(range(len(names)), COMPARED):
        own = names[part[0] : part[-1] + 1]
        processor = None if least is None else utils.default_process
        near = process.extract(text, own, scorer=scorer, processor=processor, limit=k, score_cutoff=least)
        found += [(-score, part[n]) for _, score, n in near]
    return [n for _, n in sorted(found)[:k]]


def checked_id(value: object, where: str) -> str:
    """An id as data files have them; raises DataError for one that no data file could have."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: a text is needed (given: {value!r})")
    if value != (usual := unicodedata.normalize("NFC", value.strip())):
        raise DataError(f"{where}: ids are without space around them and in Unicode's form NFC: {value!r} is {usual!r}")
    return value


def as_column(value: object, kind: pl.DataType, where: str) -> object:
    """A value as a column of the catalogue holds it, an empty text as null; raises DataError where it cannot."""
    if value is None:
        return None
    if isinstance(kind, pl.List):
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return list(value)
        if isinstance(value, str):
            return [value]
        raise DataError(f"{where}: a list of texts is needed (given: {value!r})")
    if kind == pl.String:
        if isinstance(value, str):
            return value.strip() or None
        raise DataError(f"{where}: a text is needed (given: {value!r})")
    most = sys.float_info.max
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -most <= value <= most:
        raise DataError(f"{where}: a number is needed (given: {value!r})")
    if kind.is_integer() and not (value == int(value) and -(2**63) <= value < 2**63):
        raise DataError(f"{where}: a whole number of 64 bits is needed (given: {value!r})")
    return int(value) if kind.is_integer() else float(value)
