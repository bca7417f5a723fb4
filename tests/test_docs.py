"""Pages in docs/ that are written from the code are up to date."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("columns", ["40", "300"])
def test_cli_page_is_what_the_commands_print(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)  # the page is the same on every terminal
    page = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["page"]()
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == page, "docs/cli.md is out of date: run python scripts/docs.py"


def test_quality_page_is_what_the_results_say() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["quality_page"]()
    written = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
    assert written == page, "docs/quality.md is out of date: run python scripts/docs.py"


def test_api_page_is_what_the_server_says() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["api_page"]()
    written = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert written == page, "docs/api.md is out of date: run python scripts/docs.py"


def test_python_page_is_what_the_docstrings_say() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["python_page"]()
    written = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert written == page, "docs/python.md is out of date: run python scripts/docs.py"


def test_the_modules_that_docs_name_are_there() -> None:
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {path for page in pages for path in re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text(encoding="utf-8"))}
    assert named
    assert not [path for path in named if not ((ROOT / path).is_file() or (ROOT / "genrec" / path).is_file())]
