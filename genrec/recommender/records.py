"""Records that a server writes to a run's store and reads from it, besides histories."""

from collections.abc import Mapping, Sequence
from typing import Any

from .. import store as stores

ShownList = stores.Shown  # a list that was given


class Records:
    """The store of a run as servers use it; `dataset` is the name of one of its data sets."""

    def __init__(self, store: stores.Store) -> None:
        self._store = store

    def user_attributes(self, user: str, dataset: str) -> dict[str, Any]:
        """A user's attributes; raises UnknownNameError for an unknown user."""
        return stores.user_attributes(self._store, dataset, user)

    def add_events(self, events: Sequence[Mapping[str, Any]], dataset: str) -> list[str]:
        """Write events; for each `recorded`, or `duplicate` if its user has its event_id already."""
        return stores.record_events(self._store, dataset, events)

    def add_lists(self, lists: Sequence[ShownList]) -> None:
        """Write lists that were given, so that events can name them."""
        stores.record_recommendations(self._store, lists)

    def add_items(self, items: Sequence[Mapping[str, Any]], dataset: str) -> list[str]:
        """Write items, which every server on the store adds to its catalogue; for each `added` or `updated`."""
        return stores.add_items(self._store, dataset, items)

    def items_since(self, dataset: str, revision: int) -> list[tuple[int, str, dict[str, Any]]]:
        """Revision, item_id and attributes of the items written after a revision, the oldest first."""
        if stores.items_revision(self._store, dataset) == revision:
            return []
        return stores.added_items(self._store, dataset, revision)

    def delete_user(self, user: str) -> dict[str, int]:
        """Delete a user for good; the number of rows by table."""
        return stores.delete_user(self._store, user)

    def deletions(self) -> int:
        """How often users were deleted."""
        return stores.deletions(self._store)

    def summary(self, dataset: str) -> dict[str, Any]:
        """Counts of a data set: users, events, lists, and the lists that an event followed."""
        return stores.summary(self._store, dataset)

    def close(self) -> None:
        """Close the store."""
        self._store.close()
