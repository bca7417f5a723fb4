"""Answers as Markdown: a wire format, since the lists of earlier answers are read back from it (`item_ids`)."""

import re
from collections.abc import Mapping
from typing import Any

from ...ask.answer import Answer
from ...catalogue.titles import one_line
from ...recommender.histories import NOT_READ

PLACE = re.compile(r"\s*\d+\.\s")
MARKED = re.compile(r"([\\`*_\[\]<>#|~])")
BEGUN = re.compile(r"^(\d*)([-+=.)])(?=\s|$|=)")  # what makes a list or a heading at the beginning of a line
TICKS = re.compile(r"`+")


def markdown(answer: Answer) -> str:
    """An answer for a chat window: a numbered list with reasons and item ids, else its text. How much of a history was
    read stays in the structure beside it."""
    items = answer.content.get("items")
    if items is None or answer.dataset is None:
        return "\n\n".join(escaped(line) for line in answer.answer.splitlines())
    head = escaped(answer.answer.splitlines()[0])
    lines = [line_of(item) for item in items]
    notes = [f"*{escaped(w)}*" for w in answer.warnings if not w.endswith(NOT_READ)]
    return "\n\n".join(part for part in (head, "\n".join(lines), *notes) if part)


def line_of(item: Mapping[str, Any]) -> str:
    """`1. **Fargo** – like The Rock, rated 5 `100``."""
    reason = escaped(item["reason"])
    title = f"**{escaped(item['title'] or item['item_id'])}**"
    return f"{item['rank']}. {title}{f' – {reason}' if reason else ''} {code(item['item_id'])}"


def item_ids(text: str) -> list[str]:
    """The ids at the ends of a list's lines, as `line_of` writes them."""
    return [last_code(line) for line in text.splitlines() if PLACE.match(line)]


def escaped(text: str) -> str:
    """Text of the data that Markdown and HTML take for nothing else, on one line."""
    return BEGUN.sub(r"\1\\\2", MARKED.sub(r"\\\1", one_line(text)))


def code(text: str) -> str:
    """A text of the data as code, which shows it as it is: between more backticks than it has in a row."""
    text = one_line(text)
    fence = "`" * (1 + max(map(len, TICKS.findall(text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def last_code(line: str) -> str:
    """The text that `code` shows at the end of a line; empty for none."""
    line = line.rstrip()
    rest = line.rstrip("`")
    fence = line[len(rest) :]
    text = rest.rpartition(fence)[2] if fence else ""
    return text[1:-1] if text[:1] == text[-1:] == " " else text
