"""Server-sent events of a job.

Not by sse-starlette: it ends streams at SIGTERM, which here may finish within --drain seconds, pings on a fixed clock
also between words, and leaves errors within a stream to its caller.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ...errors import GenrecError
from ..deps import Client
from ..errors import ApiError, from_genrec, server_error
from ..service import Stream

PING = 10.0  # seconds of silence after which a stream shows that it is alive
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
DONE = "data: [DONE]\n\n"
logger = logging.getLogger("genrec.serving")


def sse(value: Mapping[str, Any], event: str | None = None) -> str:
    """A server-sent event."""
    name = f"event: {event}\n" if event is not None else ""
    return f"{name}data: {json.dumps(value, ensure_ascii=False)}\n\n"


class JobResponse(StreamingResponse):
    """A stream of events that drops its job once it ends, however it does: a client may leave before the first event is
    asked for."""

    cancel: Callable[[], object]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.cancel()


def event_stream(client: Client, stream: Stream[Any], events: AsyncIterator[str]) -> Response:
    """Events of a job as a response: with a comment while there is nothing to say, and errors as events."""
    response = JobResponse(with_pings(client, events), media_type="text/event-stream", headers=HEADERS)
    response.cancel = stream.cancel
    return response


async def with_pings(client: Client, events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Events, a comment if none has come for PING seconds, and an error as the last."""
    iterator = events.__aiter__()
    upcoming: asyncio.Future[str] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(iterator))
            done, _ = await asyncio.wait({upcoming}, timeout=PING)
            if not done:
                yield ": ping\n\n"
                continue
            event, upcoming = upcoming.result(), None
            yield event
    except StopAsyncIteration:
        pass
    except ApiError as error:
        yield sse(error.body())
    except GenrecError as error:
        yield sse(from_genrec(error, client.caller.may_see, client.request_id).body())
    except Exception:
        logger.exception("request %s failed in its stream", client.request_id)
        yield sse(server_error(client.request_id).body())
    finally:
        if upcoming is not None and not upcoming.done():
            upcoming.cancel()
            with contextlib.suppress(BaseException):
                await upcoming
        await iterator.aclose()  # type: ignore[attr-defined]
