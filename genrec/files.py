"""Atomic writes, refusals of a file system in one line, and reads of foreign files that report damage in one line."""

import errno
import os
import re
import reprlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import DataError, GenrecError, RunError, UnknownNameError
from .options import flag as flag_of

if TYPE_CHECKING:
    import polars as pl
    from pydantic import TypeAdapter

T = TypeVar("T")
LARGEST_YAML = 2**20  # bytes; a megabyte takes PyYAML seconds
DEEPEST_YAML = 20
BYTES_PER_ROW = 2**16  # bytes of a row of a table at most, on average
MIN_TABLE_BYTES = 2**20  # bytes that any table may take, however few its rows
VALUES_PER_ROW = 1_000  # of a list column at most, on average
REFUSALS = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.ENOTDIR: "a part of the path is a file",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its links lead in a circle",
    errno.ENOSPC: "no space left on the device; free some and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some and run the same command again",
    errno.EFBIG: "the file is larger than the file system or the limit of the process allows",
    errno.EIO: "the device failed (input/output error)",
}  # reasons of a file system that do not lie in the code
PROBE = 2**12  # bytes that are written to see whether a folder takes any


# --- writing ------------------------------------------------------------------------------------------------------


def refusal(error: BaseException) -> str | None:
    """Why a file system refused, in words; None for another error. Libraries in Rust quote the number in their text."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (quoted := re.search(r"os error (\d+)", str(error))):
        number = int(quoted[1])
    return REFUSALS.get(number) if number is not None else None


@contextmanager
def write_errors(path: Path, hint: str = "") -> Iterator[None]:
    """Reports that a file system refused to write `path`, a file or a folder, as RunError with path, reason and
    hint."""
    try:
        yield
    except GenrecError:
        raise
    except Exception as error:
        reason = refusal(error)
        if reason is None and isinstance(error, RuntimeError) and _is_full(path):  # torch gives no reason
            reason = REFUSALS[errno.ENOSPC]
        if reason is None:
            raise
        raise RunError("; ".join(filter(None, [f"{path} cannot be written: {reason}", hint]))) from error


def _is_full(path: Path) -> bool:
    with suppress(OSError):
        usage = shutil.disk_usage(path if path.is_dir() else path.parent)
        return usage.total > 0 and usage.free < 2**20
    return False


def check_writable(path: Path) -> None:
    """Raises RunError unless a file can be written at `path`, whose folder exists; leaves nothing behind."""
    with write_errors(path):
        if path.is_dir():
            raise RunError(f"{path} cannot be written: it is a folder")
        with suppress(FileNotFoundError):  # the longest name that is written
            os.lstat(_partial(path))
        _probe(path.parent, path)


def _probe(folder: Path, path: Path) -> None:
    """Write some bytes into a folder, for `path`; raises RunError if it takes none."""
    with write_errors(path):
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(PROBE))
                file.flush()
        except FileNotFoundError as error:  # under /proc
            raise RunError(f"{path} cannot be written: {folder} takes no files") from error


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """A folder that this process alone writes; made if it is missing, removed again if it is left empty.

    Raises RunError at once if the folder cannot be written or if another process writes it. The lock ends with the
    process, however that ends. File systems without locks have none.
    """
    import fcntl

    with write_errors(folder):
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # under /proc
            raise RunError(f"{folder} cannot be written: no folder can be made there") from error
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process is writing {folder}: wait until it has ended, or write to another folder"
            ) from None
        except OSError:
            pass
        _probe(folder, folder)
        yield
    finally:
        os.close(handle)
        with suppress(OSError):  # the first that is not empty ends it
            for path in missing:
                path.rmdir()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextmanager
def atomic_write(path: Path, synced: bool = True) -> Iterator[Path]:
    """A temporary file beside `path`: it replaces `path` if the block succeeds, and is removed if it raises.

    synced: whether the file then survives a power cut, which takes some milliseconds. Raises RunError if the file
    system refuses.
    """
    partial = _partial(path)
    with write_errors(path):
        try:
            yield partial
            if synced:
                sync(partial)
            os.replace(partial, path)
            if synced:
                sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, synced: bool = True) -> None:
    """Write a text file atomically; synced as in `atomic_write`."""
    with atomic_write(path, synced) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk, so that they survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Flush a folder and everything in it to the disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


# --- reading ------------------------------------------------------------------------------------------------------


def read_json(path: Path, kind: "TypeAdapter[T]") -> T:
    """A JSON file validated against `kind`; raises RunError that names the first invalid value."""
    try:
        return checked_json(path.read_bytes(), kind)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {one_line(error)}") from error


def checked_json(text: str | bytes, kind: "TypeAdapter[T]") -> T:
    """A JSON text validated against `kind`; raises ValueError, a line about the first invalid value."""
    from pydantic import ValidationError

    try:
        return kind.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise ValueError(first["msg"]) from error
        location = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ValueError(f"{location}: {first['msg'][:200]}, found {shown(first['input'])}") from error


def read_yaml(path: Path) -> Any:
    """A YAML file of plain values; raises DataError if it is not YAML, is too long, or uses aliases, by which a few
    lines expand to gigabytes."""
    import yaml

    try:
        if path.stat().st_size > LARGEST_YAML:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; at most {LARGEST_YAML:,} are read")
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_YAML:  # PyYAML's time grows with the square of the depth
                raise DataError(f"{path} is nested more than {DEEPEST_YAML} deep")
            if isinstance(event, yaml.AliasEvent):
                raise DataError(f"{path} uses aliases (*name), which are not read: write the value out")
        return yaml.safe_load(text)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:  # not UTF-8, not YAML, or an impossible date
        raise DataError(f"{path} is not YAML: {one_line(error)}") from error


def read_options(path: Path, config: type, flag: str, gone: Sequence[str] = ()) -> dict[str, Any]:
    """A YAML file of options, by the names of the fields of `config`, those of `gone` left out; raises DataError for
    anything else."""
    try:
        values = read_yaml(path)
    except DataError as error:
        raise DataError(f"{flag} {error}") from error
    hints = get_type_hints(config)
    if not isinstance(values, dict):
        raise DataError(f"{flag} {path}: option names with values are expected, as `seed: 1`")
    values = {name: value for name, value in values.items() if name not in gone}
    for name, value in values.items():
        if name not in hints:
            raise UnknownNameError("option", str(name)[:80], hints, f"in {flag} {path}")
        if not is_value(value, hints[name]):
            raise DataError(f"{flag} {path}: {name}: {shown(value)} is not a value of {flag_of(name)}")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def is_value(value: object, hint: Any) -> bool:
    """Whether a value of a YAML file is of an option's type."""
    if get_origin(hint) in (Union, UnionType):
        return any(is_value(value, member) for member in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    return type(value) is hint or (type(value) is int and hint is float)


def read_parquet(path: Path, rows: int | None = None) -> "pl.DataFrame":
    """A Parquet table; raises RunError if it is damaged and, if `rows` is given, if its number of rows differs or it
    would take more memory than so many rows can: a small file may expand to gigabytes."""
    import polars as pl
    import pyarrow
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise RunError(f"{path} cannot be read: {one_line(error)}") from error
    if rows is not None:
        if metadata.num_rows != rows:
            raise RunError(f"{path} does not fit: it has {metadata.num_rows:,} rows, {rows:,} are expected")
        groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
        chunks = [group.column(n) for group in groups for n in range(group.num_columns)]
        columns = [chunks[n :: metadata.num_columns] for n in range(metadata.num_columns)]
        values = max((sum(c.num_values for c in column) for column in columns), default=0)
        if values > VALUES_PER_ROW * max(rows, 1):
            raise RunError(f"{path} is refused: a column holds {values:,} values in {rows:,} rows")
        _check_size(path, sum(c.total_uncompressed_size for c in chunks), rows)
    try:
        frame = pl.read_parquet(path)
        if rows is not None:
            texts = [s.explode() if isinstance(s.dtype, pl.List) else s for s in frame.iter_columns()]
            _check_size(path, sum(int(s.str.len_bytes().sum()) for s in texts if s.dtype == pl.String), rows)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {one_line(error)}") from error
    return frame


def _check_size(path: Path, size: int, rows: int) -> None:
    limit = max(MIN_TABLE_BYTES, BYTES_PER_ROW * rows)
    if size > limit:
        raise RunError(f"{path} is refused: it unfolds to {size:,} bytes; {rows:,} rows may take {limit:,}")


def one_line(error: BaseException) -> str:
    """The message of an error in one line of at most 300 characters."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:300] or type(error).__name__


def shown(value: object) -> str:
    """A value as a message quotes it, shortened if it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 120
    try:
        return short.repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "a very long number"
