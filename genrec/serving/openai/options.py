"""How an answer is wanted: its length, its end, its form; read from the fields of a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import invalid
from .forms import Loose, ResponsesRequest

CHOICES = 8  # answers to one prompt at most


@dataclass(frozen=True)
class ChatOptions:
    """How an answer is wanted. max_tokens: it is cut there; stop: texts that end it; schema: its JSON must meet this;
    tool: the function that must be called with it; field: where the schema stands in the request."""

    max_tokens: int | None
    stop: tuple[str, ...] = ()
    choices: int = 1
    usage: bool = False
    schema: Any = None
    json: bool = False
    tool: str | None = None
    field: str = "response_format"

    @property
    def needs_whole_text(self) -> bool:
        """Whether the text must be complete before any of it can be sent."""
        return self.json or bool(self.stop) or self.schema is not None or self.max_tokens is not None


def chat_options(body: Loose, limits: Sequence[str]) -> ChatOptions:
    """The options of a chat or completion; limits: fields that may hold the number of tokens."""
    schema, as_json = schema_of(
        getattr(body, "response_format", None), ("json_schema", "schema"), "response_format.json_schema.schema"
    )
    field = "response_format" if schema is None else "response_format.json_schema.schema"
    stream_options = getattr(body, "stream_options", None)
    tool = forced_tool(getattr(body, "tool_choice", None), getattr(body, "tools", None))
    if tool is not None and schema is None:
        schema, field = tool[1], "tools"
    return ChatOptions(
        max_tokens=whole_number(body, limits, 1),
        stop=stop_texts(body),
        choices=whole_number(body, ("n",), 1, CHOICES) or 1,
        usage=isinstance(stream_options, Mapping) and bool(stream_options.get("include_usage")),
        schema=schema,
        json=as_json,
        tool=tool[0] if tool is not None else None,
        field=field,
    )


def response_options(body: ResponsesRequest) -> ChatOptions:
    """The options of a response, whose format is under `text`."""
    text = getattr(body, "text", None)
    field = "text.format.schema"
    schema, as_json = schema_of(text.get("format") if isinstance(text, Mapping) else None, ("schema",), field)
    return ChatOptions(whole_number(body, ("max_output_tokens",), 1), schema=schema, json=as_json, field=field)


def schema_of(form: object, path: Sequence[str], field: str) -> tuple[Any, bool]:
    """The JSON schema of a format, under a path of keys, and whether any JSON will do. Raises ApiError 400 naming
    `field` if the schema is missing."""
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        schema: Any = form
        for key in path:
            schema = schema.get(key) if isinstance(schema, Mapping) else None
        if schema is None:
            raise invalid(f"{field} is missing", field, "missing_required_parameter")
        return schema, False
    return None, isinstance(form, Mapping) and form.get("type") == "json_object"


def forced_tool(choice: object, tools: object) -> tuple[str, Any] | None:
    """The function that an answer must call, and the schema of its arguments; tools that may be called are not."""
    if not isinstance(tools, list) or choice in (None, "auto", "none"):
        return None
    functions = [t.get("function", t) for t in tools if isinstance(t, Mapping)]
    chosen = choice.get("function", choice) if isinstance(choice, Mapping) else {}
    name = chosen.get("name") if isinstance(chosen, Mapping) else None
    if isinstance(choice, Mapping) and not isinstance(name, str):
        raise invalid("tool_choice: an object names a function: {type: function, function: {name}}", "tool_choice")
    for function in functions:
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            if name is None or function["name"] == name:
                return function["name"], function.get("parameters") or {"type": "object"}
    return None


def whole_number(body: Loose, names: Sequence[str], low: int, high: int | None = None) -> int | None:
    """The first of some fields that is given, as a number; raises ApiError 400 for anything else."""
    for name in names:
        value = getattr(body, name, None)
        if value is None:
            continue
        number = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not number:
            raise invalid(f"{name}: a whole number is needed (given: {value!r})", name, "invalid_type")
        if value < low or (high is not None and value > high):
            upper = f" to {high}" if high is not None else " or more"
            raise invalid(f"{name}: {low}{upper} (given: {value!r})", name)
        return int(value)
    return None


def stop_texts(body: Loose) -> tuple[str, ...]:
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
