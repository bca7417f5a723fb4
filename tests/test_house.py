"""House rules a reader relies on: who may import whom, what is imported late, a README that names every file."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from file_map import ROOMS, first_sentence, with_file_map  # noqa: E402

PACKAGE = ROOT / "genrec"
FILES = sorted(PACKAGE.rglob("*.py"))

HEAVY = {"torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes"}
HEAVY_ROOMS = {"model", "scoring", "language", "run", "evaluation", "training", "baselines"}  # these load torch


def room(module: str) -> str | None:
    """The room of `genrec.store.read` is `store`; the package itself is none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path, everywhere: bool) -> Iterator[tuple[int, str]]:
    """Line and full module name of every import; without `everywhere`, those that run when the module is imported."""
    package = name_of(file).split(".") if file.name == "__init__.py" else name_of(file).split(".")[:-1]
    tree = ast.parse(file.read_text())
    nodes = list(ast.walk(tree)) if everywhere else list(at_import(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(base + (node.module.split(".") if node.module else []))
            for alias in node.names:  # `from . import store` may name a module
                full = f"{module}.{alias.name}"
                yield node.lineno, full if is_module(full) else module


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path.is_dir() and name.startswith("genrec"))


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import(child)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_only_from_rooms_above(file: Path) -> None:
    own = room(name_of(file))
    if own is None:
        assert not list(imports(file, everywhere=False)), "importing genrec must change nothing"
        return
    assert own in ROOMS, f"{name_of(file)}: a room that the order in this test does not know"
    for line, module in imports(file, everywhere=True):
        other = room(module) if module.startswith("genrec") else None
        if other is not None:
            assert ROOMS.index(other) <= ROOMS.index(own), f"{file}:{line}: {own} may not import from {other}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_heavy_packages_stay_in_their_rooms(file: Path) -> None:
    own = room(name_of(file))
    if own not in HEAVY_ROOMS:
        heavy = [f"{file}:{line}: {m}" for line, m in imports(file, everywhere=True) if m.split(".")[0] in HEAVY]
        assert not heavy
    if own not in HEAVY_ROOMS:
        loaded = imports(file, everywhere=False)
        early = [f"{file}:{line}: {m}" for line, m in loaded if "genrec" in m and room(m) in HEAVY_ROOMS]
        early = [line for line in early if not line.endswith(": genrec.run.config")]  # options, no torch
        assert not early, "import these where they are used, so that genrec --help stays quick"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_only_cli_prints(file: Path) -> None:
    calls = [
        n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    ]
    assert room(name_of(file)) == "cli" or not [call.lineno for call in calls if call.func.id == "print"]


def test_front_ends_import_no_torch() -> None:
    light = [name_of(f) for f in FILES if room(name_of(f)) not in HEAVY_ROOMS | {None, "__main__"}]
    code = f"""
import importlib, sys
for module in {light!r}:
    importlib.import_module(module)
sys.stdout.write(" ".join({HEAVY!r} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == ""


def test_every_room_is_packaged() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(packages) == sorted({name_of(f.parent / "__init__.py") for f in FILES} | {"genrec.prompts"})


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "all"}
    wanted = [*project["dependencies"], *chain(*extras.values())]
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= {
        canonicalize_name(pin.name) for pin in pins
    }


def test_the_readme_names_every_file() -> None:
    text = (ROOT / "README.md").read_text()
    assert with_file_map(text) == text, "the file map of README.md is out of date: run python scripts/docs.py"
    (block,) = re.findall(r"<!-- file map.*?```\n(.*?)```", text, re.DOTALL)
    assert len(block.splitlines()) == len(FILES)  # of the package itself and every room a line, and of every module
    (tasks,) = [line for line in text.splitlines() if line.startswith("prompts/")]
    assert set(tasks.split(": ")[1].split(", ")) == {f.stem for f in (ROOT / "prompts").glob("*.yaml")}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_module_is_read_in_one_sitting(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400
    assert first_sentence(file), "a module says in its docstring what it holds"
