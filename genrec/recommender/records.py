"""Records that a server writes to a run's store and reads from it, besides histories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import store as stores
from ..errors import DataError

if TYPE_CHECKING:
    from ..run.folder import Run
    from ..run.manifest import Manifest

ShownList = stores.Shown  # a list that was given


class Records:
    """The store of a run as servers use it; `dataset` is the name of one of its data sets. run: the run's folder, from
    which deleted users are removed too."""

    def __init__(self, store: stores.Store, run: "Run | None") -> None:
        self._store, self._run = store, run

    @property
    def kept(self) -> bool:
        """Whether what is written is kept: not by an adapter alone."""
        return not self._store.is_temporary

    def _check_kept(self, what: str) -> None:
        if not self.kept:
            raise DataError(
                f"{what} are not recorded: an adapter alone has no store. Serve the folder of the run, or give the "
                "server a database with --store"
            )

    def user_attributes(self, user: str, dataset: str) -> dict[str, Any]:
        """A user's attributes; raises UnknownNameError for an unknown user."""
        return stores.user_attributes(self._store, dataset, user)

    def add_events(self, events: Sequence[Mapping[str, Any]], dataset: str) -> list[str]:
        """Write events; for each `recorded`, or `duplicate` if its user has its event_id already. Raises DataError for
        an adapter alone, which has no store."""
        self._check_kept("events")
        return stores.record_events(self._store, dataset, events)

    def add_lists(self, lists: Sequence[ShownList]) -> None:
        """Write lists that were given, so that events can name them."""
        stores.record_recommendations(self._store, lists)

    def add_items(self, items: Sequence[Mapping[str, Any]], dataset: str) -> list[str]:
        """Write items, which every server on the store adds to its catalogue; for each `added` or `updated`. Raises
        DataError for an adapter alone, which has no store."""
        self._check_kept("items")
        return stores.add_items(self._store, dataset, items)

    def items_since(self, dataset: str, revision: int) -> list[tuple[int, str, dict[str, Any]]]:
        """Revision, item_id and attributes of the items written after a revision, the oldest first."""
        if stores.items_revision(self._store, dataset) == revision:
            return []
        return stores.added_items(self._store, dataset, revision)

    def delete_user(self, user: str) -> dict[str, int]:
        """Delete a user for good, from the store and the run's folder; the number of rows by table of the store."""
        from ..run.saved import delete_from_folder

        rows = stores.delete_user(self._store, user)
        if self._run is not None and not self._run.is_adapter:
            delete_from_folder(self._run, user)
        return rows

    def drop_deleted(self) -> None:
        """Remove the users from the run's folder whom others deleted from the store."""
        from ..run.saved import drop_deleted

        if self._run is not None and not self._run.is_adapter:
            drop_deleted(self._run, self._store)

    def deletions(self) -> int:
        """How often users were deleted."""
        return stores.deletions(self._store)

    def summary(self, dataset: str) -> dict[str, Any]:
        """Counts of a data set: users, events, lists, and the lists that an event followed."""
        return stores.summary(self._store, dataset)

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def store_of(run: "Run", manifest: "Manifest", url: str | None) -> stores.Store:
    """A run's store; of an adapter alone an empty one; or the one at a URL, which servers share."""
    path = run.store
    if run.is_adapter:
        empty = stores.temporary_store(manifest.vocabulary.datasets)
        if url is None:
            return empty
        path = Path(str(empty.engine.url.database))
    return stores.open_store(path) if url is None else stores.shared_store(path, url)
