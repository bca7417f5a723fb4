"""Numbers as answers: each value of few, or bins of many, and the answer that stands for a number."""

from dataclasses import dataclass

import numpy as np

MOST_NUMBERS = 20  # different values that are an answer each; more are binned


@dataclass(frozen=True)
class Levels:
    """Answers that stand for numbers, ascending.

    words: as people read them, `4` or `12.5..25`. values: the number of each, of a bin its mean. edges: of bins, one
    more than there are: the least number, the bounds between them, the greatest number; empty if each answer is one
    value.
    """

    words: tuple[str, ...]
    values: tuple[float, ...]
    edges: tuple[float, ...] = ()


def number_word(value: float) -> str:
    """A number as a word: `4`, not `4.0`."""
    return f"{value:.12g}"


def short_number(value: float) -> str:
    """A number as a word of three significant digits: `73.2`, `1230`."""
    return number_word(float(f"{value:.3g}"))


def levels_of(numbers: np.ndarray) -> Levels:
    """The answers for these numbers (n,): each value if they are at most MOST_NUMBERS, else bins of about as many
    numbers each, their means as values, so that the mean of all is kept."""
    values, counts = np.unique(numbers, return_counts=True)
    if len(values) <= MOST_NUMBERS:
        return Levels(tuple(number_word(v) for v in values), tuple(values.tolist()))
    first = _quantile_starts(counts)
    last = np.append(first[1:], len(values)) - 1
    total, size = np.add.reduceat(values * counts, first), np.add.reduceat(counts, first)
    low, high = values[first], values[last]
    middle = (high[:-1] + low[1:]) / 2
    bounds = np.where(middle < low[1:], middle, high[:-1])  # between neighbours of no number in between: the lower
    edges = (values[0], *bounds.tolist(), values[-1])
    means = np.clip(total / size, low, high)
    return Levels(_range_words(low, high), tuple(means.tolist()), tuple(float(e) for e in edges))


def _quantile_starts(counts: np.ndarray) -> np.ndarray:
    """Where each of at most MOST_NUMBERS bins of values begins, whose counts (values,) are about equal; equal numbers
    are in one bin, and what a frequent one takes is shared out among the bins after it."""
    below = np.append(0, np.cumsum(counts))
    starts, n = [0], len(counts)
    for bins in range(MOST_NUMBERS, 1, -1):
        start = starts[-1]
        end = below[start] + (below[-1] - below[start]) / bins
        after = int(np.searchsorted(below, end))  # the first start at or after the wanted one
        nearest = after - 1 if end - below[after - 1] < below[after] - end else after
        following = max(nearest, start + 1)
        if following >= n:
            break
        starts.append(following)
    return np.asarray(starts)


def _range_words(low: np.ndarray, high: np.ndarray) -> tuple[str, ...]:
    """`12.5..25` of each bin, or `0` of one number, with as many digits as tell them apart."""
    for digits in (4, 6, 9, 12, 17):
        words = [
            f"{a:.{digits}g}" if a == b else f"{a:.{digits}g}..{b:.{digits}g}" for a, b in zip(low, high, strict=True)
        ]
        if len(set(words)) == len(words):
            break
    return tuple(words)


def nearest_level(numbers: np.ndarray, values: tuple[float, ...], edges: tuple[float, ...]) -> np.ndarray:
    """Index (n,) int64 of the answer that stands for each number (n,): its bin, or the nearest value, of equally near
    ones the lower; -1 for one that is not finite."""
    bounds = np.asarray(edges[1:-1]) if edges else (np.asarray(values[1:]) + np.asarray(values[:-1])) / 2
    return np.where(np.isfinite(numbers), np.searchsorted(bounds, numbers), -1)


def round_scale(low: float, high: float) -> tuple[float, float]:
    """The scale that ratings from `low` to `high` are on: it ends at 1, 5, 10, 50, 100, ... and begins at 1 or 0, or at
    the negative of its end.

    >>> round_scale(2, 5), round_scale(0.5, 5), round_scale(-9.9, 9.3), round_scale(3, 83)
    ((1.0, 5.0), (0.0, 5.0), (-10.0, 10.0), (1.0, 100.0))
    """
    greatest = max(abs(low), abs(high), 1.0)
    ten = 10.0 ** np.floor(np.log10(greatest) + 1e-9)
    end = float(next(b for b in (ten, 5 * ten, 10 * ten) if b >= greatest))
    begin = -end if low < 0 else 1.0 if low >= 1 and end > 1 else 0.0
    return begin, end
