"""Changes that other servers made to a shared store, brought into this one: added items, deleted users."""

import asyncio
import functools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import GenrecError, RunError, UnavailableError
from .errors import ApiError

if TYPE_CHECKING:
    from ..recommender import Recommender
    from .service import Service

POLL = 1.0  # seconds between looks at the store
SILENT = 10.0  # seconds without an answer after which the store counts as away
BATCH = 2_000  # added items that one job applies
logger = logging.getLogger("genrec.serving")


@dataclass(frozen=True)
class Changes:
    """Changes of the store: how many users were deleted so far, and per data set the items (revision, id, attributes)
    added since the last look."""

    deletions: int
    added: dict[str, list[tuple[int, str, dict[str, Any]]]]

    def batches(self) -> "list[Changes]":
        """The same in batches of at most BATCH items, each of which can be applied within a job's time."""
        batches = [
            Changes(self.deletions, {name: rows[start : start + BATCH]})
            for name, rows in self.added.items()
            for start in range(0, len(rows), BATCH)
        ]
        return batches or [self]


class StoreSync:
    """Looks at the store every POLL seconds. store_is_away: whether it did not answer at the last look."""

    def __init__(self, service: "Service") -> None:
        self.service = service
        self.store_is_away = False
        self._revisions: dict[str, int] = {}
        self._deletions: int | None = None
        self._dropped = 0  # deletions after which the run's folder was brought up to date
        self._lock = asyncio.Lock()  # one sync at a time
        self._thread = ThreadPoolExecutor(1, "genrec-watch")  # apart from other threads, which may all hang

    async def watch(self) -> None:
        """Sync every POLL seconds, and have lists written that could not be written before; never ends."""
        while True:
            await asyncio.sleep(POLL)
            if not self.service.is_loaded or self.service.draining:
                continue
            try:
                await self.now()
            except ApiError:
                pass  # the queue is full: the next look comes soon
            except Exception:
                logger.exception("what others did could not be taken over")
            if not self.store_is_away:
                self.service.lists.write_soon()

    async def now(self) -> None:
        """Add the items that this server or another wrote to the store, and drop the histories in memory if a user was
        deleted; raises ApiError if the model thread takes no job."""
        async with self._lock:
            recommender = self.service.recommender
            try:
                look = asyncio.get_running_loop().run_in_executor(self._thread, self._changes, recommender)
                changes = await asyncio.wait_for(look, SILENT)
            except (UnavailableError, RunError, TimeoutError) as error:
                if not self.store_is_away:
                    logger.warning("%s", error or f"the database has said nothing for {SILENT:g} seconds")
                self.store_is_away = True
                return
            self.store_is_away = False
            for batch in changes.batches() if changes else ():
                await self.service.ask(functools.partial(self._apply, changes=batch))
            if (deletions := self._deletions or 0) != self._dropped:
                await asyncio.to_thread(recommender.records.drop_deleted)
                self._dropped = deletions

    def catch_up(self, recommender: "Recommender") -> None:
        """Sync a run that is being loaded, which answers nobody yet."""
        if changes := self._changes(recommender):
            self._apply(recommender, changes)

    def _changes(self, recommender: "Recommender") -> Changes | None:
        """The changes since the last look; None if there are none."""
        deletions = recommender.records.deletions()
        added = {}
        for name in recommender.datasets:
            if rows := recommender.records.items_since(name, self._revisions.get(name, -1)):
                added[name] = rows
        return Changes(deletions, added) if added or deletions != self._deletions else None

    def _apply(self, recommender: "Recommender", changes: Changes) -> None:
        """Apply changes; in the model thread."""
        if changes.deletions != self._deletions:
            self._deletions = changes.deletions
            recommender.forget_histories()
        for name, rows in changes.added.items():
            add_fitting(recommender, name, [{"item_id": i, **attributes} for _, i, attributes in rows])
            self._revisions[name] = rows[-1][0]
            self.service.reader.renew(name, recommender.catalogue(name))
            self.service.metrics.items.labels(name).set(recommender.catalogue(name).height)


def add_fitting(recommender: "Recommender", dataset: str, items: Sequence[dict[str, Any]]) -> None:
    """Add items to the catalogue, except those that this run's catalogue cannot take: the log names them."""
    try:
        recommender.add_items(items, dataset)
    except GenrecError as error:
        if len(items) == 1:
            logger.warning("an added item of %s is left out: %s", dataset, error)
            return
        half = len(items) // 2
        add_fitting(recommender, dataset, items[:half])
        add_fitting(recommender, dataset, items[half:])
