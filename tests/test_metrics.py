"""Metrics as arithmetic, calibration against known rates."""

from math import log2

import numpy as np
import pytest

from genrec.evaluation.bootstrap import mean_intervals, metric_intervals
from genrec.evaluation.metrics import (
    auc,
    best_threshold,
    calibration_error,
    macro,
    outcome_metrics,
    ranking_metrics,
    target_ranks,
    threshold_metrics,
    user_auc,
)
from genrec.scoring.calibration import TEMPERATURES, Calibration, fit_items, fit_outcome, item_losses


def test_ranks_count_ties_and_what_is_no_number_as_above() -> None:
    scores = np.asarray([0.5, 0.9, 0.5, -np.inf, 0.1])
    assert target_ranks(scores, np.arange(5)).tolist() == [3, 1, 3, 5, 4]
    assert target_ranks(np.full(4, np.nan), np.asarray([2])).tolist() == [4]


def test_ranking_metrics_are_means_over_cases() -> None:
    found = ranking_metrics([np.asarray([rank]) for rank in (1, 3, 30)])
    assert found["hr@10"] == pytest.approx(2 / 3)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / log2(4) + 0) / 3)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found["hr@1"] == pytest.approx(1 / 3)
    assert found["recall@10"] == found["hr@10"] and found["precision@10"] == pytest.approx(2 / 3 / 10)


def test_ndcg_of_several_right_items_is_one_where_they_lead() -> None:
    assert ranking_metrics([np.asarray([2, 1, 3])])["ndcg@10"] == pytest.approx(1)
    found = ranking_metrics([np.asarray([20, 2])])
    assert found["ndcg@10"] == pytest.approx((1 / log2(3)) / (1 + 1 / log2(3)))
    assert (found["hr@10"], found["recall@10"], found["precision@10"], found["mrr@10"]) == (1, 0.5, 0.1, 0.5)
    assert ranking_metrics([np.arange(1, 31)])["ndcg@20"] == pytest.approx(1)


def test_auc_counts_pairs() -> None:
    scores, positive = np.asarray([0.1, 0.4, 0.4, 0.8]), np.asarray([False, True, False, True])
    assert auc(scores, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    weight = np.asarray([3.0, 1.0, 1.0, 1.0])
    assert auc(scores, positive, weight) == pytest.approx((3 + 0.5 + 3 + 1) / 8)
    assert np.isnan(auc(scores, np.ones(4, dtype=bool)))


def test_outcome_metrics() -> None:
    probabilities = np.asarray([[0.5, 0.5, 0], [0, 0.25, 0.75]])
    found = outcome_metrics(probabilities, np.asarray([0, 2]), (1.0, 2.0, 3.0))
    assert found["rmse"] == pytest.approx(((0.5**2 + 0.25**2) / 2) ** 0.5)
    assert found["mae"] == pytest.approx((0.5 + 0.25) / 2)
    assert found["log_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    found = macro(np.asarray([0, 0, 1]), np.asarray([0, 1, 1]), 3, np.ones(3))
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert (found["macro_precision"], found["macro_recall"]) == (pytest.approx((1 / 2 + 1) / 2), pytest.approx(3 / 4))


def test_metrics_of_two_answers() -> None:
    probability = np.asarray([0.9, 0.6, 0.6, 0.2, 0.1])
    positive = np.asarray([True, True, False, True, False])
    one = np.ones(5)
    assert best_threshold(probability, positive, one) == 0.2  # F1 6 / 7
    found = threshold_metrics(probability, positive, 0.2, one)
    assert found == {"precision": 3 / 4, "recall": 1.0, "f1": pytest.approx(6 / 7)}
    assert best_threshold(probability, np.zeros(5, dtype=bool), one) == 0.5
    user = np.asarray([0, 1, 0, 1, 2])
    assert user_auc(probability, positive, user, one) == {0: 1.0}  # the others have one answer only
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    truth = rng.random(20_000) < p
    assert calibration_error(p, truth, np.ones(20_000)) < 0.02
    assert calibration_error(np.full(100, 0.9), np.arange(100) < 50, np.ones(100)) == pytest.approx(0.4)


def test_an_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=400)
    value, low, high = mean_intervals({"x": values}, [str(n) for n in range(400)])["x"]
    assert value == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    # cases of one user count as one: the interval is wider by the root of their number
    repeated = mean_intervals({"x": np.repeat(values, 9)}, [str(n) for n in np.repeat(np.arange(400), 9)])["x"]
    assert repeated[2] - repeated[1] == pytest.approx(high - low, rel=0.15)
    slow = metric_intervals(lambda w: {"x": float(np.average(values, weights=w))}, [str(n) for n in range(400)])["x"]
    assert slow[2] - slow[1] == pytest.approx(high - low, rel=0.3)


@pytest.mark.parametrize("rate", [0.2, 0.01, 0.001])
def test_uninformative_scores_are_calibrated_to_the_weighted_rate(rate: float) -> None:
    """Half of the cases are positive; weights say that the world's rate is another."""
    rng = np.random.default_rng(0)
    n = 2_000
    answer = np.arange(n) % 2
    weight = np.where(answer == 1, rate, 1 - rate)
    fitted = fit_outcome(rng.normal(size=(n, 2)), answer, weight)
    mean = fitted.probabilities(rng.normal(size=(n, 2)))[:, 1].mean()
    assert mean == pytest.approx(rate, rel=0.3)


def test_calibration_recovers_a_temperature() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(5_000, 3))
    answer = np.asarray([rng.choice(3, p=p) for p in Calibration().probabilities(logits)])
    fitted = fit_outcome(3 * logits, answer, np.ones(len(answer)))
    assert fitted.temperature == pytest.approx(3, rel=0.1)
    assert fitted.probabilities(3 * logits).sum(1) == pytest.approx(1)
    assert fit_outcome(logits[:10], answer[:10], np.ones(10)) == Calibration()


def test_scores_that_say_nothing_hardly_count() -> None:
    """A hundred cases show it, so that what else is known of them decides."""
    rng = np.random.default_rng(3)
    known = rng.normal(size=(100, 1))
    answer = (known[:, 0] + rng.normal(size=100) > 0).astype(int)
    fitted = fit_outcome(3 * rng.normal(size=(100, 2)), answer, np.ones(100), known)
    assert fitted.temperature > 5
    assert auc(fitted.probabilities(3 * rng.normal(size=(100, 2)), known)[:, 1], answer == 1) > 0.75


@pytest.mark.parametrize("too_large", [0.5, 2, 15])
def test_the_temperature_of_items_is_that_of_the_least_loss(too_large: float) -> None:
    """However large scores are, the first of a list is right as often as its probability says."""
    rng = np.random.default_rng(2)
    losses, claimed, right = np.zeros(len(TEMPERATURES)), [], []
    for _ in range(400):
        logits = 2 * rng.normal(size=50)
        target = rng.choice(50, p=np.exp(logits) / np.exp(logits).sum())
        losses += item_losses(np.append(too_large * logits, -np.inf), np.asarray([target]))
        claimed.append(logits)
        right.append(target == logits.argmax())
    fitted = fit_items(losses, 400)
    assert fitted.temperature == pytest.approx(too_large, rel=0.3)
    top = fitted.probabilities(too_large * np.asarray(claimed)).max(1).mean()
    assert top == pytest.approx(np.mean(right), abs=0.06)
    assert fit_items(losses, 3) == Calibration()
