"""The tables of a store."""

import polars as pl
import sqlalchemy as sa

SCHEMA_VERSION = 3
CHUNK = 50_000  # rows converted to Python objects at a time
AT_ONCE = 500  # parameters of a query


def _partial_index(name: str, *columns: str, unique: bool = False) -> sa.Index:
    """An index of the rows in which the last column is not null, as it is in all that came with the data."""
    condition = sa.text(f"{columns[-1]} is not null")
    return sa.Index(name, "dataset", *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


METADATA = sa.MetaData()
meta_table = sa.Table(
    "meta",
    METADATA,
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("datasets", sa.JSON, nullable=False),
    sa.Column("deletions", sa.BigInteger, nullable=False, server_default="0"),  # users deleted so far
)
users_table = sa.Table(
    "users",
    METADATA,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("attributes", sa.JSON, nullable=False),
    sqlite_with_rowid=False,
)
events_table = sa.Table(
    "events",
    METADATA,
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
    _partial_index("events_event_id", "user_id", "event_id", unique=True),
    _partial_index("events_recommendation_id", "recommendation_id"),
    sqlite_with_rowid=False,  # a history is one contiguous read
)
items_table = sa.Table(
    "items",
    METADATA,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),  # grows with every item that is added or changed
    sa.Column("attributes", sa.JSON, nullable=False),
    sa.Index("items_revision", "dataset", "revision", unique=True),
    sqlite_with_rowid=False,
)
recommendations_table = sa.Table(
    "recommendations",
    METADATA,
    sa.Column("recommendation_id", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text),
    sa.Column("made_at", sa.BigInteger, nullable=False),
    sa.Column("strategy", sa.Text, nullable=False),
    sa.Column("items", sa.JSON, nullable=False),
    _partial_index("recommendations_user", "user_id"),
    sqlite_with_rowid=False,
)
HISTORY_COLUMNS: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "event": pl.String(),
    "rating": pl.Float64(),
    "timestamp": pl.Int64(),
    "basket": pl.String(),
    "part": pl.String(),
}
GIVEN_COLUMNS: dict[str, pl.DataType] = {**HISTORY_COLUMNS, "review": pl.String()}
ALL_COLUMNS: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    **{c: GIVEN_COLUMNS[c] for c in ("item_id", "event", "rating", "timestamp", "review", "basket", "part")},
}
ID_FIELDS = ("user_id", "item_id", "event_id", "recommendation_id")
TEXT_FIELDS = ("event", "review", "basket", "part")
EVENT_FIELDS = (*ID_FIELDS, *TEXT_FIELDS, "rating", "timestamp")  # of an event to record
# Built once: building a query takes as long as running it. Events without a time are the oldest if they came with the
# data, as in training, and the latest if they were added.
TIMELESS = sa.case((events_table.c.timestamp.is_not(None), 1), (events_table.c.part.is_not(None), 0), else_=2)
USER_EVENTS = (
    sa.select(*(events_table.c[c] for c in HISTORY_COLUMNS))
    .where(events_table.c.dataset == sa.bindparam("dataset"), events_table.c.user_id == sa.bindparam("user_id"))
    .order_by(TIMELESS, events_table.c.timestamp, events_table.c.position)
)
ALL_EVENTS = (
    sa.select(*(events_table.c[c] for c in ALL_COLUMNS))
    .join(
        users_table,
        (users_table.c.dataset == events_table.c.dataset) & (users_table.c.user_id == events_table.c.user_id),
    )
    .where(events_table.c.dataset == sa.bindparam("dataset"))
    .order_by(users_table.c.position, TIMELESS, events_table.c.timestamp, events_table.c.position)
    .execution_options(yield_per=CHUNK)
)
USER_ATTRIBUTES = sa.select(users_table.c.attributes).where(
    users_table.c.dataset == sa.bindparam("dataset"), users_table.c.user_id == sa.bindparam("user_id")
)
