"""Delimited text as a frame of texts: `007` stays `007`. Broken rows are named, or dropped and counted."""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from ..errors import DataError
from .dialect import DELIMITERS, SPACED, Dialect, delimiter_of, dialect_of
from .encoding import as_utf8
from .source import SHOWN, Bad, Reading, Table, bad_rows_note, error_line

ATOMIC = (".inter", ".item", ".user")
OWN = {".csv": ",", ".tsv": "\t"} | dict.fromkeys(ATOMIC, "\t")
TYPED = re.compile(r"(.+):(token|token_seq|float|float_seq)")  # RecBole's headers
SAMPLE = 1 << 18  # bytes that a dialect is told from
UNIT = "\x1f"  # ASCII's own delimiter, which stands in for those of several characters
LONGEST_RECORD = 1000  # lines that one quoted record may span in a file with bad rows


def read_delimited(path: Path, original: Path, reading: Reading) -> Table:
    """The columns of a delimited text, all String, empty fields null, and notes on what was told from its content.

    path: the text. original: the file that it was unpacked from, which messages name.
    RecBole's token_seq columns are List(String), float_seq List(Float64). Without a header columns are 1, 2, ...
    """
    kind = path.suffix.lower()
    own = OWN.get(kind)
    with as_utf8(path, reading.encoding) as (text, encoding):
        with text.open("rb") as file:
            head = file.read(SAMPLE)
        if len(head) == SAMPLE:
            head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head
        sample = head.decode("utf-8-sig", errors="replace")
        if not sample.strip():
            raise DataError(f"{original} is empty")
        quote = None if kind in ATOMIC else '"'
        given = delimiter_of(reading.delimiter) if reading.delimiter else None
        header = {"auto": None, "yes": True, "no": False}[reading.header]
        dialect = dialect_of(sample, own, given, header, reading.columns.values(), quote)
        notes = [encoding.note] if encoding.note else []
        if given is None and dialect.delimiter != own:
            notes.append(f"split at {DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))}")
        if dialect.skipped:
            notes.append(f"begins below {dialect.skipped!r}")
        quote = quote if dialect.delimiter != "::" else None
        escaped = quote is not None and _has_escapes(text, dialect.delimiter)
        if escaped:
            notes.append("quotes escaped by backslashes")
        with _plain(text, sample, dialect, escaped) as (plain, separator):
            frame, bad, n_bad = _parsed(plain, original, separator, quote, dialect, encoding.codec)
    bad = [Bad(b.row, b.text.replace(UNIT, dialect.delimiter), b.why) for b in bad]
    dropped = bad_rows_note(original, bad, n_bad, frame.height, reading.bad_rows)
    told = (f"{original.name}: {', '.join(notes)}",) if notes else ()
    return Table(_atomic(frame), (*told, *dropped), dialect.header)


def _has_escapes(path: Path, delimiter: str) -> bool:
    """Whether quotes inside fields are written as \\", which are then not at the end of a field."""
    inside = re.compile(rb'\\"(?!"|\r|\n|$|' + re.escape(delimiter.encode()) + rb")")
    with path.open("rb") as file:
        return any(inside.search(line) for line in file if b'\\"' in line)


@contextmanager
def _plain(path: Path, sample: str, dialect: Dialect, escaped: bool) -> Iterator[tuple[Path, str]]:
    """The text with quotes, line ends and a delimiter that polars reads, and the delimiter: itself, or a copy."""
    has_returns = "\r" in sample and "\n" not in sample
    in_runs = dialect.is_runs and '"' not in sample and re.search(r"^ |\S  |\S\t| $", sample, re.MULTILINE)
    delimiter = dialect.delimiter.encode()
    rewritten = has_returns or in_runs or escaped or dialect.row_names or dialect.spaced
    if not rewritten and len(delimiter) == 1:
        yield path, dialect.delimiter
        return
    separator = UNIT if in_runs or len(delimiter) > 1 else dialect.delimiter
    with TemporaryDirectory(prefix="genrec-") as folder:
        copy = Path(folder) / path.name
        with path.open("rb") as source, copy.open("wb") as target:
            for number, line in enumerate(_by_returns(source) if has_returns else source):
                if escaped:
                    line = line.replace(b'\\"', b'""')
                if dialect.spaced:
                    line = re.sub(SPACED.format(re.escape(dialect.delimiter)).encode(), rb"\1", line)
                if in_runs:
                    line = re.sub(rb"[ \t]+", UNIT.encode(), line.strip()) + b"\n"
                elif separator == UNIT:
                    line = line.replace(delimiter, UNIT.encode())
                if dialect.row_names and number == dialect.skip:
                    line = b'""' + separator.encode() + line
                target.write(line)
        yield copy, separator


def _by_returns(file: io.BufferedReader) -> Iterator[bytes]:
    return (chunk.replace(b"\r", b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _parsed(
    path: Path, name: Path, separator: str, quote: str | None, dialect: Dialect, codec: str
) -> tuple[pl.DataFrame, list[Bad], int]:
    """The rows that can be parsed, the first of those that cannot, and their number."""
    bad: list[Bad] = []
    n_bad = 0
    try:
        frame = _read(path, separator, quote, dialect)
        broken = _has_short(frame, path, separator, dialect)
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{name} is empty") from error
    except pl.exceptions.PolarsError:  # too many fields, broken bytes, an open quote
        broken = True
    if broken:
        good, bad, n_bad = _sift(path, separator, quote, dialect, codec)
        try:
            frame = _read(good, separator, quote, Dialect(separator, dialect.header))
        except pl.exceptions.NoDataError:
            frame = pl.DataFrame()
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{name} cannot be read: {error_line(error)}") from error
    blank = _blank(frame)
    return frame.filter(~blank) if blank.any() else frame, bad, n_bad


def _read(source: Path | io.BytesIO, separator: str, quote: str | None, dialect: Dialect) -> pl.DataFrame:
    frame = pl.read_csv(
        source,
        separator=separator,
        infer_schema=False,
        quote_char=quote,
        has_header=dialect.header,
        skip_lines=dialect.skip,
    )
    return frame if dialect.header else frame.rename({c: str(n + 1) for n, c in enumerate(frame.columns)})


def _has_short(frame: pl.DataFrame, path: Path, separator: str, dialect: Dialect) -> bool:
    """Whether rows are too short, which polars fills with nulls: the file then lacks delimiters."""
    if frame.width <= 1 or not frame.to_series(-1).null_count():
        return False
    in_fields = frame.select(pl.sum_horizontal(pl.all().str.count_matches(separator, literal=True).sum())).item()
    with path.open("rb") as file:
        for _ in range(dialect.skip):
            file.readline()
        in_file = sum(chunk.count(separator.encode()) for chunk in iter(lambda: file.read(1 << 24), b""))
    if dialect.header:
        in_fields += sum(column.count(separator) for column in frame.columns)
    rows = frame.height - _blank(frame).sum() + dialect.header
    return bool(in_file != in_fields + rows * (frame.width - 1))


def _blank(frame: pl.DataFrame) -> pl.Series:
    """Which rows have no value at all."""
    if not frame.width or not frame.to_series(0).null_count():
        return pl.repeat(False, frame.height, eager=True)
    return frame.select(pl.all_horizontal(pl.all().is_null())).to_series()


def _sift(
    path: Path, separator: str, quote: str | None, dialect: Dialect, codec: str
) -> tuple[io.BytesIO, list[Bad], int]:
    """The lines of the rows that can be parsed, and the bad rows; slow, for broken files only."""
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    good = io.BytesIO()
    bad: list[Bad] = []
    width = n_bad = 0
    start, row = dialect.skip, -1 if dialect.header else 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        row += 1
        cells, n_lines, reason = _record(lines, start, separator, quote, codec)
        width = width or len(cells)  # of the header
        if not reason and len(cells) != width:
            reason = f"has {len(cells)} of {width} fields"
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


def _record(
    lines: list[bytes], start: int, separator: str, quote: str | None, codec: str
) -> tuple[list[str], int, str]:
    """The fields of the record that starts at a line, how many lines it spans, and why it cannot be parsed."""
    texts = (line.decode("utf-8") for line in itertools.islice(lines, start, start + LONGEST_RECORD))
    reader = csv.reader(texts, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE, strict=True)
    try:
        return next(reader), reader.line_num, ""
    except UnicodeDecodeError:
        return [], 1, f"is not {'UTF-8' if codec.startswith('utf-8') else codec}"
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
