"""What stands before every endpoint: Host check, request ids, keys, limits, and errors that tell no secrets."""

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from .callers import Caller, caller_of
from .config import LOCAL, REQUEST_LOG, Keys, is_local
from .errors import ApiError, ClientGoneError, invalid, server_error
from .ids import new_id
from .service import Service

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PUBLIC = {
    "/",
    "/health",
    "/healthz",
    "/livez",
    "/ready",
    "/readyz",
    "/version",
    "/docs",
    "/openapi.json",
    "/favicon.ico",
}
PUBLIC_FOLDERS = ("/page/", "/docs/")
REQUEST_ID = re.compile(r"[\w.:-]{1,100}")
logger = logging.getLogger("genrec.serving")
requests = logging.getLogger(REQUEST_LOG)


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: App, service: Service, keys: Keys) -> None:
        self.app, self.service, self.keys = app, service, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] == "/mcp":  # the mount is at /mcp/, and few clients follow a redirect with their body
            scope["path"], scope["raw_path"] = "/mcp/", b"/mcp/"
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        began, status, metrics = time.perf_counter(), 0, self.service.metrics

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = MutableHeaders(scope=message)
                own["x-request-id"] = request_id
                own["x-content-type-options"] = "nosniff"
            await send(message)

        metrics.inflight.inc()
        try:
            await self.app(scope, await self.checked(scope, headers, receive), answer)
        except ApiError as error:
            if not status:
                await error_response(error)(scope, receive, answer)
        except ClientGoneError:
            status = 499
        except Exception:
            logger.exception("request %s failed", request_id)
            if not status:
                await error_response(server_error(request_id))(scope, receive, answer)
        finally:
            metrics.inflight.dec()
            route = scope.get("route")
            endpoint = getattr(route, "path", "other").removeprefix("/v1") or "/"
            metrics.requests.labels(endpoint, str(status)).inc()
            seconds = time.perf_counter() - began
            metrics.seconds.labels(endpoint).observe(seconds)
            if requests.isEnabledFor(logging.INFO):
                line: dict[str, Any] = {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "request_id": request_id,
                    "method": scope["method"],
                    "endpoint": endpoint,
                    "status": status,
                    "ms": round(seconds * 1e3),
                }
                requests.info(json.dumps(line))

    async def checked(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """Raises ApiError for what may not pass; returns a `receive` that bounds the body."""
        self.check_host(headers.get("host", ""))
        path = scope["path"]
        public = path in PUBLIC or path.startswith(PUBLIC_FOLDERS) or scope["method"] == "OPTIONS"
        scope["state"]["caller"] = Caller() if public else caller_of(headers, self.keys, self.service.config)
        limit = self.service.config.max_body
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise too_large(limit)
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise too_large(limit)
            return message

        return bounded

    def check_host(self, host: str) -> None:
        """A page of another site that has its name resolve to this machine must not get through (DNS rebinding)."""
        config = self.service.config
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower()
        if not is_local(config.host) and not config.allowed_host:
            return
        if name not in (*LOCAL, config.host, *config.allowed_host) and not is_local(name):
            raise invalid(
                f"this server is not reached as {name!r}; --allowed-host {name} would allow it", "host", status=421
            )


def too_large(limit: int) -> ApiError:
    """A body beyond the limit."""
    return invalid(f"the request is larger than {limit:,} bytes", code="request_too_large", status=413)


def error_response(error: ApiError) -> JSONResponse:
    """An error as a response."""
    return JSONResponse(error.body(), error.status, error.headers)
