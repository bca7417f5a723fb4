"""Answers that look ahead: days until something happens, and the items that may be asked about."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..data.cuts import DAY
from ..data.events import called
from ..tasks.labels import labels, task_columns
from ..tasks.task import Task
from ..tasks.units import NEXT_EVENT, is_lookahead
from .arrays import Events, choice_index
from .corpus import Corpus
from .row import Branch, question_tokens
from .window import Window, asked_ends, pick


def look_ahead_answers(corpus: Corpus, task: Task, days: Sequence[float]) -> np.ndarray:
    """Answers of a look-ahead task from the days until what it asks about (infinite: never), -1 for none."""
    return choice_index(corpus.group_of(task), look_ahead_labels(task, days))


def look_ahead_labels(task: Task, days: Sequence[float]) -> pl.Series:
    """Labels of a look-ahead task from the days until what it asks about (infinite: never)."""
    column = next(c for c in task_columns(task) if is_lookahead(c))
    return labels(task, pl.DataFrame({column: list(days)}, schema={column: pl.Float64}))


def days_until_next(events: Events, user: int, position: int, until: int, event: str | None) -> float:
    """Days from event `position` to the user's next event at a later time (of one kind, if named) before `until`;
    infinite if there is none."""
    now = int(events.time[position])
    span = slice(int(events.offsets[user]), int(events.offsets[user + 1]))
    time = events.time[span]
    later = time[(time > now) & (time < until) & is_kind(events, span, event)]
    return float(later.min() - now) / DAY if len(later) else float("inf")


def cutoff(corpus: Corpus, part: str) -> int:
    """First timestamp of a part; beyond all time for the part after the last."""
    return dict(corpus.dataset.cutoffs).get(part, np.iinfo(np.int64).max)


class ItemSampler:
    """Draws items by how often they were wanted in the events, or uniformly."""

    def __init__(self, events: Events, n_items: int) -> None:
        wanted = events.wanted
        counts = np.bincount(wanted[wanted >= 0], minlength=n_items).astype(np.float64) + 0.5
        self.popularity = counts / counts.sum()
        self.uniform = np.full(n_items, 1 / n_items)
        self.cumulative = np.cumsum(self.popularity)

    def draw(self, how: str, size: int, rng: np.random.Generator) -> np.ndarray:
        """`size` items with repetition."""
        if how == "uniform":
            return rng.integers(len(self.uniform), size=size)
        return np.minimum(np.searchsorted(self.cumulative, rng.random(size), side="right"), len(self.cumulative) - 1)


@dataclass(frozen=True)
class Candidates:
    """Items asked about at one moment, with answers and weights, each (candidates,); weighted, they stand for the whole
    catalogue."""

    items: np.ndarray
    answers: np.ndarray
    weight: np.ndarray


def candidate_items(
    corpus: Corpus,
    task: Task,
    events: Events,
    user: int,
    position: int,
    until: int,
    sampler: ItemSampler,
    rng: np.random.Generator,
    most: int = 4,
) -> Candidates:
    """Candidates after event `position` (absolute) with their answers.

    Items the user gets within the horizon (at most `most`), negatives drawn as the task says, and, if the data has
    several kinds of events, the item of the event itself.
    """
    hi = int(events.offsets[user + 1])
    horizon, now = (task.horizon_days or 0) * DAY, int(events.time[position])
    ahead = slice(position + 1, hi)
    time = events.time[ahead]
    later = position + 1 + np.nonzero((time > now) & (time < until) & is_kind(events, ahead, look_ahead_event(task)))[0]
    first_time: dict[int, int] = {}
    for n in later.tolist():
        first_time.setdefault(int(events.item[n]), int(events.time[n]))
    within = np.asarray([i for i, t in first_time.items() if t - now <= horizon], dtype=np.int64)
    chosen = rng.permutation(within)[:most]
    weight = np.full(len(chosen), len(within) / max(len(chosen), 1))
    if task.negatives is not None:
        size = task.negatives.per_positive * max(1, len(chosen))
        drawn = sampler.draw(task.negatives.draw, size, rng)
        drawn = drawn[~np.isin(drawn, within)]
        q = sampler.popularity if task.negatives.draw == "popularity" else sampler.uniform
        weight = np.concatenate([weight, 1 / (q[drawn] * size)])
        chosen = np.concatenate([chosen, drawn])
    elif events.item[position] >= 0:
        chosen = np.asarray([events.item[position]])
        weight = np.ones(1)
    days = [(first_time[int(i)] - now) / DAY if int(i) in first_time else float("inf") for i in chosen]
    answers = look_ahead_answers(corpus, task, days)
    has_answer = answers >= 0
    return Candidates(chosen[has_answer], answers[has_answer], weight[has_answer])


def look_ahead_event(task: Task) -> str | None:
    """The event in a label such as `next_purchase_days <= 28`; None if any event counts."""
    match = next((m for c in task_columns(task) if (m := NEXT_EVENT.fullmatch(c))), None)
    return match[1] if match else None


def is_kind(events: Events, span: slice, event: str | None) -> np.ndarray:
    """Mask of the events that are of one kind; of all of them if none is named."""
    kind = events.kind[span]
    if event is None:
        return np.ones(len(kind), dtype=bool)
    return np.isin(kind, [events.kinds.index(word) for word in called(event, events.kinds)])


def look_ahead_candidates(
    corpus: Corpus, task: Task, window: Window, sampler: ItemSampler, rng: np.random.Generator, moments: int = 3
) -> list[Branch]:
    """Candidate branches at a few moments of a window, and one of them asked in words."""
    until = cutoff(corpus, "valid")
    ends = asked_ends(task, window, until)
    if not len(ends):
        return []
    branches = []
    for end in rng.permutation(ends)[:moments].tolist():
        candidates = candidate_items(corpus, task, window.events, window.user, window.lo + end, until, sampler, rng)
        for item, answer in zip(candidates.items.tolist(), candidates.answers.tolist(), strict=True):
            token = corpus.items.first + item
            target = [(task.name, int(answer), 1.0, -1)]
            branches.append(Branch([token], end + 1, target))
            if rng.random() < 0.05:
                text = question_tokens(pick(rng, task.seen), {}, {"item": [token]}, corpus.encode)
                branches.append(Branch(text, end + 1, target))
    return branches
