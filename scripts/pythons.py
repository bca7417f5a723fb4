"""Every Python that pyproject.toml names: does the code compile, can it be imported, do the dependencies resolve?

Tests run on one Python; this looks at the others that are found. Models are not loaded and nothing
is installed. A Python that is not there and an index that cannot be reached are named, and are no failure.

Usage: python scripts/pythons.py
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSIONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
UNREACHABLE = re.compile(r"connection broken by|Could not fetch URL|Network is unreachable", re.IGNORECASE)
IMPORT = """
import importlib, json, sys
root, modules = json.loads(sys.argv[1])
sys.path.insert(0, root)
class NoModels:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "trl", "accelerate"):
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, NoModels())
imported, lacking = 0, set()
for module in modules:
    try:
        importlib.import_module(module)
        imported += 1
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] == "genrec":
            raise
        lacking.add(error.name.partition(".")[0])
print(json.dumps([imported, sorted(lacking)]))
"""


def found(version: str) -> str | None:
    """An interpreter of a version: this one, one on the PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names = [sys.executable, shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}*/bin/python"))]
    tell = "import sys; print('%d.%d' % sys.version_info[:2])"
    for python in map(str, filter(None, names)):
        told = subprocess.run([python, "-I", "-c", tell], capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:
            return python
    return None


def failed(done: "subprocess.CompletedProcess[str]") -> str:
    """The last lines that a command printed."""
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])


def compiled(python: str) -> str:
    """Compile every file, also those that only scripts and tests use; raises RuntimeError for one that does not."""
    with tempfile.TemporaryDirectory() as cache:
        folders = [str(ROOT / name) for name in ("genrec", "scripts", "tests", "examples")]
        command = [python, "-m", "compileall", "-q", *folders]
        environment = os.environ | {"PYTHONPYCACHEPREFIX": cache}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"does not compile:\n{failed(done)}")
    return "compiles"


def imported(python: str) -> str:
    """Import what needs no torch and no package that this Python lacks; raises RuntimeError for any other failure."""
    files = sorted((ROOT / "genrec").rglob("*.py"))
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    modules = [name for name in modules if not name.endswith("__main__")]
    given = json.dumps([str(ROOT), modules])
    done = subprocess.run([python, "-B", "-c", IMPORT, given], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"cannot be imported:\n{failed(done)}")
    count, lacking = json.loads(done.stdout)
    return f"imports {count} of {len(modules)} modules" + (
        f" (the others need {', '.join(lacking)})" if lacking else ""
    )


def resolved(version: str) -> str:
    """Resolve the dependencies of every extra but dev to the versions of constraints.txt, by wheels alone; raises
    RuntimeError if there is no solution."""
    extras = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name not in ("all", "dev")}
    wanted = [*PROJECT["dependencies"], *chain(*extras.values())]
    with tempfile.TemporaryDirectory() as target:
        options = ["--dry-run", "--quiet", "--retries", "1", "--only-binary", ":all:", "--target", target]
        command = [sys.executable, "-m", "pip", "install", *options, "--python-version", version]
        command += ["-c", str(ROOT / "constraints.txt"), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and UNREACHABLE.search(done.stderr):
        return "not resolved, the package index cannot be reached"
    if done.returncode:
        raise RuntimeError(f"its dependencies cannot be resolved:\n{failed(done)}")
    return f"{len(wanted)} dependencies resolve"


def line_of(version: str) -> tuple[bool, str]:
    """Whether all is well with a Python, and what was seen."""
    python = found(version)
    if python is None:
        return True, f"Python {version}: not found, not checked"
    try:
        return True, f"Python {version}: {compiled(python)}; {imported(python)}; {resolved(version)}"
    except RuntimeError as error:
        return False, f"Python {version} ({python}): {error}"


if __name__ == "__main__":
    with ThreadPoolExecutor(len(VERSIONS)) as pool:
        results = list(pool.map(line_of, VERSIONS))
    print("\n".join(line for _, line in results))
    sys.exit(not all(well for well, _ in results))
