"""Lists that were given, on their way to the store."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from ..errors import RunError, UnavailableError
from .errors import ApiError

if TYPE_CHECKING:
    from ..recommender.records import ShownList
    from .service import Service

CAPACITY = 10_000  # lists that wait for a store which does not answer; the oldest are dropped then
logger = logging.getLogger("genrec.serving")


class ListLog:
    """Writes lists to the store behind the answers; lists that come while a write is under way are written together."""

    def __init__(self, service: "Service") -> None:
        self.service = service
        self._unwritten: list[ShownList] = []
        self._writer: asyncio.Future[None] | None = None
        self._deleted: dict[str, float] = {}  # users, and until when lists of theirs may still be under way

    def add(self, entry: "ShownList") -> None:
        """Note a list that was given, unless it is a deleted user's."""
        if entry.user_id is not None and self._deleted.get(entry.user_id, 0.0) > time.monotonic():
            return
        self._unwritten.append(entry)
        self.write_soon()

    def forget(self, user: str) -> None:
        """Drop the lists of a user that are not in the store yet, and those that are still being made."""
        now = time.monotonic()
        self._deleted = {u: until for u, until in self._deleted.items() if until > now}
        self._deleted[user] = now + self.service.config.timeout
        self._unwritten = [entry for entry in self._unwritten if entry.user_id != user]

    async def flush(self) -> None:
        """Wait until the lists are in the store, or cannot be written for now."""
        if self._writer is not None:
            await self._writer

    def write_soon(self) -> None:
        """Begin to write, unless a write is under way."""
        if self._unwritten and (self._writer is None or self._writer.done()):
            self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        """Write the lists; those that cannot be written for now are kept for another try."""
        while self._unwritten:
            lists, self._unwritten = self._unwritten, []
            try:
                await self.service.store_call(lambda recommender, lists=lists: recommender.records.add_lists(lists))  # type: ignore[misc]
            except (ApiError, UnavailableError, RunError):
                self._unwritten = [*lists, *self._unwritten]
                if (dropped := len(self._unwritten) - CAPACITY) > 0:
                    logger.warning("the store does not answer: %d lists that were given are not remembered", dropped)
                    del self._unwritten[:dropped]
                return
            except Exception:
                logger.exception("%d lists that were given cannot be remembered", len(lists))
