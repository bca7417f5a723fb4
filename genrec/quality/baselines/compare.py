"""Ours beside the baselines: their metrics and the paired difference, by the same code from the same cases."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...evaluation import metrics
from ...evaluation.bootstrap import Interval, as_json, clusters, mean_intervals, metric_intervals
from ...evaluation.calibration import Calibration
from ...evaluation.protocols import LONGEST, NEXT_ITEM, Outcomes, Reading
from ...tasks.rows import Corpus
from .models import Predicted

Metrics = dict[str, Interval]
PLAIN = ("ece",)  # a draw with repetitions is always worse calibrated than what it is drawn from: no interval
SHOWN = ("ndcg@10", "hr@10", "rmse", "mae", "auc", "user_auc", "log_loss", "accuracy", "macro_f1")  # in the tables


def compared(
    corpus: Corpus,
    found: Mapping[str, Mapping[str, Predicted]],
    reading: Reading,
    calibration: Mapping[str, Calibration],
    thresholds: Mapping[str, float],
) -> dict[str, list[dict[str, Any]]]:
    """The baselines of each task as results.json holds them (docs/json.md); reading: ours, as served."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for task in corpus.tasks:
        for name, predicted in found.get(task.name, {}).items():
            if task.name == NEXT_ITEM:
                cases, theirs, difference = next_item_comparison(corpus, reading, predicted)
            elif task.unit == "basket":
                cases, theirs, difference = basket_comparison(corpus, reading, predicted)
            else:
                outcomes = reading.outcomes[task.name]
                own = calibration[task.name].probabilities(outcomes.scores)
                threshold = thresholds.get(task.name)
                theirs, difference = outcome_comparison(outcomes, own, threshold, task.answer.values, predicted)
                cases = len(outcomes.answer)
            rows.setdefault(task.name, []).append(
                {
                    "name": name,
                    "settings": predicted.settings,
                    "searched": predicted.searched,
                    "metrics": as_json(theirs),
                    "difference": as_json(difference),
                    "train_seconds": round(predicted.train_seconds, 3),
                    "predict_ms": round(1_000 * predicted.predict_seconds / cases, 4),
                }
            )
    return rows


def list_ranks(lists: np.ndarray, targets: Sequence[np.ndarray], items: int) -> list[np.ndarray]:
    """1-based ranks of each case's targets in its list (cases, LONGEST); one that is not listed ranks behind."""
    assert len(lists) == len(targets), "the baselines have other cases than ours"
    behind = max(items, LONGEST + 1)
    ranks = []
    for own, wanted in zip(lists, targets, strict=True):
        hit = own[None, :] == wanted[:, None]
        ranks.append(np.where(hit.any(1), hit.argmax(1) + 1, behind))
    return ranks


def next_item_comparison(corpus: Corpus, reading: Reading, predicted: Predicted) -> tuple[int, Metrics, Metrics]:
    """How many cases, a baseline's ranking metrics under both protocols, and ours minus them."""
    ranked = reading.ranked
    assert ranked is not None
    theirs: Metrics = {}
    difference: Metrics = {}
    for protocol, own in (("removed", ranked.seen_removed), ("kept", ranked.seen_kept)):
        ranks = list_ranks(predicted.arrays[protocol], ranked.targets, corpus.items.size)
        value, gain = means_and_gains(own, ranks, ranked.users)
        theirs |= {f"seen_{protocol}/{k}": v for k, v in value.items()}
        difference |= {f"seen_{protocol}/{k}": v for k, v in gain.items()}
    return len(ranked.users), theirs, difference


def basket_comparison(corpus: Corpus, reading: Reading, predicted: Predicted) -> tuple[int, Metrics, Metrics]:
    """The same for the missing items of baskets."""
    assert reading.basket_ranks is not None
    targets = list(predicted.arrays["targets"][:, None])
    ranks = list_ranks(predicted.arrays["removed"], targets, corpus.items.size)
    value, gain = means_and_gains(list(reading.basket_ranks[:, None]), ranks, reading.basket_users)
    return len(targets), value, gain


def means_and_gains(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], about: Sequence[str]
) -> tuple[Metrics, Metrics]:
    """Their ranking metrics, and ours minus theirs."""
    own, other = metrics.ranking_values(ours), metrics.ranking_values(theirs)
    return mean_intervals(other, about), mean_intervals({k: own[k] - other[k] for k in own}, about)


def outcome_comparison(
    outcomes: Outcomes,
    ours: np.ndarray,
    threshold: float | None,
    values: tuple[float, ...],
    predicted: Predicted,
) -> tuple[Metrics, Metrics]:
    """A baseline's metrics of a task with choices or numbers, and ours minus them, where both have them."""
    arrays, positive = predicted.arrays, outcomes.answer == 1

    def own(factor: np.ndarray) -> dict[str, float]:
        return choice_metrics(ours, outcomes, threshold, values, factor)

    def other(factor: np.ndarray) -> dict[str, float]:
        if "values" in arrays:
            return number_metrics(arrays["values"], outcomes, values, factor)
        return choice_metrics(arrays["probabilities"], outcomes, float(arrays.get("threshold", 0.5)), (), factor)

    def both(factor: np.ndarray) -> dict[str, float]:
        a, b = own(factor), other(factor)
        return {**b, **{f"-{k}": a[k] - b[k] for k in b if k in a}}

    assert len(next(iter(arrays.values()))) == len(outcomes.answer), "the baselines have other cases than ours"
    measured = metric_intervals(both, outcomes.about)
    for name in [n for n in measured if n.lstrip("-") in PLAIN]:
        measured[name] = measured[name][0], float("nan"), float("nan")
    if threshold is not None:
        user = clusters(outcomes.about)
        a, b = (
            metrics.user_auc(p[:, 1], positive, user, outcomes.weight) for p in (ours, arrays["probabilities"])
        )
        if len(a) > 1:
            each = {"user_auc": np.asarray(list(b.values())), "-user_auc": np.asarray([a[u] - b[u] for u in b])}
            measured |= mean_intervals(each, [str(u) for u in b])
    theirs = {k: v for k, v in measured.items() if not k.startswith("-")}
    return theirs, {k[1:]: v for k, v in measured.items() if k.startswith("-")}


def choice_metrics(
    probabilities: np.ndarray,
    outcomes: Outcomes,
    threshold: float | None,
    values: tuple[float, ...],
    factor: np.ndarray,
) -> dict[str, float]:
    """Metrics of probabilities (cases, answers), each case's weight times a factor."""
    weight = outcomes.weight * factor
    found = metrics.outcome_metrics(probabilities, outcomes.answer, values, weight)
    found.pop("n")
    if threshold is not None and probabilities.shape[1] == 2 and not values:
        found |= metrics.threshold_metrics(probabilities[:, 1], outcomes.answer == 1, threshold, weight)
    return found


def number_metrics(
    said: np.ndarray, outcomes: Outcomes, values: tuple[float, ...], factor: np.ndarray
) -> dict[str, float]:
    """Errors of numbers (cases,); a number is no distribution, so it has no log loss and no accuracy."""
    weight, off = outcomes.weight * factor, said - np.asarray(values)[outcomes.answer]
    mse = float(np.average(off**2, weights=weight))
    return {"mse": mse, "rmse": float(np.sqrt(mse)), "mae": float(np.average(np.abs(off), weights=weight))}


# --- the text summary ---------------------------------------------------------------------------------------------


def tables(results: Mapping[str, Any]) -> str:
    """One table per task of results that hold baselines: a row per model with quality and cost."""
    parts = []
    for name, data in results["datasets"].items():
        for task, rows in data.get("baselines", {}).items():
            parts.append(table(f"{name}, {task}", data["tasks"][task]["served"], data["cost"], rows))
        parts += [f"{name}, {line}" for line in data.get("baselines_left_out", [])]
    return "\n\n".join(parts)


def table(title: str, ours: Mapping[str, Any], cost: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """A task's table; the difference is ours minus theirs, of the first metric, with its interval."""
    names = [m for m in ours["metrics"] if m.split("/")[-1] in SHOWN and any(m in r["metrics"] for r in rows)]
    names.sort(key=lambda m: (m.startswith("seen_kept"), SHOWN.index(m.split("/")[-1])))
    head = ["", *names, f"ours minus theirs, {names[0]}", "training s", "predict ms"]
    lines = [head]
    for row in [{"name": "genrec", "metrics": ours["metrics"], **cost}, *rows]:
        gain = row.get("difference", {}).get(names[0])
        lines.append(
            [
                row["name"],
                *(number(row["metrics"].get(m, {}).get("value")) for m in names),
                "" if gain is None else spread(gain),
                "?" if row["train_seconds"] is None else f"{row['train_seconds']:,.1f}",
                f"{row['predict_ms']:.2f}",
            ]
        )
    width = [max(len(line[n]) for line in lines) for n in range(len(head))]
    shown = [[line[0].ljust(width[0]), *(c.rjust(w) for c, w in zip(line[1:], width[1:], strict=True))] for line in lines]
    return "\n".join([f"{title}, {ours['n']:,} cases", *("    " + "  ".join(line) for line in shown)])


def number(value: float | None) -> str:
    """A metric's value, or a dash."""
    return "-" if value is None else f"{value:.4f}"


def spread(gain: Mapping[str, float | None]) -> str:
    """A difference with its interval."""
    if gain["value"] is None:
        return "-"
    interval = "" if gain["low"] is None else f" ({gain['low']:+.4f} to {gain['high']:+.4f})"
    return f"{gain['value']:+.4f}{interval}"
