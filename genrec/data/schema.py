"""Columns: which name means what, which type it has, and what is wrong with a value."""

import re
import string
from collections.abc import Mapping
from typing import Literal

import polars as pl

from ..errors import DataError, unknown_name

Role = Literal["interactions", "items", "users"]
BadRows = Literal["error", "skip"]

ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": (
        "user_id",
        "userid",
        "user",
        "uid",
        "customer_id",
        "customerid",
        "customer",
        "household_id",
        "reviewerid",
        "reviewer_id",
        "visitor_id",
        "session_id",
    ),
    "item_id": (
        "item_id",
        "itemid",
        "item",
        "iid",
        "movieid",
        "movie_id",
        "asin",
        "parent_asin",
        "product_id",
        "productid",
        "product",
        "stockcode",
        "sku",
        "article_id",
        "isbn",
        "book_id",
        "clothing_id",
    ),
    "timestamp": (
        "timestamp",
        "ts",
        "time",
        "unixreviewtime",
        "unix_review_time",
        "date",
        "datetime",
        "invoicedate",
        "created_at",
        "event_time",
        "transaction_timestamp",
    ),
    "rating": ("rating", "stars", "overall", "score", "rate"),
    "event": ("event", "event_type", "action", "behavior_type", "interaction_type"),
    "review": ("review", "reviewtext", "review_text", "text", "review_body", "comment"),
    "basket": ("basket", "basket_id", "invoiceno", "invoice", "order_id", "orderid", "transaction_id"),
    "title": ("title", "name", "movie_title", "product_title", "item_name", "product_name", "description"),
    "category": ("category", "main_category", "department", "class_name", "categories"),
    "genre": ("genre", "genres"),
    "year": ("year", "release_year"),
    "part": ("part", "split"),
}
WANTED: dict[Role, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id", "timestamp", "rating", "event", "review", "basket", "category", "part"),
    "items": ("item_id", "title", "category", "genre", "year"),
    "users": ("user_id",),
}
NEEDED: dict[Role, tuple[str, ...]] = {"interactions": (), "items": ("item_id",), "users": ("user_id",)}
ROW = "row"


def plain(name: str) -> str:
    """A column name as it is compared: `userId`, `User Id` and `user_id` are near each other."""
    return re.sub(r"[\s\-.]+", "_", name.strip()).lower()


def canonical(
    frame: pl.DataFrame,
    role: Role,
    file: str,
    *,
    mapping: Mapping[str, str] | None = None,
    title: str | None = None,
    bad_rows: BadRows = "error",
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frame with standard names and types, and notes on what was recognised.

    mapping: standard name -> column of the file, before any guess. title: template that composes titles from columns.
    Raises DataError for a missing item or user column, a rating that is no number, a timestamp that is no time, and an id that
    occurs twice in a catalogue; `bad_rows="skip"` drops and counts the rows instead.
    """
    columns = recognise(frame.columns, role, file, mapping or {})
    notes = (
        [f"{file}: {', '.join(f'{c} is {s}' for s, c in columns.items() if c != s)}"]
        if any(c != s for s, c in columns.items())
        else []
    )
    if title is not None and role == "items":
        frame = frame.with_columns(composed(frame, title, file).alias("_title"))
        columns["title"] = "_title"
    taken = set(columns.values())
    rest = [c for c in frame.columns if c not in taken]
    found = frame.select(
        *(pl.col(c).alias(s) for s, c in columns.items()),
        *(pl.col(c).alias(plain(c)) for c in rest if plain(c) not in columns),
    )
    if ROW not in found.columns:
        found = found.with_row_index(ROW)
    found, dropped = typed(found, role, file, bad_rows)
    if dropped:
        notes.append(f"{file}: {dropped:,} rows that cannot be parsed were dropped")
    if role == "items" and "title" not in found.columns:
        found = found.with_columns(pl.lit(None, dtype=pl.String).alias("title"))
    if role != "interactions":
        key = NEEDED[role][0]
        found = found.filter(pl.col(key).is_not_null()).drop(ROW)
        twice = found.filter(pl.col(key).is_duplicated())
        if twice.height:
            names = twice[key].unique(maintain_order=True)
            raise DataError(
                f"{file}: {key} {names[0]!r} occurs {twice.filter(pl.col(key) == names[0]).height} times ({len(names)} such ids); each id may occur once"
            )
    return found, tuple(notes)


def recognise(columns: list[str], role: Role, file: str, mapping: Mapping[str, str]) -> dict[str, str]:
    """Standard name -> column of the file."""
    found: dict[str, str] = {}
    for standard, column in mapping.items():
        if standard not in ALIASES:
            raise DataError(unknown_name("column meaning", standard, ALIASES, f"in --column {standard}={column}"))
        if standard in WANTED[role]:
            if column not in columns:
                if role != "interactions" or standard in WANTED["items"] or standard in WANTED["users"]:
                    continue
                raise DataError(
                    f"{file}: " + unknown_name("column", column, columns, f"in --column {standard}={column}")
                )
            found[standard] = column
    by_plain = {plain(c): c for c in reversed(columns)}
    for standard in WANTED[role]:
        for alias in ALIASES[standard]:
            named = by_plain.get(alias)
            if standard not in found and named is not None and named not in found.values():
                found[standard] = named
    for needed in NEEDED[role]:
        if needed not in found:
            raise DataError(missing_column(needed, columns, file))
    if role == "interactions":
        for standard, column in mapping.items():
            if standard in ("user_id", "item_id") and standard not in found:
                raise DataError(
                    f"{file}: " + unknown_name("column", column, columns, f"in --column {standard}={column}")
                )
        if "item_id" not in found and "review" not in found:
            raise DataError(missing_column("item_id", columns, file))
    return found


def missing_column(needed: str, columns: list[str], file: str) -> str:
    """`FILE has no item_id column. It has a, b. ...`"""
    import difflib

    near = difflib.get_close_matches(needed, [plain(c) for c in columns], n=1, cutoff=0.4)
    column = next((c for c in columns if near and plain(c) == near[0]), None)
    hint = f"--column {needed}={column}" if column else f"--column {needed}=NAME"
    nearest = f" The nearest name is {column!r}." if column else ""
    return f"{file} has no {needed} column. It has: {', '.join(columns)}.{nearest} Say which it is with {hint}"


def composed(frame: pl.DataFrame, template: str, file: str) -> pl.Expr:
    """A title from other columns; missing values leave no gap."""
    parts = []
    for literal, name, _, _ in string.Formatter().parse(template):
        if literal:
            parts.append(pl.lit(literal))
        if name is not None:
            if name not in frame.columns:
                raise DataError(f"{file}: " + unknown_name("column", name, frame.columns, f"in --title {template!r}"))
            parts.append(pl.col(name).cast(pl.String).fill_null(""))
    return pl.concat_str(parts).str.replace_all(r"\s+", " ").str.strip_chars()


# --- types --------------------------------------------------------------------------------------------------------


def typed(frame: pl.DataFrame, role: Role, file: str, bad_rows: BadRows) -> tuple[pl.DataFrame, int]:
    """Standard columns with their types, the rest guessed; and how many rows were dropped."""
    before = frame.height
    for column in ("user_id", "item_id", "basket"):
        if column in frame.columns:
            frame = frame.with_columns(as_id(frame[column]).alias(column))
    if role == "interactions":
        for column, parse, what in (
            ("rating", as_number, "a number"),
            ("timestamp", as_seconds, "seconds, milliseconds or an ISO date"),
        ):
            if column in frame.columns:
                parsed = parse(frame[column])
                wrong = (
                    parsed.is_null()
                    & frame[column].is_not_null()
                    & (frame[column].cast(pl.String).str.strip_chars() != "")
                )
                frame = checked(frame, parsed, wrong, column, what, file, bad_rows)
        if "item_id" in frame.columns:
            empty = frame["item_id"].is_null()
            frame = checked(frame, frame["item_id"], empty, "item_id", "an id", file, bad_rows)
        if "event" not in frame.columns:
            frame = frame.with_columns(pl.lit("rating" if "rating" in frame.columns else "interaction").alias("event"))
        frame = frame.with_columns(pl.col("event").cast(pl.String).fill_null("interaction"))
    known = {"user_id", "item_id", "basket", "rating", "timestamp", "event", "review", "title", "part", ROW}
    for column in frame.columns:
        if column in known:
            if column in ("review", "title", "part"):
                frame = frame.with_columns(pl.col(column).cast(pl.String))
            continue
        frame = frame.with_columns(guessed(frame[column], column).alias(column))
    return frame, before - frame.height


def checked(
    frame: pl.DataFrame, parsed: pl.Series, wrong: pl.Series, column: str, what: str, file: str, bad_rows: BadRows
) -> pl.DataFrame:
    """The frame with the parsed column; rows with a wrong value are an error that shows five of them, or dropped."""
    if wrong.any():
        if bad_rows == "error":
            shown = frame.filter(wrong).head(5)
            values = "; ".join(
                f"row {r + 1}: {v!r}" for r, v in zip(shown[ROW].to_list(), shown[column].to_list(), strict=True)
            )
            raise DataError(
                f"{file}: {column} must be {what}; {int(wrong.sum()):,} rows are not ({values}). Mend them, or give --bad-rows skip"
            )
        keep = ~wrong
        return frame.with_columns(parsed.alias(column)).filter(keep)
    return frame.with_columns(parsed.alias(column))


def as_id(values: pl.Series) -> pl.Series:
    """Ids as text: 7.0 read from a float column is `7`, text stays as it is."""
    if values.dtype.is_float():
        whole = values.is_null() | (values == values.floor())
        values = values.cast(pl.Int64) if whole.all() else values
    return values.cast(pl.String).str.strip_chars().replace("", None)


def as_number(values: pl.Series) -> pl.Series:
    """Numbers; null where the text is none."""
    if values.dtype.is_numeric():
        return values.cast(pl.Float64)
    return values.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)


def as_seconds(values: pl.Series) -> pl.Series:
    """Seconds since 1970 from seconds, milliseconds, dates or ISO texts; null where it is none of them."""
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.epoch("s")
    number = as_number(values)
    if number.null_count() > values.null_count() and values.dtype == pl.String:
        text = values.str.strip_chars().str.replace("T", " ", literal=True).str.replace(r"(Z|\+00:00)$", "")
        found = pl.Series([None] * len(text), dtype=pl.Int64)
        for pattern in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%m/%d/%Y %H:%M", "%d.%m.%Y"):
            parsed = text.str.to_datetime(pattern, strict=False, time_unit="us").dt.epoch("s")
            found = found.fill_null(parsed) if len(found) else parsed
        return found.fill_null(to_seconds(number))
    return to_seconds(number)


def to_seconds(number: pl.Series) -> pl.Series:
    """Numbers beyond the year 5000 in seconds are milliseconds."""
    largest = number.abs().max()
    return (number / 1000 if isinstance(largest, float) and largest > 1e11 else number).cast(pl.Int64, strict=False)


def guessed(values: pl.Series, column: str) -> pl.Series:
    """An attribute as whole number, number, list of text (split at |) or text."""
    if isinstance(values.dtype, pl.List):
        flat = values.list.eval(pl.element().cast(pl.String))
        return flat.list.first() if column == "category" else flat
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        return (
            values.cast(pl.Int64)
            if values.dtype.is_integer() or values.dtype == pl.Boolean
            else values.cast(pl.Float64)
        )
    text = values.cast(pl.String).str.strip_chars().replace("", None)
    if column == "genre" or (text.str.contains("|", literal=True).any() and column != "category"):
        return text.str.split("|")
    number = text.cast(pl.Float64, strict=False)
    if number.null_count() > text.null_count() or text.null_count() == len(text) or text.str.contains(r"^0\d").any():
        return text
    if column == "year" or (number.drop_nulls() == number.drop_nulls().floor()).all():
        return number.cast(pl.Int64)
    return number
