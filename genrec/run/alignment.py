"""How a run was aligned, as its align.json says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from ..files import read_json
from .config import AlignConfig
from .folder import Run


def aligned_with(run: Run) -> AlignConfig | None:
    """The options that a run was aligned with; None for one that was not."""
    if not run.alignment.is_file():
        return None
    record = read_alignment(run)
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in record["options"].items()}
    return AlignConfig(run=record["run"], out=str(run.folder), **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _AlignOptions:
    """The options of an alignment as align.json holds them."""

    dataset: list[str]
    beta: float
    rejected: int
    epochs: int
    lr: float
    seed: int


@dataclass(frozen=True)
class _Alignment:
    """An alignment as align.json holds it: step, before and after once it is done."""

    run: str
    manifest: str
    options: _AlignOptions
    step: int | None = None
    before: Mapping[str, float] | None = None
    after: Mapping[str, float] | None = None


def read_alignment(run: Run) -> dict[str, Any]:
    """A run's align.json; raises RunError if it cannot be read."""
    return asdict(read_json(run.alignment, TypeAdapter(_Alignment)))
