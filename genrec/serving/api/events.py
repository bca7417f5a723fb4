"""Events: checked one by one, and recorded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError

from ...errors import DataError
from ...recommender import Recommender
from ..callers import Caller
from ..deps import CallerDep, ServiceDep
from ..errors import ApiError, invalid
from .forms import Event, EventError, EventsReply, EventsRequest
from .lookup import check_item, dataset_of, recommendable

router = APIRouter(tags=["recommender"])

KINDS = ("rating", "like", "dislike", "seen", "view", "click", "skip", "cart", "purchase")  # counted apart in /metrics


@router.post("/events", status_code=202)
async def record_events(service: ServiceDep, caller: CallerDep, body: EventsRequest) -> EventsReply:
    """Record what users did; it counts from their next request on. Faulty events are named, the others are kept."""
    service.check_lengths(body.events)

    def work(recommender: Recommender) -> tuple[list[dict[str, Any]], list[EventError], list[str]]:
        rows, errors = checked_events(recommender, body.events, caller, body.dataset)
        states: list[str] = []
        for name in dict.fromkeys(row["dataset"] for row in rows):
            of_dataset = [{k: v for k, v in row.items() if k != "dataset"} for row in rows if row["dataset"] == name]
            states += recommender.records.add_events(of_dataset, name)
        return rows, errors, states

    rows, errors, states = await service.store_call(work)
    kinds = Counter(row.get("event") or ("rating" if "rating" in row else "other") for row in rows)
    for kind, count in kinds.items():
        service.metrics.events.labels(kind if kind in KINDS else "other").inc(count)
    return EventsReply(recorded=states.count("recorded"), duplicates=states.count("duplicate"), errors=errors)


def checked_events(
    recommender: Recommender, events: Sequence[object], caller: Caller, dataset: str | None
) -> tuple[list[dict[str, Any]], list[EventError]]:
    """Events as the store takes them, each with its data set, and the errors of the others. The store is asked once per
    data set, however many events there are."""
    forms: list[tuple[int, Event, str]] = []
    errors: list[EventError] = []

    def refuse(index: int, error: ApiError) -> None:
        errors.append(EventError(index=index, param=error.param, message=error.message))

    for index, raw in enumerate(events):
        try:
            event = parsed_event(raw)
            forms.append((index, event, user_of_event(event, caller)))
        except ApiError as error:
            refuse(index, error)
    names = list(dict.fromkeys(user for _, _, user in forms))
    several = dataset is None and len(recommendable(recommender)) > 1
    users = {d: recommender.known_users(names, d) for d in (recommendable(recommender) if several else ())}
    rows = []
    for index, event, user in forms:
        try:
            name = dataset_of(recommender, dataset, user, event.item_id, lambda u, d: u in users[d])
            check_item(recommender, name, event.item_id)
            row = event.model_dump(exclude_none=True, exclude={"session_id", "event_type", "value"})
            row |= {"user_id": user, "dataset": name}
            try:
                rows.append(row | recommender.outcome_of(name, event.event_type, event.value))
            except DataError as error:
                raise invalid(str(error), "value" if "rating" in str(error) else "event_type") from error
        except ApiError as error:
            refuse(index, error)
    return rows, sorted(errors, key=lambda e: e.index)


def parsed_event(raw: object) -> Event:
    """An event of a request; raises ApiError 400 naming the field that is wrong."""
    if not isinstance(raw, Mapping):
        raise invalid(f"an event is an object (given: {str(raw)[:100]!r})")
    try:
        return Event.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(p) for p in first["loc"])
        raise invalid(f"{field}: {first['msg']}", field) from error


def user_of_event(event: Event, caller: Caller) -> str:
    """Whose event it is; raises ApiError if nobody is named, or somebody whom the caller may not ask about."""
    user = event.user_id or event.session_id or caller.user
    if user is None:
        raise invalid("user_id: a user or a session is needed", "user_id", "missing_required_parameter")
    caller.check(user)
    return user
