"""Users: their histories, their removal, and counts of what they did."""

from typing import Annotated

from fastapi import APIRouter, Query

from ...recommender import Recommender
from ..deps import CallerDep, DisconnectedDep, PathId, ServiceDep
from .forms import LIMIT, Deleted, HistoryItem, Summary, UserReply, UsersReply
from .lookup import check_user, dataset_of

router = APIRouter(tags=["recommender"])


@router.get("/users")
async def list_users(
    service: ServiceDep,
    caller: CallerDep,
    q: Annotated[str, Query(max_length=500, description="ids like this one")] = "",
    n: Annotated[int, Query(ge=1, le=LIMIT)] = 20,
    dataset: str | None = None,
) -> UsersReply:
    """Some users, by first appearance, or with ids like the one asked for."""

    def work(recommender: Recommender) -> UsersReply:
        name = dataset_of(recommender, dataset, None)
        if caller.bound:
            visible = [caller.user] if caller.user is not None and recommender.has_user(caller.user, name) else []
            return UsersReply(dataset=name, users=visible)
        users = recommender.close_users(q, name, n) if q else recommender.all_users(name)[:n]
        return UsersReply(dataset=name, users=users)

    return await service.store_call(work)


@router.get("/users/{user_id}")
async def get_user(
    service: ServiceDep,
    caller: CallerDep,
    disconnected: DisconnectedDep,
    user_id: PathId,
    n: Annotated[int, Query(ge=1, le=10_000, description="latest interactions to show")] = 50,
    dataset: str | None = None,
) -> UserReply:
    """A user's attributes and history."""
    caller.check(user_id)

    def work(recommender: Recommender) -> UserReply:
        name = dataset_of(recommender, dataset, user_id)
        check_user(recommender, name, user_id)
        events = recommender.history(user_id, name)
        latest = events.tail(n)
        titles = recommender.titles(latest["item_id"].to_list(), name)
        history = [
            HistoryItem(title=title, **{k: row[k] for k in ("item_id", "event", "rating", "timestamp")})
            for row, title in zip(latest.iter_rows(named=True), titles, strict=True)
        ]
        attributes = recommender.records.user_attributes(user_id, name)
        return UserReply(user_id=user_id, dataset=name, attributes=attributes, events=events.height, history=history)

    return await service.ask(work, disconnected)


@router.delete("/users/{user_id}")
async def delete_user(service: ServiceDep, caller: CallerDep, user_id: PathId) -> Deleted:
    """Remove a user everywhere: attributes, events, lists, and what the server keeps in memory."""
    caller.check(user_id)
    service.lists.forget(user_id)
    await service.lists.flush()
    rows = await service.store_call(lambda recommender: recommender.records.delete_user(user_id))
    await service.ask(lambda recommender: recommender.forget_histories())
    return Deleted(user_id=user_id, deleted=rows)


@router.get("/metrics/summary")
async def metrics_summary(service: ServiceDep, caller: CallerDep, dataset: str | None = None) -> Summary:
    """Events, lists, and how many of the lists were followed by an event."""
    caller.check(None, None)

    def work(recommender: Recommender) -> Summary:
        name = dataset_of(recommender, dataset, None)
        return Summary(dataset=name, model=service.name, summary=recommender.records.summary(name))

    await service.lists.flush()
    return await service.store_call(work)
