"""Each task by part: the language model alone, counts alone, both.

Counts are neighbours, effects and visits, with the weights that the run has fitted.

No part reads anything again: all are scored from the same states. Answers are calibrated by part on validation, so that
no part is compared by probabilities that were fitted for another.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..rows.corpus import Corpus
from ..scoring.calibration import Calibration, fit_outcome
from ..scoring.scorer import PARTS, Part, Scorer
from ..tasks.task import Task
from . import metrics
from .bootstrap import mean_intervals
from .cases import as_json, outcome_intervals, rank_values
from .reading import Outcomes, Reading, given_ranks, ranked_states

BY_PART: Mapping[str, tuple[Part, ...]] = {  # of lists
    "language model": ("language model", "cold items"),
    "counts": ("neighbours",),
    "both": PARTS,
}


def parts_of(
    scorer: Scorer, corpus: Corpus, reading: Reading, valid: Reading, calibration: Mapping[str, Calibration]
) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and part the cases and metrics of a reading as served; a task that counts add nothing to has only the
    language model. valid: the reading of validation, on which answers are calibrated and thresholds chosen."""
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    for task in corpus.tasks:
        if task.answer.kind == "item":
            by_part = list_parts(scorer, corpus, reading, "basket" if task.unit == "basket" else "next_item")
        else:
            by_part = outcome_parts(task, reading, valid, calibration[task.name])
        if by_part:
            measured[task.name] = by_part
    return measured


def list_parts(scorer: Scorer, corpus: Corpus, reading: Reading, question: str) -> dict[str, dict[str, Any]]:
    """Metrics of a question's lists by part."""
    name, ranked, baskets = corpus.dataset.name, reading.ranked, reading.baskets
    neighbours = scorer.counts[name].neighbours
    counted = neighbours is not None and neighbours.adds(question)
    measured: dict[str, dict[str, Any]] = {}
    for part, parts in BY_PART.items():
        if not counted and part != "language model":
            continue
        if question == "basket" and baskets is not None:
            ranks = given_ranks(scorer, corpus, baskets, parts)
            values, about = rank_values(None, list(ranks[:, None])), reading.basket_users
        elif question == "next_item" and ranked is not None:
            rescored = ranked_states(scorer, name, *ranked.cases, parts=parts)
            values, about = rank_values(rescored.seen_removed, rescored.seen_kept), tuple(ranked.users)
        else:
            return {}
        measured[part] = {"n": len(about), "metrics": as_json(mean_intervals(values, about))}
    return measured


def outcome_parts(task: Task, reading: Reading, valid: Reading, calibration: Calibration) -> dict[str, dict[str, Any]]:
    """Metrics of a task with choices or numbers by part."""
    if task.name not in reading.outcomes:
        return {}
    test_outcomes, valid_outcomes = reading.outcomes[task.name], valid.outcomes.get(task.name)
    measured = {
        "language model": part_metrics(task, plain(test_outcomes), valid_outcomes and plain(valid_outcomes), None)
    }
    if test_outcomes.features is not None and calibration.features:
        both = [
            counts_alone(outcomes, calibration) for outcomes in (test_outcomes, valid_outcomes) if outcomes is not None
        ]
        measured["counts"] = part_metrics(task, both[0], both[1] if len(both) > 1 else None, None)
        measured["both"] = part_metrics(task, test_outcomes, valid_outcomes, calibration)
    return measured


def plain(outcomes: Outcomes) -> Outcomes:
    """The outcomes as the language model alone scores them."""
    return replace(outcomes, features=None)


def counts_alone(outcomes: Outcomes, calibration: Calibration) -> Outcomes:
    """The outcomes as counts alone score them, with the weights that a run has fitted."""
    assert outcomes.features is not None
    scores = (outcomes.features @ np.asarray(calibration.features))[:, None] * np.asarray(calibration.tilt)
    return replace(outcomes, scores=scores, features=None)


def part_metrics(
    task: Task, outcomes: Outcomes, held: Outcomes | None, calibration: Calibration | None
) -> dict[str, Any]:
    """Cases and metrics of one part; calibration: as it was fitted, or None to fit it on the validation cases."""
    if calibration is None:
        empty = held is None or not len(held.answer)
        calibration = Calibration() if empty else fit_outcome(held.scores, held.answer, held.weight)  # type: ignore[union-attr]
    threshold = None
    if task.is_yes_no and held is not None:
        yes = held.probabilities(calibration)[:, 1]
        threshold = metrics.best_threshold(yes, held.answer == 1, held.weight)
    cases = outcomes.answered(calibration)
    intervals = outcome_intervals(cases, outcomes.about, task.answer.values, threshold)
    return {"n": len(cases.answer), "metrics": as_json(intervals)}
