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

CORE = ("torch", "transformers", "peft", "datasets", "polars", "sqlalchemy")
OPTIONAL = (
    ("bitsandbytes", "--quantize nf4", "pip install 'genrec[nf4]'"),
    ("trl", "preference tuning", "pip install 'genrec[align]'"),
)
GIB = 2**30


class Finding(NamedTuple):
    """One line of the report; ok is False where a feature is missing or something is too small."""

    name: str
    value: str
    ok: bool


def report() -> list[Finding]:
    """Processor, memory, accelerator, precision, versions, cache, and the optional packages."""
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
    for name, feature, remedy in OPTIONAL:
        version = _version(name)
        findings.append(Finding(name, version or f"missing: needed for {feature}; {remedy}", version is not None))
    return findings


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
