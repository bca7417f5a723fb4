"""The application: endpoints, errors, health, and how it is run."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from .. import __version__
from ..errors import GenrecError
from . import page
from .api import catalogue, events, lists, predictions, users
from .config import KEYS_VARIABLE, Keys, ServeConfig, check, read_keys
from .connection import connection_class, connection_limit, limit_accept_log
from .deps import CallerDep
from .errors import ERRORS, ApiError, from_genrec, invalid
from .guard import Guard, error_response
from .mcp import mcp_app
from .openai import chat, completions, embeddings, models, rerank, responses
from .service import Service

STAINLESS = (  # what OpenAI's clients send from a browser
    "x-stainless-arch, x-stainless-async, x-stainless-custom-poll-interval, x-stainless-helper-method, "
    "x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-poll-helper, "
    "x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
).split(", ")
HEADERS = ("authorization", "content-type", "x-api-key", "api-key", "x-request-id", "x-genrec-user", "x-genrec-task")
ROUTERS = [
    *(models.router, chat.router, completions.router, responses.router, embeddings.router, rerank.router),
    *(lists.router, predictions.router, catalogue.router, events.router, users.router),
]
ORIGINS = (r"tauri://localhost", r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def create_app(config: ServeConfig, keys: Keys) -> FastAPI:
    """The application; its run is loaded in the background once it starts."""
    service = Service(config)
    mcp, mcp_life = mcp_app(service)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        limit_accept_log(asyncio.get_running_loop())
        service.load_in_background()
        watcher = asyncio.create_task(service.sync.watch())
        async with mcp_life():
            yield
        watcher.cancel()
        await service.lists.flush()
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="genrec",
        version=__version__,
        summary="A recommender that you can prompt.",
        lifespan=life,
        generate_unique_id_function=lambda route: route.name,
        redoc_url=None,
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router, prefix="/v1", responses=ERRORS)
        app.include_router(router, include_in_schema=False)
    health(app, service)
    page.add(app, service)
    app.mount("/mcp", mcp)
    app.add_exception_handler(ApiError, on_error)
    app.add_exception_handler(GenrecError, on_error)
    app.add_exception_handler(RequestValidationError, on_error)
    app.add_exception_handler(HTTPException, on_error)
    app.add_middleware(Guard, service=service, keys=keys)
    app.add_middleware(  # outside of the guard, so that a browser may read its refusals
        CORSMiddleware,
        allow_origins=list(config.origin),
        allow_origin_regex="|".join(ORIGINS),
        allow_methods=["GET", "POST", "DELETE", "OPTIONS"],
        allow_headers=[*HEADERS, *STAINLESS],
        expose_headers=["x-request-id", "retry-after"],
    )
    return app


async def on_error(request: Request, error: Exception) -> Response:
    """Any mistake of the caller in OpenAI's shape."""
    if isinstance(error, ApiError):
        return error_response(error)
    if isinstance(error, GenrecError):
        return error_response(from_genrec(error, request.state.caller.may_see, request.state.request_id))
    if isinstance(error, RequestValidationError):
        return error_response(from_validation(error))
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(ApiError(404, f"there is no {request.url.path}", code="unknown_path"))
    if error.status_code == 405:
        message = f"{request.method} is not allowed on {request.url.path}"
        return error_response(ApiError(405, message, code="method_not_allowed", headers=dict(error.headers or {})))
    return error_response(ApiError(error.status_code, str(error.detail)))


def from_validation(error: RequestValidationError) -> ApiError:
    """Pydantic's first finding, named as a field: `history[2].rating`."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return invalid("the body is not JSON", code="invalid_json")
    place = [p for p in first["loc"] if p not in ("body", "query", "path")]
    name = ""
    for part in place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    code = {"missing": "missing_required_parameter"}.get(first["type"], "invalid_value")
    code = "invalid_type" if first["type"].endswith(("_type", "_parsing")) else code
    value = first.get("input")
    note = f" (given: {str(value)[:100]!r})" if code != "missing_required_parameter" and value is not None else ""
    return invalid(f"{name or 'the body'}: {first['msg']}{note}", name or None, code)


def health(app: FastAPI, service: Service) -> None:
    """Liveness, readiness, metrics and version."""

    async def alive() -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    async def ready() -> Response:
        """Whether the run is loaded and the model answers."""
        if (why := service.not_ready) is not None:
            return error_response(ApiError(503, why, "unavailable_error", code="not_ready"))
        return Response('{"status":"ok"}', media_type="application/json")

    async def metrics(caller: CallerDep) -> Response:
        """Counters for Prometheus; where keys are configured, for one of no user, or the key of the metrics."""
        if not caller.metrics_only:
            caller.check(None, None)
        service.measure()
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def version() -> dict[str, Any]:
        """Which genrec, and which model."""
        return {"version": __version__, "model": service.name}

    shared: dict[str, Any] = {"tags": ["server"], "responses": ERRORS}
    app.add_api_route("/health", alive, name="health", **shared)
    app.add_api_route("/ready", ready, name="ready", **shared)
    app.add_api_route("/metrics", metrics, name="metrics", response_class=PlainTextResponse, **shared)
    app.add_api_route("/version", version, name="version", **shared)
    for path in ("/healthz", "/livez"):
        app.add_api_route(path, alive, include_in_schema=False)
    app.add_api_route("/readyz", ready, include_in_schema=False)


class Server(uvicorn.Server):
    """Says so before it stops taking requests, so that readiness is false while the last ones end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT."""
        self.service.draining = True
        self.force_exit = self.should_exit and sig == signal.SIGINT  # Ctrl-C twice
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the requests that have not come whole at once, the others once they are answered."""
        self.service.stop_reading()
        await super().shutdown(sockets)


def serve(config: ServeConfig, report: Callable[[str], None]) -> None:
    """Serve a run until SIGTERM or SIGINT; report: called with lines for a person. Raises GenrecError for options that
    cannot be served with, and if the run cannot be loaded."""
    keys = read_keys(config.keys)
    check(config, keys)
    app = create_app(config, keys)
    service: Service = app.state.service
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # anybody can send what is no HTTP, as often as he likes
    listener = listen(config)
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    report(
        f"genrec {__version__} serves {service.name} at http://{name}:{port} (OpenAI clients: http://{name}:{port}/v1)"
    )
    if not keys:
        report(f"no key is asked for; --keys FILE or {KEYS_VARIABLE} asks for one")
    settings = uvicorn.Config(
        app,
        http=connection_class(config.patience, connection_limit()),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(config.drain)),
        timeout_keep_alive=65,
    )
    server = Server(settings, service)

    def end() -> None:
        server.should_exit = True

    service.on_failure = end
    with contextlib.closing(listener):
        server.run(sockets=[listener])
    if service.failure is not None:
        raise service.failure


def listen(config: ServeConfig) -> socket.socket:
    """A socket on the address of the options; raises GenrecError if it is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    protocol = socket.IPPROTO_TCP  # asyncio sends at once only on a socket that is TCP by name
    listener = socket.socket(family, socket.SOCK_STREAM, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise GenrecError(f"--host {config.host} --port {config.port}: {error.strerror}") from error
    return listener
