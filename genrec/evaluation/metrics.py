"""Metrics on plain arrays; ties count against us."""

import numpy as np
from scipy.stats import rankdata

KS = (1, 5, 10, 20)


def target_ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1-based rank of each target among the scores of one case; an equal score of another item counts as above.

    scores: (items,), minus infinity where an item may not appear: such a target ranks last. A score that is not a
    number counts as above, so that a diverged model never looks good. targets: (n,) items.
    """
    return (~(scores[None, :] < scores[targets][:, None])).sum(1)


def ranking_metrics(ranks: np.ndarray) -> dict[str, float]:
    """HR, NDCG and MRR at 1, 5, 10 and 20 from the rank of a single target each."""
    found = {}
    for k in KS:
        hit = ranks <= k
        found[f"hr@{k}"] = float(hit.mean())
        found[f"ndcg@{k}"] = float(np.where(hit, 1 / np.log2(ranks + 1), 0).mean())
        found[f"mrr@{k}"] = float(np.where(hit, 1 / ranks, 0).mean())
    return found


def set_ndcg(ranks: list[np.ndarray], k: int) -> float:
    """NDCG@k where each case has several right items; `ranks` holds their 1-based ranks."""
    gains = []
    for own in ranks:
        ideal = (1 / np.log2(np.arange(min(len(own), k)) + 2)).sum()
        gains.append((1 / np.log2(own[own <= k] + 1)).sum() / ideal)
    return float(np.mean(gains))


def auc(scores: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the ROC curve; a tie counts one half; nan where one class is missing."""
    if weight is None:
        n = int(positive.sum())
        if n in (0, len(positive)):
            return float("nan")
        ranks = rankdata(scores)
        return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))
    order = np.argsort(scores, kind="stable")
    scores, positive, weight = scores[order], positive[order], weight[order]
    _, start = np.unique(scores, return_index=True)
    up = np.add.reduceat(weight * positive, start)
    down = np.add.reduceat(weight * ~positive, start)
    if up.sum() == 0 or down.sum() == 0:
        return float("nan")
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))


def outcome_metrics(
    probabilities: np.ndarray, answer: np.ndarray, values: tuple[float, ...], weight: np.ndarray | None = None
) -> dict[str, float]:
    """Log loss and accuracy; AUC for two answers; RMSE and MAE of the expected value for numbers; else macro F1.

    probabilities: (n, answers), rows sum to 1. answer: (n,) right columns.
    """
    weight = np.ones(len(answer)) if weight is None else weight
    chosen = probabilities.argmax(1)
    right = np.clip(probabilities[np.arange(len(answer)), answer], 1e-12, 1)
    found = {
        "n": float(len(answer)),
        "log_loss": float(np.average(-np.log(right), weights=weight)),
        "accuracy": float(np.average(chosen == answer, weights=weight)),
    }
    if values:
        expected, truth = probabilities @ np.asarray(values), np.asarray(values)[answer]
        found["rmse"] = float(np.sqrt(np.average((expected - truth) ** 2, weights=weight)))
        found["mae"] = float(np.average(np.abs(expected - truth), weights=weight))
    elif probabilities.shape[1] == 2:
        found["auc"] = auc(probabilities[:, 1], answer == 1, weight)
    else:
        found["macro_f1"] = macro_f1(chosen, answer, probabilities.shape[1])
    return found


def macro_f1(chosen: np.ndarray, answer: np.ndarray, n: int) -> float:
    """Mean F1 over the answers that occur."""
    scores = []
    for c in range(n):
        hit = int(((chosen == c) & (answer == c)).sum())
        total = int((chosen == c).sum() + (answer == c).sum())
        if (answer == c).any():
            scores.append(2 * hit / total if total else 0.0)
    return float(np.mean(scores)) if scores else float("nan")
