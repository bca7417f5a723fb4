"""Completions: each prompt is answered as if it were the only message of a chat."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Response

from ...recommender import Recommender
from ..chat.messages import Message
from ..deps import ClientDep, ServiceDep
from ..errors import invalid
from ..ids import new_id
from ..service import Done, Service, Stream
from .forms import CompletionRequest
from .inputs import texts_of
from .jobs import Completion, Job, chat_job, chat_request, silent
from .models import check_model
from .options import CHOICES, ChatOptions, chat_options, is_stream
from .stream import DONE, event_stream, sse

router = APIRouter(tags=["openai"])

PROMPTS = CHOICES * 4  # of a request at most


@router.post("/completions", response_model=None)
async def create_completion(
    service: ServiceDep, client: ClientDep, body: CompletionRequest
) -> dict[str, Any] | Response:
    """Answer a prompt as if it were the only message of a chat."""
    check_model(service, body.model)
    prompts = await service.ask(lambda r: texts_of(r, body.prompt, "prompt"))
    if len(prompts) > PROMPTS:
        raise invalid(f"prompt: at most {PROMPTS} at a time (given: {len(prompts)})", "prompt")
    options = chat_options(body, ("max_tokens",))
    base = {
        "id": new_id("cmpl"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": service.name,
        "system_fingerprint": service.fingerprint,
    }
    jobs = [chat_job(service, chat_request(client, body, [Message("user", p)]), options) for p in prompts]
    if is_stream(body):
        stream = service.stream(jobs[0])
        return event_stream(client, stream, completion_events(service, stream, jobs[1:], options, base))

    def work(recommender: Recommender) -> list[Completion]:
        return [job(recommender, silent) for job in jobs]

    completions = await service.ask(work, client.disconnected)
    choices = [
        {"index": n, "text": c.text, "logprobs": None, "finish_reason": c.reason, "genrec": c.content}
        for n, c in enumerate(c for c in completions for _ in range(options.choices))
    ]
    return {**base, "choices": choices, "usage": total_usage(completions)}


def total_usage(completions: Sequence[Completion]) -> dict[str, int]:
    """The tokens of several answers."""
    prompt, tokens = sum(c.prompt_tokens for c in completions), sum(c.tokens for c in completions)
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


async def completion_events(
    service: Service, first: Stream[Completion], others: Sequence[Job], options: ChatOptions, base: dict[str, Any]
) -> AsyncIterator[str]:
    """The events of a completion, prompt by prompt; first: the stream of the first prompt, whose job is queued."""
    completions = []
    for n in range(1 + len(others)):
        stream = first if n == 0 else service.stream(others[n - 1])
        async for piece in stream.pieces:
            text, reason = ("", piece.result.reason) if isinstance(piece, Done) else (piece, None)
            yield sse({**base, "choices": [{"index": n, "text": text, "logprobs": None, "finish_reason": reason}]})
            if isinstance(piece, Done):
                completions.append(piece.result)
    if options.usage:
        yield sse({**base, "choices": [], "usage": total_usage(completions)})
    yield DONE
