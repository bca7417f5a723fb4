"""Ids of answers and requests."""

import itertools
import secrets

_process = secrets.token_hex(8)
_numbers = itertools.count(1)


def new_id(kind: str) -> str:
    """`rec_9f3c...01`: no other answer has it, of this process or another. Counted, since asking the system for chance
    gives up the interpreter's lock each time."""
    return f"{kind}_{_process}{next(_numbers):08x}"
