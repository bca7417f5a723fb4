"""HTTP connections: they end if headers do not come in time, and are no more than files may be open."""

import asyncio
import logging
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SPARE = 128  # files that are left for everything but connections
QUIET = 60.0  # seconds between two lines of a log that say the same
LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
logger = logging.getLogger("genrec.serving")


def connection_limit() -> int:
    """How many connections this process can hold, once it may open as many files as the system lets it."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = target
    soft = target if soft == resource.RLIM_INFINITY else soft
    return max(soft - SPARE, soft // 2)


def connection_class(patience: float, limit: int) -> type[H11Protocol]:
    """uvicorn's connection with two limits. patience: seconds from its beginning, or from the first byte of a later
    request, until the headers are there; limit: connections at a time, others are answered 503 and closed."""

    class Connection(H11Protocol):
        headers_due: asyncio.TimerHandle | None = None
        sent_anything = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limit:
                transport.write(FULL)
                transport.close()
            else:
                self.headers_due = self.loop.call_later(patience, self.headers_late)

        def data_received(self, data: bytes) -> None:
            self.sent_anything = True
            super().data_received(data)
            has_request = self.cycle is not None and not self.cycle.response_complete
            if has_request and self.headers_due is not None:
                self.headers_due.cancel()
                self.headers_due = None
            elif not has_request and self.headers_due is None and not self.transport.is_closing():
                self.headers_due = self.loop.call_later(patience, self.headers_late)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.response_complete and self.conn.trailing_data[0] and self.headers_due is None:
                self.headers_due = self.loop.call_later(patience, self.headers_late)  # of a request that came along

        def connection_lost(self, exc: Exception | None) -> None:
            if self.headers_due is not None:
                self.headers_due.cancel()
            super().connection_lost(exc)

        def headers_late(self) -> None:
            self.headers_due = None
            if not self.transport.is_closing():
                if self.sent_anything:
                    self.transport.write(LATE)
                self.transport.close()

    return Connection


def limit_accept_log(loop: asyncio.AbstractEventLoop) -> None:
    """Have a loop log at most once in QUIET seconds that the system gives it no more files: it tries very often."""
    logged = -QUIET

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal logged
        if not isinstance(context.get("exception"), OSError) or "accept" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif time.monotonic() - logged >= QUIET:
            logged = time.monotonic()
            logger.error("no connection can be taken: %s", context["exception"])

    loop.set_exception_handler(handle)
