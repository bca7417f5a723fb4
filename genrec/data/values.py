"""Values of columns: types, parsing, and errors that name the invalid ones."""

import unicodedata

import polars as pl

from ..counting import counted
from ..errors import DataError
from .lists import LISTS, parse_lists
from .numbers import SAMPLE, Decimal, as_number, is_code, is_no_value, parse_numbers
from .source import BadRows, Role
from .times import DateOrder, parse_times

IDS = ("user_id", "item_id", "basket")
ROW = "row"  # the position in the file, from 0; added here
SHOWN = 5


def cast_columns(
    frame: pl.DataFrame, role: Role, file: str, bad_rows: BadRows, date_order: DateOrder, decimal: Decimal
) -> tuple[pl.DataFrame, list[str], int]:
    """Standard columns cast to their types, the others inferred; notes on how; and the number of dropped rows."""
    height = frame.height
    notes: list[str] = []
    for column in IDS:
        if column in frame.columns and frame.schema[column].is_float():
            beyond = (pl.col(column).fill_nan(None).abs() >= 2.0**63).fill_null(False)
            what = "text or a number below 2^63"
            frame = check_values(frame, frame[column], column, what, file, bad_rows, beyond)
    frame = frame.with_columns(as_id(frame[c]).alias(c) for c in IDS if c in frame.columns)
    if role == "interactions":
        frame, totals = _without_totals(frame)
        notes += [f"{file}: {totals}"] if totals else []
        height = frame.height
        has_decimal_comma = decimal == "comma"
        if "rating" in frame.columns:
            ratings, note = parse_numbers(frame["rating"], decimal, has_thousands=False)
            notes += [f"{file}: rating: {note}"] if note else []
            has_decimal_comma = not frame.schema["rating"].is_numeric() and _has_decimal_comma(frame["rating"], ratings)
            frame = check_values(frame, ratings, "rating", "a number", file, bad_rows)
        if "timestamp" in frame.columns:
            what = "a time of the years 1900 to 2100: seconds, milliseconds or a date, all in one form"
            what += "" if date_order == "auto" else f" (--date-order {date_order})"
            seconds, note = parse_times(frame["timestamp"], date_order, decimal, day_first=has_decimal_comma)
            notes += [f"{file}: timestamp: {note}"] if note else []
            frame = check_values(frame, seconds, "timestamp", what, file, bad_rows)
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
    attributes = []
    for column in frame.columns:
        if column not in typed_columns:
            values, note = infer_type(frame[column], decimal)
            attributes.append(values)
            notes += [f"{file}: {column}: {note}"] if note else []
    return frame.with_columns(attributes), notes, height - frame.height


def _without_totals(frame: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """The interactions without rows at the end that have neither user nor item, as totals, and a note on these."""
    if "user_id" not in frame.columns or "item_id" not in frame.columns or "review" in frame.columns:
        return frame, ""
    has_id = frame.select(pl.col("user_id").is_not_null() | pl.col("item_id").is_not_null()).to_series()
    kept = frame.height - (has_id.reverse().arg_max() or 0)
    if kept == frame.height or not has_id.any():
        return frame, ""
    first = ", ".join(str(v) for v in frame.drop(ROW).row(kept) if v is not None)
    return frame[:kept], f"{counted(frame.height - kept, 'rows')} at the end without user and item left out ({first})"


def _has_decimal_comma(texts: pl.Series, numbers: pl.Series) -> bool:
    """Whether numbers are written as 4,5."""
    has_comma = texts.cast(pl.String).str.contains(",", literal=True).fill_null(False)
    return bool((has_comma & (numbers != numbers.floor()).fill_null(False)).any())


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
            is_wrong &= ~is_no_value(frame[column])
    else:
        is_wrong = frame.select(wrong).to_series()
    if not is_wrong.any():
        return frame.with_columns(parsed.alias(column))
    if bad_rows == "skip":
        return frame.with_columns(parsed.alias(column)).filter(~is_wrong)
    examples = frame.filter(is_wrong).head(SHOWN).select(ROW, column)
    values = "; ".join(f"row {row + 1}: {'nothing' if v is None else repr(v)}" for row, v in examples.iter_rows())
    raise DataError(
        f"{file}: {column} must be {what}; {counted(int(is_wrong.sum()), 'rows are')} not ({values}). "
        "Mend them, or give --bad-rows skip"
    )


def as_id(values: pl.Series) -> pl.Series:
    """Ids as trimmed text in Unicode's composed form (NFC): `007` stays, 7.0 of a column of numbers is `7`."""
    if isinstance(values.dtype, pl.Decimal):
        is_integral = (values == values.round(0)).all()
        values = values.cast(pl.Decimal(values.dtype.precision, 0)) if is_integral else values
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


def infer_type(values: pl.Series, decimal: Decimal) -> tuple[pl.Series, str | None]:
    """An attribute cast to Int64, Float64, List(String) or String, by all its values, and a note on how it was read."""
    name, dtype = values.name, values.dtype
    if isinstance(dtype, pl.List):
        while isinstance(values.dtype, pl.List) and isinstance(values.dtype.inner, pl.List):
            values = values.list.eval(pl.element().explode())
        return values.list.eval(pl.element().cast(pl.String)), None
    if name == "year":
        number = as_number(values).cast(pl.Int64)
        text = values.cast(pl.String)
        within = text.str.extract(r"^\s*(\d{4})").fill_null(text.str.extract(r"(?:^|\D)(\d{4})(?:\D|$)"))
        return number.fill_null(within.cast(pl.Int64)), None
    if dtype.is_numeric() and is_code(name):
        return as_id(values), None
    if dtype.is_integer() or dtype == pl.Boolean:
        return values.cast(pl.Int64), None
    if dtype.is_numeric():
        return as_number(values), None
    text = values.cast(pl.String).str.strip_chars().replace("", None)
    if not text.count():
        return text, None
    if name not in LISTS and not is_code(name):
        numbers, note = _numbers(text, decimal)
        if numbers is not None:
            return numbers, note
        if note is not None:
            return text, note
    lists, note = parse_lists(text)
    if lists is None:
        return text, note
    if name == "category" and lists.list.len().max() == 1:  # one class each
        return lists.list.first(), note
    return lists, note


def _numbers(text: pl.Series, decimal: Decimal) -> tuple[pl.Series | None, str | None]:
    """Texts as Int64 or Float64 if all are numbers or say that one is missing, and a note."""
    if text.str.contains(r"^[+-]?0\d").any():  # a code, such as a postal one
        return None, None
    integers = text.cast(pl.Int64, strict=False)
    if integers.count() == text.count():
        return integers, None
    numbers, note = parse_numbers(text.drop_nulls().head(SAMPLE), decimal)
    if not numbers.count() and note is None:
        return None, None
    numbers, note = parse_numbers(text, decimal)
    absent = is_no_value(text)
    n_absent = int(absent.sum() or 0)
    if numbers.count() + n_absent < text.count() or not numbers.count():
        if note is not None and "units" in note:
            return None, note
        others = text.filter(numbers.is_null() & text.is_not_null() & ~absent)
        is_mostly_numbers = numbers.count() >= len(others) > 0
        return None, f"text, as values such as {others[0]!r} are no numbers" if is_mostly_numbers else None
    spaced = text.str.contains(r"^\d+( \d+)+$")
    if spaced.any() and spaced.sum() == text.count() and text.str.len_chars().n_unique() == 1:  # phone numbers
        return None, None
    if n_absent:
        example = text.filter(absent.fill_null(False))[0]
        missing = "is a missing one" if n_absent == 1 else "are missing ones"
        gaps = f"{counted(n_absent, 'values')} such as {example!r} {missing}"
        note = f"{note}; {gaps}" if note else gaps
    is_integral = (numbers.drop_nulls() == numbers.drop_nulls().floor()).all() and numbers.abs().max() < 2.0**53  # type: ignore[operator]
    return numbers.cast(pl.Int64) if is_integral and as_number(text).count() < numbers.count() else numbers, note
