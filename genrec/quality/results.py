"""Where an evaluated run keeps what was measured, and how it is read again without loading a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import RunError

VERSION = 1  # of results.json
KEYS = ("genrec", "run", "commands", "part", "versions", "datasets")  # of results.json
HEADLINE = ("ndcg@10", "hr@10", "rmse", "mae", "auc", "user_auc", "log_loss", "ece", "f1", "accuracy", "macro_f1")
HeldOutPart = Literal["valid", "test"]


def results_file(run: Path, part: str) -> Path:
    """Where the results of a part are."""
    return run / ("results.json" if part == "test" else f"results-{part}.json")


def cases_file(run: Path, part: str) -> Path:
    """Where the cases of a part are."""
    return run / ("cases.parquet" if part == "test" else f"cases-{part}.parquet")


def evaluate_command(run: Path, part: str) -> str:
    """The command that measures a part."""
    return f"genrec evaluate {run}" + ("" if part == "test" else f" --part {part}")


def headline(metric: str) -> bool:
    """Whether a metric is worth a line: those at 10, and what sums up answers."""
    return metric.split("/")[-1] in HEADLINE


def with_interval(found: Mapping[str, float | None]) -> str:
    """`0.1004 (0.0860 to 0.1148)`; without an interval where there is none."""
    if found["value"] is None:
        return "not defined"
    interval = f" ({found['low']:.4f} to {found['high']:.4f})" if found["low"] is not None else ""
    return f"{found['value']:.4f}{interval}"


def read_results(run: Path, part: str) -> dict[str, Any]:
    """The results of an evaluated run; raises RunError where there are none, or of another version."""
    path = results_file(run, part)
    if not run.is_dir():
        raise RunError(f"there is no run folder {run}")
    if not path.is_file():
        raise RunError(f"{run} has no results of the {part} part: `{evaluate_command(run, part)}` measures them")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = found["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error!r}; `{evaluate_command(run, part)}` writes it anew") from error
    if version != VERSION:
        raise RunError(f"{path} has version {version}, this genrec reads version {VERSION}")
    if missing := [key for key in KEYS if key not in found]:
        how = f"`{evaluate_command(run, part)}` writes it anew"
        raise RunError(f"{path} has no {missing[0]}: it was written before there were any; {how}")
    return found
