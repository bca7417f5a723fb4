"""A window of a user's history, and the places in it that a question can be about."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..data.splits import DAY
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
        """Events after which another time begins: the moments at which one can ask what happens later."""
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


def target_places(window: Window) -> np.ndarray:
    """Events of the window that next_item may ask for, the first one excepted."""
    wanted = window.events.target[window.lo : window.hi] & (window.events.item[window.lo : window.hi] >= 0)
    places = np.nonzero(wanted)[0]
    return places[places > 0]


def kept(task: Task, window: Window) -> np.ndarray:
    """Which events of the window the task's `where` keeps."""
    mask = window.events.where.get(task.name)
    return np.ones(window.hi - window.lo, dtype=bool) if mask is None else mask[window.lo : window.hi]


def asked_ends(task: Task, window: Window, until: int) -> np.ndarray:
    """Moments of the window that a look-ahead task may be asked after: their horizon ends before the cut-off."""
    ends = window.ends
    time = window.events.time[window.lo + ends]
    return ends[(time > UNDATED) & (time + (task.horizon_days or 0) * DAY <= until) & kept(task, window)[ends]]
