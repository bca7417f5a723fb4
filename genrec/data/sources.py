"""Files, SQL and hub data sets to frames of raw columns. Text stays text: `007` stays `007`."""

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import polars as pl

from ..errors import DataError, UnavailableError, UnknownNameError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

BadRows = Literal["error", "skip"]
ATOMIC = (".inter", ".item", ".user")
DELIMITED = {".csv": ",", ".tsv": "\t"} | dict.fromkeys(ATOMIC, "\t")
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
TYPED = re.compile(r"(.+):(token|token_seq|float|float_seq)")  # RecBole's headers
SHOWN = 5  # bad rows in a message
LONGEST_RECORD = 1000  # lines that one quoted record may span in a file with bad rows

VARIABLE = re.compile(r"\$\{(\w+)\}")  # of the environment
ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://|\$\{\w+\}(?:#|$)")  # what is no path
QUERY = re.compile(r"\s*(?:select|with)\s", re.IGNORECASE)  # what is no table
PASSWORD = re.compile(r"[\w+.${}-]{2,}:/{1,2}[^/?@\s]*?:([^@\s]*)@")  # as people write it: # and / may be inside
SECRET = re.compile(r"password|passwd|pwd|secret|token", re.IGNORECASE)  # options of a URL that hold one
ODBC_SECRET = re.compile(r"(?:password|pwd)\s*=\s*([^;]*)", re.IGNORECASE)  # inside an option's value
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"} | {
    "duckdb": "duckdb-engine",
    "snowflake": "snowflake-sqlalchemy",
    "bigquery": "sqlalchemy-bigquery",
}  # packages that are not called as the module or the data base
URL_FORM = "KIND://USER:${PASSWORD}@HOST/DATABASE#TABLE"
HUB = "hf://"
HUB_FILE = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")
HUB_OPTIONS = ("config", "split", "revision")
BATCH = 100_000  # rows of a data base turned into columns at a time


@dataclass(frozen=True)
class Bad:
    """One row that cannot be used: number (from 1, the header not counted), text, what is wrong with it."""

    row: int
    text: str
    why: str


def read_table(path: Path, *, bad_rows: BadRows = "error") -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The columns of a file as it names them, and notes.

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
            known = ", ".join((*DELIMITED, *JSON_LINES, *PARQUET))
            raise DataError(f"{path}: files ending in {kind or 'nothing'} are not read; allowed: {known}")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if bad and bad_rows == "error":
        shown = "; ".join(f"row {b.row}: {b.text[:80]!r} {b.why}" for b in bad)
        raise DataError(
            f"{path}: {n_bad:,} rows cannot be parsed ({shown}{'; ...' if n_bad > len(bad) else ''}). "
            "Mend them, or give --bad-rows skip"
        )
    if not frame.height:
        raise DataError(
            f"{path} has no rows{f' that can be parsed ({n_bad:,} cannot)' if bad else ' below its header'}"
        )
    return frame, ((f"{path.name}: {n_bad:,} rows that cannot be parsed were dropped",) if bad else ())


def is_url(source: str | Path) -> bool:
    """Whether a source is a URL and not a file."""
    return isinstance(source, str) and ADDRESS.match(source) is not None


def check_url(source: str | Path) -> None:
    """Raises DataError for a URL that cannot be parsed or holds a password; the message does not show it."""
    if PASSWORD.match(str(source)) or (is_url(source) and not str(source).startswith(("${", HUB))):
        _parsed(str(source))


def read_source(source: str | Path, *, bad_rows: BadRows = "error") -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The columns of a file, of a table or query of a data base, or of a data set of the hub, and notes.

    source: a path (see `read_table`), or a SQLAlchemy URL with `#` and a table or a SELECT. `${NAME}` in the URL is
    read from the environment, here only; where it stands for the whole URL, too. Or `hf://datasets/OWNER/NAME/FILE`, or
    `hf://OWNER/NAME?config=...&split=...`, which also takes a folder that starts with `/` or `.`. Raises DataError,
    UnknownNameError for a table, UnavailableError for a missing driver and a server that cannot be reached.
    """
    check_url(source)
    if str(source).startswith(HUB):
        return _hub(str(source), bad_rows)
    return (_sql(str(source)), ()) if is_url(source) else read_table(Path(source), bad_rows=bad_rows)


def shown(source: str | Path) -> str:
    """A source as messages call it: a long query is cut."""
    address, mark, wanted = str(source).partition("#") if is_url(source) else (str(source), "", "")
    wanted = " ".join(wanted.split())
    return f"{address}{mark}{wanted[:60]}{'...' if len(wanted) > 60 else ''}"


def source_name(source: str | Path) -> str:
    """The name of the data set that a source gives: the file's, the table's, or for a query the data base's.

    Variables are not expanded: the name is the same whatever the environment says, and no secret can be in it.
    """
    if not is_url(source):
        return Path(source).name.split(".")[0]
    if str(source).startswith(HUB):
        return source_name(Path(str(source).partition("?")[0])) or "data"
    address, _, wanted = str(source).partition("#")
    if wanted and not QUERY.match(wanted):
        name = wanted.rpartition(".")[2]
    elif VARIABLE.fullmatch(address):
        name = address
    else:
        url = _parsed(str(source))
        name = Path(url.database or url.get_backend_name()).stem
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "data"


def _beside(path: Path) -> str:
    """The files a mistyped path may have meant."""
    if not path.parent.is_dir():
        return ""
    near = sorted(p.name for p in path.parent.iterdir() if p.suffix.lower() in (*DELIMITED, *JSON_LINES, *PARQUET))
    return f"; beside it are {', '.join(near[:5])}" if near else ""


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {_line(error)}") from error


# --- JSON lines ---------------------------------------------------------------------------------------------------


def _json_lines(path: Path) -> tuple[pl.DataFrame, list[Bad], int]:
    with path.open("rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
            return _json_array(path), [], 0
    try:
        return pl.read_ndjson(path, infer_schema_length=None), [], 0
    except pl.exceptions.PolarsError:  # a line is broken: find out which
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
                    why = "" if isinstance(value, dict) else "is not an object"
                except ValueError:
                    why = "is not JSON"
                if not why:
                    good.append(value)
                    continue
                n_bad += 1
                if len(bad) < SHOWN:
                    bad.append(Bad(row, line.strip(), why))
        return _records(path, good), bad, n_bad


def _records(path: Path, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Objects as a frame; a column whose values have no common type is an error that names it."""
    try:
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)
    except pl.exceptions.PolarsError as error:
        for column in dict.fromkeys(c for row in rows for c in row):
            try:
                pl.DataFrame([{column: row.get(column)} for row in rows], infer_schema_length=None, strict=False)
            except pl.exceptions.PolarsError as why:
                raise DataError(
                    f"{path}: the values of column {column!r} are of different kinds ({_line(why)}); allowed: one kind"
                ) from why
        raise DataError(f"{path} cannot be read: {_line(error)}") from error


def _json_array(path: Path) -> pl.DataFrame:
    try:
        return pl.read_json(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path} starts with [ and is not one JSON array of objects: {_line(error)}. "
            "JSON lines hold one object per line"
        ) from error


# --- delimited text -----------------------------------------------------------------------------------------------


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
        good, bad, n_bad = _sifted(path, separator, quote)
        try:
            frame = _read(good, separator, quote)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{path} cannot be read: {_line(error)}") from error
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
    """Whether rows end early, which polars fills with nulls: the file then has fewer delimiters than its rows need."""
    if frame.width == 1 or not frame.to_series(-1).null_count():
        return False
    inside = frame.select(pl.sum_horizontal(pl.all().str.count_matches(separator, literal=True).sum())).item()
    with path.open("rb") as file:
        there = sum(chunk.count(separator.encode()) for chunk in iter(lambda: file.read(1 << 24), b""))
    rows = frame.height - _blank(frame).sum()
    return bool(there != head.count(separator) + inside + rows * (frame.width - 1))


def _blank(frame: pl.DataFrame) -> pl.Series:
    """Which rows have no value at all."""
    if not frame.to_series(0).null_count():
        return pl.repeat(False, frame.height, eager=True)
    return frame.select(pl.all_horizontal(pl.all().is_null())).to_series()


def _sifted(path: Path, separator: str, quote: str | None) -> tuple[io.BytesIO, list[Bad], int]:
    """The lines of the rows that can be parsed, and the others: the slow way, for broken files only."""
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    good = io.BytesIO()
    bad: list[Bad] = []
    width = n_bad = 0
    at, row = 0, -1
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        row += 1
        fields, used, why = _record(lines, at, separator, quote)
        width = width or len(fields)  # of the header
        if not why and len(fields) != width:
            why = f"has {len(fields)} of {width} fields"
        if why and used > 1:  # an open quote took the next lines with it: give up the first only
            used, why = 1, "has a quote that is never closed"
        if why:
            n_bad += 1
            if len(bad) < SHOWN:
                bad.append(Bad(row, lines[at].decode("utf-8", errors="replace").rstrip("\r\n"), why))
        else:
            good.writelines(lines[at : at + used])
        at += used
    good.seek(0)
    return good, bad, n_bad


def _record(lines: list[bytes], at: int, separator: str, quote: str | None) -> tuple[list[str], int, str]:
    """The fields of the record that starts at a line, how many lines it spans, and why it cannot be parsed."""
    texts = (line.decode("utf-8") for line in itertools.islice(lines, at, at + LONGEST_RECORD))
    reader = csv.reader(texts, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE, strict=True)
    try:
        return next(reader), reader.line_num, ""
    except UnicodeDecodeError:
        return [], 1, "is not UTF-8"
    except (csv.Error, StopIteration):
        return [], 1, "has a quote that is never closed"


def _atomic(frame: pl.DataFrame) -> pl.DataFrame:
    """RecBole's `name:type` headers as names; sequences as lists. A title is one text, whatever its type says."""
    typed = [TYPED.fullmatch(c) for c in frame.columns]
    if not all(typed):
        return frame
    columns = []
    for header in typed:
        assert header is not None
        name, kind = header.groups()
        value = pl.col(header.string)
        if kind == "float_seq":
            value = value.str.split(" ").cast(pl.List(pl.Float64), strict=False)
        elif kind == "token_seq" and not name.endswith(("title", "name")):
            value = value.str.split(" ")
        columns.append(value.alias(name))
    return frame.select(columns)


# --- SQL ----------------------------------------------------------------------------------------------------------


def _sql(source: str) -> pl.DataFrame:
    """All rows of a table or query, in the data base's order."""
    import sqlalchemy as sa

    name, wanted = shown(source), source.partition("#")[2].strip()
    url, secrets = _expanded(source)
    with _connection(url, name, secrets) as connection:
        if QUERY.match(wanted):
            query: Any = sa.text(wanted.replace(":", r"\:"))  # a colon is no parameter
        else:
            table, schema = _table(connection, wanted, name)
            query = sa.select(sa.text("*")).select_from(sa.table(table, schema=schema))
        try:
            batches = pl.read_database(query, connection, iter_batches=True, batch_size=BATCH, infer_schema_length=None)
            found = [batch for batch in batches if batch.height]
            frame = pl.concat(found, how="vertical_relaxed") if found else pl.DataFrame()
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{name} cannot be read: {_line(error)}") from error
    if not frame.height:
        raise DataError(f"{name} has no rows")
    objects = [c for c, t in frame.schema.items() if t == pl.Object]  # UUIDs and what else has no type of its own
    return frame.with_columns(
        pl.Series(c, [None if v is None else str(v) for v in frame[c]], dtype=pl.String) for c in objects
    )


def _table(connection: "Connection", wanted: str, name: str) -> tuple[str, str | None]:
    """A table or view and its schema; raises an error that lists those there are."""
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    names = [*inspector.get_table_names(), *inspector.get_view_names()]
    if not wanted:
        there = f"tables: {', '.join(sorted(names)) or 'none'}"
        raise DataError(f"{name}: say what to read with #TABLE or '#SELECT ...' after it; {there}")
    if wanted in names:
        return wanted, None
    schema, dot, table = wanted.rpartition(".")
    if dot and schema in inspector.get_schema_names():
        theirs = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
        if table in theirs:
            return table, schema
        names = [f"{schema}.{t}" for t in theirs]
    raise UnknownNameError("table", wanted, names, f"in {name.partition('#')[0]} (a query starts with SELECT or WITH)")


@contextmanager
def _connection(url: "URL", name: str, secrets: Mapping[str, str]) -> Iterator["Connection"]:
    """A connection that only reads; the data base's errors as ours, without what came from the environment."""
    import sqlalchemy as sa
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    # `from None`: the driver's own errors may hold the password.
    kind = url.get_backend_name()
    if kind == "sqlite" and not (url.database and Path(url.database).is_file()):
        raise DataError(
            f"{name}: there is no such file; a relative path follows sqlite:///, an absolute one sqlite:////"
        )
    try:
        engine = sa.create_engine(url)
    except ModuleNotFoundError as error:
        package = DRIVERS.get(error.name or "", error.name)
        raise UnavailableError(
            f"{name}: {kind} needs a driver that is not installed: pip install '{package}'"
        ) from None
    except NoSuchModuleError:
        package = DRIVERS.get(kind)
        needed = (
            f"pip install {package}" if package else "install the package that brings its dialect, or mend the name"
        )
        raise UnavailableError(f"{name}: SQLAlchemy knows no {url.drivername!r} here: {needed}") from None
    except (SQLAlchemyError, TypeError, ValueError) as error:
        raise DataError(f"{name}: {_cause(error, secrets)}") from None
    if engine.dialect.is_async:
        raise DataError(f"{name}: {url.drivername} is an asynchronous driver; another one of {kind} is needed")
    try:
        try:
            connection = engine.connect()
        except (SQLAlchemyError, TypeError, ValueError) as error:
            raise UnavailableError(f"{name} cannot be opened: {_cause(error, secrets)}") from None
        with connection:
            connection.execution_options(postgresql_readonly=True)
            if kind == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            yield connection
    except SQLAlchemyError as error:
        raise DataError(f"{name} cannot be read: {_cause(error, secrets)}") from None
    finally:
        engine.dispose()


def _cause(error: Exception, secrets: Mapping[str, str]) -> str:
    """The driver's own words, with `${NAME}` where they quote the environment."""
    cause = _line(getattr(error, "orig", None) or error)
    quoted = "|".join(re.escape(s) for s in sorted(secrets, key=len, reverse=True))
    return re.sub(quoted, lambda m: secrets[m[0]], cause) if quoted else cause


def _parsed(source: str) -> "URL":
    """The URL before `#` as it is written; raises DataError for one that cannot be parsed or holds a password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    scheme = source.partition(":")[0]
    written = PASSWORD.match(source)
    if written and not VARIABLE.fullmatch(written[1]):
        raise _refused(scheme)
    try:
        url = make_url(source.partition("#")[0])
    except (ArgumentError, ValueError):
        raise DataError(f"{scheme}://...: not a URL that can be read; write {URL_FORM}, the port a number") from None
    if any(not VARIABLE.fullmatch(secret) for secret in _secrets(url)):
        raise _refused(scheme)
    return url


def _refused(scheme: str) -> DataError:
    return DataError(
        f"{scheme}://...: a password must not be written in a URL, which goes into config.yaml. "
        f"Set an environment variable and write its name, as in {URL_FORM}"
    )


def _secrets(url: "URL") -> list[str]:
    """What a URL holds that nobody else may see."""
    options = [(k, v) for k, values in url.normalized_query.items() for v in values]
    found = [v for k, v in options if SECRET.search(k)] + [m[1] for _, v in options for m in ODBC_SECRET.finditer(v)]
    return found if url.password is None else [str(url.password), *found]


def _expanded(source: str) -> tuple["URL", dict[str, str]]:
    """The URL with its variables' values, and these values with the variables that they came from.

    The URL is taken apart first: a value may hold any character.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    secrets: dict[str, str] = {}

    def value(variable: re.Match[str]) -> str:
        found = os.environ.get(variable[1])
        if not found:
            raise DataError(f"{shown(source)}: the environment variable {variable[1]} is not set")
        secrets[found] = variable[0]
        return found

    def filled(text: str | None) -> str | None:
        return VARIABLE.sub(value, text) if text else None

    address = source.partition("#")[0]
    if whole := VARIABLE.fullmatch(address):
        text = value(whole)
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            url = None
        if url is None or text.partition("?")[0].count("@") > 1:
            why = f"the value of {whole[1]} is not a URL that can be read; its form is {URL_FORM.partition('#')[0]}"
            raise DataError(f"{shown(source)}: {why}, special characters of a password as %40 for @") from None
        return url, secrets | {secret: address for secret in _secrets(url) if secret}
    url = _parsed(source)
    options = {k: [VARIABLE.sub(value, v) for v in values] for k, values in url.normalized_query.items()}
    parts = (filled(url.username), filled(url.password), filled(url.host), filled(url.database))
    username, password, host, database = parts
    url = url.set(username=username, password=password, host=host, database=database)
    return url.set(query={k: v[0] if len(v) == 1 else v for k, v in options.items()}), secrets


# --- the hub ------------------------------------------------------------------------------------------------------


def _hub(source: str, bad_rows: BadRows) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """One file of a data set of the hub, or one split of what `datasets` makes of a data set or a folder."""
    address, _, query = source.partition("?")
    file = HUB_FILE.fullmatch(source)
    repository = file[1] if file else address.removeprefix(HUB)
    folder = Path(repository) if repository.startswith(("/", ".")) else None
    if not file and folder is None and not re.fullmatch(r"[^/]+/[^/]+", repository):
        raise DataError(
            f"{source}: write hf://datasets/OWNER/NAME/FILE, hf://OWNER/NAME?config=...&split=... or hf://./FOLDER"
        )
    if folder is not None and not folder.is_dir():
        raise DataError(f"{source}: there is no folder {folder}")
    try:
        if file:
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(file[1], file[3], repo_type="dataset", revision=file[2])
        else:
            return _split_of(source, repository, query), ()
    except OSError as error:
        if folder is not None:
            raise DataError(f"{source} cannot be read: {_line(error)}") from error
        raise UnavailableError(
            f"{source} cannot be fetched ({_line(error)}). Check the name and the connection (`hf auth login` for what "
            f"is not public), or on a machine with access run `hf download --repo-type dataset {repository}"
            f"{' ' + file[3] if file else ''} --local-dir FOLDER` and give {'the file' if file else 'hf://./FOLDER'}"
        ) from error
    except ValueError as error:
        raise DataError(f"{source}: {_line(error)}") from error
    return read_table(Path(path), bad_rows=bad_rows)


def _split_of(source: str, repository: str, query: str) -> pl.DataFrame:
    """One split, the only one unless the query names it; columns of CSV files as text."""
    import datasets
    from datasets.exceptions import DatasetGenerationError

    options = {k: unquote(v) for k, _, v in (part.partition("=") for part in query.split("&") if part)}
    for key in options:
        if key not in HUB_OPTIONS:
            raise UnknownNameError("option", key, HUB_OPTIONS, f"in {source}")
    which: dict[str, Any] = {"name": options.get("config"), "revision": options.get("revision")}
    try:
        found = datasets.load_dataset(repository, **which, split=options.get("split"))
        if isinstance(found, dict):
            if len(found) > 1:
                raise DataError(f"{source}: say which split with ?split=; there are {', '.join(found)}")
            (found,) = found.values()
        builder = datasets.load_dataset_builder(repository, **which)
        if hasattr(builder.config, "delimiter"):  # CSV: its types were guessed
            texts = datasets.Features(dict.fromkeys(found.column_names, datasets.Value("string")))
            found = datasets.load_dataset(repository, **which, split=found.split, features=texts)
    except DatasetGenerationError as error:
        raise DataError(f"{source} cannot be read: {_line(error.__cause__ or error)}") from error
    if not len(found):
        raise DataError(f"{source} has no rows")
    return found.to_polars()


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
