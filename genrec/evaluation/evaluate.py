"""Every task of a finished run on its held-out part: metrics, intervals, and the table of cases."""

import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .. import __version__
from ..data.dataset import Part
from ..data.fetch import cache_folder
from ..errors import DataError, RunError
from ..evaluation import metrics
from ..frames import as_html
from ..options import arguments
from ..progress import SILENT, Progress
from ..rows.corpus import Corpus
from ..rows.stored import load_rows
from ..rows.window import RowOptions
from ..run.alignment import aligned_with
from ..run.config import FinetuneConfig
from ..run.folder import Run
from ..run.loaded import Loaded
from ..scoring.calibration import Calibration
from ..scoring.scorer import Scorer
from .bootstrap import mean_intervals
from .cases import Answered, as_json, cases_of, outcome_intervals
from .examples import examples
from .held_out import Phrasing
from .leaks import Check, leak_checks
from .lists import next_item_results
from .parts import parts_of
from .reading import Reading, read_part
from .results import VERSION, HeldOutPart, headline, read_log
from .summary import summary

PHRASINGS: tuple[Phrasing, ...] = ("served", "seen", "unseen")
METRICS_SCHEMA = {
    **dict.fromkeys(("dataset", "task", "phrasing"), pl.String),
    "cases": pl.Int64,
    "metric": pl.String,
    **dict.fromkeys(("value", "low", "high"), pl.Float64),
}
PACKAGES = ("torch", "transformers", "peft")  # whose versions are written down


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Measured results as plain JSON values (docs/json.md), and the table of cases that they were measured on."""

    results: dict[str, Any]
    cases: pl.DataFrame

    @property
    def frame(self) -> pl.DataFrame:
        """Every metric with its interval: dataset, task, phrasing, cases, metric, value, low, high."""
        rows = [
            (name, task, phrasing, measured["n"], metric, interval["value"], interval.get("low"), interval.get("high"))
            for name, of_dataset in self.results["datasets"].items()
            for task, by_phrasing in of_dataset["tasks"].items()
            for phrasing, measured in by_phrasing.items()
            for metric, interval in measured["metrics"].items()
        ]
        return pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")

    def __repr__(self) -> str:
        return summary(self.results)

    def _repr_html_(self) -> str:
        worth = self.frame.filter(pl.col("metric").map_elements(headline, pl.Boolean) & pl.col("value").is_not_null())
        return as_html(worth, f"Evaluation of {self.results['run']}, {self.results['part']} part")


Predictions = Callable[[Reading, Mapping[str, Calibration], Mapping[str, float]], dict[str, list[dict[str, Any]]]]
FITTED_USERS = 4_000  # of validation at most, from whose cases the weights of parts are fitted
Rivals = Callable[[Corpus, Part, int, int, Progress], tuple[Predictions, list[str]]]


def check_phrasings(phrasings: Sequence[Phrasing]) -> None:
    """Raises DataError unless rivals can be compared on cases in these phrasings."""
    if "served" not in phrasings:
        raise DataError("--baselines are compared with the served phrasing: add served to --phrasing")


def evaluate(
    loaded: Loaded,
    *,
    part: HeldOutPart = "test",
    phrasings: Sequence[Phrasing] = PHRASINGS,
    progress: Progress = SILENT,
    rivals: Rivals | None = None,
    latency: Callable[[Corpus], dict[str, Any]] | None = None,
) -> Evaluation:
    """The results of a run (docs/json.md, `genrec evaluate`) and its cases.

    rivals: called with a data set, the part, the longest history, the seed and the progress; gives a function from
    genrec's own reading, calibration and thresholds to the rivals' results by task, and a line for each rival that is
    left out. latency: how long answers about a data set take. Raises RunError if a leak is found, DataError if
    nothing is held out, UnavailableError if the rivals' packages cannot be had.
    """
    if rivals is not None:
        check_phrasings(phrasings)
    run = loaded.run.folder
    checks = checks_of(loaded)
    if leaks := [
        f"{name}: {c.name}: {c.found}" for name, of_dataset in checks.items() for c in of_dataset if not c.fine
    ]:
        raise RunError(f"{run}: what was held out is known before it is asked about:\n" + "\n".join(leaks))
    scorer, manifest, seed = loaded.scorer, loaded.manifest, loaded.config.seed
    datasets: dict[str, Any] = {}
    cases: list[pl.DataFrame] = []
    progress.expect(costs(loaded.corpora, part, phrasings))
    for corpus in loaded.corpora:
        name = corpus.dataset.name
        tasks: dict[str, Any] = {}
        fitted = {t.name: manifest.calibration.get(f"{name}/{t.name}", {}) for t in corpus.tasks}
        calibration = {task: Calibration.from_json(value) for task, value in fitted.items()}

        def read(
            part: Part, phrasing: Phrasing, what: str, users: int | None = None, corpus: Corpus = corpus
        ) -> Reading:
            advance = progress.stage(reading_stage(what, corpus.dataset.name))
            return read_part(scorer, corpus, part, manifest.max_events, users, seed, advance, phrasing=phrasing)

        yes_no = [t.name for t in corpus.tasks if t.is_yes_no]
        valid = Reading(None, {}, None)
        if yes_no or "served" in phrasings:  # of lists alone only weights are fitted, which few cases tell
            only_lists = all(t.gives_items for t in corpus.tasks)
            valid = read("valid", "served", "valid", FITTED_USERS if only_lists else None)
        thresholds = thresholds_of(yes_no, valid, calibration)
        compared, left_out = rivals(corpus, part, manifest.max_events, seed, progress) if rivals else (None, [])
        seconds = {}
        beside: dict[str, Any] = {}
        by_part: dict[str, Any] = {}
        cost: dict[str, float | None] = {"train_seconds": training_seconds(loaded.run), "predict_ms": None}
        for phrasing in phrasings:
            start = time.perf_counter()
            reading = read(part, phrasing, f"{part}, {phrasing} phrasing,")
            seconds[phrasing] = time.perf_counter() - start
            cases.append(cases_of(corpus, phrasing, reading, calibration))
            for task, task_results in results_by_task(scorer, corpus, reading, calibration, thresholds).items():
                tasks.setdefault(task, {})[phrasing] = task_results
            if phrasing == "served":
                beside = compared(reading, calibration, thresholds) if compared else {}
                by_part = parts_of(scorer, corpus, reading, valid, calibration, seed)
                case_counts = [by_phrasing["served"]["n"] for by_phrasing in tasks.values()]
                cost["predict_ms"] = 1_000 * seconds[phrasing] / sum(case_counts) if case_counts else None
        counts = corpus.dataset.interactions["part"].value_counts()
        datasets[name] = {
            "fingerprint": corpus.dataset.fingerprint,
            "notes": list(corpus.dataset.notes),
            "leak_checks": {c.name: c.found for c in checks[name]},
            "split": corpus.dataset.split_method,
            "interactions": dict(zip(counts["part"].to_list(), counts["count"].to_list(), strict=True)),
            "items": corpus.dataset.items.height,
            "users": len(corpus.events.users) if corpus.events is not None else 0,
            "answers": {t.name: t.answer.to_json() for t in corpus.tasks},
            "thresholds": thresholds,
            "read_seconds": seconds,
            "cost": cost,
            "latency": latency(corpus) if latency else {},
            "tasks": tasks,
            "parts": by_part,
            "examples": examples(loaded, corpus, part, seed, progress.stage(f"examples of {name}")),
        }
        if rivals:
            datasets[name] |= {"baselines": beside, "baselines_left_out": left_out}
    if not any(d["tasks"] for d in datasets.values()):
        raise DataError(f"{run}: nothing is held out in the {part} part")
    results = {
        "version": VERSION,
        "genrec": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": str(run),
        "commands": training_commands(loaded.config, loaded.run),
        "part": part,
        "versions": {"genrec": __version__, "python": platform.python_version()}
        | {name: package_version(name) for name in PACKAGES},
        "backbone": {"model": manifest.backbone.model, "blocks": manifest.backbone.blocks},
        "datasets": datasets,
    }
    return Evaluation(results, pl.concat(cases))


def costs(corpora: Sequence[Corpus], part: HeldOutPart, phrasings: Sequence[Phrasing]) -> dict[str, float]:
    """The stages of an evaluation, with the interactions that each reads."""
    stages: dict[str, float] = {}
    for corpus in corpora:
        parts, name = corpus.dataset.interactions["part"], corpus.dataset.name
        stages[reading_stage("valid", name)] = float((parts == "valid").sum())
        held_out = float((parts == part).sum())
        stages |= {reading_stage(f"{part}, {phrasing} phrasing,", name): held_out for phrasing in phrasings}
        stages[f"examples of {name}"] = 0.05 * held_out
    return stages


def reading_stage(what: str, dataset: str) -> str:
    """The name of the stage that reads a part of a data set."""
    return f"reading {what} of {dataset}"


def training_seconds(run: Run) -> float | None:
    """How long a run's training took, all its resumptions together; None if no log tells it."""
    entries = read_log(run.folder) if run.log.is_file() else []
    spent = [e[name] for name in ("seconds", "train_runtime") for e in entries if name in e]
    return max(spent, default=None)


def training_commands(config: FinetuneConfig, run: Run) -> list[str]:
    """The commands that train a run again: that of finetune, then of align if it was aligned."""
    aligned = aligned_with(run)
    if aligned is None:
        return [shlex.join(("genrec", "finetune", *arguments(replace(config, out=str(run.folder)))))]
    return [*training_commands(config, Run(Path(aligned.run))), shlex.join(("genrec", "align", *arguments(aligned)))]


def checks_of(loaded: Loaded) -> dict[str, list[Check]]:
    """The leak checks of every data set; the training rows are those that the run was trained on."""
    adapter, config, manifest = loaded.adapter, loaded.config, loaded.manifest
    options = RowOptions(manifest.max_events, config.stride, config.question_share, config.seed)
    table = load_rows(loaded.corpora, options, manifest.backbone.sha256, cache_folder() / "rows").data
    owner, sources = np.asarray(table["dataset"].to_pylist()), table["source"].to_pylist()
    checks = {}
    for corpus in loaded.corpora:
        name = corpus.dataset.name
        dataset_rows = [rows for rows, owner_name in zip(sources, owner, strict=True) if owner_name == name]
        items = adapter.catalogues.get(name)
        count = items["train_count"].to_numpy() if items is not None else None
        rows = np.unique(
            np.concatenate([np.asarray(r, dtype=np.int64) for r in dataset_rows] or [np.zeros(0, np.int64)])
        )
        fewer = corpus.dataset.fingerprint != manifest.fingerprints[name]
        checks[name] = leak_checks(corpus, rows, count, manifest.max_events, config.seed, fewer)
    return checks


def thresholds_of(tasks: Sequence[str], reading: Reading, calibration: Mapping[str, Calibration]) -> dict[str, float]:
    """Per task with two answers, the second of which is yes, the least probability that is answered yes, chosen on
    validation for the highest F1."""
    thresholds = {}
    for name in tasks:
        if (outcomes := reading.outcomes.get(name)) is not None:
            probability = outcomes.probabilities(calibration[name])[:, 1]
            thresholds[name] = metrics.best_threshold(probability, outcomes.answer == 1, outcomes.weight)
    return thresholds


def results_by_task(
    scorer: Scorer,
    corpus: Corpus,
    reading: Reading,
    calibration: Mapping[str, Calibration],
    thresholds: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """Metrics by task of one reading."""
    results: dict[str, dict[str, Any]] = {}
    for task in corpus.tasks:
        if task.name == "next_item" and reading.ranked is not None:
            results[task.name] = next_item_results(scorer, corpus, reading.ranked)
        elif task.unit == "basket" and reading.basket_ranks is not None:
            values = metrics.ranking_values(list(reading.basket_ranks[:, None]))
            results[task.name] = {
                "n": len(reading.basket_ranks),
                "metrics": as_json(mean_intervals(values, reading.basket_users)),
            }
        elif task.name in reading.outcomes:
            outcomes = reading.outcomes[task.name]
            results[task.name] = outcome_results(
                outcomes.answered(calibration[task.name]),
                outcomes.about,
                task.answer.values,
                task.answer.choices,
                thresholds.get(task.name),
            )
    return results


def outcome_results(
    cases: Answered,
    about: Sequence[str],
    values: tuple[float, ...],
    choices: tuple[str, ...],
    threshold: float | None,
) -> dict[str, Any]:
    """Metrics of a task with choices or numbers, its reliability or its confusion matrix."""
    probabilities, answer, weight = cases.probabilities, cases.answer, cases.weight
    results: dict[str, Any] = {"n": len(answer)}
    intervals = outcome_intervals(cases, about, values, threshold)
    if threshold is not None:
        bins = metrics.calibration_bins(probabilities[:, 1], answer == 1, weight)
        results["reliability"] = [[round(float(v), 6) for v in row] for row in bins]
    elif not values:
        matrix = metrics.confusion(probabilities.argmax(1), answer, len(choices), weight)
        results["confusion"] = {"answers": list(choices), "right_by_chosen": matrix.round(6).tolist()}
    return results | {"metrics": as_json(intervals)}
