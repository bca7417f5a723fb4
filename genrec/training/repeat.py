"""The same training again: with other seeds, or on other folds of the data; each run in a folder inside the first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from ..errors import DataError, RunError
from ..evaluation.cases import as_json, case_metrics
from ..evaluation.evaluate import Evaluation
from ..evaluation.held_out import Phrasing
from ..evaluation.results import headline, with_interval
from ..progress import Progress
from ..run.alignment import aligned_with
from ..run.config import FinetuneConfig, changed_options
from ..run.folder import Run
from .finetune import finetune

Kind = Literal["seed", "fold"]


@dataclass(frozen=True)
class Repetition:
    """One of the runs: the seed or fold, and its config; `is_first` if that is the first run itself."""

    kind: Kind
    number: int
    config: FinetuneConfig
    is_first: bool

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.config.out or "")

    @property
    def finished(self) -> bool:
        """Whether it was trained before."""
        return Run(self.folder).finished


def runs_of(run: Path, seeds: int | None, folds: int | None) -> list[Repetition]:
    """The runs that `--seeds` and `--folds` ask for, the first run among them; none is trained yet.

    Raises DataError for a number below 2, RunError if the first run is not finished or a folder holds a run with
    other options.
    """
    for flag, number in (("seeds", seeds), ("folds", folds)):
        if number is not None and number < 2:
            raise DataError(f"--{flag} {number}: at least 2 are needed")
    Run(run).manifest()
    if (aligned := aligned_with(Run(run))) is not None:
        raise RunError(f"{run} was aligned, which --seeds and --folds do not repeat; they train {aligned.run} again")
    first = Run(run).config()
    configs: list[tuple[Kind, int, FinetuneConfig]] = []
    configs += [("seed", first.seed + n, replace(first, seed=first.seed + n)) for n in range(seeds or 0)]
    if folds is not None:
        unsplit = replace(first, shares=None, valid_from=None, test_from=None, days=FinetuneConfig.days)
        configs += [("fold", n, replace(unsplit, split="k_fold", folds=folds, fold=n)) for n in range(folds)]
    runs = []
    for kind, number, config in configs:
        is_first = config == first
        folder = run if is_first else run / f"{kind}s" / str(number)
        config = replace(config, out=str(folder))
        if Run(folder).config_file.is_file() and changed_options(Run(folder).config(), config):
            changes = "; ".join(changed_options(Run(folder).config(), config))
            raise RunError(f"{folder} holds a run with other options ({changes}); remove {folder.parent} first")
        runs.append(Repetition(kind, number, config, is_first))
    return runs


def train(run: Path, runs: Sequence[Repetition], report: Callable[[str], None], progress: Progress) -> None:
    """Train those that are not finished, on the data of the first run; an interrupted one is resumed.

    progress: of the evaluation of the first run, these trainings and as many evaluations.
    """
    missing = [r for r in runs if not r.finished]
    for n, repetition in enumerate(missing, start=1):
        name = f"{repetition.kind} {repetition.number}"
        report(f"{name}: run {n} of {len(missing)}, {repetition.folder}")
        finetune(repetition.config, report, progress.under(name, n, 1 + 2 * len(missing)), again=Run(run))


def repeated(
    runs: Sequence[Repetition],
    first: Evaluation,
    phrasings: Sequence[Phrasing],
    measure: Callable[[Path], Evaluation],
) -> dict[str, Any]:
    """`seeds` and `folds` of the first run's results (docs/json.md); measure: evaluates a run, once."""
    results: dict[str, Any] = {}
    for kind, combine in (("seed", over_seeds), ("fold", over_folds)):
        if repetitions := [r for r in runs if r.kind == kind]:
            evaluations = [first if r.is_first else measure(r.folder) for r in repetitions]
            prints = [{name: d["fingerprint"] for name, d in m.results["datasets"].items()} for m in evaluations]
            results[f"{kind}s"] = {
                "numbers": [r.number for r in repetitions],
                "runs": [str(r.folder) for r in repetitions],
                "same_data": all(p == prints[0] for p in prints),
                "datasets": combine(evaluations, phrasings),
            }
    return results


def summary(results: Mapping[str, Any]) -> list[str]:
    """The metrics worth a line over seeds and over folds."""
    lines = []
    for name, task, phrasing, measured in all_results(results.get("seeds", {}).get("datasets", {})):
        numbers = ", ".join(map(str, results["seeds"]["numbers"]))
        lines.append(f"{name}, {task}, {phrasing}, seeds {numbers}")
        for metric, statistics in measured.items():
            if headline(metric) and statistics["mean"] is not None:
                lines.append(f"    {metric} {statistics['mean']:.4f}, standard deviation {statistics['sd']:.4f}")
    for name, task, phrasing, measured in all_results(results.get("folds", {}).get("datasets", {})):
        lines.append(f"{name}, {task}, {phrasing}, {len(results['folds']['numbers'])} folds, {measured['n']:,} cases")
        for metric, interval in measured["metrics"].items():
            if headline(metric) and interval["value"] is not None:
                each = ", ".join(f"{v:.4f}" if v is not None else "not defined" for v in interval["values"])
                lines.append(f"    {metric} {with_interval(interval)}; by fold {each}")
    return lines


def all_results(datasets: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Data set, task and phrasing of all results, each with its result."""
    for name, tasks in datasets.items():
        for task, by_phrasing in tasks.items():
            for phrasing, measured in by_phrasing.items():
                yield name, task, phrasing, measured


def shared_keys(measured: Sequence[Evaluation], phrasings: Sequence[Phrasing]) -> list[tuple[str, str, Phrasing]]:
    """Data sets, tasks and phrasings that every run has."""
    keys = [
        [
            (name, task, phrasing)
            for name, data in m.results["datasets"].items()
            for task, by_phrasing in data["tasks"].items()
            for phrasing in phrasings
            if phrasing in by_phrasing
        ]
        for m in measured
    ]
    return [key for key in keys[0] if all(key in others for others in keys[1:])]


def over_seeds(measured: Sequence[Evaluation], phrasings: Sequence[Phrasing]) -> dict[str, Any]:
    """Mean, standard deviation and values of every metric; null if it is not defined in one of the runs."""
    results: dict[str, Any] = {}
    for name, task, phrasing in shared_keys(measured, phrasings):
        by_run = [m.results["datasets"][name]["tasks"][task][phrasing]["metrics"] for m in measured]
        metrics = {}
        for metric in by_run[0]:
            values = [o[metric]["value"] if metric in o else None for o in by_run]
            array = np.asarray([np.nan if v is None else v for v in values])
            mean, sd = (float(v) if np.isfinite(v) else None for v in (array.mean(), array.std(ddof=1)))
            metrics[metric] = {"mean": mean, "sd": sd, "values": values}
        results.setdefault(name, {}).setdefault(task, {})[phrasing] = metrics
    return results


def over_folds(measured: Sequence[Evaluation], phrasings: Sequence[Phrasing]) -> dict[str, Any]:
    """Metrics of the cases of all folds together, with intervals, and each fold's own value."""
    results: dict[str, Any] = {}
    for name, task, phrasing in shared_keys(measured, phrasings):
        data = [m.results["datasets"][name] for m in measured]
        answers = [answer_keys(d["answers"][task]) for d in data]
        all_answers = list(dict.fromkeys(key for keys in answers for key in keys))
        values = tuple(value for _, value in all_answers if value is not None)
        fields = {"dataset": name, "task": task, "phrasing": phrasing}
        tables = [
            align_answers(m.cases.filter(**fields), keys, all_answers)
            for m, keys in zip(measured, answers, strict=True)
        ]
        limits = [np.full(t.height, d["thresholds"].get(task, np.nan)) for t, d in zip(tables, data, strict=True)]
        threshold = np.concatenate(limits)
        cases = pl.concat(tables)
        pooled = as_json(case_metrics(cases, values, None if np.isnan(threshold).any() else threshold))
        by_run = [d["tasks"][task][phrasing]["metrics"] for d in data]
        each = {m: [o[m]["value"] if m in o else None for o in by_run] for m in pooled}
        results.setdefault(name, {}).setdefault(task, {})[phrasing] = {
            "n": cases.height,
            "metrics": {m: {**interval, "values": each[m]} for m, interval in pooled.items()},
        }
    return results


def answer_keys(answers: Mapping[str, Sequence[Any]]) -> list[tuple[str, float | None]]:
    """Word and number (None if the answers are words) of each answer of a fold: bins of one word may have other means
    in another fold."""
    return list(zip(answers["words"], answers["values"] or [None] * len(answers["words"]), strict=True))


def align_answers(
    cases: pl.DataFrame, answers: Sequence[tuple[str, float | None]], all_answers: Sequence[tuple[str, float | None]]
) -> pl.DataFrame:
    """The cases with the answers of all folds: an answer that a fold's training lacked has probability 0 there."""
    if list(answers) == list(all_answers) or not cases.height:
        return cases
    columns = np.asarray([all_answers.index(a) for a in answers])
    probabilities = np.zeros((cases.height, len(all_answers)))
    probabilities[:, columns] = np.asarray(cases["probabilities"].to_list())
    return cases.with_columns(
        pl.Series("probabilities", probabilities.tolist(), dtype=pl.List(pl.Float64)),
        pl.Series("answer", columns[cases["answer"].to_numpy()], dtype=pl.Int32),
    )
