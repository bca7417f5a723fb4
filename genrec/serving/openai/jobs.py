"""The job that answers a chat, whichever endpoint it came by."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...errors import DataError
from ...ids import as_id
from ...recommender import Recommender
from ..chat.chat import ChatReply, ChatRequest, chat
from ..chat.messages import Message
from ..deps import Client
from ..service import Service, TextCallback
from .forms import Loose
from .options import ChatOptions


@dataclass(frozen=True)
class Completion:
    """A finished answer: its text, why it ended (stop or length), the structure beside it, and the tokens it took."""

    text: str
    reason: str
    content: dict[str, Any]
    prompt_tokens: int
    tokens: int

    def usage(self) -> dict[str, int]:
        """As chat completions tell it."""
        total = self.prompt_tokens + self.tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens, "total_tokens": total}


Job = Callable[[Recommender, TextCallback], Completion]


def silent(text: str) -> None:
    """Emit nothing: for answers that are sent whole."""


def chat_request(client: Client, body: Loose, messages: list[Message]) -> ChatRequest:
    """Messages with all that says who asks: the client, and the fields `user` and `metadata`."""
    users: list[str] = []
    metadata = getattr(body, "metadata", None)
    for value in (getattr(body, "user", None), metadata.get("user_id") if isinstance(metadata, Mapping) else None):
        names = [value[k] for k in ("id", "email", "name") if k in value] if isinstance(value, Mapping) else [value]
        for name in names:
            with suppress(DataError):  # what is no id names nobody
                users.append(as_id(name))
    dataset = metadata.get("dataset") if isinstance(metadata, Mapping) else None
    dataset = dataset if isinstance(dataset, str) else None
    return ChatRequest(tuple(messages), client.caller, client.task, tuple(users), dataset)


def chat_job(service: Service, request: ChatRequest, options: ChatOptions) -> Job:
    """The job that answers a chat: emits its text, in pieces if the options allow it, and counts its tokens."""

    def job(recommender: Recommender, on_text: TextCallback) -> Completion:
        began = time.perf_counter()
        is_first = True

        def emit(piece: str) -> None:
            nonlocal is_first
            if is_first:
                is_first = False
                service.metrics.first.observe(time.perf_counter() - began)
            on_text(piece)

        whole = options.needs_whole_text
        reply = chat(recommender, service.reader, request, options.max_tokens, silent if whole else emit)
        if (strategy := reply.content.get("strategy")) is not None:
            service.metrics.recommendations.labels(strategy).inc()
        completion = completed(recommender, request, options, reply)
        service.metrics.tokens.labels("prompt").inc(completion.prompt_tokens)
        service.metrics.tokens.labels("completion").inc(completion.tokens)
        if whole:
            emit(completion.text)
        return completion

    return job


def completed(recommender: Recommender, request: ChatRequest, options: ChatOptions, reply: ChatReply) -> Completion:
    """A reply in the form that is wanted, cut where it must end."""
    text, reason = reply.text, "stop" if reply.ended else "length"
    if options.schema is not None:
        from ..chat.structured import filled

        text = filled(options.schema, reply.content, reply.text, options.field)
    elif options.json:
        try:
            json.loads(text)
        except ValueError:
            text = json.dumps(reply.content or {"answer": reply.text}, ensure_ascii=False)
    ends = [place for stop in options.stop if (place := text.find(stop)) >= 0]
    if ends:
        text, reason = text[: min(ends)], "stop"
    if options.max_tokens is not None:
        text, cut = recommender.cut(text, options.max_tokens)
        reason = "length" if cut else reason
    prompt_tokens = recommender.count_tokens(*(m.text for m in request.messages))
    return Completion(text, reason, reply.content, prompt_tokens, recommender.count_tokens(text))
