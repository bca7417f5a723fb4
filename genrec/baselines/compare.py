"""Metrics of the baselines and their paired differences from genrec, by the same code from the same cases."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..data.dataset import Part
from ..evaluation.bootstrap import mean_intervals, metric_intervals
from ..evaluation.cases import Answered, Measure, Metrics, as_json, measure_of, plain_ece, rank_values, user_aucs
from ..evaluation.evaluate import Predictions
from ..evaluation.held_out import NEXT_ITEM
from ..evaluation.reading import Outcomes, Reading
from ..progress import Progress
from ..rows.corpus import Corpus
from ..scoring.calibration import Calibration
from .cases import list_ranks
from .models import Predicted
from .rivals import baselines_of


def rivals_of(
    corpus: Corpus, part: Part, max_events: int, seed: int, progress: Progress
) -> tuple[Predictions, list[str]]:
    """The rivals of every task of a data set, as `evaluate` takes them: a function from our reading to theirs beside
    it, and a line for each that is left out."""
    predicted, left_out = baselines_of(corpus, part, max_events, seed, progress)
    return partial(baseline_results, corpus, predicted), left_out


def baseline_results(
    corpus: Corpus,
    predictions: Mapping[str, Mapping[str, Predicted]],
    reading: Reading,
    calibration: Mapping[str, Calibration],
    thresholds: Mapping[str, float],
) -> dict[str, list[dict[str, Any]]]:
    """The baselines of each task as results.json holds them (docs/json.md); reading: ours, as served."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for task in corpus.tasks:
        for name, predicted in predictions.get(task.name, {}).items():
            items, arrays = corpus.items.size if corpus.events is not None else 0, predicted.arrays
            if task.name == NEXT_ITEM:
                ranked = reading.ranked
                assert ranked is not None
                ranks = [list_ranks(arrays[p], ranked.targets, items) for p in ("removed", "kept")]
                ours = ranked.seen_removed, ranked.seen_kept
                theirs, difference = list_comparison(ours, (ranks[0], ranks[1]), ranked.users)
                cases = len(ranked.users)
            elif task.unit == "basket":
                assert reading.basket_ranks is not None
                targets, missing = list(arrays["targets"][:, None]), list(reading.basket_ranks[:, None])
                ranks = [list_ranks(arrays["removed"], targets, items)]
                theirs, difference = list_comparison((None, missing), (None, ranks[0]), reading.basket_users)
                cases = len(missing)
            else:
                outcomes = reading.outcomes[task.name]
                probabilities = outcomes.probabilities(calibration[task.name])
                threshold = thresholds.get(task.name)
                theirs, difference = outcome_comparison(
                    outcomes, probabilities, threshold, task.answer.values, predicted
                )
                cases = len(outcomes.answer)
            rows.setdefault(task.name, []).append(
                {
                    "name": name,
                    "settings": predicted.settings,
                    "searched": predicted.searched,
                    "valid": predicted.valid,
                    "metrics": as_json(theirs),
                    "difference": as_json(difference),
                    "train_seconds": round(predicted.train_seconds, 3),
                    "predict_ms": round(1_000 * predicted.predict_seconds / cases, 4),
                }
            )
    return rows


def list_comparison(
    ours: tuple[Sequence[np.ndarray] | None, Sequence[np.ndarray]],
    theirs: tuple[Sequence[np.ndarray] | None, Sequence[np.ndarray]],
    about: Sequence[str],
) -> tuple[Metrics, Metrics]:
    """A baseline's ranking metrics, and ours minus them; ranks: seen items removed (if that is measured) and kept."""
    our_values, their_values = rank_values(*ours), rank_values(*theirs)
    return mean_intervals(their_values, about), mean_intervals(
        {name: our_values[name] - their_values[name] for name in our_values}, about
    )


def outcome_comparison(
    outcomes: Outcomes,
    ours: np.ndarray,
    threshold: float | None,
    values: tuple[float, ...],
    predicted: Predicted,
) -> tuple[Metrics, Metrics]:
    """A baseline's metrics of a task with choices or numbers, and ours minus them, of the metrics that both have."""
    arrays, cases = predicted.arrays, Answered(ours, outcomes.answer, outcomes.weight, outcomes.truth)
    assert len(next(iter(arrays.values()))) == len(ours), "the baselines have other cases than ours"
    our_measure, their_cases = measure_of(cases, values, threshold), cases
    if "values" in arrays:
        assert outcomes.truth is not None
        their_measure = number_measure(arrays["values"], outcomes.truth, outcomes.weight)
    else:
        limit = None if threshold is None else float(arrays["threshold"])
        their_cases = replace(cases, probabilities=arrays["probabilities"])
        their_measure = measure_of(their_cases, (), limit)

    def gain(factor: np.ndarray) -> dict[str, float]:
        mine, theirs = our_measure(factor), their_measure(factor)
        return {name: mine[name] - theirs[name] for name in theirs if name in mine}

    intervals, gained = (plain_ece(metric_intervals(of, outcomes.about)) for of in (their_measure, gain))
    if threshold is not None:
        (a, users), (b, _) = (user_aucs(c, outcomes.about) for c in (cases, their_cases))
        if len(a) > 1:
            intervals |= mean_intervals({"user_auc": b}, users)
            gained |= mean_intervals({"user_auc": a - b}, users)
    return intervals, gained


def number_measure(numbers: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> Measure:
    """Errors of numbers (cases,), as a function of a factor on each case's weight: a number is no distribution, so it
    has no log loss and no accuracy."""

    def measure(factor: np.ndarray) -> dict[str, float]:
        weights, errors = weight * factor, numbers - truth
        mse = float(np.average(errors**2, weights=weights))
        return {"mse": mse, "rmse": float(np.sqrt(mse)), "mae": float(np.average(np.abs(errors), weights=weights))}

    return measure
