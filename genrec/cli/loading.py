"""Options that say which run answers and how it is loaded."""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import DataError, RunError
from ..options import option
from .output import say

if TYPE_CHECKING:
    from ..recommender import Recommender
    from ..run.folder import Run


@dataclass(frozen=True)
class Loading:
    """How a run is loaded."""

    quantize: Literal["none", "nf4"] | None = option(
        None, "quantize the backbone (default: as the run was trained)", heading="Loading"
    )
    allow_backbone_mismatch: bool = option(False, "load on other weights of the same architecture")
    model: str | None = option(None, "where the backbone is, if it is a folder or file that has moved")

    def recommender(self, run: str | Path) -> "Recommender":
        """The run, loaded."""
        opened = opened_run(run)
        with no_collection():
            from ..recommender import Recommender

            return Recommender.load(
                opened, quantize=self.quantize, allow_mismatch=self.allow_backbone_mismatch, model=self.model
            )


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """What is imported and loaded inside stays: Python's search for garbage in it takes a quarter of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def latest_run(root: Path = Path("runs")) -> Path:
    """The most recently finished run under runs/."""
    manifests = sorted(root.glob("*/adapter/genrec.json"), key=lambda p: p.stat().st_mtime)
    if not manifests:
        raise RunError("there is no finished run under runs/: train one with `genrec finetune`, or name it with --run")
    return manifests[-1].parent.parent


def opened_run(run: str | Path) -> "Run":
    """The run or the adapter that a command line names, checked at once; that of the hub with its revision, said."""
    from ..run.opened import open_run

    opened = open_run(run)
    opened.check()
    if opened.source is not None and opened.source != str(run):
        say(f"{opened.source} is the latest that could be had; this address pins it")
    return opened


def check_knows_users(recommender: "Recommender", run: str, flag: str, instead: str) -> None:
    """Raises DataError for an option that names users where an adapter alone answers."""
    if not recommender.records.kept:
        raise DataError(
            f"{flag}: {run} is an adapter alone, which knows no users: {instead}, or name the folder of the run"
        )


def check_run(run: str) -> None:
    """Raises RunError at once for what is no finished run, an adapter alone among them."""
    from ..run.folder import Run

    Run(Path(run)).check()
