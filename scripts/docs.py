"""docs/cli.md from the commands' own help, docs/quality.md from measured results, docs/api.md from the server's schema,
docs/python.md's reference from docstrings, and of README.md the file map from the modules' docstrings, the table of
parts from measured results, and the links from the address in pyproject.toml.

Usage: python scripts/docs.py
"""

import contextlib
import io
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from api_page import PAGE as API_PAGE  # noqa: E402
from api_page import page as api_page  # noqa: E402
from file_map import README, with_file_map  # noqa: E402
from links import with_absolute_links  # noqa: E402
from python_page import PAGE as PYTHON_PAGE  # noqa: E402
from python_page import page as python_page  # noqa: E402
from quality.page import PAGE as QUALITY_PAGE  # noqa: E402
from quality.page import page as quality_page  # noqa: E402
from quality.page import with_parts  # noqa: E402

from genrec.cli.main import COMMANDS, main  # noqa: E402

PAGE = ROOT / "docs" / "cli.md"
HEAD = """# Command line

Written by `python scripts/docs.py` from what `genrec COMMAND --help` prints. Results go to stdout, everything
else to stderr. Exit status: 0, 2 for bad input (one message), 130 after Ctrl-C.

An option with several values is repeated (`--task rating --task click`), and of any other the last one counts. A word
that begins with a dash and has no space in it is given with an equals sign (`--user=-x`).

Completion of commands, flags and their values:

```
genrec completion bash > ~/.local/share/bash-completion/completions/genrec
genrec completion zsh > "${fpath[1]}/_genrec"
genrec completion fish > ~/.config/fish/completions/genrec.fish
```
"""


def help_of(command: str | None) -> str:
    """What `genrec [COMMAND] --help` prints on a terminal of 100 columns."""
    os.environ["COLUMNS"] = "100"
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main([*([command] if command else []), "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def page() -> str:
    """The whole of docs/cli.md."""
    titles = {None: "genrec", **{name: f"genrec {name}" for name in COMMANDS}}
    return "\n".join([HEAD, *(f"## {title}\n\n```\n{help_of(name)}\n```\n" for name, title in titles.items())])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    QUALITY_PAGE.write_text(quality_page(), encoding="utf-8")
    API_PAGE.write_text(api_page(), encoding="utf-8")
    PYTHON_PAGE.write_text(python_page(), encoding="utf-8")
    README.write_text(
        with_absolute_links(with_parts(with_file_map(README.read_text(encoding="utf-8")))), encoding="utf-8"
    )
