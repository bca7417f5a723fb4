"""Metrics on plain arrays; ties count against us."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

KS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Metric:
    """How a metric is read. lower: the less, the better. sums_up: it says how good a task is on one line. in_tables: it
    has a column in tables."""

    lower: bool = False
    sums_up: bool = False
    in_tables: bool = True


METRICS: Mapping[str, Metric] = {  # those worth a line, in the order of tables
    "ndcg@10": Metric(sums_up=True),
    "hr@10": Metric(),
    "rmse": Metric(lower=True, sums_up=True),
    "mae": Metric(lower=True),
    "auc": Metric(sums_up=True),
    "user_auc": Metric(),
    "log_loss": Metric(lower=True),
    "macro_f1": Metric(sums_up=True),
    "accuracy": Metric(sums_up=True),
    "ece": Metric(lower=True, in_tables=False),
    "f1": Metric(in_tables=False),
}


def metric_of(key: str) -> Metric | None:
    """How a metric is read that results name, as `seen_removed/ndcg@10`; None for one that is not worth a line."""
    return METRICS.get(key.split("/")[-1])


def sums_up(key: str) -> bool:
    """Whether a metric says how good a task is on one line."""
    metric = metric_of(key)
    return metric is not None and metric.sums_up


def table_metrics(names: Iterable[str]) -> list[str]:
    """Those of some metrics that have a column in tables, in their order; with seen items kept last."""
    order = list(METRICS)
    columns = [name for name in names if (metric := metric_of(name)) is not None and metric.in_tables]
    return sorted(columns, key=lambda name: (name.startswith("seen_kept"), order.index(name.split("/")[-1])))


def target_ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1-based rank of each target among the scores of one case; an equal score of another item counts as above.

    scores: (items,), minus infinity if an item may not appear: such a target ranks last. A score that is not a
    number counts as above, so that a diverged model never looks good. targets: (n,) items.
    """
    return (~(scores[None, :] < scores[targets][:, None])).sum(1)


def ranking_values(ranks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """HR, NDCG, MRR, recall and precision at 1, 5, 10 and 20 of each case, from the 1-based ranks of its right items.

    HR: whether any is in the first k. MRR: of the first one. NDCG: over the set, whose best is all of it on top.
    """
    best = np.asarray([case_ranks.min() for case_ranks in ranks])
    n = np.asarray([len(case_ranks) for case_ranks in ranks])
    owner, every = np.repeat(np.arange(len(ranks)), n), np.concatenate(ranks)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(max(KS)) + 2))])
    values = {}
    for k in KS:
        hits = np.bincount(owner, every <= k, len(ranks))
        gain = np.bincount(owner, np.where(every <= k, 1 / np.log2(every + 1), 0), len(ranks))
        values[f"hr@{k}"] = (best <= k).astype(np.float64)
        values[f"ndcg@{k}"] = gain / ideal[np.minimum(n, k)]
        values[f"mrr@{k}"] = np.where(best <= k, 1 / best, 0)
        values[f"recall@{k}"] = hits / n
        values[f"precision@{k}"] = hits / k
    return values


def ranking_metrics(ranks: Sequence[np.ndarray]) -> dict[str, float]:
    """The means of `ranking_values`."""
    return {name: float(values.mean()) for name, values in ranking_values(ranks).items()}


def auc(scores: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the ROC curve; a tie counts one half; nan if one class is missing."""
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
    probabilities: np.ndarray,
    answer: np.ndarray,
    values: tuple[float, ...],
    weight: np.ndarray | None = None,
    truth: np.ndarray | None = None,
) -> dict[str, float]:
    """Log loss and accuracy; AUC and calibration error for two answers; RMSE, MSE and MAE of the expected value for
    numbers; else macro precision, recall and F1.

    probabilities: (n, answers), rows sum to 1. answer: (n,) right columns. truth: (n,) the right numbers themselves, if
    they are not those of the columns.
    """
    weight = np.ones(len(answer)) if weight is None else weight
    chosen = probabilities.argmax(1)
    likelihood = np.clip(probabilities[np.arange(len(answer)), answer], 1e-12, 1)
    metrics = {
        "n": float(len(answer)),
        "log_loss": float(np.average(-np.log(likelihood), weights=weight)),
        "accuracy": float(np.average(chosen == answer, weights=weight)),
    }
    if values:
        expected = probabilities @ np.asarray(values)
        truth = np.asarray(values)[answer] if truth is None else truth
        metrics["mse"] = float(np.average((expected - truth) ** 2, weights=weight))
        metrics["rmse"] = float(np.sqrt(metrics["mse"]))
        metrics["mae"] = float(np.average(np.abs(expected - truth), weights=weight))
    elif probabilities.shape[1] == 2:
        metrics["auc"] = auc(probabilities[:, 1], answer == 1, weight)
        metrics["ece"] = calibration_error(probabilities[:, 1], answer == 1, weight)
    else:
        metrics |= macro(chosen, answer, probabilities.shape[1], weight)
    return metrics


def macro(chosen: np.ndarray, answer: np.ndarray, n: int, weight: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 averaged over the answers that occur; a precision without a choice is 0."""
    matrix = confusion(chosen, answer, n, weight)
    hit, predicted, true = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    occurs = true > 0
    precision = np.divide(hit, predicted, out=np.zeros(n), where=predicted > 0)[occurs]
    recall, f1 = (hit / np.maximum(true, 1e-12))[occurs], (2 * hit / np.maximum(predicted + true, 1e-12))[occurs]
    return {
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
    }


def confusion(chosen: np.ndarray, answer: np.ndarray, n: int, weight: np.ndarray) -> np.ndarray:
    """Weight of each (right answer, chosen answer), (n, n)."""
    return np.bincount(answer * n + chosen, weight, n * n).reshape(n, n)


BINS = 10


def calibration_bins(probability: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Up to BINS groups of like probability and like weight, equal probabilities together: (groups, 3) mean
    probability, share of positives, share of all weight."""
    order = np.argsort(probability, kind="stable")
    below = np.cumsum(weight[order]) - weight[order] / 2
    _, first, same = np.unique(probability[order], return_index=True, return_inverse=True)
    group = np.minimum((below / max(weight.sum(), 1e-12) * BINS).astype(int), BINS - 1)[first][same]
    total = np.bincount(group, weight[order], BINS)
    mean = np.bincount(group, (weight * probability)[order], BINS)
    share = np.bincount(group, (weight * positive)[order], BINS)
    filled = total > 0
    return np.stack([mean[filled] / total[filled], share[filled] / total[filled], total[filled] / total.sum()], axis=1)


def calibration_error(probability: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    """Expected calibration error of the probability of yes, over `calibration_bins` (Naeini et al. 2015)."""
    mean, share, part = calibration_bins(probability, positive, weight).T
    return float((np.abs(mean - share) * part).sum())


def best_threshold(probability: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    """The least probability called yes at which F1 is highest; 0.5 if no case is positive."""
    order = np.argsort(-probability, kind="stable")
    hit, predicted = np.cumsum((weight * positive)[order]), np.cumsum(weight[order])
    if not len(hit) or hit[-1] <= 0:
        return 0.5
    f1 = 2 * hit / (predicted + hit[-1])
    last = np.append(np.diff(probability[order]) != 0, True)  # equal probabilities are called alike
    return float(probability[order][np.where(last, f1, -1).argmax()])


def threshold_metrics(
    probability: np.ndarray, positive: np.ndarray, threshold: float | np.ndarray, weight: np.ndarray
) -> dict[str, float]:
    """Precision, recall and F1 of yes if the probability is at least a threshold, one for all or for each case."""
    predicted = probability >= threshold
    hit, of_predicted, of_true = ((weight * mask).sum() for mask in (predicted & positive, predicted, positive))
    return {
        "precision": float(hit / of_predicted) if of_predicted > 0 else 0.0,
        "recall": float(hit / of_true) if of_true > 0 else float("nan"),
        "f1": float(2 * hit / (of_predicted + of_true)) if of_predicted + of_true > 0 else float("nan"),
    }


def user_auc(scores: np.ndarray, positive: np.ndarray, user: np.ndarray, weight: np.ndarray) -> dict[int, float]:
    """AUC within each user (cases,), of the users that have both answers."""
    aucs = {}
    order = np.argsort(user, kind="stable")
    for index in np.split(order, np.nonzero(np.diff(user[order]))[0] + 1):
        value = auc(scores[index], positive[index], weight[index])
        if np.isfinite(value):
            aucs[int(user[index[0]])] = value
    return aucs
