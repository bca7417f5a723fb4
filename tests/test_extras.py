"""Extras: the core trains and answers without them, and says which one a feature needs."""

import json
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from conftest import toy_command
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from genrec.cli.doctor import report
from genrec.errors import UnavailableError
from genrec.extras import EXTRAS
from genrec.store import open_store

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]
MODULES = sorted(chain(*(extra.packages.values() for extra in EXTRAS.values())))


def statuses_without(modules: list[str], *commands: list[str]) -> tuple[list[int], list[str], str]:
    """Commands in one process that has none of these modules: statuses, stderr of each, stdout."""
    code = f"""
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys({modules!r}))
from genrec.cli import main
statuses, said, out = [], [], io.StringIO()
for command in {list(commands)!r}:
    with contextlib.redirect_stderr(io.StringIO()) as heard, contextlib.redirect_stdout(out):
        statuses.append(main(command))
    said.append(heard.getvalue())
print(json.dumps([statuses, said, out.getvalue()]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    statuses, said, out = json.loads(done.stdout)
    return statuses, said, out


def test_all_is_every_extra_but_dev() -> None:
    (everything,) = map(Requirement, OPTIONAL["all"])
    assert everything.name == "genrec" and everything.extras == set(OPTIONAL) - {"all", "dev"}


def test_pyproject_has_the_packages_that_a_message_names() -> None:
    assert set(EXTRAS) == set(OPTIONAL) - {"all", "dev"}
    for name, extra in EXTRAS.items():
        declared = {canonicalize_name(Requirement(line).name) for line in OPTIONAL[name]}
        assert declared == {canonicalize_name(package) for package in extra.packages}, name
    core = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert not core & {canonicalize_name(p) for extra in EXTRAS.values() for p in extra.packages}


def test_training_and_answers_need_no_extra(toy_files: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    refused = {
        "serve": [
            ["serve", run],
            ["mcp", run, "--print-config"],
            ["serve", run, "--store", "postgresql://localhost/x"],
        ],
        "report": [["report", run]],
        "align": [["align", run]],
        "nf4": [["recommend", run, "--user", "u002", "--quantize", "nf4"]],
    }
    commands = [
        toy_command(toy_files, tmp_path / "run", "--epochs", "1"),
        ["recommend", run, "--user", "u002", "-k", "3"],
        ["predict", run, "--task", "rating", "--user", "u002", "--item", "003"],
        ["similar", run, "--item", "003"],
        ["ask", "recommend 2 items for user u002", "--run", run],
        ["doctor"],
        ["evaluate", run, "--phrasing", "served"],
    ]
    statuses, said, out = statuses_without(MODULES, *commands, *chain(*refused.values()))
    assert statuses[: len(commands)] == [0] * len(commands), said
    for name in EXTRAS:
        assert f"pip install 'genrec[{name}]'" in out  # doctor
    evaluated = said[len(commands) - 1]
    assert "warning: report.html is not written: report.html needs matplotlib" in evaluated
    assert (tmp_path / "run" / "results.json").is_file() and not (tmp_path / "run" / "report.html").exists()
    extras = [name for name, lines in refused.items() for _ in lines]
    assert statuses[len(commands) :] == [2] * len(extras), said
    for name, line in zip(extras, said[len(commands) :], strict=True):
        assert f"pip install 'genrec[{name}]'" in line and all(p in line for p in EXTRAS[name].packages), line


def test_a_store_in_postgresql_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UnavailableError, match=r"PostgreSQL needs psycopg.*pip install 'genrec\[postgres\]'"):
        open_store("postgresql://localhost/x")


def test_doctor_shows_every_extra() -> None:
    lines = {finding.name: finding for finding in report()}
    for name, extra in EXTRAS.items():
        assert lines[f"[{name}]"].ok, "the tests run with every extra"
        assert all(re.search(rf"{package} \d", lines[f"[{name}]"].value) for package in extra.packages)
