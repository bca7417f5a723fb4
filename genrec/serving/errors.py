"""Every error as OpenAI's clients read it: {"error": {message, type, param, code}}."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ..errors import GenrecError, RunError, UnavailableError, UnknownNameError

logger = logging.getLogger("genrec.serving")


class ErrorDetail(BaseModel):
    """param: the field that is wrong; code: what is wrong with it, in one word."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """Every error."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorReply, "description": "What is wrong with the request"},
    "5XX": {"model": ErrorReply, "description": "The server cannot answer, for now or this request"},
}


@dataclass(eq=False)  # not frozen: an exception's traceback is set when it is raised
class ApiError(Exception):
    """An answer that is an error. param: the field that is wrong."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """As JSON."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class ClientGoneError(Exception):
    """The caller has left; nobody reads the answer."""


def invalid(message: str, param: str | None = None, code: str = "invalid_value", status: int = 400) -> ApiError:
    """A request that is wrong, and where."""
    return ApiError(status, message, param=param, code=code)


def not_found(message: str, code: str, param: str | None = None) -> ApiError:
    """Something that is not there."""
    return ApiError(404, message, param=param, code=code)


def queue_full(limit: int) -> ApiError:
    """Too many wait; clients may try again at once, since the queue moves."""
    return ApiError(
        429,
        f"{limit} requests are waiting already; try again soon",
        "rate_limit_error",
        code="queue_full",
        headers={"Retry-After": "1"},
    )


def shutting_down() -> ApiError:
    """The server ends; another may take over."""
    return ApiError(
        503,
        "the server is shutting down",
        "unavailable_error",
        code="shutting_down",
        headers={"Retry-After": "5"},
    )


def store_away() -> ApiError:
    """The store of users and events does not answer."""
    return ApiError(
        503,
        "the database does not answer",
        "unavailable_error",
        code="store_unavailable",
        headers={"Retry-After": "5"},
    )


def model_loading(failure: BaseException | None) -> ApiError:
    """The run is not there yet, or cannot be loaded."""
    if failure is not None:
        headers = {"x-should-retry": "false"}
        message = "the run could not be loaded; the server's log says why"
        return ApiError(503, message, "unavailable_error", code="model_failed", headers=headers)
    return ApiError(
        503, "the run is being loaded", "unavailable_error", code="model_loading", headers={"Retry-After": "2"}
    )


def deadline_passed(seconds: float) -> ApiError:
    """Nothing came of it in time."""
    return ApiError(
        504,
        f"no answer within {seconds:g} seconds",
        "server_error",
        code="timeout",
        headers={"Retry-After": "2"},
    )


def server_error(request_id: str) -> ApiError:
    """A failure of the server; its log alone says why."""
    return ApiError(500, f"the server failed; its log says why under request id {request_id}", "server_error")


def from_genrec(error: GenrecError, may_see: Callable[[str], bool], request_id: str) -> ApiError:
    """A mistake of the caller as an answer; may_see: whether this caller may be told of a user. What is wrong with the
    server's own files and databases stays in its log."""
    if isinstance(error, UnknownNameError):
        kind = error.kind.replace(" ", "_")
        return ApiError(404, error.said_to(may_see), param=None, code=f"unknown_{kind}")
    if isinstance(error, (UnavailableError, RunError)):
        logger.warning("request %s: %s", request_id, error)
        message = f"the server cannot answer this for now; its log says why under request id {request_id}"
        return ApiError(503, message, "unavailable_error", code="unavailable", headers={"Retry-After": "5"})
    return ApiError(400, str(error), code="invalid_value")
