"""Output of a command: results to stdout, everything else to stderr, tables whole or not at all."""

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..files import atomic_write, check_writable, write_errors
from ..progress import Progress, stage_text

if TYPE_CHECKING:
    import polars as pl

    from ..recommender import Predictions, Recommendations

TABLES = (".parquet", ".csv", ".jsonl")
LINE_SECONDS, LINE_SHARE = 30, 0.1  # between two lines of progress, at least: seconds, share of the time so far


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
    """One bar on stderr for the whole command: the stage under way, the share of the whole, the time left; where stderr
    is no terminal, a line now and then, further apart the longer it takes."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    texts = (TextColumn("{task.fields[left]}"), TextColumn("{task.fields[latest]}"))
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn(), *texts)
    with Bars(*columns, TextColumn("{task.description}"), console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=1.0, left="", latest="")
        begun = time.monotonic()
        shown = begun

        def report(stage: str, done: int, total: int, latest: Mapping[str, float]) -> None:
            nonlocal shown
            share, left, now = progress.total.share, progress.total.time_left, time.monotonic()
            loss = f"loss {latest['loss']:.3f}" if "loss" in latest else ""
            stage = stage_text(stage, done, total)
            bars.update(bar, completed=share, description=stage, left=left, latest=loss)
            if not console.is_terminal and now - shown > max(LINE_SECONDS, LINE_SHARE * (now - begun)):
                shown = now
                say(", ".join(filter(None, (f"{share:.0%} done", left, stage, loss))))

        progress = Progress(report)
        yield progress


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """A training that Ctrl-C or SIGTERM may stop at any time: the last line says how it goes on."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(number)

    is_main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note("the same command resumes from the last checkpoint")
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, previous)


def check_output(path: Path) -> None:
    """An output file whose kind is known, whose folder exists, and which can be written: known before the work."""
    if path.suffix not in TABLES:
        raise DataError(f"--out {path}: allowed are .parquet, .csv and .jsonl")
    with write_errors(path):
        if not path.parent.is_dir():
            raise DataError(f"--out {path}: there is no folder {path.parent}")
    check_writable(path)


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
