"""One source for options: a dataclass field is the flag, its default and its help."""

import argparse
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def option(default: Any = MISSING, help: str = "", *, metavar: str | None = None, positional: bool = False) -> Any:
    """A dataclass field that is also a command-line option. A list default makes a fresh list each time."""
    metadata = {"help": help, "metavar": metavar, "positional": positional}
    if isinstance(default, (list, dict, tuple)) and not default:
        kind = type(default)
        return field(default_factory=kind, metadata=metadata)
    return field(default=default, metadata=metadata)


def add_options(parser: argparse.ArgumentParser, config: type, only: Sequence[str] | None = None) -> None:
    """One option per field of a config dataclass; `only` names the fields wanted."""
    hints = get_type_hints(config)
    for spec in fields(config):
        if spec.metadata and (only is None or spec.name in only):
            add_option(parser, spec, hints[spec.name])


def add_option(parser: argparse.ArgumentParser, spec: "Field[Any]", hint: Any) -> None:
    """One field as an argument; the type hint gives type, choices and repetition."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(a for a in get_args(hint) if a is not type(None))
    default = spec.default if spec.default is not MISSING else None
    text = spec.metadata["help"].replace("%", "%%")
    if default not in (None, False, ""):
        text += f" (default: {default})"
    kwargs: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS}
    if spec.metadata["metavar"]:
        kwargs["metavar"] = spec.metadata["metavar"]
    if hint is bool:
        kwargs["action"] = argparse.BooleanOptionalAction if default else "store_true"
    elif get_origin(hint) in (list, tuple):
        positional = spec.metadata["positional"]
        kwargs |= {"nargs": "*" if positional else "+", "type": get_args(hint)[0]}
        if not positional:
            kwargs["action"] = "extend"  # `--task a --task b` is `--task a b`
    elif get_origin(hint) is Literal:
        kwargs["choices"] = get_args(hint)
    else:
        kwargs["type"] = hint
    if spec.metadata["positional"]:
        kwargs.pop("default")
        parser.add_argument(spec.name, **kwargs)
    else:
        parser.add_argument("--" + spec.name.replace("_", "-"), **kwargs)


def from_namespace(config: type, namespace: argparse.Namespace, values: Mapping[str, Any] | None = None) -> Any:
    """The config with the options that were given, over `values`."""
    given = vars(namespace)
    values = dict(values or {})
    for spec in fields(config):
        if spec.name in given and given[spec.name] not in (None, []):
            value = given[spec.name]
            values[spec.name] = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    return config(**values)


def arguments(config: Any) -> list[str]:
    """The command line that gives a config: every option with another value than its default."""
    found: list[str] = []
    for spec in fields(config):
        value = vars(config)[spec.name]
        default = spec.default if spec.default_factory is MISSING else spec.default_factory()
        if not spec.metadata or value == default:
            continue
        flag = spec.name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            values = [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
            found += values if spec.metadata["positional"] else [f"--{flag}", *values]
    return found
