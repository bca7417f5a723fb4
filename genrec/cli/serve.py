"""`genrec serve` and `mcp`: a run for other programs."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, UnknownNameError
from ..extras import require
from ..files import read_options
from ..options import option, options_of
from ..serving.config import REQUEST_LOG, ServeConfig
from .loading import no_collection, opened_run
from .output import say, show_json
from .parser import command

VARIABLES = "GENREC_SERVE_"  # and an option's name: GENREC_SERVE_PORT
OF_MCP = ("run", "record_events", "store", "quantize", "allow_backbone_mismatch", "model", "timeout", "prefix_mib")


@dataclass(frozen=True)
class Serve:
    """Options of serve."""

    server: ServeConfig = options_of(ServeConfig)
    log: bool = option(False, "a line of JSON for each request; never what was asked or of whom")
    config: Path | None = option(
        None,
        "settings: a YAML file of options by name, as `port: 8000`; flags and variables come first",
        metavar="FILE",
    )


@dataclass(frozen=True)
class Settings(ServeConfig):
    """What a settings file may hold."""

    log: bool = False


def settings(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of --config; raises UnknownNameError for a name or variable that is no option."""
    variables = [VARIABLES + name.upper() for name in (*Settings.__dataclass_fields__, "config")]
    for variable in os.environ:
        if variable.startswith(VARIABLES) and variable not in variables:
            raise UnknownNameError("variable", variable, variables)
    return read_options(given["config"], Settings, "--config") if given.get("config") else {}


@command(below=settings, environment=VARIABLES)
def serve(options: Serve) -> None:
    """Serve a run: OpenAI-compatible, REST, MCP and a web page.

    A flag comes before its environment variable (--any-user: GENREC_SERVE_ANY_USER), a variable before --config.
    """
    needs_run(options.server)
    require("serve")
    if options.log:
        log_requests()
    with no_collection():
        from ..serving.app import serve as run
    run(options.server, say)


def needs_run(config: ServeConfig) -> None:
    """Raises GenrecError for no run, or one that is not finished."""
    if not config.run:
        raise DataError("RUN is needed: the folder of a finished run, an adapter, or hf://OWNER/NAME")
    opened_run(config.run)


def log_requests() -> None:
    """Write a line of JSON for each request to stderr."""
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(message)s"))
    requests = logging.getLogger(REQUEST_LOG)
    requests.addHandler(lines)
    requests.setLevel(logging.INFO)
    requests.propagate = False


@dataclass(frozen=True)
class Mcp:
    """Options of mcp."""

    server: ServeConfig = options_of(ServeConfig, OF_MCP)
    print_config: bool = option(False, "what MCP clients have in their configuration")


@command()
def mcp(options: Mcp) -> None:
    """Answer the Model Context Protocol on stdin and stdout: tools to recommend, rank, predict, search and explain."""
    needs_run(options.server)
    require("serve")
    from ..serving.mcp import client_config, run_stdio

    if options.print_config:
        show_json(client_config(options.server))
        return
    run_stdio(options.server)
