"""Tables of any frame library as polars frames."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from .errors import DataError

SHOWN = 20  # rows of a table that is shown
WIDEST = 60  # characters of a value that is shown
Table = Any  # a frame of any library, a list of dicts, a dict of columns, a structured array
KINDS = "a frame of pandas, polars or pyarrow, a list of dicts, a dict of columns or a structured array of numpy"


def is_table(value: object) -> bool:
    """Whether a value is a table: a frame, even a lazy one, a list of dicts, a dict or a structured array."""
    if isinstance(value, Mapping):
        return True
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) > 0 and all(isinstance(row, Mapping) for row in value)
    return hasattr(type(value), "columns") or bool(getattr(getattr(value, "dtype", None), "names", None))


def to_polars(table: Any, what: str) -> pl.DataFrame:
    """A table as a polars frame, categories as text; the named index of a pandas frame is a column like the others.

    what: its name in messages. Raises DataError for what is no table, and for columns that cannot be read.
    """
    if not is_table(table):
        raise DataError(f"{what} is a {type(table).__name__}: {KINDS} is needed")
    table = table.collect() if isinstance(table, pl.LazyFrame) else table
    frame = table if isinstance(table, pl.DataFrame) else converted(table, what)
    texts = [c for c, t in frame.schema.items() if t in (pl.Categorical, pl.Enum)]
    return frame.with_columns(pl.col(c).cast(pl.String) for c in texts)


def converted(table: Any, what: str) -> pl.DataFrame:
    """A table of another kind than polars' own."""
    import pyarrow

    try:
        if isinstance(table, Mapping):
            return pl.DataFrame([column_of(str(name), values) for name, values in table.items()])
        if isinstance(table, Sequence):
            return pl.DataFrame([dict(row) for row in table], infer_schema_length=None, strict=False)
        if hasattr(table, "dtype") or isinstance(table, pyarrow.RecordBatch):
            return pl.DataFrame(table)
        return of_library(table, what)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{what} cannot be read as a table: {reason}") from error


def of_library(table: Any, what: str) -> pl.DataFrame:
    """A frame of pandas, pyarrow or another library that narwhals knows."""
    import narwhals as nw

    names = [str(name) for name in getattr(table, "column_names", table.columns)]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise DataError(f"{what} has several columns named {repeated[0]!r}; each name may occur once")
    if hasattr(table, "reset_index"):  # pandas
        index = [name for name in table.index.names if name is not None]
        table = table.reset_index(level=[n for n in index if str(n) not in names]) if index else table
        table = table.rename(columns=str)
    frame = nw.from_native(table)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect(backend="polars")
    columns = []
    for column in frame.iter_columns():
        mixed = column.dtype == nw.Object  # of several types, as text beside numbers
        columns.append(column_of(column.name, column.to_list()) if mixed else column.to_polars())
    return pl.DataFrame(columns)


def column_of(name: str, values: Any) -> pl.Series:
    """A column of Python's values, which may be of several types: then they are text; pandas' missing ones are
    null."""
    if not isinstance(values, list | tuple):
        return pl.Series(name, values)
    present = [None if value is None or is_missing(value) else value for value in values]
    if len({type(value) for value in present if value is not None} - {int, float}) > 1 or has_both(present):
        present = [None if value is None else str(value) for value in present]
    return pl.Series(name, present, strict=False)


def has_both(values: Sequence[object]) -> bool:
    """Whether text stands beside numbers."""
    kinds = {isinstance(value, str) for value in values if value is not None}
    return len(kinds) > 1


def is_missing(value: object) -> bool:
    """Whether a value is nan, pandas' NA or NaT: what does not equal itself, and what cannot say."""
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def shown_value(value: object) -> str:
    """A value as a table shows it: numbers with four digits, long texts cut."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping | list):
        value = ", ".join(map(shown_value, value))
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def as_text(frame: pl.DataFrame) -> str:
    """A frame as text, its first rows only."""
    cells = [frame.columns, *([shown_value(v) for v in row] for row in frame.head(SHOWN).iter_rows())]
    widths = [max(len(row[n]) for row in cells) for n in range(frame.width)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, *more_rows(frame)])


def as_html(frame: pl.DataFrame, title: str, notes: Sequence[str] = ()) -> str:
    """A frame as an HTML table under a title, its first rows only, and notes below; every text is escaped."""

    def row(tag: str, values: Sequence[object]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(shown_value(v))}</{tag}>' for v in values)}</tr>"

    body = "".join(row("td", values) for values in frame.head(SHOWN).iter_rows())
    below = "".join(f"<div>{html.escape(note)}</div>" for note in [*more_rows(frame), *notes])
    head = f"<div><b>{html.escape(title)}</b></div>"
    return f"{head}<table><thead>{row('th', frame.columns)}</thead><tbody>{body}</tbody></table>{below}"


def more_rows(frame: pl.DataFrame) -> list[str]:
    """A line on the rows that are not shown; nothing if all are."""
    return [f"... {frame.height - SHOWN:,} more rows in .frame"] if frame.height > SHOWN else []
