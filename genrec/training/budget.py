"""The plan of a training: blocks, steps and time, fixed before the first step; and the time that is left for it."""

import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from ..counting import counted
from ..files import read_json, write_text
from ..progress import duration
from ..run.config import FinetuneConfig
from .plan import PlannedBatches, plan_epoch
from .prepare import Prepared
from .start import TEXTS, build_model, set_expected_targets
from .validate import CALIBRATION, TEXT_TOKENS, corpus_tokens, part_tokens

TRIAL_STEPS = 3  # of each data set, timed before a training to say how long it will take
TRIAL_SHARE = 0.1  # of a budget, after which one step of each data set is enough
FORWARD = 1 / 3  # time of reading tokens over that of training on them
TRAINED, ENOUGH_STEPS = 0.1, 100  # of the planned steps, or so many, before which a training has learned little
FINISH_SHARE = 0.35  # of a budget that the end of a training may take at most, and each validation a fifth of that
FITTING_SHARE = 0.1  # of a budget that fitting and writing at the end take besides what is read
LEAST_TOKENS = 2_000  # that a validation reads whatever the time
TEXTS_SHARE, LEAST_TEXTS = 0.1, 100  # of the time for steps, that texts to start from take at most; texts at least


@dataclass(frozen=True)
class Budget:
    """The time that a command may take, from reading to writing, all its tries together.

    seconds: in all, infinite without --minutes. spent: seconds that had passed at `begun` (of the monotonic clock).
    """

    seconds: float = math.inf
    spent: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    @property
    def used(self) -> float:
        """Seconds that the command has taken so far."""
        return self.spent + time.monotonic() - self.begun

    @property
    def left(self) -> float:
        """Seconds that are left, negative if it took more."""
        return self.seconds - self.used

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self.seconds < math.inf

    def resumed(self, file: Path) -> "Budget":
        """The budget less what earlier tries took, as `note` wrote it."""
        return replace(self, spent=self.spent + read_json(file, TypeAdapter(float))) if file.is_file() else self

    def note(self, file: Path) -> None:
        """Write down how much was used, for a later try; nothing without a limit."""
        if self.is_limited:
            write_text(file, json.dumps(round(self.used, 3)), synced=False)


@dataclass(frozen=True)
class Plan:
    """The plan of a run, fixed before its first step and read back when it resumes.

    inputs: data, tasks, backbone and precision, which must be the same then. begun, until: with --minutes, the seconds
    of the command between which steps and validations run; the steps are then those of all epochs.
    """

    inputs: str
    blocks: int
    epochs: int
    steps: int
    steps_per_epoch: int
    seconds_per_step: float
    valid_tokens: int | None = None  # as configured without --minutes
    begun: float = 0.0
    until: float | None = None
    seconds_per_validation: float = 0.0

    @property
    def fits(self) -> int:
        """About how many steps the time allows."""
        if self.until is None:
            return self.steps
        seconds = self.until - self.begun - self.seconds_per_validation
        return min(self.steps, max(1, int(seconds / max(self.seconds_per_step, 1e-9))))


@dataclass(frozen=True)
class TimeLimit:
    """The part of a budget in which steps and validations run: seconds of the command.

    seconds_per_step, seconds_per_validation: as the plan expects them.
    """

    budget: Budget
    begun: float
    until: float
    seconds_per_step: float
    seconds_per_validation: float

    @property
    def share(self) -> float:
        """The share of the time that has passed, in [0, 1]."""
        passed = self.budget.used - self.begun
        return min(1.0, max(0.0, passed / max(self.until - self.begun, 1e-9)))

    def is_reached(self, step: float, validation: float | None) -> bool:
        """Whether no further step fits before the last validation; step, validation: measured seconds, None before the
        first: then as planned, and as much slower as the steps are."""
        if validation is None:
            validation = self.seconds_per_validation * max(1.0, step / max(self.seconds_per_step, 1e-9))
        return self.budget.used + step + validation >= self.until


def tokens_in(seconds: float, seconds_per_token: float, prepared: Prepared) -> int:
    """The tokens of each data set that can be read in some seconds, LEAST_TOKENS at least."""
    return max(LEAST_TOKENS, int(seconds / seconds_per_token / len(prepared.corpora)))


def make_plan(config: FinetuneConfig, prepared: Prepared, budget: Budget) -> Plan:
    """Blocks and steps of a run, by timing real steps; with --minutes, the blocks and validations that fit."""
    blocks = prepared.backbone.source.blocks
    per_epoch = len(plan_epoch(prepared.index, config.batch_tokens, config.seed, 0))
    seconds = seconds_per_step(config, prepared, TRIAL_SHARE * max(0.0, budget.left))
    plan = Plan(prepared.fingerprint, blocks, config.epochs, per_epoch * config.epochs, per_epoch, seconds)
    reading = seconds * per_epoch / max(float(prepared.index.length.sum()), 1) * FORWARD  # seconds of a token
    if not budget.is_limited:
        return replace(plan, seconds_per_validation=reading * part_tokens(prepared, "valid", config.valid_tokens))
    left = max(0.0, budget.left)
    tokens = part_tokens(prepared, "valid", CALIBRATION * config.valid_tokens) + part_tokens(prepared, "test", None)
    finish = min(FINISH_SHARE * left, FITTING_SHARE * left + reading * tokens)
    if left - finish < 1.5 * per_epoch * seconds and config.layers is None and blocks > 4:
        seconds, reading, blocks = seconds * 4 / blocks, reading * 4 / blocks, 4
    valid_tokens = min(config.valid_tokens, tokens_in(FINISH_SHARE / 5 * left, reading, prepared))
    return replace(
        plan,
        blocks=blocks,
        seconds_per_step=seconds,
        valid_tokens=valid_tokens,
        seconds_per_validation=reading * part_tokens(prepared, "valid", valid_tokens),
        begun=budget.used,
        until=budget.seconds - finish,
    )


def texts_in(plan: Plan, prepared: Prepared) -> int:
    """The texts from which the answers of each text task start: TEXTS, or those that TEXTS_SHARE of the time for steps
    can read, LEAST_TEXTS at least."""
    if plan.until is None:
        return TEXTS
    per_token = plan.seconds_per_validation / max(part_tokens(prepared, "valid", plan.valid_tokens), 1)
    tasks = sum(task.unit == "text" for corpus in prepared.corpora for task in corpus.tasks)
    seconds = TEXTS_SHARE * max(0.0, plan.until - plan.begun)
    return max(LEAST_TEXTS, min(TEXTS, int(seconds / max(per_token * TEXT_TOKENS * tasks, 1e-9))))


def too_early(plan: Plan, steps: int) -> bool:
    """Whether a time limit ended a training before it had learned much."""
    return plan.until is not None and steps < min(TRAINED * plan.steps, ENOUGH_STEPS)


def costs(config: FinetuneConfig, prepared: Prepared, plan: Plan, budget: Budget) -> dict[str, float | None]:
    """The stages after the preparation with the seconds that the plan expects of each, no more than there are."""
    valid_tokens = plan.valid_tokens or config.valid_tokens
    reading = plan.seconds_per_validation / max(part_tokens(prepared, "valid", valid_tokens), 1)
    validations = -(-plan.fits // plan.steps_per_epoch)
    training = plan.fits * plan.seconds_per_step + validations * plan.seconds_per_validation
    end: dict[str, float] = {}
    for corpus in prepared.corpora:
        tokens = corpus_tokens(corpus, prepared.max_events, "valid", CALIBRATION * config.valid_tokens)
        end[f"calibration of {corpus.dataset.name}"] = reading * tokens
    for corpus in prepared.corpora:
        tokens = corpus_tokens(corpus, prepared.max_events, "test", None)
        end[f"test of {corpus.dataset.name}"] = reading * tokens
    if plan.until is not None:
        share = min(1.0, max(0.0, budget.seconds - plan.until) / max(sum(end.values()), 1e-9))
        end = {stage: share * seconds for stage, seconds in end.items()}
    return {"training": training, **end, "writing": 0.01 * (training + sum(end.values()))}


def seconds_per_step(config: FinetuneConfig, prepared: Prepared, limit: float = math.inf) -> float:
    """Mean time of a step, from a few real ones of each data set, one of each after `limit` seconds; the weights of
    this trial are thrown away."""
    begun = time.monotonic()
    index = prepared.index
    model = build_model(config, prepared, config.seed)
    plan = plan_epoch(index, config.batch_tokens, config.seed, 0)
    set_expected_targets(model, prepared, plan)
    batches = PlannedBatches(prepared.rows, index, plan, model.split)
    padded = np.asarray([len(batch) * index.length[batch].max() for batch in plan])
    owner = np.asarray([index.dataset[batch[0]] for batch in plan])

    def timed(number: int) -> float:
        start = time.perf_counter()
        fields = {k: v.to(model.device) for k, v in batches.batch(number).items()}
        model(**fields)["loss"].backward()
        model.zero_grad()
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed(0)  # warms up
    seconds = 0.0
    for dataset in np.unique(owner):
        members = np.nonzero(owner == dataset)[0]
        spent = read = 0.0
        for number in members[:TRIAL_STEPS]:
            spent, read = spent + timed(number), read + padded[number]
            if time.monotonic() - begun > limit:
                break
        seconds += spent / read * padded[members].sum()
    model.backbone.unload()  # type: ignore[operator]
    return float(seconds / len(plan)) * 1.1


def describe_plan(plan: Plan, prepared: Prepared) -> str:
    """`1,043 rows, 214,310 tokens, ..., 112 steps an epoch, 560 steps at most, about 9 minutes`."""
    index = prepared.index
    steps = f"{counted(plan.steps, 'steps')} at most"
    if plan.until is not None:
        steps = f"about {plan.fits:,} of {plan.steps:,} steps fit" if plan.fits < plan.steps else steps
    return (
        f"{counted(len(index.length), 'rows')}, {counted(int(index.length.sum()), 'tokens')}, "
        f"{counted(int(index.targets.sum()), 'targets')}, {counted(plan.blocks, 'blocks')}, "
        f"{counted(plan.steps_per_epoch, 'steps')} an epoch, {steps}, "
        f"about {duration(plan.fits * plan.seconds_per_step)} with validation apart"
    )
