"""CSV, TSV, JSON lines, Parquet and RecBole files to frames of raw columns. Text stays text: `007` stays `007`."""

import csv
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from ..errors import DataError
from .source import Bad, BadRows, error_line

ATOMIC = (".inter", ".item", ".user")
DELIMITED = {".csv": ",", ".tsv": "\t"} | dict.fromkeys(ATOMIC, "\t")
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
TYPED = re.compile(r"(.+):(token|token_seq|float|float_seq)")  # RecBole's headers
SHOWN = 5  # bad rows in a message
LONGEST_RECORD = 1000  # lines that one quoted record may span in a file with bad rows


def read_table(path: Path, *, bad_rows: BadRows = "error") -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The columns of a file under its own names, and notes.

    Delimited text is all String, empty fields null (RecBole's token_seq columns List(String), float_seq List(Float64));
    Parquet and JSON keep their types. Raises DataError for a missing or empty file, an unknown kind, a wrong delimiter
    and rows that cannot be parsed; `bad_rows="skip"` drops these and counts them in a note.
    """
    kind = path.suffix.lower()
    if not path.exists():
        raise DataError(f"{path} does not exist{_beside(path)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; a file is expected")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    bad: list[Bad] = []
    n_bad = 0
    try:
        if kind in PARQUET:
            frame = _parquet(path)
        elif kind in JSON_LINES:
            frame, bad, n_bad = _json_lines(path)
        elif kind in DELIMITED:
            frame, bad, n_bad = _delimited(path, DELIMITED[kind])
        else:
            allowed = ", ".join((*DELIMITED, *JSON_LINES, *PARQUET))
            raise DataError(f"{path}: files ending in {kind or 'nothing'} are not read; allowed: {allowed}")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if bad and bad_rows == "error":
        examples = "; ".join(f"row {b.row}: {b.text[:80]!r} {b.why}" for b in bad)
        raise DataError(
            f"{path}: {n_bad:,} rows cannot be parsed ({examples}{'; ...' if n_bad > len(bad) else ''}). "
            "Mend them, or give --bad-rows skip"
        )
    if not frame.height:
        raise DataError(
            f"{path} has no rows{f' that can be parsed ({n_bad:,} cannot)' if bad else ' below its header'}"
        )
    return frame, ((f"{path.name}: {n_bad:,} rows that cannot be parsed were dropped",) if bad else ())


def _beside(path: Path) -> str:
    """A hint that lists the data files in the folder of a mistyped path."""
    if not path.parent.is_dir():
        return ""
    names = sorted(p.name for p in path.parent.iterdir() if p.suffix.lower() in (*DELIMITED, *JSON_LINES, *PARQUET))
    return f"; beside it are {', '.join(names[:5])}" if names else ""


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {error_line(error)}") from error


def _json_lines(path: Path) -> tuple[pl.DataFrame, list[Bad], int]:
    with path.open("rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
            return _json_array(path), [], 0
    try:
        return pl.read_ndjson(path, infer_schema_length=None), [], 0
    except pl.exceptions.PolarsError:  # find the broken lines
        good: list[dict[str, Any]] = []
        bad: list[Bad] = []
        n_bad = row = 0
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for line in file:
                if not line.strip():
                    continue
                row += 1
                try:
                    value = json.loads(line)
                    reason = "" if isinstance(value, dict) else "is not an object"
                except ValueError:
                    reason = "is not JSON"
                if not reason:
                    good.append(value)
                    continue
                n_bad += 1
                if len(bad) < SHOWN:
                    bad.append(Bad(row, line.strip(), reason))
        return _records(path, good), bad, n_bad


def _records(path: Path, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Objects as a frame; a column whose values have no common type is an error that names it."""
    try:
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)
    except pl.exceptions.PolarsError as error:
        for column in dict.fromkeys(c for row in rows for c in row):
            try:
                pl.DataFrame([{column: row.get(column)} for row in rows], infer_schema_length=None, strict=False)
            except pl.exceptions.PolarsError as cause:
                raise DataError(
                    f"{path}: the values of column {column!r} are of different kinds ({error_line(cause)}); "
                    "allowed: one kind"
                ) from cause
        raise DataError(f"{path} cannot be read: {error_line(error)}") from error


def _json_array(path: Path) -> pl.DataFrame:
    try:
        return pl.read_json(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path} starts with [ and is not one JSON array of objects: {error_line(error)}. "
            "JSON lines hold one object per line"
        ) from error


def _delimited(path: Path, separator: str) -> tuple[pl.DataFrame, list[Bad], int]:
    with path.open("rb") as binary:
        head = binary.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
    _check_delimiter(path, head, separator)
    quote = None if path.suffix.lower() in ATOMIC else '"'
    bad: list[Bad] = []
    n_bad = 0
    try:
        frame = _read(path, separator, quote)
        broken = _has_short(frame, path, separator, head)
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} is empty") from error
    except pl.exceptions.PolarsError:  # too many fields, not UTF-8, an open quote
        broken = True
    if broken:
        good, bad, n_bad = _sift(path, separator, quote)
        try:
            frame = _read(good, separator, quote)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{path} cannot be read: {error_line(error)}") from error
    blank = _blank(frame)
    return _atomic(frame.filter(~blank) if blank.any() else frame), bad, n_bad


def _read(source: Path | io.BytesIO, separator: str, quote: str | None) -> pl.DataFrame:
    """All columns as text, empty fields null."""
    return pl.read_csv(source, separator=separator, infer_schema=False, quote_char=quote)


def _check_delimiter(path: Path, head: str, separator: str) -> None:
    if separator in head:
        return
    likely = max(DELIMITERS, key=head.count)
    if head.count(likely):
        other = next((f" or name it {s}" for s, d in DELIMITED.items() if d == likely), "")
        raise DataError(
            f"{path}: split at {DELIMITERS[separator]} there is only one column, {head[:60]!r}. "
            f"It seems to be split at {DELIMITERS[likely]}: write it with {DELIMITERS[separator]}{other}"
        )


def _has_short(frame: pl.DataFrame, path: Path, separator: str, head: str) -> bool:
    """Whether rows are too short, which polars fills with nulls: the file then lacks delimiters."""
    if frame.width == 1 or not frame.to_series(-1).null_count():
        return False
    in_fields = frame.select(pl.sum_horizontal(pl.all().str.count_matches(separator, literal=True).sum())).item()
    with path.open("rb") as file:
        in_file = sum(chunk.count(separator.encode()) for chunk in iter(lambda: file.read(1 << 24), b""))
    rows = frame.height - _blank(frame).sum()
    return bool(in_file != head.count(separator) + in_fields + rows * (frame.width - 1))


def _blank(frame: pl.DataFrame) -> pl.Series:
    """Which rows have no value at all."""
    if not frame.to_series(0).null_count():
        return pl.repeat(False, frame.height, eager=True)
    return frame.select(pl.all_horizontal(pl.all().is_null())).to_series()


def _sift(path: Path, separator: str, quote: str | None) -> tuple[io.BytesIO, list[Bad], int]:
    """The lines of the rows that can be parsed, and the bad rows; slow, for broken files only."""
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    good = io.BytesIO()
    bad: list[Bad] = []
    width = n_bad = 0
    start, row = 0, -1
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        row += 1
        fields, n_lines, reason = _record(lines, start, separator, quote)
        width = width or len(fields)  # of the header
        if not reason and len(fields) != width:
            reason = f"has {len(fields)} of {width} fields"
        if reason and n_lines > 1:  # an open quote swallowed the next lines: only the first one is bad
            n_lines, reason = 1, "has a quote that is never closed"
        if reason:
            n_bad += 1
            if len(bad) < SHOWN:
                bad.append(Bad(row, lines[start].decode("utf-8", errors="replace").rstrip("\r\n"), reason))
        else:
            good.writelines(lines[start : start + n_lines])
        start += n_lines
    good.seek(0)
    return good, bad, n_bad


def _record(lines: list[bytes], start: int, separator: str, quote: str | None) -> tuple[list[str], int, str]:
    """The fields of the record that starts at a line, how many lines it spans, and why it cannot be parsed."""
    texts = (line.decode("utf-8") for line in itertools.islice(lines, start, start + LONGEST_RECORD))
    reader = csv.reader(texts, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE, strict=True)
    try:
        return next(reader), reader.line_num, ""
    except UnicodeDecodeError:
        return [], 1, "is not UTF-8"
    except (csv.Error, StopIteration):
        return [], 1, "has a quote that is never closed"


def _atomic(frame: pl.DataFrame) -> pl.DataFrame:
    """RecBole's `name:type` headers as names; sequences as lists. A title is one text even if its type is token_seq."""
    headers = [TYPED.fullmatch(c) for c in frame.columns]
    if not all(headers):
        return frame
    columns = []
    for header in headers:
        assert header is not None
        name, kind = header.groups()
        value = pl.col(header.string)
        if kind == "float_seq":
            value = value.str.split(" ").cast(pl.List(pl.Float64), strict=False)
        elif kind == "token_seq" and not name.endswith(("title", "name")):
            value = value.str.split(" ")
        columns.append(value.alias(name))
    return frame.select(columns)
