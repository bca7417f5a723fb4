"""Questions of training about a window: the next item (any, under a condition, like another), baskets, users."""

import numpy as np

from ..tasks.task import Task
from .corpus import Corpus
from .lookahead import cutoff, days_until_next, look_ahead_answers, look_ahead_event
from .row import Branch, question_tokens
from .window import Window, asked_ends, pick, selection_mask, target_positions

NEAR = 5  # "like X": X is at most this many events before the target
AHEAD = 10  # a condition is drawn from the attributes of one of the next so many items


def plain_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`What comes next?`"""
    positions = target_positions(window)
    if not len(positions):
        return None
    position = int(rng.choice(positions))
    tokens = question_tokens(pick(rng, task.seen), {}, {}, corpus.encode)
    return Branch(tokens, position, [(task.name, int(window.events.item[window.lo + position]), 1.0, -1)])


def conditioned_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`Recommend an item with genre Comedy`: the target is the next item that meets the condition."""
    positions = target_positions(window)
    if not len(positions):
        return None
    start = int(rng.integers(len(positions)))
    ahead = positions[start:]
    drawn_item = int(window.events.item[window.lo + int(rng.choice(ahead[:AHEAD]))])
    matching = [n for n, (_, _, mask) in enumerate(corpus.conditions) if mask[drawn_item]]
    if not matching:
        return None
    condition = int(rng.choice(matching))
    words, _, mask = corpus.conditions[condition]
    item = next(int(window.events.item[window.lo + p]) for p in ahead if mask[window.events.item[window.lo + p]])
    tokens = question_tokens(pick(rng, task.conditioned_seen), {"condition": words}, {}, corpus.encode)
    return Branch(tokens, int(positions[start]), [(task.name, item, 1.0, condition)])


def like_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`Something like X`: X came at most NEAR events before the target; half of them are asked without the history."""
    positions = target_positions(window)
    if not len(positions):
        return None
    position = int(rng.choice(positions))
    events = window.events
    target = int(events.item[window.lo + position])
    near = events.wanted[window.lo + max(0, position - NEAR) : window.lo + position]
    near = near[(near >= 0) & (near != target)]
    if not len(near):
        return None
    like = corpus.items.first + int(rng.choice(near))
    tokens = question_tokens(pick(rng, task.like_seen), {}, {"item": [like]}, corpus.encode)
    return Branch(tokens, position, [(task.name, target, 1.0, -1)], sees_user=bool(rng.random() < 0.5))


def event_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """A rating, click or the caller's own outcome, asked in words."""
    index = window.events.labels[task.name][window.lo : window.hi]
    positions = np.nonzero((index >= 0) & (window.events.item[window.lo : window.hi] >= 0))[0]
    if not len(positions):
        return None
    position = int(rng.choice(positions))
    item = corpus.items.first + int(window.events.item[window.lo + position])
    tokens = question_tokens(pick(rng, task.seen), {}, {"item": [item]}, corpus.encode)
    return Branch(tokens, position, [(task.name, int(index[position]), 1.0, -1)])


def basket_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`What goes with these?`: some items of a basket are given, another of it is the target."""
    events = window.events
    basket = events.basket[window.lo : window.hi]
    position = int(rng.integers(len(basket)))
    members = np.nonzero((basket == basket[position]) & (basket >= 0) & selection_mask(task, window))[0]
    items = list(dict.fromkeys(int(i) for i in events.item[window.lo + members] if i >= 0))
    if len(items) < 2:
        return None
    order = rng.permutation(len(items))
    item_tokens = [corpus.items.first + items[n] for n in order[1 : 1 + int(rng.integers(1, min(len(items), 6)))]]
    tokens = question_tokens(pick(rng, task.seen), {}, {"items": item_tokens}, corpus.encode)
    return Branch(tokens, int(members[0]), [(task.name, items[order[0]], 1.0, -1)], sees_user=bool(rng.random() < 0.5))


def user_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`Will they be back?`, asked after one of the user's visits whose horizon ends before the cut-off."""
    until = cutoff(corpus, "valid")
    ends = asked_ends(task, window, until)
    if not len(ends):
        return None
    end = int(rng.choice(ends))
    days = days_until_next(window.events, window.user, window.lo + end, until, look_ahead_event(task))
    answer = int(look_ahead_answers(corpus, task, [days])[0])
    tokens = question_tokens(pick(rng, task.seen), {}, {}, corpus.encode)
    return Branch(tokens, end + 1, [(task.name, answer, 1.0, -1)]) if answer >= 0 else None
