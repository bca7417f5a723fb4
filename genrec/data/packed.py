"""Compressed files and archives, unpacked beside the data while they are read."""

import bz2
import gzip
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import DataError
from .source import PACKED, error_line

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".ods")  # zip archives, and no packed tables


def _zstd(path: Path) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")


OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}  # by the first bytes of a file


@contextmanager
def unpacked(path: Path, member: str) -> Iterator[tuple[Path, str]]:
    """The file, or what is packed in it while the context lasts, and a note that names what was taken of an archive.

    member: the file of an archive that is wanted; empty for its only one. Raises DataError for an archive that is
    damaged, is encrypted, or holds several files where none is named.
    """
    with path.open("rb") as file:
        head = file.read(8)
    is_zip = head.startswith(b"PK\x03\x04") and path.suffix.lower() not in WORKBOOKS
    opener = next((o for magic, o in OPENERS.items() if head.startswith(magic)), None)
    if not is_zip and opener is None:
        yield path, ""
        return
    with TemporaryDirectory(prefix="genrec-") as folder:
        try:
            if is_zip:
                copy, note = _member(path, member, Path(folder))
            else:
                assert opener is not None
                name = path.name.removesuffix(path.suffix) if path.suffix.lower() in PACKED else path.name
                copy, note = Path(folder) / name, ""
                with opener(path) as source, copy.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is damaged: {error_line(error)}") from error
        except OSError as error:
            if error.errno is not None:  # of the disk
                raise
            raise DataError(f"{path} is damaged: {error_line(error)}") from error
        with copy.open("rb") as file:
            if file.read(262).endswith(b"ustar") or copy.suffix == ".tar":
                raise DataError(f"{path} is a tar archive: unpack it, and give the file or the folder")
        yield copy, note


def _member(path: Path, member: str, folder: Path) -> tuple[Path, str]:
    """One file of a zip archive in a folder, and a note that names it."""
    with zipfile.ZipFile(path) as archive:
        files = [f for f in archive.infolist() if not f.is_dir() and not _is_hidden(PurePosixPath(f.filename))]
        names = [f.filename for f in files]
        wanted = [n for n in names if member in (n, PurePosixPath(n).name)] if member else names
        if len(wanted) != 1:
            there = f"it holds {', '.join(names[:20]) or 'nothing'}{', ...' if len(names) > 20 else ''}"
            reason = f"has no one file {member!r}" if member else f"holds {len(names)} files"
            example = f"; name one as {path}#{names[0]}" if names else ""
            raise DataError(f"{path} {reason}: {there}{example}")
        (info,) = (f for f in files if f.filename == wanted[0])
        if info.flag_bits & 1:
            raise DataError(f"{path}: {info.filename} is encrypted; unpack it, and give the file")
        copy = folder / PurePosixPath(info.filename).name
        with archive.open(info) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return copy, "" if copy.stem == path.name.split(".")[0] else f"{path.name}: read {info.filename} in it"


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.parts)
