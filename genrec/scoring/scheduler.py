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
from torch import Tensor

from ..rows.row import Row
from ..turns import JobGreenlet, Pause, StoppedError, in_job, pause, wait
from .engine import FEW, States
from .prefixes import LEAST
from .scorer import PARTS, Part, Ranking, Scorer

BATCH_TOKENS = 2_048  # read at a time: what waits longest is not kept waiting by much more than itself
PIECE_TOKENS = 256  # of what one job reads at a time, while others wait
EVENTS_AT_A_TIME = 4_000  # of the histories whose scores one job asks for at a time
TRIMMED = 500  # passes after which memory that was freed goes back to the system
ACTIVE = 64  # jobs under way at a time; the others wait in the queue
SLICE = 0.05  # seconds of a round after which no other job begins or goes on
AHEAD = 4  # rounds of shared passes between two turns of jobs that paused


class SharedScorer(Scorer):
    """A Scorer for the jobs of a Scheduler; outside of one it is a plain Scorer."""

    def states(self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None) -> States:
        """As Scorer.states; a job waits here while others are read along, or in turn with it where it has many rows."""
        if not in_job() or not rows:
            return super().states(rows, progress)
        few = self.remembers and (len(rows) <= FEW or one_history(rows))
        found = []
        for start, end in pieces_of([self.unread(row) if few else len(row.tokens) for row in rows], PIECE_TOKENS):
            if few:
                found.append(wait(Read(rows[start:end])))
            else:
                found.append(self.read_anew(rows[start:end]))
                pause()
        return torch.cat(found)

    def item_scores(
        self,
        states: States,
        dataset: str,
        histories: Sequence[np.ndarray],
        question: str = "next_item",
        parts: Sequence[Part] = PARTS,
    ) -> Tensor:
        """As Scorer.item_scores; a job lets others in between. Items that are added meanwhile have no scores."""
        pieces = pieces_of([1 + len(history) for history in histories], EVENTS_AT_A_TIME)
        if not in_job() or len(pieces) == 1:
            return super().item_scores(states, dataset, histories, question, parts)
        rows: list[Tensor] = []
        for start, end in pieces:
            pause()
            scores = super().item_scores(states[start:end], dataset, histories[start:end], question, parts)
            rows.append(scores[:, : rows[0].shape[1]] if rows else scores)
        return torch.cat(rows)

    def rank(
        self,
        states: States,
        dataset: str,
        k: int,
        excluded: Sequence[np.ndarray],
        histories: Sequence[np.ndarray],
        *,
        allowed: np.ndarray | None = None,
        temperature: float = 1.0,
        question: str = "next_item",
        items: int | None = None,
    ) -> list[Ranking]:
        """As Scorer.rank; a job waits here while others are ranked along."""
        if not in_job() or allowed is not None or not len(states):
            options = {"temperature": temperature, "question": question, "items": items}
            return super().rank(states, dataset, k, excluded, histories, allowed=allowed, **options)  # type: ignore[arg-type]
        return wait(Rank((dataset, temperature, question, items), states, k, excluded, histories))


@dataclass(frozen=True, eq=False)
class Read:
    """Rows to read."""

    rows: Sequence[Row]


@dataclass(frozen=True, eq=False)
class Rank:
    """States to rank the whole catalogue for; calls of one `key` (data set, temperature, question, items) go
    together."""

    key: tuple[str, float, str, int | None]
    states: Tensor
    k: int
    excluded: Sequence[np.ndarray]
    histories: Sequence[np.ndarray]


@dataclass(eq=False)
class Job:
    """A function to run, until when (time.monotonic), and where its result goes."""

    work: Callable[[], Any]
    deadline: float
    result: "Future[Any]" = field(default_factory=Future)


def one_history(rows: Sequence[Row]) -> bool:
    """Whether all rows ask about the same history, so that it need be read only once."""
    first = rows[0]
    shared = first.tokens[: first.segment.count(0)]
    return all(r.dataset == first.dataset and r.tokens[: len(shared)] == shared for r in rows) and len(shared) >= LEAST


def pieces_of(lengths: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Things of these lengths as stretches of at most `most` together, each of one at least: their starts and ends."""
    found, start, size = [], 0, 0
    for n, length in enumerate(lengths):
        if n > start and size + length > most:
            found.append((start, n))
            start, size = n, 0
        size += length
    return [*found, (start, len(lengths))]


def trim() -> None:
    """Give freed memory back: glibc keeps what lies between pieces still in use, and batches are of many sizes."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if give_back is not None:
        give_back(0)


class QueueFullError(Exception):
    """So many jobs wait that no other is taken."""


class Scheduler:
    """Runs jobs in one thread, the oldest first; reads and lists that several want are made in one pass.

    Nothing a job does outside the scorer is interrupted by another. limit: jobs waiting or under way, beyond which
    `submit` raises QueueFullError. together: False makes every pass for one job alone, to measure what batching brings.
    """

    def __init__(self, scorer: SharedScorer, limit: int, together: bool = True) -> None:
        self.scorer, self.limit, self.together = scorer, limit, together
        self.since: float | None = None  # when the pass or the step that is under way began
        self.passes = self.read = 0  # passes made, and rows read in them
        self._ahead = 0  # rounds of shared passes since a job that paused went on
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
                self.since = time.monotonic()
            self._begin()
            self._drop()
            self._pass()

    def _begin(self) -> None:
        """Begin the jobs that wait longest, while there is room and time."""
        until = time.monotonic() + SLICE
        busy = sum(1 for call in self._active.values() if not isinstance(call, Pause))
        room = (ACTIVE if self.together else 1) - busy  # who only pauses keeps nobody out
        while room > 0 and self._waiting and time.monotonic() < until:
            job = self._waiting.popleft()
            room -= 1
            if job.result.cancelled() or time.monotonic() > job.deadline:
                self._finish(job, TimeoutError())
                continue
            one = JobGreenlet(self._run)
            one.job = job
            self._resume(one, job)

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
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if job.result.cancelled() or now > job.deadline:
                self._finish(job, TimeoutError())
            else:
                self._waiting.append(job)
        for one in list(self._active):
            if one.job.result.cancelled() or now > one.job.deadline:
                self._throw(one, StoppedError())

    def _pass(self) -> None:
        """Make one list or one pass for those that wait longest for it and all that fit beside them; where there is
        none, or AHEAD were made, let those that only paused go on in turn, while there is time."""
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
                own = sum(self.scorer.unread(row) for row in self._active[one].rows)  # type: ignore[union-attr,misc]
                if taken and (tokens + own > BATCH_TOKENS or not self.together):
                    break
                taken.append(one)
                tokens += own
            self._together(taken, self._read)
        self._ahead = self._ahead + 1 if ranks or reads else AHEAD
        if not paused or self._ahead < AHEAD:
            return
        self._ahead = 0
        until = time.monotonic() + SLICE
        for one in paused:
            if self._active.pop(one, None) is not None:
                self._resume(one, None)
            if time.monotonic() > until:
                break

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
        states = self.scorer.read_on(rows)
        counts = [sum(len(row.target_at) for row in call.rows) for call in calls]
        return list(states.split(counts))

    def _rank(self, calls: list[Rank]) -> list[list[Ranking]]:
        dataset, temperature, question, items = calls[0].key
        found = Scorer.rank(
            self.scorer,
            torch.cat([call.states for call in calls]),
            dataset,
            max(call.k for call in calls),
            [index for call in calls for index in call.excluded],
            [history for call in calls for history in call.histories],
            temperature=temperature,
            question=question,
            items=items,
        )
        parts, start = [], 0
        for call in calls:
            own = found[start : start + len(call.states)]
            start += len(own)
            parts.append([Ranking(r.index[: call.k], r.score[: call.k], r.probability[: call.k]) for r in own])
        return parts
