"""Many jobs in one thread: calls that they make at the same time go through the model as one batch."""

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

from ..process import Process
from ..rows.row import Row
from ..turns import JobGreenlet, Pause, QueueFullError, StoppedError, in_job, pause, wait
from .engine import FEW, States
from .prefixes import MIN_TOKENS
from .scorer import PARTS, Part, Ranking, Scorer

BATCH_TOKENS = 2_048  # read at a time: the call that waits longest is not delayed by much more than itself
PIECE_TOKENS = 256  # that one job reads at a time, while others wait
EVENTS_AT_A_TIME = 4_000  # of the histories whose scores one job asks for at a time
TRIM_PASSES = 500  # passes after which freed memory goes back to the system
ACTIVE = 64  # jobs under way at a time; the others wait in the queue
SLICE = 0.05  # seconds of a round after which no other job begins or goes on
AHEAD = 4  # rounds of shared passes between two turns of jobs that paused


class SharedScorer(Scorer):
    """A Scorer for the jobs of a Scheduler; outside of one it is a plain Scorer."""

    def states(self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None) -> States:
        """As Scorer.states; a job waits here for a batch with others' rows, or pauses in turn if it has many rows."""
        if not in_job() or not rows:
            return super().states(rows, progress)
        shared = self.remembers and (len(rows) <= FEW or one_history(rows))
        parts = []
        for start, end in pieces_of([self.unread(row) if shared else len(row.tokens) for row in rows], PIECE_TOKENS):
            if shared:
                parts.append(wait(ReadCall(rows[start:end])))
            else:
                parts.append(self.read_anew(rows[start:end]))
                pause()
        return torch.cat(parts)

    def item_scores(
        self,
        states: States,
        dataset: str,
        histories: Sequence[np.ndarray],
        question: str = "next_item",
        parts: Sequence[Part] = PARTS,
    ) -> Tensor:
        """As Scorer.item_scores; a job pauses for others in between. Items that are added meanwhile have no scores."""
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
        """As Scorer.rank; a job waits here while its states are batched with others'."""
        if not in_job() or allowed is not None or not len(states):
            options = {"temperature": temperature, "question": question, "items": items}
            return super().rank(states, dataset, k, excluded, histories, allowed=allowed, **options)  # type: ignore[arg-type]
        return wait(RankCall((dataset, temperature, question, items), states, k, excluded, histories))


@dataclass(frozen=True, eq=False)
class ReadCall:
    """Rows to read."""

    rows: Sequence[Row]


@dataclass(frozen=True, eq=False)
class RankCall:
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
    alike = all(r.dataset == first.dataset and r.tokens[: len(shared)] == shared for r in rows)
    return alike and len(shared) >= MIN_TOKENS


def pieces_of(lengths: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Starts and ends of consecutive pieces, each of a length of at most `limit` in sum, or of one thing."""
    pieces, start, size = [], 0, 0
    for n, length in enumerate(lengths):
        if n > start and size + length > limit:
            pieces.append((start, n))
            start, size = n, 0
        size += length
    return [*pieces, (start, len(lengths))]


def trim() -> None:
    """Give freed memory back: glibc keeps pages between blocks still in use, and batches are of many sizes."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if malloc_trim is not None:
        malloc_trim(0)


class Scheduler:
    """Runs jobs in one thread, the oldest first; reads and lists of several jobs are batched into one pass.

    Nothing a job does outside the scorer is interrupted by another. limit: jobs waiting or under way, beyond which
    `submit` raises QueueFullError. together: False makes every pass for one job alone, to measure what batching brings.
    """

    def __init__(self, scorer: SharedScorer, limit: int, together: bool = True) -> None:
        self.scorer, self.limit, self.together = scorer, limit, together
        self.since: float | None = None  # when the pass or the step that is under way began
        self.passes = self.read = 0  # passes made, and rows read in them
        self._ahead = 0  # rounds of shared passes since a job that paused went on
        self._waiting: deque[Job] = deque()
        self._active: OrderedDict[JobGreenlet, ReadCall | RankCall | Pause] = OrderedDict()
        self._count = 0
        self._change = threading.Condition()
        self._ending = False
        self._process = Process()
        self._thread = threading.Thread(target=self._loop, name="genrec-model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Callable[[], Any], deadline: float) -> "Future[Any]":
        """Queue a job. Cancelling its future before its end drops it at the next pass; after `deadline`
        (time.monotonic) it is dropped with a TimeoutError. Raises UnavailableError in a fork, without this thread."""
        self._process.check()
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
        room = (ACTIVE if self.together else 1) - busy  # jobs that only pause take no slot
        while room > 0 and self._waiting and time.monotonic() < until:
            job = self._waiting.popleft()
            room -= 1
            if job.result.cancelled() or time.monotonic() > job.deadline:
                self._finish(job, TimeoutError())
                continue
            greenlet = JobGreenlet(self._run)
            greenlet.job = job
            self._resume(greenlet, job)

    def _run(self, job: Job) -> None:
        try:
            result = job.work()
        except StoppedError:
            self._finish(job, TimeoutError())
        except BaseException as error:  # any error goes to the job's future
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

    def _resume(self, greenlet: JobGreenlet, value: Any) -> None:
        """Run a job up to its next call."""
        self.since = time.monotonic()
        call = greenlet.switch(value)
        if not greenlet.dead:
            self._active[greenlet] = call

    def _throw(self, greenlet: JobGreenlet, error: BaseException) -> None:
        self._active.pop(greenlet, None)
        call = greenlet.throw(error)
        if not greenlet.dead:
            self._active[greenlet] = call

    def _drop(self) -> None:
        """End the jobs that were cancelled or are past their deadline."""
        now = time.monotonic()
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if job.result.cancelled() or now > job.deadline:
                self._finish(job, TimeoutError())
            else:
                self._waiting.append(job)
        for greenlet in list(self._active):
            if greenlet.job.result.cancelled() or now > greenlet.job.deadline:
                self._throw(greenlet, StoppedError())

    def _pass(self) -> None:
        """Make one list or one pass for the jobs that wait longest and all that fit into the batch; if there is none,
        or AHEAD were made, resume the jobs that only paused in turn, while there is time."""
        ranks = [greenlet for greenlet, call in self._active.items() if isinstance(call, RankCall)]
        reads = [greenlet for greenlet, call in self._active.items() if isinstance(call, ReadCall)]
        paused = [greenlet for greenlet, call in self._active.items() if isinstance(call, Pause)]
        if ranks:
            key = self._active[ranks[0]].key  # type: ignore[union-attr]
            self._run_batch([greenlet for greenlet in ranks if self._active[greenlet].key == key], self._rank)  # type: ignore[union-attr]
        elif reads:
            members: list[JobGreenlet] = []
            tokens = 0
            for greenlet in reads:
                cost = sum(self.scorer.unread(row) for row in self._active[greenlet].rows)  # type: ignore[union-attr,misc]
                if members and (tokens + cost > BATCH_TOKENS or not self.together):
                    break
                members.append(greenlet)
                tokens += cost
            self._run_batch(members, self._read)
        self._ahead = self._ahead + 1 if ranks or reads else AHEAD
        if not paused or self._ahead < AHEAD:
            return
        self._ahead = 0
        until = time.monotonic() + SLICE
        for greenlet in paused:
            if self._active.pop(greenlet, None) is not None:
                self._resume(greenlet, None)
            if time.monotonic() > until:
                break

    def _run_batch(self, members: list[JobGreenlet], answer: Callable[[list[Any]], list[Any]]) -> None:
        """Answer the calls of several jobs as one batch, and resume each with its part; a failing batch is retried
        job by job, so that one job's error is its own."""
        calls = [self._active[greenlet] for greenlet in members]
        self.since = time.monotonic()
        try:
            parts: list[Any] = answer(calls)
        except Exception as error:
            if len(members) == 1:
                self._throw(members[0], error)
                return
            for greenlet in members:
                self._run_batch([greenlet], answer)
            return
        for greenlet, part in zip(members, parts, strict=True):
            del self._active[greenlet]
            self._resume(greenlet, part)

    def _read(self, calls: list[ReadCall]) -> list[States]:
        rows = [row for call in calls for row in call.rows]
        self.passes += 1
        if self.passes % TRIM_PASSES == 0:
            trim()
        self.read += len(rows)
        states = self.scorer.read_on(rows)
        counts = [sum(len(row.target_at) for row in call.rows) for call in calls]
        return list(states.split(counts))

    def _rank(self, calls: list[RankCall]) -> list[list[Ranking]]:
        dataset, temperature, question, items = calls[0].key
        rankings = Scorer.rank(
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
            part = rankings[start : start + len(call.states)]
            start += len(part)
            parts.append([Ranking(r.index[: call.k], r.score[: call.k], r.probability[: call.k]) for r in part])
        return parts
