"""A run's users and events in a database: a private SQLite file by default, PostgreSQL by URL."""

from .connect import copy_store, create_store, fetch_store, open_store, shared_store
from .engine import Store
from .read import (
    added_items,
    all_events,
    datasets,
    deletions,
    has_user,
    history,
    items_revision,
    known_users,
    some_users,
    summary,
    user_attributes,
    users,
    users_beside,
)
from .write import (
    Shown,
    add_events,
    add_items,
    date_events,
    delete_user,
    learn_events,
    record_events,
    record_recommendations,
)

__all__ = [
    "Shown",
    "Store",
    "add_events",
    "add_items",
    "added_items",
    "all_events",
    "copy_store",
    "create_store",
    "datasets",
    "date_events",
    "delete_user",
    "deletions",
    "fetch_store",
    "has_user",
    "history",
    "items_revision",
    "known_users",
    "learn_events",
    "open_store",
    "record_events",
    "record_recommendations",
    "shared_store",
    "some_users",
    "summary",
    "user_attributes",
    "users",
    "users_beside",
]
