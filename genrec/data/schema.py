"""Columns: which name means what, which type it has, and what is wrong with a value."""

import difflib
import json
import re
import string
import unicodedata
from collections.abc import Mapping
from pathlib import PurePath
from typing import Literal

import polars as pl

from ..errors import DataError, unknown_name

Role = Literal["interactions", "items", "users"]
BadRows = Literal["error", "skip"]

# As `squeezed` writes them; the first that a file has is taken.
ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": tuple("userid user uid customerid customer householdid reviewerid visitorid sessionid".split()),
    "item_id": (
        *"itemid item iid movieid parentasin asin productid product".split(),
        *"stockcode sku articleid isbn bookid clothingid".split(),
    ),
    "timestamp": tuple(
        "timestamp ts time unixreviewtime date datetime invoicedate createdat eventtime transactiontimestamp "
        "reviewdate".split()
    ),
    "rating": tuple("rating stars starrating overall score rate bookrating".split()),
    "event": tuple("event eventtype action behaviortype interactiontype".split()),
    "review": tuple("review reviewtext text reviewbody comment".split()),
    "basket": tuple("basket basketid invoiceno invoice orderid transactionid".split()),
    "title": tuple("title name movietitle producttitle itemname productname booktitle description".split()),
    "category": tuple("category maincategory department classname categories".split()),
    "genre": ("genre", "genres"),
    "year": tuple("year releaseyear yearofpublication".split()),
    "part": ("part", "split"),
}
WANTED: dict[Role, tuple[str, ...]] = {
    "interactions": (
        *("user_id", "item_id", "timestamp", "rating", "event", "review"),
        *("basket", "title", "category", "part"),
    ),
    "items": ("item_id", "title", "category", "genre", "year"),
    "users": ("user_id",),
}
KEY: dict[Role, str] = {"items": "item_id", "users": "user_id"}
IDS = ("user_id", "item_id", "basket")
HEADINGS = ("title", "name", "description")  # beside a review they are its own, not the item's title
LISTS = ("genre", "tags", "keywords", "categories")  # lists even if few values show it
ROW = "row"  # the place in the file, from 0; ours alone
NO_VALUE = ("", "nan", "na", "n/a", "null", "none", "\\n")  # in a column of numbers or times
RECBOLE = re.compile(r":(token|token_seq|float|float_seq)$")
SHOWN = 5
YEARS = (-2_208_988_800, 4_133_980_799)  # 1900 to 2100 in seconds since 1970


def plain(name: str) -> str:
    """A column name as tasks and conditions write it: `Release Year` is `release_year`."""
    return re.sub(r"[\s\-.]+", "_", RECBOLE.sub("", name).strip()).lower()


def squeezed(name: str) -> str:
    """A column name as it is compared: `userId`, `User Id` and `user_id` are the same."""
    return re.sub(r"[\W_]+", "", RECBOLE.sub("", name)).lower()


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
    Raises DataError for a missing item or user column, an id that a catalogue has twice, and rows without an item or
    with a rating that is no number or a timestamp that is no time. `bad_rows="skip"` drops and counts these rows.
    """
    try:
        return _canonical(frame, role, file, mapping or {}, title, bad_rows)
    except pl.exceptions.PolarsError as error:
        why = str(error).strip().splitlines()[0]
        allowed = "; allowed: numbers of 64 bits" if why.startswith("conversion") else ""
        raise DataError(f"{file}: {why}{allowed}") from error


def _canonical(
    frame: pl.DataFrame, role: Role, file: str, mapping: Mapping[str, str], title: str | None, bad_rows: BadRows
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    columns = recognise(frame, role, file, mapping)
    renamed = [f"{c} is {s}" for s, c in columns.items() if plain(c) != s]
    notes = [f"{file}: {', '.join(renamed)}"] if renamed else []
    notes += [
        f"{file}: there is no column {c!r} (--column {s}={c}), {columns[s]!r} is taken"
        for s, c in mapping.items()
        if s in columns and c not in frame.columns
    ]
    if title is not None and (role == "items" or (role == "interactions" and _has_fields(frame, title))):
        frame = frame.with_columns(composed(frame, title, file).alias("\0title"))
        columns["title"] = "\0title"
    if role == "interactions" and "event" not in columns:
        notes.append(f"{file}: no event column, every row counts as {unnamed_event([*columns])}")
    rest, unused = others(frame, columns)
    if unused:
        notes.append(f"{file}: {', '.join(unused)} not used: no text, number or list of these")
    found = frame.select(*(pl.col(c).alias(s) for s, c in columns.items()), *(pl.col(c).alias(s) for s, c in rest))
    found = found.with_row_index(ROW)
    found, dropped = typed(found, role, file, bad_rows)
    if dropped:
        notes.append(f"{file}: {dropped:,} rows with values that cannot be used were dropped")
    if role == "interactions":
        return found, tuple(notes)
    if role == "items" and "title" not in found.columns:
        found = found.with_columns(pl.lit(None, dtype=pl.String).alias("title"))
    return _catalogue(found, KEY[role], file, notes), tuple(notes)


def _catalogue(frame: pl.DataFrame, key: str, file: str, notes: list[str]) -> pl.DataFrame:
    """One row per id."""
    without = frame[key].null_count()
    if without:
        notes.append(f"{file}: {without:,} rows without {key} were dropped")
        frame = frame.filter(pl.col(key).is_not_null())
    twice = frame.filter(pl.col(key).is_duplicated())
    if twice.height:
        rows = twice.group_by(key, maintain_order=True).agg(pl.col(ROW) + 1)
        shown = "; ".join(f"{i!r} in rows {', '.join(map(str, r[:SHOWN]))}" for i, r in rows.head(SHOWN).iter_rows())
        raise DataError(f"{file}: {rows.height:,} {key}s occur more than once ({shown}); each may occur once")
    return frame.drop(ROW)


def recognise(frame: pl.DataFrame, role: Role, file: str, mapping: Mapping[str, str]) -> dict[str, str]:
    """Standard name -> column of the file: what `mapping` says, else the first alias that the file has."""
    columns = frame.columns
    found: dict[str, str] = {}
    for standard, column in mapping.items():
        if standard not in ALIASES:
            raise DataError(unknown_name("column meaning", standard, ALIASES, f"in --column {standard}={column}"))
        if standard in WANTED[role] and column in columns:
            check_type(frame, standard, column, file)
            found[standard] = column
    lists: dict[str, str] = {}  # columns that only their type keeps from a meaning
    by_name = {squeezed(c): c for c in reversed(columns)}
    for standard in WANTED[role]:
        names = ALIASES[standard]
        if standard == "genre" and PurePath(file).suffix == ".item":
            names = (*names, "class")  # RecBole's MovieLens files
        if standard == "title" and role == "interactions" and "item_id" not in found:
            continue
        for alias in names:
            named = by_name.get(alias)
            if standard in found or named is None or named in found.values():
                continue
            if alias in HEADINGS and role == "interactions" and "review" in found:
                continue
            if isinstance(frame.schema[named], pl.List) and standard != "genre":
                lists[standard] = named
            elif standard != "category" or _single_valued(frame[named]):
                check_type(frame, standard, named, file)
                found[standard] = named
    # One option serves all files: what another file may have is no mistake here.
    elsewhere = ("title", "category") if role == "interactions" else ("category",)
    for standard, column in mapping.items():
        if standard in WANTED[role] and column not in columns and standard not in elsewhere:
            if standard in ("user_id", "item_id") and standard in found:
                continue
            raise DataError(f"{file}: " + unknown_name("column", column, columns, f"in --column {standard}={column}"))
    for needed in (KEY[role],) if role in KEY else () if "review" in found else ("item_id", "user_id"):
        if needed not in found:
            if needed in lists:
                check_type(frame, needed, lists[needed], file)
            raise DataError(missing_column(needed, columns, found, file))
    return {s: found[s] for s in WANTED[role] if s in found}


def check_type(frame: pl.DataFrame, standard: str, column: str, file: str) -> None:
    """Raises DataError where a column's type cannot carry the meaning."""
    dtype = frame.schema[column]
    if unusable(innermost(dtype) if standard == "genre" else dtype):
        raise DataError(
            f"{file}: column {column!r} is {standard} and holds {dtype}; allowed: text, numbers or times. "
            f"Another column: --column {standard}=NAME"
        )


def unusable(dtype: pl.DataType) -> bool:
    """Whether a type holds neither text nor numbers."""
    return dtype.is_nested() or dtype in (pl.Binary, pl.Duration, pl.Object)


def innermost(dtype: pl.DataType) -> pl.DataType:
    """What a list of lists holds in the end."""
    while isinstance(dtype, pl.List):
        assert isinstance(dtype.inner, pl.DataType)
        dtype = dtype.inner
    return dtype


def _single_valued(values: pl.Series) -> bool:
    if values.dtype != pl.String:
        return not values.dtype.is_nested()
    if squeezed(values.name) in LISTS:
        return not (values.str.starts_with("[").any() or (as_lists(values).list.len() > 1).any())
    return not values.str.contains("|", literal=True).any()


def others(frame: pl.DataFrame, columns: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(name, column of the file) of the columns that no standard name took, and the columns that are no attribute."""
    taken = {*columns, ROW}
    rest: list[tuple[str, str]] = []
    unused: list[str] = []
    for column, dtype in frame.schema.items():
        if column in columns.values():
            continue
        if unusable(innermost(dtype)) or dtype == pl.Null:
            unused.append(column)
            continue
        base = plain(column) or "column"
        if base == "title" and "review" in columns:
            base = "heading"  # of the review
        # A list that has the name of a text or a number is neither.
        not_ours = {*ALIASES} - {"category", "genre"} if dtype == pl.List else set()
        names = (base, *(f"{base}_{i}" for i in range(2, len(frame.columns) + 3)))
        name = next(n for n in names if n not in taken and n not in not_ours)
        taken.add(name)
        rest.append((name, column))
    return rest, unused


def missing_column(needed: str, columns: list[str], found: Mapping[str, str], file: str) -> str:
    """`FILE has no item_id column. It has: a, b. The nearest name is 'b'. ...`"""
    free = [c for c in columns if c not in found.values()]
    likeness = {
        c: max(difflib.SequenceMatcher(None, squeezed(c), alias).ratio() for alias in ALIASES[needed]) for c in free
    }
    best = max(likeness, key=lambda c: likeness[c], default=None)
    near = best if best is not None and likeness[best] >= 0.6 else None
    nearest = f" The nearest name is {near!r}." if near else ""
    return (
        f"{file} has no {needed} column. It has: {', '.join(columns)}.{nearest} "
        f"Say which it is with --column {needed}={near or 'NAME'}"
    )


def _fields(template: str) -> list[tuple[str, str | None]]:
    """The texts of a title template, each with the column that follows it."""
    try:
        found = [(literal, name) for literal, name, _, _ in string.Formatter().parse(template)]
    except ValueError as error:
        raise DataError(f"--title {template!r} cannot be read ({error}); write a column as {{name}}") from error
    if all(name is None for _, name in found):
        raise DataError(f"--title {template!r} names no column; write a column as {{name}}")
    return found


def _has_fields(frame: pl.DataFrame, template: str) -> bool:
    return all(name in (None, *frame.columns) for _, name in _fields(template))


def composed(frame: pl.DataFrame, template: str, file: str) -> pl.Expr:
    """A title from other columns; missing values leave no gap."""
    parts = []
    for literal, name in _fields(template):
        if literal:
            parts.append(pl.lit(literal))
        if name is not None:
            if name not in frame.columns:
                raise DataError(f"{file}: " + unknown_name("column", name, frame.columns, f"in --title {template!r}"))
            if unusable(frame.schema[name]):
                raise DataError(
                    f"{file}: column {name!r} in --title {template!r} holds {frame.schema[name]}; "
                    "allowed: text, numbers or times"
                )
            parts.append(pl.col(name).cast(pl.String).fill_null(""))
    return pl.concat_str(parts).str.replace_all(r"\s+", " ").str.strip_chars()


# --- types --------------------------------------------------------------------------------------------------------


def typed(frame: pl.DataFrame, role: Role, file: str, bad_rows: BadRows) -> tuple[pl.DataFrame, int]:
    """Standard columns with their types, the rest guessed; and how many rows were dropped."""
    before = frame.height
    for column in IDS:
        if column in frame.columns and frame.schema[column].is_float():
            beyond = (pl.col(column).fill_nan(None).abs() >= 2.0**63).fill_null(False)
            what = "text or a number below 2^63"
            frame = checked(frame, frame[column], column, what, file, bad_rows, beyond)
    frame = frame.with_columns(as_id(frame[c]).alias(c) for c in IDS if c in frame.columns)
    if role == "interactions":
        if "rating" in frame.columns:
            frame = checked(frame, as_number(frame["rating"]), "rating", "a number", file, bad_rows)
        if "timestamp" in frame.columns:
            what = "a time of the years 1900 to 2100: seconds, milliseconds or an ISO date"
            frame = checked(frame, as_seconds(frame["timestamp"]), "timestamp", what, file, bad_rows)
        if "item_id" in frame.columns and "review" not in frame.columns:
            frame = checked(frame, frame["item_id"], "item_id", "there", file, bad_rows, pl.col("item_id").is_null())
        default = pl.lit(unnamed_event(frame.columns))
        if "event" in frame.columns:
            event = pl.col("event").cast(pl.String).str.strip_chars().str.to_lowercase()
            event = event.replace("", None).fill_null(default)
        else:
            event = default
        frame = frame.with_columns(event.alias("event"))
    texts = [c for c in ("review", "title", "part") if c in frame.columns]
    frame = frame.with_columns(pl.col(c).cast(pl.String).str.strip_chars().replace("", None) for c in texts)
    known = {*IDS, "rating", "timestamp", "event", *texts, ROW} if role == "interactions" else {*IDS, *texts, ROW}
    frame = frame.with_columns(guessed(frame[c]) for c in frame.columns if c not in known)
    return frame, before - frame.height


def unnamed_event(columns: list[str]) -> str:
    """What an interaction without an event is: with a rating a rating, on an order or invoice a purchase."""
    return "rating" if "rating" in columns else "purchase" if "basket" in columns else "interaction"


def checked(
    frame: pl.DataFrame,
    parsed: pl.Series,
    column: str,
    what: str,
    file: str,
    bad_rows: BadRows,
    wrong: pl.Expr | None = None,
) -> pl.DataFrame:
    """The frame with the parsed column; rows with a wrong value are an error that shows five of them, or dropped.

    wrong: default: there is a value, and it could not be parsed.
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
    shown = frame.filter(is_wrong).head(SHOWN).select(ROW, column)
    values = "; ".join(f"row {row + 1}: {'nothing' if v is None else repr(v)}" for row, v in shown.iter_rows())
    raise DataError(
        f"{file}: {column} must be {what}; {int(is_wrong.sum()):,} rows are not ({values}). "
        "Mend them, or give --bad-rows skip"
    )


def as_id(values: pl.Series) -> pl.Series:
    """Ids as text in Unicode's composed form (NFC), trimmed: `007` stays, 7.0 read from a float column is `7`."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
        whole = (values == values.floor()).all()
        values = values.cast(pl.Int64) if whole else values
    text = values.cast(pl.String).str.strip_chars()
    beyond_ascii = text.filter(text.str.len_bytes() != text.str.len_chars()).unique()
    if len(beyond_ascii):
        composed = {v: unicodedata.normalize("NFC", v) for v in beyond_ascii}
        text = text.replace({v: c for v, c in composed.items() if v != c})
    return text.replace("", None)


def as_number(values: pl.Series) -> pl.Series:
    """Finite numbers; null where the value is none."""
    if not values.dtype.is_numeric():
        values = values.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    values = values.cast(pl.Float64)
    return values if values.is_finite().all() else values.set(~values.is_finite(), None)


def as_seconds(values: pl.Series) -> pl.Series:
    """Seconds since 1970 from numbers, dates or ISO texts (UTC where they say nothing); null beyond 1900 to 2100."""
    found = _seconds(values)
    return found.set(~found.is_between(*YEARS), None)


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
    found = to_seconds(number)
    for pattern in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f%z"):
        if found.null_count() > values.null_count():
            found = found.fill_null(text.str.to_datetime(pattern, strict=False, time_unit="us").dt.epoch("s"))
    for pattern in ("%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M"):  # only where they explain the whole column
        parsed = text.str.to_datetime(pattern, strict=False, time_unit="us").dt.epoch("s")
        if parsed.null_count() == values.null_count():
            return parsed
    return found


def to_seconds(number: pl.Series) -> pl.Series:
    """Seconds; the median tells milli-, micro- and nanoseconds; a column of eight-digit dates is YYYYMMDD."""
    low, high = number.min(), number.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return number.cast(pl.Int64)
    if 19_000_101 <= low and high <= 21_001_231:
        dates = number.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        if dates.null_count() == number.null_count():
            return dates.dt.epoch("s")
    middle = number.abs().median()
    assert isinstance(middle, float)
    unit = next((unit for unit, least in ((1e9, 1e17), (1e6, 1e14), (1e3, 1e11)) if middle > least), 1.0)
    return (number / unit).floor().cast(pl.Int64, strict=False)


def as_lists(text: pl.Series) -> pl.Series:
    """Texts as lists: JSON lists and parts between bars, or between commas where a fifth has one and none a bar."""
    written = text.filter(text.str.starts_with("[")).unique()
    text = text.replace({v: _bars(v) for v in written})
    commas = text.str.contains(", ", literal=True).sum()
    barred = len(written) or text.str.contains("|", literal=True).any()
    return text.str.split("|" if barred or commas < text.count() / 5 else ", ")


def _bars(text: str) -> str | None:
    """A JSON list with bars between its values; any other text as it is."""
    try:
        values = json.loads(text)
    except ValueError:
        return text
    return "|".join(str(v) for v in values if v is not None) or None


def guessed(values: pl.Series) -> pl.Series:
    """An attribute as Int64, Float64, List(String) or String."""
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
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == text.null_count():
        return whole
    number = as_number(text)
    return number if number.null_count() == text.null_count() else text
