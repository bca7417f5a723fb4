"""Vectors of items, users and texts, which lie in one space."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from .. import store as stores
from ..catalogue.titles import key
from ..data.events import row_signs
from ..progress import Stage
from ..turns import in_turns
from .histories import end_states, prompts_of, stored_history
from .views import View, Views

CHUNK = 512  # users read at a time
AT_A_TIME = 200  # items or texts, before others have their turn
RELATED = 0.2  # cosine from which items count as alike


def user_vectors(views: Views, view: View, users: Sequence[str], progress: Stage | None = None) -> np.ndarray:
    """The hidden states (users, width) after the whole histories of users. progress: called with the users done and in
    all."""
    parts = []
    for start in range(0, len(users), CHUNK):
        part = users[start : start + CHUNK]
        prompts = prompts_of(views, view, part, [stored_history(views, view, user) for user in part])
        parts.append(end_states(views, prompts).cpu().numpy())
        if progress is not None:
            progress(start + len(part), len(users))
    return np.concatenate(parts)


def relatives(view: View, items: Sequence[str], history: Sequence[str]) -> list[str | None]:
    """For each item the one of a history whose vector has the highest cosine with its own; None if that is below
    RELATED."""
    index = view.catalogue.index
    past = [i for i in dict.fromkeys(history) if i in index]
    if not past:
        return [None] * len(items)
    related: list[str | None] = []
    columns = view.directions[[index[i] for i in past]].T
    for part in in_turns(items, AT_A_TIME):
        cosine = view.directions[[view.catalogue.place(i) for i in part]] @ columns
        best = cosine.argmax(1).tolist()
        related += [past[b] if row[b] >= RELATED else None for b, row in zip(best, cosine, strict=True)]
    return related


def relevance(views: Views, view: View, query: str, texts: Sequence[str], user: str | None) -> list[float]:
    """How well texts meet a query, 0 to 1; see `Recommender.relevance`."""
    catalogue = view.catalogue
    rows = views.text_rows(view.name, [*texts, query])
    asks_user = user is not None and stores.has_user(views.store, view.name, user)
    found = views.scorer.item_rows(view.name)[0] if asks_user else views.scorer.cold_rows(view.name)
    item_rows = found.float().cpu().numpy()
    for part in in_turns(range(len(texts)), AT_A_TIME):
        for n in part:
            match = None  # a text longer than any title, and an article, is none
            if texts[n] not in catalogue.index and len(texts[n]) <= catalogue.longest_title + 20:
                match = catalogue.title_index.named(key(texts[n]))
            if texts[n] in catalogue.index:
                rows[n] = item_rows[catalogue.index[texts[n]]]
            elif match is not None and match.how == "exact":
                rows[n] = item_rows[match.items[0]]
    query_vector = (
        user_vectors(views, view, [user])[0].astype(np.float64) if user is not None and asks_user else rows[-1]
    )
    cosine = rows[:-1] @ query_vector / (np.linalg.norm(rows[:-1], axis=1) * np.linalg.norm(query_vector) + 1e-12)
    return [float(c) for c in 0.5 + cosine / 2]


def favoured(views: Views, dataset: str, history: pl.DataFrame) -> pl.DataFrame:
    """A history without the items that were rated below the user's mean or, without a rating, not wanted."""
    rated = pl.col("rating") >= pl.col("rating").mean()
    return history.filter(rated.fill_null(row_signs(history, views.adapter.manifest.signs.get(dataset, {})) > 0))
