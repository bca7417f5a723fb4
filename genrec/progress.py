"""One progress for all long work: stages by name, silent by default."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

Report = Callable[[str, int, int, Mapping[str, float]], None]  # stage, done, in all, latest losses and metrics
Stage = Callable[[int, int], None]  # done, in all


@dataclass(frozen=True)
class Progress:
    """The progress of some work. report: called as each of its stages goes on; None is silent. prefix: what the names
    of its stages begin with."""

    report: Report | None = None
    prefix: str = ""

    def update(self, stage: str, done: int, total: int, latest: Mapping[str, float] | None = None) -> None:
        """So much of a stage is done; latest: losses and metrics so far."""
        if self.report is not None:
            self.report(self.prefix + stage, done, total, latest or {})

    def stage(self, name: str) -> Stage:
        """The progress of one stage, to be called with what is done and what there is in all."""

        def advance(done: int, total: int) -> None:
            self.update(name, done, total)

        return advance

    def under(self, name: str) -> "Progress":
        """A progress whose stages are named as parts of this one's."""
        return replace(self, prefix=f"{self.prefix}{name}: ")


SILENT = Progress()
