"""Names and ids of a request, looked up in the run: data set, users, items, conditions."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from ... import sql
from ...errors import DataError
from ...recommender import Recommender
from ...recommender.given import GIVEN_SCHEMA
from ..errors import invalid, not_found
from .forms import FieldFilter, HistoryEvent, Item


def dataset_of(
    recommender: Recommender,
    name: str | None,
    user: str | None,
    item: str | None = None,
    has_user: Callable[[str, str], bool] | None = None,
) -> str:
    """The data set that is named, else the first with a catalogue that has the user and the item.

    has_user: whether a data set has a user, if that need not be asked of the store. Raises ApiError 404 for a name that
    there is not.
    """
    if name is not None:
        if name not in recommender.datasets:
            raise not_found(
                f"there is no data set {name!r}; there are {', '.join(recommender.datasets)}",
                "unknown_data_set",
                "dataset",
            )
        return name
    candidates, has_user = recommendable(recommender), has_user or recommender.has_user
    for test_user in (user is not None and len(candidates) > 1, False):
        for dataset in candidates:
            if (not test_user or has_user(user or "", dataset)) and (
                item is None or recommender.has_item(item, dataset)
            ):
                return dataset
    return candidates[0]


def recommendable(recommender: Recommender) -> list[str]:
    """The data sets with a catalogue, else all of them."""
    return [d for d in recommender.datasets if recommender.has_catalogue(d)] or list(recommender.datasets)


def check_item(recommender: Recommender, dataset: str, item: str) -> None:
    """Raises ApiError 404 for an item that the catalogue lacks."""
    if not recommender.has_item(item, dataset):
        raise not_found(f"there is no item {item!r} in {dataset}", "unknown_item", "item_id")


def check_user(recommender: Recommender, dataset: str, user: str) -> None:
    """Raises ApiError 404 for a user that the data set lacks."""
    if not recommender.has_user(user, dataset):
        raise not_found(f"there is no user {user!r} in {dataset}", "unknown_user", "user_id")


def known_ids(recommender: Recommender, dataset: str, ids: Sequence[str], unknown: list[str]) -> list[str]:
    """The ids that the catalogue has; the others are appended to `unknown`."""
    items: list[str] = []
    for item in ids:
        (items if recommender.has_item(item, dataset) else unknown).append(item)
    return items


def history_frame(
    recommender: Recommender, dataset: str, history: Sequence[HistoryEvent] | None, unknown: list[str]
) -> pl.DataFrame | None:
    """A request's history (GIVEN_SCHEMA) without the items that the catalogue lacks, which are appended to
    `unknown`."""
    if history is None:
        return None
    items = set(known_ids(recommender, dataset, [event.item_id for event in history], unknown))
    return events_frame([event for event in history if event.item_id in items])


def events_frame(history: Sequence[HistoryEvent]) -> pl.DataFrame:
    """A request's history (GIVEN_SCHEMA)."""
    return pl.DataFrame([event.model_dump() for event in history], schema=GIVEN_SCHEMA)


def conditions_of(filters: Mapping[str, FieldFilter], items: pl.DataFrame) -> list[pl.Expr]:
    """Filters as conditions on the catalogue's columns; raises ApiError 400 naming the column."""
    conditions = []
    for column, field in filters.items():
        if column not in items.columns or column == "train_count":
            names = [c for c in items.columns if c != "train_count"]
            raise invalid(f"the catalogue has no column {column!r}; it has {', '.join(names)}", f"filter.{column}")
        bounds = {"any_of": field.any, "none_of": field.none, "gte": field.gte, "lte": field.lte}
        try:
            conditions.append(sql.meets(column, items.schema[column], **bounds))  # type: ignore[arg-type]
        except DataError as error:
            raise invalid(str(error), f"filter.{column}") from error
    return conditions


def items_of(recommender: Recommender, dataset: str, ids: Sequence[str]) -> list[Item]:
    """Items with title and attributes."""
    attributes = recommender.attributes(ids, dataset)
    titles = recommender.titles(ids, dataset)
    return [Item(item_id=i, title=title, metadata=attributes.get(i, {})) for i, title in zip(ids, titles, strict=True)]
