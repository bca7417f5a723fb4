"""Many jobs in one thread: what they ask of the engine at the same time goes through the model together."""

import ctypes
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from greenlet import getcurrent, greenlet
from torch import Tensor

from ..tasks.rows import Row
from .engine import FEW, Engine, Ranking, States

BATCH_TOKENS = 2_048  # read at a time: what waits longest is not kept waiting by much more than itself
TRIMMED = 500  # passes after which memory that was freed goes back to the system
ACTIVE = 64  # jobs under way at a time; the others wait in the queue


class SharedEngine(Engine):
    """An Engine for the jobs of a Scheduler; outside of one it is a plain Engine."""

    def states(self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None) -> States:
        """As Engine.states; a job waits here while others are read along."""
        if not in_job() or not 0 < len(rows) <= FEW or not self.remembers:
            return super().states(rows, progress)
        return wait(Read(rows))

    def rank(
        self,
        states: States,
        dataset: str,
        k: int,
        closed: Sequence[np.ndarray],
        allowed: np.ndarray | None = None,
        temperature: float = 1.0,
        histories: Sequence[np.ndarray] | None = None,
        question: str = "next_item",
    ) -> list[Ranking]:
        """As Engine.rank; a job waits here while others are ranked along."""
        if not in_job() or allowed is not None or histories is None or not len(states):
            return super().rank(states, dataset, k, closed, allowed, temperature, histories, question)
        return wait(Rank((dataset, temperature, question), states, k, closed, histories))


@dataclass(frozen=True, eq=False)
class Read:
    """Rows to read."""

    rows: Sequence[Row]


@dataclass(frozen=True, eq=False)
class Rank:
    """States to rank the whole catalogue for; calls of one `key` (data set, temperature, question) go together."""

    key: tuple[str, float, str]
    states: Tensor
    k: int
    closed: Sequence[np.ndarray]
    histories: Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class Pause:
    """A job that goes on by itself and lets others in between."""


class StoppedError(BaseException):
    """Raised inside a job that nobody waits for any more."""


@dataclass(eq=False)
class Job:
    """A function to run, until when (time.monotonic), and where its result goes."""

    work: Callable[[], Any]
    deadline: float
    result: "Future[Any]" = field(default_factory=Future)


def in_job() -> bool:
    """Whether this runs inside a job of a Scheduler."""
    return isinstance(getcurrent(), JobGreenlet)


def wait(call: Read | Rank | Pause) -> Any:
    """Hand a call to the scheduler, let others run, and return what came of it."""
    return getcurrent().parent.switch(call)


def pause() -> None:
    """Let other jobs run; raises StoppedError where nobody waits for this one any more."""
    if in_job():
        wait(Pause())


def trim() -> None:
    """Give freed memory back: glibc keeps what lies between pieces still in use, and batches are of many sizes."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if give_back is not None:
        give_back(0)


class JobGreenlet(greenlet):  # type: ignore[misc]
    """A job under way."""

    job: Job


class QueueFullError(Exception):
    """So many jobs wait that no other is taken."""


class Scheduler:
    """Runs jobs in one thread, the oldest first; reads and lists that several want are made in one pass.

    Nothing a job does outside the engine is interrupted by another. limit: jobs waiting or under way, beyond which
    `submit` raises QueueFullError. together: False makes every pass for one job alone, to measure what batching brings.
    """

    def __init__(self, engine: SharedEngine, limit: int, together: bool = True) -> None:
        self.engine, self.limit, self.together = engine, limit, together
        self.since: float | None = None  # when the pass or the step that is under way began
        self.passes = self.read = 0  # passes made, and rows read in them
        self._waiting: deque[Job] = deque()
        self._active: OrderedDict[JobGreenlet, Read | Rank | Pause] = OrderedDict()
        self._count = 0
        self._change = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._loop, name="genrec-model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Callable[[], Any], deadline: float) -> "Future[Any]":
        """Queue a job. Cancelling its future before its end drops it at the next pass; after `deadline`
        (time.monotonic) it is dropped with a TimeoutError."""
        with self._change:
            if self._ending:
                raise RuntimeError("the scheduler has ended")
            if self._count >= self.limit:
                raise QueueFullError
            self._count += 1
            job = Job(work, deadline)
            self._waiting.append(job)
            self._change.notify()
        return job.result

    @property
    def depth(self) -> int:
        """Jobs waiting or under way."""
        return self._count

    def end(self, timeout: float) -> bool:
        """Take no more jobs and wait for those that there are, for at most `timeout` seconds; whether all ended."""
        with self._change:
            self._ending = True
            self._change.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        torch.set_grad_enabled(False)
        while True:
            with self._change:
                self.since = None
                while not self._waiting and not self._active and not self._ending:
                    self._change.wait()
                if self._ending and not self._waiting and not self._active:
                    return
                room = (ACTIVE if self.together else 1) - len(self._active)
                begun = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
                self.since = time.monotonic()
            for job in begun:
                one = JobGreenlet(self._run)
                one.job = job
                if job.result.cancelled() or time.monotonic() > job.deadline:
                    self._finish(job, TimeoutError())
                else:
                    self._resume(one, job)
            self._drop()
            self._pass()

    def _run(self, job: Job) -> None:
        try:
            result = job.work()
        except StoppedError:
            self._finish(job, TimeoutError())
        except BaseException as error:  # whatever it is belongs to who asked
            self._finish(job, error)
        else:
            self._finish(job, None, result)

    def _finish(self, job: Job, error: BaseException | None, result: Any = None) -> None:
        with self._change:
            self._count -= 1
        try:
            if error is not None:
                job.result.set_exception(error)
            else:
                job.result.set_result(result)
        except InvalidStateError:
            pass  # cancelled

    def _resume(self, one: JobGreenlet, value: Any) -> None:
        """Run a job up to what it asks next."""
        self.since = time.monotonic()
        call = one.switch(value)
        if not one.dead:
            self._active[one] = call

    def _throw(self, one: JobGreenlet, error: BaseException) -> None:
        self._active.pop(one, None)
        call = one.throw(error)
        if not one.dead:
            self._active[one] = call

    def _drop(self) -> None:
        """End the jobs that nobody waits for, or not any longer."""
        now = time.monotonic()
        for one in list(self._active):
            if one.job.result.cancelled() or now > one.job.deadline:
                self._throw(one, StoppedError())

    def _pass(self) -> None:
        """Make one list or one pass for those that wait longest for it and all that fit beside them, and let those
        that only paused go on."""
        ranks = [one for one, call in self._active.items() if isinstance(call, Rank)]
        reads = [one for one, call in self._active.items() if isinstance(call, Read)]
        paused = [one for one, call in self._active.items() if isinstance(call, Pause)]
        if ranks:
            key = self._active[ranks[0]].key  # type: ignore[union-attr]
            self._together([one for one in ranks if self._active[one].key == key], self._rank)  # type: ignore[union-attr]
        elif reads:
            taken: list[JobGreenlet] = []
            tokens = 0
            for one in reads:
                own = sum(self.engine.unread(row) for row in self._active[one].rows)  # type: ignore[union-attr,misc]
                if taken and (tokens + own > BATCH_TOKENS or not self.together):
                    break
                taken.append(one)
                tokens += own
            self._together(taken, self._read)
        for one in paused:
            del self._active[one]
            self._resume(one, None)

    def _together(self, members: list[JobGreenlet], make: Callable[[list[Any]], list[Any]]) -> None:
        """Make what several jobs ask, and give each its part; what fails for all is made for each alone, so that one
        job's fault is its own."""
        calls = [self._active[one] for one in members]
        self.since = time.monotonic()
        try:
            parts: list[Any] = make(calls)
        except Exception as error:
            if len(members) == 1:
                self._throw(members[0], error)
                return
            for one in members:
                self._together([one], make)
            return
        for one, part in zip(members, parts, strict=True):
            del self._active[one]
            self._resume(one, part)

    def _read(self, calls: list[Read]) -> list[States]:
        rows = [row for call in calls for row in call.rows]
        self.passes += 1
        if self.passes % TRIMMED == 0:
            trim()
        self.read += len(rows)
        states = self.engine.read_on(rows)
        counts = [sum(len(row.target_at) for row in call.rows) for call in calls]
        return list(states.split(counts))

    def _rank(self, calls: list[Rank]) -> list[list[Ranking]]:
        dataset, temperature, question = calls[0].key
        found = Engine.rank(
            self.engine,
            torch.cat([call.states for call in calls]),
            dataset,
            max(call.k for call in calls),
            [closed for call in calls for closed in call.closed],
            None,
            temperature,
            [history for call in calls for history in call.histories],
            question,
        )
        parts, start = [], 0
        for call in calls:
            own = found[start : start + len(call.states)]
            start += len(own)
            parts.append([Ranking(r.index[: call.k], r.score[: call.k], r.probability[: call.k]) for r in own])
        return parts
