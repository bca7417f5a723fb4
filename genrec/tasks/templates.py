"""Templates: literal texts with `{placeholders}`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import TaskError

_BRACES = re.compile(r"\{([a-z][a-z0-9_]*)\}|[{}]")


@dataclass(frozen=True)
class Placeholder:
    """A `{name}` inside a template."""

    name: str


def pieces(template: str) -> tuple[str | Placeholder, ...]:
    """A template as literal texts and placeholders, in order; raises TaskError on a stray brace."""
    parts: list[str | Placeholder] = []
    end = 0
    for match in _BRACES.finditer(template):
        if match[1] is None:
            raise TaskError(f"a stray '{match[0]}' in {template!r}; placeholders are written {{name}}, in lower case")
        if match.start() > end:
            parts.append(template[end : match.start()])
        parts.append(Placeholder(match[1]))
        end = match.end()
    if end < len(template):
        parts.append(template[end:])
    return tuple(parts)


def placeholders(template: str) -> tuple[str, ...]:
    """The names of a template's placeholders, in order."""
    return tuple(p.name for p in pieces(template) if isinstance(p, Placeholder))


def render(template: str, values: Mapping[str, str]) -> str:
    """The template with its placeholders filled in; raises TaskError for a missing or empty value."""
    parts = []
    for piece in pieces(template):
        if isinstance(piece, str):
            parts.append(piece)
        elif values.get(piece.name, "").strip():
            parts.append(values[piece.name])
        else:
            state = "empty" if piece.name in values else "missing"
            names = ", ".join(sorted(values)) or "none"
            raise TaskError(f"the value of {{{piece.name}}} is {state} in {template!r}; values given: {names}")
    return "".join(parts)
