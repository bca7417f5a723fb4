"""Cleaning, explicit and reported: every change is a note. Same input, same result."""

import unicodedata
from collections.abc import Mapping
from typing import Literal

import polars as pl

from ..errors import DataError, unknown_name

Missing = Literal["drop", "mean", "median", "nearest", "interpolate"]
HOW = ("drop", "mean", "median", "nearest", "interpolate")
CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028\u2029\ufeff]"


def clean(
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    *,
    missing: Mapping[str, str],
    duplicates: str = "keep",
    k_core: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    """Canonical frames cleaned: ids normalised, missing values filled, duplicates, k-core, unknown items added, rows sorted.

    missing: column -> drop, mean, median, nearest or interpolate; a column not named stays as it is, and a note counts its gaps.
    duplicates: `drop` removes interactions equal in everything but their place in the file.
    """
    notes: list[str] = []
    interactions, items, users = (normalised(f) for f in (interactions, items, users))
    interactions = filled(interactions, missing, notes)
    content = [c for c in interactions.columns if c != "row"]
    twice = interactions.height - interactions.select(content).n_unique()
    if twice and duplicates == "drop":
        interactions = interactions.unique(content, keep="first", maintain_order=True)
    if twice:
        notes.append(f"{twice:,} interactions equal an earlier one: {'dropped' if duplicates == 'drop' else 'kept'}")
    if k_core > 0:
        interactions = core(interactions, k_core, notes)
    if "item_id" in interactions.columns:
        interactions = interactions.filter(pl.col("item_id").is_not_null())
        items = with_unknown_items(interactions, items, notes)
    if "user_id" in interactions.columns:
        gone = interactions["user_id"].null_count()
        if gone:
            interactions = interactions.filter(pl.col("user_id").is_not_null())
            notes.append(f"{gone:,} interactions without a user were dropped")
        once = interactions.group_by("user_id").len().filter(pl.col("len") == 1).height
        if once:
            notes.append(f"{once:,} users have a single interaction; they train and are not evaluated")
        first = pl.col("row").min().over("user_id")
        keys = ["_first", "timestamp", "row"] if "timestamp" in interactions.columns else ["_first", "row"]
        interactions = interactions.with_columns(first.alias("_first")).sort(keys).drop("_first")
    else:
        interactions = interactions.sort("row")
    if not interactions.height:
        raise DataError("no interaction is left after cleaning")
    return interactions, items, users, tuple(notes)


def normalised(frame: pl.DataFrame) -> pl.DataFrame:
    """Ids in Unicode's composed form (NFC), control characters in texts as spaces."""
    changed = []
    for column, dtype in frame.schema.items():
        if dtype != pl.String:
            continue
        if column in ("user_id", "item_id", "basket"):
            if not frame[column].str.contains(r"^[\x00-\x7f]*$").all():
                composed = {v: unicodedata.normalize("NFC", v) for v in frame[column].drop_nulls().unique()}
                changed.append(pl.col(column).replace_strict(composed, default=pl.col(column)).alias(column))
        else:
            changed.append(pl.col(column).str.replace_all(CONTROL, " ").alias(column))
    return frame.with_columns(changed)


def filled(frame: pl.DataFrame, missing: Mapping[str, str], notes: list[str]) -> pl.DataFrame:
    """Missing values dropped or filled, column by column."""
    for column, how in missing.items():
        if column not in frame.columns:
            raise DataError(unknown_name("column", column, frame.columns, f"in --missing {column}={how}"))
        if how not in HOW:
            raise DataError(unknown_name("treatment of missing values", how, HOW, f"in --missing {column}={how}"))
        gaps = frame[column].null_count()
        if not gaps:
            continue
        if how == "drop":
            frame = frame.filter(pl.col(column).is_not_null())
        elif not frame.schema[column].is_numeric():
            raise DataError(
                f"--missing {column}={how}: {column} is {frame.schema[column]}, not a number; allowed: drop"
            )
        else:
            frame = frame.with_columns(_value(column, how, frame).cast(frame.schema[column]).alias(column))
            left = frame[column].null_count()
            if left:
                frame = frame.filter(pl.col(column).is_not_null())
                gaps_note = f" ({left:,} had no neighbour and were dropped)"
                notes.append(f"{column}: {gaps:,} missing values, {how}{gaps_note}")
                continue
        notes.append(f"{column}: {gaps:,} missing values, {how}")
    named = set(missing)
    for column in frame.columns:
        gaps = frame[column].null_count()
        if gaps and column not in named:
            notes.append(f"{column}: {gaps:,} missing values, left as they are (--missing {column}=HOW)")
    return frame


def _value(column: str, how: str, frame: pl.DataFrame) -> pl.Expr:
    """The filled column; nearest and interpolate go along a user's own rows in file order."""
    value = pl.col(column).cast(pl.Float64)
    if how == "mean":
        return value.fill_null(value.mean())
    if how == "median":
        return value.fill_null(value.median())
    if how == "nearest":
        found = value.interpolate("nearest").forward_fill().backward_fill()
    else:
        found = value.interpolate("linear").forward_fill().backward_fill()
    return found.over("user_id") if "user_id" in frame.columns else found


def core(frame: pl.DataFrame, k: int, notes: list[str]) -> pl.DataFrame:
    """Users and items with at least k interactions each, repeatedly."""
    before = frame.height
    columns = [c for c in ("user_id", "item_id") if c in frame.columns]
    while True:
        kept = frame
        for column in columns:
            kept = kept.filter(pl.len().over(column) >= k)
        if kept.height == frame.height:
            break
        frame = kept
    if before != frame.height:
        notes.append(f"{k}-core: {before - frame.height:,} of {before:,} interactions dropped")
    if not frame.height:
        raise DataError(f"--k-core {k} leaves nothing: no user and item have {k} interactions each")
    return frame


def with_unknown_items(interactions: pl.DataFrame, items: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The catalogue with the items that only interactions name; they have no title."""
    named = interactions.select(pl.col("item_id").unique(maintain_order=True))
    unknown = named.join(items.select("item_id"), on="item_id", how="anti", maintain_order="left")
    if not unknown.height:
        return items
    if items.height:
        notes.append(
            f"{unknown.height:,} items of the interactions are not in the catalogue; they are ranked without a text"
        )
    return pl.concat([items, unknown.cast({"item_id": pl.String})], how="diagonal")
