"""Hooks of mkdocs: pages of the repository's root and a reference of the Python API join docs/, and links hold in both.

The pages are written for the repository, where `../README.md` is a file; on the site it is the page `index.md`.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {  # of the root, by their names on the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
REFERENCE = ("genrec", "genrec.recommender", "genrec.errors")
RELATIVE = re.compile(r"\]\(\.\./([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=site_page(ROOT / source, str(config.repo_url))))
    parts = [f"## {module}\n\n::: {module}\n" for module in REFERENCE]
    files.append(File.generated(config, "reference.md", content="\n".join(["# Python API\n", *parts])))
    return files


def site_page(page: Path, address: str) -> str:
    """A page of the root with links to other pages of the site, and to the repository for all other files."""
    text = re.sub(rf"\]\({re.escape(address)}/(?:blob|tree)/main/", "](../", page.read_text(encoding="utf-8"))
    text = re.sub(r"\]\((?!\.\./|https?:|#)", "](../", text)
    return RELATIVE.sub(lambda link: resolved(link, address), text)


def on_page_markdown(markdown: str, config: MkDocsConfig, **_: Any) -> str:
    """Mend the links of a page in docs/ that leave it; of those into docs/, to what is no page."""
    markdown = re.sub(r"\]\((results)\)", r"](../docs/\1)", markdown)
    return RELATIVE.sub(lambda link: resolved(link, str(config.repo_url)), markdown)


def resolved(link: re.Match[str], address: str) -> str:
    """A link to a file of the root, as it is on the site."""
    path, anchor = link[1], link[2] or ""
    if path in PAGES:
        return f"]({PAGES[path]}{anchor})"
    if path.startswith("docs/") and path.endswith(".md"):
        return f"]({path.removeprefix('docs/')}{anchor})"
    return f"]({address}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}{anchor})"
