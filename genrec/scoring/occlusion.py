"""Events of a history that move a score: leave them out and measure its fall."""

from collections.abc import Callable, Sequence

import numpy as np

EVENTS_AT_ONCE = 40  # histories up to this are left out event by event
STRETCHES = 12  # a longer one in so many stretches first
FOLLOWED = 3  # stretches whose events are then left out one by one, besides the last
Scores = Callable[[Sequence[Sequence[int]]], np.ndarray]  # events left out of each variant -> scores (variants, items)


def occlusion(events: int, scores: Scores) -> dict[int, np.ndarray]:
    """For the events measured, how much each item's score (items,) falls when the event is left out.

    The last events are always among them. scores: called with the events to leave out of each variant of the history.
    """
    if events <= EVENTS_AT_ONCE:
        return one_by_one(range(events), scores)
    stretches = [s.tolist() for s in np.array_split(np.arange(events), STRETCHES)]
    results = scores([[], *stretches])
    falls = results[0] - results[1:]
    order = np.argsort(-falls.max(axis=1))
    best = {*order[:FOLLOWED].tolist(), STRETCHES - 1}
    return one_by_one(sorted(n for stretch in best for n in stretches[stretch]), scores)


def one_by_one(events: Sequence[int], scores: Scores) -> dict[int, np.ndarray]:
    """The fall of the scores without each of the events."""
    results = scores([[], *([n] for n in events)])
    return {n: results[0] - results[variant] for variant, n in enumerate(events, start=1)}
