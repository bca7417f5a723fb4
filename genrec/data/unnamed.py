"""Columns of a file without a header: what each holds, told from its place and its values."""

from collections.abc import Mapping

import polars as pl

from ..errors import DataError
from .numbers import SAMPLE, as_number
from .source import Role
from .times import parse_times

FEW = 20  # different texts at most, for a column of events
LATE = 631_152_000  # 1990 in seconds since 1970: a number below it is no time
SPACED = 0.2  # share of values with a space, or a bar between several, from which on a column has texts, or lists
RATINGS = 100  # the highest rating that a number is taken for


def with_meanings(
    frame: pl.DataFrame, role: Role, mapping: Mapping[str, str], file: str
) -> tuple[pl.DataFrame, dict[str, str]]:
    """The frame, its other columns called `column_5`, and `mapping` with what columns 1, 2, ... are taken for.

    Interactions: user, item, then rating, time and event by their values. Catalogues: id, title, genres. Users: id.
    Raises DataError that shows the columns if that does not fit them.
    """
    given = {standard: column for standard, column in mapping.items() if column in frame.columns}
    free = [c for c in frame.columns if c not in given.values()]
    if role == "interactions":
        told = _interactions(frame, free, given)
    elif role == "items":
        told = _items(frame, free, given)
    else:
        told = {} if "user_id" in given or not _is_key(frame, free[0]) else {"user_id": free[0]}
    meanings = given | told
    required = {"interactions": ("user_id", "item_id"), "items": ("item_id",), "users": ("user_id",)}[role]
    if any(standard not in meanings for standard in required):
        examples = "; ".join(f"{c}: {', '.join(map(str, frame[c].head(2).to_list()))}" for c in frame.columns[:12])
        raise DataError(
            f"{file} has no header, and what its columns are cannot be told ({examples}). Say it with "
            f"{' '.join(f'--column {s}=NUMBER' for s in required)}, or --header yes if the first row names them"
        )
    others = {c: f"column_{c}" for c in frame.columns if c not in meanings.values()}
    return frame.rename(others), dict(mapping) | meanings


def _interactions(frame: pl.DataFrame, free: list[str], given: Mapping[str, str]) -> dict[str, str]:
    kinds = {c: _kind(frame[c]) for c in free}
    ids = [s for s in ("user_id", "item_id") if s not in given]
    if any(kinds[c] in ("time", "text", "fraction") for c in free[: len(ids)]) or len(free) < len(ids):
        return {}
    told = dict(zip(ids, free, strict=False))
    for column in free[len(ids) :]:
        kind = kinds[column]
        standard = {"time": "timestamp", "number": "rating", "fraction": "rating", "event": "event"}.get(kind)
        if standard and standard not in told and standard not in given:
            told[standard] = column
        elif kind != "text":
            return {}
    return told


def _items(frame: pl.DataFrame, free: list[str], given: Mapping[str, str]) -> dict[str, str]:
    told: dict[str, str] = {}
    if "item_id" not in given and free and _is_key(frame, free[0]):
        told["item_id"] = free.pop(0)
    texts = [c for c in free if _kind(frame[c]) in ("text", "event")]
    if texts and "title" not in given:
        told["title"] = texts.pop(0)
    lists = [c for c in texts if _share(frame[c], r"\|") > SPACED]
    if lists and "genre" not in given:
        told["genre"] = lists[0]
    return told


def _is_key(frame: pl.DataFrame, column: str) -> bool:
    return not frame[column].null_count() and not frame[column].is_duplicated().any()


def _kind(values: pl.Series) -> str:
    """What a column may be: time, number (a small one), fraction, event (few texts), id, text (with spaces)."""
    values = values.drop_nulls()
    if not len(values):
        return "text"
    number = as_number(values)
    is_time = not parse_times(values.head(SAMPLE))[0].null_count()
    if not number.null_count():
        if is_time and (number >= LATE).all():
            return "time"
        if (number != number.floor()).any():
            return "fraction"
        return "number" if (number.abs() <= RATINGS).all() else "id"
    if is_time:
        return "time"
    if _share(values, r"\s") > SPACED:
        return "text"
    return "event" if values.n_unique() <= FEW else "id"


def _share(values: pl.Series, pattern: str) -> float:
    """The share of the values that have a pattern in them."""
    return int(values.cast(pl.String).str.strip_chars().str.contains(pattern).sum()) / max(len(values), 1)
