"""What is known of a case besides what the model reads of it, as numbers that calibration weighs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..tasks.rows import DAY, UNDATED, Corpus, Events, shown_outcomes
from ..tasks.task import Task

if TYPE_CHECKING:
    from ..inference.engine import Engine

Asked = Sequence[tuple[int, Sequence[int]]]  # a user's place among the events, and the items asked about, -1 for none


def features_of(engine: "Engine", corpus: Corpus, events: Events, task: Task, asked: Asked) -> np.ndarray | None:
    """Features (cases, features) of a task's cases after the events of their users: of a user and an item what
    `Effects` knows, of a user alone the visits; None where nothing is known besides."""
    if task.unit == "user_time":
        return np.concatenate([np.tile(visits(events, user), (len(items), 1)) for user, items in asked])
    if task.unit != "event" or corpus.dataset.name not in engine.model.catalogue_of:
        return None
    effects = engine.model.rows_of(corpus.dataset.name).effects
    if effects is None:
        return None
    return effects([shown_outcomes(corpus, events, user) for user, _ in asked], [items for _, items in asked])


def unfitted(task: Task) -> float:
    """The weight that features have where too few cases say otherwise: 1 for deviations of the very outcome that is
    asked about, 0 for what only may have to do with the answer."""
    return 1.0 if task.unit == "event" and task.horizon_days is None else 0.0


def visits(events: Events, user: int) -> np.ndarray:
    """A user's visits (5,): whether there is only one, and logarithms of 1 + the days between the last two, the number
    of visits, the number of events, and the days between the first and the last. A visit is a time with events."""
    own = events.time[int(events.offsets[user]) : int(events.offsets[user + 1])]
    own = own[own > UNDATED]
    times = np.unique(own)
    if not len(times):
        return np.zeros(5)
    gap = (times[-1] - times[-2]) / DAY if len(times) > 1 else 0.0
    numbers = (gap, len(times), len(own), (times[-1] - times[0]) / DAY)
    return np.asarray([float(len(times) == 1), *np.log1p(numbers)])
