"""Checkpoints of a training: which there are, what their logs say, and their tensors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor, nn
from transformers.trainer import TRAINER_STATE_NAME

from ..errors import RunError
from ..files import one_line, read_json
from ..model.recmodel import RecModel
from ..run.tensors import check_tensors, read_tensors

WEIGHTS, AVERAGED = "model.safetensors", "averaged.safetensors"


def checkpoints(root: Path) -> list[tuple[int, Path]]:
    """Finished checkpoints of a training, oldest first."""
    folders = [(int(m[1]), p) for p in root.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))]
    return sorted(folders)


def best_step(history: Sequence[Mapping[str, Any]]) -> int:
    """The step with the best validation criterion, the latest of equals; 0 before the first validation of a step."""
    scored = [(e["eval/criterion"], e["step"]) for e in history if "eval/criterion" in e and e["step"] > 0]
    return max(scored)[1] if scored else 0


@dataclass(frozen=True)
class _State:
    """The fields that are read of the state of transformers' Trainer."""

    global_step: int
    max_steps: int
    log_history: Sequence[Mapping[str, int | float]]


def history_of(checkpoint: Path) -> list[dict[str, float]]:
    """The log of a finished checkpoint."""
    path = checkpoint / TRAINER_STATE_NAME
    entries = [dict(entry) for entry in read_json(path, TypeAdapter(_State)).log_history]
    if not all("step" in entry for entry in entries):
        raise RunError(f"{path} cannot be read: an entry of log_history has no step")
    return entries


def patience_spent(history: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Whether the last `patience` validations brought no improvement."""
    best = best_step(history)
    return sum(1 for e in history if "eval/criterion" in e and e["step"] > best) >= patience


def load_trainable(model: nn.Module, file: Path) -> None:
    """Put trained tensors of a checkpoint, WEIGHTS or AVERAGED, into the model; raises RunError if they do not fit
    it."""
    expected = {name: (p.dtype, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad}
    state = read_tensors(file)
    check_tensors(file, state, expected)
    model.load_state_dict(state, strict=False)


@contextmanager
def checkpoint_errors(checkpoint: str | None) -> Iterator[None]:
    """Reports any error that torch and transformers raise over a damaged checkpoint as one RunError with the remedy."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, UnpicklingError) as error:
        raise RunError(
            f"{checkpoint} is damaged ({one_line(error)}): remove this folder, and the same command resumes from the "
            "checkpoint before it"
        ) from error


def trainable_state(model: RecModel) -> dict[str, Tensor]:
    """Every trained tensor, LoRA included."""
    return {k: v.detach().cpu().contiguous() for k, v in model.named_parameters() if v.requires_grad}
