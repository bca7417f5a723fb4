"""Attributes of items that stand in the interactions: columns with one value per item go into the catalogue."""

from collections.abc import Collection

import polars as pl

from .aliases import ALIASES, squeezed
from .columns import STANDARD_COLUMNS
from .values import ROW, infer_type

OF_INTERACTIONS = {ROW, "learned", *STANDARD_COLUMNS["interactions"]} - {"category"}
SURE = 10  # items of several users that would be expected to have several values if these were not the items' own


def with_item_attributes(
    interactions: pl.DataFrame, items: pl.DataFrame, kept: Collection[str]
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    """The interactions without the columns that are the items' own, the catalogue with them, and a note.

    A column is the items' own if all interactions of an item say the same, for so many items that chance is ruled out.
    Those that the catalogue has, and kept, stay in the interactions.
    """
    if not {"user_id", "item_id"} <= {*interactions.columns}:
        return interactions, items, ()
    moved: dict[str, str] = {}
    for column in interactions.columns:
        name = next((s for s in ("category", "genre", "year") if squeezed(column) in ALIASES[s]), column)
        free = column not in OF_INTERACTIONS and column not in kept and name not in (*items.columns, *moved.values())
        if free and _of_items(interactions, column):
            moved[column] = name
    if not moved:
        return interactions, items, ()
    first = [pl.col(c).drop_nulls().first() for c in moved]
    attributes = interactions.group_by("item_id", maintain_order=True).agg(first).rename(moved)
    if "year" in moved.values():
        attributes = attributes.with_columns(infer_type(attributes["year"], "auto")[0])
    items = items.join(attributes, on="item_id", how="left", maintain_order="left")
    names = ", ".join(name if name == c else f"{name} ({c})" for c, name in moved.items())
    note = f"one value per item in the interactions, so of the catalogue: {names}"
    return interactions.drop(moved), items, (note,)


def _of_items(interactions: pl.DataFrame, column: str) -> bool:
    """Whether no item has two values, and items of several users are too many, and their values too different, for
    that to be chance."""
    value = pl.col(column)
    is_list = isinstance(interactions.schema[column], pl.List)
    value = value.list.join("\0") if is_list else value.cast(pl.String)
    rows = interactions.select("user_id", "item_id", value.alias("value")).drop_nulls("value")
    by_item = rows.group_by("item_id").agg(pl.col("value", "user_id").n_unique())
    if not rows.height or (by_item["value"] > 1).any():
        return False
    share = rows["value"].value_counts()["count"] / rows.height
    several = int((by_item["user_id"] > 1).sum())
    return bool(several * (1 - float((share**2).sum())) >= SURE)
