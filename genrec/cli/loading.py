"""Options that say which run answers and how it is loaded."""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import RunError
from ..options import option

if TYPE_CHECKING:
    from ..recommender import Recommender


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
        with no_collection():
            from ..recommender import Recommender

            return Recommender.load(
                run, quantize=self.quantize, allow_mismatch=self.allow_backbone_mismatch, model=self.model
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


def check_run(run: str) -> None:
    """Say at once what is no finished run."""
    from ..run.folder import Run

    Run(Path(run)).check()
