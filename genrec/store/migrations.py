"""Migrations of stores of earlier versions, by Alembic's operations."""

from collections.abc import Callable

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.engine import Connection


def to_2(do: Operations) -> None:
    """Events have ids and name the list they followed; added items, lists and the number of deletions are stored."""
    do.add_column("meta", sa.Column("deletions", sa.BigInteger, nullable=False, server_default="0"))
    for column in (
        sa.Column("event_id", sa.Text),
        sa.Column("recommendation_id", sa.Text),
        sa.Column("received_at", sa.BigInteger),
    ):
        do.add_column("events", column)
    _partial_index(do, "events_event_id", "events", "event_id", unique=True)
    _partial_index(do, "events_recommendation_id", "events", "recommendation_id", unique=False)
    do.create_table(
        "items",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("item_id", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sqlite_with_rowid=False,
    )
    do.create_index("items_revision", "items", ["dataset", "revision"], unique=True)
    do.create_table(
        "recommendations",
        sa.Column("recommendation_id", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("items", sa.JSON, nullable=False),
        sqlite_with_rowid=False,
    )
    _partial_index(do, "recommendations_user", "recommendations", "user_id", unique=False)


def to_3(do: Operations) -> None:
    """An event's id is unique per user, no longer overall."""
    do.drop_index("events_event_id", "events")
    _partial_index(do, "events_event_id", "events", "user_id", "event_id", unique=True)


def _partial_index(do: Operations, name: str, table: str, *columns: str, unique: bool) -> None:
    """An index of the rows in which the last of some columns is not null."""
    condition = sa.text(f"{columns[-1]} is not null")
    do.create_index(
        name, table, ["dataset", *columns], unique=unique, sqlite_where=condition, postgresql_where=condition
    )


STEPS: dict[int, Callable[[Operations], None]] = {2: to_2, 3: to_3}  # by the version they migrate to


def migrate(connection: Connection, version: int) -> None:
    """Migrate a store to a version within the connection's transaction; another process may have done so already."""
    do = Operations(MigrationContext.configure(connection))
    current = int(connection.execute(sa.text("select schema_version from meta")).scalar_one())
    for step in range(current + 1, version + 1):
        STEPS[step](do)
        connection.execute(sa.text("update meta set schema_version = :step"), {"step": step})
