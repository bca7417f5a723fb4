"""The cases of each task that genrec is measured on, with the events before them, as tables of plain numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..data.dataset import Part
from ..evaluation.held_out import first_targets, held_basket, held_out, sampled, user_cases
from ..evaluation.reading import LONGEST
from ..rows.arrays import PARTS, Events, select
from ..rows.corpus import Corpus
from ..rows.lookahead import ItemSampler, candidate_items, cutoff
from ..rows.window import Window, asked_ends
from ..tasks.task import Task

MOST = 10_000  # validation cases by which settings are chosen
MOMENTS = 3  # of each user, from which the training part is asked about later events
INTERACTION = {"item": pl.Int64, "place": pl.Int64}


@dataclass(frozen=True)
class Lists:
    """Cases that ask for a ranked list.

    users: whom each case is about. known: case, item, place (oldest first). seen: the items that are removed under
    `seen removed`. targets: the right items.
    """

    users: tuple[str, ...]
    known: pl.DataFrame
    seen: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]

    def target_table(self) -> pl.DataFrame:
        """case, item of the right answers."""
        return interaction_table(self.targets, "case").select("case", "item")


@dataclass(frozen=True)
class Pairs:
    """Cases about a user and an item, or about a user alone (item -1). All (cases,); number: the right number, or 0 and
    1 for no and yes; about: the user's id."""

    user: np.ndarray
    item: np.ndarray
    answer: np.ndarray
    number: np.ndarray
    weight: np.ndarray
    about: tuple[str, ...]


def interaction_table(items: tuple[np.ndarray, ...], owner: str) -> pl.DataFrame:
    """A table of owner, item and place from each owner's items, oldest first."""
    lengths = [len(history) for history in items]
    table = {
        owner: np.repeat(np.arange(len(items)), lengths),
        "item": np.concatenate([np.zeros(0, np.int64), *items]).astype(np.int64),
        "place": np.arange(sum(lengths)),
    }
    return pl.DataFrame(table, schema={owner: pl.Int64, **INTERACTION})


def target_mask(corpus: Corpus, events: Events) -> np.ndarray:
    """Mask of the events that lists are learned from: those that next_item asks for, or all without such a task."""
    asks = any(t.name == "next_item" for t in corpus.tasks)
    return (events.target | (not asks)) & (events.item >= 0)


def items_by_user(events: Events, mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each user's items of the events in a mask (events,)."""
    subset = select(events, mask)
    return tuple(subset.item[lo:hi] for lo, hi in zip(subset.offsets[:-1], subset.offsets[1:], strict=True))


def training(corpus: Corpus) -> pl.DataFrame:
    """user, item, place of the training part."""
    assert corpus.events is not None
    events = corpus.training
    return interaction_table(items_by_user(events, target_mask(corpus, events)), "user")


def list_cases(corpus: Corpus, part: Part, seed: int, limit: int | None = None) -> Lists:
    """next_item's cases: each user with a held-out event that it asks for."""
    assert corpus.events is not None
    held = held_out(corpus.events, part)
    users = [u for u in range(len(held.visible.users)) if len(first_targets(held, u))]
    users = sampled(users, limit, seed)
    histories = items_by_user(held.visible, target_mask(corpus, held.visible))
    seen = items_by_user(held.visible, held.visible.item >= 0)
    return Lists(
        tuple(held.visible.users[u] for u in users),
        interaction_table(tuple(histories[u] for u in users), "case"),
        tuple(np.unique(seen[u]) for u in users),
        tuple(first_targets(held, u) for u in users),
    )


def list_ranks(lists: np.ndarray, targets: Sequence[np.ndarray], items: int) -> list[np.ndarray]:
    """1-based ranks of each case's targets in its list (cases, LONGEST); one that is not listed ranks behind."""
    assert len(lists) == len(targets), "the baselines have other cases than ours"
    behind = max(items, LONGEST + 1)
    ranks = []
    for row, case_targets in zip(lists, targets, strict=True):
        hit = row[None, :] == case_targets[:, None]
        ranks.append(np.where(hit.any(1), hit.argmax(1) + 1, behind))
    return ranks


def training_baskets(corpus: Corpus, task: Task) -> pl.DataFrame:
    """The training part with a basket as the `user`, of the events that the task keeps."""
    assert corpus.events is not None
    events = corpus.events
    keep = (events.part == 0) & (events.basket >= 0) & (events.item >= 0)
    if (mask := events.where.get(task.name)) is not None:
        keep &= mask
    subset = select(events, keep)
    owner = np.repeat(np.arange(len(subset.users)), np.diff(subset.offsets))
    _, basket = np.unique(np.stack([owner, subset.basket]), axis=1, return_inverse=True)
    table = pl.DataFrame({"user": basket.reshape(-1), "item": subset.item}).cast(pl.Int64)
    return table.with_columns(pl.int_range(pl.len()).alias("place"))


def basket_cases(corpus: Corpus, task: Task, part: Part, seed: int, limit: int | None = None) -> tuple[Lists, Lists]:
    """Baskets with an item missing: known holds the given items of the basket; in the second, the user's earlier
    items, none if genrec is not shown them either."""
    assert corpus.events is not None
    held = held_out(corpus.events, part)
    history = items_by_user(held.visible, held.visible.item >= 0)
    first = corpus.items.first
    users, given_items, targets, past = [], [], [], []
    for user, name in enumerate(held.visible.users):
        question = held_basket(corpus, task, held, user, 0, seed, "served")
        if question is not None:
            users.append(name)
            given_items.append(np.asarray([t - first for t in question.tokens if t >= first], dtype=np.int64))
            targets.append(np.asarray([question.targets[0][1]]))
            past.append(history[user] if question.sees_user else history[user][:0])
    chosen = sampled(list(range(len(users))), limit, seed)
    names = tuple(users[n] for n in chosen)
    seen, chosen_targets = tuple(given_items[n] for n in chosen), tuple(targets[n] for n in chosen)
    chosen_past = tuple(past[n] for n in chosen)
    return Lists(names, interaction_table(seen, "case"), seen, chosen_targets), Lists(
        names, interaction_table(chosen_past, "case"), seen, chosen_targets
    )


def right_numbers(task: Task, answer: np.ndarray, number: np.ndarray | None = None) -> np.ndarray:
    """The right number (cases,) of each case: as the data has it (nan if it is not known), else that of the answer."""
    values = np.asarray(task.answer.values or (0.0, 1.0))[answer]
    return values if number is None else np.where(np.isnan(number), values, number)


def pair_cases(corpus: Corpus, task: Task, part: Part, max_events: int, seed: int) -> Pairs:
    """The cases of a task about a user and an item in a held-out part, in the order that ours reads them."""
    assert corpus.events is not None
    held = held_out(corpus.events, part)
    up_to = select(corpus.events, corpus.events.part <= PARTS.index(part))
    sampler = ItemSampler(held.visible, corpus.items.size)
    user, cases = [], []
    for number in range(len(held.visible.users)):
        _, task_cases = user_cases(corpus, task, part, held, up_to, number, sampler, max_events, seed, "served")
        cases += task_cases
        user += [number] * len(task_cases)
    answer = np.asarray([c.answer for c in cases], dtype=np.int64)
    return Pairs(
        np.asarray(user, dtype=np.int64),
        np.asarray([c.item for c in cases], dtype=np.int64),
        answer,
        right_numbers(task, answer, np.asarray([c.number for c in cases], dtype=np.float64)),
        np.asarray([c.weight for c in cases], dtype=np.float64),
        tuple(c.about for c in cases),
    )


def answered_pairs(corpus: Corpus, task: Task, part: Part | None, seed: int) -> Pairs:
    """Pairs with their answers that a task about events can be learned from: of the training part; with a `part`,
    of all parts before it.

    A task that looks ahead asks after a few drawn moments of each user whose horizon ends in the training part.
    """
    assert corpus.events is not None
    end_part = 1 if part is None else PARTS.index(part)
    events = select(corpus.events, corpus.events.part < end_part)
    owner = np.repeat(np.arange(len(events.users)), np.diff(events.offsets))
    if task.horizon_days is None:
        index = events.labels[task.name]
        keep = (index >= 0) & (events.item >= 0)
        user, item, answer = owner[keep], events.item[keep].astype(np.int64), index[keep].astype(np.int64)
        numbers = events.numbers.get(task.name, np.full(len(index), np.nan))
        right = right_numbers(task, answer, numbers[keep])
        return Pairs(user, item, answer, right, np.ones(len(user)), tuple(events.users[u] for u in user))
    train = corpus.training
    until = cutoff(corpus, "valid")
    sampler = ItemSampler(train, corpus.items.size)
    drawn = []
    for number in range(len(train.users)):
        lo, hi = int(train.offsets[number]), int(train.offsets[number + 1])
        if lo == hi:
            continue
        rng = np.random.default_rng([seed, 21, number])
        ends = asked_ends(task, Window(train, number, lo, hi), until)
        for end in rng.permutation(ends)[:MOMENTS].tolist():
            candidates = candidate_items(corpus, task, train, number, lo + end, until, sampler, rng)
            drawn.append(
                (np.full(len(candidates.items), number), candidates.items, candidates.answers, candidates.weight)
            )
    columns = [np.concatenate(c) for c in zip(*drawn, strict=True)] if drawn else [np.zeros(0)] * 4
    user, item, answer = (c.astype(np.int64) for c in columns[:3])
    keep = answer >= 0
    about = tuple(train.users[u] for u in user[keep])
    weight = columns[3][keep].astype(np.float64)
    return Pairs(user[keep], item[keep], answer[keep], right_numbers(task, answer[keep]), weight, about)
