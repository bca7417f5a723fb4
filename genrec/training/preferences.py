"""Preferences between the items of a history, and rows of the events before each choice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.dataset import Part
from ..data.events import kind_of
from ..model.batching import collate
from ..model.encoder_decoder import Split
from ..rows.arrays import PARTS, Events, select
from ..rows.corpus import Corpus
from ..rows.lookahead import ItemSampler
from ..rows.row import Row, prompt_row, read_at
from ..rows.window import RowOptions, window_starts
from .plan import PlannedBatches, RowIndex, plan_epoch

NEAR = 10  # events between a chosen item and its rejected ones, at most
DRAWS = 8  # per rejected item that is drawn: those that the user took are left out


@dataclass(frozen=True)
class Signs:
    """Signs of preference in a data set's events.

    chosen, rejected: (events,) bool; rejected is None if no event says that an item was not wanted. words: what they
    were taken from, for people.
    """

    chosen: np.ndarray
    rejected: np.ndarray | None
    words: str


def signs_of(corpus: Corpus) -> Signs:
    """The signs of a data set's events: clicks and skips, else purchases and other events, else what was wanted and
    what was not, else ratings from the mean of a user's training part on and below it; else the events that next_item
    asks for, and none that are rejected."""
    events = corpus.events
    assert events is not None
    click, rating = events.labels.get("click"), events.labels.get("rating")
    if click is not None:
        return Signs(click == 1, click == 0, "clicked items before skipped ones")
    of_purchase = [n for n, word in enumerate(events.kinds) if (kind := kind_of(word)) and kind.name == "purchase"]
    if of_purchase and len(events.kinds) > len(of_purchase):
        bought = np.isin(events.kind, of_purchase)
        return Signs(bought, ~bought, "items bought before items only looked at")
    if (events.sign < 0).any():
        return Signs(events.sign > 0, events.sign < 0, "items wanted before those not wanted")
    if rating is not None and "rating" in events.numbers:
        value = events.numbers["rating"]
        user = np.repeat(np.arange(len(events.users)), np.diff(events.offsets))
        rated = rating >= 0
        train = rated & (events.part == 0)
        count = np.maximum(np.bincount(user, train, len(events.users)), 1)
        mean = (np.bincount(user, np.where(train, value, 0), len(events.users)) / count)[user]
        words = "items rated at or above the user's mean before those below"
        return Signs(rated & (value >= mean), rated & (value < mean), words)
    return Signs(events.target, None, "items taken before drawn ones: the data says of no item that it was not wanted")


def chosen_later(corpus: Corpus, part: Part) -> dict[str, set[int]]:
    """The items that each user chose in a held-out part."""
    events = corpus.events
    assert events is not None
    chosen = signs_of(corpus).chosen & (events.part == PARTS.index(part)) & (events.item >= 0)
    user = np.repeat(np.arange(len(events.users)), np.diff(events.offsets))
    items_by_user: dict[str, set[int]] = {}
    for number, item in zip(user[chosen].tolist(), events.item[chosen].tolist(), strict=True):
        items_by_user.setdefault(events.users[number], set()).add(item)
    return items_by_user


@dataclass(frozen=True)
class Choice:
    """One preference of a user: the events before event `before` are shown; indices of the catalogue."""

    before: int
    chosen: int
    rejected: np.ndarray


@dataclass(frozen=True)
class PreferenceRow:
    """A history with its preferences: the row's targets are the chosen items, `rejected` (targets, n) has the items
    that each is preferred to, -1 if there are fewer."""

    row: Row
    rejected: np.ndarray


def observed_choices(
    item: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, limit: int, rng: np.random.Generator
) -> list[Choice]:
    """One choice per chosen event of a user that has rejected items at most NEAR events away, up to `limit` of them.

    An item that the user also chose is never a rejected one. item, chosen, rejected: (events,).
    """
    others = np.nonzero(rejected & ~np.isin(item, item[chosen]))[0]
    choices = []
    for position in np.nonzero(chosen)[0].tolist():
        near = rng.permutation(others[np.abs(others - position) <= NEAR])
        near = near[first_of_each(item[near])][:limit]
        if len(near):
            choices.append(Choice(min(position, int(near.min())), int(item[position]), item[near]))
    return choices


def sampled_choices(
    item: np.ndarray, chosen: np.ndarray, sampler: ItemSampler, limit: int, rng: np.random.Generator
) -> list[Choice]:
    """One choice per chosen event of a user, with up to `limit` items drawn by popularity that the user never took."""
    choices = []
    for position in np.nonzero(chosen)[0].tolist():
        drawn = sampler.draw("popularity", DRAWS * limit, rng)
        drawn = drawn[~np.isin(drawn, item)]
        drawn = drawn[first_of_each(drawn)][:limit]
        if len(drawn):
            choices.append(Choice(position, int(item[position]), drawn))
    return choices


def first_of_each(values: np.ndarray) -> np.ndarray:
    """Indices of the first of equal values, in their order."""
    return np.sort(np.unique(values, return_index=True)[1])


def preference_rows(
    corpus: Corpus, limit: int, max_events: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> tuple[list[PreferenceRow], str]:
    """The preferences of a data set's training part, and a line about their source; one row per window of a history.

    limit: rejected items per chosen one. Windows overlap by half, and a choice is read in the one that shows most of
    the events before it. progress: called with the users done and in all.
    """
    assert corpus.events is not None
    in_train = corpus.events.part == 0
    train, signs = select(corpus.events, in_train), signs_of(corpus)
    chosen = signs.chosen[in_train] & (train.item >= 0)
    rejected = None if signs.rejected is None else signs.rejected[in_train] & (train.item >= 0)
    sampler = ItemSampler(train, corpus.items.size)
    windows = RowOptions(max_events=max_events, stride=max(1, max_events // 2))
    rows = []
    for user in range(len(train.users)):
        rng = np.random.default_rng([seed, 30, user])
        lo, hi = int(train.offsets[user]), int(train.offsets[user + 1])
        if rejected is None:
            choices = sampled_choices(train.item[lo:hi], chosen[lo:hi], sampler, limit, rng)
        else:
            choices = observed_choices(train.item[lo:hi], chosen[lo:hi], rejected[lo:hi], limit, rng)
        remaining = [replace(c, before=lo + c.before) for c in choices if c.before > 0]
        for start in window_starts(lo, hi, windows):
            inside = [c for c in remaining if start < c.before < start + max_events]
            remaining = [c for c in remaining if c.before >= start + max_events]
            if inside:
                rows.append(preference_row(corpus, train, user, start, inside, limit))
        if progress is not None:
            progress(user + 1, len(train.users))
    return rows, signs.words


def preference_row(
    corpus: Corpus, events: Events, user: int, start: int, choices: Sequence[Choice], limit: int
) -> PreferenceRow:
    """The history from event `start` on, read where each choice begins."""
    end = max(c.before for c in choices)
    row = prompt_row(corpus, events.users[user], events, start, end, [])
    item, outcome = events.item[start:end], events.outcome[start:end]
    width = np.where(item >= 0, 1 + (outcome >= 0), 0)
    # the last token before each event
    positions = len(row.tokens) - int(width.sum()) - 1 + np.append(0, np.cumsum(width))
    rejected = np.full((len(choices), limit), -1, dtype=np.int64)
    for slots, choice in zip(rejected, choices, strict=True):
        slots[: len(choice.rejected)] = choice.rejected
    row = read_at(row, [int(positions[c.before - start]) for c in choices])
    return PreferenceRow(replace(row, target_id=[c.chosen for c in choices]), rejected)


class PreferenceBatches(PlannedBatches):
    """Batches of preferences in the order of their steps, each with `rejected` (pairs, n) and `reference`
    (pairs, 1 + n), the log-probabilities that the model gave before its first step.

    The same rows are together in every epoch, so that the reference is read on the very batch that it is compared with.
    """

    def __init__(
        self,
        preferences: Sequence[PreferenceRow],
        dataset: np.ndarray,
        batch_tokens: int,
        seed: int,
        split: Split | None,
    ) -> None:
        length = np.asarray([len(p.row.tokens) for p in preferences])
        index = RowIndex(dataset, length, np.zeros((len(preferences), 0)))
        super().__init__(preferences, index, plan_epoch(index, batch_tokens, seed, 0), split)
        self.preferences, self.seed = preferences, seed
        self.order = np.arange(len(self.plan))
        self.reference: list[torch.Tensor] = []

    def repeat(self, epochs: int) -> None:
        """Plan so many epochs over the batches, each in an order of its own."""
        orders = [np.random.default_rng([self.seed, 31, e]).permutation(len(self.plan)) for e in range(epochs)]
        self.order = np.concatenate(orders)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        number = int(self.order[step])
        return self.batch(number) | {"reference": self.reference[number], "number": torch.tensor(step)}

    def batch(self, number: int) -> dict[str, torch.Tensor]:
        """A batch of the plan without its reference."""
        chosen = self.plan[number]
        fields = collate([self.preferences[n].row for n in chosen], int(self.index.dataset[chosen[0]]), self.split)
        return fields | {"rejected": torch.as_tensor(np.concatenate([self.preferences[n].rejected for n in chosen]))}
