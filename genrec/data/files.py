"""Files and folders as frames of raw columns: delimited text, JSON lines, Parquet, workbooks; also compressed."""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from ..errors import DataError
from .aliases import ALIASES, squeezed
from .delimited import OWN, read_delimited
from .encoding import as_utf8
from .packed import unpacked
from .sheets import WORKBOOKS, read_sheet
from .source import PACKED, SHOWN, Bad, Files, Reading, Table, bad_rows_note, error_line, part_of, unpacked_name

JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
TEXTS = (*OWN, ".txt", ".dat", ".data", ".psv", ".tab", ".log")
KINDS = (*TEXTS, *JSON_LINES, *PARQUET, *WORKBOOKS)
NO_DATA = ("readme", "license", "licence", "changelog")  # names of texts beside data
PARTS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}
HEAD = 1 << 20  # bytes of a text from which its columns are told
FIELDS = 50  # of a struct at most, for them all to become columns


def read_table(source: str | Path, reading: Reading | None = None) -> Table:
    """The columns of a file under its own names, or of all files of a folder.

    source: a path; after `#` a sheet of a workbook or a file of a zip archive. Delimited text is all String; Parquet,
    JSON and workbooks keep their types. Fields of structs are columns named `user.id`. Raises DataError for a file
    that is missing, empty or damaged, and for rows that cannot be parsed, which `bad_rows="skip"` drops and counts.
    """
    reading = reading or Reading()
    path, part = part_of(source)
    if not path.exists():
        raise DataError(f"{path} does not exist{_beside(path)}")
    try:
        table = read_folder(path, reading) if path.is_dir() else _read_file(path, part, reading)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return Table(unnested(table.frame, reading.columns.values()), table.notes, table.named)


def read_chosen(source: Files, reading: Reading) -> Table:
    """The columns of some files of a folder, as `read_table` reads them."""
    table = read_folder(source.folder, reading, source.files)
    return Table(unnested(table.frame, reading.columns.values()), table.notes, table.named)


def first_rows(file: Path, reading: Reading) -> Table:
    """The columns of a file and its first rows: of a long text those in its first MiB, else all. Bad ones are left."""
    reading = replace(reading, bad_rows="skip")
    with unpacked(file, "") as (whole, _), TemporaryDirectory(prefix="genrec-") as folder:
        with whole.open("rb") as text:
            head = text.read(HEAD)
        if len(head) == HEAD and kind_of(whole) in TEXTS and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
            whole = Path(folder) / whole.name
            whole.write_bytes(head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head)
        table = _read_file(whole, "", reading)
    return Table(unnested(table.frame, reading.columns.values()), table.notes, table.named)


def kind_of(path: Path) -> str:
    """The ending that says what a file holds, without that of its compression, in lower case."""
    suffixes = [s.lower() for s in path.suffixes]
    return next((s for s in reversed(suffixes) if s not in PACKED), "")


def _read_file(path: Path, part: str, reading: Reading) -> Table:
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    with unpacked(path, part) as (file, note):
        with file.open("rb") as opened:
            head = opened.read(256)
        kind = kind_of(file)
        if head.startswith(b"version https://git-lfs"):
            raise DataError(f"{path} is a Git LFS pointer and not the file itself: `git lfs pull` fetches it")
        if re.match(rb"\s*<(!doctype html|html)", head, re.IGNORECASE):
            raise DataError(f"{path} is a web page (HTML) and no data: the download may have failed")
        if kind in PARQUET or head.startswith(b"PAR1"):
            table = Table(_parquet(file, path))
        elif kind in WORKBOOKS:
            table = read_sheet(file, part, path.name, reading)
        elif kind in JSON_LINES or (kind not in TEXTS and re.match(rb'(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*"', head)):
            table = _json_lines(file, path, reading)
        elif (
            kind not in TEXTS
            and b"\0" in head
            and not head.startswith((b"\xff\xfe", b"\xfe\xff"))
            and head.count(b"\0") < len(head) / 4
        ):
            raise DataError(f"{path} is no text; files that are read: {', '.join(KINDS)}, also in {', '.join(PACKED)}")
        else:
            table = read_delimited(file, path, reading)
    return Table(table.frame, ((note,) if note else ()) + table.notes, table.named)


def _beside(path: Path) -> str:
    """A hint that lists the data files in the folder of a mistyped path."""
    if not path.parent.is_dir():
        return ""
    names = sorted(p.name for p in path.parent.iterdir() if kind_of(p) in KINDS)
    return f"; beside it are {', '.join(names[:5])}" if names else ""


# --- folders ------------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> list[Path]:
    """The data files in a folder and those below it, in the order of the numbers in their names."""
    files = [p for p in folder.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(folder))]
    files = [p for p in files if kind_of(p) in KINDS and p.name.split(".")[0].lower() not in NO_DATA]
    if not files:
        raise DataError(f"{folder} is a folder without data files; files that are read: {', '.join(KINDS)}")
    return sorted(files, key=lambda p: [t.zfill(20) if t.isdigit() else t for t in re.split(r"(\d+)", str(p))])


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def read_folder(folder: Path, reading: Reading, chosen: Sequence[Path] = ()) -> Table:
    """All files of a folder, or those chosen, as one table.

    Partitions such as `year=2024/` are columns of texts; of files called train, valid and test so is `part`.
    """
    files = list(chosen) or files_of(folder)
    tables = [_read_file(file, "", reading) for file in files]
    first = set(tables[0].frame.columns)
    for file, table in zip(files, tables, strict=True):
        if not set(table.frame.columns) & first:
            raise different_tables(folder, (files[0], tables[0].frame.columns), (file, table.frame.columns))
    frames = []
    for file, table in zip(files, tables, strict=True):
        pairs = (part.partition("=") for part in file.relative_to(folder).parts[:-1] if "=" in part)
        partitions = {name: value for name, _, value in pairs}
        if all(part_name(f) for f in files):
            partitions["part"] = part_name(file)
        partitions = {n: value for n, value in partitions.items() if n not in table.frame.columns}
        frames.append(table.frame.with_columns(pl.lit(value).alias(name) for name, value in partitions.items()))
    try:
        frame = pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{folder}: its files do not make one table ({error_line(error)})") from error
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    everything = dict.fromkeys(c for table in tables for c in table.frame.columns)
    lacking = [(f, [c for c in everything if c not in t.frame.columns]) for f, t in zip(files, tables, strict=True)]
    gaps = [f"{file.name} has no {', '.join(columns)}" for file, columns in lacking if columns]
    told = f"{len(files):,} files as one table" if len(files) > 1 else files[0].name
    told += f"; their columns differ: {'; '.join(gaps[:SHOWN])}{'; ...' if len(gaps) > SHOWN else ''}" if gaps else ""
    return Table(frame, (*([] if len(chosen) == 1 else [f"{folder.resolve().name}: {told}"]), *notes), tables[0].named)


def different_tables(folder: Path, *files: tuple[Path, Sequence[str]]) -> DataError:
    """The error for files with columns that make no table together."""
    have = "; ".join(f"{file.name} has {', '.join(columns)}" for file, columns in files)
    return DataError(f"{folder} is a folder of different tables: {have}. Name the file")


def part_name(file: Path) -> str:
    """The part of a split that a file's name says: `train.csv`, `ml.valid.inter`; empty for other names."""
    return PARTS.get(re.split(r"[_\W]", unpacked_name(file).lower())[-1], "")


# --- structs ------------------------------------------------------------------------------------------------------


def unnested(frame: pl.DataFrame, wanted: Collection[str] = ()) -> pl.DataFrame:
    """Fields of structs as columns named `user.id`, behind the others; of large structs only those in `wanted`; a type
    of MongoDB is its value."""
    large: set[str] = set()
    while structs := [c for c, t in frame.schema.items() if isinstance(t, pl.Struct) and c not in large]:
        fields: list[pl.Expr] = []
        for column in structs:
            dtype = frame.schema[column]
            assert isinstance(dtype, pl.Struct)
            names = [f.name for f in dtype.fields]
            if len(names) > FIELDS:
                large.add(column)
                names = [n for n in names if any(f"{w}.".startswith(f"{column}.{n}.") for w in wanted)]
            if len(names) == 1 and names[0].startswith("$"):  # MongoDB's {"$date": "2024-03-01T10:00:00Z"}
                frame = frame.with_columns(pl.col(column).struct.field(names[0]).alias(column))
                continue
            names = [n for n in names if f"{column}.{n}" not in frame.columns]
            fields += [pl.col(column).struct.field(n).alias(f"{column}.{n}") for n in names]
        frame = frame.with_columns(fields).drop(
            c for c in structs if c not in large and isinstance(frame.schema[c], pl.Struct)
        )
    return frame


# --- Parquet and JSON ---------------------------------------------------------------------------------------------


def _parquet(file: Path, path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {error_line(error)}") from error


def _json_lines(file: Path, path: Path, reading: Reading) -> Table:
    with as_utf8(file, reading.encoding) as (text, encoding):
        with text.open("rb") as opened:
            is_array = opened.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"[")
        rows, wrapped = ([], "") if is_array else _single_object(text)
        if wrapped:
            frame, bad, n_bad = _records(path, rows), list[Bad](), 0
        else:
            frame, bad, n_bad = (_json_array(text, path), [], 0) if is_array else _json_objects(text, path)
    notes = tuple(f"{path.name}: {note}" for note in (encoding.note, wrapped) if note)
    return Table(frame, (*notes, *bad_rows_note(path, bad, n_bad, frame.height, reading.bad_rows)))


def _single_object(file: Path) -> tuple[list[dict[str, Any]], str]:
    """The rows in a text that is one object and not one per line, and a note on where they are; else neither."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
        rest = next((line for line in lines if line.strip()), "")
    if rest.lstrip().startswith("{") and first.rstrip().endswith("}"):
        return [], ""
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return [], ""
    return _rows_in(value) if isinstance(value, dict) else ([], "")


def _rows_in(value: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The rows that an object holds, as services and pandas write tables, and a note; of a row itself neither."""
    names, data = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, names), row, strict=False)) for row in data], "read the rows in 'data'"
    ids = {*ALIASES["user_id"], *ALIASES["item_id"]}
    lists = [k for k, v in value.items() if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)]
    if len(lists) == 1 and not any(squeezed(k) in ids for k in value):
        return value[lists[0]], f"read the list in {lists[0]!r}"
    columns = list(value.values())
    if columns and all(isinstance(v, list) and len(v) == len(columns[0]) > 1 for v in columns):
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)], "read by columns"
    if not columns or not all(isinstance(v, dict) for v in columns):
        return [], ""
    if all(k.isdecimal() for k in value):
        return columns, "read by the numbers of its rows"
    if columns[0] and all(k.isdecimal() for k in columns[0]) and all(v.keys() == columns[0].keys() for v in columns):
        return [{c: value[c][n] for c in value} for n in columns[0]], "read by columns"
    return [], ""


def _json_objects(file: Path, path: Path) -> tuple[pl.DataFrame, list[Bad], int]:
    try:
        return pl.read_ndjson(file, infer_schema_length=None), [], 0
    except pl.exceptions.PolarsError:  # find the broken lines
        good: list[dict[str, Any]] = []
        bad: list[Bad] = []
        n_bad = row = 0
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            for line in lines:
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


def _json_array(file: Path, path: Path) -> pl.DataFrame:
    try:
        return pl.read_json(file, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path} starts with [ and is not one JSON array of objects: {error_line(error)}. "
            "JSON lines hold one object per line"
        ) from error
