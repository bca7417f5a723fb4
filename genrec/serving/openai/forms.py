"""Requests as clients of the OpenAI API send them: read leniently, since each client adds fields of its own."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..chat.messages import whole_characters


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
