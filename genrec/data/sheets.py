"""A sheet of a workbook as a frame of raw columns."""

from pathlib import Path

import polars as pl

from ..errors import DataError, UnknownNameError
from ..extras import require
from .dialect import has_header
from .source import Reading, Table, error_line

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")


def read_sheet(file: Path, sheet: str, name: str, reading: Reading) -> Table:
    """The sheet of that name, else the first that is not empty; its cells keep their types.

    Raises UnavailableError without fastexcel, UnknownNameError for a sheet that is not there, DataError for a file
    that is no workbook.
    """
    require("xlsx")
    import fastexcel

    try:
        workbook = fastexcel.read_excel(str(file))
    except fastexcel.FastExcelError as error:
        raise DataError(f"{name} is not a workbook that can be read: {error_line(error)}") from error
    if sheet and sheet not in workbook.sheet_names:
        raise UnknownNameError("sheet", sheet, workbook.sheet_names, f"in {name}")
    frames = {s: _cells(file, s, True) for s in ([sheet] if sheet else workbook.sheet_names)}
    filled = [s for s, frame in frames.items() if frame.width]
    if not filled:
        raise DataError(f"{name} has no sheet with rows")
    frame = frames[filled[0]]
    first = [frame.columns, *([str(v) for v in row] for row in frame.head(100).iter_rows())]
    named = reading.header == "yes" or (reading.header == "auto" and has_header(first, reading.columns.values()))
    if not named:
        frame = _cells(file, filled[0], False)
        frame = frame.rename({c: str(n + 1) for n, c in enumerate(frame.columns)})
    if not frame.height:
        raise DataError(f"{name}: sheet {filled[0]!r} has no rows below its header")
    others = [s for s in filled if s != filled[0]]
    note = f"{name}: sheet {filled[0]!r}; not read: {', '.join(others)} ({name}#SHEET names one)" if others else ""
    return Table(frame, (note,) if note else (), named)


def _cells(file: Path, sheet: str, header: bool) -> pl.DataFrame:
    return pl.read_excel(
        file, sheet_name=sheet, engine="calamine", has_header=header, infer_schema_length=None, raise_if_empty=False
    )
