"""The process that loaded a run: a copy made by a fork cannot answer."""

import os
from dataclasses import dataclass, field

from .errors import UnavailableError


@dataclass(frozen=True)
class Process:
    """The process that made this value."""

    number: int = field(default_factory=os.getpid)

    def check(self) -> None:
        """Raises UnavailableError in another process: threads of torch, polars and the model do not outlive a fork, and
        whatever waits for them hangs."""
        if (here := os.getpid()) != self.number:
            raise UnavailableError(
                f"this run was loaded in process {self.number}, of which process {here} is a fork; load it there: "
                "gunicorn without --preload, multiprocessing with the start method spawn"
            )
