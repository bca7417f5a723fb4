"""Held-out cases as rows to read.

Every case sees only interactions of earlier parts. next_item: a user's first held-out event (or basket), ranked in the
whole catalogue. Event outcomes: each held-out event as a candidate after the visible history. Look-ahead tasks: asked
after the user's last visible event. Texts: each held-out text.

Phrasings: `served` is how `recommend` and `predict` read (the history's end, a candidate item, else the first
template), `seen` and `unseen` ask in words, by a template that training had or had not.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import polars as pl

from ..data.cuts import DAY
from ..data.dataset import Part
from ..rows.arrays import PARTS, UNDATED, Events, select, shown_from
from ..rows.corpus import Corpus
from ..rows.lookahead import (
    ItemSampler,
    candidate_items,
    cutoff,
    days_until_next,
    look_ahead_answers,
    look_ahead_event,
    look_ahead_labels,
)
from ..rows.questions import basket_question
from ..rows.row import Branch, Row, prompt_row, question_tokens, read_at
from ..rows.window import Window
from ..scoring.features import asks_list
from ..tasks.task import Task

Phrasing = Literal["served", "seen", "unseen"]
T = TypeVar("T")


@dataclass(frozen=True)
class HeldOut:
    """Rows that stop before a part, and the events that they are asked about."""

    visible: Events
    later: Events


def held_out(events: Events, part: Part) -> HeldOut:
    """The events of earlier parts, and those of the part."""
    code = PARTS.index(part)
    return HeldOut(select(events, events.part < code), select(events, events.part == code))


def last_window(events: Events, user: int, max_events: int) -> tuple[int, int]:
    """The user's latest events, at most `max_events`, as the recommender shows them."""
    lo, hi = int(events.offsets[user]), int(events.offsets[user + 1])
    return lo + shown_from(hi - lo, max_events), hi


def history_row(corpus: Corpus, events: Events, user: int, max_events: int, branches: list[Branch], ends: int) -> Row:
    """A user's visible history; reads the last history token, `ends` times, then the last token of each branch."""
    lo, hi = last_window(events, user, max_events)
    row = prompt_row(corpus, events.users[user], events, lo, hi, branches)
    return read_at(row, [row.segment.count(0) - 1] * ends + row.target_at)


def first_targets(held: HeldOut, user: int) -> np.ndarray:
    """Items of the user's first held-out basket or of the first held-out event, of events that next_item asks for."""
    later = held.later
    lo, hi = int(later.offsets[user]), int(later.offsets[user + 1])
    positions = np.arange(lo, hi)[later.target[lo:hi] & (later.item[lo:hi] >= 0)]
    if not len(positions):
        return positions
    basket = later.basket[positions[0]]
    if basket >= 0:
        return np.unique(later.item[positions[later.basket[positions] == basket]])
    return later.item[positions[:1]]


def writers_of(corpus: Corpus, rows: list[Row]) -> dict[int, str]:
    """The authors of the texts of rows, by the row of the data, if the data names them."""
    frame = corpus.dataset.interactions
    if not {"row", "user_id"} <= set(frame.columns):
        return {}
    sources = [r.source[0] for r in rows if r.source]
    writers = frame.select("row", "user_id").drop_nulls().filter(pl.col("row").is_in(sources))
    return dict(writers.iter_rows())


def template(task: Task, phrasing: Phrasing) -> str:
    """The template that a task is asked with."""
    return task.unseen[0] if phrasing == "unseen" else task.seen[0]


def sampled(values: list[T], limit: int | None, seed: int) -> list[T]:
    """At most `limit` of the values, drawn by seed, in their order."""
    if limit is None or len(values) <= limit:
        return values
    chosen = np.random.default_rng([seed, 5]).choice(len(values), limit, replace=False)
    return [values[n] for n in np.sort(chosen)]


def in_turn(values: list[int], limit: int | None, seed: int) -> list[int]:
    """The values that `sampled` draws, and after them the others in drawn order."""
    first = sampled(values, limit, seed)
    rest = np.setdiff1d(np.asarray(values), np.asarray(first))
    return [*first, *np.random.default_rng([seed, 6]).permutation(rest).tolist()]


@dataclass(frozen=True)
class Case:
    """One read of a row: task, right answer (for next_item the user), weight, whom it is about, which case of theirs it
    is, which item it is about, the items a basket question gives, the user's index among the visible histories, and the
    right number itself where the answer is one."""

    task: str
    answer: int
    weight: float
    about: str = ""
    key: str = ""
    item: int = -1
    given: tuple[int, ...] = ()
    user: int = -1
    number: float = float("nan")


NEXT_ITEM = "next_item"
END = "end"  # of a history, read for the tasks that are weighed with the user's list


def user_rows(
    corpus: Corpus,
    part: Part,
    held: HeldOut,
    users: list[int],
    max_events: int,
    seed: int,
    phrasing: Phrasing = "served",
    most: int | None = None,
) -> tuple[list[Row], list[Case]]:
    """One row per user of whom anything is asked, with everything that is, and the cases in the order of the reads;
    most: so many rows, of the first such users."""
    assert corpus.events is not None
    rows: list[Row] = []
    cases: list[Case] = []
    ahead = any(t.horizon_days is not None for t in corpus.tasks)
    up_to = select(corpus.events, corpus.events.part <= PARTS.index(part)) if ahead else None
    sampler = ItemSampler(held.visible, corpus.items.size)
    weighed = {t.name for t in corpus.tasks if asks_list(t)}
    for user in users:
        if len(rows) == most:
            break
        lo, hi = last_window(held.visible, user, max_events)
        name = held.visible.users[user]
        branches: list[Branch] = []
        asked_cases: list[Case] = []
        next_item = next((t for t in corpus.tasks if t.name == NEXT_ITEM), None)
        asks_next = next_item is not None and len(first_targets(held, user)) > 0
        if next_item is not None and asks_next and phrasing != "served":
            words = question_tokens(template(next_item, phrasing), {}, {}, corpus.encode)
            branches.append(Branch(words, hi - lo, [(NEXT_ITEM, 0, 1.0, -1)]))
        for task in corpus.tasks:
            if task.unit == "basket":
                question = held_basket(corpus, task, held, user, hi - lo, seed, phrasing)
                if question is not None:
                    given_items = tuple(t - corpus.items.first for t in question.tokens if t >= corpus.items.first)
                    branches.append(question)
                    ids = corpus.dataset.items["item_id"]
                    key = f"items {', '.join(ids[n] for n in given_items)} and {ids[question.targets[0][1]]}"
                    asked_cases.append(
                        Case(task.name, question.targets[0][1], 1.0, name, key, given=given_items, user=user)
                    )
            elif task.unit != "text" and task.answer.kind != "item":
                task_branches, task_cases = user_cases(
                    corpus, task, part, held, up_to, user, sampler, max_events, seed, phrasing
                )
                branches += task_branches
                asked_cases += task_cases
        if branches or asks_next:
            first = [Case(END, user, 1.0, name, END, user=user)] * any(c.task in weighed for c in asked_cases)
            ends = len(first) + (asks_next and phrasing == "served")
            rows.append(history_row(corpus, held.visible, user, max_events, branches, ends))
            cases += first + [Case(NEXT_ITEM, user, 1.0, name, "next")] * asks_next + asked_cases
    return rows, cases


def held_basket(
    corpus: Corpus, task: Task, held: HeldOut, user: int, sees: int, seed: int, phrasing: Phrasing
) -> Branch | None:
    """A question about one of the user's held-out baskets: some of its items are given, another is missing."""
    lo, hi = int(held.later.offsets[user]), int(held.later.offsets[user + 1])
    if lo == hi:
        return None
    rng = np.random.default_rng([seed, 8, user])
    phrased_task = replace(task, seen=(template(task, phrasing),))
    question = basket_question(corpus, phrased_task, Window(held.later, user, lo, hi), rng)
    return None if question is None else replace(question, sees=sees)


def user_cases(
    corpus: Corpus,
    task: Task,
    part: Part,
    held: HeldOut,
    up_to: Events | None,
    user: int,
    sampler: ItemSampler,
    max_events: int,
    seed: int,
    phrasing: Phrasing,
) -> tuple[list[Branch], list[Case]]:
    """One user's held-out cases of a task, as branches after the visible history."""
    lo, hi = last_window(held.visible, user, max_events)
    sees, name = hi - lo, held.visible.users[user]
    words = template(task, phrasing)

    def tokens_of(item: int) -> list[int]:
        token = corpus.items.first + item
        if phrasing == "served" and (task.dense or task.horizon_days is not None):
            return [token]
        return question_tokens(words, {}, {"item": [token]}, corpus.encode)

    if task.horizon_days is None:
        index = held.later.labels[task.name]
        positions = [
            n
            for n in range(int(held.later.offsets[user]), int(held.later.offsets[user + 1]))
            if index[n] >= 0 and held.later.item[n] >= 0
        ]
        numbers = held.later.numbers.get(task.name, np.full(len(index), np.nan))
        cases = [
            Case(
                *(task.name, int(index[n]), 1.0, name, f"row {held.later.source[n]}", int(held.later.item[n])),
                user=user,
                number=float(numbers[n]),
            )
            for n in positions
        ]
        return [Branch(tokens_of(c.item), sees, [(task.name, c.answer, 1.0, -1)]) for c in cases], cases
    assert up_to is not None
    if hi == lo:
        return [], []
    until = cutoff(corpus, "test" if part == "valid" else "")
    now = int(held.visible.time[hi - 1])
    end = until if part == "valid" else int(up_to.time.max()) + 1
    mask = held.visible.where.get(task.name)
    begins = dict(corpus.dataset.cutoffs).get(part, UNDATED)
    ahead = now + task.horizon_days * DAY
    is_past = ahead <= begins  # the whole horizon lies before the part, at whose start histories end
    if now == UNDATED or is_past or ahead > end or not (mask is None or mask[hi - 1]):
        return [], []
    position = int(up_to.offsets[user]) + int(held.visible.offsets[user + 1] - held.visible.offsets[user]) - 1
    if task.unit == "user_time":
        days = days_until_next(up_to, user, position, until, look_ahead_event(task))
        answer = int(look_ahead_answers(corpus, task, [days])[0])
        if answer < 0:
            return [], []
        question = Branch(question_tokens(words, {}, {}, corpus.encode), sees, [(task.name, answer, 1.0, -1)])
        number = float(look_ahead_labels(task, [days])[0]) if task.answer.values else float("nan")
        return [question], [Case(task.name, answer, 1.0, name, "next", user=user, number=number)]
    rng = np.random.default_rng([seed, 7, user])
    candidates = candidate_items(corpus, task, up_to, user, position, until, sampler, rng, most=10)
    every = zip(candidates.items.tolist(), candidates.answers.tolist(), candidates.weight.tolist(), strict=True)
    ids = corpus.dataset.items["item_id"]
    cases = [
        Case(task.name, answer, weight, name, f"item {ids[item]}", item, user=user) for item, answer, weight in every
    ]
    return [Branch(tokens_of(c.item), sees, [(task.name, c.answer, 1.0, -1)]) for c in cases], cases
