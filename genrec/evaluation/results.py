"""The result files of an evaluated run: their paths and schemas, read without loading a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from ..errors import RunError
from ..files import checked_json, one_line, shown
from ..run.folder import Run
from .metrics import metric_of

VERSION = 1  # of results.json
KEYS = ("genrec", "run", "commands", "part", "versions", "datasets")  # of results.json
HeldOutPart = Literal["valid", "test"]


@dataclass(frozen=True)
class _Interval:
    """A metric as results.json holds it; null if it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class _Measured:
    """Metrics of a task in a phrasing, as results.json holds them."""

    n: float
    metrics: Mapping[str, _Interval]


@dataclass(frozen=True)
class _Answers:
    """The answers of a task as results.json holds them."""

    words: Sequence[str]
    values: Sequence[float]


@dataclass(frozen=True)
class _Data:
    """The part of a data set's results that is read again."""

    fingerprint: str
    answers: Mapping[str, _Answers]
    thresholds: Mapping[str, float]
    read_seconds: Mapping[str, float]
    tasks: Mapping[str, Mapping[str, _Measured]]


@dataclass(frozen=True)
class _Results:
    """The part of results.json that is read again."""

    genrec: str
    part: HeldOutPart
    datasets: Mapping[str, _Data]


def results_file(run: Path, part: str) -> Path:
    """The path of a part's results."""
    return run / ("results.json" if part == "test" else f"results-{part}.json")


def cases_file(run: Path, part: str) -> Path:
    """The path of a part's cases."""
    return run / ("cases.parquet" if part == "test" else f"cases-{part}.parquet")


def evaluate_command(run: Path, part: str) -> str:
    """The command that measures a part."""
    return f"genrec evaluate {run}" + ("" if part == "test" else f" --part {part}")


def headline(metric: str) -> bool:
    """Whether a metric is worth a line: those at 10, and those that sum up answers."""
    return metric_of(metric) is not None


def with_interval(metric: Mapping[str, float | None]) -> str:
    """`0.1004 (0.0860 to 0.1148)`; without an interval if there is none."""
    if metric["value"] is None:
        return "not defined"
    interval = f" ({metric['low']:.4f} to {metric['high']:.4f})" if metric["low"] is not None else ""
    return f"{metric['value']:.4f}{interval}"


def read_results(run: Path, part: str) -> dict[str, Any]:
    """The results of an evaluated run; raises RunError if there are none, or of another version."""
    path = results_file(run, part)
    if not run.is_dir():
        raise RunError(f"there is no run folder {run}")
    if not path.is_file():
        raise RunError(f"{run} has no results of the {part} part: `{evaluate_command(run, part)}` measures them")
    how = f"`{evaluate_command(run, part)}` writes it anew"
    try:
        text = path.read_bytes()
        results = checked_json(text, TypeAdapter(dict[str, Any]))
        if (version := results.get("version")) != VERSION:
            raise RunError(f"{path} has version {shown(version)}, this genrec reads version {VERSION}")
        if missing := [key for key in KEYS if key not in results]:
            raise RunError(f"{path} has no {missing[0]}: it was written before there were any; {how}")
        checked_json(text, TypeAdapter(_Results))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {one_line(error)}; {how}") from error
    return results


def read_log(run: Path) -> list[dict[str, float]]:
    """The losses and validations of a training, by step; raises RunError if they cannot be read."""
    path = Run(run).log
    kind = TypeAdapter(dict[str, int | float])
    entries = []
    try:
        for line in path.read_bytes().splitlines():
            entry = checked_json(line, kind)
            if "step" not in entry:
                raise ValueError("it has no step")
            entries.append(entry)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: line {len(entries) + 1}: {one_line(error)}") from error
    return entries
