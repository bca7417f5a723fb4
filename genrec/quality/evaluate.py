"""Every task of a finished run on its held-out part: metrics, intervals, and what each case got."""

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
from ..data.dataset import Dataset, Part
from ..data.fetch import cache_folder
from ..errors import DataError, RunError
from ..evaluation import metrics
from ..evaluation.bootstrap import mean_intervals
from ..evaluation.cases import as_json, cases_of, outcome_intervals, rank_values
from ..evaluation.held_out import Phrasing
from ..evaluation.leaks import Check, leak_checks
from ..evaluation.reading import LONGEST, Outcomes, Ranked, Reading, read_part
from ..evaluation.results import VERSION, HeldOutPart, headline, read_log, with_interval
from ..options import arguments
from ..recommender import Recommender
from ..rows.arrays import select
from ..rows.corpus import Corpus, build_corpus, first_token, plain_encoder
from ..rows.stored import load_rows
from ..rows.window import RowOptions
from ..run.config import FinetuneConfig, aligned_with, read_config
from ..run.data import load_data
from ..scoring.calibration import Calibration
from .baselines.compare import compared, tables
from .baselines.rivals import baselines_of
from .examples import examples, latency

PHRASINGS: tuple[Phrasing, ...] = ("served", "seen", "unseen")
K = 10  # of lists whose make-up is measured
TENTHS = 10  # of the catalogue by popularity
PACKAGES = ("torch", "transformers", "peft")  # whose versions are written down

Progress = Callable[[str, int, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Loaded:
    """A run beside the data that it was trained on, split as it was then."""

    recommender: Recommender
    config: FinetuneConfig
    corpora: tuple[Corpus, ...]


def load_run(run: Path) -> Loaded:
    """A finished run with its data read again; raises RunError where data or tasks are not those of its training."""
    recommender = Recommender.load(run)
    config = FinetuneConfig(**read_config(run / "config.yaml") | {"out": str(run)})  # type: ignore[arg-type]
    manifest = recommender.adapter.manifest
    datasets = load_data(config)
    for dataset in datasets:
        if manifest.fingerprints.get(dataset.name) != dataset.fingerprint:
            raise RunError(
                f"{run} was trained on other data than {dataset.name} holds now; what was held out cannot be told"
            )
    return Loaded(recommender, config, tuple(corpus_of(recommender, d, config.seed) for d in datasets))


def corpus_of(recommender: Recommender, dataset: Dataset, seed: int) -> Corpus:
    """A data set as the run's tasks see it."""
    adapter = recommender.adapter
    tasks = adapter.tasks_of(dataset.name)
    encode, bos = plain_encoder(adapter.tokenizer), first_token(adapter.tokenizer)
    return build_corpus(dataset, tasks, adapter.manifest.vocabulary, encode, bos, seed, tuple(adapter.tasks))


@dataclass(frozen=True)
class Evaluation:
    """What was measured, as plain JSON values, and the table of cases that it was measured on."""

    results: dict[str, Any]
    cases: pl.DataFrame


def evaluate(
    run: Path,
    *,
    part: HeldOutPart = "test",
    phrasings: Sequence[Phrasing] = PHRASINGS,
    progress: Progress | None = None,
    baselines: bool = False,
) -> Evaluation:
    """The results of a run (docs/json.md, `genrec evaluate`) and its cases.

    baselines: those of each task are measured, too. Raises RunError where the run or its data is not what it was, or a
    leak is found, DataError where nothing is held out, UnavailableError where the baselines' packages cannot be had.
    """
    if baselines and "served" not in phrasings:
        raise DataError("--baselines are compared with the served phrasing: add served to --phrasing")
    loaded = load_run(run)
    checks = checked(loaded)
    if leaks := [f"{name}: {c.name}: {c.found}" for name, own in checks.items() for c in own if not c.fine]:
        raise RunError(f"{run}: what was held out is known before it is asked about:\n" + "\n".join(leaks))
    scorer, manifest = loaded.recommender.scorer, loaded.recommender.adapter.manifest
    datasets: dict[str, Any] = {}
    cases: list[pl.DataFrame] = []
    for corpus in loaded.corpora:
        name = corpus.dataset.name
        tasks: dict[str, Any] = {}
        fitted = {t.name: manifest.calibration.get(f"{name}/{t.name}", {}) for t in corpus.tasks}
        calibration = {task: Calibration.from_json(value) for task, value in fitted.items()}

        def read(part: Part, phrasing: Phrasing, what: str, corpus: Corpus = corpus) -> Reading:
            shown = stage(progress, f"reading {what} of {corpus.dataset.name}")
            return read_part(
                scorer, corpus, part, manifest.max_events, None, loaded.config.seed, shown, phrasing=phrasing
            )

        yes_no = [t.name for t in corpus.tasks if len(t.answer.choices) == 2 and not t.answer.values]
        thresholds = thresholds_of(yes_no, read("valid", "served", "valid"), calibration) if yes_no else {}
        rivals, left_out = (
            baselines_of(corpus, part, manifest.max_events, loaded.config.seed, progress) if baselines else ({}, [])
        )
        seconds = {}
        beside: dict[str, Any] = {}
        cost: dict[str, float | None] = {"train_seconds": training_seconds(run), "predict_ms": None}
        for phrasing in phrasings:
            start = time.perf_counter()
            reading = read(part, phrasing, f"{part}, {phrasing} phrasing,")
            seconds[phrasing] = time.perf_counter() - start
            cases.append(cases_of(corpus, phrasing, reading, calibration))
            for task, found in measured(loaded, corpus, reading, calibration, thresholds).items():
                tasks.setdefault(task, {})[phrasing] = found
            if phrasing == "served":
                beside = compared(corpus, rivals, reading, calibration, thresholds)
                own = [found["served"]["n"] for found in tasks.values()]
                cost["predict_ms"] = 1_000 * seconds[phrasing] / sum(own) if own else None
        counts = corpus.dataset.interactions["part"].value_counts()
        datasets[name] = {
            "fingerprint": corpus.dataset.fingerprint,
            "notes": list(corpus.dataset.notes),
            "leak_checks": {c.name: c.found for c in checks[name]},
            "split": corpus.dataset.split_method,
            "interactions": dict(zip(counts["part"].to_list(), counts["count"].to_list(), strict=True)),
            "items": corpus.dataset.items.height,
            "users": len(corpus.events.users) if corpus.events is not None else 0,
            "answers": {
                t.name: {"words": list(t.answer.choices), "values": list(t.answer.values)} for t in corpus.tasks
            },
            "thresholds": thresholds,
            "read_seconds": seconds,
            "cost": cost,
            "latency": latency(loaded.recommender, corpus, loaded.config.seed),
            "tasks": tasks,
            "examples": examples(
                loaded.recommender, corpus, part, loaded.config.seed, stage(progress, f"examples of {name}")
            ),
        }
        if baselines:
            datasets[name] |= {"baselines": beside, "baselines_left_out": left_out}
    if not any(d["tasks"] for d in datasets.values()):
        raise DataError(f"{run}: nothing is held out in the {part} part")
    results = {
        "version": VERSION,
        "genrec": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": str(run),
        "commands": training_commands(loaded.config, run),
        "part": part,
        "versions": {"genrec": __version__, "python": platform.python_version()}
        | {name: package_version(name) for name in PACKAGES},
        "backbone": {"model": manifest.backbone.model, "blocks": manifest.backbone.blocks},
        "datasets": datasets,
    }
    return Evaluation(results, pl.concat(cases))


def training_seconds(run: Path) -> float | None:
    """How long a run's training took, all its resumptions together; None where that was not written down."""
    entries = read_log(run) if (run / "metrics.jsonl").is_file() else []
    spent = [e[name] for name in ("seconds", "train_runtime") for e in entries if name in e]
    return max(spent, default=None)


def training_commands(config: FinetuneConfig, run: Path) -> list[str]:
    """The commands that train a run again: that of finetune, then of align where it was aligned."""
    aligned = aligned_with(run)
    if aligned is None:
        return [shlex.join(("genrec", "finetune", *arguments(replace(config, out=str(run)))))]
    return [*training_commands(config, Path(aligned.run)), shlex.join(("genrec", "align", *arguments(aligned)))]


def stage(progress: Progress | None, name: str) -> Callable[[int, int], None]:
    """Progress of one stage: done and in all."""

    def shown(done: int, total: int) -> None:
        if progress is not None:
            progress(name, done, total, {})

    return shown


def checked(loaded: Loaded) -> dict[str, list[Check]]:
    """The leak checks of every data set; the training rows are those that the run was trained on."""
    adapter, config = loaded.recommender.adapter, loaded.config
    manifest = adapter.manifest
    options = RowOptions(manifest.max_events, config.stride, config.question_share, config.seed)
    table = load_rows(loaded.corpora, options, manifest.backbone.sha256, cache_folder() / "rows").data
    owner, sources = np.asarray(table["dataset"].to_pylist()), table["source"].to_pylist()
    found = {}
    for corpus in loaded.corpora:
        name = corpus.dataset.name
        own = [rows for rows, of in zip(sources, owner, strict=True) if of == name]
        items = adapter.catalogues.get(name)
        count = items["train_count"].to_numpy() if items is not None else None
        rows = np.unique(np.concatenate([np.asarray(r, dtype=np.int64) for r in own] or [np.zeros(0, np.int64)]))
        found[name] = leak_checks(corpus, rows, count, manifest.max_events, config.seed)
    return found


def thresholds_of(tasks: Sequence[str], reading: Reading, calibration: Mapping[str, Calibration]) -> dict[str, float]:
    """Per task with two answers, the second of which is yes, the probability from which it is said, chosen on
    validation for the highest F1."""
    found = {}
    for name in tasks:
        if (outcomes := reading.outcomes.get(name)) is not None:
            probability = outcomes.probabilities(calibration[name])[:, 1]
            found[name] = metrics.best_threshold(probability, outcomes.answer == 1, outcomes.weight)
    return found


def measured(
    loaded: Loaded,
    corpus: Corpus,
    reading: Reading,
    calibration: Mapping[str, Calibration],
    thresholds: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """Metrics by task of one reading."""
    found: dict[str, dict[str, Any]] = {}
    for task in corpus.tasks:
        if task.name == "next_item" and reading.ranked is not None:
            found[task.name] = next_item_results(loaded, corpus, reading.ranked)
        elif task.unit == "basket" and reading.basket_ranks is not None:
            values = metrics.ranking_values(list(reading.basket_ranks[:, None]))
            found[task.name] = {
                "n": len(reading.basket_ranks),
                "metrics": as_json(mean_intervals(values, reading.basket_users)),
            }
        elif task.name in reading.outcomes:
            outcomes = reading.outcomes[task.name]
            found[task.name] = outcome_results(
                outcomes,
                outcomes.probabilities(calibration[task.name]),
                task.answer.values,
                task.answer.choices,
                thresholds.get(task.name),
            )
    return found


def next_item_results(loaded: Loaded, corpus: Corpus, ranked: Ranked) -> dict[str, Any]:
    """Ranking metrics under both protocols, of warm and cold cases apart, and what the lists are made of."""
    assert corpus.events is not None
    train = select(corpus.events, corpus.events.part == 0)
    count = np.bincount(train.item[train.item >= 0], minlength=corpus.items.size)
    seen_users = {u for u, n in zip(train.users, np.diff(train.offsets), strict=True) if n > 0}
    cold_user = np.asarray([u not in seen_users for u in ranked.users])
    cold_item = np.asarray([bool((count[t] == 0).any()) for t in ranked.targets])
    found = mean_intervals(rank_values(ranked.seen_removed, ranked.seen_kept), ranked.users)
    values = metrics.ranking_values(ranked.seen_removed)
    groups = {"warm": ~cold_user & ~cold_item, "cold_user": cold_user, "cold_item": cold_item}
    apart = {}
    for name, mask in groups.items():
        if mask.any():
            users = [u for u, m in zip(ranked.users, mask, strict=True) if m]
            some = {k: values[k][mask] for k in ("hr@10", "ndcg@10", "mrr@10")}
            apart[name] = {"n": int(mask.sum()), "metrics": as_json(mean_intervals(some, users))}
    vectors = loaded.recommender.scorer.item_rows(corpus.dataset.name)[0].cpu().numpy()
    return {
        "n": len(ranked.users),
        "metrics": as_json(found),
        "lists": list_results(ranked.lists[:, :K], count, vectors),
        "coverage": [coverage(ranked.lists[:, :k], len(count)) for k in range(1, LONGEST + 1)],
        "popularity": popularity_shares(ranked, count),
        "groups": apart,
    }


def coverage(lists: np.ndarray, items: int) -> float:
    """Share of a catalogue in any of the lists (cases, k), -1 for no item."""
    return len(np.unique(lists[lists >= 0])) / max(items, 1)


def popularity_shares(ranked: Ranked, count: np.ndarray) -> dict[str, list[float]]:
    """How much of the training interactions, of the lists and of the held-out items falls on each tenth of the
    catalogue, the most popular items first."""
    order = np.argsort(-count, kind="stable")
    tenth = np.empty(len(count), dtype=np.int64)
    tenth[order] = np.arange(len(count)) * TENTHS // len(count)
    lists = ranked.lists[:, :K]
    items = {"train": np.repeat(np.arange(len(count)), count), "lists": lists[lists >= 0]}
    items["held_out"] = np.concatenate(ranked.targets)
    sums = {name: np.bincount(tenth[own], minlength=TENTHS) for name, own in items.items()}
    return {name: [float(v) for v in own / max(own.sum(), 1)] for name, own in sums.items()}


def list_results(lists: np.ndarray, count: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """What lists (cases, k) are made of, -1 for no item.

    coverage: share of the catalogue in any list. novelty: mean -log2 of an item's share of the training interactions
    (one is added to each count; Zhou et al. 2010). diversity: one minus the mean cosine of the item vectors (items,
    width) within a list (Ziegler et al. 2005). popularity_lift: mean training interactions of a listed item, over that
    of the interactions themselves: 1 where lists repeat what people take anyway (Abdollahpouri et al. 2019, in spirit).
    """
    shown = lists[lists >= 0]
    share = (count + 1) / (count + 1).sum()
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    diversity = []
    for own in lists:
        own = own[own >= 0]
        if len(own) > 1:
            mean = unit[own].sum(0)
            diversity.append(1 - (mean @ mean - len(own)) / (len(own) * (len(own) - 1)))
    usual = (count.astype(np.float64) ** 2).sum() / max(count.sum(), 1)
    return {
        f"coverage@{K}": coverage(lists, len(count)),
        f"novelty@{K}": float(-np.log2(share[shown]).mean()) if len(shown) else float("nan"),
        f"diversity@{K}": float(np.mean(diversity)) if diversity else float("nan"),
        f"popularity_lift@{K}": float(count[shown].mean() / usual) if usual and len(shown) else float("nan"),
    }


def outcome_results(
    outcomes: Outcomes,
    probabilities: np.ndarray,
    values: tuple[float, ...],
    choices: tuple[str, ...],
    threshold: float | None,
) -> dict[str, Any]:
    """Metrics of a task with choices or numbers, its reliability or its confusion matrix."""
    answer, weight = outcomes.answer, outcomes.weight
    found: dict[str, Any] = {"n": len(answer)}
    measured = outcome_intervals(probabilities, answer, weight, outcomes.about, values, threshold)
    if threshold is not None:
        bins = metrics.calibration_bins(probabilities[:, 1], answer == 1, weight)
        found["reliability"] = [[round(float(v), 6) for v in row] for row in bins]
    elif not values:
        matrix = metrics.confusion(probabilities.argmax(1), answer, len(choices), weight)
        found["confusion"] = {"answers": list(choices), "right_by_chosen": matrix.round(6).tolist()}
    return found | {"metrics": as_json(measured)}


def summary(results: Mapping[str, Any]) -> str:
    """The metrics worth a line, by data set, task and phrasing, each with its interval."""
    lines = []
    for name, data in results["datasets"].items():
        for task, by_phrasing in data["tasks"].items():
            for phrasing, found in by_phrasing.items():
                shown = [
                    f"{metric} {with_interval(own)}"
                    for metric, own in found["metrics"].items()
                    if headline(metric) and own["value"] is not None
                ]
                lines.append(f"{name}, {task}, {phrasing}, {found['n']:,} cases")
                lines += [f"    {line}" for line in shown]
                lists = found.get("lists", {})
                lines += ["    lists: " + ", ".join(f"{k} {v:.3f}" for k, v in lists.items())] if lists else []
                for group, own in found.get("groups", {}).items():
                    ndcg = own["metrics"]["ndcg@10"]["value"]
                    lines.append(f"    {group.replace('_', ' ')}: ndcg@10 {ndcg:.4f}, {own['n']:,} cases")
    return "\n".join([*lines, *tables(results)])
