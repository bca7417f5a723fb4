"""Sources of data (files, database URLs, hub data sets) as strings, with secrets from the environment only."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from ..counting import counted
from ..errors import DataError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

BadRows = Literal["error", "skip"]
Header = Literal["auto", "yes", "no"]
Role = Literal["interactions", "items", "users"]
PACKED = (".gz", ".zst", ".zip", ".bz2", ".xz")  # endings of compressed files
SHOWN = 5  # bad rows in a message
VARIABLE = re.compile(r"\$\{(\w+)\}")  # of the environment
ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://|\$\{\w+\}(?:#|$)")  # a URL, not a path
QUERY = re.compile(r"\s*(?:select|with)\s", re.IGNORECASE)  # a query, not a table
PASSWORD = re.compile(r"[\w+.${}-]{2,}:/{1,2}[^/?@\s]*?:([^@\s]*)@")  # unescaped: # and / may be inside
SECRET = re.compile(r"password|passwd|pwd|secret|token", re.IGNORECASE)  # URL options that hold a secret
ODBC_SECRET = re.compile(r"(?:password|pwd)\s*=\s*([^;]*)", re.IGNORECASE)  # inside an option's value
URL_FORM = "KIND://USER:${PASSWORD}@HOST/DATABASE#TABLE"
HUB = "hf://"
FRAME = "<frame>"  # a source that was a table in Python's memory, as a run's config.yaml names it


@dataclass(frozen=True, eq=False)
class Frame:
    """A table in memory as a source; role: what it holds."""

    table: "pl.DataFrame"
    role: str

    def __str__(self) -> str:
        return f"the {self.role} frame"


@dataclass(frozen=True)
class Files:
    """Some files of a folder, which are one table, as a source."""

    folder: Path
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return str(self.files[0] if len(self.files) == 1 else self.folder)


Source = str | Path | Frame | Files


@dataclass(frozen=True)
class Bad:
    """One row that cannot be used: number (from 1, the header not counted), text, the reason."""

    row: int
    text: str
    why: str


@dataclass(frozen=True)
class Reading:
    """How one file is read; None and auto: as its content says. columns: standard name -> column, by the caller.

    role: what is read, by which a sheet of a workbook is chosen; None where that is still to be told.
    """

    bad_rows: BadRows = "error"
    delimiter: str | None = None
    encoding: str | None = None
    header: Header = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    role: Role | None = None


@dataclass(frozen=True)
class Table:
    """Raw columns, notes, and whether the source names its columns; else they are called 1, 2, ..."""

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    named: bool = True


def bad_rows_note(path: Path, bad: Sequence[Bad], n_bad: int, n_good: int, bad_rows: BadRows) -> tuple[str, ...]:
    """A note on rows that were dropped; raises DataError if they may not be, or if no other row is there."""
    if bad and bad_rows == "error":
        examples = "; ".join(f"row {b.row}: {b.text[:80]!r} {b.why}" for b in bad)
        raise DataError(
            f"{path}: {counted(n_bad, 'rows cannot be parsed')} ({examples}{'; ...' if n_bad > len(bad) else ''}). "
            "Mend them, or give --bad-rows skip"
        )
    if not n_good:
        raise DataError(
            f"{path} has no rows{f' that can be parsed ({n_bad:,} cannot)' if bad else ' below its header'}"
        )
    return (f"{path.name}: {counted(n_bad, 'rows that cannot be parsed were')} dropped",) if bad else ()


def is_url(source: Source) -> bool:
    """Whether a source is a URL rather than a file."""
    return isinstance(source, str) and ADDRESS.match(source) is not None


def check_url(source: Source) -> None:
    """Raises DataError for a URL that cannot be parsed or holds a password; the message does not show it."""
    if PASSWORD.match(str(source)) or (is_url(source) and not str(source).startswith(("${", HUB))):
        parsed_url(str(source))


def display_name(source: Source) -> str:
    """A source as messages quote it; a long query is shortened."""
    address, mark, query = str(source).partition("#") if is_url(source) else (str(source), "", "")
    query = " ".join(query.split())
    return f"{address}{mark}{query[:60]}{'...' if len(query) > 60 else ''}"


def source_name(source: Source) -> str:
    """The name of a source's data set: that of the file, of the table, or for a query of the database.

    Variables are not expanded: the name does not depend on the environment and cannot contain a secret.
    """
    if isinstance(source, Frame):
        return "frame"
    if not is_url(source):
        path, member = part_of(str(source))
        return Path(member or path).name.split(".")[0] or "data"
    if str(source).startswith(HUB):
        return source_name(Path(str(source).partition("?")[0])) or "data"
    address, _, selection = str(source).partition("#")
    if selection and not QUERY.match(selection):
        name = selection.rpartition(".")[2]
    elif VARIABLE.fullmatch(address):
        name = address
    else:
        url = parsed_url(str(source))
        name = Path(url.database or url.get_backend_name()).stem
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "data"


def unpacked_name(source: str | Path) -> str:
    """The name of a file without its ending, and that of its compression."""
    path, part = part_of(source)
    file = Path(part) if part else path
    return Path(file.stem).stem if file.suffix.lower() in PACKED else file.stem


def part_of(source: str | Path) -> tuple[Path, str]:
    """A path, and what is wanted of it after `#`: a sheet of a workbook, a file of an archive; empty for no such."""
    path, mark, part = str(source).rpartition("#")
    return (Path(path), part) if mark and path and not Path(source).exists() else (Path(source), "")


def parsed_url(source: str) -> "URL":
    """The URL before `#`, variables unexpanded; raises DataError if it cannot be parsed or holds a password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    scheme = source.partition(":")[0]
    password = PASSWORD.match(source)
    if password and not VARIABLE.fullmatch(password[1]):
        raise _refused(scheme)
    try:
        url = make_url(source.partition("#")[0])
    except (ArgumentError, ValueError):
        raise DataError(f"{scheme}://...: not a URL that can be read; write {URL_FORM}, the port a number") from None
    if any(not VARIABLE.fullmatch(secret) for secret in secrets_of(url)):
        raise _refused(scheme)
    return url


def _refused(scheme: str) -> DataError:
    return DataError(
        f"{scheme}://...: a password must not be written in a URL, which goes into config.yaml. "
        f"Set an environment variable and write its name, as in {URL_FORM}"
    )


def secrets_of(url: "URL") -> list[str]:
    """The secrets in a URL: its password and the values of secret options."""
    options = [(k, v) for k, values in url.normalized_query.items() for v in values]
    secrets = [v for k, v in options if SECRET.search(k)] + [m[1] for _, v in options for m in ODBC_SECRET.finditer(v)]
    return secrets if url.password is None else [str(url.password), *secrets]


def expanded_url(source: str) -> tuple["URL", dict[str, str]]:
    """The URL with its variables expanded, and a mapping from their values to the variables.

    The URL is parsed before the expansion: a value may hold any character.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    secrets: dict[str, str] = {}

    def value(variable: re.Match[str]) -> str:
        setting = os.environ.get(variable[1])
        if not setting:
            raise DataError(f"{display_name(source)}: the environment variable {variable[1]} is not set")
        secrets[setting] = variable[0]
        return setting

    def filled(text: str | None) -> str | None:
        return VARIABLE.sub(value, text) if text else None

    address = source.partition("#")[0]
    if match := VARIABLE.fullmatch(address):
        text = value(match)
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            url = None
        if url is None or text.partition("?")[0].count("@") > 1:
            reason = f"the value of {match[1]} is not a URL that can be read; its form is {URL_FORM.partition('#')[0]}"
            raise DataError(
                f"{display_name(source)}: {reason}, special characters of a password as %40 for @"
            ) from None
        return url, secrets | {secret: address for secret in secrets_of(url) if secret}
    url = parsed_url(source)
    options = {k: [VARIABLE.sub(value, v) for v in values] for k, values in url.normalized_query.items()}
    parts = (filled(url.username), filled(url.password), filled(url.host), filled(url.database))
    username, password, host, database = parts
    url = url.set(username=username, password=password, host=host, database=database)
    return url.set(query={k: v[0] if len(v) == 1 else v for k, v in options.items()}), secrets


def error_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
