"""The file map of README.md: every module of the package with the first sentence of its own docstring."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# In the order that data walks through them: a room imports from itself and from rooms before it (tests/test_house.py).
ROOMS = (
    *("errors", "extras", "options", "files", "ids", "counting", "frames", "progress", "process", "turns"),
    *("sql", "data", "tasks"),
    *("rows", "store", "catalogue", "model", "scoring", "language", "run", "evaluation", "training", "baselines"),
    *("recommender", "ask", "serving", "cli", "python"),
    "__main__",
)
BLOCK = re.compile(r"(<!-- file map, written by scripts/docs.py -->\n```\n)(.*?)(```\n)", re.DOTALL)
WIDTH = 28  # of the names


def first_sentence(file: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=[^.])\.(?:\s|$)", text.split("\n\n")[0].replace("\n", " "))[0]


def lines_of(folder: Path, indent: int) -> list[str]:
    """A room: its own line, then a line for each of its modules; rooms inside it come last."""
    lines = [f"{' ' * indent}{folder.name}/".ljust(WIDTH) + first_sentence(folder / "__init__.py")]
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            lines.append(f"{' ' * (indent + 2)}{file.name}".ljust(WIDTH) + first_sentence(file))
    for inner in sorted(p.parent for p in folder.glob("*/__init__.py")):
        lines += lines_of(inner, indent + 2)
    return lines


def file_map() -> str:
    """The whole map of the package."""
    package, lines = ROOT / "genrec", ["genrec/"]
    for room in ROOMS:
        if (package / room).is_dir():
            lines += lines_of(package / room, 2)
        elif (file := package / f"{room}.py").is_file():
            lines.append(f"  {file.name}".ljust(WIDTH) + first_sentence(file))
    return "\n".join(lines) + "\n"


def with_file_map(readme: str) -> str:
    """The text of README.md with the map as it is now."""
    return BLOCK.sub(lambda block: block[1] + file_map() + block[3], readme)
