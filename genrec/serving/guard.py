"""Before every endpoint: Host check, request ids, keys, limits, and errors that tell no secrets."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from .callers import Caller, caller_of
from .config import LOCAL, REQUEST_LOG, Keys, is_local
from .errors import ApiError, ClientGoneError, invalid, server_error, shutting_down
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
CODED = re.compile(rb"%(2[fF]|25)")  # / and %, which stay coded in the path until it is cut into its parts
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
        if b"%" in scope["raw_path"]:  # a slash of an id is no end of a part of the path: `PathId` decodes the rest
            scope["path"] = unquote(CODED.sub(rb"%25\1", scope["raw_path"]))
        headers = Headers(scope=scope)
        client_id = headers.get("x-request-id", "")
        request_id = client_id if REQUEST_ID.fullmatch(client_id) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        began, status, metrics = time.perf_counter(), 0, self.service.metrics
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer_headers = MutableHeaders(scope=message)
                answer_headers["x-request-id"] = request_id
                answer_headers["x-content-type-options"] = "nosniff"
                if has_body and "body_read" not in scope["state"]:
                    answer_headers["connection"] = "close"  # nobody reads the rest of the body
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
        """A `receive` that gives the body, which is read here; raises ApiError for a request that may not pass."""
        self.check_host(headers.get("host", ""))
        path = scope["path"]
        public = path in PUBLIC or path.startswith(PUBLIC_FOLDERS) or scope["method"] == "OPTIONS"
        scope["state"]["caller"] = Caller() if public else caller_of(headers, self.keys, self.service.config)
        if scope["state"]["caller"].metrics_only and path != "/metrics":
            raise ApiError(403, "this key only opens /metrics", "permission_error", code="only_metrics")
        limit, patience = self.service.config.max_body, self.service.config.patience
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise too_large(limit)
        body = await self.body_of(receive, limit, patience)
        scope["state"]["body_read"], is_given = True, False

        async def again() -> Message:
            nonlocal is_given
            if is_given:
                return await receive()
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again

    async def body_of(self, receive: Receive, limit: int, patience: float) -> bytes:
        """The whole body of a request; raises ApiError if it is too long or comes too late."""
        parts, size, has_more = [], 0, True
        try:
            async with asyncio.timeout(patience) as waiting:
                with self.service.reading(waiting):
                    while has_more:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            raise ClientGoneError
                        parts.append(message.get("body", b""))
                        size += len(parts[-1])
                        if size > limit:
                            raise too_large(limit)
                        has_more = message.get("more_body", False)
        except TimeoutError:
            raise (shutting_down() if self.service.draining else too_late(patience)) from None
        return b"".join(parts)

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


def too_late(seconds: float) -> ApiError:
    """A body that does not come."""
    return ApiError(408, f"the body of the request did not come within {seconds:g} seconds", code="request_timeout")


def error_response(error: ApiError) -> JSONResponse:
    """An error as a response."""
    return JSONResponse(error.body(), error.status, error.headers)
