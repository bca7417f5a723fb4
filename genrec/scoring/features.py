"""Features of a case by counts and by texts, besides the model's scores, which calibration weighs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..data.cuts import DAY
from ..rows.arrays import UNDATED, Histories
from ..rows.corpus import Corpus, outcome_group, outcome_values, shown_outcomes
from ..tasks.task import Task
from .content import LIKENESS, content_features
from .effects import NAMES

if TYPE_CHECKING:
    from .engine import States
    from .scorer import Counts, Scorer

Cases = Sequence[tuple[int, Sequence[int]]]  # a user's index in the events, and the items asked about, -1 for none
USERS = 256  # scored at a time
LIST = "list"  # the feature of how high an item is in the user's list
VISITS = ("single visit", "gap", "visits", "events", "span")


def features_of(
    scorer: "Scorer", corpus: Corpus, events: Histories, task: Task, cases: Cases, ends: "States | None" = None
) -> np.ndarray | None:
    """Features (cases, features) of a task's cases after the events of their users, as `feature_names` has them, None
    if there are none.

    ends: states (users, width) after each user's history, for a task of which `asks_list` is true.
    """
    name = corpus.dataset.name
    if task.unit == "user_time":
        return visits_of(events, cases)
    if task.unit != "event" or name not in scorer.model.catalogue_of:
        return None
    counts, wanted = scorer.counts[name], events.wanted
    features, items = [], [items for _, items in cases]
    histories = [wanted[events.offsets[user] : events.offsets[user + 1]] for user, _ in cases]
    if counts.effects is not None:
        features.append(counts.effects([shown_outcomes(corpus, events, user) for user, _ in cases], items))
    if asks_list(task):
        assert ends is not None
        features += [lifts(scorer, name, ends, histories, items)[:, None], visits_of(events, cases)]
    if counts.attributes is not None:
        rows = scorer.model.rows_of(name)
        features.append(content_features(rows, corpus.dataset, counts.attributes, histories, items))
    return np.concatenate(features, 1) if features else None


def feature_names(counts: "Counts", task: Task) -> list[str]:
    """The features of a task's cases, in order: of a user alone the visits; of a user and an item those of `Effects`,
    if the task looks ahead how high the item is in the user's list, and the visits (users who come often get more of
    everything), and those of `content_features`, the likeness first."""
    if task.unit == "user_time":
        return [*VISITS]
    if task.unit != "event":
        return []
    names = [*NAMES] if counts.effects is not None else []
    names += [LIST, *VISITS] if asks_list(task) else []
    return names if counts.attributes is None else [*names, LIKENESS, *counts.attributes]


def by_counts(counts: "Counts", task: Task) -> int:
    """How many of a task's features are of counts; the others are of texts and attributes."""
    return len(feature_names(replace(counts, attributes=None), task))


def asks_list(task: Task) -> bool:
    """Whether a task's answers are weighed with the user's list of items: those about what the user does next."""
    return task.unit == "event" and task.horizon_days is not None


def lifts(
    scorer: "Scorer", dataset: str, ends: "States", histories: Sequence[np.ndarray], items: Sequence[Sequence[int]]
) -> np.ndarray:
    """Logarithm of how much likelier than by chance each item is the next one (items in all,), of each history."""
    parts = [np.zeros(0)]
    for start in range(0, len(items), USERS):
        part = slice(start, start + USERS)
        scores = scorer.item_scores(ends[part], dataset, histories[part]).double()
        lift = (scores.log_softmax(1) + np.log(scores.shape[1])).cpu().numpy()
        parts += [row[list(index)] for row, index in zip(lift, items[part], strict=True)]
    return np.concatenate(parts)


def unfitted(corpus: Corpus, counts: "Counts", task: Task) -> np.ndarray:
    """The weights (features,) of a task's features if there are too few cases to fit them: of deviations of the
    outcomes that histories show `agreement`, 0 of all others."""
    names = feature_names(counts, task)
    weights = np.zeros(len(names))
    if counts.effects is not None and task.unit == "event" and task.horizon_days is None:
        weights[: len(NAMES)] = agreement(corpus, task)
    return weights


def agreement(corpus: Corpus, task: Task) -> float:
    """How far the outcomes that histories show correlate with the answers of an event's task in the training part: 1 if
    they are the very answers, -1 for two kinds of events of which the first is a yes."""
    events, values = corpus.events, outcome_values(corpus)
    if events is None or values is None:
        return 0.0
    label = events.labels[task.name]
    mask = (events.part == 0) & (events.outcome >= 0) & (label >= 0)
    answer = np.asarray(task.answer.values)[label[mask]] if task.answer.values else label[mask]
    outcome = values[events.outcome[mask] - outcome_group(corpus).first]
    if len(np.unique(answer)) < 2 or len(np.unique(outcome)) < 2:
        return 0.0
    return float(np.corrcoef(answer, outcome)[0, 1])


def visits_of(events: Histories, cases: Cases) -> np.ndarray:
    """The visits of the user of each case (cases, 5)."""
    return np.concatenate([np.tile(visits(events, user), (len(items), 1)) for user, items in cases])


def visits(events: Histories, user: int) -> np.ndarray:
    """A user's visits (5,): whether there is only one, and logarithms of 1 + the days between the last two, the number
    of visits, the number of events, and the days between the first and the last. A visit is a time with events."""
    event_times = events.time[int(events.offsets[user]) : int(events.offsets[user + 1])]
    event_times = event_times[event_times > UNDATED]
    times = np.unique(event_times)
    if not len(times):
        return np.zeros(5)
    gap = (times[-1] - times[-2]) / DAY if len(times) > 1 else 0.0
    numbers = (gap, len(times), len(event_times), (times[-1] - times[0]) / DAY)
    return np.asarray([float(len(times) == 1), *np.log1p(numbers)])
