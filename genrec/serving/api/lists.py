"""Lists: recommendations, and items brought into a user's order."""

import polars as pl
from fastapi import APIRouter

from ...recommender import Recommender
from ...recommender.records import ShownList
from ...recommender.replies import Recommendations
from ..callers import ANYBODY, Caller
from ..deps import CallerDep, DisconnectedDep, ServiceDep
from ..ids import new_id
from ..service import Disconnected, Service
from .forms import RankRequest, RecommendationsReply, RecommendationsRequest, ScoredItem
from .query import ListQuery, list_query
from .reasons import reasons_of

router = APIRouter(tags=["recommender"])


@router.post("/recommendations", response_model_exclude_none=False)
async def recommend(
    service: ServiceDep, caller: CallerDep, disconnected: DisconnectedDep, body: RecommendationsRequest
) -> RecommendationsReply:
    """Recommend items to a user, for a history of items, like an item, or by a wish in words."""
    user = caller.user_for(body.user_id or body.session_id, body.history is not None)
    filters = [values for f in (body.filter or {}).values() for values in (f.any, f.none)]
    service.check_lengths(body.history, body.candidates, body.exclude, *filters)
    return await recorded_list(service, caller, disconnected, body, user)


@router.post("/rank")
async def rank(
    service: ServiceDep, caller: CallerDep, disconnected: DisconnectedDep, body: RankRequest
) -> RecommendationsReply:
    """Bring items into the order of a user, of a history, or of their popularity."""
    user = caller.user_for(body.user_id, body.history is not None)
    service.check_lengths(body.history, body.items)
    request = RecommendationsRequest(
        user_id=user,
        history=body.history,
        candidates=body.items,
        exclude_seen=False,
        explain=body.explain,
        return_metadata=body.return_metadata,
        dataset=body.dataset,
    )
    request = request.model_copy(update={"num_results": len(set(body.items))})  # may be more than a list has elsewhere
    return await recorded_list(service, caller, disconnected, request, user)


async def recorded_list(
    service: Service,
    caller: Caller,
    disconnected: Disconnected | None,
    body: RecommendationsRequest,
    user: str | None,
) -> RecommendationsReply:
    """The list of a request, recorded so that events can name it."""
    reply = await service.ask(lambda r: recommendations(service, r, body, user, caller), disconnected)
    items = tuple(i.item_id for i in reply.items)
    service.lists.add(ShownList(reply.recommendation_id, reply.dataset, reply.user_id, reply.strategy, items))
    return reply


def recommendations(
    service: Service, recommender: Recommender, body: RecommendationsRequest, user: str | None, caller: Caller = ANYBODY
) -> RecommendationsReply:
    """The list of a request; in the model thread."""
    query = list_query(recommender, service.reader.seen_by(caller.may_see), body, user)
    strategy, scores = scored(recommender, query, body, show_users=not caller.bound)
    frame = scores.frame
    if strategy == "popular":
        service.metrics.cold_starts.inc()
    service.metrics.recommendations.labels(strategy).inc()
    attributes = recommender.attributes(frame["item_id"].to_list(), query.dataset) if body.return_metadata else None
    reasons = reasons_of(recommender, query, frame, strategy, body.explain)
    items = [
        ScoredItem(
            rank=row["rank"],
            item_id=row["item_id"],
            title=row["title"],
            score=row["score"],
            probability=row["probability"],
            reasons=reasons.get(row["item_id"], []),
            metadata=attributes.get(row["item_id"], {}) if attributes is not None else None,
        )
        for row in frame.iter_rows(named=True)
    ]
    return RecommendationsReply(
        recommendation_id=new_id("rec"),
        model=service.name,
        dataset=query.dataset,
        user_id=user,
        strategy=strategy,
        items=items,
        unknown_ids=list(dict.fromkeys(query.unknown)),
        warnings=[*query.warnings, *scores.warnings],
    )


def scored(
    recommender: Recommender, query: ListQuery, body: RecommendationsRequest, show_users: bool
) -> tuple[str, Recommendations]:
    """The strategy (model, similar or popular) and the list of a query. show_users: whether it may name other users."""
    if query.like and not query.is_known and query.history is None:
        unknown = [] if query.user is None else [query.user]
        warnings = recommender.unknown_users(unknown, query.dataset, show_users)
        similar = recommender.similar(
            query.like, body.num_results, query.dataset, where=query.where, exclude=query.exclude
        )
        frame = similar.frame.with_columns(pl.lit(None, pl.Float64).alias("probability"))
        return "similar", Recommendations(frame, warnings + similar.warnings)
    of_user = query.user is not None and query.history is None
    scores = recommender.recommend(
        users=query.user if of_user else None,
        history=None if of_user else [] if query.history is None else query.history,
        k=body.num_results,
        exclude=query.exclude,
        exclude_seen=body.exclude_seen,
        candidates=query.candidates,
        where=query.where,
        like=query.like,
        diversity=body.diversity or 0.0,
        dataset=query.dataset,
        show_users=show_users,
    )
    return scores.strategy, scores
