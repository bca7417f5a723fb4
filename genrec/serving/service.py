"""A run that answers many callers: loaded in the background, asked through one model thread and a bounded queue."""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import __version__
from ..data import store as stores
from ..errors import GenrecError
from .config import ServeConfig
from .errors import ApiError, ClientGoneError, deadline_passed, model_loading, queue_full, shutting_down
from .metrics import Metrics

if TYPE_CHECKING:
    from ..ask.understand import Reader
    from ..inference.scheduler import Scheduler
    from ..recommender import Recommender

T = TypeVar("T")
POLL = 1.0  # seconds between looks at what other servers have added
STUCK = 60.0  # seconds that one pass may take before the model counts as hung
logger = logging.getLogger("genrec.serving")


@dataclass(frozen=True)
class Done(Generic[T]):
    """The end of a stream, and what its job returned."""

    result: T


@dataclass
class Service:
    """What every endpoint asks.

    Everything that touches the model runs as a job of the model thread (`ask`, `stream`); what only touches the store
    runs in threads of its own (`store_call`).
    """

    config: ServeConfig

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.name = self.config.name or Path(self.config.run).resolve().name
        self.started = int(time.time())
        self.draining = False
        self.failure: BaseException | None = None  # why the run could not be loaded
        self.on_failure: Callable[[], None] = lambda: None
        self._recommender: Recommender | None = None
        self._scheduler: Scheduler | None = None
        self._reader: Reader | None = None
        self._shown: list[stores.Shown] = []  # lists that are not in the store yet
        self._writing: asyncio.Future[None] | None = None
        self._revision: dict[str, int] = {}
        self._deletions: int | None = None
        self._looked = 0.0  # when the store was last looked at for what others did

    # --- life -----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the run and start the model thread; raises what loading raises."""
        from ..ask.answer import reader_of
        from ..inference.scheduler import Scheduler, SharedEngine
        from ..recommender import Recommender

        config = self.config
        store = stores.shared_store(Path(config.run) / "store.db", config.store) if config.store else None
        recommender = Recommender.load(
            config.run,
            quantize=config.quantize,
            allow_mismatch=config.allow_backbone_mismatch,
            model=config.model,
            store=store,
        )
        engine = SharedEngine(recommender.engine.model, prefix_bytes=config.prefix_mib * 2**20)
        recommender.engine = engine
        self._recommender, self._reader = recommender, reader_of(recommender, config.language)
        self._look_at_store(recommender)
        for name in recommender.datasets:
            self.metrics.items.labels(name).set(recommender.catalogue(name).height)
        self.metrics.model.labels(self.name, recommender.backbone_name, __version__).set(1)
        scheduler = Scheduler(engine, config.queue, config.batching)
        scheduler.start()
        self._scheduler = scheduler

    def load_in_background(self) -> None:
        """Load in a thread; until then `ask` raises 503. A failure is kept, and `on_failure` called."""

        def work() -> None:
            try:
                self.load()
            except BaseException as error:
                self.failure = error
                self.on_failure()

        threading.Thread(target=work, name="genrec-load", daemon=True).start()

    def close(self) -> None:
        """End the model thread once its jobs have ended, or --drain seconds have passed, and close the store."""
        self.draining = True
        if self._scheduler is not None:
            self._scheduler.end(self.config.drain)
        if self._recommender is not None:
            self._recommender.store.close()

    # --- state ----------------------------------------------------------------------------------------------------

    @property
    def recommender(self) -> "Recommender":
        """The run; raises ApiError 503 until it is loaded. Its model only answers inside of `ask`."""
        if self._recommender is None or self._scheduler is None:
            raise model_loading(self.failure)
        return self._recommender

    @property
    def is_loaded(self) -> bool:
        """Whether the run is there."""
        return self._scheduler is not None

    @property
    def fingerprint(self) -> str:
        """What the answers depend on."""
        return f"genrec-{__version__}-{self.recommender.fingerprint[:12]}"

    @property
    def reader(self) -> "Reader":
        """Reads sentences about the run."""
        if self._reader is None:
            raise model_loading(self.failure)
        return self._reader

    @property
    def not_ready(self) -> str | None:
        """Why the server cannot answer now; None where it can."""
        if self.failure is not None:
            return f"the run could not be loaded: {self.failure}"
        if self._scheduler is None:
            return "the run is being loaded"
        if self.draining:
            return "the server is shutting down"
        since = self._scheduler.since
        if since is not None and time.monotonic() - since > STUCK:
            return f"the model has not answered for {time.monotonic() - since:.0f} seconds"
        return None

    def measure(self) -> None:
        """Bring the gauges up to date."""
        if self._scheduler is not None and self._recommender is not None:
            prefixes = self._recommender.engine.prefixes
            self.metrics.queue.set(self._scheduler.depth)
            self.metrics.prefix_hits.set(prefixes.hits)
            self.metrics.prefix_misses.set(prefixes.misses)
            self.metrics.prefix_bytes.set(prefixes.size)
            self.metrics.passes.set(self._scheduler.passes)
            self.metrics.rows.set(self._scheduler.read)

    # --- asking ---------------------------------------------------------------------------------------------------

    def submit(self, work: Callable[["Recommender"], T]) -> "Future[T]":
        """Queue a job for the model thread; raises ApiError 429 where too many wait, 503 where none is taken."""
        from ..inference.scheduler import QueueFullError

        recommender = self.recommender
        if self.draining:
            raise shutting_down()
        assert self._scheduler is not None
        try:
            return self._scheduler.submit(
                functools.partial(self._job, work, recommender), time.monotonic() + self.config.timeout
            )
        except QueueFullError as error:
            raise queue_full(self.config.queue) from error

    def _job(self, work: Callable[["Recommender"], T], recommender: "Recommender") -> T:
        self._look_at_store(recommender)
        return work(recommender)

    async def ask(self, work: Callable[["Recommender"], T], gone: Coroutine[Any, Any, None] | None = None) -> T:
        """What a job of the model thread returns. gone: ends when the caller has left, which drops the job."""
        try:
            future = self.submit(work)
        except ApiError:
            if gone is not None:
                gone.close()
            raise
        waiting = asyncio.ensure_future(asyncio.wrap_future(future))
        left = asyncio.ensure_future(gone) if gone is not None else None
        try:
            tasks: set[asyncio.Future[Any]] = {waiting} if left is None else {waiting, left}
            await asyncio.wait(tasks, timeout=self.config.timeout, return_when=asyncio.FIRST_COMPLETED)
            if left is not None and left.done() and not waiting.done():
                raise ClientGoneError
            if not waiting.done():
                raise deadline_passed(self.config.timeout)
            return waiting.result()
        except TimeoutError as error:
            raise deadline_passed(self.config.timeout) from error
        finally:
            for task in (waiting, left):
                if task is not None and not task.done():
                    task.cancel()
            future.cancel()

    async def stream(self, work: Callable[["Recommender", Callable[[str], None]], T]) -> AsyncIterator["str | Done[T]"]:
        """The pieces of text that a job hands out while it runs, and `Done` with what it returns at last. Closing the
        iterator drops the job."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def hand(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        future = self.submit(lambda recommender: work(recommender, hand))
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(pieces.put_nowait, None))
        try:
            end = loop.time() + self.config.timeout
            while (piece := await asyncio.wait_for(pieces.get(), end - loop.time())) is not None:
                yield piece
            yield Done(future.result())
        except (TimeoutError, CancelledError) as error:
            raise deadline_passed(self.config.timeout) from error
        finally:
            future.cancel()

    async def store_call(self, work: Callable[[stores.Store], T]) -> T:
        """What a function of the store returns, run in a thread."""
        store = self.recommender.store
        return await asyncio.to_thread(work, store)

    def remember(self, shown: stores.Shown) -> None:
        """Note a list that was given; what is noted while a write is under way goes into the next one together."""
        self._shown.append(shown)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while self._shown:
            lists, self._shown = self._shown, []
            await self.store_call(lambda store, lists=lists: stores.record_recommendations(store, lists))  # type: ignore[misc]

    async def written(self) -> None:
        """Wait until what was noted is in the store."""
        if self._writing is not None:
            await self._writing

    # --- what others do -------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look at what others do also while nobody asks; never ends."""
        while True:
            await asyncio.sleep(POLL)
            if self._scheduler is not None and self._scheduler.depth == 0 and not self.draining:
                self.submit(lambda _: None)

    def items_changed(self) -> None:
        """The next job must look for added items."""
        self._looked = 0.0

    def _look_at_store(self, recommender: "Recommender") -> None:
        """Take over the items that this server or another has added to the store, and forget what is kept of users
        where one was deleted; in the model thread."""
        if time.monotonic() - self._looked < POLL:
            return
        self._looked = time.monotonic()
        if (deletions := stores.deletions(recommender.store)) != self._deletions:
            self._deletions = deletions
            recommender.engine.prefixes.clear()
        for name in recommender.datasets:
            known = self._revision.get(name, -1)
            if stores.items_revision(recommender.store, name) == known:
                continue
            rows = stores.added_items(recommender.store, name, known)
            self._revision[name] = rows[-1][0]
            for items in self._fitting(recommender, name, rows):
                recommender.add_items(items, name)
            self.reader.renew(name, recommender.catalogue(name))
            self.metrics.items.labels(name).set(recommender.catalogue(name).height)

    def _fitting(
        self, recommender: "Recommender", dataset: str, rows: Sequence[tuple[int, str, dict[str, Any]]]
    ) -> list[list[dict[str, Any]]]:
        """Added items that this run's catalogue can take, in as few parts as can be; the log names the others."""
        items = [{"item_id": i, **a} for _, i, a in rows]
        try:
            recommender.check_items(items, dataset)
            return [items]
        except GenrecError:
            pass
        good = []
        for item in items:
            try:
                recommender.check_items([item], dataset)
                good.append([item])
            except GenrecError as error:
                logger.warning("an added item of %s is left out: %s", dataset, error)
        return good
