"""What a stranger gets: licence, links, citation, archives."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from genrec import __version__

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from links import address, anchors, with_absolute_links  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def targets(page: Path) -> list[str]:
    """The links of a page, code left out."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def test_one_address() -> None:
    assert all(url.startswith(address()) for url in PROJECT["urls"].values())
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["repository-code"] == address()
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text())["repo_url"] == address()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_absolute_links(text) == text, "README.md has relative links: run python scripts/docs.py"
    moved = text.replace(address(), "https://example.org/else")
    assert with_absolute_links(moved) == text  # a new address reaches every link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    ours = re.compile(re.escape(address()) + r"/(blob|tree)/main/(.*)")
    for target in targets(page):
        link = ours.fullmatch(target)
        path, _, anchor = (link[2] if link else target).partition("#")
        if link is None and re.match(r"https?:|mailto:", target):
            continue
        file = (ROOT if link else page.parent) / path if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert link is None or (link[1] == "tree") == file.is_dir(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"([\w-]+\.md)$", text, re.MULTILINE))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= named


def test_citation_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert citation["authors"] == PROJECT["authors"] == [{"name": "The genrec contributors"}]
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_package_index_can_show_the_readme() -> None:
    from readme_renderer.markdown import render

    page = render((ROOT / "README.md").read_text(encoding="utf-8"))
    assert page and "<table>" in page and "<pre>" in page
    assert set(re.findall(r'href="(?!http|#)([^"]*)"', page)) == set()


@pytest.mark.slow
def test_the_source_archive_has_all_that_tests_need(tmp_path: Path) -> None:
    """Built without the network; a few tests run in the unpacked archive, whose wheel holds the package alone."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = tmp_path.glob("genrec-*.tar.gz")
    (wheel,) = tmp_path.glob("genrec-*.whl")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
        opened.extractall(tmp_path, filter="data")
    assert set(tracked.stdout.split("\n")) - {""} <= names
    inside = set(zipfile.ZipFile(wheel).namelist())
    data = [f for f in (ROOT / "genrec").rglob("*") if f.is_file() and f.suffix != ".pyc"]
    assert {str(f.relative_to(ROOT)) for f in data} <= inside
    assert {f"genrec/prompts/{f.name}" for f in (ROOT / "prompts").glob("*.yaml")} <= inside
    assert {name.partition("/")[0] for name in inside} == {"genrec", f"genrec-{__version__}.dist-info"}
    assert f"genrec-{__version__}.dist-info/licenses/LICENSE" in inside
    folder = tmp_path / f"genrec-{__version__}"
    tests = ["tests/test_house.py", "tests/test_tasks.py", "tests/test_packaging.py"]
    done = subprocess.run([sys.executable, "-m", "pytest", *tests], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout
