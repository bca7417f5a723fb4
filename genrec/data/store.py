"""A run's users and events in a database: a private SQLite file by default, PostgreSQL by URL."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
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

SCHEMA_VERSION = 1
CHUNK = 50_000  # rows turned into Python objects at a time
ATTEMPTS = 20  # of appending to a history that others append to as well

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
    sqlite_with_rowid=False,  # a history is one contiguous read
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
            engine = sa.create_engine(where)
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
    """Open a store; raises RunError where none or another version is, UnavailableError without driver or server."""
    where = _parse(url)
    name = _shown(where)
    if where.get_backend_name() == "sqlite" and not _file(where).is_file():
        raise RunError(f"{name}: the run's user store is missing")
    with _plain_errors(where):
        options = {"timeout": 30} if where.get_backend_name() == "sqlite" else {}
        engine = sa.create_engine(where, connect_args=options)
        try:
            with engine.connect() as connection:
                found = connection.execute(sa.select(_meta.c.schema_version)).scalars().all()
        except SQLAlchemyError as error:
            engine.dispose()
            if where.get_backend_name() != "sqlite" and isinstance(error, OperationalError):
                raise  # the server, not the store
            raise RunError(f"{name}: not a user store of genrec ({_cause(error)})") from error
    if list(found) != [SCHEMA_VERSION]:
        engine.dispose()
        raise RunError(f"{name}: the store has version {', '.join(map(str, found)) or 'none'}, not {SCHEMA_VERSION}")
    return Store(engine, name)


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


def add_events(store: Store, dataset: str, user_id: str, events: pl.DataFrame) -> None:
    """Append events to a user's history, a new user included, in one transaction.

    events: item_id, and any of event, rating, timestamp, review, basket, part. Without a timestamp it is the latest.
    """
    _check_dataset(store, dataset)
    if unknown := [c for c in events.columns if c not in _GIVEN]:
        raise DataError(f"events to add: unknown column {', '.join(unknown)}; allowed: {', '.join(_GIVEN)}")
    if "item_id" not in events.columns or events["item_id"].null_count():
        raise DataError("events to add: every event needs an item_id")
    try:
        rows = events.cast({c: _GIVEN[c] for c in events.columns}).to_dicts()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"events to add: {str(error).splitlines()[0]}") from error
    mine = (_events.c.dataset == dataset, _events.c.user_id == user_id)
    known = sa.select(_users.c.user_id).where(_users.c.dataset == dataset, _users.c.user_id == user_id)
    for attempt in range(ATTEMPTS):
        try:
            with store.engine.begin() as connection:
                if connection.execute(known).first() is None:
                    place = _next(connection, _users.c.position, _users.c.dataset == dataset)
                    user = {"dataset": dataset, "user_id": user_id, "position": place, "attributes": {}}
                    connection.execute(sa.insert(_users), user)
                place = _next(connection, _events.c.position, *mine)
                keys = [{"dataset": dataset, "user_id": user_id, "position": place + n} for n in range(len(rows))]
                if rows:
                    connection.execute(sa.insert(_events), [key | row for key, row in zip(keys, rows, strict=True)])
            return
        except IntegrityError:  # someone else took the position
            if attempt == ATTEMPTS - 1:
                raise


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


# Names and errors


def _parse(url: str | Path) -> URL:
    if isinstance(url, Path):
        return URL.create("sqlite", database=str(url))
    try:
        return sa.make_url(url)
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
