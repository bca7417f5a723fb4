"""The items of a data set: look-up by id or title, filters, and checks of items to add."""

import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from ..errors import DataError, UnknownNameError
from ..turns import in_turns
from .titles import TitleIndex
from .where import where_mask

COMPARED = 2_000  # names that a text is compared with, between two pauses
CHECKED = 200  # items that are checked, between two pauses
NAMED = ("item_id", "title", "train_count")  # columns of a catalogue that are not attributes
LIKE = 60.0  # least likeness (0 to 100) of a title to the text of a search


@dataclass(frozen=True)
class Catalogue:
    """The items of one data set, in the order of their item tokens.

    items: item_id, title, attributes, train_count. index: the position of each item id.
    """

    dataset: str
    items: pl.DataFrame
    index: Mapping[str, int]

    @cached_property
    def ids(self) -> list[str]:
        """Its item ids."""
        return self.items["item_id"].to_list()

    @cached_property
    def titles(self) -> list[str | None]:
        """The title of each item."""
        return self.items["title"].to_list()

    @cached_property
    def longest_title(self) -> int:
        """Characters of its longest title."""
        return max(map(len, filter(None, self.titles)), default=0)

    @cached_property
    def title_index(self) -> TitleIndex:
        """The index of its titles, for look-ups by free text."""
        return TitleIndex.of(self.items)

    def place(self, item: str) -> int:
        """The position of an item; raises UnknownNameError for one that it lacks."""
        if item not in self.index:
            raise UnknownNameError("item", item, self.index, f"in the catalogue of {self.dataset}")
        return self.index[item]

    def attributes(self, item: str) -> dict[str, object]:
        """The attributes of an item that have a value; raises UnknownNameError for one that it lacks."""
        row = self.items.row(self.place(item), named=True)  # a polars query takes longer than a few rows
        return {k: v for k, v in row.items() if k not in NAMED and v is not None and v != []}

    def find(self, title: str) -> pl.DataFrame:
        """Items (item_id, title) that match a title, the most frequent first: exactly (up to case, accents and
        articles), else those that contain all its words, else those that differ by a typo."""
        match = self.title_index.find(title)
        return self.items[list(match.items) if match else []].select("item_id", "title")

    def search(self, text: str, k: int) -> list[str]:
        """Ids of at most k items: those that the text names by id or title, then those with the most similar titles."""
        from rapidfuzz import fuzz

        named = self.find(text)["item_id"].to_list()
        similar = most_alike(text, self.titles, fuzz.WRatio, k, LIKE)
        ids = [text] if text in self.index else []
        return list(dict.fromkeys([*ids, *named, *(self.ids[n] for n in similar)]))[:k]

    def allowed(
        self, exclude: Sequence[str], candidates: Sequence[str] | None = None, where: str | pl.Expr | None = None
    ) -> np.ndarray:
        """Mask (items,) of the items that may be listed: among the candidates, not excluded, meeting `where`."""
        allowed = np.ones(self.items.height, dtype=bool)
        if candidates is not None:
            allowed[:] = False
            allowed[[self.place(i) for i in candidates]] = True
        allowed[[self.place(i) for i in exclude]] = False
        if where is not None:
            allowed &= where_mask(self.items.drop("train_count"), where)
        return allowed

    def check(self, items: Sequence[Mapping[str, object]]) -> pl.DataFrame:
        """Items to add or to update as a frame with its columns; missing values are null, and of a repeated item the
        last one counts. Raises DataError for an invalid item, naming the item and the column."""
        schema = dict(self.items.drop("train_count").schema)
        rows: dict[str, dict[str, object]] = {}
        for part in in_turns(range(len(items)), CHECKED):
            for n in part:
                item, location = items[n], f"items[{n}]"
                if unknown := [c for c in item if c not in schema]:
                    columns = ", ".join(schema)
                    raise DataError(
                        f"{location}.{unknown[0]}: the catalogue of {self.dataset} has no such column; it has {columns}"
                    )
                item_id = checked_id(item.get("item_id"), f"{location}.item_id")
                others = {c: kind for c, kind in schema.items() if c != "item_id"}
                values = {c: as_column(item.get(c), kind, f"{location}.{c}") for c, kind in others.items()}
                rows.pop(item_id, None)
                rows[item_id] = {"item_id": item_id, **values}
        return pl.DataFrame(list(rows.values()), schema=schema)

    def grown(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Its items with those of a checked frame: updated if it has them, else appended."""
        updated = self.items.update(frame, on="item_id", include_nulls=True)
        new = frame.filter(~pl.col("item_id").is_in(self.ids))
        no_count = pl.lit(0, updated.schema["train_count"]).alias("train_count")
        return pl.concat([updated, new.with_columns(no_count).select(updated.columns)])


def most_alike(
    text: str, names: Sequence[str | None], scorer: Callable[..., float], k: int, min_score: float | None = None
) -> list[int]:
    """Positions of the at most k names that are most similar to a text. min_score: the similarity (0 to 100) that they
    must reach, case and punctuation ignored; None: no minimum, nothing ignored."""
    from rapidfuzz import process, utils

    ranked: list[tuple[float, int]] = []
    for part in in_turns(range(len(names)), COMPARED):
        processor = None if min_score is None else utils.default_process
        chunk = names[part[0] : part[-1] + 1]
        matches = process.extract(text, chunk, scorer=scorer, processor=processor, limit=k, score_cutoff=min_score)
        ranked += [(-score, part[n]) for _, score, n in matches]
    return [n for _, n in sorted(ranked)[:k]]


def checked_id(value: object, location: str) -> str:
    """An id in the form of data files; raises DataError for any other."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{location}: a text is needed (given: {value!r})")
    if value != (usual := unicodedata.normalize("NFC", value.strip())):
        raise DataError(
            f"{location}: ids are without space around them and in Unicode's form NFC: {value!r} is {usual!r}"
        )
    return value


def as_column(value: object, kind: pl.DataType, location: str) -> object:
    """A value in the type of a catalogue column, null for an empty text; raises DataError if it does not fit."""
    if value is None:
        return None
    if isinstance(kind, pl.List):
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return list(value)
        if isinstance(value, str):
            return [value]
        raise DataError(f"{location}: a list of texts is needed (given: {value!r})")
    if kind == pl.String:
        if isinstance(value, str):
            return value.strip() or None
        raise DataError(f"{location}: a text is needed (given: {value!r})")
    largest = sys.float_info.max
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -largest <= value <= largest:
        raise DataError(f"{location}: a number is needed (given: {value!r})")
    if kind.is_integer() and not (value == int(value) and -(2**63) <= value < 2**63):
        raise DataError(f"{location}: a whole number of 64 bits is needed (given: {value!r})")
    return int(value) if kind.is_integer() else float(value)
