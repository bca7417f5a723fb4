"""Files to frames of raw columns: CSV, TSV, JSON lines, Parquet, RecBole files. Text stays text: `007` stays `007`."""

import csv
import io
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ..errors import DataError

BadRows = Literal["error", "skip"]
DELIMITED = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
ATOMIC = (".inter", ".item", ".user")
OTHERS = {";": "semicolon", "\t": "tab", ",": "comma", "|": "bar", ":": "colon"}


def read_table(path: Path, *, bad_rows: BadRows = "error") -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The columns of a file as it names them, and notes.

    Delimited text is all String (RecBole's token_seq columns List(String)); Parquet and JSON keep their types. Raises
    DataError for a missing or empty file, an unknown kind, a wrong delimiter and rows that cannot be parsed.
    """
    if not path.exists():
        near = (
            sorted(p.name for p in path.parent.glob("*") if p.suffix in (*DELIMITED, *JSON_LINES, *PARQUET))[:5]
            if path.parent.is_dir()
            else []
        )
        raise DataError(f"{path} does not exist" + (f"; beside it are {', '.join(near)}" if near else ""))
    if path.is_dir():
        raise DataError(f"{path} is a folder; a file is expected")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    kind = path.suffix.lower()
    if kind in PARQUET:
        return _parquet(path), ()
    if kind in JSON_LINES:
        return _json_lines(path, bad_rows)
    if kind in DELIMITED:
        return _delimited(path, DELIMITED[kind], bad_rows)
    known = ", ".join((*DELIMITED, *JSON_LINES, *PARQUET))
    raise DataError(f"{path}: files ending in {kind or 'nothing'} are not read; allowed: {known}")


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {_line(error)}") from error


def _json_lines(path: Path, bad_rows: BadRows) -> tuple[pl.DataFrame, tuple[str, ...]]:
    try:
        return pl.read_ndjson(path, infer_schema_length=10_000), ()
    except pl.exceptions.PolarsError as error:
        import json

        good: list[dict[str, Any]] = []
        bad: list[str] = []
        n_bad = 0
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                    if not isinstance(value, dict):
                        raise ValueError("not an object")
                    good.append(value)
                except ValueError:
                    n_bad += 1
                    if len(bad) < 5:
                        bad.append(f"line {number}: {line.strip()[:80]}")
        if bad and (bad_rows == "error" or not good):
            raise DataError(
                f"{path}: {n_bad:,} lines are not JSON objects ({'; '.join(bad)}). Mend them, or give --bad-rows skip"
            ) from error
        frame = pl.DataFrame(good, infer_schema_length=None, strict=False)
        return frame, ((f"{path.name}: {n_bad:,} lines that are not JSON were dropped",) if n_bad else ())


def _delimited(path: Path, separator: str, bad_rows: BadRows) -> tuple[pl.DataFrame, tuple[str, ...]]:
    with path.open("rb") as file:
        head = file.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if head.count(separator) == 0:
        better = max(OTHERS, key=head.count)
        if head.count(better):
            raise DataError(
                f"{path}: only one column found when split at {OTHERS[separator]}s: {head[:60]!r}. It seems to be split at {OTHERS[better]}s; "
                f"rewrite it, or name it .tsv if it is split at tabs"
            )
    atomic = path.suffix.lower() in ATOMIC
    quote = None if atomic else '"'
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema=False, quote_char=quote, encoding="utf8")
        bad: list[tuple[int, str]] = []
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} has no rows") from error
    except pl.exceptions.PolarsError as error:
        frame, bad = _row_by_row(path, separator, quote)
        if not bad:
            raise DataError(f"{path} cannot be read: {_line(error)}") from error
    if bad and bad_rows == "error":
        shown = "; ".join(f"row {n}: {text[:80]!r}" for n, text in bad[:5])
        raise DataError(
            f"{path}: {len(bad):,} rows do not have the {frame.width} columns of the header ({shown}). Mend them, or give --bad-rows skip"
        )
    if frame.height == 0:
        raise DataError(f"{path} has a header and no rows")
    if atomic:
        frame = _atomic(frame)
    return frame, ((f"{path.name}: {len(bad):,} rows that cannot be parsed were dropped",) if bad else ())


def _row_by_row(path: Path, separator: str, quote: str | None) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """The rows that have as many fields as the header, and those that have not; the slow way, for broken files only."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    )
    header = next(reader)
    good, bad = [], []
    for number, row in enumerate(reader, start=1):
        if len(row) == len(header):
            good.append(row)
        elif row:
            bad.append((number, separator.join(row)))
    return pl.DataFrame(good, schema={name: pl.String for name in header}, orient="row"), bad


def _atomic(frame: pl.DataFrame) -> pl.DataFrame:
    """RecBole's `name:type` headers as names; sequences of tokens as lists. A title is one text, whatever its type says."""
    columns = []
    for full in frame.columns:
        name, _, kind = full.partition(":")
        value = pl.col(full).replace("", None)
        if kind == "token_seq" and not name.endswith(("title", "name")):
            value = value.str.split(" ")
        columns.append(value.alias(name))
    return frame.select(columns)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
