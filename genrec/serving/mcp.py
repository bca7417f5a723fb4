"""The recommender as tools of the Model Context Protocol, over stdio or streamable HTTP."""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations
from pydantic import Field

from .. import __version__
from ..errors import GenrecError
from . import recommender_api as rest
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
Id = Annotated[str, Field(max_length=500, description="item id")]
User = Annotated[str | None, Field(max_length=500, description="user id")]
Count = Annotated[int, Field(ge=1, le=100, description="length of the list")]
Items = Annotated[Annotated[list[str], Field(fail_fast=True)] | None, Field(description="item ids, oldest first")]


def build(service: Service, writes: bool) -> MCPServer[Any]:
    """The tools over a service; writes: whether events may be recorded."""
    server: MCPServer[Any] = MCPServer("genrec", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")

    def read(name: str, title: str) -> Callable[[Any], Any]:
        return server.tool(name, title, annotations=READS, structured_output=False)

    @read("recommend", "Recommend items")
    async def recommend(
        context: Context[Any, Any],
        user_id: User = None,
        history: Items = None,
        query: Annotated[
            str | None, Field(max_length=2_000, description="a wish in words: comedies from the 1990s")
        ] = None,
        n: Count = 10,
        exclude: Items = None,
        filters: Annotated[dict[str, Any] | None, Field(description='{"genre": {"any": ["Comedy"]}}')] = None,
        explain: rest.Explain = False,
    ) -> str:
        """Recommend items to a user, or to whoever has this history, or popular ones; query narrows them in words."""
        body = parsed(
            rest.RecommendationsRequest,
            user_id=user_id,
            history=history,
            query=query,
            num_results=n,
            exclude=exclude or [],
            filter=filters,
            explain=explain,
        )
        user = allowed(context, user_id, history)
        limited(service, body)
        reply = await asked(service, context, lambda r: rest.recommendations(service, r, body, user, who_asks(context)))
        rest.keep(service, reply)
        return dumped(reply.model_dump(exclude_none=True))

    @read("rank_items", "Rank items")
    async def rank_items(
        context: Context[Any, Any],
        items: Annotated[
            list[str], Field(fail_fast=True), Field(description="item ids to bring into order", min_length=1)
        ],
        user_id: User = None,
        history: Items = None,
    ) -> str:
        """Bring items into the order of a user, or of whoever has this history."""
        user = allowed(context, user_id, history)
        most = len(set(items))
        body = parsed(rest.RecommendationsRequest, history=history, candidates=items, exclude_seen=False)
        body = body.model_copy(update={"num_results": most})
        limited(service, body)
        reply = await asked(service, context, lambda r: rest.recommendations(service, r, body, user, who_asks(context)))
        return dumped(reply.model_dump(exclude_none=True))

    @read("predict", "Predict an outcome")
    async def predict(
        context: Context[Any, Any],
        task: Annotated[
            str, Field(max_length=100, description="rating, click, purchase, churn, sentiment, category, ...")
        ] = "rating",
        user_id: User = None,
        item_id: Id | None = None,
        text: Annotated[str | None, Field(max_length=20_000, description="a review, for sentiment or category")] = None,
    ) -> str:
        """Predict what a user makes of an item (rating, click, purchase), does next (churn), or what a text says
        (sentiment, category), with calibrated probabilities."""
        user = allowed(context, user_id, None) if text is None else None
        if user is None and text is None:
            raise ToolError("give user_id, or text")

        def work(recommender: Any) -> dict[str, Any]:
            found = recommender.predict(
                task, users=user, items=item_id if text is None else None, texts=text, dataset=None
            )
            row = found.frame.row(0, named=True)
            probabilities = dict(zip(found.choices, row["probabilities"], strict=True))
            return {"task": task, "value": row["value"], "probabilities": probabilities, "warnings": found.warnings}

        return dumped(await asked(service, context, work))

    @read("similar_items", "Similar items")
    async def similar_items(context: Context[Any, Any], item_id: Id, n: Count = 10) -> str:
        """Items like an item."""

        def work(recommender: Any) -> dict[str, Any]:
            name = rest.dataset_of(recommender, None, None, item_id)
            rest.check_item(recommender, name, item_id)
            body = rest.RecommendationsRequest(item_id=item_id, num_results=n, dataset=name)
            return rest.recommendations(service, recommender, body, None).model_dump(exclude_none=True)

        return dumped(await asked(service, context, work))

    @read("explain_recommendation", "Explain a recommendation")
    async def explain_recommendation(context: Context[Any, Any], item_id: Id, user_id: User = None) -> str:
        """Which items of the user's history raise an item's score, measured by leaving each out."""
        user = allowed(context, user_id, None)
        if user is None:
            raise ToolError("give user_id")

        def work(recommender: Any) -> dict[str, Any]:
            name = rest.dataset_of(recommender, None, user, item_id)
            rest.check_user(recommender, name, user)
            rest.check_item(recommender, name, item_id)
            found = recommender.explain([item_id], user=user, dataset=name)
            reasons = found.frame.select("reason_item_id", "reason_title", "effect").to_dicts()
            return {"item_id": item_id, "reasons": reasons, "warnings": found.warnings}

        return dumped(await asked(service, context, work))

    @read("search_items", "Search items")
    async def search_items(
        context: Context[Any, Any],
        query: Annotated[str, Field(description="a title, part of one, or with a typo", min_length=1, max_length=500)],
        n: Count = 10,
    ) -> str:
        """Find items, and their ids, by title."""

        def work(recommender: Any) -> list[dict[str, Any]]:
            name = rest.dataset_of(recommender, None, None)
            found = rest.items_of(recommender, name, recommender.search_items(query, n, name))
            return [i.model_dump(exclude_none=True) for i in found]

        return dumped(await asked(service, context, work))

    @read("get_user_history", "A user's history")
    async def get_user_history(context: Context[Any, Any], user_id: User = None, n: Count = 20) -> str:
        """A user's latest interactions, oldest first."""
        user = allowed(context, user_id, None)
        if user is None:
            raise ToolError("give user_id")

        def work(recommender: Any) -> dict[str, Any]:
            name = rest.dataset_of(recommender, None, user)
            rest.check_user(recommender, name, user)
            return rest.user_reply(recommender, name, user, n).model_dump(exclude_none=True)

        return dumped(await asked(service, context, work))

    if writes:

        @server.tool("record_event", "Record an event", annotations=WRITES, structured_output=False)
        async def record_event(
            context: Context[Any, Any],
            item_id: Id,
            user_id: User = None,
            event_type: Annotated[str | None, Field(description="like, dislike, seen, purchase, ...")] = None,
            value: Annotated[float | None, Field(description="a rating")] = None,
            event_id: Annotated[str | None, Field(description="the same id is not recorded twice")] = None,
        ) -> str:
            """Record what a user did; it counts from the next recommendation on."""
            user = allowed(context, user_id, None)
            if user is None:
                raise ToolError("give user_id")
            raw = {"user_id": user, "item_id": item_id, "event_type": event_type, "value": value, "event_id": event_id}
            await loaded(service)
            given = {k: v for k, v in raw.items() if v is not None}
            try:
                reply = await rest.recorded(service, [given], who_asks(context), None)
            except ApiError as error:
                raise ToolError(error.message) from error
            except GenrecError as error:
                raise ToolError(from_genrec(error, who_asks(context).may_see, new_id("mcp")).message) from error
            if reply.errors:
                raise ToolError(reply.errors[0].message)
            return dumped({"recorded": reply.recorded, "duplicates": reply.duplicates})

    @server.resource("item://{item_id}", title="An item", mime_type="application/json")
    async def item(item_id: str) -> str:
        """An item of the catalogue."""

        def work(recommender: Any) -> dict[str, Any]:
            name = rest.dataset_of(recommender, None, None, item_id)
            rest.check_item(recommender, name, item_id)
            return rest.items_of(recommender, name, [item_id])[0].model_dump()

        try:
            return dumped(await asked(service, None, work))
        except ToolError as error:
            raise ResourceNotFoundError(str(error)) from error

    @server.prompt("recommend_for_user", "Recommendations for a user")
    def recommend_for_user(user_id: str) -> str:
        """Asks for a list with reasons."""
        return (
            f"Recommend five items to user {user_id} with the tool `recommend` (explain=true), and say in one sentence "
            "each why, from the reasons that it gives. Name no items beyond those."
        )

    return server


def parsed(kind: Any, **fields: Any) -> Any:
    """A request of the REST API; what is wrong with it as a tool's error."""
    from pydantic import ValidationError

    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ToolError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def limited(service: Service, body: rest.RecommendationsRequest) -> None:
    """Raises ToolError for a list that is longer than --max-history."""
    try:
        rest.limit_body(service, body)
    except ApiError as error:
        raise ToolError(error.message) from error


def who_asks(context: Context[Any, Any] | None) -> Caller:
    """The caller of an HTTP request; over stdio it is who started the process."""
    request = context.request_context.request if context is not None else None
    found: Caller = request.state.caller if request is not None else Caller()
    return found


def allowed(context: Context[Any, Any], user: str | None, history: list[str] | None) -> str | None:
    """The user who is asked about; raises ToolError for one that this caller may not ask about."""
    who = who_asks(context)
    user = user or (who.user if history is None else None)
    try:
        if user is not None or history is None:
            who.check(user)
    except ApiError as error:
        raise ToolError(error.message) from error
    return user


async def loaded(service: Service) -> None:
    """Wait for the run; raises ToolError where it cannot be loaded."""
    while not service.is_loaded and service.failure is None:
        await asyncio.sleep(0.05)
    if service.failure is not None:
        raise ToolError(model_loading(service.failure).message)


async def asked(service: Service, context: Context[Any, Any] | None, work: Callable[[Any], Any]) -> Any:
    """What a job of the model thread returns; mistakes as tool errors."""
    await loaded(service)
    try:
        return await service.ask(work)
    except ApiError as error:
        raise ToolError(error.message) from error
    except GenrecError as error:
        raise ToolError(from_genrec(error, who_asks(context).may_see, new_id("mcp")).message) from error


def dumped(value: Any) -> str:
    """As JSON."""
    return json.dumps(value, ensure_ascii=False, default=list)


# --- transports -----------------------------------------------------------------------------------------------------


def mcp_app(service: Service) -> tuple[Any, Callable[[], contextlib.AbstractAsyncContextManager[None]]]:
    """The streamable HTTP application, and what must be open while it answers. Hosts are checked before it."""
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
        watching = asyncio.create_task(service.watch())
        try:
            await build(service, config.record_events).run_stdio_async()
            await service.written()
        finally:
            watching.cancel()

    try:
        asyncio.run(answer())
    finally:
        service.close()


def client_config(config: ServeConfig) -> dict[str, Any]:
    """What MCP clients (Claude, Cursor, LibreChat, ...) have in their configuration files for this run."""
    arguments = ["-m", "genrec", "mcp", str(Path(config.run).resolve())]
    arguments += ["--record-events"] if config.record_events else []
    return {"mcpServers": {"genrec": {"command": sys.executable, "args": arguments}}}
