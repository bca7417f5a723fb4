"""scripts/pythons.py names what it could not look at, and fails for code that a Python cannot read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def looked_at(root: Path, scratch: Path) -> "subprocess.CompletedProcess[str]":
    """The script in a copy of the repository, where one Python is found and no package index."""
    environment = os.environ | {
        "PATH": str(scratch),
        "PYENV_ROOT": str(scratch),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
    }
    script = [sys.executable, str(root / "scripts" / "pythons.py")]
    return subprocess.run(script, capture_output=True, text=True, env=environment)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    root, own = tmp_path / "copy", f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name in ("genrec", "scripts", "examples"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    done = looked_at(root, tmp_path)
    lines = {line.partition(": ")[0]: line for line in done.stdout.splitlines()}
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(lines) == {"Python 3.11", "Python 3.12", "Python 3.13"}
    assert "compiles; imports " in lines[f"Python {own}"] and "cannot be reached" in lines[f"Python {own}"]
    others = [line for name, line in lines.items() if name != f"Python {own}"]
    assert len(others) == 2 and all("not found, not checked" in line for line in others)
    (root / "genrec" / "files.py").write_text("def broken(:\n")
    broken = looked_at(root, tmp_path)
    assert broken.returncode == 1 and "does not compile" in broken.stdout and "files.py" in broken.stdout
