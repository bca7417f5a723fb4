"""A run that answers many callers: loaded in the background, asked through one model thread and a bounded queue."""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import __version__
from ..turns import QueueFullError
from .config import ServeConfig
from .errors import (
    ClientGoneError,
    deadline_passed,
    invalid,
    model_loading,
    queue_full,
    shutting_down,
    store_away,
)
from .list_log import ListLog
from .metrics import Metrics
from .store_sync import StoreSync

if TYPE_CHECKING:
    from ..ask.reader import Reader
    from ..recommender import Recommender
    from ..scoring.scheduler import Scheduler

T = TypeVar("T")
Disconnected = Callable[[], Coroutine[Any, Any, None]]  # its coroutine completes when the client disconnects
TextCallback = Callable[[str], None]
STUCK = 60.0  # seconds that one pass may take before the model counts as hung


@dataclass(frozen=True)
class Done(Generic[T]):
    """The end of a stream, and what its job returned."""

    result: T


@dataclass(frozen=True)
class Stream(Generic[T]):
    """The texts of a job; cancel: drops the job, even if nothing was read yet."""

    pieces: AsyncIterator[str | Done[T]]
    cancel: Callable[[], object]


@dataclass
class Service:
    """The run behind every endpoint: how it is asked, and in what state it is.

    Everything that touches the model runs as a job of the model thread (`ask`, `stream`); what only touches the store
    runs in threads of its own (`store_call`). lists: those that were given, on their way to the store; sync: brings
    over what other servers wrote to it.
    """

    config: ServeConfig

    def __post_init__(self) -> None:
        from ..run.opened import run_name

        self.metrics = Metrics()
        self.name = self.config.name or run_name(self.config.run)
        self.started = int(time.time())
        self.draining = False
        self.failure: BaseException | None = None  # why the run could not be loaded
        self.on_failure: Callable[[], None] = lambda: None
        self.lists = ListLog(self)
        self.sync = StoreSync(self)
        self._recommender: Recommender | None = None
        self._scheduler: Scheduler | None = None
        self._reader: Reader | None = None
        self._bodies: set[asyncio.Timeout] = set()  # of requests whose bodies are not complete

    # --- life -----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the run and start the model thread; raises what loading raises."""
        from ..ask.answer import reader_of
        from ..recommender import Recommender

        config = self.config
        recommender = Recommender.load(
            config.run,
            quantize=config.quantize,
            allow_mismatch=config.allow_backbone_mismatch,
            model=config.model,
            store=config.store,
        )
        scheduler = recommender.scheduler(config.queue, config.prefix_mib * 2**20)
        self._recommender, self._reader = recommender, reader_of(recommender, config.language)
        self.sync.catch_up(recommender)
        for name in recommender.datasets:
            self.metrics.items.labels(name).set(recommender.catalogue(name).height)
        self.metrics.model.labels(self.name, recommender.backbone_name, __version__).set(1)
        scheduler.start()
        self._scheduler = scheduler

    def load_in_background(self) -> None:
        """Load in a thread; until then `ask` raises 503. A failure is noted, and `on_failure` called."""

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
            self._recommender.records.close()

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
        """The version and the hash of the run, on which the answers depend."""
        return f"genrec-{__version__}-{self.recommender.fingerprint[:12]}"

    @property
    def reader(self) -> "Reader":
        """Reads sentences about the run."""
        if self._reader is None:
            raise model_loading(self.failure)
        return self._reader

    @property
    def not_ready(self) -> str | None:
        """Why the server cannot answer now; None if it can."""
        if self.failure is not None or self._scheduler is None:
            return model_loading(self.failure).message
        if self.draining:
            return "the server is shutting down"
        if self.sync.store_is_away:
            return store_away().message
        since = self._scheduler.since
        if since is not None and time.monotonic() - since > STUCK:
            return f"the model has not answered for {time.monotonic() - since:.0f} seconds"
        return None

    def measure(self) -> None:
        """Bring the gauges up to date."""
        if self._scheduler is not None and self._recommender is not None:
            counts = self._recommender.prefix_counts()
            self.metrics.queue.set(self._scheduler.depth)
            self.metrics.prefix_hits.set(counts["hits"])
            self.metrics.prefix_misses.set(counts["misses"])
            self.metrics.prefix_bytes.set(counts["bytes"])
            self.metrics.passes.set(self._scheduler.passes)
            self.metrics.rows.set(self._scheduler.read)

    @contextlib.contextmanager
    def reading(self, timeout: asyncio.Timeout) -> Iterator[None]:
        """While a body is waited for; raises TimeoutError by `timeout` if the server shuts down."""
        self._bodies.add(timeout)
        if self.draining:
            timeout.reschedule(0)
        try:
            yield
        finally:
            self._bodies.discard(timeout)

    def stop_reading(self) -> None:
        """Give up the requests whose bodies are not complete."""
        for timeout in self._bodies:
            with contextlib.suppress(RuntimeError):  # it is ending already
                timeout.reschedule(0)

    def check_lengths(self, *lists: Sequence[object] | None) -> None:
        """Raises ApiError 413 for a list of a request that is longer than --max-history."""
        limit = self.config.max_history
        for entries in lists:
            if entries is not None and len(entries) > limit:
                raise invalid(f"{len(entries):,} entries; at most {limit:,}", code="request_too_large", status=413)

    # --- asking ---------------------------------------------------------------------------------------------------

    def submit(self, work: Callable[["Recommender"], T]) -> "Future[T]":
        """Queue a job for the model thread; raises ApiError 429 if too many wait, 503 if none is taken."""
        recommender = self.recommender
        if self.draining:
            raise shutting_down()
        if self.sync.store_is_away:
            raise store_away()
        assert self._scheduler is not None
        try:
            return self._scheduler.submit(functools.partial(work, recommender), time.monotonic() + self.config.timeout)
        except QueueFullError as error:
            raise queue_full(self.config.queue) from error

    async def ask(self, work: Callable[["Recommender"], T], disconnected: Disconnected | None = None) -> T:
        """The result of a job of the model thread, which is dropped once `disconnected` completes."""
        future = self.submit(work)
        result = asyncio.ensure_future(asyncio.wrap_future(future))
        departure = asyncio.ensure_future(disconnected()) if disconnected is not None else None
        try:
            tasks: set[asyncio.Future[Any]] = {result} if departure is None else {result, departure}
            await asyncio.wait(tasks, timeout=self.config.timeout, return_when=asyncio.FIRST_COMPLETED)
            if departure is not None and departure.done() and not result.done():
                raise ClientGoneError
            if not result.done():
                raise deadline_passed(self.config.timeout)
            return result.result()
        except TimeoutError as error:
            raise deadline_passed(self.config.timeout) from error
        finally:
            for task in (result, departure):
                if task is not None and not task.done():
                    task.cancel()
            future.cancel()

    def stream(self, work: Callable[["Recommender", TextCallback], T]) -> "Stream[T]":
        """The texts that a job emits while it runs, and `Done` with its result at last. The job is queued at once, so
        that this raises as `submit` does."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def on_text(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        future = self.submit(lambda recommender: work(recommender, on_text))
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

    async def store_call(self, work: Callable[["Recommender"], T]) -> T:
        """The result of a function that asks nothing but the store, run in a thread; raises ApiError 503 while the
        store does not answer."""
        recommender = self.recommender
        if self.sync.store_is_away:
            raise store_away()
        return await asyncio.to_thread(work, recommender)
