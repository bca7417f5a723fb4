"""A run's users and events in a database: a private SQLite file by default, PostgreSQL by URL."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError, SQLAlchemyError

from genrec.data.dataset import Dataset
from genrec.errors import DataError, RunError, UnavailableError, UnknownNameError
from genrec.files import whole

SCHEMA_VERSION = 2
CHUNK = 50_000  # rows turned into Python objects at a time
ATTEMPTS = 20  # of appending to a history that others append to as well
AT_ONCE = 500  # parameters of a query
PATIENCE = 30  # seconds that a writer of a SQLite file waits for another
LOCK = 0x67656E726563  # of PostgreSQL: who migrates or fills a store

_metadata = sa.MetaData()
_meta = sa.Table(
    "meta",
    _metadata,
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("datasets", sa.JSON, nullable=False),
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
    sa.Index("events_event_id", "dataset", "event_id", unique=True),
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
    sa.Index("recommendations_user", "dataset", "user_id"),
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

# Built once: building a query takes as long as running it. Without a time, what came with the data is the oldest, as in
# training, and what was added is the latest.
_TIMELESS = sa.case((_events.c.timestamp.is_not(None), 1), (_events.c.part.is_not(None), 0), else_=2)
_OF_USER = (
    sa.select(*(_events.c[c] for c in _HISTORY))
    .where(_events.c.dataset == sa.bindparam("dataset"), _events.c.user_id == sa.bindparam("user_id"))
    .order_by(_TIMELESS, _events.c.timestamp, _events.c.position)
)
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
            _create_file(_file(where), datasets)
        else:
            engine = _engine(where)
            with contextlib.closing(Store(engine, _shown(where))), engine.begin() as connection:
                if taken := set(sa.inspect(connection).get_table_names()) & set(_metadata.tables):
                    raise RunError(
                        f"{_shown(where)} already has the tables {', '.join(sorted(taken))}; use another schema"
                    )
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


def open_store(url: str | Path) -> Store:
    """Open a store, brought to today's version where it is older; raises RunError where none or a newer version is,
    UnavailableError without driver or server."""
    where = _parse(url)
    name = _shown(where)
    if where.get_backend_name() == "sqlite" and not _file(where).is_file():
        raise RunError(f"{name}: the run's user store is missing")
    with _plain_errors(where):
        engine = _engine(where)
        try:
            found = _version(engine)
        except SQLAlchemyError as error:
            engine.dispose()
            if where.get_backend_name() != "sqlite" and isinstance(error, OperationalError):
                raise  # the server, not the store
            raise RunError(f"{name}: not a user store of genrec ({_cause(error)})") from error
        if found is not None and found < SCHEMA_VERSION:
            from .migrations import migrate

            with _writing(engine, lock=True) as connection:
                migrate(connection, SCHEMA_VERSION)
            found = _version(engine)
    if found != SCHEMA_VERSION:
        engine.dispose()
        raise RunError(f"{name}: the store has version {found or 'none'}, not {SCHEMA_VERSION}")
    return Store(engine, name)


def shared_store(source: Path, url: str) -> Store:
    """Open the store of a database that several servers share; a run's SQLite store is copied into one that has none.

    Raises RunError where it holds other data sets than the run, UnavailableError without driver or server.
    """
    where = _parse(url)
    own = open_store(source)
    with contextlib.closing(own), _plain_errors(where):
        engine = _engine(where)
        with contextlib.closing(Store(engine, _shown(where))), _writing(engine, lock=True) as connection:
            if not set(sa.inspect(connection).get_table_names()) & set(_metadata.tables):
                _metadata.create_all(connection)
                with own.engine.connect() as reading:
                    for table in _metadata.sorted_tables:
                        for rows in reading.execute(sa.select(table)).mappings().partitions(CHUNK):
                            connection.execute(sa.insert(table), [dict(r) for r in rows])
        found = open_store(url)
        if (theirs := datasets(found)) != (ours := datasets(own)):
            found.close()
            raise RunError(f"{found.name}: holds the data sets {', '.join(theirs)}, and the run has {', '.join(ours)}")
    return found


def datasets(store: Store) -> list[str]:
    """The names of the store's data sets, in the run's order."""
    with store.engine.connect() as connection:
        return list(connection.execute(sa.select(_meta.c.datasets)).scalar_one())


def users(store: Store, dataset: str) -> list[str]:
    """The user ids of a data set, by first appearance."""
    _check_dataset(store, dataset)
    query = sa.select(_users.c.user_id).where(_users.c.dataset == dataset).order_by(_users.c.position)
    with store.engine.connect() as connection:
        return list(connection.execute(query).scalars())


def first_user(store: Store, dataset: str) -> str | None:
    """The user id that appeared first in a data set; None where it has no users."""
    query = sa.select(_users.c.user_id).where(_users.c.dataset == dataset).order_by(_users.c.position).limit(1)
    with store.engine.connect() as connection:
        return connection.execute(query).scalar_one_or_none()


def has_user(store: Store, dataset: str, user_id: str) -> bool:
    """Whether a data set knows a user."""
    query = sa.select(sa.literal(1)).where(_users.c.dataset == dataset, _users.c.user_id == user_id)
    with store.engine.connect() as connection:
        return connection.execute(query).first() is not None


def history(store: Store, dataset: str, user_id: str) -> pl.DataFrame:
    """A user's events, oldest first: item_id, event, rating, timestamp, basket, part; raises UnknownNameError."""
    with store.engine.connect() as connection:
        rows = connection.execute(_OF_USER, {"dataset": dataset, "user_id": user_id}).all()
    if not rows:
        user_attributes(store, dataset, user_id)  # a user without events is known all the same
    columns = zip(*rows, strict=True) if rows else [()] * len(_HISTORY)
    return pl.DataFrame(dict(zip(_HISTORY, columns, strict=True)), schema=_HISTORY)


def user_attributes(store: Store, dataset: str, user_id: str) -> dict[str, Any]:
    """What is known of a user besides the events; raises UnknownNameError."""
    with store.engine.connect() as connection:
        found = connection.execute(_ATTRIBUTES, {"dataset": dataset, "user_id": user_id}).scalar_one_or_none()
    if found is None:
        _check_dataset(store, dataset)
        raise _unknown_user(store, dataset, user_id)
    return dict(found)


def all_events(store: Store, dataset: str) -> pl.DataFrame:
    """Every event of a data set, users by first appearance and their events as `history` orders them; part is null for
    what was added after training."""
    _check_dataset(store, dataset)
    columns = [_events.c[c] for c in ("user_id", *_GIVEN)]
    query = (
        sa.select(*columns)
        .join(_users, (_users.c.dataset == _events.c.dataset) & (_users.c.user_id == _events.c.user_id))
        .where(_events.c.dataset == dataset)
        .order_by(_users.c.position, _TIMELESS, _events.c.timestamp, _events.c.position)
    )
    schema = {"user_id": pl.String(), **_GIVEN}
    with store.engine.connect() as connection:
        parts = [
            pl.DataFrame(rows, schema=schema, orient="row") for rows in connection.execute(query).partitions(CHUNK)
        ]
    return pl.concat([pl.DataFrame(schema=schema), *parts])


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
        with _writing(store.engine) as connection:
            _new_users(connection, dataset, [user_id])
        return
    record_events(store, dataset, [{"user_id": user_id, **row} for row in rows])


def record_events(store: Store, dataset: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Append events of any users, new ones included, in one transaction that is on the disk when this returns; for each
    event `recorded`, or `duplicate` where its event_id is known already.

    events: user_id, item_id, and any of event_id, event, rating, timestamp, review, basket, part, recommendation_id.
    """
    _check_dataset(store, dataset)
    for attempt in range(ATTEMPTS):
        try:
            with _writing(store.engine) as connection:
                return _append(connection, dataset, events)
        except IntegrityError:  # someone else took the position, or recorded the same event
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


def _append(connection: Connection, dataset: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
    given = [e["event_id"] for e in events if e.get("event_id") is not None]
    known: set[str] = set()
    for start in range(0, len(given), AT_ONCE):
        part = given[start : start + AT_ONCE]
        query = sa.select(_events.c.event_id).where(_events.c.dataset == dataset, _events.c.event_id.in_(part))
        known |= set(connection.execute(query).scalars())
    names = list(dict.fromkeys(str(e["user_id"]) for e in events))
    _new_users(connection, dataset, names)
    last: dict[str, int] = {}
    for start in range(0, len(names), AT_ONCE):
        query = (
            sa.select(_events.c.user_id, sa.func.max(_events.c.position))
            .where(_events.c.dataset == dataset, _events.c.user_id.in_(names[start : start + AT_ONCE]))
            .group_by(_events.c.user_id)
        )
        last |= {user: place for user, place in connection.execute(query).all()}
    columns = [c for c in _events.c.keys() if c not in ("dataset", "position", "received_at")]
    rows, done, now = [], [], int(time.time())
    for event in events:
        if (event_id := event.get("event_id")) is not None and event_id in known:
            done.append("duplicate")
            continue
        if event_id is not None:
            known.add(event_id)
        user = str(event["user_id"])
        last[user] = last.get(user, -1) + 1
        own = {c: event.get(c) for c in columns}
        rows.append(own | {"dataset": dataset, "position": last[user], "received_at": now})
        done.append("recorded")
    if rows:
        connection.execute(sa.insert(_events), rows)
    return done


def _new_users(connection: Connection, dataset: str, names: Sequence[str]) -> None:
    known: set[str] = set()
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        query = sa.select(_users.c.user_id).where(_users.c.dataset == dataset, _users.c.user_id.in_(part))
        known |= set(connection.execute(query).scalars())
    new = [n for n in names if n not in known]
    if new:
        place = _next(connection, _users.c.position, _users.c.dataset == dataset)
        rows = [
            {"dataset": dataset, "user_id": name, "position": place + n, "attributes": {}} for n, name in enumerate(new)
        ]
        connection.execute(sa.insert(_users), rows)


def delete_user(store: Store, user_id: str) -> dict[str, int]:
    """Remove a user's attributes, events and lists from every data set; the rows removed, by table.

    A SQLite file holds nothing of them afterwards. Raises UnknownNameError where no data set has the user.
    """
    with _writing(store.engine) as connection:
        sqlite = store.engine.dialect.name == "sqlite"
        if sqlite:
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        removed = {
            table.name: connection.execute(sa.delete(table).where(table.c.user_id == user_id)).rowcount
            for table in (_events, _recommendations, _users)
        }
        if not removed["users"]:
            raise _unknown_user(store, datasets(store)[0], user_id)
    if sqlite:
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return removed


def add_items(store: Store, dataset: str, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keep items (item_id and attributes) that come to a catalogue after training; `added`, or `updated` where the
    store has it already, for each."""
    _check_dataset(store, dataset)
    for attempt in range(ATTEMPTS):
        try:
            with _writing(store.engine) as connection:
                mine = _items.c.dataset == dataset
                known = set(connection.execute(sa.select(_items.c.item_id).where(mine)).scalars())
                revision = _next(connection, _items.c.revision, mine)
                done = []
                for n, item in enumerate(items):
                    own = {k: v for k, v in item.items() if k != "item_id"}
                    key = {"dataset": dataset, "item_id": item["item_id"]}
                    if key["item_id"] in known:
                        connection.execute(sa.delete(_items).where(mine, _items.c.item_id == key["item_id"]))
                    connection.execute(sa.insert(_items), key | {"revision": revision + n, "attributes": own})
                    done.append("updated" if key["item_id"] in known else "added")
                    known.add(key["item_id"])
                return done
        except IntegrityError:  # someone else took the revision
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


def items_revision(store: Store, dataset: str) -> int:
    """The latest revision of `added_items`; -1 where there are none."""
    query = sa.select(sa.func.coalesce(sa.func.max(_items.c.revision), -1)).where(_items.c.dataset == dataset)
    with store.engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def added_items(store: Store, dataset: str, after: int = -1) -> list[tuple[int, str, dict[str, Any]]]:
    """Revision, item_id and attributes of the items added or changed after a revision, the oldest first."""
    query = (
        sa.select(_items.c.revision, _items.c.item_id, _items.c.attributes)
        .where(_items.c.dataset == dataset, _items.c.revision > after)
        .order_by(_items.c.revision)
    )
    with store.engine.connect() as connection:
        return [(int(r), i, dict(a)) for r, i, a in connection.execute(query).all()]


def record_recommendation(
    store: Store, recommendation_id: str, dataset: str, user_id: str | None, strategy: str, items: Sequence[str]
) -> None:
    """Remember a list that was given, so that events can name it."""
    row = {"recommendation_id": recommendation_id, "dataset": dataset, "user_id": user_id, "strategy": strategy}
    with _writing(store.engine) as connection:
        connection.execute(sa.insert(_recommendations), row | {"made_at": int(time.time()), "items": list(items)})


def summary(store: Store, dataset: str) -> dict[str, Any]:
    """What a data set holds, what was added since training, and how many lists were followed by an event of theirs."""
    mine, lists = _events.c.dataset == dataset, _recommendations.c.dataset == dataset
    count = sa.func.count()
    kind = sa.func.coalesce(_events.c.event, sa.case((_events.c.rating.is_not(None), "rating"), else_="event"))
    of_list = sa.select(_recommendations.c.recommendation_id).where(lists)
    followed = _events.c.recommendation_id.in_(of_list)
    with store.engine.connect() as connection:

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
            "events_since_training": by(
                sa.select(kind, count).where(mine, _events.c.received_at.is_not(None)).group_by(kind)
            ),
            "recommendations": made,
            "recommendations_by_strategy": by(
                sa.select(_recommendations.c.strategy, count).where(lists).group_by(_recommendations.c.strategy)
            ),
            "recommendations_followed": with_event,
            "share_followed": with_event / made if made else None,
            "events_of_recommendations": by(sa.select(kind, count).where(mine, followed).group_by(kind)),
        }


# Writing


def _create_file(path: Path, datasets: Sequence[Dataset]) -> None:
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
                _fill(connection, datasets)
                connection.commit()
        finally:
            engine.dispose()
        with contextlib.closing(sqlite3.connect(partial)) as raw:
            raw.execute("PRAGMA journal_mode = WAL")
        _sync(partial)
        _retire_log(path)
        partial.replace(path)
        _sync(path.parent)
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


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
    if url.get_backend_name() == "sqlite":
        return sa.create_engine(url, connect_args={"timeout": PATIENCE})
    if url.get_backend_name() == "postgresql":
        options = {"connect_timeout": 5, "options": "-c statement_timeout=10000"}
        return sa.create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20, connect_args=options)
    return sa.create_engine(url, pool_pre_ping=True)


@contextlib.contextmanager
def _writing(engine: Engine, lock: bool = False) -> Iterator[Connection]:
    """A transaction that writes; lock: no other process may make or change the schema meanwhile."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # else a reader that turns writer fails at once where another writes
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif lock and engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        yield connection


def _version(engine: Engine) -> int | None:
    with engine.connect() as connection:
        found = connection.execute(sa.select(_meta.c.schema_version)).scalars().all()
    return int(found[0]) if len(found) == 1 else None


# Names and errors


def _parse(url: str | Path) -> URL:
    if isinstance(url, Path):
        return URL.create("sqlite", database=str(url))
    try:
        found = sa.make_url(url)
        return found.set(drivername="postgresql+psycopg") if found.drivername == "postgresql" else found
    except ArgumentError as error:
        raise RunError("the store's URL cannot be read; write sqlite:///FILE or postgresql+psycopg://...") from error


def _file(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise RunError("a SQLite store needs a file: sqlite:///FILE")
    return Path(url.database)


def _shown(url: URL) -> str:
    return url.database or "sqlite" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def _cause(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


@contextlib.contextmanager
def _plain_errors(url: URL) -> Iterator[None]:
    name = _shown(url)
    try:
        yield
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UnavailableError(f"{name}: the database driver is not installed ({error})") from error
    except OperationalError as error:
        if url.get_backend_name() == "sqlite":  # disk full, file not writable
            raise RunError(f"{name}: cannot write the user store: {_cause(error)}") from error
        raise UnavailableError(f"{name}: cannot reach the database: {_cause(error)}") from error
    except OSError as error:
        raise RunError(f"{name}: cannot write the user store: {error.strerror}") from error


def _check_dataset(store: Store, dataset: str) -> None:
    known = datasets(store)
    if dataset not in known:
        raise UnknownNameError("data set", dataset, known)


def _unknown_user(store: Store, dataset: str, user_id: str) -> UnknownNameError:
    own, column = _users.c.dataset == dataset, _users.c.user_id
    before = sa.select(column).where(own, column < user_id).order_by(column.desc()).limit(10)
    after = sa.select(column).where(own, column > user_id).order_by(column).limit(10)
    with store.engine.connect() as connection:
        near = [*connection.execute(before).scalars(), *connection.execute(after).scalars()]
        count = connection.execute(sa.select(sa.func.count()).where(own)).scalar_one()
    return UnknownNameError("user", user_id, near, f"in {dataset} ({count} users)")
