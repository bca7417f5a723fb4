"""A Python environment of its own for RecTools and Surprise, whose pins clash with ours, and one job done in it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from ..data.fetch import cache_folder
from ..errors import UnavailableError
from ..progress import Progress

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
SCRIPT = Path(__file__).with_name("standalone.py")
PYTHON = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
TAIL = 15  # lines of output that an error shows


def environment(progress: Progress) -> Path:
    """The Python of the environment that requirements.txt pins, built once under the cache folder: whole or absent.

    Raises UnavailableError with pip's last lines if it cannot be built.
    """
    text = REQUIREMENTS.read_text(encoding="utf-8")
    tag = hashlib.sha256(f"{sys.version_info[:2]} {sys.platform} {text}".encode()).hexdigest()[:12]
    folder = cache_folder() / "environments" / f"baselines-{tag}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                build(folder, text, progress)
    return folder / PYTHON


def build(folder: Path, requirements: str, progress: Progress) -> None:
    """Make the environment; torch is the CPU build, from the package index in use, else PyTorch's own."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    venv.create(partial, symlinks=os.name != "nt")
    packages = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    (torch,) = (line for line in packages if line.startswith("torch=="))
    collected = 0
    advance = progress.stage("building the environment of the baselines, once (1.5 GB)")

    def heard(line: str) -> None:
        nonlocal collected
        if line.startswith("Collecting "):
            collected = min(collected + 1, len(packages) - 1)
            advance(collected, len(packages))

    def pip(*arguments: str) -> str | None:
        command = [sys.executable, "-m", "pip", "--python", str(partial / PYTHON), "install", *arguments]
        failed = follow(command, heard)
        return failed and f"the environment of the baselines cannot be built: {' '.join(command)} ended with\n{failed}"

    linux = sys.platform == "linux"
    failed = pip(f"{torch}+cpu") if linux else pip(torch)
    if failed and linux:
        failed = pip("--extra-index-url", CPU_WHEELS, f"{torch}+cpu")
    failed = failed or pip("-r", str(REQUIREMENTS))
    if failed:
        raise UnavailableError(failed)
    os.replace(partial, folder)
    advance(len(packages), len(packages))


def follow(command: list[str], heard: Callable[[str], None], env: Mapping[str, str] | None = None) -> str | None:
    """Run a command and pass on each line that it prints; None, or its last lines if it failed."""
    last: deque[str] = deque(maxlen=TAIL)
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, errors="replace", env=env, **out) as process:  # type: ignore[call-overload]
        try:
            for line in process.stdout:
                last.append(line.rstrip())
                heard(line)
        except BaseException:
            process.terminate()
            raise
    return "\n".join(last) if process.returncode else None


def run(
    job: Mapping[str, Any], tables: Mapping[str, pl.DataFrame], progress: Progress
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Run a job of standalone.py: its record, and the tables it writes.

    tables: the parquet files that it reads, by name. Raises UnavailableError if there is no environment for it.
    """
    python = environment(progress)
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}

    def heard(line: str) -> None:
        if line.startswith('{"stage"'):
            event = json.loads(line)
            progress.update(event["stage"], event["done"], event["total"])

    with tempfile.TemporaryDirectory(prefix="genrec-baselines-") as scratch:
        folder = Path(scratch)
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}.parquet")
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        failed = follow([str(python), str(SCRIPT), str(folder)], heard, clean)
        if failed:
            raise RuntimeError(f"the baseline {job['model']} failed:\n{failed}")
        written = {p.stem: pl.read_parquet(p) for p in folder.glob("*.parquet") if p.stem not in tables}
        return json.loads((folder / "done.json").read_text(encoding="utf-8")), written
