"""The catalogue: data sets, items, items like one, and items to add."""

import asyncio
from typing import Annotated

import polars as pl
from fastapi import APIRouter, Query

from ...recommender import Recommender
from ..deps import CallerDep, DisconnectedDep, PathId, ServiceDep
from ..errors import ApiError
from .forms import (
    LIMIT,
    Column,
    DataSet,
    DataSetsReply,
    Item,
    ItemsAdded,
    ItemsReply,
    ItemsRequest,
    RecommendationsReply,
    RecommendationsRequest,
)
from .lists import recommendations
from .lookup import check_item, dataset_of, items_of

router = APIRouter(tags=["recommender"])

VALUES = 200  # of a column that a description lists at most


@router.get("/datasets")
async def list_datasets(service: ServiceDep, disconnected: DisconnectedDep) -> DataSetsReply:
    """What the run was trained on: data sets, their tasks with the answers, and what lists can be narrowed by."""

    def work(recommender: Recommender) -> DataSetsReply:
        datasets = [description_of(recommender, d) for d in recommender.datasets]
        return DataSetsReply(model=service.name, datasets=datasets)

    return await service.ask(work, disconnected)


def description_of(recommender: Recommender, dataset: str) -> DataSet:
    """A data set: its tasks, and the values or the range of each column."""
    items = recommender.catalogue(dataset)
    columns = []
    for name, kind in items.drop("item_id", "title", "train_count", strict=False).schema.items():
        values = items[name].drop_nulls()
        if kind.is_numeric():
            columns.append(Column(name=name, low=values.min(), high=values.max()))
            continue
        counts = (values.explode() if kind.is_nested() else values).cast(pl.String).value_counts(sort=True)
        if 1 < counts.height <= VALUES or kind.is_nested():
            columns.append(Column(name=name, values=counts[name].head(VALUES).to_list()))
    tasks = recommender.answers(dataset)
    units = {t: recommender.unit(t, dataset) for t in tasks}
    return DataSet(name=dataset, items=items.height, tasks=tasks, units=units, columns=columns)


@router.get("/items")
async def search_items(
    service: ServiceDep,
    disconnected: DisconnectedDep,
    q: Annotated[str, Query(min_length=1, max_length=500, description="a title, part of one, or with a typo")],
    n: Annotated[int, Query(ge=1, le=LIMIT)] = 10,
    dataset: str | None = None,
) -> ItemsReply:
    """Find items by title."""

    def work(recommender: Recommender) -> ItemsReply:
        name = dataset_of(recommender, dataset, None)
        return ItemsReply(dataset=name, items=items_of(recommender, name, recommender.search_items(q, n, name)))

    return await service.ask(work, disconnected)


@router.get("/items/{item_id}")
async def get_item(
    service: ServiceDep, disconnected: DisconnectedDep, item_id: PathId, dataset: str | None = None
) -> Item:
    """An item of the catalogue."""

    def work(recommender: Recommender) -> Item:
        name = dataset_of(recommender, dataset, None, item_id)
        check_item(recommender, name, item_id)
        return items_of(recommender, name, [item_id])[0]

    return await service.ask(work, disconnected)


@router.get("/items/{item_id}/similar")
async def similar_items(
    service: ServiceDep,
    disconnected: DisconnectedDep,
    item_id: PathId,
    n: Annotated[int, Query(ge=1, le=LIMIT)] = 10,
    dataset: str | None = None,
) -> RecommendationsReply:
    """Items like an item."""

    def work(recommender: Recommender) -> RecommendationsReply:
        name = dataset_of(recommender, dataset, None, item_id)
        check_item(recommender, name, item_id)
        body = RecommendationsRequest(item_id=item_id, num_results=n, dataset=name)
        return recommendations(service, recommender, body, None)

    return await service.ask(work, disconnected)


@router.post("/items", status_code=201)
async def add_items(
    service: ServiceDep, caller: CallerDep, disconnected: DisconnectedDep, body: ItemsRequest
) -> ItemsAdded:
    """Add items to the catalogue; each can be recommended at once, by its text, until a training knows more of it."""
    caller.check(None, None)
    service.check_lengths(body.items)
    items = await asyncio.to_thread(lambda: [i.model_dump(exclude_none=True) for i in body.items])

    def check(recommender: Recommender) -> str:
        name = dataset_of(recommender, body.dataset, None)
        recommender.check_items(items, name)
        return name

    name = await service.ask(check, disconnected)
    states = await service.store_call(lambda recommender: recommender.records.add_items(items, name))
    try:
        await service.sync.now()
    except ApiError:
        pass  # the items are in the store: the next look at it adds them
    return ItemsAdded(dataset=name, added=states.count("added"), updated=states.count("updated"))
