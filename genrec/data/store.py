"""A run's users and events in a database: a private SQLite file by default, PostgreSQL by URL."""

import contextlib
import functools
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError, SQLAlchemyError

from genrec.data.dataset import Dataset
from genrec.data.sources import SECRET
from genrec.errors import DataError, RunError, UnavailableError, UnknownNameError
from genrec.files import sync, whole

SCHEMA_VERSION = 3
CHUNK = 50_000  # rows turned into Python objects at a time
AT_ONCE = 500  # parameters of a query
ALIVE = {  # how long PostgreSQL may be silent: seconds, and milliseconds without the network's word
    **{"connect_timeout": 5, "keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3},
    "tcp_user_timeout": 10_000,
}
PATIENCE = 30  # seconds that a writer of a SQLite file waits for another
LOCK = 0x67656E726563  # PostgreSQL's advisory lock that a writer holds
ELSEWHERE = "use another database, or another schema: ?options=-csearch_path%3DNAME at the URL's end"


def _index_of_given(name: str, *columns: str, unique: bool = False) -> sa.Index:
    """Only rows that have the last column enter the index; those that came with the data have none."""
    given = sa.text(f"{columns[-1]} is not null")
    return sa.Index(name, "dataset", *columns, unique=unique, sqlite_where=given, postgresql_where=given)


_metadata = sa.MetaData()
_meta = sa.Table(
    "meta",
    _metadata,
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("datasets", sa.JSON, nullable=False),
    sa.Column("deletions", sa.BigInteger, nullable=False, server_default="0"),  # users deleted so far
)
_users = sa.Table(
    "users",
    _metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("attributes", sa.JSON, nullable=False),
    sqlite_with_rowid=False,
)
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("timestamp", sa.BigInteger),
    sa.Column("event", sa.Text),
    sa.Column("rating", sa.Double),
    sa.Column("review", sa.Text),
    sa.Column("basket", sa.Text),
    sa.Column("part", sa.Text),
    sa.Column("event_id", sa.Text),
    sa.Column("recommendation_id", sa.Text),
    sa.Column("received_at", sa.BigInteger),  # seconds since 1970; null for what came with the data
    _index_of_given("events_event_id", "user_id", "event_id", unique=True),
    _index_of_given("events_recommendation_id", "recommendation_id"),
    sqlite_with_rowid=False,  # a history is one contiguous read
)
_items = sa.Table(
    "items",
    _metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),  # grows with every item that is added or changed
    sa.Column("attributes", sa.JSON, nullable=False),
    sa.Index("items_revision", "dataset", "revision", unique=True),
    sqlite_with_rowid=False,
)
_recommendations = sa.Table(
    "recommendations",
    _metadata,
    sa.Column("recommendation_id", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text),
    sa.Column("made_at", sa.BigInteger, nullable=False),
    sa.Column("strategy", sa.Text, nullable=False),
    sa.Column("items", sa.JSON, nullable=False),
    _index_of_given("recommendations_user", "user_id"),
    sqlite_with_rowid=False,
)

_HISTORY: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "event": pl.String(),
    "rating": pl.Float64(),
    "timestamp": pl.Int64(),
    "basket": pl.String(),
    "part": pl.String(),
}
_GIVEN: dict[str, pl.DataType] = {**_HISTORY, "review": pl.String()}
_ALL: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    **{c: _GIVEN[c] for c in ("item_id", "event", "rating", "timestamp", "review", "basket", "part")},
}
_IDS = ("user_id", "item_id", "event_id", "recommendation_id")
_TEXTS = ("event", "review", "basket", "part")
_FIELDS = (*_IDS, *_TEXTS, "rating", "timestamp")  # of an event to record

# Built once: building a query takes as long as running it. Without a time, what came with the data is the oldest, as in
# training, and what was added is the latest.
_TIMELESS = sa.case((_events.c.timestamp.is_not(None), 1), (_events.c.part.is_not(None), 0), else_=2)
_OF_USER = (
    sa.select(*(_events.c[c] for c in _HISTORY))
    .where(_events.c.dataset == sa.bindparam("dataset"), _events.c.user_id == sa.bindparam("user_id"))
    .order_by(_TIMELESS, _events.c.timestamp, _events.c.position)
)
_OF_ALL = (
    sa.select(*(_events.c[c] for c in _ALL))
    .join(_users, (_users.c.dataset == _events.c.dataset) & (_users.c.user_id == _events.c.user_id))
    .where(_events.c.dataset == sa.bindparam("dataset"))
    .order_by(_users.c.position, _TIMELESS, _events.c.timestamp, _events.c.position)
    .execution_options(yield_per=CHUNK)
)
_LOCKED = sa.select(sa.func.pg_advisory_xact_lock(LOCK))
_ATTRIBUTES = sa.select(_users.c.attributes).where(
    _users.c.dataset == sa.bindparam("dataset"), _users.c.user_id == sa.bindparam("user_id")
)


@dataclass(frozen=True)
class Store:
    """An open store; `name` is what messages call it (no password in it)."""

    engine: Engine
    name: str

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def create_store(url: str | Path, datasets: Sequence[Dataset]) -> Store:
    """Write the users and interactions of the data sets and open the store; a path means a SQLite file.

    All or nothing: a SQLite file is written beside its place, readable by its owner only, and renamed over what was
    there; another database must hold no store yet. Raises RunError, DataError (two data sets of one name),
    UnavailableError (no driver, no server).
    """
    names = [d.name for d in datasets]
    if len(set(names)) < len(names):
        raise DataError(f"two data sets have the same name: {', '.join(sorted(names))}")
    where = _parse(url)
    with _plain_errors(where):
        if where.get_backend_name() == "sqlite":
            _create_file(_file(where), functools.partial(_fill, datasets=datasets))
        else:
            engine = _engine(where)
            with contextlib.closing(Store(engine, _shown(where))), _begin(engine, slow=True) as connection:
                if taken := set(sa.inspect(connection).get_table_names()) & set(_metadata.tables):
                    raise RunError(f"{_shown(where)} already has {', '.join(sorted(taken))}; {ELSEWHERE}")
                _fill(connection, datasets)
    return open_store(url)


def copy_store(source: Path, target: Path) -> None:
    """Copy a SQLite store with all that was added to it, whole or not at all; raises RunError where it is none."""
    open_store(source).close()
    with whole(target) as partial, _plain_errors(_parse(target)):
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(partial)) as new:
            old.backup(new)


def fetch_store(url: str, target: Path, known: Path) -> None:
    """Copy the PostgreSQL store that servers share to a file. The events that count as those of a training in the store
    `known`, from which the servers' own began, count as such in the copy too.

    Raises RunError where it holds other data sets than `known`, UnavailableError without driver or server.
    """
    where = _parse(url)
    if where.get_backend_name() != "postgresql":
        raise RunError(f"{_shown(where)}: servers share a PostgreSQL database: postgresql://USER@HOST/DATABASE")
    with contextlib.closing(open_store(url)) as shared, contextlib.closing(open_store(known)) as own:
        if (theirs := datasets(shared)) != (ours := datasets(own)):
            raise RunError(f"{shared.name}: holds the data sets {', '.join(theirs)}, and {known} {', '.join(ours)}")
        with _plain_errors(where):
            _create_file(target, functools.partial(_copy_rows, shared.engine))
    same = ("dataset", "user_id", "position", "item_id", "received_at")
    matched = " and ".join(f"o.{c} is main.events.{c}" for c in same)
    part = f"(select o.part from own.events o where {matched})"
    with contextlib.closing(sqlite3.connect(target)) as copy, copy:
        copy.execute("attach database ? as own", (str(known),))
        copy.execute(f"update events set part = {part} where part is null")


def open_store(url: str | Path) -> Store:
    """Open a store, brought to today's version where it is older; raises RunError where none or a newer version is,
    UnavailableError without driver or server."""
    where = _parse(url)
    name = _shown(where)
    if where.get_backend_name() == "sqlite" and not _file(where).is_file():
        raise RunError(f"{name}: the run's user store is missing")
    with _plain_errors(where), contextlib.ExitStack() as failed:
        engine = _engine(where)
        failed.callback(engine.dispose)
        try:
            if strange := _strange(engine):
                raise RunError(f"{name}: not a user store of genrec (it has {strange})")
            found = _version(engine)
        except (SQLAlchemyError, ValueError) as error:
            if where.get_backend_name() != "sqlite" and isinstance(error, OperationalError):
                raise  # the server, not the store
            raise RunError(f"{name}: not a user store of genrec ({_cause(error)})") from error
        if found is None:
            raise RunError(f"{name}: not a user store of genrec (it has no version)")
        if found > SCHEMA_VERSION:
            raise RunError(
                f"{name}: a later genrec wrote this store: it has version {found}, and this one reads "
                f"up to {SCHEMA_VERSION}"
            )
        if found < SCHEMA_VERSION:
            _upgrade(engine, name)
        if lacking := _lacking(engine):
            raise RunError(f"{name}: not a user store of genrec ({lacking})")
        failed.pop_all()
    return Store(engine, name)


def shared_store(source: Path, url: str) -> Store:
    """Open the store of a PostgreSQL database that several servers share; a run's own is copied into one without.

    Raises RunError where it holds something else than the run's data sets, UnavailableError without driver or server.
    """
    where = _parse(url)
    if where.get_backend_name() != "postgresql":
        raise RunError(f"{_shown(where)}: servers share a PostgreSQL database: postgresql://USER@HOST/DATABASE")
    with contextlib.closing(open_store(source)) as own, _plain_errors(where):
        ours = datasets(own)
        engine = _engine(where)
        with contextlib.closing(Store(engine, _shown(where))), _begin(engine, slow=True) as connection:
            taken = set(sa.inspect(connection).get_table_names()) & set(_metadata.tables)
            if not taken:
                _copy_rows(own.engine, connection)
            elif _meta.name not in taken:
                raise RunError(f"{_shown(where)} has tables of others: {', '.join(sorted(taken))}; {ELSEWHERE}")
    found = open_store(url)
    if (theirs := datasets(found)) != ours:
        found.close()
        raise RunError(f"{found.name}: holds the data sets {', '.join(theirs)}, and the run has {', '.join(ours)}")
    return found


def datasets(store: Store) -> list[str]:
    """The names of the store's data sets, in the run's order."""
    with _reading(store) as connection:
        return list(connection.execute(sa.select(_meta.c.datasets)).scalar_one())


def users(store: Store, dataset: str) -> list[str]:
    """The user ids of a data set, by first appearance."""
    _check_dataset(store, dataset)
    query = sa.select(_users.c.user_id).where(_users.c.dataset == dataset).order_by(_users.c.position)
    with _reading(store) as connection:
        return list(connection.execute(query).scalars())


def first_user(store: Store, dataset: str) -> str | None:
    """The user id that appeared first in a data set; None where it has no users."""
    query = sa.select(_users.c.user_id).where(_users.c.dataset == dataset).order_by(_users.c.position).limit(1)
    with _reading(store) as connection:
        return connection.execute(query).scalar_one_or_none()


def has_user(store: Store, dataset: str, user_id: str) -> bool:
    """Whether a data set knows a user."""
    query = sa.select(sa.literal(1)).where(_users.c.dataset == dataset, _users.c.user_id == user_id)
    with _reading(store) as connection:
        return connection.execute(query).first() is not None


def known_users(store: Store, dataset: str, user_ids: Sequence[str]) -> set[str]:
    """Those of some users whom a data set has."""
    with _reading(store) as connection:
        return _known(connection, _users.c.user_id, dataset, user_ids)


def history(store: Store, dataset: str, user_id: str) -> pl.DataFrame:
    """A user's events, oldest first: item_id, event, rating, timestamp, basket, part; raises UnknownNameError."""
    with _reading(store) as connection:
        rows = connection.execute(_OF_USER, {"dataset": dataset, "user_id": user_id}).all()
    if not rows:
        user_attributes(store, dataset, user_id)  # a user without events is known all the same
    return _frame(rows, _HISTORY)


def user_attributes(store: Store, dataset: str, user_id: str) -> dict[str, Any]:
    """What is known of a user besides the events; raises UnknownNameError."""
    with _reading(store) as connection:
        found = connection.execute(_ATTRIBUTES, {"dataset": dataset, "user_id": user_id}).scalar_one_or_none()
    if found is None:
        _check_dataset(store, dataset)
        raise _unknown_user(store, [dataset], user_id)
    if not isinstance(found, dict):
        raise RunError(f"the user store is damaged: the attributes of a user are {str(found)[:50]!r}")
    return found


def all_events(store: Store, dataset: str) -> pl.DataFrame:
    """Every event of a data set, users by first appearance and their events as `history` orders them.

    Columns: user_id, item_id, event, rating, timestamp, review, basket, part (null: added after training).
    """
    _check_dataset(store, dataset)
    with _reading(store, slow=True) as connection:
        frames = [_frame(rows, _ALL) for rows in connection.execute(_OF_ALL, {"dataset": dataset}).partitions()]
    return pl.concat([_frame([], _ALL), *frames])


def date_events(store: Store, dataset: str) -> None:
    """Give the undated events that were added after training the time at which they came."""
    undated = (_events.c.dataset == dataset) & _events.c.part.is_(None) & _events.c.timestamp.is_(None)
    with _writing(store) as connection:
        connection.execute(sa.update(_events).where(undated).values(timestamp=_events.c.received_at))


def learn_events(store: Store) -> None:
    """Let the events that were added after training count as those of a training."""
    with _writing(store) as connection:
        connection.execute(sa.update(_events).where(_events.c.part.is_(None)).values(part="train"))


def add_events(store: Store, dataset: str, user_id: str, events: pl.DataFrame) -> None:
    """Append events to a user's history, a new user included, in one transaction.

    events: item_id, and any of event, rating, timestamp, review, basket, part. Without a timestamp it is the latest.
    """
    if unknown := [c for c in events.columns if c not in _GIVEN]:
        raise DataError(f"events to add: unknown column {', '.join(unknown)}; allowed: {', '.join(_GIVEN)}")
    if "item_id" not in events.columns or events["item_id"].null_count():
        raise DataError("events to add: every event needs an item_id")
    try:
        rows = events.cast({c: _GIVEN[c] for c in events.columns}).to_dicts()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"events to add: {str(error).splitlines()[0]}") from error
    if not rows:
        _check_dataset(store, dataset)
        with _writing(store) as connection:
            _new_users(connection, dataset, [user_id])
        return
    record_events(store, dataset, [{"user_id": user_id, **row} for row in rows])


def record_events(store: Store, dataset: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Append events of any users, new ones included, in one transaction that is on the disk when this returns; for each
    event `recorded`, or `duplicate` where the user (or session) has an event of its event_id already.

    events: user_id, item_id, and any of event_id, event, rating, timestamp (seconds), review, basket, part,
    recommendation_id. Raises DataError, and then nothing is recorded.
    """
    _check_dataset(store, dataset)
    for n, event in enumerate(events):
        _check_event(event, f"events[{n}]")
    with _writing(store) as connection:
        return _append(connection, dataset, events)


def delete_user(store: Store, user_id: str, dataset: str | None = None) -> dict[str, int]:
    """Remove a user's attributes, events and lists from every data set, or from one; the rows removed, by table.

    A SQLite file holds nothing of them afterwards; PostgreSQL frees deleted rows when it vacuums. Raises
    UnknownNameError where nobody has the user, UnavailableError where others read a SQLite file for too long.
    """
    if dataset is not None:
        _check_dataset(store, dataset)
    where = datasets(store) if dataset is None else [dataset]
    with _writing(store) as connection:
        removed = {
            table.name: connection.execute(
                sa.delete(table).where(table.c.dataset.in_(where), table.c.user_id == user_id)
            ).rowcount
            for table in (_users, _events, _recommendations)
        }
        if any(removed.values()):
            connection.execute(sa.update(_meta).values(deletions=_meta.c.deletions + 1))
    if not any(removed.values()):
        raise _unknown_user(store, where, user_id)
    if store.engine.dialect.name == "sqlite":
        with _reading(store) as connection:
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
        if busy:
            raise UnavailableError(
                f"{store.name}: the user is deleted, but others were reading for {PATIENCE} seconds, so that the log "
                "beside the file holds the rows until the store is closed"
            )
    return removed


def deletions(store: Store) -> int:
    """How often users were deleted: where it has grown, what others keep of users in memory is to be forgotten."""
    with _reading(store) as connection:
        return int(connection.execute(sa.select(_meta.c.deletions)).scalar_one())


def add_items(store: Store, dataset: str, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keep items (item_id and attributes) that come to a catalogue after training; for each `added`, or `updated` where
    the store has it already and the attributes are replaced. Raises DataError, and then nothing is kept."""
    _check_dataset(store, dataset)
    for n, item in enumerate(items):
        _check_item(item, f"items[{n}]")
    done, rows = [], {}
    with _writing(store) as connection:
        known = _known(connection, _items.c.item_id, dataset, [i["item_id"] for i in items])
        first = _next(connection, _items.c.revision, _items.c.dataset == dataset)
        for revision, item in enumerate(items, first):
            item_id = item["item_id"]
            attributes = {k: v for k, v in item.items() if k != "item_id"}
            done.append("updated" if item_id in known or item_id in rows else "added")
            rows[item_id] = {
                "dataset": dataset,
                "item_id": item_id,
                "revision": revision,
                "attributes": attributes,
            }
        for part in _parts([name for name in rows if name in known]):
            own = (_items.c.dataset == dataset, _items.c.item_id.in_(part))
            connection.execute(sa.delete(_items).where(*own))
        if rows:
            connection.execute(sa.insert(_items), list(rows.values()))
    return done


def items_revision(store: Store, dataset: str) -> int:
    """The latest revision of `added_items`; -1 where there are none."""
    query = sa.select(sa.func.coalesce(sa.func.max(_items.c.revision), -1)).where(_items.c.dataset == dataset)
    with _reading(store) as connection:
        return int(connection.execute(query).scalar_one())


def added_items(store: Store, dataset: str, after: int = -1) -> list[tuple[int, str, dict[str, Any]]]:
    """Revision, item_id and attributes of the items added or changed after a revision, the oldest first."""
    query = (
        sa.select(_items.c.revision, _items.c.item_id, _items.c.attributes)
        .where(_items.c.dataset == dataset, _items.c.revision > after)
        .order_by(_items.c.revision)
    )
    with _reading(store) as connection:
        return [(int(r), i, dict(a)) for r, i, a in connection.execute(query).all()]


@dataclass(frozen=True)
class Shown:
    """A list that was given: to whom (None: to nobody in particular), how it was made, and its items, best first."""

    recommendation_id: str
    dataset: str
    user_id: str | None
    strategy: str
    items: tuple[str, ...]


def record_recommendations(store: Store, lists: Sequence[Shown]) -> None:
    """Remember lists that were given, so that events can name them; raises DataError where an id is taken."""
    for dataset in {shown.dataset for shown in lists}:
        _check_dataset(store, dataset)
    rows = [asdict(shown) | {"made_at": int(time.time()), "items": list(shown.items)} for shown in lists]
    try:
        with _writing(store) as connection:
            connection.execute(sa.insert(_recommendations), rows)
    except IntegrityError as error:
        names = ", ".join(shown.recommendation_id for shown in lists[:3])
        raise DataError(f"a recommendation_id is taken by another list: one of {names}") from error


def summary(store: Store, dataset: str) -> dict[str, Any]:
    """What a data set holds, what was added since training, and how many lists were followed by an event of theirs."""
    _check_dataset(store, dataset)
    mine, lists = _events.c.dataset == dataset, _recommendations.c.dataset == dataset
    count = sa.func.count()
    kind = sa.func.coalesce(_events.c.event, sa.case((_events.c.rating.is_not(None), "rating"), else_="event"))
    of_list = sa.select(_recommendations.c.recommendation_id).where(lists)
    followed = _events.c.recommendation_id.in_(of_list)
    with _reading(store) as connection:

        def one(query: sa.Select[Any]) -> int:
            return int(connection.execute(query).scalar_one())

        def by(query: sa.Select[Any, int]) -> dict[str, int]:
            return {k: int(n) for k, n in connection.execute(query).all()}

        made = one(sa.select(count).select_from(_recommendations).where(lists))
        with_event = one(sa.select(sa.func.count(sa.distinct(_events.c.recommendation_id))).where(mine, followed))
        return {
            "users": one(sa.select(count).select_from(_users).where(_users.c.dataset == dataset)),
            "events": one(sa.select(count).select_from(_events).where(mine)),
            "items_added": one(sa.select(count).select_from(_items).where(_items.c.dataset == dataset)),
            "events_since_training": by(sa.select(kind, count).where(mine, _events.c.part.is_(None)).group_by(kind)),
            "recommendations": made,
            "recommendations_by_strategy": by(
                sa.select(_recommendations.c.strategy, count).where(lists).group_by(_recommendations.c.strategy)
            ),
            "recommendations_followed": with_event,
            "share_followed": with_event / made if made else None,
            "events_of_recommendations": by(sa.select(kind, count).where(mine, followed).group_by(kind)),
        }


def _frame(rows: Sequence[sa.Row[Any]], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    try:
        return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:  # SQLite keeps any value in any column
        raise RunError(f"the user store is damaged: {str(error).splitlines()[0]}") from error


# Writing


def _check_event(event: Mapping[str, Any], where: str) -> None:
    if unknown := [str(f) for f in event if f not in _FIELDS]:
        raise DataError(f"{where}: unknown field {', '.join(unknown)}; allowed: {', '.join(_FIELDS)}")
    for field in ("user_id", "item_id"):
        if event.get(field) is None:
            raise DataError(f"{where}: every event needs a {field}")
    for field, value in event.items():
        if value is None:
            continue
        if field in _IDS:
            right, what = isinstance(value, str) and value != "", "text that is not empty"
        elif field in _TEXTS:
            right, what = isinstance(value, str), "text"
        elif field == "rating":
            right, what = _is_number(value, int | float) and math.isfinite(value), "a finite number"
        else:
            right, what = _is_number(value, int) and abs(value) < 2**63, "a whole number of seconds"
        if not right:
            raise DataError(f"{where}.{field}: {value!r} is not {what}")


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_item(item: Mapping[str, Any], where: str) -> None:
    item_id = item.get("item_id")
    if not isinstance(item_id, str) or not item_id:
        raise DataError(f"{where}.item_id: {item_id!r} is not text that is not empty")
    try:
        json.dumps(dict(item), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: the attributes of '{item_id}' cannot be written as JSON ({error})") from error


def _append(connection: Connection, dataset: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
    known: set[tuple[str, str | None]] = set()
    columns = (_events.c.user_id, _events.c.event_id)
    given = [(e["user_id"], e["event_id"]) for e in events if e.get("event_id")]
    for start in range(0, len(given), AT_ONCE):
        whose, ids = (set(column) for column in zip(*given[start : start + AT_ONCE], strict=True))
        query = sa.select(*columns).where(
            _events.c.dataset == dataset, _events.c.user_id.in_(whose), _events.c.event_id.in_(ids)
        )
        known.update((user, event_id) for user, event_id in connection.execute(query).all())
    done, fresh = [], []
    for event in events:
        own = (event["user_id"], event.get("event_id"))
        done.append("duplicate" if own in known else "recorded")
        if own not in known:
            fresh.append(event)
        if own[1] is not None:
            known.add(own)
    if not fresh:
        return done
    names = list(dict.fromkeys(e["user_id"] for e in fresh))
    _new_users(connection, dataset, names)
    last: dict[str, int] = {}
    for part in _parts(names):
        query = (
            sa.select(_events.c.user_id, sa.func.max(_events.c.position))
            .where(_events.c.dataset == dataset, _events.c.user_id.in_(part))
            .group_by(_events.c.user_id)
        )
        last |= {user: place for user, place in connection.execute(query).all()}
    rows, now = [], int(time.time())
    for event in fresh:
        user = event["user_id"]
        last[user] = last.get(user, -1) + 1
        fields = {field: event.get(field) for field in _FIELDS}
        rows.append(fields | {"dataset": dataset, "position": last[user], "received_at": now})
    connection.execute(sa.insert(_events), rows)
    return done


def _new_users(connection: Connection, dataset: str, names: Sequence[str]) -> None:
    known = _known(connection, _users.c.user_id, dataset, names)
    new = [n for n in names if n not in known]
    if new:
        first = _next(connection, _users.c.position, _users.c.dataset == dataset)
        rows = [
            {"dataset": dataset, "user_id": name, "position": place, "attributes": {}}
            for place, name in enumerate(new, first)
        ]
        connection.execute(sa.insert(_users), rows)


def _known(connection: Connection, column: sa.Column[str], dataset: str, names: Sequence[str]) -> set[str]:
    """Those of the names that a data set has in a column."""
    query = sa.select(column).where(column.table.c.dataset == dataset)
    found: set[str] = set()
    for part in _parts(names):
        found.update(connection.execute(query.where(column.in_(part))).scalars())
    return found


def _parts(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE))


def _copy_rows(source: Engine, target: Connection) -> None:
    _metadata.create_all(target)
    with source.connect() as reading:  # every table as of one moment
        if source.dialect.name == "sqlite":
            reading.exec_driver_sql("BEGIN")
        else:
            reading = reading.execution_options(isolation_level="REPEATABLE READ")
            _lift_limits(reading)
        for table in _metadata.sorted_tables:
            for rows in reading.execute(sa.select(table)).mappings().partitions(CHUNK):
                target.execute(sa.insert(table), [dict(r) for r in rows])


def _create_file(path: Path, fill: Callable[[Connection], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")  # a fixed name: what a killed run left is removed by the next
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        engine = sa.create_engine(URL.create("sqlite", database=str(partial)))
        try:
            with engine.connect() as connection:
                # A crash loses the partial file as a whole, so no journal protects it.
                connection.exec_driver_sql("PRAGMA journal_mode = OFF")
                connection.exec_driver_sql("PRAGMA synchronous = OFF")
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
                fill(connection)
                connection.commit()
        finally:
            engine.dispose()
        with contextlib.closing(sqlite3.connect(partial)) as raw:
            raw.execute("PRAGMA journal_mode = WAL")
        sync(partial)
        _retire_log(path)
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _retire_log(path: Path) -> None:
    """Fold the write-ahead log of an old store into its file, so that it is not applied to the new one."""
    logs = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
    if path.exists() and any(log.exists() for log in logs):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for log in logs:
        log.unlink(missing_ok=True)


def _fill(connection: Connection, datasets: Sequence[Dataset]) -> None:
    _metadata.create_all(connection)
    for dataset in datasets:
        for rows in _user_rows(dataset):
            connection.execute(sa.insert(_users), rows)
        for rows in _event_rows(dataset):
            connection.execute(sa.insert(_events), rows)
    connection.execute(sa.insert(_meta), {"schema_version": SCHEMA_VERSION, "datasets": [d.name for d in datasets]})


def _user_rows(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    tables = [t.select("user_id") for t in (dataset.interactions, dataset.users) if "user_id" in t.columns]
    if not tables:
        return
    frame = pl.concat(tables).drop_nulls().unique(maintain_order=True).with_row_index("__position")
    if "user_id" in dataset.users.columns:
        frame = frame.join(dataset.users, on="user_id", how="left")
    for part in frame.sort("user_id").iter_slices(CHUNK):
        yield [
            {
                "dataset": dataset.name,
                "user_id": row.pop("user_id"),
                "position": row.pop("__position"),
                "attributes": {k: v for k, v in row.items() if v is not None},
            }
            for row in part.iter_rows(named=True)
        ]


def _event_rows(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    frame = dataset.interactions
    if "user_id" not in frame.columns or "item_id" not in frame.columns:
        return
    given = [c.name for c in _events.columns if c.name in frame.columns]
    frame = frame.select(given).drop_nulls(["user_id", "item_id"])
    frame = frame.with_columns(
        pl.lit(dataset.name).alias("dataset"), pl.int_range(pl.len()).over("user_id").alias("position")
    )
    for part in frame.sort("user_id", maintain_order=True).iter_slices(CHUNK):
        yield part.to_dicts()


def _next(connection: Connection, position: sa.Column[int], *mine: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(position), -1) + 1).where(*mine)).scalar_one())


def _engine(url: URL) -> Engine:
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UnavailableError(f"{_shown(url)}: no driver for this; a store is in SQLite or PostgreSQL")
    server = url.get_backend_name() == "postgresql"
    more: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20} if server else {}
    waits = ALIVE if server else {"timeout": PATIENCE}
    engine = sa.create_engine(url, connect_args=waits, hide_parameters=True, **more)  # errors are logged, users are not
    sa.event.listen(engine, "connect", _set_up_postgresql if server else _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA synchronous = FULL")  # what is acknowledged outlives a power cut
    # Also where nothing is deleted: pages that are split would keep copies, which no later deletion finds.
    connection.execute("PRAGMA secure_delete = ON")


def _set_up_postgresql(connection: Any, record: Any) -> None:
    # A client that hangs with the writers' lock in its hand lets go. Not by `options`, which the URL may have.
    connection.execute("SET statement_timeout = '10s'")
    connection.execute("SET idle_in_transaction_session_timeout = '10s'")
    connection.commit()


def _lift_limits(connection: Connection) -> None:
    """For one transaction that reads or writes everything."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


@contextlib.contextmanager
def _begin(engine: Engine, slow: bool = False) -> Iterator[Connection]:
    """A transaction that writes, one at a time in a store: positions are never taken twice, and nothing deadlocks."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # else a reader that turns writer fails at once where another writes
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif engine.dialect.name == "postgresql":
            if slow:
                _lift_limits(connection)
            connection.execute(_LOCKED)
        yield connection


def _strange(engine: Engine) -> str | None:
    """What of a SQLite file is no plain table or index: a view or a trigger would run what a stranger wrote."""
    if engine.dialect.name != "sqlite":
        return None
    query = "SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'create virtual%'"
    with engine.connect() as connection:
        found = connection.exec_driver_sql(query).first()
    return None if found is None else f"a {found[0]} {str(found[1])[:80]!r}"


def _version(engine: Engine) -> int | None:
    with engine.connect() as connection:
        found = connection.execute(sa.select(_meta.c.schema_version)).scalars().fetchmany(2)
    return found[0] if len(found) == 1 and type(found[0]) is int and found[0] > 0 else None


def _lacking(engine: Engine) -> str | None:
    """What a SQLite file of today's version lacks: a column, or the names of its data sets."""
    if engine.dialect.name != "sqlite":
        return None
    try:
        every = sa.inspect(engine).get_multi_columns()
        columns = {table: {c["name"] for c in own} for (_, table), own in every.items()}
        with engine.connect() as connection:
            names = connection.execute(sa.select(_meta.c.datasets)).scalar_one()
    except (SQLAlchemyError, ValueError) as error:
        return _cause(error)
    for name, table in _metadata.tables.items():
        if missing := {c.name for c in table.columns} - columns.get(name, set()):
            return f"its table {name} has no {min(missing)}"
    right = isinstance(names, list) and all(isinstance(n, str) for n in names)
    return None if right else "it does not name its data sets"


def _upgrade(engine: Engine, name: str) -> None:
    from .migrations import migrate

    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM")  # version 1 did not overwrite what it moved within the file
    try:
        with _begin(engine, slow=True) as connection:
            migrate(connection, SCHEMA_VERSION)
    except exc.ProgrammingError as error:
        raise RunError(f"{name}: cannot bring the store to version {SCHEMA_VERSION}: {_cause(error)}") from error


# Names and errors


def _parse(url: str | Path) -> URL:
    if isinstance(url, Path):
        return URL.create("sqlite", database=str(url))
    try:
        found = sa.make_url(url)
        return found.set(drivername="postgresql+psycopg") if found.drivername == "postgresql" else found
    except (ArgumentError, ValueError):  # of which the message may hold a part of a password
        raise RunError("the store's URL cannot be read; write sqlite:///FILE or postgresql+psycopg://...") from None


def _file(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise RunError("a SQLite store needs a file: sqlite:///FILE")
    return Path(url.database)


def _shown(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return url.database or "sqlite"
    if "@" in (url.host or ""):  # of a password that holds one and is not written %40
        return f"{url.drivername}://***"
    hidden = {k: "***" for k in url.query if SECRET.search(k)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _cause(error: Exception, url: URL | None = None) -> str:
    """What a database says, in a line, without the secrets of its URL."""
    text = (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0]
    if url is not None:
        options = [v for k, values in url.normalized_query.items() if SECRET.search(k) for v in values]
        for secret in filter(None, (url.password and str(url.password), *options)):
            text = text.replace(secret, "***")
    return text


@contextlib.contextmanager
def _plain_errors(url: URL) -> Iterator[None]:
    name = _shown(url)
    try:
        yield
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UnavailableError(f"{name}: the database driver is not installed ({error})") from error
    except OperationalError as error:
        if url.get_backend_name() == "sqlite":  # disk full, file not writable
            raise RunError(f"{name}: cannot write the user store: {_cause(error, url)}") from error
        raise UnavailableError(f"{name}: cannot reach the database: {_cause(error, url)}") from error
    except exc.DataError as error:
        raise DataError(f"{name}: the database cannot hold this: {_cause(error, url)}") from error
    except (exc.DatabaseError, sqlite3.DatabaseError) as error:
        if not _is_damage(error):
            raise
        raise RunError(f"{name}: the user store is damaged: {_cause(error, url)}") from error
    except OSError as error:
        raise RunError(f"{name}: cannot write the user store: {error.strerror}") from error


def _is_damage(error: Exception) -> bool:
    """Whether SQLite finds a file malformed, or JSON in it: its errors are then of no class below DatabaseError."""
    return type(error) in (exc.DatabaseError, sqlite3.DatabaseError, json.JSONDecodeError)


@contextlib.contextmanager
def _served(store: Store) -> Iterator[None]:
    """What goes wrong with an open store is no mistake of the caller, except a value that a database cannot hold."""
    try:
        yield
    except (OperationalError, exc.TimeoutError) as error:
        raise UnavailableError(
            f"{store.name}: the database does not answer: {_cause(error, store.engine.url)}"
        ) from error
    except (exc.DataError, UnicodeEncodeError) as error:
        cause = error if isinstance(error, UnicodeEncodeError) else _cause(error)
        raise DataError(f"the database cannot hold this: {cause}") from error
    except (exc.DatabaseError, json.JSONDecodeError) as error:
        if not _is_damage(error):
            raise
        raise UnavailableError(f"{store.name}: the user store is damaged: {_cause(error)}") from error


@contextlib.contextmanager
def _reading(store: Store, slow: bool = False) -> Iterator[Connection]:
    with _served(store), store.engine.connect() as connection:
        if slow and store.engine.dialect.name == "postgresql":
            _lift_limits(connection)
        yield connection


@contextlib.contextmanager
def _writing(store: Store) -> Iterator[Connection]:
    with _served(store), _begin(store.engine) as connection:
        yield connection


def _check_dataset(store: Store, dataset: str) -> None:
    known = datasets(store)
    if dataset not in known:
        raise UnknownNameError("data set", dataset, known)


def _unknown_user(store: Store, where: Sequence[str], user_id: str) -> UnknownNameError:
    own, column = _users.c.dataset.in_(where), _users.c.user_id
    before = sa.select(column).where(own, column < user_id).order_by(column.desc()).limit(10)
    after = sa.select(column).where(own, column > user_id).order_by(column).limit(10)
    with _reading(store) as connection:
        near = [*connection.execute(before).scalars(), *connection.execute(after).scalars()]
        count = connection.execute(sa.select(sa.func.count()).where(own)).scalar_one()
    return UnknownNameError("user", user_id, near, f"in {', '.join(where)} ({count} users)")
