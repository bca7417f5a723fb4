"""OpenAI's endpoints: models, chat completions, completions, responses, embeddings, and a rerank as Jina's."""

import asyncio
import base64
import contextlib
import json
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import StreamingResponse

from ..errors import GenrecError
from ..recommender import Recommender
from .chat import Asked, Said, chat
from .errors import ApiError, from_genrec, invalid, not_found, server_error
from .ids import new_id
from .messages import Message, read_input, read_messages, whole_characters
from .recommender_api import PathId, caller, gone, limit_lists, service_of
from .service import Done, Service, Stream

router = APIRouter(tags=["openai"])

PING = 10.0  # seconds between signs of life in a stream
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
CHOICES = 8
INPUTS = 2_048


class Loose(BaseModel):
    """A request of OpenAI's; whatever else a client sends is kept out of the way."""

    model_config = ConfigDict(extra="allow")

    _whole = model_validator(mode="before")(whole_characters)


class ChatRequest(Loose):
    """`messages`, and how to answer: stream, max_tokens, stop, n, response_format, user, metadata."""

    model: Any = None
    messages: Any = Field(None, description="[{role, content}], content a string or a list of parts")
    stream: Any = False


class CompletionRequest(Loose):
    """`prompt`: a text, or a list of them."""

    model: Any = None
    prompt: Any = None
    stream: Any = False


class ResponsesRequest(Loose):
    """`input`: a text or a list of messages; nothing is stored."""

    model: Any = None
    input: Any = None
    instructions: Any = None
    stream: Any = False


class EmbeddingsRequest(Loose):
    """`input`: a text, a list of texts, or token ids; `encoding_format`: float or base64."""

    model: Any = None
    input: Any = None
    encoding_format: Any = "float"


class RerankRequest(Loose):
    """`query` and `documents`, as Jina's rerankers take them."""

    model: Any = None
    query: Any = None
    documents: Any = None
    top_n: Any = None


# --- models -------------------------------------------------------------------------------------------------------


def model_entry(service: Service) -> dict[str, Any]:
    """The model as lists of models show it."""
    recommender = service.recommender
    meta = {"datasets": {d: recommender.tasks(d) for d in recommender.datasets}}
    return {
        "id": service.name,
        "object": "model",
        "created": service.started,
        "owned_by": "genrec",
        "name": service.name,
        "context_length": recommender.context_length,
        "meta": meta,
    }


@router.get("/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The models that answer: the run that is served."""
    return {"object": "list", "data": [model_entry(service_of(request))]}


@router.get("/models/{model}")
async def get_model(request: Request, model: PathId) -> dict[str, Any]:
    """One model."""
    service = service_of(request)
    check_model(service, model)
    return model_entry(service)


def check_model(service: Service, model: object) -> None:
    """Raises ApiError 404 for a model that is not served, unless --any-model; none at all means the one that is."""
    if model is None or model == service.name:
        return
    if not isinstance(model, str):
        raise invalid(f"model: a text is needed, not {type(model).__name__}", "model", "invalid_type")
    if service.config.any_model:
        return
    raise ApiError(
        404, f"there is no model {model!r}; this server has {service.name!r}", param="model", code="model_not_found"
    )


# --- what the endpoints of chats have in common -------------------------------------------------------------------


@dataclass(frozen=True)
class Manner:
    """How an answer is wanted. schema: what its JSON must meet; tool: the function that must be called with it."""

    most: int | None
    stop: tuple[str, ...]
    choices: int = 1
    usage: bool = False
    schema: Any = None
    json: bool = False
    tool: str | None = None
    field: str = "response_format"

    @property
    def whole(self) -> bool:
        """Whether the text must be complete before any of it can be sent."""
        return self.json or bool(self.stop) or self.schema is not None or self.most is not None


@dataclass(frozen=True)
class Answered:
    """A finished answer: what is sent, why it ended, the structure beside it, and the tokens it took."""

    text: str
    reason: str
    content: dict[str, Any]
    prompt_tokens: int
    tokens: int

    def usage(self) -> dict[str, int]:
        """As chat completions tell it."""
        total = self.prompt_tokens + self.tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens, "total_tokens": total}


def whole_number(body: Loose, names: Sequence[str], least: int, most: int | None = None) -> int | None:
    """The first of some fields that is given, as a number."""
    for name in names:
        value = getattr(body, name, None)
        if value is None:
            continue
        number = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not number:
            raise invalid(f"{name}: a whole number is needed (given: {value!r})", name, "invalid_type")
        if value < least or (most is not None and value > most):
            upper = f" to {most}" if most is not None else " or more"
            raise invalid(f"{name}: {least}{upper} (given: {value!r})", name)
        return int(value)
    return None


def stops(body: Loose) -> tuple[str, ...]:
    """The texts that end an answer."""
    value = getattr(body, "stop", None)
    values = [value] if isinstance(value, str) else value or []
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise invalid("stop: a text or a list of texts", "stop", "invalid_type")
    return tuple(v for v in values if v)


def is_stream(body: Any) -> bool:
    """Whether the answer is wanted in pieces."""
    if not isinstance(body.stream, bool) and body.stream is not None:
        raise invalid(f"stream: true or false (given: {body.stream!r})", "stream", "invalid_type")
    return bool(body.stream)


def manner_of(body: Loose, most: Sequence[str]) -> Manner:
    """How the answer to a chat is wanted."""
    form = getattr(body, "response_format", None)
    schema, as_json, field = None, False, "response_format"
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        inner = form.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
        if schema is None:
            raise invalid(
                "response_format.json_schema.schema is missing",
                "response_format.json_schema.schema",
                "missing_required_parameter",
            )
        field = "response_format.json_schema.schema"
    elif isinstance(form, Mapping) and form.get("type") == "json_object":
        as_json = True
    options = getattr(body, "stream_options", None)
    tool = forced_tool(getattr(body, "tool_choice", None), getattr(body, "tools", None))
    if tool is not None and schema is None:
        schema, field = tool[1], "tools"
    return Manner(
        whole_number(body, most, 1),
        stops(body),
        whole_number(body, ("n",), 1, CHOICES) or 1,
        isinstance(options, Mapping) and bool(options.get("include_usage")),
        schema,
        as_json,
        tool[0] if tool is not None else None,
        field,
    )


def forced_tool(choice: object, tools: object) -> tuple[str, Any] | None:
    """The function that an answer must call, and the schema of its arguments; tools that may be called are not."""
    if not isinstance(tools, list) or choice in (None, "auto", "none"):
        return None
    functions = [t.get("function", t) for t in tools if isinstance(t, Mapping)]
    wanted = choice.get("function", choice) if isinstance(choice, Mapping) else {}
    named = wanted.get("name") if isinstance(wanted, Mapping) else None
    if isinstance(choice, Mapping) and not isinstance(named, str):
        raise invalid("tool_choice: an object names a function: {type: function, function: {name}}", "tool_choice")
    for function in functions:
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            if named is None or function["name"] == named:
                return function["name"], function.get("parameters") or {"type": "object"}
    return None


def asked_of(request: Request, body: Loose, messages: list[Message]) -> Asked:
    """A chat with all that says who asks."""
    users: list[str] = []
    metadata = getattr(body, "metadata", None)
    for given in (getattr(body, "user", None), metadata.get("user_id") if isinstance(metadata, Mapping) else None):
        if isinstance(given, Mapping):
            users += [str(given[k]) for k in ("id", "email", "name") if given.get(k)]
        elif isinstance(given, (str, int)):
            users.append(str(given))
    dataset = metadata.get("dataset") if isinstance(metadata, Mapping) else None
    task = request.headers.get("x-genrec-task")
    return Asked(tuple(messages), caller(request), task, tuple(users), dataset if isinstance(dataset, str) else None)


def worker(service: Service, asked: Asked, manner: Manner) -> Callable[[Recommender, Callable[[str], None]], Answered]:
    """The job that answers a chat."""

    def work(recommender: Recommender, hand: Callable[[str], None]) -> Answered:
        began = time.perf_counter()
        first = [False]

        def handing(piece: str) -> None:
            if not first[0]:
                first[0] = True
                service.metrics.first.observe(time.perf_counter() - began)
            hand(piece)

        said = chat(recommender, service.reader, asked, manner.most, (lambda _: None) if manner.whole else handing)
        if (strategy := said.content.get("strategy")) is not None:
            service.metrics.recommendations.labels(strategy).inc()
        answered = finished(recommender, asked, manner, said)
        service.metrics.tokens.labels("prompt").inc(answered.prompt_tokens)
        service.metrics.tokens.labels("completion").inc(answered.tokens)
        if manner.whole:
            handing(answered.text)
        return answered

    return work


def finished(recommender: Recommender, asked: Asked, manner: Manner, said: Said) -> Answered:
    """An answer in the form that is wanted, cut where it must end."""
    text, reason = said.text, "stop" if said.ended else "length"
    if manner.schema is not None:
        from .structured import filled

        text = filled(manner.schema, said.content, said.text, manner.field)
    elif manner.json:
        try:
            json.loads(text)
        except ValueError:
            text = json.dumps(said.content or {"answer": said.text}, ensure_ascii=False)
    places = [p for s in manner.stop if (p := text.find(s)) >= 0]
    if places:
        text, reason = text[: min(places)], "stop"
    if manner.most is not None:
        text, cut = recommender.cut(text, manner.most)
        reason = "length" if cut else reason
    prompt = recommender.count_tokens(*(m.text for m in asked.messages))
    return Answered(text, reason, said.content, prompt, recommender.count_tokens(text))


# --- chat completions ---------------------------------------------------------------------------------------------


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(request: Request, body: ChatRequest) -> dict[str, Any] | Response:
    """Answer a chat, whole or as a stream of server-sent events."""
    service = service_of(request)
    check_model(service, body.model)
    messages = read_messages(body.messages)
    limit_lists(service, messages)
    manner = manner_of(body, ("max_completion_tokens", "max_tokens"))
    work = worker(service, asked_of(request, body, messages), manner)
    base = {
        "id": new_id("chatcmpl"),
        "created": int(time.time()),
        "model": service.name,
        "system_fingerprint": service.fingerprint,
    }
    if is_stream(body):
        stream = service.stream(work)
        return streaming(request, stream, chat_chunks(stream.pieces, manner, base))
    answered = await service.ask(lambda r: work(r, lambda _: None), gone(request))
    choices = [{"index": n, **chat_choice(manner, answered), "logprobs": None} for n in range(manner.choices)]
    return {**base, "object": "chat.completion", "choices": choices, "usage": answered.usage()}


def chat_choice(manner: Manner, answered: Answered) -> dict[str, Any]:
    """The message of an answer and why it ended."""
    message: dict[str, Any] = {"role": "assistant", "content": answered.text}
    reason = answered.reason
    if manner.tool is not None:
        message |= {"content": None, "tool_calls": [tool_call(manner.tool, answered.text)]}
        reason = "tool_calls"
    if answered.content:
        message["genrec"] = answered.content
    return {"message": message, "finish_reason": reason}


def tool_call(name: str, arguments: str) -> dict[str, Any]:
    """A call of a function."""
    return {
        "id": new_id("call"),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


async def chat_chunks(
    pieces: AsyncIterator[str | Done[Answered]], manner: Manner, base: dict[str, Any]
) -> AsyncIterator[str]:
    """The events of a chat completion."""
    base = {**base, "object": "chat.completion.chunk"}
    more = {"usage": None} if manner.usage else {}

    def event(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sse({**base, "choices": [choice], **more})

    for n in range(manner.choices):
        yield event({"role": "assistant", "content": ""}, index=n)
    async for piece in pieces:
        if not isinstance(piece, Done):
            if manner.tool is None:
                for n in range(manner.choices):
                    yield event({"content": piece}, index=n)
            continue
        answered: Answered = piece.result
        for n in range(manner.choices):
            last: dict[str, Any] = {"genrec": answered.content} if answered.content else {}
            if manner.tool is not None:
                yield event({"tool_calls": [{"index": 0, **tool_call(manner.tool, answered.text)}]}, index=n)
            yield event(last, "tool_calls" if manner.tool is not None else answered.reason, n)
        if manner.usage:
            yield sse({**base, "choices": [], "usage": answered.usage()})
    yield "data: [DONE]\n\n"


def sse(value: Mapping[str, Any], event: str | None = None) -> str:
    """A server-sent event."""
    name = f"event: {event}\n" if event is not None else ""
    return f"{name}data: {json.dumps(value, ensure_ascii=False)}\n\n"


class JobResponse(StreamingResponse):
    """A stream of events that drops its job once it ends, however it does: a caller may leave before its first word."""

    cancel: Callable[[], object]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.cancel()


def streaming(request: Request, stream: Stream[Answered], events: AsyncIterator[str]) -> Response:
    """Events of a job as a response: with signs of life while there is nothing to say, and errors as events."""
    told = alive(events, request.state.request_id, caller(request).may_see)
    response = JobResponse(told, media_type="text/event-stream", headers=STREAM_HEADERS)
    response.cancel = stream.cancel
    return response


async def alive(events: AsyncIterator[str], request_id: str, may_see: Callable[[str], bool]) -> AsyncIterator[str]:
    """Events, a comment where none has come for PING seconds, and an error as the last."""
    own = events.__aiter__()
    waiting: asyncio.Future[str] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(own))
            done, _ = await asyncio.wait({waiting}, timeout=PING)
            if not done:
                yield ": ping\n\n"
                continue
            event, waiting = waiting.result(), None
            yield event
    except StopAsyncIteration:
        pass
    except ApiError as error:
        yield sse(error.body())
    except GenrecError as error:
        yield sse(from_genrec(error, may_see, request_id).body())
    except Exception:
        import logging

        logging.getLogger("genrec.serving").exception("request %s failed in its stream", request_id)
        yield sse(server_error(request_id).body())
    finally:
        if waiting is not None and not waiting.done():
            waiting.cancel()
            with contextlib.suppress(BaseException):
                await waiting
        await own.aclose()  # type: ignore[attr-defined]


# --- completions --------------------------------------------------------------------------------------------------


@router.post("/completions", response_model=None)
async def create_completion(request: Request, body: CompletionRequest) -> dict[str, Any] | Response:
    """Answer a prompt as if it were the only message of a chat."""
    service = service_of(request)
    check_model(service, body.model)
    prompts = await service.ask(lambda r: texts_of(r, body.prompt, "prompt"), None)
    if len(prompts) > CHOICES * 4:
        raise invalid(f"prompt: at most {CHOICES * 4} at a time (given: {len(prompts)})", "prompt")
    manner = manner_of(body, ("max_tokens",))
    base = {
        "id": new_id("cmpl"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": service.name,
        "system_fingerprint": service.fingerprint,
    }
    works = [worker(service, asked_of(request, body, [Message("user", p)]), manner) for p in prompts]
    if is_stream(body):
        stream = service.stream(works[0])
        return streaming(request, stream, completion_chunks(service, stream.pieces, works[1:], manner, base))

    def all_of(recommender: Recommender) -> list[Answered]:
        return [work(recommender, lambda _: None) for work in works]

    found = await service.ask(all_of, gone(request))
    several = [a for a in found for _ in range(manner.choices)]
    choices = [
        {"index": n, "text": a.text, "logprobs": None, "finish_reason": a.reason, "genrec": a.content}
        for n, a in enumerate(several)
    ]
    return {**base, "choices": choices, "usage": summed(found)}


def summed(found: Sequence[Answered]) -> dict[str, int]:
    """The tokens of several answers."""
    prompt, own = sum(a.prompt_tokens for a in found), sum(a.tokens for a in found)
    return {"prompt_tokens": prompt, "completion_tokens": own, "total_tokens": prompt + own}


async def completion_chunks(
    service: Service,
    first: AsyncIterator[str | Done[Answered]],
    others: Sequence[Callable[[Recommender, Callable[[str], None]], Answered]],
    manner: Manner,
    base: dict[str, Any],
) -> AsyncIterator[str]:
    """The events of a completion, prompt by prompt."""
    found = []
    for n in range(1 + len(others)):
        async for piece in first if n == 0 else service.stream(others[n - 1]).pieces:
            text, reason = ("", piece.result.reason) if isinstance(piece, Done) else (piece, None)
            yield sse({**base, "choices": [{"index": n, "text": text, "logprobs": None, "finish_reason": reason}]})
            if isinstance(piece, Done):
                found.append(piece.result)
    if manner.usage:
        yield sse({**base, "choices": [], "usage": summed(found)})
    yield "data: [DONE]\n\n"


def texts_of(recommender: Recommender, given: object, field: str) -> list[str]:
    """A text, a list of texts, token ids, or a list of lists of them, as texts."""
    if given is None:
        raise invalid(f"{field} is missing", field, "missing_required_parameter")
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise invalid(f"{field}: a text, a list of texts, or token ids", field, "invalid_type")
    if not given:
        raise invalid(f"{field} is empty", field)
    if len(given) > INPUTS and not isinstance(given[0], int):
        raise invalid(f"{field}: at most {INPUTS} at a time (given: {len(given)})", field)
    if all(is_token(t) for t in given):
        return [recommender.text_of(given)]
    texts = []
    for n, one in enumerate(given):
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, list) and all(is_token(t) for t in one):
            texts.append(recommender.text_of(one))
        else:
            raise invalid(f"{field}[{n}]: a text or token ids", f"{field}[{n}]", "invalid_type")
    return texts


def is_token(value: object) -> bool:
    """Whether a value may be a token id."""
    return isinstance(value, int) and not isinstance(value, bool)


# --- responses ----------------------------------------------------------------------------------------------------


@router.post("/responses", response_model=None)
async def create_response(request: Request, body: ResponsesRequest) -> dict[str, Any] | Response:
    """Answer as the Responses API does; nothing is stored, so that `previous_response_id` finds nothing."""
    service = service_of(request)
    check_model(service, body.model)
    if getattr(body, "previous_response_id", None) is not None:
        raise not_found(
            "no response is stored here: send the whole conversation as input",
            "response_not_found",
            "previous_response_id",
        )
    messages = read_input(body.input, body.instructions)
    limit_lists(service, messages)
    manner = responses_manner(body)
    work = worker(service, asked_of(request, body, messages), manner)
    ids = (new_id("resp"), new_id("msg"))
    base = response_base(service, body, ids[0])
    if is_stream(body):
        stream = service.stream(work)
        return streaming(request, stream, response_events(stream.pieces, manner, base, ids[1]))
    answered = await service.ask(lambda r: work(r, lambda _: None), gone(request))
    return response_of(base, manner, answered, ids[1])


def responses_manner(body: ResponsesRequest) -> Manner:
    """How a response is wanted: its format is under `text`."""
    text = getattr(body, "text", None)
    form = text.get("format") if isinstance(text, Mapping) else None
    schema, as_json = None, False
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        schema = form.get("schema")
        if schema is None:
            raise invalid("text.format.schema is missing", "text.format.schema", "missing_required_parameter")
    elif isinstance(form, Mapping) and form.get("type") == "json_object":
        as_json = True
    return Manner(
        whole_number(body, ("max_output_tokens",), 1), (), schema=schema, json=as_json, field="text.format.schema"
    )


def response_base(service: Service, body: ResponsesRequest, response_id: str) -> dict[str, Any]:
    """What every state of a response has."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "model": service.name,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions if isinstance(body.instructions, str) else None,
        "max_output_tokens": getattr(body, "max_output_tokens", None),
        "metadata": {},
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def output_message(message_id: str, text: str, status: str) -> dict[str, Any]:
    """The message of a response."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part] if status != "in_progress" else [],
    }


def response_of(base: dict[str, Any], manner: Manner, answered: Answered, message_id: str) -> dict[str, Any]:
    """A finished response."""
    complete = answered.reason != "length"
    status = "completed" if complete else "incomplete"
    usage = {
        "input_tokens": answered.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answered.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answered.prompt_tokens + answered.tokens,
    }
    found = {
        **base,
        "status": status,
        "incomplete_details": None if complete else {"reason": "max_output_tokens"},
        "output": [output_message(message_id, answered.text, status)],
        "usage": usage,
    }
    return found | ({"genrec": answered.content} if answered.content else {})


async def response_events(
    pieces: AsyncIterator[str | Done[Answered]], manner: Manner, base: dict[str, Any], message_id: str
) -> AsyncIterator[str]:
    """The events of a response."""
    number = -1

    def event(kind: str, **fields: Any) -> str:
        nonlocal number
        number += 1
        return sse({"type": kind, "sequence_number": number, **fields}, kind)

    at = {"item_id": message_id, "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    yield event("response.created", response=base)
    yield event("response.in_progress", response=base)
    begun = output_message(message_id, "", "in_progress")
    yield event("response.output_item.added", output_index=0, item=begun)
    yield event("response.content_part.added", **at, part=empty)
    async for piece in pieces:
        if not isinstance(piece, Done):
            yield event("response.output_text.delta", **at, delta=piece, logprobs=[])
            continue
        whole = response_of(base, manner, piece.result, message_id)
        (message,) = whole["output"]
        yield event("response.output_text.done", **at, text=piece.result.text, logprobs=[])
        yield event("response.content_part.done", **at, part=message["content"][0])
        yield event("response.output_item.done", output_index=0, item=message)
        yield event(f"response.{whole['status']}", response=whole)


# --- embeddings and rerank ----------------------------------------------------------------------------------------


@router.post("/embeddings", response_model=None)
async def create_embeddings(request: Request, body: EmbeddingsRequest) -> Response:
    """Vectors of texts, in the space of the items: an item's text points the way of the item."""
    service = service_of(request)
    check_model(service, body.model)
    form = body.encoding_format or "float"
    if form not in ("float", "base64"):
        raise invalid(f"encoding_format: float or base64 (given: {form!r})", "encoding_format")
    size = whole_number(body, ("dimensions",), 1)

    def work(recommender: Recommender) -> tuple[list[list[float]], int]:
        texts = texts_of(recommender, body.input, "input")
        for n, text in enumerate(texts):
            if not text.strip():
                raise invalid(f"input[{n}] is empty" if len(texts) > 1 else "input is empty", "input")
        vectors = recommender.embed_texts(texts)
        if size is not None and vectors and size != len(vectors[0]):
            raise invalid(f"dimensions: this model has {len(vectors[0])} (given: {size})", "dimensions")
        return vectors, recommender.count_tokens(*texts)

    vectors, tokens = await service.ask(work, gone(request))

    def written() -> bytes:
        data = []
        for n, vector in enumerate(vectors):
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            own = {"object": "embedding", "index": n, "embedding": packed if form == "base64" else vector}
            data.append(json.dumps(own))  # one by one, so that others have their turn
        rest = {"object": "list", "model": service.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        return f'{json.dumps(rest)[:-1]}, "data": [{", ".join(data)}]}}'.encode()

    return Response(await asyncio.to_thread(written), media_type="application/json")


@router.post("/rerank")
async def rerank(request: Request, body: RerankRequest) -> dict[str, Any]:
    """Order documents by how well they meet a query; a query that names a user, or `user`, gives the user's order."""
    service = service_of(request)
    check_model(service, body.model)
    if not isinstance(body.query, str) or not body.query.strip():
        raise invalid("query: a text is needed", "query", "missing_required_parameter")
    if not isinstance(body.documents, list) or not body.documents:
        raise invalid("documents: a list of texts is needed", "documents", "missing_required_parameter")
    limit_lists(service, body.documents)
    texts = []
    for n, document in enumerate(body.documents):
        text = document.get("text") if isinstance(document, Mapping) else document
        if not isinstance(text, str):
            raise invalid(f"documents[{n}]: a text, or an object with one", f"documents[{n}]", "invalid_type")
        texts.append(text)
    most = whole_number(body, ("top_n",), 1) or len(texts)
    asked, query = asked_of(request, body, []), body.query

    def work(recommender: Recommender) -> tuple[list[float], int]:
        said = service.reader.seen_by(asked.caller.may_see).read(query)
        user = said.user_id or asked.caller.user
        user = user or next((u for u in asked.users if recommender.has_user(u)), None)
        asked.caller.check(user, "query")
        tokens = recommender.count_tokens(query, *texts)
        return recommender.relevance(query, texts, user), tokens

    scores, tokens = await service.ask(work, gone(request))
    order = sorted(range(len(texts)), key=lambda n: (-scores[n], n))[:most]
    shown = bool(getattr(body, "return_documents", False))
    results = [
        {"index": n, "relevance_score": scores[n]} | ({"document": {"text": texts[n]}} if shown else {}) for n in order
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {
        "id": new_id("rerank"),
        "object": "list",
        "model": service.name,
        "results": results,
        "usage": usage,
    }
