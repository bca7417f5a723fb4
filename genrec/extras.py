"""Packages that only some features need, by the extra of pyproject.toml that installs them."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

from .errors import UnavailableError


class Extra(NamedTuple):
    """What an extra is for, and its packages with the modules that they bring."""

    feature: str
    packages: Mapping[str, str]


EXTRAS = {
    "serve": Extra(
        "genrec serve and genrec mcp",
        {"fastapi": "fastapi", "jsonschema-rs": "jsonschema_rs", "mcp": "mcp"}
        | {"prometheus-client": "prometheus_client", "pyjwt": "jwt", "uvicorn": "uvicorn"},
    ),
    "report": Extra("report.html", {"matplotlib": "matplotlib"}),
    "nf4": Extra("--quantize nf4", {"bitsandbytes": "bitsandbytes"}),
    "align": Extra("genrec align", {"trl": "trl"}),
    "postgres": Extra("PostgreSQL", {"psycopg": "psycopg"}),
    "xlsx": Extra("a workbook (.xlsx)", {"fastexcel": "fastexcel"}),
}


def missing_packages(extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    return [package for package, module in EXTRAS[extra].packages.items() if find_spec(module) is None]


def install_command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'genrec[{extra}]'"


def require(extra: str) -> None:
    """Raises UnavailableError if a package of an extra is missing."""
    if missing := missing_packages(extra):
        raise UnavailableError(missing_line(extra, missing))


def missing_line(extra: str, missing: list[str]) -> str:
    """`genrec align needs trl, which is not installed: pip install 'genrec[align]'`"""
    are = "which is" if len(missing) == 1 else "which are"
    feature = EXTRAS[extra].feature
    needs = "need" if " and " in feature else "needs"
    return f"{feature} {needs} {', '.join(missing)}, {are} not installed: {install_command(extra)}"
