"""Histories as callers give them: ids, pairs of an id and a rating, or a table."""

import math
from typing import Any

import polars as pl

from ..data.aliases import ALIASES, squeezed
from ..data.columns import missing_column
from ..data.numbers import as_number
from ..data.times import parse_times
from ..data.values import as_id as column_of_ids
from ..errors import DataError
from ..files import shown
from ..frames import is_table, to_polars
from ..ids import as_id, as_ids

GIVEN_SCHEMA = {"item_id": pl.String, "event": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}


def as_history(history: Any) -> pl.DataFrame:
    """A history (GIVEN_SCHEMA, oldest first) of one id or several, of `(id, rating)` pairs, or of a table with an item
    column and any of event, rating and timestamp, whose usual names are known; a table with timestamps is sorted by
    them. Raises DataError for values that are none of these."""
    if isinstance(history, pl.DataFrame) and dict(history.schema) == GIVEN_SCHEMA:
        return history
    if isinstance(history, list | tuple) and any(isinstance(entry, tuple) for entry in history):
        pairs = [as_pair(entry, f"history {n}") for n, entry in enumerate(history, 1)]
        return history_frame([item for item, _ in pairs], rating=[rating for _, rating in pairs])
    if is_table(history):
        return of_table(to_polars(history, "history"))
    return history_frame(as_ids(history, "history"))


def no_history() -> pl.DataFrame:
    """A history of nothing."""
    return history_frame([])


def history_frame(item_ids: list[str], **columns: Any) -> pl.DataFrame:
    """The history of some items; columns that are not given are null."""
    empty = [None] * len(item_ids)
    values = {"item_id": item_ids, **{c: columns.get(c, empty) for c in GIVEN_SCHEMA if c != "item_id"}}
    return pl.DataFrame(values, schema=GIVEN_SCHEMA)


def as_pair(entry: Any, what: str) -> tuple[str, float | None]:
    """The id and the rating of an entry; None for an id alone."""
    if not isinstance(entry, tuple):
        return as_id(entry, what), None
    try:
        item, rating = entry
        return as_id(item, what), None if rating is None else number(rating)
    except (TypeError, ValueError):
        raise DataError(f"{what} is {shown(entry)}: an id is needed, or an id and a rating, as (130, 4.5)") from None


def number(value: Any) -> float:
    """A number; raises ValueError or TypeError for anything else, such as a text."""
    if isinstance(value, str | bytes | bool):
        raise TypeError
    if not math.isfinite(result := float(value)):
        raise ValueError
    return result


def of_table(table: pl.DataFrame) -> pl.DataFrame:
    """The history in a table."""
    by_name = {squeezed(c): c for c in reversed(table.columns)}
    names = {c: next((by_name[a] for a in ALIASES[c] if a in by_name), None) for c in ("user_id", *GIVEN_SCHEMA)}
    if names["item_id"] is None:
        raise DataError(missing_column("item_id", table.columns, {}, "the history").partition(" Say which")[0])
    if names["user_id"] is not None and (users := table[names["user_id"]].n_unique()) > 1:
        raise DataError(f"the history is of {users} users by its column {names['user_id']!r}: give the rows of one")
    parsed = {"item_id": column_of_ids, "event": as_event, "rating": as_number, "timestamp": as_seconds}
    columns: dict[str, Any] = {}
    for name, parse in parsed.items():
        if (column := names[name]) is None:
            continue
        values = parse(table[column])
        wrong = values.is_null() & (table[column].is_not_null() if name != "item_id" else True)
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise DataError(
                f"the history's row {row + 1} has {shown(table[column][row])} as {column}, which is no {name}"
            )
        columns[name] = values.to_list()
    frame = history_frame(columns.pop("item_id"), **columns)
    return frame if frame["timestamp"].null_count() else frame.sort("timestamp", maintain_order=True)


def as_seconds(values: pl.Series) -> pl.Series:
    """Times as the data room reads them."""
    return parse_times(values)[0]


def as_event(values: pl.Series) -> pl.Series:
    """Events as the data room writes them."""
    return values.cast(pl.String).str.strip_chars().str.to_lowercase().replace("", None)
