"""Validation of a training: every task's metrics, and the calibration that is fitted on validation."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl

from ..counting import counted
from ..errors import DataError
from ..evaluation import metrics
from ..evaluation.reading import Reading, next_item_losses, next_item_metrics, read_part, reweigh
from ..progress import SILENT, Progress
from ..rows.corpus import Corpus
from ..run.config import FinetuneConfig
from ..scoring.calibration import Calibration, fit_items, fit_outcome
from ..scoring.content import shared_attributes
from ..scoring.features import by_counts, unfitted
from ..scoring.fit import Cases, find_effects, find_neighbours, fit_lists
from ..scoring.scorer import PARTS, Counts, Part, Scorer
from ..scoring.texts import Texts
from .prepare import Prepared
from .resume import has_little_validation, parent_calibration

FEW_CASES = 100  # below which a line of metrics says how many they are
VALID_CASES = 4_000  # users or texts that a validation reads at most: a standard error of .003 in NDCG
TEXT_TOKENS = 100.0  # of a text, roughly
CALIBRATION = 4  # the most that calibration reads, once, in validations: weights of neighbours and features need cases


def validation(
    config: FinetuneConfig,
    prepared: Prepared,
    scorer: Scorer,
    part: Literal["valid", "test"] = "valid",
    tokens: int | None = None,
    calibration: Mapping[str, Calibration] | None = None,
    progress: Progress = SILENT,
) -> dict[str, float]:
    """Every task's metrics on a part, and `criterion`, the number that early stopping maximises.

    The criterion is the mean NDCG@10 of next_item over the data sets that have it (seen items removed, or kept if
    baskets repeat items); without next_item, minus the mean log loss. Empty if nothing is held out for a test.
    tokens: the most that are read. calibration: by `dataset/task`.
    """
    scorer.refresh()
    result: dict[str, float] = {}
    ranked, losses = [], []
    for corpus in prepared.corpora:
        what = "test" if part == "test" else "validation"
        reading = read(config, prepared, scorer, corpus, part, tokens, progress, what)
        for task, values in task_metrics(corpus, reading, calibration or {}).items():
            if task == "next_item":
                ranked.append(values[f"{protocol(corpus)}/ndcg@10"])
            elif "log_loss" in values:
                losses.append(values["log_loss"])
            result |= {f"{corpus.dataset.name}/{task}/{k}": v for k, v in values.items()}
    if not ranked and not losses:
        if part == "test":
            return {}
        raise DataError(
            "nothing is held out for validation: the data is too small to split; "
            "give more interactions or --split random"
        )
    result["criterion"] = float(np.mean(ranked)) if ranked else -float(np.mean(losses))
    return result


def protocol(corpus: Corpus) -> Literal["seen_kept", "seen_removed"]:
    """The protocol that lists of a data set are measured by: seen items kept if baskets repeat items, else removed."""
    return "seen_kept" if "basket" in corpus.dataset.interactions.columns else "seen_removed"


def task_metrics(
    corpus: Corpus, reading: Reading, calibration: Mapping[str, Calibration]
) -> dict[str, dict[str, float]]:
    """The metrics of every task that a reading holds cases of."""
    by_task: dict[str, dict[str, float]] = {}
    for task in corpus.tasks:
        if task.name == "next_item" and reading.ranked is not None:
            by_task[task.name] = next_item_metrics(reading.ranked)
        elif task.unit == "basket" and reading.basket_ranks is not None:
            ranks = list(reading.basket_ranks[:, None])
            by_task[task.name] = {"n": float(len(ranks)), **metrics.ranking_metrics(ranks)}
        elif task.name in reading.outcomes:
            outcomes = reading.outcomes[task.name]
            fitted = calibration.get(f"{corpus.dataset.name}/{task.name}", Calibration())
            probabilities = outcomes.probabilities(fitted)
            by_task[task.name] = metrics.outcome_metrics(
                probabilities, outcomes.answer, task.answer.values, outcomes.weight, outcomes.truth
            )
    return by_task


def read(
    config: FinetuneConfig,
    prepared: Prepared,
    scorer: Scorer,
    corpus: Corpus,
    part: Literal["valid", "test"],
    tokens: int | None,
    progress: Progress,
    what: str,
) -> Reading:
    """The reading of a part of one data set, with progress as the stage `WHAT of DATASET`."""
    advance = progress.stage(f"{what} of {corpus.dataset.name}")
    limit = user_limit(corpus, prepared.max_events, tokens)
    return read_part(scorer, corpus, part, prepared.max_events, limit, config.seed, advance)


def user_limit(corpus: Corpus, max_events: int, tokens: int | None) -> int | None:
    """How many users (or texts) a validation of at most `tokens` tokens reads."""
    return None if tokens is None else min(VALID_CASES, max(1, int(tokens / tokens_per_case(corpus, max_events))))


def part_tokens(prepared: Prepared, part: Literal["valid", "test"], tokens: int | None) -> float:
    """Tokens that a reading of a part takes in all data sets, roughly; tokens: the most of each, if it is limited."""
    return sum(corpus_tokens(corpus, prepared.max_events, part, tokens) for corpus in prepared.corpora)


def corpus_tokens(corpus: Corpus, max_events: int, part: str, tokens: int | None) -> float:
    """Tokens that a reading of a part takes in one data set, roughly."""
    frame = corpus.dataset.interactions.filter(pl.col("part") == part)
    cases = frame["user_id"].n_unique() if corpus.events is not None else frame.height
    limit = user_limit(corpus, max_events, tokens)
    return (cases if limit is None else min(cases, limit)) * tokens_per_case(corpus, max_events)


def tokens_per_case(corpus: Corpus, max_events: int) -> float:
    """Tokens of a user's history or of a text, roughly."""
    if corpus.events is None:
        return TEXT_TOKENS
    events = min(max_events, len(corpus.events.item) / max(1, len(corpus.events.users)))
    return 2 + events * (1 + float((corpus.events.outcome >= 0).mean()))


def calibrate(
    config: FinetuneConfig,
    prepared: Prepared,
    scorer: Scorer,
    progress: Progress = SILENT,
    tokens: int | None = None,
) -> dict[str, Calibration]:
    """Temperatures and biases of every task by `dataset/task`, fitted on validation, and the neighbours' weights.

    If a run resumes from another and validation has few events, they are those of the other one. tokens: the most that
    are read (default: CALIBRATION times those of a validation).
    """
    tokens = CALIBRATION * config.valid_tokens if tokens is None else tokens
    scorer.refresh()
    calibrations: dict[str, Calibration] = {}
    for corpus in prepared.corpora:
        if config.resume_from is not None and has_little_validation(corpus):
            calibrations |= parent_calibration(config, corpus, scorer)
            continue
        if corpus.events is not None and corpus.dataset.items.height:
            counts = scorer.counts[corpus.dataset.name]
            counts.attributes = shared_attributes(corpus.dataset.items)
            if config.collaborative:
                effects = find_effects(corpus)
                counts.effects = effects and effects.to(scorer.model.device)
        reading = read(config, prepared, scorer, corpus, "valid", tokens, progress, "calibration")
        if (ranked := reading.ranked) is not None:
            name = corpus.dataset.name
            counts = scorer.counts[name]
            counts.texts = Texts() if scorer.model.rows_of(name).worded.any() else None
            counts.neighbours = find_neighbours(corpus) if config.collaborative else None
            fit_questions(scorer, name, counts.to(scorer.model.device), reading, config.seed)
            reading = reweigh(scorer, corpus, reading)
            calibrations[f"{name}/next_item"] = fit_items(*next_item_losses(scorer, name, ranked))
        calibrations |= fit_outcomes(scorer, corpus, reading)
    return calibrations


def fit_questions(
    scorer: Scorer, dataset: str, counts: Counts, reading: Reading, seed: int, parts: Sequence[Part] = PARTS
) -> None:
    """Fit the weights in a data set's counts for every question that the reading asks, beside those parts."""
    if (ranked := reading.ranked) is not None:
        cases = Cases(ranked.states, ranked.histories, ranked.targets)
        fit_lists(scorer, dataset, counts, cases, seed, parts)
    if (baskets := reading.baskets) is not None:
        cases = Cases(baskets.states, baskets.histories, baskets.targets, baskets.given, "basket")
        fit_lists(scorer, dataset, counts, cases, seed, parts)


def fit_outcomes(scorer: Scorer, corpus: Corpus, reading: Reading) -> dict[str, Calibration]:
    """Temperatures, biases and weights of features of a data set's tasks with choices or numbers, by `dataset/task`."""
    calibrations = {}
    for name, outcomes in reading.outcomes.items():
        task = next(t for t in corpus.tasks if t.name == name)
        features = outcomes.features if task.answer.values or len(task.answer.choices) == 2 else None
        cases, counts = (outcomes.scores, outcomes.answer, outcomes.weight), scorer.counts[corpus.dataset.name]
        if features is None:
            fitted = fit_outcome(*cases)
        else:
            of_texts, known = features.shape[1] - by_counts(counts, task), unfitted(corpus, counts, task)
            fitted = fit_outcome(*cases, features, task.answer.values, known, of_texts)
        calibrations[f"{corpus.dataset.name}/{name}"] = fitted
    return calibrations


def headline(values: Mapping[str, float]) -> str:
    """The few metrics worth a line, and of how many cases those of few are."""
    few = [(k.removesuffix("/n"), int(v)) for k, v in values.items() if k.endswith("/n") and v < FEW_CASES]
    line = ", ".join(f"{k} {v:.4f}" for k, v in values.items() if metrics.sums_up(k))
    return line + "".join(f"; {task}: only {counted(n, 'cases')}" for task, n in few)
