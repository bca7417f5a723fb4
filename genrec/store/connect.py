"""Create, open, copy and share stores."""

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from ..data.dataset import Dataset
from ..errors import DataError, RunError
from ..files import atomic_write, sync
from .engine import (
    Store,
    begin,
    cause_of,
    database_file,
    display_url,
    lift_limits,
    make_engine,
    parse_url,
    plain_errors,
)
from .read import datasets
from .tables import CHUNK, METADATA, SCHEMA_VERSION, events_table, meta_table, users_table

ELSEWHERE = "use another database, or another schema: ?options=-csearch_path%3DNAME at the URL's end"


def create_store(url: str | Path, datasets: Sequence[Dataset]) -> Store:
    """Write the users and interactions of the data sets and open the store; a path means a SQLite file.

    Atomic: a SQLite file is written to a temporary file, readable by its owner only, and renamed over an existing one;
    another database must hold no store yet. Raises RunError, DataError (two data sets of one name),
    UnavailableError (no driver, no server).
    """
    names = [d.name for d in datasets]
    if len(set(names)) < len(names):
        raise DataError(f"two data sets have the same name: {', '.join(sorted(names))}")
    database_url = parse_url(url)
    with plain_errors(database_url):
        if database_url.get_backend_name() == "sqlite":
            _create_file(database_file(database_url), functools.partial(_fill, datasets=datasets))
        else:
            engine = make_engine(database_url)
            with contextlib.closing(Store(engine, display_url(database_url))), begin(engine, slow=True) as connection:
                if tables := set(sa.inspect(connection).get_table_names()) & set(METADATA.tables):
                    raise RunError(f"{display_url(database_url)} already has {', '.join(sorted(tables))}; {ELSEWHERE}")
                _fill(connection, datasets)
    return open_store(url)


def temporary_store(names: Sequence[str]) -> Store:
    """An empty store of these data sets, in a private folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="genrec-")
    empty = pl.DataFrame(schema={"row": pl.UInt32, "event": pl.String})
    nothing = [Dataset(name, empty, pl.DataFrame(), pl.DataFrame()) for name in names]
    store = replace(create_store(Path(folder) / "store.db", nothing), is_temporary=True)
    weakref.finalize(store.engine, shutil.rmtree, folder, ignore_errors=True)
    return store


def copy_store(source: Path, target: Path) -> None:
    """Copy a SQLite store with everything added to it, atomically; raises RunError if it is not a store."""
    with (
        contextlib.closing(open_store(source)) as store,
        atomic_write(target) as partial,
        plain_errors(parse_url(target)),
    ):
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            contextlib.closing(store.engine.raw_connection()) as old,
            contextlib.closing(sqlite3.connect(partial)) as new,
        ):
            connection = old.driver_connection
            assert connection is not None
            connection.backup(new)


def fetch_store(url: str, target: Path, trained: Path) -> None:
    """Copy the PostgreSQL store that servers share to a file. Events marked as trained on in the store `trained`, from
    which the shared one was copied, are marked in the file too.

    Raises RunError if it holds other data sets than `trained`, UnavailableError without driver or server.
    """
    database_url = parse_url(url)
    if database_url.get_backend_name() != "postgresql":
        raise RunError(
            f"{display_url(database_url)}: servers share a PostgreSQL database: postgresql://USER@HOST/DATABASE"
        )
    with contextlib.closing(open_store(url)) as shared, contextlib.closing(open_store(trained)) as trained_store:
        if (shared_datasets := datasets(shared)) != (trained_datasets := datasets(trained_store)):
            raise RunError(
                f"{shared.name}: holds the data sets {', '.join(shared_datasets)}, and {trained} "
                f"{', '.join(trained_datasets)}"
            )
        with plain_errors(database_url):
            _create_file(target, functools.partial(_copy_rows, shared.engine))
    key = ("dataset", "user_id", "position", "item_id", "received_at")
    matched = " and ".join(f"o.{c} is main.events.{c}" for c in key)
    part = f"(select o.part from own.events o where {matched})"
    with contextlib.closing(sqlite3.connect(target)) as copy, copy:
        copy.execute("attach database ? as own", (str(trained),))
        copy.execute(f"update events set part = {part} where part is null")


def open_store(url: str | Path) -> Store:
    """Open a store, migrated to the current version if it is older; raises RunError if it is missing or newer,
    UnavailableError without driver or server."""
    database_url = parse_url(url)
    name = display_url(database_url)
    if database_url.get_backend_name() == "sqlite" and not database_file(database_url).is_file():
        raise RunError(f"{name}: the run's user store is missing")
    with plain_errors(database_url), contextlib.ExitStack() as failed:
        engine = make_engine(database_url)
        failed.callback(engine.dispose)
        try:
            if foreign := _foreign_object(engine):
                raise RunError(f"{name}: not a user store of genrec (it has {foreign})")
            version = _version(engine)
        except (SQLAlchemyError, ValueError) as error:
            if database_url.get_backend_name() != "sqlite" and isinstance(error, OperationalError):
                raise  # the server, not the store
            raise RunError(f"{name}: not a user store of genrec ({cause_of(error)})") from error
        if version is None:
            raise RunError(f"{name}: not a user store of genrec (it has no version)")
        if version > SCHEMA_VERSION:
            raise RunError(
                f"{name}: a later genrec wrote this store: it has version {version}, and this one reads "
                f"up to {SCHEMA_VERSION}"
            )
        if version < SCHEMA_VERSION:
            _upgrade(engine, name)
        if missing := _missing_part(engine):
            raise RunError(f"{name}: not a user store of genrec ({missing})")
        failed.pop_all()
    return Store(engine, name)


def shared_store(source: Path, url: str) -> Store:
    """Open the store that several servers share in a PostgreSQL database; an empty database gets a copy of the run's.

    Raises RunError if it holds other data sets than the run, UnavailableError without driver or server.
    """
    database_url = parse_url(url)
    if database_url.get_backend_name() != "postgresql":
        raise RunError(
            f"{display_url(database_url)}: servers share a PostgreSQL database: postgresql://USER@HOST/DATABASE"
        )
    with contextlib.closing(open_store(source)) as run_store, plain_errors(database_url):
        run_datasets = datasets(run_store)
        engine = make_engine(database_url)
        with contextlib.closing(Store(engine, display_url(database_url))), begin(engine, slow=True) as connection:
            tables = set(sa.inspect(connection).get_table_names()) & set(METADATA.tables)
            if not tables:
                _copy_rows(run_store.engine, connection)
            elif meta_table.name not in tables:
                raise RunError(
                    f"{display_url(database_url)} has tables of others: {', '.join(sorted(tables))}; {ELSEWHERE}"
                )
    store = open_store(url)
    if (store_datasets := datasets(store)) != run_datasets:
        store.close()
        raise RunError(
            f"{store.name}: holds the data sets {', '.join(store_datasets)}, and the run has {', '.join(run_datasets)}"
        )
    return store


def _copy_rows(source: Engine, target: Connection) -> None:
    METADATA.create_all(target)
    with source.connect() as connection:  # one snapshot of all tables
        if source.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            lift_limits(connection)
        for table in METADATA.sorted_tables:
            for rows in connection.execute(sa.select(table)).mappings().partitions(CHUNK):
                target.execute(sa.insert(table), [dict(r) for r in rows])


def _create_file(path: Path, fill: Callable[[Connection], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")  # a fixed name: the next run removes a killed one's file
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        engine = sa.create_engine(URL.create("sqlite", database=str(partial)))
        try:
            with engine.connect() as connection:
                # After a crash the partial file is discarded, so it needs no journal.
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
    """Checkpoint the write-ahead log of an old store, so that it is not applied to the new one."""
    logs = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
    if path.exists() and any(log.exists() for log in logs):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for log in logs:
        log.unlink(missing_ok=True)


def _fill(connection: Connection, datasets: Sequence[Dataset]) -> None:
    METADATA.create_all(connection)
    for dataset in datasets:
        for rows in _user_rows(dataset):
            connection.execute(sa.insert(users_table), rows)
        for rows in _event_rows(dataset):
            connection.execute(sa.insert(events_table), rows)
    connection.execute(
        sa.insert(meta_table), {"schema_version": SCHEMA_VERSION, "datasets": [d.name for d in datasets]}
    )


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
    columns = [c.name for c in events_table.columns if c.name in frame.columns]
    frame = frame.select(columns).drop_nulls(["user_id", "item_id"])
    frame = frame.with_columns(
        pl.lit(dataset.name).alias("dataset"), pl.int_range(pl.len()).over("user_id").alias("position")
    )
    for part in frame.sort("user_id", maintain_order=True).iter_slices(CHUNK):
        yield part.to_dicts()


def _foreign_object(engine: Engine) -> str | None:
    """The first view, trigger or virtual table of a SQLite file, which would run foreign code; None without one."""
    if engine.dialect.name != "sqlite":
        return None
    query = "SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'create virtual%'"
    with engine.connect() as connection:
        row = connection.exec_driver_sql(query).first()
    return None if row is None else f"a {row[0]} {str(row[1])[:80]!r}"


def _version(engine: Engine) -> int | None:
    with engine.connect() as connection:
        versions = connection.execute(sa.select(meta_table.c.schema_version)).scalars().fetchmany(2)
    return versions[0] if len(versions) == 1 and type(versions[0]) is int and versions[0] > 0 else None


def _missing_part(engine: Engine) -> str | None:
    """The column, or the names of the data sets, that a SQLite file of the current version lacks; None if complete."""
    if engine.dialect.name != "sqlite":
        return None
    try:
        inspected = sa.inspect(engine).get_multi_columns()
        columns = {table: {c["name"] for c in table_columns} for (_, table), table_columns in inspected.items()}
        with engine.connect() as connection:
            names = connection.execute(sa.select(meta_table.c.datasets)).scalar_one()
    except (SQLAlchemyError, ValueError) as error:
        return cause_of(error)
    for name, table in METADATA.tables.items():
        if missing := {c.name for c in table.columns} - columns.get(name, set()):
            return f"its table {name} has no {min(missing)}"
    valid = isinstance(names, list) and all(isinstance(n, str) for n in names)
    return None if valid else "it does not name its data sets"


def _upgrade(engine: Engine, name: str) -> None:
    from .migrations import migrate

    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM")  # version 1 did not overwrite rows that it moved within the file
    try:
        with begin(engine, slow=True) as connection:
            migrate(connection, SCHEMA_VERSION)
    except exc.ProgrammingError as error:
        raise RunError(f"{name}: cannot bring the store to version {SCHEMA_VERSION}: {cause_of(error)}") from error
