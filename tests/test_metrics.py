"""Metrics as arithmetic, calibration against known rates."""

from math import log2

import numpy as np
import pytest

from genrec.evaluation.calibration import Calibration, fit_items, fit_outcome, item_losses
from genrec.evaluation.metrics import auc, macro_f1, outcome_metrics, ranking_metrics, set_ndcg, target_ranks


def test_ranks_count_ties_and_what_is_no_number_as_above() -> None:
    scores = np.asarray([0.5, 0.9, 0.5, -np.inf, 0.1])
    assert target_ranks(scores, np.arange(5)).tolist() == [3, 1, 3, 5, 4]
    assert target_ranks(np.full(4, np.nan), np.asarray([2])).tolist() == [4]


def test_ranking_metrics_are_means_over_cases() -> None:
    found = ranking_metrics(np.asarray([1, 3, 30]))
    assert found["hr@10"] == pytest.approx(2 / 3)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / log2(4) + 0) / 3)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found["hr@1"] == pytest.approx(1 / 3)


def test_ndcg_of_several_right_items_is_one_where_they_lead() -> None:
    assert set_ndcg([np.asarray([2, 1, 3])], 10) == pytest.approx(1)
    assert set_ndcg([np.asarray([2, 20])], 10) == pytest.approx((1 / log2(3)) / (1 + 1 / log2(3)))


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
    assert macro_f1(np.asarray([0, 0, 1]), np.asarray([0, 1, 1]), 3) == pytest.approx((2 / 3 + 2 / 3) / 2)


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


def test_the_temperature_of_items_is_that_of_the_least_loss() -> None:
    rng = np.random.default_rng(2)
    losses = np.zeros(33)
    for _ in range(400):
        logits = rng.normal(size=50)
        target = rng.choice(50, p=np.exp(logits) / np.exp(logits).sum())
        losses += item_losses(np.append(2 * logits, -np.inf), np.asarray([target]))
    assert fit_items(losses, 400).temperature == pytest.approx(2, rel=0.3)
    assert fit_items(losses, 3) == Calibration()
