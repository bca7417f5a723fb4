"""Values of columns: types, parsing, and errors that name the invalid ones."""

import json
import unicodedata
from typing import Literal

import polars as pl

from ..errors import DataError
from .source import BadRows

Role = Literal["interactions", "items", "users"]
IDS = ("user_id", "item_id", "basket")
LISTS = ("genre", "tags", "keywords", "categories")  # lists even if few values have several elements
ROW = "row"  # the position in the file, from 0; added here
NO_VALUE = ("", "nan", "na", "n/a", "null", "none", "\\n")  # in a column of numbers or times
SHOWN = 5
YEARS = (-2_208_988_800, 4_133_980_799)  # 1900 to 2100 in seconds since 1970


def cast_columns(frame: pl.DataFrame, role: Role, file: str, bad_rows: BadRows) -> tuple[pl.DataFrame, int]:
    """Standard columns cast to their types, the others inferred; and the number of dropped rows."""
    height = frame.height
    for column in IDS:
        if column in frame.columns and frame.schema[column].is_float():
            beyond = (pl.col(column).fill_nan(None).abs() >= 2.0**63).fill_null(False)
            what = "text or a number below 2^63"
            frame = check_values(frame, frame[column], column, what, file, bad_rows, beyond)
    frame = frame.with_columns(as_id(frame[c]).alias(c) for c in IDS if c in frame.columns)
    if role == "interactions":
        if "rating" in frame.columns:
            frame = check_values(frame, as_number(frame["rating"]), "rating", "a number", file, bad_rows)
        if "timestamp" in frame.columns:
            what = "a time of the years 1900 to 2100: seconds, milliseconds or an ISO date"
            frame = check_values(frame, as_seconds(frame["timestamp"]), "timestamp", what, file, bad_rows)
        if "item_id" in frame.columns and "review" not in frame.columns:
            frame = check_values(
                frame, frame["item_id"], "item_id", "there", file, bad_rows, pl.col("item_id").is_null()
            )
        default = pl.lit(unnamed_event(frame.columns))
        if "event" in frame.columns:
            event = pl.col("event").cast(pl.String).str.strip_chars().str.to_lowercase()
            event = event.replace("", None).fill_null(default)
        else:
            event = default
        frame = frame.with_columns(event.alias("event"))
    texts = [c for c in ("review", "title", "part") if c in frame.columns]
    frame = frame.with_columns(pl.col(c).cast(pl.String).str.strip_chars().replace("", None) for c in texts)
    typed_columns = (
        {*IDS, "rating", "timestamp", "event", *texts, ROW} if role == "interactions" else {*IDS, *texts, ROW}
    )
    frame = frame.with_columns(infer_type(frame[c]) for c in frame.columns if c not in typed_columns)
    return frame, height - frame.height


def unnamed_event(columns: list[str]) -> str:
    """The event of interactions without one: `rating` beside a rating, `purchase` on an order, else `interaction`."""
    return "rating" if "rating" in columns else "purchase" if "basket" in columns else "interaction"


def check_values(
    frame: pl.DataFrame,
    parsed: pl.Series,
    column: str,
    what: str,
    file: str,
    bad_rows: BadRows,
    wrong: pl.Expr | None = None,
) -> pl.DataFrame:
    """The frame with the parsed column; rows with an invalid value are dropped, or raise a DataError that shows five.

    wrong: which rows are invalid; by default those with a value that could not be parsed.
    """
    if wrong is None:
        is_wrong = parsed.is_null() & frame[column].is_not_null()
        if is_wrong.any():
            is_wrong &= ~frame[column].cast(pl.String).str.strip_chars().str.to_lowercase().is_in(NO_VALUE)
    else:
        is_wrong = frame.select(wrong).to_series()
    if not is_wrong.any():
        return frame.with_columns(parsed.alias(column))
    if bad_rows == "skip":
        return frame.with_columns(parsed.alias(column)).filter(~is_wrong)
    examples = frame.filter(is_wrong).head(SHOWN).select(ROW, column)
    values = "; ".join(f"row {row + 1}: {'nothing' if v is None else repr(v)}" for row, v in examples.iter_rows())
    raise DataError(
        f"{file}: {column} must be {what}; {int(is_wrong.sum()):,} rows are not ({values}). "
        "Mend them, or give --bad-rows skip"
    )


def as_id(values: pl.Series) -> pl.Series:
    """Ids as trimmed text in Unicode's composed form (NFC): `007` stays, 7.0 of a float column is `7`."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
        is_integral = (values == values.floor()).all()
        values = values.cast(pl.Int64) if is_integral else values
    text = values.cast(pl.String).str.strip_chars()
    beyond_ascii = text.filter(text.str.len_bytes() != text.str.len_chars()).unique()
    if len(beyond_ascii):
        composed = {v: unicodedata.normalize("NFC", v) for v in beyond_ascii}
        text = text.replace({v: c for v, c in composed.items() if v != c})
    return text.replace("", None)


def as_number(values: pl.Series) -> pl.Series:
    """Finite numbers as Float64; null if a value is not one."""
    if not values.dtype.is_numeric():
        values = values.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    values = values.cast(pl.Float64)
    return values if values.is_finite().all() else values.set(~values.is_finite(), None)


def as_seconds(values: pl.Series) -> pl.Series:
    """Seconds since 1970 from numbers, dates or ISO texts (UTC unless stated); null outside of 1900 to 2100."""
    seconds = _seconds(values)
    return seconds.set(~seconds.is_between(*YEARS), None)


def _seconds(values: pl.Series) -> pl.Series:
    if values.dtype in (pl.Date, pl.Datetime):
        return values.dt.epoch("s")
    if values.dtype.is_numeric():
        return to_seconds(as_number(values))
    if values.dtype != pl.String:
        return pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
    number = as_number(values)
    if number.null_count() == values.null_count():
        return to_seconds(number)
    text = values.str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d)T", "$1 ").str.replace("Z$", "+00:00")
    seconds = to_seconds(number)
    for pattern in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f%z"):
        if seconds.null_count() > values.null_count():
            seconds = seconds.fill_null(text.str.to_datetime(pattern, strict=False, time_unit="us").dt.epoch("s"))
    for pattern in ("%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M"):  # only if they parse the whole column
        parsed = text.str.to_datetime(pattern, strict=False, time_unit="us").dt.epoch("s")
        if parsed.null_count() == values.null_count():
            return parsed
    return seconds


def to_seconds(number: pl.Series) -> pl.Series:
    """Seconds since 1970; the median tells milli-, micro- and nanoseconds; eight-digit dates are YYYYMMDD."""
    low, high = number.min(), number.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return number.cast(pl.Int64)
    if 19_000_101 <= low and high <= 21_001_231:
        dates = number.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        if dates.null_count() == number.null_count():
            return dates.dt.epoch("s")
    median = number.abs().median()
    assert isinstance(median, float)
    unit = next((unit for unit, threshold in ((1e9, 1e17), (1e6, 1e14), (1e3, 1e11)) if median > threshold), 1.0)
    return (number / unit).floor().cast(pl.Int64, strict=False)


def as_lists(text: pl.Series) -> pl.Series:
    """Texts as lists: JSON lists, or split at bars, or at commas if a fifth of the texts has one and none a bar."""
    json_texts = text.filter(text.str.starts_with("[")).unique()
    text = text.replace({v: _bars(v) for v in json_texts})
    commas = text.str.contains(", ", literal=True).sum()
    has_bars = len(json_texts) or text.str.contains("|", literal=True).any()
    return text.str.split("|" if has_bars or commas < text.count() / 5 else ", ")


def _bars(text: str) -> str | None:
    """A JSON list joined by bars; any other text unchanged."""
    try:
        values = json.loads(text)
    except ValueError:
        return text
    return "|".join(str(v) for v in values if v is not None) or None


def infer_type(values: pl.Series) -> pl.Series:
    """An attribute cast to Int64, Float64, List(String) or String, by its values."""
    name, dtype = values.name, values.dtype
    if isinstance(dtype, pl.List):
        while isinstance(values.dtype, pl.List) and isinstance(values.dtype.inner, pl.List):
            values = values.list.eval(pl.element().explode())
        return values.list.eval(pl.element().cast(pl.String))
    if name == "year":
        number = as_number(values).cast(pl.Int64)
        first = values.cast(pl.String).str.extract(r"^\s*(\d{4})").cast(pl.Int64)
        return number.fill_null(first)
    if dtype.is_integer() or dtype == pl.Boolean:
        return values.cast(pl.Int64)
    if dtype.is_numeric():
        return as_number(values)
    text = values.cast(pl.String).str.strip_chars().replace("", None)
    n = len(text) - text.null_count()
    if name in LISTS:
        return as_lists(text)
    if name != "category" and n and text.str.contains("|", literal=True).sum() >= n / 5:
        return text.str.split("|")
    if not n or text.str.contains(r"^[+-]?0\d").any():  # a code, such as a postal one
        return text
    integers = text.cast(pl.Int64, strict=False)
    if integers.null_count() == text.null_count():
        return integers
    number = as_number(text)
    return number if number.null_count() == text.null_count() else text
