"""Waits that end: a test that hangs says what it waited for."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 60, pause: float = 0.01) -> None:
    """Return as soon as the condition holds; fails if it does not within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for nothing"
        time.sleep(pause)
