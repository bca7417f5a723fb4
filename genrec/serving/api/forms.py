"""Requests and replies of the REST API. The docstrings and descriptions are docs/api.md."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ...catalogue.titles import UNSEEN
from ...errors import DataError
from ...ids import as_id
from ..chat.messages import whole_characters

LIMIT = 500  # items of a list at most


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


def refuse(value: object) -> None:
    """No value; raises PydanticCustomError for any, which would be passed over in silence."""
    if value is not None:
        raise PydanticCustomError("not_read", "nothing reads it yet; leave it out")


def plain_id(value: object) -> str:
    """An id as text; raises PydanticCustomError for what is none."""
    try:
        return as_id(value)
    except DataError:
        raise PydanticCustomError("id_type", "a text or a whole number is needed") from None


def plain_text(value: object) -> object:
    """A number as text: what was typed is a text, though it is all digits."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, AfterValidator(without_nul)]
Typed = Annotated[Text, BeforeValidator(plain_text)]
Id = Annotated[
    str,
    StringConstraints(max_length=500),
    AfterValidator(without_nul),
    BeforeValidator(plain_id, json_schema_input_type=str | int),
]
NewId = Annotated[Id, AfterValidator(nameable)]
Ids = Annotated[list[Id], Field(fail_fast=True)]  # one fault of a list is told, not as many as it has entries
Number = Annotated[float, Field(allow_inf_nan=False)]
Explain = Annotated[
    bool | Literal["measured"],
    Field(description="true: what of the history each item is like; measured: without what it would score lower"),
]


def as_seconds(value: object) -> object:
    """A date or time of ISO 8601 as seconds since 1970, in UTC where it names no zone; any other value as it is."""
    if not isinstance(value, str) or value.strip().lstrip("+-").isdigit():
        return value
    try:
        time = datetime.fromisoformat(value.strip())
    except ValueError:
        return value
    return math.floor((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


Timestamp = Annotated[
    int,
    BeforeValidator(as_seconds, json_schema_input_type=int | str),
    Field(ge=-(2**62), le=2**62, description="seconds since 1970, a time of ISO 8601, or as in the data"),
]


class Body(BaseModel):
    """A request; fields that it does not know are ignored."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class HistoryEvent(Body):
    """An interaction of a history that is given with the request."""

    item_id: Id
    rating: Number | None = None
    event: str | None = None
    timestamp: Timestamp | None = None


def as_event(value: object) -> object:
    """An id alone as an event without more."""
    return value if isinstance(value, Mapping | HistoryEvent) else {"item_id": plain_id(value)}


Past = Annotated[HistoryEvent, BeforeValidator(as_event, json_schema_input_type=HistoryEvent | str | int)]
History = Annotated[list[Past], Field(fail_fast=True)]


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
    query: Typed | None = Field(None, max_length=2_000, description="wishes in words: comedies from the 1990s")
    num_results: int = Field(10, ge=1, le=LIMIT, validation_alias=AliasChoices("num_results", "n", "k"))
    exclude_seen: bool = True
    exclude: Ids = []
    candidates: Ids | None = None
    filter: dict[str, FieldFilter] | None = Field(None, description='{"genre": {"any": ["Comedy"]}}')
    diversity: Number | None = Field(None, ge=0, le=1, description="0: by score alone; 1: as unlike as can be")
    explain: Explain = False
    return_metadata: bool = True
    dataset: str | None = None
    context: Annotated[None, BeforeValidator(refuse)] = Field(None, description="nothing reads it yet: refused")


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
    """What to predict: for a user or a history and items, for a user or a history, or for texts."""

    task: str = Field("rating", description="rating, click, purchase, churn, sentiment, category, ...")
    user_id: Id | None = None
    history: History | None = Field(None, description="item ids or events, oldest first, in place of the user's own")
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
