"""Dataset: one data set, checked, cleaned and split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from scipy import sparse

from .events import Sign

Part = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Dataset:
    """One data set.

    interactions: one row per interaction, sorted by user (first appearance), timestamp, file order. Always `row`
    (UInt32,
        file order) and `event` (String); if the data has them `user_id` (String), `item_id` (String), `timestamp`
        (Int64, seconds since 1970), `rating` (Float64), `review` (String), `basket` (String); then context columns.
        After `splits.split`, `part` (String: train, valid, test). Of data with later events also `learned` (Boolean:
        in the history, but not a target).
    items: `item_id` (String, unique), `title` (String, null if unknown), attributes (String, Int64, Float64,
    List(String)).
    users: `user_id` (String, unique), attributes.
    notes: one line for each thing that was recognised, changed, dropped or switched off.
    fingerprint: hash of the content above.
    cutoffs: for temporal splits, the first timestamp of "valid" and of "test"; else empty.
    signs: the sign of each event (see `events`); of one that is not in it, that of its word.
    before_split: the data set as it was split, by which it can be split in another way; None if it was not.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    notes: tuple[str, ...] = ()
    licence: str | None = None
    fingerprint: str = ""
    split_method: str = ""
    cutoffs: tuple[tuple[str, int], ...] = ()
    signs: Mapping[str, Sign] = field(default_factory=dict)
    before_split: "Dataset | None" = None

    def values_of(self, attribute: str) -> sparse.csr_array:
        """Which values of an attribute of words each item has (items, values), 1 or 0; of one that the catalogue lacks
        there are none."""
        if attribute not in self._values:
            items = self.items
            column = (
                items[attribute] if attribute in items.columns else pl.Series([None] * items.height, dtype=pl.String)
            )
            pairs = pl.DataFrame({"item": np.arange(items.height), "value": column})
            if isinstance(column.dtype, pl.List):
                pairs = pairs.explode("value")
            pairs = pairs.drop_nulls().unique()
            value = pairs["value"].rank("dense").to_numpy() - 1
            shape = items.height, int(value.max()) + 1 if len(value) else 0
            ones = np.ones(len(value), dtype=np.float32)
            self._values[attribute] = sparse.csr_array((ones, (pairs["item"].to_numpy(), value)), shape=shape)
        return self._values[attribute]

    @cached_property
    def _values(self) -> dict[str, sparse.csr_array]:
        return {}
