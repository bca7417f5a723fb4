"""A sheet of a workbook as a frame of raw columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..errors import DataError, UnknownNameError
from ..extras import require
from .columns import fits, role_by_columns
from .dialect import LINES, has_header, preamble
from .source import Reading, Role, Table, error_line
from .unnamed import with_meanings

if TYPE_CHECKING:
    import fastexcel

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
BLANK = "__UNNAMED__"  # how a column without a name is called while a sheet is read
SHOWN = 12  # columns of a sheet in a message


@dataclass(frozen=True)
class Sheet:
    """A sheet with its table; skipped: a text above it; named: whether the table names its columns."""

    name: str
    frame: pl.DataFrame
    skipped: str
    named: bool


def read_sheet(file: Path, sheet: str, name: str, reading: Reading) -> Table:
    """The sheet of that name, else the first that has the columns of what is read; its cells keep their types.

    Raises UnavailableError without fastexcel, UnknownNameError for a sheet that is not there, DataError for a file
    that is no workbook and for several sheets of which none has the columns.
    """
    require("xlsx")
    import fastexcel

    try:
        workbook = fastexcel.read_excel(str(file))
    except fastexcel.FastExcelError as error:
        raise DataError(f"{name} is not a workbook that can be read: {error_line(error)}") from error
    if sheet and sheet not in workbook.sheet_names:
        raise UnknownNameError("sheet", sheet, workbook.sheet_names, f"in {name}")
    sheets = [_sheet(file, workbook, s, reading) for s in ([sheet] if sheet else workbook.sheet_names)]
    filled = [s for s in sheets if s.frame.width]
    if not filled:
        raise DataError(f"{name} has no sheet with rows")
    chosen = _chosen(filled, name, reading)
    if not chosen.frame.height:
        raise DataError(f"{name}: sheet {chosen.name!r} has no rows below its header")
    others = [s.name for s in filled if s is not chosen]
    notes = [f"sheet {chosen.name!r}; not read: {', '.join(others)} ({name}#SHEET names one)"] if others else []
    notes += [f"begins below {chosen.skipped!r}"] if chosen.skipped else []
    return Table(chosen.frame, tuple(f"{name}: {note}" for note in notes), chosen.named)


def _chosen(sheets: list[Sheet], name: str, reading: Reading) -> Sheet:
    """The first sheet that holds what is read, or could."""
    role, columns = reading.role, reading.columns
    if len(sheets) == 1:
        return sheets[0]
    told = {s.name: role_by_columns(s.frame, columns) if s.named else None for s in sheets}
    if role is None:
        return next((s for s in sheets if told[s.name] is not None), sheets[0])
    fitting = [s for s in sheets if told[s.name] == role] or [s for s in sheets if _could_be(s, role, columns)]
    if not fitting:
        have = "; ".join(f"{s.name!r} has {', '.join(s.frame.columns[:SHOWN])}" for s in sheets)
        raise DataError(
            f"{name}: no sheet has the columns of {role}: {have}. Name one as {name}#SHEET, and its columns with "
            f"--column {'user_id' if role == 'users' else 'item_id'}=NAME"
        )
    return fitting[0]


def _could_be(sheet: Sheet, role: Role, columns: Mapping[str, str]) -> bool:
    if sheet.named:
        return fits(sheet.frame, role, columns)
    try:
        with_meanings(sheet.frame, role, columns, sheet.name)
    except DataError:
        return False
    return True


def _sheet(file: Path, workbook: "fastexcel.ExcelReader", sheet: str, reading: Reading) -> Sheet:
    """A sheet whose table begins below empty rows and headings, its columns without a name called `column_2`."""
    top = workbook.load_sheet(sheet, header_row=None, skip_rows=0, n_rows=LINES, dtypes="string").to_polars()
    rows = [[str(v) for v in row if v is not None and str(v).strip()] for row in top.iter_rows()]
    start = next((n for n, row in enumerate(rows) if row), len(rows))
    more, skipped = preamble(rows[start:], [" ".join(row) for row in rows[start:]])
    start += more
    cells = [["" if v is None else str(v) for v in row] for row in top[start:].iter_rows()]
    cells = [row for row in cells if any(row)]
    named = not cells or reading.header == "yes"
    named = named or (reading.header == "auto" and has_header(cells, reading.columns.values()))
    frame = _cells(file, sheet, {"header_row": start} if named else {"header_row": None, "skip_rows": start})
    if named:
        blank = [c for c in frame.columns if c.startswith(BLANK)]
        frame = frame.drop(c for c in blank if frame[c].null_count() == frame.height)
        return Sheet(
            sheet, frame.rename({c: f"column_{int(c[len(BLANK) :]) + 1}" for c in blank if c in frame}), skipped, True
        )
    return Sheet(sheet, frame.rename({c: str(n + 1) for n, c in enumerate(frame.columns)}), skipped, False)


def _cells(file: Path, sheet: str, options: Mapping[str, int | None]) -> pl.DataFrame:
    return pl.read_excel(
        file,
        sheet_name=sheet,
        engine="calamine",
        has_header=options["header_row"] is not None,
        read_options=dict(options),
        infer_schema_length=None,
        raise_if_empty=False,
    )
