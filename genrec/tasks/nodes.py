"""YAML nodes as checked values: texts, numbers, lists and keys; every error names file and line."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ..errors import TaskError, unknown_name

Name = TypeVar("Name", bound=str)


class NodeReader:
    """Reads the nodes of one file; messages name its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, node: Node, message: str) -> TaskError:
        return TaskError(f"{self.path}:{node.start_mark.line + 1}: {message}")

    def mapping(self, node: Node, what: str, allowed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Node]:
        if not isinstance(node, MappingNode):
            raise self.fail(node, f"{what}: expected keys ({', '.join(allowed)}), found {_kind(node)}")
        nodes: dict[str, Node] = {}
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, ScalarNode) else _kind(key_node)
            if key not in allowed:
                raise self.fail(key_node, unknown_name("key", key, allowed, f"in {what}"))
            if key in nodes:
                raise self.fail(key_node, f"{what}: the key '{key}' appears twice")
            if isinstance(value, ScalarNode) and value.tag.endswith(":null"):
                raise self.fail(key_node, f"{key}: no value")
            nodes[key] = value
        if missing := [k for k in allowed if k not in nodes and k not in optional]:
            raise self.fail(node, f"{what}: {', '.join(missing)} missing")
        return nodes

    def items(self, node: Node, what: str) -> list[Node]:
        if not isinstance(node, SequenceNode):
            raise self.fail(node, f"{what}: expected a list, found {_kind(node)}")
        if not node.value:
            raise self.fail(node, f"{what}: the list is empty")
        return list(node.value)

    def text(self, node: Node, what: str, quoted: bool = False) -> str:
        if isinstance(node, MappingNode):
            raise self.fail(
                node, f"{what}: expected text, found keys; put the text in quotes (it has a brace or a colon)"
            )
        if not isinstance(node, ScalarNode):
            raise self.fail(node, f"{what}: expected text, found {_kind(node)}")
        if node.style is None and (not node.tag.endswith(":str") or _looks_numeric(node.value)):
            raise self.fail(
                node, f'{what}: {node.value or "nothing"} is {_kind(node)} in YAML, not text; write "{node.value}"'
            )
        if not node.tag.endswith(":str"):
            raise self.fail(node, f"{what}: the YAML tag '{node.tag}' is not allowed")
        if quoted and node.style is None:
            raise self.fail(node, f'{what}: put the text in quotes: "{node.value}"')
        if not node.value.strip():
            raise self.fail(node, f"{what}: the text is empty")
        return str(node.value)

    def texts(self, node: Node, what: str, quoted: bool) -> tuple[str, ...]:
        nodes = self.items(node, what)
        line_of: dict[str, int] = {}
        for item in nodes:
            text = self.text(item, what, quoted)
            if text.casefold() in line_of:
                raise self.fail(item, f"{what}: {text!r} appears twice (first on line {line_of[text.casefold()]})")
            line_of[text.casefold()] = item.start_mark.line + 1
        return tuple(str(n.value) for n in nodes)

    def number(self, node: Node, what: str, least: float = 0) -> float:
        if isinstance(node, ScalarNode) and node.tag.endswith((":int", ":float")):
            value = float(yaml.SafeLoader("").construct_object(node))
            if least <= value < float("inf") and math.isfinite(value):
                return value
            raise self.fail(node, f"{what}: {node.value} is not a number" + (" of at least 0" if least == 0 else ""))
        hint = ""
        if isinstance(node, ScalarNode) and node.style is None and _looks_numeric(node.value):
            hint = f" (YAML reads {node.value} as text: write {_plain_number(node.value)})"
        actual = repr(node.value) if isinstance(node, ScalarNode) else _kind(node)
        raise self.fail(node, f"{what}: expected a number, found {actual}{hint}")

    def integer(self, node: Node, what: str) -> int:
        value = self.number(node, what)
        if value != int(value) or value < 1:
            raise self.fail(node, f"{what}: {node.value} is not a whole number of at least 1")
        return int(value)

    def truth(self, node: Node, what: str) -> bool:
        if isinstance(node, ScalarNode) and node.tag.endswith(":bool") and node.value.lower() in ("true", "false"):
            return bool(node.value.lower() == "true")
        actual = repr(node.value) if isinstance(node, ScalarNode) else _kind(node)
        raise self.fail(node, f"{what}: expected true or false, found {actual}")

    def one_of(self, node: Node, what: str, allowed: Sequence[Name]) -> Name:
        value = self.text(node, what)
        for name in allowed:
            if name == value:
                return name
        raise self.fail(node, unknown_name(what, value, allowed))


def _kind(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "keys"
    if isinstance(node, SequenceNode):
        return "a list"
    kind = node.tag.rsplit(":", 1)[-1]
    if kind == "str" and _looks_numeric(node.value):
        kind = "float"
    names = {"bool": "true or false", "int": "a number", "float": "a number", "null": "no value", "timestamp": "a date"}
    return names.get(kind, "text")


def _looks_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain_number(text: str) -> str:
    return f"{float(text):.12f}".rstrip("0").rstrip(".")
