"""Dependencies of the routes: the service, who asks, and when the client disconnects."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Path, Request
from pydantic import AfterValidator

from .callers import Caller
from .service import Disconnected, Service

# All are coroutines: FastAPI runs plain functions in a thread for each request.


async def service_of(request: Request) -> Service:
    """The application's service."""
    service: Service = request.app.state.service
    return service


async def caller_of_request(request: Request) -> Caller:
    """Who asks, as `Guard` read it from the headers."""
    caller: Caller = request.state.caller
    return caller


async def disconnect_of(request: Request) -> Disconnected:
    """A function whose coroutine completes when the client disconnects; the body must have been read."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return disconnected


ServiceDep = Annotated[Service, Depends(service_of)]
CallerDep = Annotated[Caller, Depends(caller_of_request)]
DisconnectedDep = Annotated[Disconnected | None, Depends(disconnect_of)]
PathId = Annotated[str, Path(), AfterValidator(unquote)]  # see `Guard`


@dataclass(frozen=True)
class Client:
    """Who sent a chat. task: the background task that a frontend names in a header; request_id: for the log."""

    caller: Caller
    request_id: str
    task: str | None
    disconnected: Disconnected


async def client_of(
    request: Request, caller: CallerDep, disconnected: Annotated[Disconnected, Depends(disconnect_of)]
) -> Client:
    """The sender of a chat."""
    return Client(caller, request.state.request_id, request.headers.get("x-genrec-task"), disconnected)


ClientDep = Annotated[Client, Depends(client_of)]
