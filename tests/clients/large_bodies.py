"""Hooks of schemathesis: lists of a body grow to 10,000 entries and texts to 100,000 characters, within 1 MB."""

import json
from typing import Any

import schemathesis

MOST = 1_000_000  # bytes
ENTRIES = 10_000
CHARACTERS = 100_000


def grown(value: Any, room: int) -> Any:
    """A value with its first list or text repeated, so that it takes at most `room` bytes."""
    size = len(json.dumps(value).encode())
    if isinstance(value, list) and value:
        times = min(ENTRIES // len(value), room // max(size, 1))
        return value * max(times, 1)
    if isinstance(value, str) and value:
        return value * max(min(CHARACTERS // len(value), room // max(size, 1)), 1)
    return value


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Every field that can grow does, one after another, while there is room; other bodies stay as they are."""
    try:
        for name in list(body) if isinstance(body, dict) else ():
            room = MOST - len(json.dumps(body).encode())
            body[name] = grown(body[name], room)
    except (TypeError, ValueError):  # what is no JSON is sent as it is
        pass
    return body
