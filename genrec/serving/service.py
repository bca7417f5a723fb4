"""A run that answers many callers: loaded in the background, asked through one model thread and a bounded queue."""

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import __version__
from .. import store as stores
from ..errors import GenrecError, RunError, UnavailableError
from .config import ServeConfig
from .errors import ApiError, ClientGoneError, deadline_passed, model_loading, queue_full, shutting_down, store_away
from .metrics import Metrics

if TYPE_CHECKING:
    from ..ask.understand import Reader
    from ..recommender import Recommender
    from ..scoring.scheduler import Scheduler

T = TypeVar("T")
POLL = 1.0  # seconds between looks at what other servers have added
SILENT = 10.0  # seconds without an answer after which the store counts as away
STUCK = 60.0  # seconds that one pass may take before the model counts as hung
TAKEN = 2_000  # added items that one job takes over
HELD = 10_000  # lists that wait for a store which does not answer; the oldest are dropped then
logger = logging.getLogger("genrec.serving")


@dataclass(frozen=True)
class Done(Generic[T]):
    """The end of a stream, and what its job returned."""

    result: T


@dataclass(frozen=True)
class Stream(Generic[T]):
    """What a job hands out; cancel: drops the job, also where nothing was read yet."""

    pieces: AsyncIterator[str | Done[T]]
    cancel: Callable[[], object]


@dataclass(frozen=True)
class News:
    """What others did to the store: how many users were deleted so far, and per data set the items added since the
    last look, with their revisions."""

    deletions: int
    added: dict[str, list[tuple[int, str, dict[str, Any]]]]

    def parts(self) -> "list[News]":
        """The same in parts of at most TAKEN items, each of which can be taken over in its time."""
        found = [
            News(self.deletions, {name: rows[start : start + TAKEN]})
            for name, rows in self.added.items()
            for start in range(0, len(rows), TAKEN)
        ]
        return found or [self]


@dataclass
class Service:
    """What every endpoint asks.

    Everything that touches the model runs as a job of the model thread (`ask`, `stream`); what only touches the store
    runs in threads of its own (`store_call`). What others do to the store is looked at every POLL seconds (`watch`).
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
        self._forgotten: dict[str, float] = {}  # users, and until when lists of theirs may still be under way
        self._revision: dict[str, int] = {}
        self._deletions: int | None = None
        self._taking = asyncio.Lock()  # one at a time takes over what others did
        self._store_away = False
        self._watcher = ThreadPoolExecutor(1, "genrec-watch")  # apart from other threads, which may all hang
        self._reading: set[asyncio.Timeout] = set()  # of bodies that are not complete

    # --- life -----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the run and start the model thread; raises what loading raises."""
        from ..ask.answer import reader_of
        from ..recommender import Recommender
        from ..scoring.scheduler import Scheduler, SharedScorer

        config = self.config
        store = stores.shared_store(Path(config.run) / "store.db", config.store) if config.store else None
        recommender = Recommender.load(
            config.run,
            quantize=config.quantize,
            allow_mismatch=config.allow_backbone_mismatch,
            model=config.model,
            store=store,
        )
        scorer = SharedScorer(
            recommender.scorer.model, recommender.scorer.counts, prefix_bytes=config.prefix_mib * 2**20
        )
        recommender.scorer = scorer
        self._recommender, self._reader = recommender, reader_of(recommender, config.language)
        if news := self._news(recommender):
            self._take_over(recommender, news)
        for name in recommender.datasets:
            self.metrics.items.labels(name).set(recommender.catalogue(name).height)
        self.metrics.model.labels(self.name, recommender.backbone_name, __version__).set(1)
        scheduler = Scheduler(scorer, config.queue, config.batching)
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
        if self.failure is not None or self._scheduler is None:
            return model_loading(self.failure).message
        if self.draining:
            return "the server is shutting down"
        if self._store_away:
            return store_away().message
        since = self._scheduler.since
        if since is not None and time.monotonic() - since > STUCK:
            return f"the model has not answered for {time.monotonic() - since:.0f} seconds"
        return None

    def measure(self) -> None:
        """Bring the gauges up to date."""
        if self._scheduler is not None and self._recommender is not None:
            prefixes = self._recommender.scorer.prefixes
            self.metrics.queue.set(self._scheduler.depth)
            self.metrics.prefix_hits.set(prefixes.hits)
            self.metrics.prefix_misses.set(prefixes.misses)
            self.metrics.prefix_bytes.set(prefixes.size)
            self.metrics.passes.set(self._scheduler.passes)
            self.metrics.rows.set(self._scheduler.read)

    @contextlib.contextmanager
    def reading(self, waiting: asyncio.Timeout) -> Iterator[None]:
        """While a body is waited for; raises TimeoutError by `waiting` where the server shuts down."""
        self._reading.add(waiting)
        if self.draining:
            waiting.reschedule(0)
        try:
            yield
        finally:
            self._reading.discard(waiting)

    def stop_reading(self) -> None:
        """Give up the requests whose bodies are not complete."""
        for waiting in self._reading:
            with contextlib.suppress(RuntimeError):  # it is ending already
                waiting.reschedule(0)

    # --- asking ---------------------------------------------------------------------------------------------------

    def submit(self, work: Callable[["Recommender"], T]) -> "Future[T]":
        """Queue a job for the model thread; raises ApiError 429 where too many wait, 503 where none is taken."""
        from ..scoring.scheduler import QueueFullError

        recommender = self.recommender
        if self.draining:
            raise shutting_down()
        if self._store_away:
            raise store_away()
        assert self._scheduler is not None
        try:
            return self._scheduler.submit(functools.partial(work, recommender), time.monotonic() + self.config.timeout)
        except QueueFullError as error:
            raise queue_full(self.config.queue) from error

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

    def stream(self, work: Callable[["Recommender", Callable[[str], None]], T]) -> "Stream[T]":
        """The pieces of text that a job hands out while it runs, and `Done` with what it returns at last. The job is
        queued at once, so that this raises what `submit` does."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def hand(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        future = self.submit(lambda recommender: work(recommender, hand))
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(pieces.put_nowait, None))
        return Stream(self._pieces(future, pieces), future.cancel)

    async def _pieces(self, future: "Future[T]", pieces: "asyncio.Queue[str | None]") -> AsyncIterator["str | Done[T]"]:
        loop = asyncio.get_running_loop()
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
        if self._store_away:
            raise store_away()
        return await asyncio.to_thread(work, store)

    # --- lists that were given ------------------------------------------------------------------------------------

    def remember(self, shown: stores.Shown) -> None:
        """Note a list that was given; what is noted while a write is under way goes into the next one together."""
        if shown.user_id is not None and self._forgotten.get(shown.user_id, 0.0) > time.monotonic():
            return
        self._shown.append(shown)
        self._write_soon()

    def forget(self, user: str) -> None:
        """Drop the lists of a user that are not in the store yet, and those that are still being made."""
        now = time.monotonic()
        self._forgotten = {u: until for u, until in self._forgotten.items() if until > now}
        self._forgotten[user] = now + self.config.timeout
        self._shown = [shown for shown in self._shown if shown.user_id != user]

    async def written(self) -> None:
        """Wait until what was noted is in the store, or cannot be written for now."""
        if self._writing is not None:
            await self._writing

    def _write_soon(self) -> None:
        if self._shown and (self._writing is None or self._writing.done()):
            self._writing = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        """Write what was noted; what cannot be written for now is kept for `watch` to try again."""
        while self._shown:
            lists, self._shown = self._shown, []
            try:
                await self.store_call(lambda store, lists=lists: stores.record_recommendations(store, lists))  # type: ignore[misc]
            except (ApiError, UnavailableError, RunError):
                self._shown = [*lists, *self._shown]
                if (dropped := len(self._shown) - HELD) > 0:
                    logger.warning("the store does not answer: %d lists that were given are not remembered", dropped)
                    del self._shown[:dropped]
                return
            except Exception:
                logger.exception("%d lists that were given cannot be remembered", len(lists))

    # --- what others do -------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look at what others do, whether the store answers, and write what could not be written; never ends."""
        while True:
            await asyncio.sleep(POLL)
            if self._scheduler is None or self.draining:
                continue
            try:
                await self.take_over()
            except ApiError:
                pass  # the queue is full: the next look comes soon
            except Exception:
                logger.exception("what others did could not be taken over")
            if not self._store_away:
                self._write_soon()

    async def take_over(self) -> None:
        """Take over the items that this server or another has added to the store, and forget what is kept of users
        where one was deleted; raises ApiError where the model thread takes no job."""
        async with self._taking:
            recommender = self.recommender
            try:
                looking = asyncio.get_running_loop().run_in_executor(self._watcher, self._news, recommender)
                news = await asyncio.wait_for(looking, SILENT)
            except (UnavailableError, RunError, TimeoutError) as error:
                if not self._store_away:
                    logger.warning("%s", error or f"the database has said nothing for {SILENT:g} seconds")
                self._store_away = True
                return
            self._store_away = False
            for part in news.parts() if news else ():
                await self.ask(functools.partial(self._take_over, news=part))

    def _news(self, recommender: "Recommender") -> News | None:
        """What others did since the last look; None for nothing."""
        store = recommender.store
        deletions = stores.deletions(store)
        added = {}
        for name in recommender.datasets:
            known = self._revision.get(name, -1)
            if stores.items_revision(store, name) != known and (rows := stores.added_items(store, name, known)):
                added[name] = rows
        return News(deletions, added) if added or deletions != self._deletions else None

    def _take_over(self, recommender: "Recommender", news: News) -> None:
        """What `take_over` does in the model thread."""
        if news.deletions != self._deletions:
            self._deletions = news.deletions
            recommender.scorer.prefixes.clear()
        for name, rows in news.added.items():
            add_fitting(recommender, name, [{"item_id": i, **a} for _, i, a in rows])
            self._revision[name] = rows[-1][0]
            self.reader.renew(name, recommender.catalogue(name))
            self.metrics.items.labels(name).set(recommender.catalogue(name).height)


def add_fitting(recommender: "Recommender", dataset: str, items: Sequence[dict[str, Any]]) -> None:
    """Add items to the catalogue, but for those that this run's catalogue cannot take: the log names them."""
    try:
        recommender.add_items(items, dataset)
    except GenrecError as error:
        if len(items) == 1:
            logger.warning("an added item of %s is left out: %s", dataset, error)
            return
        half = len(items) // 2
        add_fitting(recommender, dataset, items[:half])
        add_fitting(recommender, dataset, items[half:])
