"""The database of a store: connections, locks, and the translation of its errors."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from ..data.source import SECRET
from ..errors import DataError, RunError, UnavailableError
from ..extras import require

ALIVE = {  # timeouts of PostgreSQL connections in seconds, the last one in milliseconds
    **{"connect_timeout": 5, "keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3},
    "tcp_user_timeout": 10_000,
}
PATIENCE = 30  # seconds that a writer of a SQLite file waits for the lock
LOCK = 0x67656E726563  # PostgreSQL's advisory lock of writers
LOCKED = sa.select(sa.func.pg_advisory_xact_lock(LOCK))


@dataclass(frozen=True)
class Store:
    """An open store; `name` is for messages and holds no password. is_temporary: it ends with the process."""

    engine: Engine
    name: str
    is_temporary: bool = False

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def make_engine(url: URL) -> Engine:
    """An engine with the timeouts of its database; raises UnavailableError for any but SQLite and PostgreSQL."""
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UnavailableError(f"{display_url(url)}: no driver for this; a store is in SQLite or PostgreSQL")
    server = url.get_backend_name() == "postgresql"
    if url.drivername == "postgresql+psycopg":
        require("postgres")
    pool_options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20} if server else {}
    connect_args = ALIVE if server else {"timeout": PATIENCE}
    # Errors are logged, and their parameters would name users.
    engine = sa.create_engine(
        url if server else _readable(url), connect_args=connect_args, hide_parameters=True, **pool_options
    )
    sa.event.listen(engine, "connect", _set_up_postgresql if server else _set_up_sqlite)
    return engine


def _readable(url: URL) -> URL:
    """The URL of a SQLite file; where its folder cannot be written, and nobody has the file open, without the log and
    the lock, which SQLite would have to make there."""
    file = database_file(url)
    log, shared = (file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))
    if os.access(file.parent, os.W_OK) or shared.exists() or (log.exists() and log.stat().st_size):
        return url
    return URL.create("sqlite", database=file.absolute().as_uri(), query={"immutable": "1", "uri": "true"})


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA synchronous = FULL")  # acknowledged writes survive a power cut
    # Needed without deletions too: page splits leave copies, which no later deletion finds.
    connection.execute("PRAGMA secure_delete = ON")


def _set_up_postgresql(connection: Any, record: Any) -> None:
    # A client that hangs while it holds the writers' lock loses it. Not set by `options`, which the URL may have.
    connection.execute("SET statement_timeout = '10s'")
    connection.execute("SET idle_in_transaction_session_timeout = '10s'")
    connection.commit()


def lift_limits(connection: Connection) -> None:
    """Lift the timeouts for one transaction that reads or writes everything."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


@contextlib.contextmanager
def begin(engine: Engine, slow: bool = False) -> Iterator[Connection]:
    """A write transaction, one at a time per store, so that positions are unique and nothing deadlocks."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # else a reader that starts to write fails at once if another writes
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif engine.dialect.name == "postgresql":
            if slow:
                lift_limits(connection)
            connection.execute(LOCKED)
        yield connection


def parse_url(url: str | Path) -> URL:
    """The URL of a store, a path as that of a SQLite file; raises RunError if it cannot be parsed."""
    if isinstance(url, Path):
        return URL.create("sqlite", database=str(url))
    try:
        parsed = sa.make_url(url)
        return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed
    except (ArgumentError, ValueError):  # whose message may hold a part of a password
        raise RunError("the store's URL cannot be read; write sqlite:///FILE or postgresql+psycopg://...") from None


def database_file(url: URL) -> Path:
    """The file of a SQLite URL; raises RunError if it names none."""
    if not url.database or url.database == ":memory:":
        raise RunError("a SQLite store needs a file: sqlite:///FILE")
    return Path(url.database)


def display_url(url: URL) -> str:
    """A store's URL for messages, without secrets."""
    if url.get_backend_name() == "sqlite":
        return url.database or "sqlite"
    if "@" in (url.host or ""):  # from a password with an unescaped @
        return f"{url.drivername}://***"
    masked = {k: "***" for k in url.query if SECRET.search(k)}
    return url.update_query_dict(masked).render_as_string(hide_password=True)


def cause_of(error: Exception, url: URL | None = None) -> str:
    """The message of a database error in one line, without the secrets of its URL."""
    text = (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0]
    if url is not None:
        options = [v for k, values in url.normalized_query.items() if SECRET.search(k) for v in values]
        for secret in filter(None, (url.password and str(url.password), *options)):
            text = text.replace(secret, "***")
    return text


@contextlib.contextmanager
def plain_errors(url: URL) -> Iterator[None]:
    """Errors of opening or copying a store as RunError, DataError or UnavailableError."""
    name = display_url(url)
    try:
        yield
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UnavailableError(f"{name}: the database driver is not installed ({error})") from error
    except OperationalError as error:
        if url.get_backend_name() == "sqlite":  # disk full, file not writable
            raise RunError(f"{name}: cannot write the user store: {cause_of(error, url)}") from error
        raise UnavailableError(f"{name}: cannot reach the database: {cause_of(error, url)}") from error
    except exc.DataError as error:
        raise DataError(f"{name}: the database cannot hold this: {cause_of(error, url)}") from error
    except (exc.DatabaseError, sqlite3.DatabaseError) as error:
        if not _is_damage(error):
            raise
        raise RunError(f"{name}: the user store is damaged: {cause_of(error, url)}") from error
    except OSError as error:
        raise RunError(f"{name}: cannot write the user store: {error.strerror}") from error


def _is_damage(error: Exception) -> bool:
    """Whether an error means a malformed SQLite file or JSON: it is then of DatabaseError itself, not a subclass."""
    return type(error) in (exc.DatabaseError, sqlite3.DatabaseError, json.JSONDecodeError)


@contextlib.contextmanager
def _service_errors(store: Store) -> Iterator[None]:
    """Errors of an open store as UnavailableError, or DataError for a value that a database cannot hold."""
    try:
        yield
    except (OperationalError, exc.TimeoutError) as error:
        raise UnavailableError(
            f"{store.name}: the database does not answer: {cause_of(error, store.engine.url)}"
        ) from error
    except (exc.DataError, UnicodeEncodeError) as error:
        cause = error if isinstance(error, UnicodeEncodeError) else cause_of(error)
        raise DataError(f"the database cannot hold this: {cause}") from error
    except (exc.DatabaseError, json.JSONDecodeError) as error:
        if not _is_damage(error):
            raise
        raise UnavailableError(f"{store.name}: the user store is damaged: {cause_of(error)}") from error


@contextlib.contextmanager
def reading(store: Store, slow: bool = False) -> Iterator[Connection]:
    """A connection for reads; slow: without PostgreSQL's timeouts. Raises UnavailableError or DataError."""
    with _service_errors(store), store.engine.connect() as connection:
        if slow and store.engine.dialect.name == "postgresql":
            lift_limits(connection)
        yield connection


@contextlib.contextmanager
def writing(store: Store) -> Iterator[Connection]:
    """A connection in a write transaction. Raises UnavailableError or DataError."""
    with _service_errors(store), begin(store.engine) as connection:
        yield connection
