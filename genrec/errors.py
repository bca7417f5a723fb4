"""The user's mistakes: printed as one message, exit code 2 (HTTP 4xx). Everything else keeps its traceback.

GenrecError
├── DataError          a file, row or column cannot be used
├── TaskError          a task YAML cannot be used
├── RunError           a run or adapter folder cannot be used
├── UnknownNameError   a name that nothing has: user, item, task, model, data set, option value
└── UnavailableError   something must be fetched and cannot be, or an optional package is missing
"""

import difflib
import heapq
from collections.abc import Callable, Iterable

COMPARED = 2_000  # names that a wrong one is compared with; of more, those that begin as it does
LONGEST = 200  # characters of a name that are compared


class GenrecError(Exception):
    """A mistake the user can mend; the message says what, which value, what is allowed."""


class DataError(GenrecError):
    """A file, row or column cannot be used."""


class TaskError(GenrecError):
    """A task YAML cannot be used."""


class RunError(GenrecError):
    """A run or adapter folder cannot be used."""


class UnavailableError(GenrecError):
    """Something must be fetched and cannot be, or an optional package is missing."""


class UnknownNameError(GenrecError):
    """A name that nothing has."""

    def __init__(self, kind: str, name: str, available: Iterable[str], where: str = "") -> None:
        self.kind, self.name, self.available = kind, name, [str(n) for n in available]
        super().__init__(unknown_name(kind, name, self.available, where))

    def said_to(self, may_see: Callable[[str], bool]) -> str:
        """The message for a caller who may not be told of all users: then without other users' ids."""
        if self.kind != "user" or all(map(may_see, self.available)):
            return str(self)
        return f"Unknown user '{self.name}'."


def unknown_name(kind: str, name: str, available: Iterable[str], where: str = "") -> str:
    """`Unknown task 'ratng'. Did you mean 'rating'? Available: click, rating, ...`"""
    names = list(dict.fromkeys(str(n) for n in available))
    likely = names if len(names) <= COMPARED else [n for n in names if n[:2] == name[:2]][:COMPARED]
    close = difflib.get_close_matches(name[:LONGEST], likely, n=3)
    message = f"Unknown {kind} '{name}'{' ' + where if where else ''}."
    if close:
        message += f" Did you mean {' or '.join(repr(c) for c in close)}?"
    if kind == "user" and close:  # the others are of no help
        return message
    shown = ", ".join(heapq.nsmallest(20, names))
    more = f", ... ({len(names)} in all)" if len(names) > 20 else ""
    return f"{message} Available: {shown or 'none'}{more}"
