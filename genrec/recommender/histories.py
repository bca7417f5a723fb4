"""Histories of users, from the store or given, as rows that the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from .. import store as stores
from ..data.events import alike, is_rejected, kind_of, row_signs
from ..errors import DataError
from ..rows.arrays import UNDATED, Histories, choice_index, shown_from
from ..rows.corpus import Corpus
from ..rows.row import Branch, Row, prompt_row, read_at
from ..tasks.numbers import round_scale
from ..tasks.vocabulary import EVENT, RATING, Group
from .given import no_history
from .views import View, Views, with_headers

if TYPE_CHECKING:
    from ..scoring.engine import States

NOT_READ = "are not read, and only count as taken"  # how a warning of long histories ends


@dataclass(frozen=True)
class Prompts:
    """Histories of some users as a run reads them: their headers are in the corpus; `""` is nobody.

    taken: (events,) the items of the histories, those too that the model is not shown since no token says that they
    were not wanted; -1 for one that the catalogue lacks.
    """

    corpus: Corpus
    histories: Histories
    taken: np.ndarray
    max_events: int

    def row(self, n: int, branches: Sequence[Branch]) -> Row:
        """History n cut to the length that the model was trained on, and branches that see all of it; without any, its
        end is read."""
        lo, hi = self.histories.span(n)
        lo += shown_from(hi - lo, self.max_events)
        user = self.histories.users[n] or None
        row = prompt_row(self.corpus, user, self.histories, lo, hi, [replace(b, sees=hi - lo) for b in branches])
        return row if branches else read_at(row, [len(row.tokens) - 1])

    def items(self, n: int) -> np.ndarray:
        """The items of a whole history, -1 for one that the catalogue lacks."""
        return self.taken[slice(*self.histories.span(n))]

    def wanted(self, n: int) -> np.ndarray:
        """The items of a whole history that the user wanted, -1 for any other event."""
        return self.histories.wanted[slice(*self.histories.span(n))]


def prompts_of(views: Views, view: View, users: Sequence[str], frames: Sequence[pl.DataFrame]) -> Prompts:
    """Prompts of users (`""`: nobody) whose histories (item_id, event, rating, timestamp) are given, oldest first."""
    vocabulary, manifest = view.corpus.vocabulary, views.adapter.manifest
    rating, event = (vocabulary.by_key.get((view.name, key)) for key in (RATING, EVENT))
    signs = manifest.signs.get(view.name, {})
    lengths = [frame.height for frame in frames]
    events = frames[0] if len(frames) == 1 else below_each_other(frames, lengths)
    taken = np.asarray([view.catalogue.index.get(i, -1) for i in events["item_id"].to_list()], dtype=np.int32)
    sign = row_signs(events, signs).to_numpy()
    outcome = np.full(events.height, -1, dtype=np.int32)
    if rating is not None:
        index = choice_index(rating, events["rating"]).astype(np.int32)
        outcome = np.where(index >= 0, rating.first + index, -1)
        outcome = np.where(is_rejected(events, sign) & (outcome < 0), rating.first, outcome)
    elif event is not None:
        names = events["event"].to_list()
        words = {e: alike(e, event.words, signs) for e in {*names} if e is not None}
        places = {e: event.first + event.words.index(w) for e, w in words.items() if w is not None}
        outcome = np.asarray([places.get(e, -1) for e in names], dtype=np.int32)
    unsaid = (sign < 0) & (outcome < 0) & (rating is None)  # would read as if they were wanted
    histories = Histories(
        users=tuple(users),
        offsets=np.cumsum([0, *lengths]).astype(np.int64),
        item=np.where(unsaid, -1, taken),
        outcome=outcome,
        time=events["timestamp"].fill_null(UNDATED).to_numpy(),
        sign=sign,
    )
    corpus = with_headers(view, views.store, users, manifest.header_columns.get(view.name, []))
    return Prompts(corpus, histories, taken, manifest.max_events)


def below_each_other(frames: Sequence[pl.DataFrame], lengths: Sequence[int]) -> pl.DataFrame:
    """The events of histories, with the number of the history as their user: one pass over all takes as long as over
    one."""
    numbers = pl.Series("user_id", np.repeat(np.arange(len(frames)), lengths))
    return pl.concat([no_history(), *frames], how="diagonal").with_columns(numbers)


def stored_history(views: Views, view: View, user: str) -> pl.DataFrame:
    """A user's interactions, oldest first; raises UnknownNameError for an unknown user."""
    return stores.history(views.store, view.name, user)


def given_history(view: View, history: pl.DataFrame) -> pl.DataFrame:
    """A history that is given (`given.as_history`); raises UnknownNameError for an item that the catalogue lacks,
    DataError for a rating beyond the scale."""
    for item in history["item_id"].to_list():
        view.catalogue.place(item)
    group = view.corpus.vocabulary.by_key.get((view.name, RATING))
    if group is not None and group.values:
        for value in history["rating"].drop_nulls().unique().to_list():
            check_rating(group, value)
    return history


def length_warnings(frames: Sequence[pl.DataFrame], max_events: int) -> tuple[str, ...]:
    """A warning if histories are longer than the model reads."""
    dropped = [shown_from(frame.height, max_events) for frame in frames]
    longer = sum(1 for n in dropped if n)
    if not longer:
        return ()
    if len(frames) == 1:
        return (f"the history has {frames[0].height:,} events; the oldest {dropped[0]:,} {NOT_READ}",)
    return (f"{longer:,} histories have more than {max_events:,} events; their oldest {NOT_READ}",)


def end_states(views: Views, prompts: Prompts) -> "States":
    """Hidden states (users, width) after each whole history."""
    return views.scorer.states([prompts.row(n, []) for n in range(len(prompts.histories.users))])


def outcome_of(views: Views, dataset: str, event: str | None, value: float | None) -> dict[str, str | float]:
    """Event and rating of an interaction of a kind and with a value; see `Recommender.outcome_of`."""
    group = views.adapter.manifest.vocabulary.by_key.get((dataset, RATING))
    outcome: dict[str, str | float] = {} if event is None else {"event": event}
    if group is None or not group.values:
        if value is not None and event in (None, "rating"):
            raise DataError(f"{dataset} has no ratings, so a value of {value:g} says nothing: leave it out")
        return outcome
    low, high = group.span
    kind = kind_of(event) if event is not None else None
    if value is None and kind is not None and kind.name in ("like", "dislike"):
        value = high if kind.name == "like" else low
    if value is not None and (event is None or (kind is not None and kind.name in ("rating", "like", "dislike"))):
        check_rating(group, value)
        outcome["rating"] = value
    return outcome


def check_rating(group: Group, value: float) -> None:
    """Raises DataError for a rating that is not on the scale of a data set's ratings, which may be wider than those of
    its training part."""
    (low, high), (least, most) = group.span, round_scale(*group.span)
    if not least <= value <= most:
        raise DataError(
            f"a rating of {value:g}: those of {group.dataset} go from {low:g} to {high:g}, so that at least {least:g} "
            f"and at most {most:g} is allowed"
        )
