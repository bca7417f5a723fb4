"""The recommender as tools of the Model Context Protocol, over stdio or streamable HTTP.

A tool calls the function of the REST route that does the same.
"""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from .. import __version__
from ..errors import GenrecError
from ..recommender import Recommender
from .api import catalogue, events, forms, lists, predictions, users
from .api.forms import EventsRequest, Explain, PredictionsRequest, RankRequest, RecommendationsRequest
from .api.lookup import check_item, check_user, dataset_of
from .callers import Caller
from .config import ServeConfig
from .errors import ApiError, from_genrec, model_loading
from .ids import new_id
from .service import Service

logger = logging.getLogger("genrec.serving")
INSTRUCTIONS = (
    "Recommends items of one catalogue. Ids and titles are the catalogue's own: search_items finds the id of a title. "
    "Scores come from a model that was trained on this catalogue; do not invent items beyond those returned."
)
READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
T = TypeVar("T")
Form = TypeVar("Form", bound=BaseModel)
Call = Context[Any, Any]


def nobody(value: object) -> object:
    """No user for an empty text, which some models give for none."""
    return None if value == "" else value


def listed(value: object) -> object:
    """`130,131` and a single id as lists, which some models write so."""
    if isinstance(value, str):
        return [i for i in value.split(",") if i.strip()]
    return [value] if isinstance(value, int) else value


Id = Annotated[forms.Id, Field(description="item id")]
User = Annotated[forms.Id | None, BeforeValidator(nobody), Field(description="user id")]
Count = Annotated[int, Field(ge=1, le=100, description="length of the list")]
Items = Annotated[forms.Ids | None, BeforeValidator(listed), Field(description="item ids, oldest first")]


@dataclass(frozen=True)
class Tools:
    """The tools over a service; docstrings are what a language model reads of them."""

    service: Service

    async def recommend(
        self,
        context: Call,
        user_id: User = None,
        history: Items = None,
        query: Annotated[
            forms.Typed | None, Field(max_length=2_000, description="a wish in words: comedies from the 1990s")
        ] = None,
        n: Count = 10,
        exclude: Items = None,
        filters: Annotated[dict[str, Any] | None, Field(description='{"genre": {"any": ["Comedy"]}}')] = None,
        explain: Explain = False,
    ) -> str:
        """Recommend items to a user, or to whoever has this history, or popular ones; query narrows them in words."""
        body = parsed(
            RecommendationsRequest,
            user_id=user_id,
            history=history,
            query=query,
            num_results=n,
            exclude=exclude or [],
            filter=filters,
            explain=explain,
            context=argument(context, "context"),
        )
        return dumped(await self.answer(context, lambda caller: lists.recommend(self.service, caller, None, body)))

    async def rank_items(
        self,
        context: Call,
        items: Annotated[
            forms.Ids, BeforeValidator(listed), Field(description="item ids to bring into order", min_length=1)
        ],
        user_id: User = None,
        history: Items = None,
    ) -> str:
        """Bring items into the order of a user, or of whoever has this history."""
        body = parsed(RankRequest, items=items, user_id=user_id, history=history)
        return dumped(await self.answer(context, lambda caller: lists.rank(self.service, caller, None, body)))

    async def predict(
        self,
        context: Call,
        task: Annotated[
            str, Field(max_length=100, description="rating, click, purchase, churn, sentiment, category, ...")
        ] = "rating",
        user_id: User = None,
        item_id: Id | None = None,
        text: Annotated[str | None, Field(max_length=20_000, description="a review, for sentiment or category")] = None,
        history: Items = None,
    ) -> str:
        """Predict what a user, or whoever has this history, makes of an item (rating, click, purchase), does next
        (churn), or what a text says (sentiment, category), with calibrated probabilities."""
        item_id = item_id if text is None else None
        body = parsed(PredictionsRequest, task=task, user_id=user_id, item_id=item_id, text=text, history=history)
        reply = await self.answer(context, lambda caller: predictions.predict(self.service, caller, None, body))
        outcome = reply.predictions[0]
        return dumped(
            {
                "task": reply.task,
                "value": outcome.value,
                "probabilities": outcome.probabilities,
                "warnings": reply.warnings,
            }
        )

    async def similar_items(self, context: Call, item_id: Id, n: Count = 10) -> str:
        """Items like an item."""
        return dumped(await self.answer(context, lambda _: catalogue.similar_items(self.service, None, item_id, n)))

    async def explain_recommendation(self, context: Call, item_id: Id, user_id: User = None) -> str:
        """Which items of the user's history raise an item's score, measured by leaving each out."""
        user = named_user(context, user_id)

        def work(recommender: Recommender) -> dict[str, Any]:
            dataset = dataset_of(recommender, None, user, item_id)
            check_user(recommender, dataset, user)
            check_item(recommender, dataset, item_id)
            explanations = recommender.explain([item_id], user=user, dataset=dataset)
            reasons = explanations.frame.select("reason_item_id", "reason_title", "effect").to_dicts()
            return {"item_id": item_id, "reasons": reasons, "warnings": explanations.warnings}

        return dumped(await self.answer(context, lambda _: self.service.ask(work)))

    async def search_items(
        self,
        context: Call,
        query: Annotated[
            forms.Typed, Field(description="a title, part of one, or with a typo", min_length=1, max_length=500)
        ],
        n: Count = 10,
    ) -> str:
        """Find items, and their ids, by title."""
        reply = await self.answer(context, lambda _: catalogue.search_items(self.service, None, query, n))
        return dumped([item.model_dump(exclude_none=True) for item in reply.items])

    async def get_user_history(self, context: Call, user_id: User = None, n: Count = 20) -> str:
        """A user's latest interactions, oldest first."""
        user = named_user(context, user_id)
        return dumped(await self.answer(context, lambda caller: users.get_user(self.service, caller, None, user, n)))

    async def record_event(
        self,
        context: Call,
        item_id: Id,
        user_id: User = None,
        event_type: Annotated[str | None, Field(description="like, dislike, seen, purchase, ...")] = None,
        value: Annotated[float | None, Field(description="a rating")] = None,
        event_id: Annotated[forms.Typed | None, Field(description="the same id is not recorded twice")] = None,
    ) -> str:
        """Record what a user did; it counts from the next recommendation on."""
        event = {
            "user_id": named_user(context, user_id),
            "item_id": item_id,
            "event_type": event_type,
            "value": value,
            "event_id": event_id,
        }
        body = EventsRequest(events=[{k: v for k, v in event.items() if v is not None}])
        reply = await self.answer(context, lambda caller: events.record_events(self.service, caller, body))
        if reply.errors:
            raise ToolError(reply.errors[0].message)
        return dumped({"recorded": reply.recorded, "duplicates": reply.duplicates})

    async def item(self, item_id: str) -> str:
        """An item of the catalogue."""
        try:
            reply = await self.answer(None, lambda _: catalogue.get_item(self.service, None, item_id))
        except ToolError as error:
            raise ResourceNotFoundError(str(error)) from error
        return dumped(reply.model_dump())

    async def answer(self, context: Call | None, ask: Callable[[Caller], Awaitable[T]]) -> T:
        """The reply of a route, once the run is loaded; mistakes as tool errors."""
        while not self.service.is_loaded and self.service.failure is None:
            await asyncio.sleep(0.05)
        caller = caller_in(context)
        try:
            if self.service.failure is not None:
                raise model_loading(self.service.failure)
            return await ask(caller)
        except ApiError as error:
            raise ToolError(error.message) from error
        except GenrecError as error:
            raise ToolError(from_genrec(error, caller.may_see, new_id("mcp")).message) from error


class Server(MCPServer[Any]):
    """A server that says which argument is wrong, and nothing of how it is checked."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Call | None = None) -> Any:
        """Call a tool; raises ToolError, which for a wrong argument names it and what is needed."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(cause := error.__cause__, ValidationError):
                raise ToolError(fault(cause)) from cause
            raise


def fault(error: ValidationError) -> str:
    """The first fault of a request: `history[2].rating: ...`."""
    first = error.errors()[0]
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
    return f"{place.removeprefix('.')}: {first['msg']}"


def build(service: Service, writes: bool) -> MCPServer[Any]:
    """The server over a service; writes: whether events may be recorded."""
    server: MCPServer[Any] = Server("genrec", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    tools = Tools(service)
    reading: dict[str, Callable[..., Any]] = {
        "Recommend items": tools.recommend,
        "Rank items": tools.rank_items,
        "Predict an outcome": tools.predict,
        "Similar items": tools.similar_items,
        "Explain a recommendation": tools.explain_recommendation,
        "Search items": tools.search_items,
        "A user's history": tools.get_user_history,
    }
    for title, tool in reading.items():
        server.tool(title=title, annotations=READS, structured_output=False)(tool)
    if writes:
        server.tool(title="Record an event", annotations=WRITES, structured_output=False)(tools.record_event)
    server.resource("item://{item_id}", title="An item", mime_type="application/json")(tools.item)
    server.prompt(title="Recommendations for a user")(recommend_for_user)
    return server


def recommend_for_user(user_id: str) -> str:
    """Asks for a list with reasons."""
    return (
        f"Recommend five items to user {user_id} with the tool `recommend` (explain=true), and say in one sentence "
        "each why, from the reasons that it gives. Name no items beyond those."
    )


def parsed(kind: type[Form], **fields: Any) -> Form:
    """A request of the REST API; raises ToolError naming the field that is wrong."""
    try:
        return kind(**fields)
    except ValidationError as error:
        raise ToolError(fault(error)) from error


def argument(context: Call, name: str) -> Any:
    """An argument of a call that the tool's own schema does not have."""
    arguments = (context.request_context.params or {}).get("arguments")
    return arguments.get(name) if isinstance(arguments, dict) else None


def caller_in(context: Call | None) -> Caller:
    """The caller of an HTTP request; over stdio it is who started the process."""
    request = context.request_context.request if context is not None else None
    caller: Caller = request.state.caller if request is not None else Caller()
    return caller


def named_user(context: Call, user: str | None) -> str:
    """The user who is asked about; raises ToolError for none, and for one that this caller may not ask about."""
    try:
        user = caller_in(context).user_for(user)
    except ApiError as error:
        raise ToolError(error.message) from error
    if user is None:
        raise ToolError("give user_id")
    return user


def dumped(value: Any) -> str:
    """As JSON; of a reply without its nulls."""
    value = value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value
    return json.dumps(value, ensure_ascii=False, default=list)


# --- transports -----------------------------------------------------------------------------------------------------


def mcp_app(service: Service) -> tuple[Any, Callable[[], contextlib.AbstractAsyncContextManager[None]]]:
    """The streamable HTTP application, and a context in which it answers. Hosts are checked before it."""
    server = build(service, service.config.record_events)
    app = server.streamable_http_app(
        streamable_http_path="/",
        json_response=True,
        stateless_http=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    @contextlib.asynccontextmanager
    async def life() -> AsyncIterator[None]:
        async with server.session_manager.run():
            yield

    return app, life


def run_stdio(config: ServeConfig) -> None:
    """Answer on stdin and stdout until stdin ends; the run is loaded meanwhile."""
    service = Service(config)
    service.on_failure = lambda: logger.error("%s", service.failure)
    service.load_in_background()

    async def answer() -> None:
        watcher = asyncio.create_task(service.sync.watch())
        try:
            await build(service, config.record_events).run_stdio_async()
            await service.lists.flush()
        finally:
            watcher.cancel()

    try:
        asyncio.run(answer())
    finally:
        service.close()


def client_config(config: ServeConfig) -> dict[str, Any]:
    """The entry of this run in the configuration of MCP clients (Claude, Cursor, LibreChat, ...)."""
    arguments = ["-m", "genrec", "mcp", str(Path(config.run).resolve())]
    arguments += ["--record-events"] if config.record_events else []
    return {"mcpServers": {"genrec": {"command": sys.executable, "args": arguments}}}
