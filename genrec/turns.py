"""Cooperative pauses of a scheduler's jobs; no effect outside of a job."""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")
CHARACTERS = 20_000  # of texts, tokenized between two pauses


@dataclass(frozen=True, eq=False)
class Pause:
    """A request to be resumed after other jobs have run."""


class StoppedError(BaseException):
    """Raised inside a job whose caller no longer waits for it."""


class QueueFullError(Exception):
    """The scheduler's queue is full: no other job is taken."""


class JobGreenlet(greenlet):  # type: ignore[misc]
    """A running job."""

    job: Any


def in_job() -> bool:
    """Whether this runs inside a job of a scheduler."""
    return isinstance(getcurrent(), JobGreenlet)


def wait(call: Any) -> Any:
    """Submit a call to the scheduler, let other jobs run, and return the call's result."""
    return getcurrent().parent.switch(call)


def pause() -> None:
    """Let other jobs run; raises StoppedError if nobody waits for this one any more."""
    if in_job():
        wait(Pause())


def beside(work: Callable[[], T]) -> T:
    """The result of a function; inside a job it runs in a separate thread while other jobs take their turns."""
    if not in_job():
        return work()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        while not future.done():
            futures.wait([future], timeout=0.02)
            pause()
        return future.result()


def in_turns(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of at most `size` values, with a pause between consecutive ones."""
    for start in range(0, len(values), size):
        if start:
            pause()
        yield values[start : start + size]


def encoded(encode: Callable[[str], list[int]], texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, with a pause after every CHARACTERS; a longer text is encoded in pieces."""
    encodings, n_since_pause = [], 0
    for text in texts:
        token_ids: list[int] = []
        for piece in pieces_of(text, CHARACTERS):
            if n_since_pause >= CHARACTERS:
                pause()
                n_since_pause = 0
            token_ids += encode(piece)
            n_since_pause += len(piece)
        encodings.append(token_ids)
    return encodings


def pieces_of(text: str, limit: int) -> Iterator[str]:
    """A text in pieces of at most `limit` characters, cut before a space if there is one in their second half."""
    start = 0
    while len(text) - start > limit:
        end = text.rfind(" ", start + limit // 2, start + limit)
        end = end if end > 0 else start + limit
        yield text[start:end]
        start = end
    yield text[start:]
