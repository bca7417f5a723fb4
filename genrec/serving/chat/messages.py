"""Messages as clients send them, read leniently."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ApiError, invalid

TEXTS = ("text", "input_text", "output_text")  # parts of a message that hold text
SILENT = ("reasoning", "function_call", "function_call_output", "item_reference")  # parts of a Responses input


@dataclass(frozen=True)
class Message:
    """role: system, user or assistant; what is said by others (tools, functions) has their own role."""

    role: str
    text: str


def whole_characters(data: Any) -> Any:
    """A body with a question mark for each half of a character, as programs leave it that cut an emoji in two."""
    if isinstance(data, bytes):  # not sent as JSON
        return data
    text = json.dumps(data, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode(errors="replace"))
    return data


def read_messages(value: object, field: str = "messages") -> list[Message]:
    """The messages of a chat: content is a text, parts, or nothing; any role is taken, `developer` as system.

    Raises ApiError 400, naming the message, for what is none.
    """
    if value is None:
        raise invalid(f"{field} is missing", field, "missing_required_parameter")
    if not isinstance(value, list):
        raise invalid(f"{field}: a list of messages is needed", field, "invalid_type")
    if not value:
        raise invalid(f"{field} is empty", field)
    return [read_message(entry, f"{field}[{n}]") for n, entry in enumerate(value)]


def read_message(value: object, field: str) -> Message:
    """One message."""
    if not isinstance(value, Mapping):
        raise invalid(f"{field}: an object with role and content is needed", field, "invalid_type")
    role = value.get("role", "user")
    if not isinstance(role, str):
        raise invalid(f"{field}.role: a text is needed", f"{field}.role", "invalid_type")
    role = "system" if role == "developer" else role
    return Message(role, read_content(value.get("content"), f"{field}.content"))


def read_content(value: object, field: str) -> str:
    """The text of a content; pictures, sounds and files in it are passed over."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise invalid(f"{field}: a text or a list of parts is needed", field, "invalid_type")
    texts = []
    for n, part in enumerate(value):
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, Mapping):
            raise invalid(f"{field}[{n}]: a part is an object", f"{field}[{n}]", "invalid_type")
        elif part.get("type") in TEXTS and part.get("text") is not None:
            if not isinstance(part["text"], str):
                raise invalid(f"{field}[{n}].text: a text is needed", f"{field}[{n}].text", "invalid_type")
            texts.append(part["text"])
    return "\n".join(texts)


def read_input(value: object, instructions: object = None) -> list[Message]:
    """The input of a Responses request: a text or a list of messages; calls of tools are passed over."""
    first = [Message("system", instructions)] if isinstance(instructions, str) and instructions else []
    if isinstance(value, str):
        return [*first, Message("user", value)]
    if isinstance(value, list):
        value = [v for v in value if not (isinstance(v, Mapping) and v.get("type") in SILENT)]
    try:
        return [*first, *read_messages(value, "input")]
    except ApiError as error:
        if value == []:
            raise invalid("input holds no message", "input") from error
        raise
