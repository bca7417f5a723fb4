"""A table or a query of an SQL database as a frame of raw columns."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..errors import DataError, UnavailableError, UnknownNameError
from .source import QUERY, display_name, error_line, expanded_url

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

DRIVERS = {"psycopg": "genrec[postgres]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"} | {
    "duckdb": "duckdb-engine",
    "snowflake": "snowflake-sqlalchemy",
    "bigquery": "sqlalchemy-bigquery",
}  # packages whose name is not that of the module or the database
BATCH = 100_000  # rows of a database converted at a time


def read_database(source: str) -> pl.DataFrame:
    """All rows of a table or query, in the database's order."""
    import sqlalchemy as sa

    name, selection = display_name(source), source.partition("#")[2].strip()
    url, secrets = expanded_url(source)
    with _connection(url, name, secrets) as connection:
        if QUERY.match(selection):
            query: Any = sa.text(selection.replace(":", r"\:"))  # a colon is no parameter
        else:
            table, schema = _table(connection, selection, name)
            query = sa.select(sa.text("*")).select_from(sa.table(table, schema=schema))
        try:
            batches = pl.read_database(query, connection, iter_batches=True, batch_size=BATCH, infer_schema_length=None)
            frames = [batch for batch in batches if batch.height]
            frame = pl.concat(frames, how="vertical_relaxed") if frames else pl.DataFrame()
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{name} cannot be read: {error_line(error)}") from error
    if not frame.height:
        raise DataError(f"{name} has no rows")
    objects = [c for c, t in frame.schema.items() if t == pl.Object]  # UUIDs and other values without a polars type
    return frame.with_columns(
        pl.Series(c, [None if v is None else str(v) for v in frame[c]], dtype=pl.String) for c in objects
    )


def _table(connection: "Connection", table_name: str, name: str) -> tuple[str, str | None]:
    """A table or view and its schema; raises an error that lists the existing ones."""
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    names = [*inspector.get_table_names(), *inspector.get_view_names()]
    if not table_name:
        available = f"tables: {', '.join(sorted(names)) or 'none'}"
        raise DataError(f"{name}: say what to read with #TABLE or '#SELECT ...' after it; {available}")
    if table_name in names:
        return table_name, None
    schema, dot, table = table_name.rpartition(".")
    if dot and schema in inspector.get_schema_names():
        schema_tables = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
        if table in schema_tables:
            return table, schema
        names = [f"{schema}.{t}" for t in schema_tables]
    raise UnknownNameError(
        "table", table_name, names, f"in {name.partition('#')[0]} (a query starts with SELECT or WITH)"
    )


@contextmanager
def _connection(url: "URL", name: str, secrets: Mapping[str, str]) -> Iterator["Connection"]:
    """A read-only connection; the database's errors become ours, without values from the environment."""
    import sqlalchemy as sa
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    # `from None`: the driver's own errors may hold the password.
    kind = url.get_backend_name()
    if kind == "sqlite" and not (url.database and Path(url.database).is_file()):
        raise DataError(
            f"{name}: there is no such file; a relative path follows sqlite:///, an absolute one sqlite:////"
        )
    try:
        engine = sa.create_engine(url)
    except ModuleNotFoundError as error:
        package = DRIVERS.get(error.name or "", error.name)
        raise UnavailableError(
            f"{name}: {kind} needs a driver that is not installed: pip install '{package}'"
        ) from None
    except NoSuchModuleError:
        package = DRIVERS.get(kind)
        remedy = (
            f"pip install {package}" if package else "install the package that brings its dialect, or mend the name"
        )
        raise UnavailableError(f"{name}: SQLAlchemy knows no {url.drivername!r} here: {remedy}") from None
    except (SQLAlchemyError, TypeError, ValueError) as error:
        raise DataError(f"{name}: {_cause(error, secrets)}") from None
    if engine.dialect.is_async:
        raise DataError(f"{name}: {url.drivername} is an asynchronous driver; another one of {kind} is needed")
    try:
        try:
            connection = engine.connect()
        except (SQLAlchemyError, TypeError, ValueError) as error:
            raise UnavailableError(f"{name} cannot be opened: {_cause(error, secrets)}") from None
        with connection:
            connection.execution_options(postgresql_readonly=True)
            if kind == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            yield connection
    except SQLAlchemyError as error:
        raise DataError(f"{name} cannot be read: {_cause(error, secrets)}") from None
    finally:
        engine.dispose()


def _cause(error: Exception, secrets: Mapping[str, str]) -> str:
    """The driver's message, with `${NAME}` for each value from the environment."""
    cause = error_line(getattr(error, "orig", None) or error)
    quoted = "|".join(re.escape(s) for s in sorted(secrets, key=len, reverse=True))
    return re.sub(quoted, lambda m: secrets[m[0]], cause) if quoted else cause
