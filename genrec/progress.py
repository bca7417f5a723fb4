"""One progress for all long work: stages by name, and the share of the whole; silent by default."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from .counting import counted

Report = Callable[[str, int, int, Mapping[str, float]], None]  # stage, done, in all, latest losses and metrics
Stage = Callable[[int, int], None]  # done, in all
PREPARING = 0.05  # share of the whole that is shown for stages before the costs of all are known


class Total:
    """The share of a whole command that is done, over all its stages; it never falls."""

    def __init__(self, whole: "Callable[[float], None] | None" = None) -> None:
        self.share = 0.0
        self.is_measured = False  # whether the costs of all stages are known, so that time left can be told
        self.begun = time.monotonic()
        self._whole = whole
        self._costs: dict[str, float | None] = {}  # by stage, in their order
        self._done: dict[str, float] = {}  # share of each stage
        self._first: dict[str, int] = {}  # what was done of it when it began
        self._paid = 0.0  # cost of what was done before the costs were known

    def expect(self, costs: Mapping[str, float | None]) -> None:
        """The stages that come, in their order, each with its cost in units of any kind; None for a cost that is not
        known yet, which a later call gives: the unit is then seconds."""
        if self._costs and not self.is_measured:
            self._paid = time.monotonic() - self.begun
        self._costs, self._done, self._first = dict(costs), {}, {}
        self.is_measured = None not in costs.values()

    def update(self, stage: str, done: int, total: int) -> None:
        """So much of a stage is done; stages before it in their order are done, others that were not expected are part
        of the one that is under way."""
        if stage not in self._costs:
            return
        for earlier in self._costs:
            if earlier == stage:
                break
            self._done[earlier] = 1.0
        first = self._first.setdefault(stage, done - 1)  # a stage that goes on where an earlier try ended
        self._done[stage] = min(1.0, (done - first) / (total - first)) if total > first else 1.0
        if self.is_measured:
            paid = sum((self._costs[s] or 0.0) * share for s, share in self._done.items())
            self.set((self._paid + paid) / max(self._paid + sum(c or 0.0 for c in self._costs.values()), 1e-9))
        else:
            self.set(PREPARING * sum(self._done.values()) / len(self._costs))

    def set(self, share: float) -> None:
        """The share of the whole that is done now."""
        self.share = max(self.share, min(share, 1.0))
        if self._whole is not None:
            self._whole(self.share)

    def part(self, number: int, count: int) -> "Total":
        """The total of part `number` of `count` parts of like cost."""
        self.is_measured = True
        return Total(lambda share: self.set((number + share) / count))

    @property
    def seconds_left(self) -> float | None:
        """Seconds that are left, if it goes on as it did; None while that cannot be told."""
        if not self.is_measured or self.share < 0.01:
            return None
        return (time.monotonic() - self.begun) * (1 - self.share) / self.share

    @property
    def time_left(self) -> str:
        """`about 7 minutes left`; empty while that cannot be told."""
        return "" if (seconds := self.seconds_left) is None else f"about {duration(seconds)} left"


@dataclass(frozen=True)
class Progress:
    """The progress of some work. report: called as each of its stages goes on; None is silent. prefix: what the names
    of its stages begin with. total: the share of the whole."""

    report: Report | None = None
    prefix: str = ""
    total: Total = field(default_factory=Total)

    def expect(self, costs: Mapping[str, float | None]) -> None:
        """The stages that come, with their costs: see `Total.expect`."""
        if self.report is not None:
            self.total.expect(costs)

    def update(self, stage: str, done: int, total: int, latest: Mapping[str, float] | None = None) -> None:
        """So much of a stage is done; latest: losses and metrics so far."""
        if self.report is not None:
            self.total.update(stage, done, total)
            self.report(self.prefix + stage, done, total, latest or {})

    def stage(self, name: str) -> Stage:
        """The progress of one stage, to be called with what is done and what there is in all."""

        def advance(done: int, total: int) -> None:
            self.update(name, done, total)

        return advance

    def under(self, name: str, number: int, count: int) -> "Progress":
        """The progress of part `number` of `count`, whose stages are named as parts of this one's."""
        return replace(self, prefix=f"{self.prefix}{name}: ", total=self.total.part(number, count))


SILENT = Progress()


def stage_text(stage: str, done: int, total: int) -> str:
    """`training 3 of 1,000`: a stage, and how much of it is done."""
    return f"{stage} {done:,} of {total:,}" if total > 1 else stage


def duration(seconds: float) -> str:
    """`40 seconds`, `7 minutes`, `2.5 hours`."""
    if seconds < 90:
        return counted(round(seconds), "seconds")
    return f"{seconds / 60:.0f} minutes" if seconds < 5_400 else f"{seconds / 3_600:.1f} hours"
