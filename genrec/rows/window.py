"""A window of a user's history, and the positions in it that a question can be about."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..data.cuts import DAY
from ..tasks.task import Task
from .arrays import UNDATED, Events


@dataclass(frozen=True)
class RowOptions:
    """How histories become rows.

    max_events: longest history of one row. stride: events between the windows of a longer history.
    question_share: question tokens per history token. seed: of every draw.
    """

    max_events: int = 150
    stride: int = 150
    question_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Window:
    """One user's events lo..hi of `events`, all of them visible to training."""

    events: Events
    user: int
    lo: int
    hi: int

    @cached_property
    def ends(self) -> np.ndarray:
        """Positions of the last event of each time: the moments at which a question can look ahead."""
        time = self.events.time[self.lo : self.hi]
        return np.nonzero(np.append(time[1:] > time[:-1], True))[0]


def window_starts(lo: int, hi: int, options: RowOptions) -> list[int]:
    """First events of the windows that cover lo..hi; the last window ends at hi."""
    if hi == lo:
        return []
    if hi - lo <= options.max_events:
        return [lo]
    starts = list(range(lo, hi - options.max_events, options.stride))
    return [*starts, hi - options.max_events]


def pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    """One of the values."""
    return values[int(rng.integers(len(values)))]


def target_positions(window: Window) -> np.ndarray:
    """Positions of the window that next_item may ask for, the first one excepted."""
    mask = window.events.target[window.lo : window.hi] & (window.events.item[window.lo : window.hi] >= 0)
    positions = np.nonzero(mask)[0]
    return positions[positions > 0]


def selection_mask(task: Task, window: Window) -> np.ndarray:
    """Mask of the window's events that the task's `where` selects."""
    mask = window.events.where.get(task.name)
    return np.ones(window.hi - window.lo, dtype=bool) if mask is None else mask[window.lo : window.hi]


def asked_ends(task: Task, window: Window, until: int) -> np.ndarray:
    """Positions after which a look-ahead task may be asked: their horizon ends before the cut-off."""
    ends = window.ends
    time = window.events.time[window.lo + ends]
    return ends[
        (time > UNDATED) & (time + (task.horizon_days or 0) * DAY <= until) & selection_mask(task, window)[ends]
    ]
