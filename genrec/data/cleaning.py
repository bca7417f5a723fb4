"""Cleaning, explicit and reported: every change is a note. Same input, same result."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import polars as pl

from ..counting import counted
from ..errors import DataError, UnknownNameError
from .values import IDS, as_id

Missing = Literal["drop", "mean", "median", "nearest", "interpolate"]
FILL_METHODS = get_args(Missing)
# Control characters (line ends and tabs too), and marks that reorder or hide text; joiners that scripts need stay.
CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
YEAR = r"(?:1[89]|20)\d\d"
YEAR_AT_END = rf"\s+\(({YEAR})(?:\s?[-–—]\s?(?:{YEAR})?)?\)(?:\s+\((?:V|TV|VG)\))?\s*$"  # also (2001-2004), (2001– )
MIN_YEARS = 0.2  # share of the titles that end with a year, from which on it is an attribute
MANY = 100  # distinct numbers that a prompt may show unrounded


def clean(
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    *,
    missing: Mapping[str, str] | None = None,
    duplicates: Literal["keep", "drop"] = "keep",
    k_core: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    """Canonical frames cleaned: texts and ids normalised, missing values, duplicates, k-core, unknown items, order.

    Interactions are returned sorted by user (first appearance), timestamp and `row`, the position in the file, which
    they must have. missing: column -> drop, mean, median, nearest or interpolate (the last two along a user's time);
    for other columns a note counts the missing values. duplicates: `drop` removes interactions equal in everything but
    `row`. k_core: users and items keep at least so many interactions. Raises DataError if nothing is left.
    """
    notes: list[str] = []
    interactions, items, users = (_normalise(f) for f in (interactions, items, users))
    interactions = _drop_without_ids(interactions, notes)
    interactions, items, users = _fill_missing((interactions, items, users), missing or {}, notes)
    interactions = _sort(interactions)
    users = _round_numbers(users, notes)
    interactions = _without_duplicates(interactions, duplicates, notes)
    if k_core > 0:
        interactions = _k_core(interactions, k_core, notes)
    if not interactions.height:
        raise DataError("no interaction is left after cleaning: " + "; ".join(notes))
    if "item_id" in interactions.columns:
        interactions, items = _add_unknown_items(interactions, items, notes)
    items = _years_of_titles(items, notes)
    if "user_id" in interactions.columns:
        n_single = interactions.group_by("user_id").len().filter(pl.col("len") == 1).height
        if n_single:
            notes.append(f"{counted(n_single, 'users have')} a single interaction: they train and are not evaluated")
    return interactions, items, users, tuple(notes)


def _normalise(frame: pl.DataFrame) -> pl.DataFrame:
    """Ids trimmed and in Unicode's composed form (NFC); control characters in texts as spaces."""
    changed: list[pl.Series | pl.Expr] = []
    for column, dtype in frame.schema.items():
        if column in IDS:
            changed.append(as_id(frame[column]))
        elif dtype == pl.String and frame[column].str.contains(CONTROL).any():
            changed.append(pl.col(column).str.replace_all(CONTROL, " ").str.strip_chars())
        elif dtype == pl.List(pl.String):
            changed.append(pl.col(column).list.eval(pl.element().str.replace_all(CONTROL, " ")))
    return frame.with_columns(changed)


def _drop_without_ids(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Interactions with a user and an item, as far as the data has these columns."""
    for column, what in (("item_id", "an item"), ("user_id", "a user")):
        gaps = frame[column].null_count() if column in frame.columns else 0
        if gaps:
            frame = frame.filter(pl.col(column).is_not_null())
            notes.append(f"{counted(gaps, f'interactions without {what} were')} dropped")
    return frame


def _sort(frame: pl.DataFrame) -> pl.DataFrame:
    """Sorted by user (first appearance), timestamp (missing ones first), position in the file."""
    frame = frame.sort("row") if not frame["row"].is_sorted() else frame
    if "user_id" not in frame.columns:
        return frame
    first = frame.select(pl.col("user_id").unique(maintain_order=True)).with_row_index("\0user")
    user_index = frame.select("user_id").join(first, on="user_id", how="left", maintain_order="left")["\0user"]
    keys = [user_index.to_numpy()]
    if "timestamp" in frame.columns:
        keys.insert(0, frame["timestamp"].fill_null(np.iinfo(np.int64).min).to_numpy())
    return frame[np.lexsort(keys)]  # the last key is the primary one; ties keep the order of the file


# --- missing values -----------------------------------------------------------------------------------------------


def _fill_missing(
    frames: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], missing: Mapping[str, str], notes: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Missing values dropped or filled, each column in the first of interactions, items, users that has it.

    Columns of interactions other than the timestamp are filled after the split, by `fill_after_split`.
    """
    tables = list(frames)
    deferred = deferred_columns(frames[0], missing)
    for column, method in missing.items():
        if column in deferred and method in FILL_METHODS:
            continue
        option = f"in --missing {column}={method}"
        if method not in FILL_METHODS:
            raise UnknownNameError("treatment of missing values", method, FILL_METHODS, option)
        index = next((n for n, f in enumerate(tables) if column in f.columns), None)
        if index is None:
            raise UnknownNameError("column", column, dict.fromkeys(c for f in tables for c in f.columns), option)
        if index > 0 and method in ("nearest", "interpolate"):
            raise DataError(
                f"--missing {column}={method}: {column} has no time to go along; allowed: drop, mean, median"
            )
        tables[index] = _fill_gaps(tables[index], column, method, notes)
    for column in tables[0].columns:
        gaps = tables[0][column].null_count()
        if gaps and column not in missing:
            so = "it is" if gaps == 1 else "they are"
            notes.append(f"{column}: {counted(gaps, 'missing values')}, left as {so} (--missing {column}=HOW)")
    return tables[0], tables[1], tables[2]


def deferred_columns(interactions: pl.DataFrame, missing: Mapping[str, str]) -> dict[str, str]:
    """The columns that are filled after the split, so that no held-out value reaches a training row."""
    return {
        c: method
        for c, method in missing.items()
        if c in interactions.columns and c != "timestamp" and method != "drop"
    }


def fill_after_split(interactions: pl.DataFrame, missing: Mapping[str, str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Interactions with `part`, missing values of the training part filled from it; held-out ones stay missing.

    A filled rating is rounded to one that the training part has, so that no answer is invented.
    """
    notes: list[str] = []
    frame = interactions.with_row_index("\0position")
    for column, method in deferred_columns(interactions, missing).items():
        train, held_out = frame.filter(pl.col("part") == "train"), frame.filter(pl.col("part") != "train")
        levels = train[column].drop_nulls().unique().sort().to_numpy()
        n_notes = len(notes)
        train = _fill_gaps(train, column, method, notes)
        if not train.height:
            raise DataError(f"--missing {column}={method}: no training row has a value of {column} to fill gaps with")
        if column == "rating" and len(notes) > n_notes:
            nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, train[column].to_numpy())]
            train = train.with_columns(pl.Series(column, nearest))
            notes[-1] += ", as the nearest rating of the training part"
        if gaps := held_out[column].null_count():
            notes.append(f"{column}: {counted(gaps, 'missing values outside the training part stay')} missing")
        frame = pl.concat([train, held_out])
    return frame.sort("\0position").drop("\0position"), tuple(notes)


def _fill_gaps(frame: pl.DataFrame, column: str, method: str, notes: list[str]) -> pl.DataFrame:
    gaps = frame[column].null_count()
    if not gaps:
        return frame
    if method == "drop":
        notes.append(f"{column}: {counted(gaps, 'rows without a value were')} dropped")
        return frame.filter(pl.col(column).is_not_null())
    dtype = frame.schema[column]
    if not dtype.is_numeric():
        raise DataError(f"--missing {column}={method}: {column} holds {dtype}, not numbers; allowed: drop")
    value = pl.col(column).cast(pl.Float64)
    if method in ("mean", "median"):
        value = value.fill_null(value.mean() if method == "mean" else value.median())
    else:
        value = _along_time(frame, column, method)
    frame = frame.with_columns((value.round() if dtype.is_integer() else value).cast(dtype).alias(column))
    remaining = frame[column].null_count()
    notes.append(
        f"{column}: {gaps - remaining:,} of {gaps:,} missing values filled ({method})"
        + (f", {counted(remaining, 'rows')} without a neighbour dropped" if remaining else "")
    )
    return frame.filter(pl.col(column).is_not_null())


def _along_time(frame: pl.DataFrame, column: str, method: str) -> pl.Expr:
    """Interpolated from the same user's rows before and after, by time if all times are known, else by file order."""
    has_time = column != "timestamp" and "timestamp" in frame.columns and not frame["timestamp"].null_count()
    time = pl.col("timestamp" if has_time else "row").cast(pl.Float64)
    value = pl.col(column).cast(pl.Float64)
    value_time = pl.when(value.is_not_null()).then(time)
    previous, following = value.forward_fill(), value.backward_fill()
    since, until = time - value_time.forward_fill(), value_time.backward_fill() - time
    if method == "nearest":
        between = pl.when(since <= until).then(previous).otherwise(following)
    else:
        span = since + until
        between = pl.when(span > 0).then(previous + (following - previous) * since / span).otherwise(previous)
    filled = pl.coalesce(pl.when(previous.is_not_null() & following.is_not_null()).then(between), previous, following)
    return filled.over("user_id") if "user_id" in frame.columns else filled


def _round_numbers(users: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """User attributes of many distinct numbers, rounded to two significant digits, which a prompt has words for."""
    for column, dtype in users.schema.items():
        n_values = users[column].drop_nulls().n_unique() if dtype.is_numeric() else 0
        if n_values > MANY:
            users = users.with_columns(pl.col(column).round_sig_figs(2))
            notes.append(f"{column}: {n_values:,} different values, rounded to two significant digits for prompts")
    return users


# --- duplicates, k-core, the catalogue ----------------------------------------------------------------------------


def _without_duplicates(frame: pl.DataFrame, duplicates: str, notes: list[str]) -> pl.DataFrame:
    content = frame.select(pl.exclude("row"))
    n_repeats = frame.height - content.hash_rows().n_unique()
    if not n_repeats:
        return frame
    if duplicates == "drop":
        frame = frame.unique(content.columns, keep="first", maintain_order=True)
    notes.append(
        f"{counted(n_repeats, 'interactions equal')} an earlier one: "
        + ("dropped" if duplicates == "drop" else "kept (--duplicates drop)")
    )
    return frame


def _k_core(frame: pl.DataFrame, k: int, notes: list[str]) -> pl.DataFrame:
    """Users and items with at least k interactions each, repeatedly."""
    height = frame.height
    columns = [c for c in ("user_id", "item_id") if c in frame.columns]
    while True:
        core = frame
        for column in columns:
            core = core.filter(pl.len().over(column) >= k)
        if core.height == frame.height:
            break
        frame = core
    if height != frame.height:
        notes.append(f"{k}-core: {height - frame.height:,} of {height:,} interactions were dropped")
    if not frame.height:
        raise DataError(f"--k-core {k} leaves nothing: no users and items have {k} interactions each")
    return frame


def _years_of_titles(items: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The catalogue with a year from its titles, if many end with one and there is no other year."""
    if "title" not in items.columns or "year" in items.columns:
        return items
    year = pl.col("title").str.extract(YEAR_AT_END, 1).cast(pl.Int64)
    split = items.select(pl.col("title").str.replace(YEAR_AT_END, ""), year.alias("year"))
    n_years, n_titles = split["year"].count(), split["title"].count()
    if not n_years or n_years < MIN_YEARS * n_titles:
        return items
    example = items["title"].filter(split["year"].is_not_null())[0]
    title, first = split.filter(pl.col("year").is_not_null()).row(0)
    notes.append(f"title: {n_years:,} of {n_titles:,} end with a year: {example!r} is {title!r} with year {first}")
    return items.with_columns(split.get_columns())


def _add_unknown_items(
    interactions: pl.DataFrame, items: pl.DataFrame, notes: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The catalogue with the items that only interactions name, titled if the interactions carry titles."""
    named = interactions.select(pl.col("item_id").unique(maintain_order=True))
    unknown = named.join(items.select("item_id"), on="item_id", how="anti", maintain_order="left")
    if "title" in interactions.columns:
        titles = interactions.drop_nulls("title").sort("row").group_by("item_id").agg(pl.col("title").first())
        unknown = unknown.join(titles, on="item_id", how="left", maintain_order="left")
        interactions = interactions.drop("title")
        untitled = items["title"].null_count() if "title" in items.columns else 0
        if untitled:
            items = items.join(titles, on="item_id", how="left", maintain_order="left", suffix="\0")
            items = items.with_columns(pl.coalesce("title", "title\0").alias("title")).drop("title\0")
            if n_titled := untitled - items["title"].null_count():
                notes.append(
                    f"{counted(n_titled, 'items without a title in the catalogue take')} that of the interactions"
                )
    if not unknown.height:
        return interactions, items
    untitled = unknown["title"].null_count() if "title" in unknown.columns else unknown.height
    if items.height:
        notes.append(
            f"{counted(unknown.height, 'items of the interactions are')} not in the catalogue, "
            f"{untitled:,} without a title"
        )
    elif untitled:
        notes.append(f"{untitled:,} of {unknown.height:,} items have no title: they are ranked without a text")
    return interactions, pl.concat([items, unknown], how="diagonal")
