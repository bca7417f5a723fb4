"""Output of a command: results to stdout, everything else to stderr, tables whole or not at all."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..files import atomic_write
from ..progress import Progress

if TYPE_CHECKING:
    import polars as pl

    from ..recommender import Predictions, Recommendations

TABLES = (".parquet", ".csv", ".jsonl")


def say(line: str) -> None:
    """A line for the user, beside the results."""
    print(line, file=sys.stderr, flush=True)


def warn(warnings: Sequence[str]) -> None:
    """Warnings of an answer."""
    for line in warnings:
        say(f"warning: {line}")


def show_json(value: object) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def list_json(lists: "Recommendations", user: str | None, dataset: str) -> dict[str, Any]:
    """One list in the form of docs/json.md; `dataset` is that of an empty one."""
    frame = lists.frame
    return {
        "dataset": frame["dataset"][0] if frame.height else dataset,
        "user_id": user,
        "strategy": lists.strategy,
        "items": frame.select("rank", "item_id", "title", "score", "probability").to_dicts(),
        "warnings": list(lists.warnings),
    }


def prediction_json(predictions: "Predictions") -> dict[str, Any]:
    """The first prediction in the form of docs/json.md."""
    record = predictions.records()[0]
    return {name: record[name] for name in ("dataset", "task", "value", "probabilities", "user_id", "item_id")}


def similar_json(neighbours: "Recommendations", item: str, dataset: str | None) -> dict[str, Any]:
    """Similar items in the form of docs/json.md; `dataset` is that of none."""
    frame = neighbours.frame
    return {
        "dataset": frame["dataset"][0] if frame.height else dataset,
        "item_id": item,
        "items": frame.drop("dataset").to_dicts(),
        "warnings": list(neighbours.warnings),
    }


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar with an ETA on stderr for each stage; a line every half minute where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[loss]}"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *left)
    with Bars(*columns, console=console, disable=not console.is_terminal) as bar:
        bars: dict[str, Any] = {}  # the bar, first step and start of each stage that is under way
        starts: dict[str, tuple[int, float]] = {}
        shown = time.monotonic()

        def report(stage: str, done: int, total: int, latest: Mapping[str, float]) -> None:
            nonlocal shown
            loss = f"loss {latest['loss']:.3f}" if "loss" in latest else ""
            now = time.monotonic()
            if stage not in bars:
                bars[stage], starts[stage] = bar.add_task(stage, total=total, loss=""), (done, now)
            bar.update(bars[stage], completed=done, total=total, loss=loss)
            first, start = starts[stage]
            if not console.is_terminal and now - shown > 30 and done > first:
                shown = now
                minutes = (now - start) / (done - first) * (total - done) / 60
                say(f"{stage}: {done:,} of {total:,}, about {minutes:.1f} minutes left {loss}")
            if done >= total:
                bar.remove_task(bars.pop(stage))

        yield Progress(report)


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """A training that Ctrl-C may stop: the last line says how it goes on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note("the same command resumes from the last checkpoint")
        raise


def check_output(path: Path) -> None:
    """An output file whose kind is known and whose folder exists."""
    if path.suffix not in TABLES:
        raise DataError(f"--out {path}: allowed are .parquet, .csv and .jsonl")
    if not path.parent.is_dir():
        raise DataError(f"--out {path}: there is no folder {path.parent}")


def write_table(frame: "pl.DataFrame", path: Path) -> None:
    """Write a table whole or not at all."""
    import polars as pl

    with atomic_write(path) as partial:
        if path.suffix == ".parquet":
            frame.write_parquet(partial)
        elif path.suffix == ".csv":
            lists = [c for c, t in frame.schema.items() if t.is_nested()]
            frame.with_columns(pl.col(c).cast(pl.List(pl.String)).list.join(" ") for c in lists).write_csv(partial)
        else:
            frame.write_ndjson(partial)
