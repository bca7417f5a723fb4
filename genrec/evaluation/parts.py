"""Each task by part: the language model alone, counts alone, texts alone, both of these, and all that is served.

Counts are neighbours, effects and visits; texts are how like an item's text is to those of the history, a content kNN
with a weight of each event by its age, and in answers about an item also what attributes it shares with these. What
stands without the language model has weights of its own,
fitted without it on validation: with those of the run it would be worse than it can be. No part reads anything again:
all are scored from the same states. Answers are calibrated by part on validation.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ..rows.corpus import Corpus
from ..scoring.calibration import Calibration, fit_outcome
from ..scoring.features import by_counts, unfitted
from ..scoring.fit import Cases, fit_lists
from ..scoring.scorer import PARTS, Part, Scorer
from ..tasks.task import Task
from . import metrics
from .cases import as_json, case_metrics, cases_of
from .compare import differences
from .reading import Outcomes, Reading, given_ranks, ranked_states

BY_PART: Mapping[str, tuple[Part, ...]] = {  # of lists
    "language model": ("language model", "cold items"),
    "counts": ("neighbours",),
    "texts": ("texts", "cold items"),
    "counts and texts": ("neighbours", "texts", "cold items"),
    "all": PARTS,
}


def parts_of(
    scorer: Scorer,
    corpus: Corpus,
    reading: Reading,
    valid: Reading,
    calibration: Mapping[str, Calibration],
    seed: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and part the cases and metrics of a reading as served, and what all parts together have over this one,
    with paired intervals; a task that has only the language model has only that part.

    valid: the reading of validation, on which weights are fitted, answers calibrated and thresholds chosen.
    """
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    for task in corpus.tasks:
        if task.answer.kind == "item":
            tables = list_tables(scorer, corpus, reading, valid, task, seed)
            thresholds: Mapping[str, float | None] = dict.fromkeys(tables)
        else:
            tables, thresholds = outcome_tables(scorer, corpus, task, reading, valid, calibration[task.name])
        own = measured[task.name] = {}
        for part, table in tables.items():
            intervals = case_metrics(table, task.answer.values, thresholds[part])
            own[part] = {"n": table.height, "metrics": as_json(intervals)}
            if part != "all" and "all" in tables:
                pair = [thresholds[part], thresholds["all"]]
                gained = differences(table, tables["all"], task.answer.values, pair)
                own[part]["difference"] = {m: values["difference"] for m, values in gained.items()}
    return {task: own for task, own in measured.items() if own}


def list_tables(
    scorer: Scorer, corpus: Corpus, reading: Reading, valid: Reading, task: Task, seed: int
) -> dict[str, pl.DataFrame]:
    """The cases of a task that lists items by part."""
    name, is_basket = corpus.dataset.name, task.unit == "basket"
    counts, question = scorer.counts[name], "basket" if is_basket else "next_item"
    neighbours, texts = counts.neighbours, counts.texts
    adds = any(part is not None and part.adds(question) for part in (neighbours, texts))
    has_counts, has_texts = adds and neighbours is not None, adds and texts is not None
    tables = {}
    for part, parts in BY_PART.items():
        needed = {"counts": has_counts, "texts": has_texts, "counts and texts": has_counts and has_texts}
        if not needed.get(part, part == "language model" or adds):
            continue
        own = scorer if "language model" in parts else without_model(scorer, name, valid, question, parts, seed)
        found = Reading(None, {}, None)
        if is_basket and reading.baskets is not None:
            ranks = given_ranks(own, corpus, reading.baskets, parts)
            found = replace(reading, ranked=None, outcomes={}, basket_ranks=ranks)
        elif not is_basket and reading.ranked is not None:
            found = Reading(ranked_states(own, name, *reading.ranked.cases, parts=parts), {}, None)
        if (table := cases_of(corpus, "served", found, {})).height:
            tables[part] = table
    return tables


def without_model(
    scorer: Scorer, dataset: str, valid: Reading, question: str, parts: tuple[Part, ...], seed: int
) -> Scorer:
    """A scorer whose weights are fitted to validation without the language model, or as they are if it has too few
    cases."""
    counts = copy.deepcopy(scorer.counts[dataset])
    if question == "basket" and (baskets := valid.baskets) is not None:
        cases = Cases(baskets.states, baskets.histories, baskets.targets, baskets.given, question)
        fit_lists(scorer, dataset, counts, cases, seed, parts)
    elif question == "next_item" and (ranked := valid.ranked) is not None:
        fit_lists(scorer, dataset, counts, Cases(ranked.states, ranked.histories, ranked.targets), seed, parts)
    alone = copy.copy(scorer)
    alone.counts = {**scorer.counts, dataset: counts}
    return alone


def outcome_tables(
    scorer: Scorer, corpus: Corpus, task: Task, reading: Reading, valid: Reading, calibration: Calibration
) -> tuple[dict[str, pl.DataFrame], dict[str, float | None]]:
    """The cases of a task with choices or numbers by part, and each part's threshold of a yes."""
    tables: dict[str, pl.DataFrame] = {}
    thresholds: dict[str, float | None] = {}
    if task.name not in reading.outcomes:
        return tables, thresholds
    found, held = reading.outcomes[task.name], valid.outcomes.get(task.name)
    held = held if held is not None and len(held.answer) else None
    by_part = {"language model": (plain(found), held and plain(held))}
    if found.features is not None and calibration.features:
        counts = scorer.counts[corpus.dataset.name]
        own, width, prior = by_counts(counts, task), found.features.shape[1], unfitted(corpus, counts, task)
        for part, columns in (("counts", (0, own)), ("texts", (own, width)), ("counts and texts", (0, width))):
            chosen = slice(*columns)
            if columns[0] == columns[1] or (part == "counts and texts" and own in (0, width)):
                continue
            weights = replace(calibration, features=calibration.features[chosen])
            if held is not None and held.features is not None:
                silent = np.zeros_like(held.scores), held.answer, held.weight, held.features[:, chosen]
                optional = width - own if part == "counts and texts" else 0
                weights = fit_outcome(*silent, task.answer.values, prior[chosen], optional)
            by_part[part] = featured(found, weights, chosen), held and featured(held, weights, chosen)
        by_part["all"] = found, held
    for part, (outcomes, of_valid) in by_part.items():
        fitted = calibration
        if part != "all":
            fitted = (
                Calibration() if of_valid is None else fit_outcome(of_valid.scores, of_valid.answer, of_valid.weight)
            )
        thresholds[part] = None
        if task.is_yes_no and of_valid is not None:
            yes = of_valid.probabilities(fitted)[:, 1]
            thresholds[part] = metrics.best_threshold(yes, of_valid.answer == 1, of_valid.weight)
        tables[part] = cases_of(corpus, "served", Reading(None, {task.name: outcomes}, None), {task.name: fitted})
    return tables, thresholds


def plain(outcomes: Outcomes) -> Outcomes:
    """The outcomes as the language model alone scores them."""
    return replace(outcomes, features=None)


def featured(outcomes: Outcomes, weights: Calibration, chosen: slice) -> Outcomes:
    """The outcomes as some of their features alone score them; weights: of these features."""
    assert outcomes.features is not None
    if not weights.features:  # too few cases to fit any, and unfitted ones are 0
        return replace(outcomes, scores=np.zeros_like(outcomes.scores), features=None)
    scores = (outcomes.features[:, chosen] @ np.asarray(weights.features))[:, None] * np.asarray(weights.tilt)
    return replace(outcomes, scores=scores, features=None)
