"""The recommender over REST: recommendations, predictions, ranking, items, events, users."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import polars as pl
from fastapi import APIRouter, Path, Query, Request
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from .. import sql
from .. import store as stores
from ..catalogue.titles import UNSEEN
from ..errors import DataError
from ..recommender import Recommender
from .callers import ANYBODY, Caller
from .errors import ApiError, invalid, not_found
from .ids import new_id
from .messages import whole_characters
from .service import Service

router = APIRouter(tags=["recommender"])

MOST = 500  # items of a list at most
VALUES = 200  # of a column that are told
COUNTED = ("rating", "like", "dislike", "seen", "view", "click", "skip", "cart", "purchase")  # apart in the metrics


def without_nul(value: str) -> str:
    """A text; raises ValueError for one with a NUL character, which PostgreSQL cannot hold."""
    if "\0" in value:
        raise ValueError("a NUL character is in it")
    return value


def nameable(value: str) -> str:
    """A new id; raises ValueError for one that no URL or line of text could name."""
    if UNSEEN.search(value):
        raise ValueError("a control character or the end of a line is in it")
    if value in (".", ".."):
        raise ValueError(f"{value!r} means another place in a URL: no id is written so")
    return value


Text = Annotated[str, AfterValidator(without_nul)]
Id = Annotated[  # in this order: what is blank is refused once it is stripped
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), AfterValidator(without_nul)
]
NewId = Annotated[Id, AfterValidator(nameable)]
Ids = Annotated[list[Id], Field(fail_fast=True)]  # one fault of a list is told, not as many as it has entries
PathId = Annotated[str, Path(), AfterValidator(unquote)]  # see `Guard`
Number = Annotated[float, Field(allow_inf_nan=False)]
Explain = Annotated[
    bool | Literal["measured"],
    Field(description="true: what of the history each item is like; measured: without what it would score lower"),
]
Timestamp = Annotated[int, Field(ge=-(2**62), le=2**62, description="seconds since 1970, or as in the data")]


class Body(BaseModel):
    """A request; fields that it does not know are ignored."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class HistoryEvent(Body):
    """An interaction of a history that is given with the request."""

    item_id: Id
    rating: Number | None = None
    event: str | None = None
    timestamp: Timestamp | None = None


History = Annotated[list[Id | HistoryEvent], Field(fail_fast=True)]


class FieldFilter(Body):
    """What an attribute must be; lists are met where they hold one of the values."""

    any: Annotated[list[str | Number], Field(fail_fast=True)] | None = Field(None, description="one of these")
    none: Annotated[list[str | Number], Field(fail_fast=True)] | None = Field(None, description="none of these")
    gte: Number | None = None
    lte: Number | None = None


class RecommendationsRequest(Body):
    """What to recommend, and to whom."""

    user_id: Id | None = Field(None, description="a user; an unknown one gets popular items")
    session_id: Id | None = Field(None, description="an anonymous visitor, whose events were sent under this id")
    history: History | None = Field(None, description="item ids or events, oldest first")
    item_id: Id | None = Field(None, description="items like this one")
    query: str | None = Field(None, max_length=2_000, description="wishes in words: comedies from the 1990s")
    num_results: int = Field(10, ge=1, le=MOST, validation_alias=AliasChoices("num_results", "n", "k"))
    exclude_seen: bool = True
    exclude: Ids = []
    candidates: Ids | None = None
    filter: dict[str, FieldFilter] | None = Field(None, description='{"genre": {"any": ["Comedy"]}}')
    diversity: Number | None = Field(None, ge=0, le=1, description="0: by score alone; 1: as unlike as can be")
    explain: Explain = False
    return_metadata: bool = True
    dataset: str | None = None
    context: dict[str, Any] | None = None
    seed: int | None = None


class Reason(BaseModel):
    """Why an item is in a list. because_of: an item of the history, without which the score were lower by `effect`."""

    code: Literal["because_of", "similar_to", "popular"]
    text: str
    item_id: str | None = None
    effect: float | None = None


class ScoredItem(BaseModel):
    """A place of a list."""

    rank: int
    item_id: str
    title: str | None
    score: float
    probability: float | None = None
    reasons: list[Reason] = []
    metadata: dict[str, Any] | None = None


class RecommendationsReply(BaseModel):
    """A list, best first. strategy: model, similar or popular."""

    recommendation_id: str
    model: str
    dataset: str
    user_id: str | None
    strategy: str
    items: list[ScoredItem]
    unknown_ids: list[str] = []
    warnings: list[str] = []


class RankRequest(Body):
    """Items to bring into a user's order."""

    items: Ids = Field(min_length=1, validation_alias=AliasChoices("items", "candidates", "item_ids"))
    user_id: Id | None = None
    history: History | None = None
    explain: Explain = False
    return_metadata: bool = True
    dataset: str | None = None


class PredictionsRequest(Body):
    """What to predict: for a user and items, for a user, or for texts."""

    task: str = Field("rating", description="rating, click, purchase, churn, sentiment, category, ...")
    user_id: Id | None = None
    item_id: Id | None = None
    items: Ids | None = None
    text: str | None = Field(None, max_length=20_000)
    texts: Annotated[list[Annotated[str, Field(max_length=20_000)]], Field(fail_fast=True)] | None = Field(
        None, max_length=256
    )
    dataset: str | None = None


class Prediction(BaseModel):
    """value: the expected value of numbers, else the likeliest answer."""

    user_id: str | None
    item_id: str | None
    text: str | None
    value: float | str
    probabilities: dict[str, float]


class PredictionsReply(BaseModel):
    """Calibrated outcomes, in the order of the request."""

    model: str
    dataset: str
    task: str
    predictions: list[Prediction]
    warnings: list[str] = []


class Item(BaseModel):
    """An item of the catalogue."""

    item_id: str
    title: str | None
    metadata: dict[str, Any] = {}


class ItemsReply(BaseModel):
    """Items that a search found, the most frequent first."""

    dataset: str
    items: list[Item]


class NewItem(BaseModel):
    """An item to add, or to change: item_id, title, and any of the catalogue's columns."""

    model_config = ConfigDict(extra="allow")
    item_id: NewId
    title: Text | None = Field(None, max_length=2_000)


class ItemsRequest(Body):
    """Items to add to the catalogue."""

    items: Annotated[list[NewItem], Field(fail_fast=True)] = Field(min_length=1, max_length=10_000)
    dataset: str | None = None
    _whole = model_validator(mode="before")(whole_characters)


class ItemsAdded(BaseModel):
    """What became of the items: added or updated."""

    dataset: str
    added: int
    updated: int


class Event(Body):
    """Something that a user did. value: a rating, where the event is one."""

    event_id: NewId | None = Field(None, description="the same id of the same user or session is not recorded again")
    user_id: NewId | None = None
    session_id: NewId | None = None
    item_id: Id
    event_type: Text | None = Field(None, max_length=100, validation_alias=AliasChoices("event_type", "event", "type"))
    value: Number | None = Field(None, validation_alias=AliasChoices("value", "rating"))
    timestamp: Timestamp | None = None
    recommendation_id: NewId | None = None
    review: Text | None = Field(None, max_length=20_000)


class EventsRequest(Body):
    """Events to record; each is checked alone."""

    events: list[Any] = Field(min_length=1, max_length=10_000, json_schema_extra={"items": {"type": "object"}})
    dataset: str | None = None


class EventError(BaseModel):
    """Why an event was not recorded; index: its place in the request."""

    index: int
    param: str | None
    message: str


class EventsReply(BaseModel):
    """What was recorded for good, what had been before, and what cannot be."""

    recorded: int
    duplicates: int
    errors: list[EventError]


class HistoryItem(BaseModel):
    """An interaction, the title beside it."""

    item_id: str
    title: str | None
    event: str | None
    rating: float | None
    timestamp: int | None


class UserReply(BaseModel):
    """A user's attributes and latest interactions, oldest first."""

    user_id: str
    dataset: str
    attributes: dict[str, Any]
    events: int
    history: list[HistoryItem]


class UsersReply(BaseModel):
    """Some users."""

    dataset: str
    users: list[str]


class Deleted(BaseModel):
    """Rows that were removed, by table."""

    user_id: str
    deleted: dict[str, int]


class Summary(BaseModel):
    """What was recommended and what came of it."""

    dataset: str
    model: str
    summary: dict[str, Any]


def service_of(request: Request) -> Service:
    """The application's service."""
    found: Service = request.app.state.service
    return found


def caller(request: Request) -> Caller:
    """Who asks."""
    found: Caller = request.state.caller
    return found


async def gone(request: Request) -> None:
    """Ends when the caller has left; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Column(BaseModel):
    """A column of a catalogue: its most frequent values, or its range."""

    name: str
    values: list[str] = []
    low: float | None = None
    high: float | None = None


class DataSet(BaseModel):
    """A data set of the run. tasks: each with its answers; those of next_item and basket are items."""

    name: str
    items: int
    tasks: dict[str, list[str]]
    units: dict[str, str]
    columns: list[Column]


class DataSetsReply(BaseModel):
    """The data sets of the run."""

    model: str
    datasets: list[DataSet]


# --- lists --------------------------------------------------------------------------------------------------------


@router.post("/recommendations", response_model_exclude_none=False)
async def recommend(request: Request, body: RecommendationsRequest) -> RecommendationsReply:
    """Recommend items to a user, for a history of items, like an item, or by a wish in words."""
    service = service_of(request)
    user = body.user_id or body.session_id or (caller(request).user if body.history is None else None)
    if user is not None or body.history is None:
        caller(request).check(user)
    limit_body(service, body)
    who = caller(request)
    reply = await service.ask(lambda r: recommendations(service, r, body, user, who), gone(request))
    keep(service, reply)
    return reply


def recommendations(
    service: Service, recommender: Recommender, body: RecommendationsRequest, user: str | None, who: Caller = ANYBODY
) -> RecommendationsReply:
    """The list of a request; in the model thread."""
    dataset = dataset_of(recommender, body.dataset, user)
    items = recommender.catalogue(dataset)
    unknown: list[str] = []
    history, rated = known_history(recommender, dataset, body.history, unknown)
    exclude = known_ids(recommender, dataset, body.exclude, unknown)
    candidates = None if body.candidates is None else known_ids(recommender, dataset, body.candidates, unknown)
    like = [] if body.item_id is None else known_ids(recommender, dataset, [body.item_id], unknown)
    warnings: tuple[str, ...] = ()
    where = conditions_of(body.filter or {}, items)
    if body.query:
        wish = service.reader.seen_by(who.may_see).wish(body.query, dataset)
        like += [m.item_id for m in wish.items]
        exclude += [m.item_id for m in wish.without]
        where += [sql.expression(c.sql(), items.schema) for c in wish.conditions]
        if wish.missed:
            warnings += (f"not understood: {', '.join(map(repr, wish.missed))}",)
    if body.context:
        warnings += ("context is not used by this model",)
    condition = pl.all_horizontal(*where) if where else None
    known = user is not None and recommender.has_user(user, dataset)
    if user is not None and not known:
        warnings += (f"user {user} is unknown",)
    if like and not known and history is None:
        found = recommender.similar(like, body.num_results, dataset, where=condition, exclude=exclude)
        strategy, frame = "similar", found.frame.with_columns(pl.lit(None, pl.Float64).alias("probability"))
    else:
        given: dict[str, Any] = {"history": rated if history is not None else []}
        if known and history is None:
            given = {"users": user}
        found = recommender.recommend(
            **given,
            k=body.num_results,
            exclude=exclude,
            include_seen=not body.exclude_seen,
            candidates=candidates,
            where=condition,
            like=like,
            diversity=body.diversity or 0.0,
            dataset=dataset,
        )
        frame = found.frame
        strategy = frame["strategy"][0] if frame.height else "model"
    if strategy == "popular":
        service.metrics.cold_starts.inc()
    service.metrics.recommendations.labels(strategy).inc()
    attributes = recommender.attributes(frame["item_id"].to_list(), dataset) if body.return_metadata else None
    reasons = reasons_of(recommender, dataset, frame, strategy, like, user if known else None, history, body.explain)
    return RecommendationsReply(
        recommendation_id=new_id("rec"),
        model=service.name,
        dataset=dataset,
        user_id=user,
        strategy=strategy,
        items=scored(frame, attributes, reasons),
        unknown_ids=list(dict.fromkeys(unknown)),
        warnings=list(warnings + found.warnings),
    )


@router.post("/rank")
async def rank(request: Request, body: RankRequest) -> RecommendationsReply:
    """Bring items into the order of a user, of a history, or of their popularity."""
    service = service_of(request)
    user = body.user_id or (caller(request).user if body.history is None else None)
    if user is not None or body.history is None:
        caller(request).check(user)
    limit_lists(service, body.history, body.items)
    whole = RecommendationsRequest(
        user_id=user,
        history=body.history,
        candidates=body.items,
        exclude_seen=False,
        explain=body.explain,
        return_metadata=body.return_metadata,
        dataset=body.dataset,
    )
    most = len(set(body.items))
    whole = whole.model_copy(update={"num_results": most})
    reply = await service.ask(lambda r: recommendations(service, r, whole, user), gone(request))
    keep(service, reply)
    return reply


def keep(service: Service, reply: RecommendationsReply) -> None:
    """Remember a list, so that events can name it."""
    items = tuple(i.item_id for i in reply.items)
    service.remember(stores.Shown(reply.recommendation_id, reply.dataset, reply.user_id, reply.strategy, items))


@router.post("/predictions")
async def predict(request: Request, body: PredictionsRequest) -> PredictionsReply:
    """Predict an outcome, with calibrated probabilities: rating, click, purchase, churn, sentiment, category."""
    service = service_of(request)
    texts = body.texts if body.texts is not None else [body.text] if body.text is not None else None
    items = body.items if body.items is not None else [body.item_id] if body.item_id is not None else None
    user = body.user_id or (caller(request).user if texts is None else None)
    if texts is None:
        caller(request).check(user)
        if user is None:
            raise invalid("give user_id, or text", "user_id", "missing_required_parameter")
    limit_lists(service, items)
    users = [user] * (len(items) if items else 1) if user is not None and texts is None else None

    def work(recommender: Recommender) -> PredictionsReply:
        found = recommender.predict(body.task, users=users, items=items, texts=texts, dataset=body.dataset)
        rows = [
            Prediction(
                user_id=r["user_id"],
                item_id=r["item_id"],
                text=r["text"],
                value=r["value"],
                probabilities=dict(zip(found.choices, r["probabilities"], strict=True)),
            )
            for r in found.frame.iter_rows(named=True)
        ]
        return PredictionsReply(
            model=service.name,
            dataset=found.frame["dataset"][0],
            task=body.task,
            predictions=rows,
            warnings=list(found.warnings),
        )

    return await service.ask(work, gone(request))


@router.get("/datasets")
async def list_datasets(request: Request) -> DataSetsReply:
    """What the run was trained on: data sets, their tasks with the answers, and what lists can be narrowed by."""
    service = service_of(request)

    def work(recommender: Recommender) -> DataSetsReply:
        return DataSetsReply(model=service.name, datasets=[described(recommender, d) for d in recommender.datasets])

    return await service.ask(work, gone(request))


def described(recommender: Recommender, dataset: str) -> DataSet:
    """A data set."""
    items = recommender.catalogue(dataset)
    columns = []
    for name, kind in items.drop("item_id", "title", "train_count", strict=False).schema.items():
        own = items[name].drop_nulls()
        if kind.is_numeric():
            low, high = own.min(), own.max()
            columns.append(Column(name=name, low=low, high=high))
            continue
        counted = (own.explode() if kind.is_nested() else own).cast(pl.String).value_counts(sort=True)
        if 1 < counted.height <= VALUES or kind.is_nested():
            columns.append(Column(name=name, values=counted[name].head(VALUES).to_list()))
    tasks = recommender.answers(dataset)
    units = {t: recommender.unit(t, dataset) for t in tasks}
    return DataSet(name=dataset, items=items.height, tasks=tasks, units=units, columns=columns)


# --- items --------------------------------------------------------------------------------------------------------


@router.get("/items")
async def search_items(
    request: Request,
    q: Annotated[str, Query(min_length=1, max_length=500, description="a title, part of one, or with a typo")],
    n: Annotated[int, Query(ge=1, le=MOST)] = 10,
    dataset: str | None = None,
) -> ItemsReply:
    """Find items by title."""
    service = service_of(request)

    def work(recommender: Recommender) -> ItemsReply:
        name = dataset_of(recommender, dataset, None)
        found = recommender.search_items(q, n, name)
        return ItemsReply(dataset=name, items=items_of(recommender, name, found))

    return await service.ask(work, gone(request))


@router.get("/items/{item_id}")
async def get_item(request: Request, item_id: PathId, dataset: str | None = None) -> Item:
    """An item of the catalogue."""

    def work(recommender: Recommender) -> Item:
        name = dataset_of(recommender, dataset, None, item_id)
        check_item(recommender, name, item_id)
        return items_of(recommender, name, [item_id])[0]

    return await service_of(request).ask(work, gone(request))


@router.get("/items/{item_id}/similar")
async def similar_items(
    request: Request,
    item_id: PathId,
    n: Annotated[int, Query(ge=1, le=MOST)] = 10,
    dataset: str | None = None,
) -> RecommendationsReply:
    """Items like an item."""
    service = service_of(request)

    def work(recommender: Recommender) -> RecommendationsReply:
        name = dataset_of(recommender, dataset, None, item_id)
        check_item(recommender, name, item_id)
        body = RecommendationsRequest(item_id=item_id, num_results=n, dataset=name)
        return recommendations(service, recommender, body, None)

    return await service.ask(work, gone(request))


@router.post("/items", status_code=201)
async def add_items(request: Request, body: ItemsRequest) -> ItemsAdded:
    """Add items to the catalogue; each can be recommended at once, by its text, until a training knows more of it."""
    service = service_of(request)
    caller(request).check(None, None)
    limit_lists(service, body.items)
    given = await asyncio.to_thread(lambda: [i.model_dump(exclude_none=True) for i in body.items])

    def work(recommender: Recommender) -> str:
        name = dataset_of(recommender, body.dataset, None)
        recommender.check_items(given, name)
        return name

    name = await service.ask(work, gone(request))
    done = await service.store_call(lambda store: stores.add_items(store, name, given))
    try:
        await service.take_over()
    except ApiError:
        pass  # they are kept: the next look at the store takes them over
    return ItemsAdded(dataset=name, added=done.count("added"), updated=done.count("updated"))


# --- events and users ---------------------------------------------------------------------------------------------


@router.post("/events", status_code=202)
async def record_events(request: Request, body: EventsRequest) -> EventsReply:
    """Record what users did; it counts from their next request on. Faulty events are named, the others are kept."""
    service = service_of(request)
    limit_lists(service, body.events)
    return await recorded(service, body.events, caller(request), body.dataset)


async def recorded(service: Service, events: Sequence[object], who: Caller, dataset: str | None) -> EventsReply:
    """Check each event and keep those that are right."""
    recommender = service.recommender

    def work(store: stores.Store) -> tuple[list[dict[str, Any]], list[EventError], list[str]]:
        good, errors = checked_events(recommender, events, who, dataset)
        done: list[str] = []
        for name in dict.fromkeys(e["dataset"] for e in good):
            own = [{k: v for k, v in e.items() if k != "dataset"} for e in good if e["dataset"] == name]
            done += stores.record_events(store, name, own)
        return good, errors, done

    good, errors, done = await service.store_call(work)
    kinds = Counter(event.get("event") or ("rating" if "rating" in event else "other") for event in good)
    for kind, count in kinds.items():
        service.metrics.events.labels(kind if kind in COUNTED else "other").inc(count)
    return EventsReply(recorded=done.count("recorded"), duplicates=done.count("duplicate"), errors=errors)


def checked_events(
    recommender: Recommender, events: Sequence[object], who: Caller, dataset: str | None
) -> tuple[list[dict[str, Any]], list[EventError]]:
    """Events as the store takes them, each with its data set, and why the others are none. The store is asked once per
    data set, whatever the number of events."""
    read: list[tuple[int, Event, str]] = []
    errors: list[EventError] = []

    def refuse(index: int, error: ApiError) -> None:
        errors.append(EventError(index=index, param=error.param, message=error.message))

    for index, raw in enumerate(events):
        try:
            event = read_event(raw)
            read.append((index, event, user_of_event(event, who)))
        except ApiError as error:
            refuse(index, error)
    names = list(dict.fromkeys(user for _, _, user in read))
    several = dataset is None and len(offered_sets(recommender)) > 1
    known = {d: recommender.known_users(names, d) for d in (offered_sets(recommender) if several else ())}
    good = []
    for index, event, user in read:
        try:
            name = dataset_of(recommender, dataset, user, event.item_id, lambda u, d: u in known[d])
            check_item(recommender, name, event.item_id)
            row = event.model_dump(exclude_none=True, exclude={"session_id", "event_type", "value"})
            row |= {"user_id": user, "dataset": name}
            try:
                good.append(row | recommender.outcome_of(name, event.event_type, event.value))
            except DataError as error:
                raise invalid(str(error), "value" if "rating" in str(error) else "event_type") from error
        except ApiError as error:
            refuse(index, error)
    return good, sorted(errors, key=lambda e: e.index)


def read_event(raw: object) -> Event:
    """An event of a request; raises ApiError naming the field that is wrong."""
    from pydantic import ValidationError

    if not isinstance(raw, Mapping):
        raise invalid(f"an event is an object (given: {str(raw)[:100]!r})")
    try:
        return Event.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(p) for p in first["loc"])
        raise invalid(f"{field}: {first['msg']}", field) from error


def user_of_event(event: Event, who: Caller) -> str:
    """Whose event it is; raises ApiError where nobody is named, or somebody whom the caller may not ask about."""
    user = event.user_id or event.session_id or who.user
    if user is None:
        raise invalid("user_id: a user or a session is needed", "user_id", "missing_required_parameter")
    who.check(user)
    return user


@router.get("/users")
async def list_users(
    request: Request,
    q: Annotated[str, Query(max_length=500, description="ids like this one")] = "",
    n: Annotated[int, Query(ge=1, le=MOST)] = 20,
    dataset: str | None = None,
) -> UsersReply:
    """Some users, by first appearance, or with ids like the one asked for."""
    who, service = caller(request), service_of(request)
    recommender = service.recommender

    def work(_: stores.Store) -> UsersReply:
        name = dataset_of(recommender, dataset, None)
        if who.bound:
            own = [who.user] if who.user is not None and recommender.has_user(who.user, name) else []
            return UsersReply(dataset=name, users=own)
        users = recommender.close_users(q, name, n) if q else recommender.all_users(name)[:n]
        return UsersReply(dataset=name, users=users)

    return await service.store_call(work)


@router.get("/users/{user_id}")
async def get_user(
    request: Request,
    user_id: PathId,
    n: Annotated[int, Query(ge=1, le=10_000, description="latest interactions to show")] = 50,
    dataset: str | None = None,
) -> UserReply:
    """A user's attributes and history."""
    caller(request).check(user_id)

    def work(recommender: Recommender) -> UserReply:
        name = dataset_of(recommender, dataset, user_id)
        check_user(recommender, name, user_id)
        return user_reply(recommender, name, user_id, n)

    return await service_of(request).ask(work, gone(request))


def user_reply(recommender: Recommender, dataset: str, user: str, n: int) -> UserReply:
    """A user with the n latest interactions."""
    frame = recommender.history(user, dataset)
    titles = recommender.titles(frame["item_id"].to_list()[-n:], dataset)
    history = [
        HistoryItem(title=title, **{k: r[k] for k in ("item_id", "event", "rating", "timestamp")})
        for r, title in zip(frame.tail(n).iter_rows(named=True), titles, strict=True)
    ]
    attributes = stores.user_attributes(recommender.store, dataset, user)
    return UserReply(user_id=user, dataset=dataset, attributes=attributes, events=frame.height, history=history)


@router.delete("/users/{user_id}")
async def delete_user(request: Request, user_id: PathId) -> Deleted:
    """Remove a user everywhere: attributes, events, lists, and what the server keeps in memory."""
    service = service_of(request)
    caller(request).check(user_id)

    service.forget(user_id)
    await service.written()
    deleted = await service.store_call(lambda store: stores.delete_user(store, user_id))
    await service.ask(lambda r: r.scorer.prefixes.clear())
    return Deleted(user_id=user_id, deleted=deleted)


@router.get("/metrics/summary")
async def metrics_summary(request: Request, dataset: str | None = None) -> Summary:
    """Events, lists, and how many of the lists were followed by an event."""
    service = service_of(request)
    caller(request).check(None, None)
    recommender = service.recommender

    def work(store: stores.Store) -> Summary:
        name = dataset_of(recommender, dataset, None)
        return Summary(dataset=name, model=service.name, summary=stores.summary(store, name))

    await service.written()
    return await service.store_call(work)


# --- parts of requests and replies ----------------------------------------------------------------------------------


def limit_lists(service: Service, *lists: Sequence[object] | None) -> None:
    """Raises ApiError 413 for a list that is longer than --max-history."""
    most = service.config.max_history
    for given in lists:
        if given is not None and len(given) > most:
            raise invalid(f"{len(given):,} entries; at most {most:,}", code="request_too_large", status=413)


def limit_body(service: Service, body: RecommendationsRequest) -> None:
    """As `limit_lists`, for every list of a request."""
    values = [v for f in (body.filter or {}).values() for v in (f.any, f.none)]
    limit_lists(service, body.history, body.candidates, body.exclude, *values)


def dataset_of(
    recommender: Recommender,
    name: str | None,
    user: str | None,
    item: str | None = None,
    has_user: Callable[[str, str], bool] | None = None,
) -> str:
    """The data set that is named, else the first with a catalogue that knows the user and the item. has_user: whether a
    data set has a user, where the store need not be asked."""
    if name is not None:
        if name not in recommender.datasets:
            raise not_found(
                f"there is no data set {name!r}; there are {', '.join(recommender.datasets)}",
                "unknown_data_set",
                "dataset",
            )
        return name
    offered, has_user = offered_sets(recommender), has_user or recommender.has_user
    for test in (user is not None and len(offered) > 1, False):
        for found in offered:
            if (not test or has_user(user or "", found)) and (item is None or recommender.has_item(item, found)):
                return found
    return offered[0]


def offered_sets(recommender: Recommender) -> list[str]:
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
    """The ids that the catalogue has; the others go to `unknown`."""
    found: list[str] = []
    for item in ids:
        (found if recommender.has_item(item, dataset) else unknown).append(item)
    return found


def known_history(
    recommender: Recommender, dataset: str, history: Sequence[str | HistoryEvent] | None, unknown: list[str]
) -> tuple[list[str] | None, pl.DataFrame | None]:
    """The history's known items, as ids and as a frame with their ratings and times."""
    if history is None:
        return None, None
    rows = [e.model_dump() if isinstance(e, HistoryEvent) else {"item_id": e} for e in history]
    kept = set(known_ids(recommender, dataset, [r["item_id"] for r in rows], unknown))
    rows = [r for r in rows if r["item_id"] in kept]
    schema = {"item_id": pl.String, "rating": pl.Float64, "event": pl.String, "timestamp": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema)
    return frame["item_id"].to_list(), frame


def conditions_of(filters: Mapping[str, FieldFilter], items: pl.DataFrame) -> list[pl.Expr]:
    """Filters as conditions on the catalogue's columns; raises ApiError naming the column."""
    found = []
    for column, wanted in filters.items():
        if column not in items.columns or column == "train_count":
            names = [c for c in items.columns if c != "train_count"]
            raise invalid(f"the catalogue has no column {column!r}; it has {', '.join(names)}", f"filter.{column}")
        bounds = {"any_of": wanted.any, "none_of": wanted.none, "gte": wanted.gte, "lte": wanted.lte}
        try:
            found.append(sql.meets(column, items.schema[column], **bounds))  # type: ignore[arg-type]
        except DataError as error:
            raise invalid(str(error), f"filter.{column}") from error
    return found


def scored(
    frame: pl.DataFrame, known: Mapping[str, dict[str, Any]] | None, reasons: Mapping[str, list[Reason]]
) -> list[ScoredItem]:
    """The rows of a list; known: the attributes of its items."""
    return [
        ScoredItem(
            rank=r["rank"],
            item_id=r["item_id"],
            title=r["title"],
            score=r["score"],
            probability=r["probability"],
            reasons=reasons.get(r["item_id"], []),
            metadata=known.get(r["item_id"], {}) if known is not None else None,
        )
        for r in frame.iter_rows(named=True)
    ]


def items_of(recommender: Recommender, dataset: str, ids: Sequence[str]) -> list[Item]:
    """Items with title and attributes."""
    known = recommender.attributes(ids, dataset)
    titles = recommender.titles(ids, dataset)
    return [Item(item_id=i, title=title, metadata=known.get(i, {})) for i, title in zip(ids, titles, strict=True)]


def reasons_of(
    recommender: Recommender,
    dataset: str,
    frame: pl.DataFrame,
    strategy: str,
    like: Sequence[str],
    user: str | None,
    history: Sequence[str] | None,
    explain: bool | str,
) -> dict[str, list[Reason]]:
    """Why each item is in the list: what of the history it is most like, or without what it would score lower."""
    ids = frame["item_id"].to_list()
    found: dict[str, list[Reason]] = {i: [] for i in ids}
    if strategy == "popular":
        for i in ids:
            found[i].append(Reason(code="popular", text="popular, since nothing is known of the user"))
    if like:
        names = [t or i for t, i in zip(recommender.titles(like, dataset), like, strict=True)]
        for i in ids:
            found[i].append(Reason(code="similar_to", text=f"like {', '.join(names)}"))
    if explain is True and strategy == "model":
        own = recommender.favoured(user, dataset)["item_id"].to_list() if user and history is None else history or []
        near = recommender.relatives(ids, own, dataset)
        for i, one, title in zip(ids, near, recommender.titles([n or "" for n in near], dataset), strict=True):
            if one is not None:
                found[i].append(Reason(code="similar_to", text=f"like {title or one}", item_id=one))
    if explain == "measured" and strategy == "model" and ids:
        past: dict[str, Any] = {"user": user} if user is not None and history is None else {"history": history or []}
        for r in recommender.explain(ids, dataset=dataset, **past).frame.iter_rows(named=True):
            title = r["reason_title"] or r["reason_item_id"]
            found[r["item_id"]].append(
                Reason(code="because_of", text=f"because of {title}", item_id=r["reason_item_id"], effect=r["effect"])
            )
    return found
