"""Intervals by the bootstrap: whole users are drawn, since the cases of one user are alike."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

LEVEL = 0.95
DRAWS = 1_000  # of means, which are one matrix product
SLOW_DRAWS = 200  # of metrics that are computed anew for each draw
AT_A_TIME = 2**24  # weights held at a time

Interval = tuple[float, float, float]  # value, low, high


def clusters(about: Sequence[str]) -> np.ndarray:
    """The number of each case's user (cases,), from 0."""
    return np.unique(np.asarray(about, dtype=object).astype(str), return_inverse=True)[1]


def draws(n: int, size: int, seed: int) -> np.ndarray:
    """How often each of n users is drawn, in `size` draws of n with repetition (size, n)."""
    rng = np.random.default_rng([seed, 20])
    return rng.multinomial(n, np.full(n, 1 / n), size=size)


def interval(value: float, samples: np.ndarray) -> Interval:
    """A value with the middle LEVEL of its bootstrap samples; nan if fewer than 20 of them are finite."""
    samples = samples[np.isfinite(samples)]
    if len(samples) < 20:
        return value, float("nan"), float("nan")
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, float(low), float(high)


def mean_intervals(values: Mapping[str, np.ndarray], about: Sequence[str], seed: int = 0) -> dict[str, Interval]:
    """Means of per-case values (cases,), by name, with intervals."""
    if not values:
        return {}
    user = clusters(about)
    n = int(user.max()) + 1
    table = np.stack([np.asarray(v, dtype=np.float64) for v in values.values()], axis=1)
    sums = np.zeros((n, table.shape[1]))
    np.add.at(sums, user, table)
    counts = np.bincount(user, minlength=n)
    batches = []
    step = max(1, AT_A_TIME // n)
    for start in range(0, DRAWS, step):
        weight = draws(n, min(step, DRAWS - start), seed + start)
        batches.append((weight @ sums) / (weight @ counts)[:, None])
    means = np.concatenate(batches)
    return {name: interval(float(table[:, i].mean()), means[:, i]) for i, name in enumerate(values)}


def metric_intervals(
    metric: Callable[[np.ndarray], Mapping[str, float]], about: Sequence[str], seed: int = 0
) -> dict[str, Interval]:
    """Metrics of weighted cases with intervals; metric: called with a factor (cases,) on each case's weight."""
    user = clusters(about)
    n = int(user.max()) + 1
    values = metric(np.ones(len(user)))
    samples: dict[str, list[float]] = {name: [] for name in values}
    for weight in draws(n, SLOW_DRAWS, seed):
        for name, value in metric(weight[user].astype(np.float64)).items():
            samples[name].append(value)
    return {name: interval(value, np.asarray(samples[name])) for name, value in values.items()}
