"""What this machine has, and what is missing for which feature."""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

import psutil

from .. import __version__
from ..data.fetch import cache_folder
from ..extras import EXTRAS, missing_line, missing_packages

CORE = ("torch", "transformers", "peft", "datasets", "polars", "sqlalchemy")
GIB = 2**30


class Finding(NamedTuple):
    """One line of the report; ok is False where a feature is missing or something is too small."""

    name: str
    value: str
    ok: bool


def report() -> list[Finding]:
    """Processor, memory, accelerator, precision, versions, cache, and the extras."""
    from ..model import precision

    device = precision.default_device()
    memory = psutil.virtual_memory()
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    usable = len(psutil.Process().cpu_affinity()) if platform.system() == "Linux" else cores
    findings = [
        Finding("genrec", f"{__version__}, Python {platform.python_version()}, {platform.platform()}", True),
        Finding("processor", f"{usable} usable cores; {precision.describe_processor()}", True),
        Finding(
            "memory", f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} GiB free", memory.available > 4 * GIB
        ),
        Finding("accelerator", precision.describe_accelerator(), True),
        Finding("precision", precision.describe_precision(device), True),
        *(Finding(name, _version(name) or "missing", _version(name) is not None) for name in CORE),
        _cache(cache_folder()),
    ]
    return findings + [_extra(name) for name in EXTRAS]


def _extra(name: str) -> Finding:
    """An extra: the versions of its packages, or what is missing, for which feature, and how to install it."""
    if missing := missing_packages(name):
        return Finding(f"[{name}]", missing_line(name, missing), False)
    return Finding(f"[{name}]", ", ".join(f"{p} {_version(p)}" for p in EXTRAS[name].packages), True)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cache(folder: Path) -> Finding:
    """Where downloads are kept, how much is there, and how much room is left."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    value = f"{folder} ({size / GIB:.2f} GiB used, {free / GIB:.1f} GiB free{'' if writable else ', not writable'})"
    return Finding("cache", value, writable and free > 2 * GIB)
