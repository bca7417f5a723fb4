"""README.md's links: absolute, so that they work wherever the page is shown, from the address in pyproject.toml."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?:https?://[^)\s]+/(?:blob|tree)/main/)?(?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def address() -> str:
    """Where the repository is, for readers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Homepage"])


def with_absolute_links(text: str) -> str:
    """A page of the repository's root, with its links to files as links to the repository at `address`."""

    def absolute(link: re.Match[str]) -> str:
        kind = "tree" if (ROOT / link[1]).is_dir() else "blob"
        return f"]({address()}/{kind}/main/{link[1]}{link[2] or ''})"

    return LINK.sub(absolute, text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as repositories make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
