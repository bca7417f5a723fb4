"""Probabilities that mean what they say, fitted on validation and stored in the adapter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(32.0), 57))  # beyond 1 / (the least scale of fit_lists)
MIN_CASES = 50  # held-out cases below which nothing is fitted to the scores alone
MIN_BIAS_CASES = 300  # and below which answers get no bias and features no weight of their own
HOTTEST = 20.0  # temperature of scores that say nothing of the held-out cases


@dataclass(frozen=True)
class Calibration:
    """probabilities = softmax(scores / temperature + bias + (features effects) tilt).

    features: weights of a case's features (`scoring/features.py`), beside the model's scores. tilt: (answers,) the
    direction in which they push: up the answers' values, or to yes.
    """

    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    features: tuple[float, ...] = ()
    tilt: tuple[float, ...] = ()

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Calibration":
        """As an adapter's manifest holds it; missing values were not fitted."""
        fitted = (tuple(value.get(name, ())) for name in ("bias", "features", "tilt"))
        return Calibration(value.get("temperature", 1.0), *fitted)

    def probabilities(self, scores: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        """Calibrated probabilities (n, answers) of scores (n, answers) and features (n, features); rows sum to 1."""
        scaled = np.asarray(scores, dtype=np.float64) / self.temperature
        if self.bias:
            scaled = scaled + np.asarray(self.bias)
        if self.features and features is not None:
            scaled = scaled + (features @ np.asarray(self.features))[:, None] * np.asarray(self.tilt)
        return softmax(scaled, axis=-1)


def fit_outcome(
    scores: np.ndarray,
    answer: np.ndarray,
    weight: np.ndarray,
    features: np.ndarray | None = None,
    values: tuple[float, ...] = (),
    unfitted: np.ndarray | None = None,
    optional: int = 0,
) -> Calibration:
    """Temperature and, with enough cases, one bias per answer and one weight per feature that minimise the weighted log
    loss (Guo et al. 2017).

    scores: (n, answers). answer: (n,) index of the right one. weight: (n,). features: (n, features) of answers that
    have values or are no and yes. unfitted: (features,) their weights if there are too few cases to fit them, None: 1.
    A deviation from the mean answer, in standard deviations, moves the answer by itself with a weight of 1, exactly so
    for no and yes that are equally likely. A weight is fitted if a bias is: few cases mostly come from a few users,
    whose own deviations are no sample of what users' deviations mean.

    optional: how many features, the last ones, keep their unfitted weights unless the log likelihood gains half of
    log n for each of them (Schwarz 1978): few cases fit anything a little better. So do the scores, beside features: at
    their least scale unless the likelihood gains as much by another one.

    A pull worth one case holds them near a scale of the scores (the inverse of the temperature) of 1, the biases that
    give the weighted base rates, and unfitted weights. Cases of unlike weight stand for a drawn sample, whose rates are
    not those of the world: then biases are always fitted.
    """
    n, k = scores.shape
    enough = n >= MIN_CASES and len(np.unique(answer)) > 1
    unfitted = np.ones(0 if features is None else features.shape[1]) if unfitted is None else unfitted
    if not enough and (features is None or not unfitted.any()):
        return Calibration()
    with_bias = enough and (n >= MIN_BIAS_CASES or not np.allclose(weight, weight[0]))
    weight = weight / weight.mean() if n else weight
    if features is None or not (with_bias or unfitted.any()):
        features, unfitted = np.zeros((n, 0)), np.zeros(0)
    tilt = np.asarray(values) if values else np.arange(k)
    tilt = (tilt - tilt.mean()) / tilt.std()
    start = np.zeros(0)
    if with_bias:
        rate = (np.bincount(answer, weight, k) + 0.5 / k) / (weight.sum() + 0.5)
        start = np.log(rate / np.average(softmax(scores, axis=1), axis=0, weights=weight))
        start = start[:-1] - start[-1]
    biased = 1 + len(start)

    def loss(theta: np.ndarray) -> float:
        scaled = scores * (1 + theta[0]) + (np.append(theta[1:biased] + start, 0) if with_bias else 0)
        scaled = scaled + (features @ (unfitted + theta[biased:]))[:, None] * tilt
        likelihood = (log_softmax(scaled, axis=1)[np.arange(n), answer] * weight).sum()
        return float((theta**2).sum() - likelihood) / max(n, 1)

    free, held, least = ((None, None) if with_bias else (0, 0)), (0, 0), 1 / HOTTEST - 1
    bounds: list[tuple[float | None, float | None]] = [
        (least, None),
        *[free] * (len(start) + features.shape[1]),
    ]
    best = minimize(loss, np.zeros(len(bounds)), method="L-BFGS-B", bounds=bounds)
    if optional := min(optional, features.shape[1]):
        plain = [*bounds[:-optional], *[held] * optional]
        without = minimize(loss, np.zeros(len(bounds)), method="L-BFGS-B", bounds=plain)
        if max(n, 1) * (without.fun - best.fun) <= optional * np.log(max(n, 1)) / 2:
            best, bounds = without, plain
    if features.shape[1]:
        silent_bounds = [(least, least), *bounds[1:]]
        silent = minimize(loss, np.append(least, best.x[1:]), method="L-BFGS-B", bounds=silent_bounds)
        if max(n, 1) * (silent.fun - best.fun) <= np.log(max(n, 1)) / 2:
            best = silent
    solution = best.x
    temperature = float(1 / (1 + solution[0]))
    bias = tuple(float(b) for b in np.append(solution[1:biased] + start, 0)) if with_bias else ()
    if not features.shape[1]:
        return Calibration(temperature, bias)
    return Calibration(temperature, bias, tuple((unfitted + solution[biased:]).tolist()), tuple(tilt.tolist()))


def fit_items(loss_by_temperature: np.ndarray, cases: int) -> Calibration:
    """The temperature of TEMPERATURES with the least summed loss of the held-out items."""
    if cases < MIN_CASES:
        return Calibration()
    return Calibration(float(TEMPERATURES[int(loss_by_temperature.argmin())]))


def item_losses(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Negative log probability of the targets at each of TEMPERATURES, averaged over them; scores (items,), minus
    infinity for an excluded item."""
    finite = scores[np.isfinite(scores)]
    top = finite.max()
    total = np.log(np.exp((finite[None, :] - top) / TEMPERATURES[:, None]).sum(1))
    return np.mean([total - (scores[t] - top) / TEMPERATURES for t in targets], axis=0)
