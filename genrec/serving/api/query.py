"""A request for a list, looked up in the run."""

from dataclasses import dataclass

import polars as pl

from ... import sql
from ...ask.reader import Reader
from ...recommender import Recommender
from .forms import RecommendationsRequest
from .lookup import conditions_of, dataset_of, history_frame, known_ids


@dataclass(frozen=True)
class ListQuery:
    """A request for a list, looked up in the run. user: whose list it is; is_known: whether the data set has the user;
    history: GIVEN_SCHEMA, None if none is given; like, exclude, candidates: ids of the catalogue; unknown: the other
    ids."""

    dataset: str
    user: str | None
    is_known: bool
    history: pl.DataFrame | None
    like: list[str]
    exclude: list[str]
    candidates: list[str] | None
    where: pl.Expr | None
    unknown: list[str]
    warnings: list[str]


def list_query(recommender: Recommender, reader: Reader, body: RecommendationsRequest, user: str | None) -> ListQuery:
    """Look up a request for a user's list; raises ApiError for a data set or a column of a filter that there is not."""
    dataset = dataset_of(recommender, body.dataset, user)
    items = recommender.catalogue(dataset)
    unknown: list[str] = []
    warnings: list[str] = []
    history = history_frame(recommender, dataset, body.history, unknown)
    exclude = known_ids(recommender, dataset, body.exclude, unknown)
    candidates = None if body.candidates is None else known_ids(recommender, dataset, body.candidates, unknown)
    like = [] if body.item_id is None else known_ids(recommender, dataset, [body.item_id], unknown)
    conditions = conditions_of(body.filter or {}, items)
    if body.query:
        wish = reader.wish(body.query, dataset)
        like += [m.item_id for m in wish.items]
        exclude += [m.item_id for m in wish.without]
        conditions += [sql.expression(c.sql(), items.schema) for c in wish.conditions]
        if wish.missed:
            warnings.append(f"not understood: {', '.join(map(repr, wish.missed))}")
    is_known = user is not None and recommender.has_user(user, dataset)
    where = pl.all_horizontal(*conditions) if conditions else None
    return ListQuery(dataset, user, is_known, history, like, exclude, candidates, where, unknown, warnings)
