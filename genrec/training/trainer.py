"""transformers' Trainer over planned batches: our parameter groups, validation, and checkpoints that are whole or
absent."""

import json
import logging
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..files import sync, sync_all, write_text
from ..model.recmodel import RecModel
from ..progress import Progress
from ..run.folder import Run
from .budget import TimeLimit
from .checkpoints import (
    AVERAGED,
    WEIGHTS,
    best_step,
    checkpoint_errors,
    checkpoints,
    load_trainable,
    patience_spent,
    trainable_state,
)
from .plan import PlannedBatches

logger = logging.getLogger(__name__)
PLAIN_RATE = 5  # learning rate of scales and biases over that of rows: they must travel far in few steps
SAVE_SECONDS = 300  # at most this long without a checkpoint
RECENT = 5  # steps whose slowest must fit before a time limit
HORIZON = 0.5  # epochs that the average of weights reaches back
Validate = Callable[[], Mapping[str, float]]


def first(batch: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The one planned batch of a loader's batch."""
    return batch[0]


def draw_seed(seed: int, step: int) -> int:
    """The seed of the random draws in one step of a training."""
    return int(np.random.SeedSequence([seed, 11, step]).generate_state(1, np.uint64)[0])


def parameter_groups(model: RecModel, lr: float, row_lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """LoRA matrices at `lr`, rows at `row_lr`, scales and biases PLAIN_RATE times faster and without decay."""
    lora, rows, plain = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("backbone."):
            lora.append(parameter)
        elif parameter.ndim >= 2:
            rows.append(parameter)
        else:
            plain.append(parameter)
    return [
        {"params": lora, "lr": lr, "weight_decay": weight_decay},
        {"params": rows, "lr": row_lr, "weight_decay": weight_decay},
        {"params": plain, "lr": PLAIN_RATE * row_lr, "weight_decay": 0.0},
    ]


class Averages:
    """Exponential moving averages of a model's trained tensors (Polyak averaging): those are validated and kept.

    steps: about how many steps they reach back; a ninth of the steps so far while those are few.
    """

    def __init__(self, model: nn.Module, steps: float) -> None:
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values = {name: p.detach().clone() for name, p in self.trained.items()}
        self.decay = 1 - 1 / max(steps, 1)

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Update the averages after another step; done: steps before it."""
        share = 1 - min(self.decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(list(self.values.values()), [p.data for p in self.trained.values()], share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with the averages as its weights."""
        weights = {name: p.data for name, p in self.trained.items()}
        for name, p in self.trained.items():
            p.data = self.values[name]
        try:
            yield
        finally:
            for name, p in self.trained.items():
                p.data = weights[name]


class RowTrainer(Trainer):
    """Trains a RecModel; the averaged weights of the best step by `criterion` of the validation metrics are kept."""

    def __init__(
        self,
        model: RecModel,
        args: TrainingArguments,
        batches: PlannedBatches,
        validate: Validate,
        *,
        lr: float,
        row_lr: float,
        weight_decay: float,
        patience: int,
        eval_every: int,
        steps_per_epoch: int,
        callbacks: list[TrainerCallback],
        limit: TimeLimit | None = None,
        warmup: float = 0.0,
    ) -> None:
        self.limit, self.warmup = limit, warmup
        self.validate, self.batches = validate, batches
        self.root = Path(str(args.output_dir))
        self.rates = (lr, row_lr, weight_decay)
        self.summed: dict[str, torch.Tensor] = {}
        self.clock = time.monotonic()  # at the latest log
        self.schedule = Schedule(eval_every, patience, limit)
        super().__init__(
            model=model, args=args, train_dataset=batches, data_collator=first, callbacks=[self.schedule, *callbacks]
        )
        self.remove_callback(PrinterCallback)
        self.averages = Averages(model, HORIZON * steps_per_epoch)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with our parameter groups; the averages are updated after every step."""
        if self.optimizer is None:
            lr, row_lr, decay = self.rates
            unwrapped = self.accelerator.unwrap_model(self.model)
            groups = [g for g in parameter_groups(unwrapped, lr, row_lr, decay) if g["params"]]
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=True)
            self.optimizer.register_step_post_hook(lambda *_: self.averages.update(self.state.global_step))
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The linear schedule, by steps; with a time limit by the share of the time, if that is the larger one."""
        if (limit := self.limit) is None:
            scheduler: torch.optim.lr_scheduler.LRScheduler = super().create_scheduler(num_training_steps, optimizer)
            return scheduler

        def factor(step: int) -> float:
            share = min(1.0, max(step / num_training_steps, limit.share))
            return share / self.warmup if share < self.warmup else (1 - share) / (1 - self.warmup)

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.create_optimizer(), factor)
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.batches)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """A step whose draws (dropout, sampled items) belong to its batch."""
        torch.manual_seed(draw_seed(self.args.seed, int(inputs.pop("number"))))
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The model's own loss; the parts of it are summed for the log."""
        output = model(**inputs)
        for name, value in output.items():
            if name != "loss":
                self.summed[name] = self.summed.get(name, 0) + value
        return (output["loss"], output) if return_outputs else output["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds each task's mean loss since the last log and the seconds of training so far, all resumptions together,
        and mirrors the history to metrics.jsonl."""
        if "loss" in logs:
            for name in [n for n in self.summed if n.endswith("/loss")]:
                count = self.summed[name.removesuffix("loss") + "count"]
                logs[name] = float(self.summed[name] / count.clamp_min(1e-9))
            self.summed.clear()
        spent = next((e["seconds"] for e in reversed(self.state.log_history) if "seconds" in e), 0.0)
        now = time.monotonic()
        logs["seconds"], self.clock = round(spent + now - self.clock, 3), now
        super().log(logs, start_time)
        if self.is_world_process_zero():
            lines = "".join(json.dumps(entry) + "\n" for entry in self.state.log_history)
            target = self.root.parent / "metrics.jsonl"
            write_text(target, lines, synced=False)
            if self.limit is not None:
                self.limit.budget.note(Run(self.root.parent).seconds)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validation metrics of the averaged weights."""
        begun = time.monotonic()
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        with self.averages.in_place():
            metrics = {f"eval/{k}": float(v) for k, v in self.validate().items()}
        model.train()
        self.schedule.validation = time.monotonic() - begun
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir) if output_dir else self.root
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model)
        save_file(trainable_state(model), folder / WEIGHTS)
        with self.averages.in_place():
            save_file(trainable_state(model), folder / AVERAGED)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        unwrapped = self.accelerator.unwrap_model(model or self.model)
        load_trainable(unwrapped, Path(resume_from_checkpoint) / WEIGHTS)
        with self.averages.in_place():
            load_trainable(unwrapped, Path(resume_from_checkpoint) / AVERAGED)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with checkpoint_errors(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _save_rng_state(self, output_dir: str) -> None:
        """No state is kept: every step seeds its own draws."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """As `_save_rng_state`."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.root / ".partial")

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """Write into `.partial`, then rename: a checkpoint folder is whole or absent. Keeps the latest and the best."""
        root = self.root
        shutil.rmtree(root / ".partial", ignore_errors=True)
        super()._save_checkpoint(model, trial)
        name = f"checkpoint-{self.state.global_step}"
        if self.is_world_process_zero() and (root / ".partial" / name).is_dir():
            sync_all(root / ".partial" / name)
            shutil.rmtree(root / name, ignore_errors=True)
            os.replace(root / ".partial" / name, root / name)
            sync(root)
            keep = {self.state.global_step, best_step(self.state.log_history)}
            for step, folder in checkpoints(root):
                if step not in keep:
                    shutil.rmtree(folder)


class Schedule(TrainerCallback):
    """Validates and saves every `every` steps, saves at least every SAVE_SECONDS, stops early or at the time limit;
    Ctrl-C saves and stops."""

    def __init__(self, every: int, patience: int, limit: TimeLimit | None = None) -> None:
        self.every, self.patience, self.limit = every, patience, limit
        self.validation: float | None = None  # seconds of the latest
        self.saving = 0.0  # seconds of writing the latest checkpoint
        self.ready = time.monotonic()  # for a checkpoint: the end of a step, or of the validation after it
        self.steps: deque[float] = deque(maxlen=RECENT)  # seconds of the latest steps
        self.begun = time.monotonic()  # of the step
        self.saved = time.monotonic()
        self.interrupted = 0  # the signal that asked to stop
        self.previous: dict[signal.Signals, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            self.previous = {s: signal.signal(s, self.interrupt) for s in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(self, number: int, frame: Any) -> None:
        """The first Ctrl-C, or SIGTERM, asks for a checkpoint after this step, the second ends at once."""
        if self.interrupted:
            raise KeyboardInterrupt(number)
        self.interrupted = number
        logger.warning("Interrupted: saving a checkpoint after this step (again to end at once)")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.begun = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        at_end = state.global_step >= state.max_steps
        if self.limit is not None:
            self.steps.append(time.monotonic() - self.begun)
            after = None if self.validation is None else self.validation + self.saving
            if self.limit.is_reached(max(self.steps), after):
                at_end = control.should_training_stop = True
        if state.global_step % self.every == 0 or at_end:
            control.should_evaluate = control.should_save = control.should_log = True
        if time.monotonic() - self.saved > SAVE_SECONDS or self.interrupted:
            control.should_save = True
        if self.interrupted:
            control.should_training_stop = True
        self.ready = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.saving, self.saved = time.monotonic() - self.ready, time.monotonic()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.ready = time.monotonic()
        if patience_spent(state.log_history, self.patience):
            control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for number, previous in self.previous.items():
            signal.signal(number, previous)
        if self.interrupted:
            raise KeyboardInterrupt(self.interrupted)


class Reporter(TrainerCallback):
    """Reports steps and validations to the front end."""

    def __init__(
        self,
        validated: Callable[[Mapping[str, float], int], None],
        progress: Progress,
        limit: TimeLimit | None = None,
    ) -> None:
        self.validated, self.progress, self.limit = validated, progress, limit

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        latest = state.log_history[-1] if state.log_history else {}
        share = max(state.global_step / state.max_steps, self.limit.share if self.limit is not None else 0.0)
        self.progress.update("training", state.global_step, round(state.global_step / share), latest)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        metrics = kwargs.get("metrics") or {}
        self.validated({k.removeprefix("eval/"): v for k, v in metrics.items()}, state.global_step)
