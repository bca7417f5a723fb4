"""Chat completions, whole or as a stream."""

import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Response

from ..chat.messages import read_messages
from ..deps import ClientDep, ServiceDep
from ..ids import new_id
from ..service import Done
from . import forms
from .jobs import Completion, chat_job, chat_request, silent
from .models import check_model
from .options import ChatOptions, chat_options, is_stream
from .stream import DONE, event_stream, sse

router = APIRouter(tags=["openai"])


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(
    service: ServiceDep, client: ClientDep, body: forms.ChatRequest
) -> dict[str, Any] | Response:
    """Answer a chat, whole or as a stream of server-sent events."""
    check_model(service, body.model)
    messages = read_messages(body.messages)
    service.check_lengths(messages)
    options = chat_options(body, ("max_completion_tokens", "max_tokens"))
    job = chat_job(service, chat_request(client, body, messages), options)
    base = {
        "id": new_id("chatcmpl"),
        "created": int(time.time()),
        "model": service.name,
        "system_fingerprint": service.fingerprint,
    }
    if is_stream(body):
        stream = service.stream(job)
        return event_stream(client, stream, chat_events(stream.pieces, options, base))
    completion = await service.ask(lambda r: job(r, silent), client.disconnected)
    choices = [{"index": n, **chat_choice(options, completion), "logprobs": None} for n in range(options.choices)]
    return {**base, "object": "chat.completion", "choices": choices, "usage": completion.usage()}


def chat_choice(options: ChatOptions, completion: Completion) -> dict[str, Any]:
    """The message of an answer and why it ended."""
    message: dict[str, Any] = {"role": "assistant", "content": completion.text}
    reason = completion.reason
    if options.tool is not None:
        message |= {"content": None, "tool_calls": [tool_call(options.tool, completion.text)]}
        reason = "tool_calls"
    if completion.content:
        message["genrec"] = completion.content
    return {"message": message, "finish_reason": reason}


def tool_call(name: str, arguments: str) -> dict[str, Any]:
    """A call of a function."""
    return {"id": new_id("call"), "type": "function", "function": {"name": name, "arguments": arguments}}


async def chat_events(
    pieces: AsyncIterator[str | Done[Completion]], options: ChatOptions, base: dict[str, Any]
) -> AsyncIterator[str]:
    """The events of a chat completion."""
    base = {**base, "object": "chat.completion.chunk"}
    usage = {"usage": None} if options.usage else {}

    def event(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sse({**base, "choices": [choice], **usage})

    for n in range(options.choices):
        yield event({"role": "assistant", "content": ""}, index=n)
    async for piece in pieces:
        if not isinstance(piece, Done):
            if options.tool is None:
                for n in range(options.choices):
                    yield event({"content": piece}, index=n)
            continue
        completion: Completion = piece.result
        for n in range(options.choices):
            last: dict[str, Any] = {"genrec": completion.content} if completion.content else {}
            if options.tool is not None:
                yield event({"tool_calls": [{"index": 0, **tool_call(options.tool, completion.text)}]}, index=n)
            yield event(last, "tool_calls" if options.tool is not None else completion.reason, n)
        if options.usage:
            yield sse({**base, "choices": [], "usage": completion.usage()})
    yield DONE
