"""`genrec evaluate`, `compare` and `report`: what a run is worth, beside others, on a page."""

import contextlib
import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ..extras import missing_line, missing_packages
from ..options import arguments, option
from .output import progress_bar, resumable, say, show_json, warn
from .parser import command

Phrasing = Literal["served", "seen", "unseen"]
Part = Literal["valid", "test"]


@dataclass(frozen=True)
class Evaluate:
    """Options of evaluate."""

    run: str = option(help="folder of a finished run", metavar="RUN", positional=True)
    part: Part = option("test", "what is measured")
    phrasing: tuple[Phrasing, ...] = option(
        ("served", "seen", "unseen"),
        "served: as recommend and predict read; seen: in words that training had; unseen: in words that it had not; "
        "may be repeated (default: all)",
    )
    seeds: int | None = option(None, "train again with N - 1 other seeds: mean and standard deviation", metavar="N")
    folds: int | None = option(None, "train on each of K folds: every interaction is held out once", metavar="K")
    baselines: bool = option(
        False, "measure strong baselines of each task beside it, on the same cases; they are trained on first use"
    )
    json: bool = option(False, "as JSON")

    @property
    def trains(self) -> bool:
        """Whether more runs are trained."""
        return self.seeds is not None or self.folds is not None


@command()
def evaluate(options: Evaluate) -> None:
    """Measure every task of a run on its held-out part, with intervals; several seeds or folds on request."""
    from ..files import sole_writer
    from .loading import check_run

    check_run(options.run)
    with resumable() if options.trains else contextlib.nullcontext(), sole_writer(Path(options.run)):
        measure(options)


def measure(options: Evaluate) -> None:
    """Measure, write the results into the run's folder, print them."""
    from ..baselines.compare import rivals_of
    from ..evaluation.evaluate import Evaluation, check_phrasings, evaluate
    from ..evaluation.record import measured_once, write
    from ..evaluation.summary import summary
    from ..recommender.latency import latency_of
    from ..run.loaded import load_run
    from ..training.repeat import repeated, runs_of, train
    from ..training.repeat import summary as summary_of_runs

    if options.baselines:
        check_phrasings(options.phrasing)
    run = Path(options.run)
    runs = runs_of(run, options.seeds, options.folds) if options.trains else []
    if runs:
        say(f"{len(runs)} runs, of which {sum(not r.finished for r in runs)} are to be trained")
    with progress_bar() as whole:
        to_train = sum(not r.finished for r in runs)
        parts = 1 + 2 * to_train  # this run, the trainings, the other runs
        evaluations = iter([0, *range(to_train + 1, parts)])

        def evaluation_of(folder: Path, baselines: bool = False) -> Evaluation:
            progress = whole.under(folder.name, next(evaluations, parts - 1), parts) if runs else whole
            loaded = load_run(folder)
            return evaluate(
                loaded,
                part=options.part,
                phrasings=options.phrasing,
                progress=progress,
                rivals=rivals_of if baselines else None,
                latency=latency_of(loaded),
            )

        evaluation = evaluation_of(run, options.baselines)
        evaluation.results["commands"].append(shlex.join(["genrec", "evaluate", *arguments(options)]))
        train(run, runs, say, whole)
        once = partial(measured_once, part=options.part, phrasings=options.phrasing, measure=evaluation_of)
        evaluation.results.update(repeated(runs, evaluation, options.phrasing, once))
    paths = write(run, options.part, evaluation)
    if options.part == "test" and (missing := missing_packages("report")):
        warn([f"report.html is not written: {missing_line('report', missing)}"])
    if options.json:
        show_json(evaluation.results)
        return
    print("\n".join([summary(evaluation.results), *summary_of_runs(evaluation.results)]))
    say(f"written: {', '.join(map(str, paths))}")


@dataclass(frozen=True)
class Compare:
    """Options of compare."""

    runs: tuple[str, ...] = option(
        help="evaluated runs; the first is what others are held to", metavar="RUN", positional=True
    )
    part: Part = option("test", "what is measured")
    json: bool = option(False, "as JSON")


@command()
def compare(options: Compare) -> None:
    """Runs side by side on the cases that they share, with intervals of their differences."""
    from ..evaluation.compare import compare, table

    comparison = compare([Path(run) for run in options.runs], options.part)
    if options.json:
        show_json(comparison)
        return
    print(table(comparison))


@dataclass(frozen=True)
class Report:
    """Options of report."""

    run: str = option(help="folder of an evaluated run", metavar="RUN", positional=True)


@command()
def report(options: Report) -> None:
    """Write RUN/report.html again from the files of an evaluated run."""
    from ..evaluation.report import write_report
    from ..run.folder import Run

    Run(Path(options.run)).check_whole()
    say(f"written: {write_report(Path(options.run))}")
