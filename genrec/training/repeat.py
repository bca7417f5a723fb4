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
from ..run.config import FinetuneConfig
from ..run.folder import Run
from .finetune import finetune

Kind = Literal["seed", "fold"]


@dataclass(frozen=True)
class Again:
    """One of the runs: the seed or fold, and what is trained where; `own` where that is the first run itself."""

    kind: Kind
    number: int
    config: FinetuneConfig
    own: bool

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return Path(self.config.out or "")

    @property
    def finished(self) -> bool:
        """Whether it was trained before."""
        return Run(self.folder).finished


def runs_of(run: Path, seeds: int | None, folds: int | None) -> list[Again]:
    """The runs that `--seeds` and `--folds` ask for, the first run among them; none is trained yet.

    Raises DataError for a number below 2, RunError where the first run is not finished or a folder holds a run with
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
        configs += [("fold", n, replace(first, split="k_fold", folds=folds, fold=n)) for n in range(folds)]
    found = []
    for kind, number, config in configs:
        own = config == first
        folder = run if own else run / f"{kind}s" / str(number)
        config = replace(config, out=str(folder))
        if Run(folder).config_file.is_file() and Run(folder).config() != config:
            raise RunError(f"{folder} holds a run with other options; remove {folder.parent} first")
        found.append(Again(kind, number, config, own))
    return found


def train(runs: Sequence[Again], say: Callable[[str], None], progress: Progress) -> None:
    """Train those that are not finished; an interrupted one is resumed."""

    missing = [r for r in runs if not r.finished]
    for n, one in enumerate(missing, start=1):
        name = f"{one.kind} {one.number}"
        say(f"{name}: run {n} of {len(missing)}, {one.folder}")
        finetune(one.config, say, progress.under(name))


def repeated(
    runs: Sequence[Again],
    first: Evaluation,
    phrasings: Sequence[Phrasing],
    measure: Callable[[Path], Evaluation],
) -> dict[str, Any]:
    """`seeds` and `folds` of the first run's results (docs/json.md); measure: what evaluates a run, once."""
    found: dict[str, Any] = {}
    for kind, combine in (("seed", over_seeds), ("fold", over_folds)):
        if own := [r for r in runs if r.kind == kind]:
            every = [first if r.own else measure(r.folder) for r in own]
            prints = [{name: d["fingerprint"] for name, d in m.results["datasets"].items()} for m in every]
            found[f"{kind}s"] = {
                "numbers": [r.number for r in own],
                "runs": [str(r.folder) for r in own],
                "same_data": all(p == prints[0] for p in prints),
                "datasets": combine(every, phrasings),
            }
    return found


def summary(results: Mapping[str, Any]) -> list[str]:
    """The metrics worth a line over seeds and over folds."""
    lines = []
    for name, task, phrasing, own in places(results.get("seeds", {}).get("datasets", {})):
        numbers = ", ".join(map(str, results["seeds"]["numbers"]))
        lines.append(f"{name}, {task}, {phrasing}, seeds {numbers}")
        for metric, found in own.items():
            if headline(metric) and found["mean"] is not None:
                lines.append(f"    {metric} {found['mean']:.4f}, standard deviation {found['sd']:.4f}")
    for name, task, phrasing, own in places(results.get("folds", {}).get("datasets", {})):
        lines.append(f"{name}, {task}, {phrasing}, {len(results['folds']['numbers'])} folds, {own['n']:,} cases")
        for metric, found in own["metrics"].items():
            if headline(metric) and found["value"] is not None:
                each = ", ".join(f"{v:.4f}" if v is not None else "not defined" for v in found["values"])
                lines.append(f"    {metric} {with_interval(found)}; by fold {each}")
    return lines


def places(datasets: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Data set, task, phrasing and what was found there."""
    for name, tasks in datasets.items():
        for task, by_phrasing in tasks.items():
            for phrasing, own in by_phrasing.items():
                yield name, task, phrasing, own


def shared(measured: Sequence[Evaluation], phrasings: Sequence[Phrasing]) -> list[tuple[str, str, Phrasing]]:
    """Data sets, tasks and phrasings that every run has."""
    every = [
        [
            (name, task, phrasing)
            for name, data in m.results["datasets"].items()
            for task, own in data["tasks"].items()
            for phrasing in phrasings
            if phrasing in own
        ]
        for m in measured
    ]
    return [place for place in every[0] if all(place in own for own in every[1:])]


def over_seeds(measured: Sequence[Evaluation], phrasings: Sequence[Phrasing]) -> dict[str, Any]:
    """Mean, standard deviation and values of every metric; null where it is not defined in one of the runs."""
    found: dict[str, Any] = {}
    for name, task, phrasing in shared(measured, phrasings):
        own = [m.results["datasets"][name]["tasks"][task][phrasing]["metrics"] for m in measured]
        metrics = {}
        for metric in own[0]:
            values = [o[metric]["value"] if metric in o else None for o in own]
            known = np.asarray([np.nan if v is None else v for v in values])
            mean, sd = (float(v) if np.isfinite(v) else None for v in (known.mean(), known.std(ddof=1)))
            metrics[metric] = {"mean": mean, "sd": sd, "values": values}
        found.setdefault(name, {}).setdefault(task, {})[phrasing] = metrics
    return found


def over_folds(measured: Sequence[Evaluation], phrasings: Sequence[Phrasing]) -> dict[str, Any]:
    """Metrics of the cases of all folds together, with intervals, and each fold's own value."""
    found: dict[str, Any] = {}
    for name, task, phrasing in shared(measured, phrasings):
        data = [m.results["datasets"][name] for m in measured]
        words = list(dict.fromkeys(w for d in data for w in d["answers"][task]["words"]))
        values = {
            w: v for d in data for w, v in zip(d["answers"][task]["words"], d["answers"][task]["values"], strict=False)
        }
        wanted = {"dataset": name, "task": task, "phrasing": phrasing}
        tables = [
            aligned(m.cases.filter(**wanted), d["answers"][task]["words"], words)
            for m, d in zip(measured, data, strict=True)
        ]
        limits = [np.full(t.height, d["thresholds"].get(task, np.nan)) for t, d in zip(tables, data, strict=True)]
        threshold = np.concatenate(limits)
        cases = pl.concat(tables)
        pooled = as_json(
            case_metrics(
                cases, tuple(values[w] for w in words if w in values), None if np.isnan(threshold).any() else threshold
            )
        )
        own = [d["tasks"][task][phrasing]["metrics"] for d in data]
        each = {m: [o[m]["value"] if m in o else None for o in own] for m in pooled}
        found.setdefault(name, {}).setdefault(task, {})[phrasing] = {
            "n": cases.height,
            "metrics": {m: {**interval, "values": each[m]} for m, interval in pooled.items()},
        }
    return found


def aligned(cases: pl.DataFrame, words: Sequence[str], every: Sequence[str]) -> pl.DataFrame:
    """The cases with the answers of all folds: one that a fold's training had not has probability 0 there."""
    if list(words) == list(every) or not cases.height:
        return cases
    place = np.asarray([every.index(w) for w in words])
    probabilities = np.zeros((cases.height, len(every)))
    probabilities[:, place] = np.asarray(cases["probabilities"].to_list())
    return cases.with_columns(
        pl.Series("probabilities", probabilities.tolist(), dtype=pl.List(pl.Float64)),
        pl.Series("answer", place[cases["answer"].to_numpy()], dtype=pl.Int32),
    )
