"""Training rows of a data set: windows of histories with their questions, and texts."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .corpus import Corpus
from .lookahead import ItemSampler, look_ahead_candidates
from .questions import (
    basket_question,
    conditioned_question,
    event_question,
    like_question,
    plain_question,
    user_question,
)
from .row import Branch, Row, training_row
from .texts import sharing_texts, text_rows
from .window import RowOptions, Window, window_starts

BARE = 0.15  # share of histories shown as plain lists of items, as callers may give them


def training_rows(corpus: Corpus, options: RowOptions) -> Iterator[Row]:
    """Every training row of a data set: one history is one row, long histories become overlapping windows.

    Texts of a data set that also has histories are drawn, up to half of `question_share` of the histories' tokens, so
    that they ride along and do not take over; without histories every text is a row, of all the tasks that ask about
    it at once.
    """
    tokens = 0
    if corpus.events is not None and any(t.unit != "text" for t in corpus.tasks):
        for row in history_rows(corpus, options):
            tokens += len(row.tokens)
            yield row
    for tasks in sharing_texts(corpus.tasks):
        budget = options.question_share / 2 * tokens if tokens else float("inf")
        templates = [t.seen for t in tasks]
        for row in text_rows(corpus, tasks, "train", templates, options.seed, shuffle=tokens > 0):
            budget -= len(row.tokens)
            if budget < 0:
                break
            yield row


def history_rows(corpus: Corpus, options: RowOptions) -> Iterator[Row]:
    """One row per window of each user's training events; some show neither outcomes nor who the user is."""
    assert corpus.events is not None
    events = corpus.training
    bare = replace(events, outcome=np.full_like(events.outcome, -1), item=events.wanted)
    sampler = ItemSampler(events, corpus.items.size)
    for user, name in enumerate(events.users):
        lo, hi = int(events.offsets[user]), int(events.offsets[user + 1])
        for start in window_starts(lo, hi, options):
            rng = np.random.default_rng([options.seed, 2, user, start - lo])
            is_bare = rng.random() < BARE
            visible = bare if is_bare else events
            window = Window(visible, user, start, min(start + options.max_events, hi))
            branches = draw_branches(corpus, window, sampler, rng, options)
            user_id = None if is_bare else name
            row = training_row(corpus, user_id, visible, window.lo, window.hi, branches, start == lo)
            if row.target_at:
                yield row


def draw_branches(
    corpus: Corpus, window: Window, sampler: "ItemSampler", rng: np.random.Generator, options: RowOptions
) -> list[Branch]:
    """The questions that ride on one window, up to `question_share` of its tokens, and the look-ahead candidates."""
    branches: list[Branch] = []
    makers = []
    for task in corpus.tasks:
        if task.name == "next_item":
            makers.append((task, plain_question))
            if task.conditioned_seen and corpus.conditions:
                makers.append((task, conditioned_question))
            if task.like_seen:
                makers.append((task, like_question))
        elif task.unit == "basket":
            makers.append((task, basket_question))
        elif task.unit == "user_time":
            makers.append((task, user_question))
        elif task.unit == "event" and task.horizon_days is None and task.answer.kind != "item":
            makers.append((task, event_question))
        elif task.unit == "event" and task.horizon_days is not None:
            branches += look_ahead_candidates(corpus, task, window, sampler, rng)
    if not makers:
        return branches
    budget = (
        options.question_share
        * (window.hi - window.lo)
        * (1 + float((window.events.outcome[window.lo : window.hi] >= 0).mean()))
    )
    while budget > 0:
        task, maker = makers[int(rng.integers(len(makers)))]
        question = maker(corpus, task, window, rng)
        cost = 25 if question is None else len(question.tokens)
        if rng.random() * cost > budget:
            break
        budget -= cost
        if question is not None:
            branches.append(question)
    return branches
