"""Every option of a fine-tuning, without the heavy imports."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import yaml

from ..errors import DataError
from ..options import option

LOCAL = (
    "interactions",
    "items",
    "users",
    "tasks",
    "model",
)  # options that name local files: they stay out of the adapter
BLOCKS = 6  # of the backbone, unless --layers says otherwise


@dataclass(frozen=True)
class FinetuneConfig:
    """Every option of `genrec finetune`; the run's config.yaml holds the same names."""

    names: tuple[str, ...] = option((), "named data sets (see `genrec data list`)", positional=True)
    out: str | None = option(None, "run folder to write (default: runs/NAME)", metavar="DIR")
    interactions: str | None = option(
        None, "your own interactions: CSV, TSV, JSON lines, Parquet or RecBole .inter", metavar="FILE"
    )
    items: str | None = option(None, "your own catalogue", metavar="FILE")
    users: str | None = option(None, "your own users' attributes", metavar="FILE")
    column: tuple[str, ...] = option((), "what a column means, as user_id=customer", metavar="NAME=COLUMN")
    title: str | None = option(None, 'compose titles from columns, as "{brand} {size}"', metavar="TEMPLATE")
    bad_rows: Literal["error", "skip"] = option("error", "rows that cannot be parsed: stop, or drop and count them")
    missing: tuple[str, ...] = option(
        (), "missing values of a column: COLUMN=drop|mean|median|nearest|interpolate", metavar="COLUMN=HOW"
    )
    duplicates: Literal["keep", "drop"] = option("keep", "equal interactions")
    k_core: int = option(0, "drop users and items with fewer interactions, repeatedly")
    split: Literal["auto", "leave_one_out", "temporal", "k_fold", "random", "given"] = option(
        "auto", "how interactions are held out"
    )
    folds: int = option(5, "folds of --split k_fold")
    fold: int = option(0, "the fold held out by --split k_fold")
    days: int = option(28, "days of each held-out part of --split temporal")
    task: tuple[str, ...] = option((), "train only these tasks (default: all that the data can feed)", metavar="TASK")
    tasks: tuple[str, ...] = option((), "your own task files", metavar="FILE")
    task_weights: str = option("fixed", "fixed (each task's own), learned, or rating=2,click=0.5")
    model: str = option("smollm2-135m", "hub id, local folder, GGUF file or short name")
    layers: int | None = option(None, f"keep the first n blocks of the backbone (default: {BLOCKS})")
    quantize: Literal["none", "nf4"] = option("none", "quantize the frozen backbone")
    lora_r: int = option(16, "LoRA rank")
    lora_alpha: int = option(32, "LoRA alpha")
    epochs: int = option(5, "passes over the rows at most; validation may stop earlier")
    minutes: float | None = option(None, "fit blocks and epochs to this many minutes of training")
    lr: float = option(1e-3, "learning rate of LoRA")
    row_lr: float = option(2e-3, "learning rate of item and outcome rows")
    weight_decay: float = option(0.01, "weight decay (lambda)")
    warmup: float = option(0.05, "share of the steps in which the learning rate rises")
    dropout: float = option(0.3, "dropout of rows and last hidden states")
    row_dropout: float = option(0.03, "share of items per step that must do without their learned part")
    batch_tokens: int = option(2048, "padded tokens per batch")
    max_events: int = option(150, "longest history of a row, in events")
    stride: int = option(150, "events between the windows of a longer history")
    question_share: float = option(0.15, "question tokens per history token")
    collaborative: bool = option(True, "start item rows from co-occurrence as well as from text")
    valid_tokens: int = option(150_000, "tokens that each validation reads at most")
    patience: int = option(2, "validations without improvement before stopping")
    seed: int = option(0, "of every random draw")
    report_to: str = option("none", "logger of the transformers Trainer: tensorboard, wandb, mlflow, trackio")
    dry_run: bool = option(False, "print what would be trained, and train nothing")


def run_folder(config: FinetuneConfig) -> Path:
    """Where the run goes."""
    if config.out:
        return Path(config.out)
    if config.names:
        return Path("runs") / "-".join(config.names)
    return Path("runs") / Path(config.interactions or "run").stem


def pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping."""
    found = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name or not rest:
            raise DataError(f"--{flag} {value!r}: NAME=VALUE is expected")
        found[name] = rest
    return found


def config_yaml(config: FinetuneConfig) -> str:
    """Every option as YAML, as it can be passed back in."""
    value = {
        k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items() if k not in ("out", "dry_run")
    }
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
