"""Write events, items and lists to a store."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..errors import DataError, UnavailableError
from .engine import PATIENCE, Store, reading, writing
from .read import check_dataset, chunks, datasets, stored_names, unknown_user
from .tables import (
    AT_ONCE,
    EVENT_FIELDS,
    GIVEN_COLUMNS,
    ID_FIELDS,
    TEXT_FIELDS,
    events_table,
    items_table,
    meta_table,
    recommendations_table,
    users_table,
)


def date_events(store: Store, dataset: str) -> None:
    """Set the time of undated events that were added after training to that of their arrival."""
    undated = (events_table.c.dataset == dataset) & events_table.c.part.is_(None) & events_table.c.timestamp.is_(None)
    with writing(store) as connection:
        connection.execute(sa.update(events_table).where(undated).values(timestamp=events_table.c.received_at))


def learn_events(store: Store) -> None:
    """Mark the events that were added after training as trained on."""
    with writing(store) as connection:
        connection.execute(sa.update(events_table).where(events_table.c.part.is_(None)).values(part="train"))


def add_events(store: Store, dataset: str, user_id: str, events: pl.DataFrame) -> None:
    """Append events to a user's history, a new user included, in one transaction.

    events: item_id, and any of event, rating, timestamp, review, basket, part. Without a timestamp an event is the
    latest.
    """
    if unknown := [c for c in events.columns if c not in GIVEN_COLUMNS]:
        raise DataError(f"events to add: unknown column {', '.join(unknown)}; allowed: {', '.join(GIVEN_COLUMNS)}")
    if "item_id" not in events.columns or events["item_id"].null_count():
        raise DataError("events to add: every event needs an item_id")
    try:
        rows = events.cast({c: GIVEN_COLUMNS[c] for c in events.columns}).to_dicts()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"events to add: {str(error).splitlines()[0]}") from error
    if not rows:
        check_dataset(store, dataset)
        with writing(store) as connection:
            _add_missing_users(connection, dataset, [user_id])
        return
    record_events(store, dataset, [{"user_id": user_id, **row} for row in rows])


def record_events(store: Store, dataset: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Append events of any users, new ones included, in one transaction that is on the disk when this returns; for each
    event `recorded`, or `duplicate` if the user (or session) already has an event of its event_id.

    events: user_id, item_id, and any of event_id, event, rating, timestamp (seconds), review, basket, part,
    recommendation_id. Raises DataError without recording anything.
    """
    check_dataset(store, dataset)
    for n, event in enumerate(events):
        _check_event(event, f"events[{n}]")
    with writing(store) as connection:
        return _append(connection, dataset, events)


def delete_user(store: Store, user_id: str, dataset: str | None = None) -> dict[str, int]:
    """Remove a user's attributes, events and lists from every data set, or from one; the number of rows by table.

    A SQLite file holds no trace of them afterwards; PostgreSQL frees deleted rows when it vacuums. Raises
    UnknownNameError if no data set has the user, UnavailableError if others read a SQLite file for too long.
    """
    if dataset is not None:
        check_dataset(store, dataset)
    names = datasets(store) if dataset is None else [dataset]
    with writing(store) as connection:
        removed = {
            table.name: connection.execute(
                sa.delete(table).where(table.c.dataset.in_(names), table.c.user_id == user_id)
            ).rowcount
            for table in (users_table, events_table, recommendations_table)
        }
        if any(removed.values()):
            connection.execute(sa.update(meta_table).values(deletions=meta_table.c.deletions + 1))
    if not any(removed.values()):
        raise unknown_user(store, names, user_id)
    if store.engine.dialect.name == "sqlite":
        with reading(store) as connection:
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
        if busy:
            raise UnavailableError(
                f"{store.name}: the user is deleted, but others were reading for {PATIENCE} seconds, so that the log "
                "beside the file holds the rows until the store is closed"
            )
    return removed


def add_items(store: Store, dataset: str, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Store items (item_id and attributes) added to a catalogue after training; for each `added`, or `updated` if the
    store already has it and its attributes are replaced. Raises DataError without storing anything."""
    check_dataset(store, dataset)
    for n, item in enumerate(items):
        _check_item(item, f"items[{n}]")
    states, rows = [], {}
    with writing(store) as connection:
        stored = stored_names(connection, items_table.c.item_id, dataset, [i["item_id"] for i in items])
        first = _next(connection, items_table.c.revision, items_table.c.dataset == dataset)
        for revision, item in enumerate(items, first):
            item_id = item["item_id"]
            attributes = {k: v for k, v in item.items() if k != "item_id"}
            states.append("updated" if item_id in stored or item_id in rows else "added")
            rows[item_id] = {
                "dataset": dataset,
                "item_id": item_id,
                "revision": revision,
                "attributes": attributes,
            }
        for part in chunks([name for name in rows if name in stored]):
            condition = (items_table.c.dataset == dataset, items_table.c.item_id.in_(part))
            connection.execute(sa.delete(items_table).where(*condition))
        if rows:
            connection.execute(sa.insert(items_table), list(rows.values()))
    return states


@dataclass(frozen=True)
class Shown:
    """A recommended list: its user (None: anonymous), the strategy that made it, and its items, best first."""

    recommendation_id: str
    dataset: str
    user_id: str | None
    strategy: str
    items: tuple[str, ...]


def record_recommendations(store: Store, lists: Sequence[Shown]) -> None:
    """Store recommended lists, so that events can refer to them; raises DataError if an id is taken."""
    for dataset in {entry.dataset for entry in lists}:
        check_dataset(store, dataset)
    rows = [asdict(entry) | {"made_at": int(time.time()), "items": list(entry.items)} for entry in lists]
    try:
        with writing(store) as connection:
            connection.execute(sa.insert(recommendations_table), rows)
    except IntegrityError as error:
        names = ", ".join(entry.recommendation_id for entry in lists[:3])
        raise DataError(f"a recommendation_id is taken by another list: one of {names}") from error


def _check_event(event: Mapping[str, Any], location: str) -> None:
    if unknown := [str(f) for f in event if f not in EVENT_FIELDS]:
        raise DataError(f"{location}: unknown field {', '.join(unknown)}; allowed: {', '.join(EVENT_FIELDS)}")
    for field in ("user_id", "item_id"):
        if event.get(field) is None:
            raise DataError(f"{location}: every event needs a {field}")
    for field, value in event.items():
        if value is None:
            continue
        if field in ID_FIELDS:
            valid, what = isinstance(value, str) and value != "", "text that is not empty"
        elif field in TEXT_FIELDS:
            valid, what = isinstance(value, str), "text"
        elif field == "rating":
            valid, what = _is_number(value, int | float) and math.isfinite(value), "a finite number"
        else:
            valid, what = _is_number(value, int) and abs(value) < 2**63, "a whole number of seconds"
        if not valid:
            raise DataError(f"{location}.{field}: {value!r} is not {what}")


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_item(item: Mapping[str, Any], location: str) -> None:
    item_id = item.get("item_id")
    if not isinstance(item_id, str) or not item_id:
        raise DataError(f"{location}.item_id: {item_id!r} is not text that is not empty")
    try:
        json.dumps(dict(item), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{location}: the attributes of '{item_id}' cannot be written as JSON ({error})") from error


def _append(connection: Connection, dataset: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
    recorded: set[tuple[str, str | None]] = set()
    columns = (events_table.c.user_id, events_table.c.event_id)
    keys = [(e["user_id"], e["event_id"]) for e in events if e.get("event_id")]
    for start in range(0, len(keys), AT_ONCE):
        users, ids = (set(column) for column in zip(*keys[start : start + AT_ONCE], strict=True))
        query = sa.select(*columns).where(
            events_table.c.dataset == dataset, events_table.c.user_id.in_(users), events_table.c.event_id.in_(ids)
        )
        recorded.update((user, event_id) for user, event_id in connection.execute(query).all())
    states, new_events = [], []
    for event in events:
        key = (event["user_id"], event.get("event_id"))
        states.append("duplicate" if key in recorded else "recorded")
        if key not in recorded:
            new_events.append(event)
        if key[1] is not None:
            recorded.add(key)
    if not new_events:
        return states
    names = list(dict.fromkeys(e["user_id"] for e in new_events))
    _add_missing_users(connection, dataset, names)
    last: dict[str, int] = {}
    for part in chunks(names):
        query = (
            sa.select(events_table.c.user_id, sa.func.max(events_table.c.position))
            .where(events_table.c.dataset == dataset, events_table.c.user_id.in_(part))
            .group_by(events_table.c.user_id)
        )
        last |= {user: position for user, position in connection.execute(query).all()}
    rows, now = [], int(time.time())
    for event in new_events:
        user = event["user_id"]
        last[user] = last.get(user, -1) + 1
        fields = {field: event.get(field) for field in EVENT_FIELDS}
        rows.append(fields | {"dataset": dataset, "position": last[user], "received_at": now})
    connection.execute(sa.insert(events_table), rows)
    return states


def _add_missing_users(connection: Connection, dataset: str, names: Sequence[str]) -> None:
    stored = stored_names(connection, users_table.c.user_id, dataset, names)
    missing = [n for n in names if n not in stored]
    if missing:
        first = _next(connection, users_table.c.position, users_table.c.dataset == dataset)
        rows = [
            {"dataset": dataset, "user_id": name, "position": position, "attributes": {}}
            for position, name in enumerate(missing, first)
        ]
        connection.execute(sa.insert(users_table), rows)


def _next(connection: Connection, position: sa.Column[int], *conditions: sa.ColumnElement[bool]) -> int:
    return int(
        connection.execute(sa.select(sa.func.coalesce(sa.func.max(position), -1) + 1).where(*conditions)).scalar_one()
    )
