"""The Responses API; nothing is stored."""

import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Response

from ..chat.messages import read_input
from ..deps import ClientDep, ServiceDep
from ..errors import not_found
from ..ids import new_id
from ..service import Done, Service
from .forms import ResponsesRequest
from .jobs import Completion, chat_job, chat_request, silent
from .models import check_model
from .options import is_stream, response_options
from .stream import event_stream, sse

router = APIRouter(tags=["openai"])


@router.post("/responses", response_model=None)
async def create_response(service: ServiceDep, client: ClientDep, body: ResponsesRequest) -> dict[str, Any] | Response:
    """Answer as the Responses API does; nothing is stored, so that `previous_response_id` finds nothing."""
    check_model(service, body.model)
    if getattr(body, "previous_response_id", None) is not None:
        raise not_found(
            "no response is stored here: send the whole conversation as input",
            "response_not_found",
            "previous_response_id",
        )
    messages = read_input(body.input, body.instructions)
    service.check_lengths(messages)
    job = chat_job(service, chat_request(client, body, messages), response_options(body))
    response_id, message_id = new_id("resp"), new_id("msg")
    base = response_base(service, body, response_id)
    if is_stream(body):
        stream = service.stream(job)
        return event_stream(client, stream, response_events(stream.pieces, base, message_id))
    completion = await service.ask(lambda r: job(r, silent), client.disconnected)
    return response_of(base, completion, message_id)


def response_base(service: Service, body: ResponsesRequest, response_id: str) -> dict[str, Any]:
    """The fields that every state of a response has."""
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


def output_text(text: str) -> dict[str, Any]:
    """The part of a message that holds its text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def output_message(message_id: str, text: str, status: str) -> dict[str, Any]:
    """The message of a response; without content while it is in progress."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [output_text(text)] if status != "in_progress" else [],
    }


def response_of(base: dict[str, Any], completion: Completion, message_id: str) -> dict[str, Any]:
    """A finished response."""
    is_complete = completion.reason != "length"
    status = "completed" if is_complete else "incomplete"
    usage = {
        "input_tokens": completion.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": completion.prompt_tokens + completion.tokens,
    }
    response = {
        **base,
        "status": status,
        "incomplete_details": None if is_complete else {"reason": "max_output_tokens"},
        "output": [output_message(message_id, completion.text, status)],
        "usage": usage,
    }
    return response | ({"genrec": completion.content} if completion.content else {})


async def response_events(
    pieces: AsyncIterator[str | Done[Completion]], base: dict[str, Any], message_id: str
) -> AsyncIterator[str]:
    """The events of a response."""
    number = -1

    def event(kind: str, **fields: Any) -> str:
        nonlocal number
        number += 1
        return sse({"type": kind, "sequence_number": number, **fields}, kind)

    place = {"item_id": message_id, "output_index": 0, "content_index": 0}
    yield event("response.created", response=base)
    yield event("response.in_progress", response=base)
    yield event("response.output_item.added", output_index=0, item=output_message(message_id, "", "in_progress"))
    yield event("response.content_part.added", **place, part=output_text(""))
    async for piece in pieces:
        if not isinstance(piece, Done):
            yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
            continue
        response = response_of(base, piece.result, message_id)
        (message,) = response["output"]
        yield event("response.output_text.done", **place, text=piece.result.text, logprobs=[])
        yield event("response.content_part.done", **place, part=message["content"][0])
        yield event("response.output_item.done", output_index=0, item=message)
        yield event(f"response.{response['status']}", response=response)
