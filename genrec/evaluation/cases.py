"""The table of held-out cases with their ranks and probabilities, and the metrics of such tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..errors import RunError
from ..evaluation import metrics
from ..files import read_parquet
from .bootstrap import Interval, clusters, mean_intervals, metric_intervals

if TYPE_CHECKING:
    from ..rows.corpus import Corpus
    from ..scoring.calibration import Calibration
    from .held_out import Phrasing
    from .reading import Reading

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "dataset": pl.String,
    "task": pl.String,
    "phrasing": pl.String,
    "about": pl.String,
    "case": pl.String,
    "answer": pl.Int32,
    "number": pl.Float64,
    "weight": pl.Float64,
    "ranks_removed": pl.List(pl.Int32),
    "ranks_kept": pl.List(pl.Int32),
    "probabilities": pl.List(pl.Float64),
}
Metrics = dict[str, Interval]


@dataclass(frozen=True)
class Answered:
    """Cases of a task with choices or numbers: probabilities (cases, answers), indices (cases,) of the right answers,
    weights (cases,) and, of numbers, the right ones themselves (cases,)."""

    probabilities: np.ndarray
    answer: np.ndarray
    weight: np.ndarray
    truth: np.ndarray | None = None


Measure = Callable[[np.ndarray], dict[str, float]]  # factor on each case's weight -> metrics


def read_cases(path: Path) -> pl.DataFrame:
    """The cases of an evaluated run; raises RunError if there are none."""
    if not path.is_file():
        raise RunError(f"there is no {path}: `genrec evaluate {path.parent}` writes it")
    cases = read_parquet(path)
    if cases.schema == {name: kind for name, kind in SCHEMA.items() if name != "number"}:  # every number is an answer
        cases = cases.with_columns(number=pl.lit(None, pl.Float64)).select(*SCHEMA)
    if cases.schema != SCHEMA:
        raise RunError(f"{path} was written by another genrec: `genrec evaluate {path.parent}` writes it anew")
    return cases


def check_cases(path: Path, cases: pl.DataFrame, results: Mapping[str, Any]) -> None:
    """The cases of a file are of the tasks and answers of its results; raises RunError if they are not."""
    always = ("dataset", "task", "phrasing", "about", "case", "weight")
    if sum(cases.select(always).null_count().row(0)):
        raise RunError(f"{path} is damaged: a case lacks one of {', '.join(always)}")
    for (name, task), frame in cases.group_by("dataset", "task", maintain_order=True):
        answers = results["datasets"].get(name, {}).get("answers", {}).get(task)
        if answers is None:
            raise RunError(f"{path} does not fit: its results know no task {task!r} of {name!r}")
        n, probabilities, answer = len(answers["words"]), frame["probabilities"], frame["answer"]
        checks: tuple[pl.Series, ...]
        if n:
            finite_ones = probabilities.list.eval(pl.element().is_not_null() & pl.element().is_finite())
            checks = probabilities.list.len() == n, finite_ones.list.all(), answer >= 0, answer < n
            if results["datasets"][name]["answers"][task]["values"]:
                checks = *checks, frame["number"].is_finite() | frame["number"].is_null()
        else:
            both = [frame[c].drop_nulls() for c in ("ranks_removed", "ranks_kept")]
            counted = [r.list.eval(pl.element().is_not_null() & (pl.element() >= 0)).list.all() for r in both]
            checks = frame["ranks_kept"].is_not_null(), *counted
        if not all(bool(r.fill_null(False).all()) for r in checks):
            raise RunError(f"{path} is damaged: cases of {task!r} of {name!r} lack ranks, or answers of {n}")


def cases_of(
    corpus: "Corpus", phrasing: "Phrasing", reading: "Reading", calibration: Mapping[str, "Calibration"]
) -> pl.DataFrame:
    """One row per case of a reading.

    about: the user (or the text) that the bootstrap draws. case: which of theirs it is. answer: the index of the right
    one among the probabilities. number: the right number itself, of answers that are numbers. ranks: of the right
    items, in the whole catalogue without and with the items seen before; a basket's missing item has the latter only.
    """
    names = {"dataset": corpus.dataset.name, "phrasing": phrasing}
    frames = [pl.DataFrame(schema=SCHEMA)]

    def add(task: str, about: Sequence[str], keys: Sequence[str], **columns: object) -> None:
        values = {"task": task, "about": list(about), "case": list(keys), **names, **columns}
        frames.append(pl.select(*(column(values.get(c), c, t, len(about)) for c, t in SCHEMA.items())))

    if (ranked := reading.ranked) is not None:
        add(
            "next_item",
            ranked.users,
            ["next"] * len(ranked.users),
            weight=1.0,
            ranks_removed=[r.tolist() for r in ranked.seen_removed],
            ranks_kept=[r.tolist() for r in ranked.seen_kept],
        )
    if reading.basket_ranks is not None:
        (task,) = [t.name for t in corpus.tasks if t.unit == "basket"]
        ranks = reading.basket_ranks[:, None].tolist()
        add(task, reading.basket_users, reading.basket_keys, weight=1.0, ranks_kept=ranks)
    for task, outcomes in reading.outcomes.items():
        probabilities = outcomes.probabilities(calibration[task])
        add(
            task,
            outcomes.about,
            outcomes.keys,
            answer=outcomes.answer,
            number=outcomes.truth,
            weight=outcomes.weight,
            probabilities=probabilities.tolist(),
        )
    return pl.concat(frames)


def column(value: object, name: str, kind: pl.DataType | type[pl.DataType], rows: int) -> pl.Series:
    """A column of the table: one value for every row, a value for each, or null."""
    values = value if isinstance(value, (list, np.ndarray)) else [value] * rows
    return pl.Series(name, values, dtype=kind)


def rank_values(removed: Sequence[np.ndarray] | None, kept: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Ranking metrics of each case (cases,) under both protocols; without the first, of the only one there is."""
    if removed is None:
        return metrics.ranking_values(kept)
    both = {"seen_removed": removed, "seen_kept": kept}
    return {f"{p}/{name}": v for p, ranks in both.items() for name, v in metrics.ranking_values(ranks).items()}


def measure_of(cases: Answered, values: tuple[float, ...], threshold: float | np.ndarray | None) -> Measure:
    """The metrics of a task with choices or numbers, as a function of a factor (cases,) on each case's weight.

    threshold: the least probability called yes, one for all or for each case.
    """
    positive = cases.answer == 1

    def metrics_of_weights(factor: np.ndarray) -> dict[str, float]:
        weights = cases.weight * factor
        result = metrics.outcome_metrics(cases.probabilities, cases.answer, values, weights, cases.truth)
        result.pop("n")
        if threshold is not None:
            result |= metrics.threshold_metrics(cases.probabilities[:, 1], positive, threshold, weights)
        return result

    return metrics_of_weights


def user_aucs(cases: Answered, about: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """AUC within each user that has both answers, and who they are."""
    aucs = metrics.user_auc(cases.probabilities[:, 1], cases.answer == 1, clusters(about), cases.weight)
    return np.asarray(list(aucs.values())), [str(user) for user in aucs]


def outcome_intervals(
    cases: Answered, about: Sequence[str], values: tuple[float, ...], threshold: float | np.ndarray | None
) -> Metrics:
    """Metrics of a task with choices or numbers, with intervals."""
    intervals = plain_ece(metric_intervals(measure_of(cases, values, threshold), about))
    if threshold is not None:
        aucs, users = user_aucs(cases, about)
        if len(aucs) > 1:
            intervals |= mean_intervals({"user_auc": aucs}, users)
    return intervals


def plain_ece(intervals: Metrics) -> Metrics:
    """The calibration error without an interval: a sample with repetitions is always worse calibrated than the cases
    that it is drawn from."""
    return intervals | ({"ece": (intervals["ece"][0], float("nan"), float("nan"))} if "ece" in intervals else {})


def ranks_of(cases: pl.DataFrame) -> tuple[list[np.ndarray] | None, list[np.ndarray]]:
    """Ranks without and with the items seen before, of the cases of a ranking task."""
    kept = [np.asarray(r) for r in cases["ranks_kept"].to_list()]
    if cases["ranks_removed"].null_count():
        return None, kept
    return [np.asarray(r) for r in cases["ranks_removed"].to_list()], kept


def answers_of(cases: pl.DataFrame) -> Answered:
    """The cases of a task with answers."""
    truth = None if cases["number"].null_count() else cases["number"].to_numpy()
    probabilities = np.asarray(cases["probabilities"].to_list())
    return Answered(probabilities, cases["answer"].to_numpy(), cases["weight"].to_numpy(), truth)


def case_metrics(cases: pl.DataFrame, values: tuple[float, ...], threshold: float | np.ndarray | None) -> Metrics:
    """Metrics with intervals of one task's cases in one phrasing."""
    about = cases["about"].to_list()
    if cases["probabilities"].null_count():
        return mean_intervals(rank_values(*ranks_of(cases)), about)
    return outcome_intervals(answers_of(cases), about, values, threshold)


def finite(value: float) -> float | None:
    """A value as JSON holds it: null if it is not defined."""
    return float(value) if np.isfinite(value) else None


def as_json(intervals: Metrics) -> dict[str, dict[str, float | None]]:
    """Intervals as JSON values."""
    return {
        name: {key: finite(v) for key, v in zip(("value", "low", "high"), interval, strict=True)}
        for name, interval in intervals.items()
    }
