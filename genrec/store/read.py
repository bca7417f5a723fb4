"""Read users, events and items from a store."""

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..errors import RunError, UnknownNameError
from .engine import Store, reading
from .tables import (
    ALL_COLUMNS,
    ALL_EVENTS,
    AT_ONCE,
    HISTORY_COLUMNS,
    USER_ATTRIBUTES,
    USER_EVENTS,
    events_table,
    items_table,
    meta_table,
    recommendations_table,
    users_table,
)


def datasets(store: Store) -> list[str]:
    """The names of the store's data sets, in the run's order."""
    with reading(store) as connection:
        return list(connection.execute(sa.select(meta_table.c.datasets)).scalar_one())


def users(store: Store, dataset: str) -> list[str]:
    """The user ids of a data set, by first appearance."""
    check_dataset(store, dataset)
    query = sa.select(users_table.c.user_id).where(users_table.c.dataset == dataset).order_by(users_table.c.position)
    with reading(store) as connection:
        return list(connection.execute(query).scalars())


def some_users(store: Store, dataset: str, most: int) -> list[str]:
    """The user ids that appeared first in a data set, `most` at most."""
    query = sa.select(users_table.c.user_id).where(users_table.c.dataset == dataset)
    with reading(store) as connection:
        return list(connection.execute(query.order_by(users_table.c.position).limit(most)).scalars())


def users_beside(store: Store, names: Sequence[str], user_id: str) -> list[str]:
    """The user ids of some data sets that stand beside one in alphabetical order, ten on each side."""
    in_datasets, column = users_table.c.dataset.in_(names), users_table.c.user_id
    lower = sa.select(column).where(in_datasets, column < user_id).order_by(column.desc()).limit(10)
    higher = sa.select(column).where(in_datasets, column > user_id).order_by(column).limit(10)
    with reading(store) as connection:
        return [*connection.execute(lower).scalars(), *connection.execute(higher).scalars()]


def has_user(store: Store, dataset: str, user_id: str) -> bool:
    """Whether a data set has a user."""
    query = sa.select(sa.literal(1)).where(users_table.c.dataset == dataset, users_table.c.user_id == user_id)
    with reading(store) as connection:
        return connection.execute(query).first() is not None


def known_users(store: Store, dataset: str, user_ids: Sequence[str]) -> set[str]:
    """The subset of some users that a data set has."""
    with reading(store) as connection:
        return stored_names(connection, users_table.c.user_id, dataset, user_ids)


def history(store: Store, dataset: str, user_id: str) -> pl.DataFrame:
    """A user's events, oldest first: item_id, event, rating, timestamp, basket, part; raises UnknownNameError."""
    with reading(store) as connection:
        rows = connection.execute(USER_EVENTS, {"dataset": dataset, "user_id": user_id}).all()
    if not rows:
        user_attributes(store, dataset, user_id)  # raises for an unknown user, not for one without events
    return _frame(rows, HISTORY_COLUMNS)


def user_attributes(store: Store, dataset: str, user_id: str) -> dict[str, Any]:
    """The attributes of a user; raises UnknownNameError."""
    with reading(store) as connection:
        attributes = connection.execute(USER_ATTRIBUTES, {"dataset": dataset, "user_id": user_id}).scalar_one_or_none()
    if attributes is None:
        check_dataset(store, dataset)
        raise unknown_user(store, [dataset], user_id)
    if not isinstance(attributes, dict):
        raise RunError(f"the user store is damaged: the attributes of a user are {str(attributes)[:50]!r}")
    return attributes


def all_events(store: Store, dataset: str) -> pl.DataFrame:
    """Every event of a data set, users by first appearance and their events as `history` orders them.

    Columns: user_id, item_id, event, rating, timestamp, review, basket, part (null: added after training).
    """
    check_dataset(store, dataset)
    with reading(store, slow=True) as connection:
        frames = [
            _frame(rows, ALL_COLUMNS) for rows in connection.execute(ALL_EVENTS, {"dataset": dataset}).partitions()
        ]
    return pl.concat([_frame([], ALL_COLUMNS), *frames])


def deletions(store: Store) -> int:
    """Number of deletions of users so far; if it has grown, caches of users are stale."""
    with reading(store) as connection:
        return int(connection.execute(sa.select(meta_table.c.deletions)).scalar_one())


def items_revision(store: Store, dataset: str) -> int:
    """The latest revision of `added_items`; -1 if there are none."""
    query = sa.select(sa.func.coalesce(sa.func.max(items_table.c.revision), -1)).where(items_table.c.dataset == dataset)
    with reading(store) as connection:
        return int(connection.execute(query).scalar_one())


def added_items(store: Store, dataset: str, after: int = -1) -> list[tuple[int, str, dict[str, Any]]]:
    """Revision, item_id and attributes of the items added or changed after a revision, the oldest first."""
    query = (
        sa.select(items_table.c.revision, items_table.c.item_id, items_table.c.attributes)
        .where(items_table.c.dataset == dataset, items_table.c.revision > after)
        .order_by(items_table.c.revision)
    )
    with reading(store) as connection:
        return [(int(r), i, dict(a)) for r, i, a in connection.execute(query).all()]


def summary(store: Store, dataset: str) -> dict[str, Any]:
    """Counts of a data set: rows, additions since training, and lists that an event followed."""
    check_dataset(store, dataset)
    in_dataset, of_dataset = events_table.c.dataset == dataset, recommendations_table.c.dataset == dataset
    count = sa.func.count()
    kind = sa.func.coalesce(
        events_table.c.event, sa.case((events_table.c.rating.is_not(None), "rating"), else_="event")
    )
    of_list = sa.select(recommendations_table.c.recommendation_id).where(of_dataset)
    followed = events_table.c.recommendation_id.in_(of_list)
    with reading(store) as connection:

        def scalar(query: sa.Select[Any]) -> int:
            return int(connection.execute(query).scalar_one())

        def counts_by(query: sa.Select[Any, int]) -> dict[str, int]:
            return {k: int(n) for k, n in connection.execute(query).all()}

        n_lists = scalar(sa.select(count).select_from(recommendations_table).where(of_dataset))
        with_event = scalar(
            sa.select(sa.func.count(sa.distinct(events_table.c.recommendation_id))).where(in_dataset, followed)
        )
        return {
            "users": scalar(sa.select(count).select_from(users_table).where(users_table.c.dataset == dataset)),
            "events": scalar(sa.select(count).select_from(events_table).where(in_dataset)),
            "items_added": scalar(sa.select(count).select_from(items_table).where(items_table.c.dataset == dataset)),
            "events_since_training": counts_by(
                sa.select(kind, count).where(in_dataset, events_table.c.part.is_(None)).group_by(kind)
            ),
            "recommendations": n_lists,
            "recommendations_by_strategy": counts_by(
                sa.select(recommendations_table.c.strategy, count)
                .where(of_dataset)
                .group_by(recommendations_table.c.strategy)
            ),
            "recommendations_followed": with_event,
            "share_followed": with_event / n_lists if n_lists else None,
            "events_of_recommendations": counts_by(sa.select(kind, count).where(in_dataset, followed).group_by(kind)),
        }


def _frame(rows: Sequence[sa.Row[Any]], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    try:
        return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:  # SQLite stores any value in any column
        raise RunError(f"the user store is damaged: {str(error).splitlines()[0]}") from error


def stored_names(connection: Connection, column: sa.Column[str], dataset: str, names: Sequence[str]) -> set[str]:
    """The subset of some names that a data set has in a column."""
    query = sa.select(column).where(column.table.c.dataset == dataset)
    stored: set[str] = set()
    for part in chunks(names):
        stored.update(connection.execute(query.where(column.in_(part))).scalars())
    return stored


def chunks(names: Sequence[str]) -> Iterable[Sequence[str]]:
    """Names in slices that one query can take as parameters."""
    return (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE))


def check_dataset(store: Store, dataset: str) -> None:
    """Raises UnknownNameError for a data set that the store lacks."""
    names = datasets(store)
    if dataset not in names:
        raise UnknownNameError("data set", dataset, names)


def unknown_user(store: Store, names: Sequence[str], user_id: str) -> UnknownNameError:
    """The error for a user whom some data sets lack, with the nearest ids in alphabetical order."""
    with reading(store) as connection:
        of_datasets = sa.select(sa.func.count()).where(users_table.c.dataset.in_(names))
        count = connection.execute(of_datasets).scalar_one()
    where = f"in {', '.join(names)} ({count} users)"
    return UnknownNameError("user", user_id, users_beside(store, names, user_id), where)
