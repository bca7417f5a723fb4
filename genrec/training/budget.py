"""The plan of a training: blocks, steps and time, fixed before the first step."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from ..run.config import FinetuneConfig
from .plan import PlannedBatches, plan_epoch
from .prepare import Prepared
from .start import build_model, set_expected_targets
from .validate import VALID_CASES, tokens_per_case

TRIAL_STEPS = 3  # of each data set, timed before a training to say how long it will take


@dataclass(frozen=True)
class Plan:
    """The plan of a run, fixed before its first step and read back when it resumes.

    inputs: data, tasks, backbone and precision, which must be the same then.
    """

    inputs: str
    blocks: int
    epochs: int
    steps: int
    steps_per_epoch: int
    seconds_per_step: float


def make_plan(config: FinetuneConfig, prepared: Prepared) -> Plan:
    """Blocks and steps of a run; with --minutes both are cut to what fits, by timing real steps."""
    blocks = prepared.backbone.source.blocks
    per_epoch = len(plan_epoch(prepared.index, config.batch_tokens, config.seed, 0))
    seconds = seconds_per_step(config, prepared)
    epochs, steps = config.epochs, per_epoch * config.epochs
    if config.minutes is not None:
        budget = config.minutes * 60 * 0.85 / (1 + validation_share(config, prepared))
        if budget < 1.5 * per_epoch * seconds and config.layers is None and blocks > 4:
            seconds *= 4 / blocks
            blocks = 4
        steps = max(10, min(per_epoch * config.epochs, int(budget / seconds)))
        epochs = -(-steps // per_epoch)
    return Plan(prepared.fingerprint, blocks, epochs, steps, per_epoch, seconds)


def validation_share(config: FinetuneConfig, prepared: Prepared) -> float:
    """Cost of a validation in epochs: its tokens forward only, at a third of the cost each."""
    tokens = sum(
        min(config.valid_tokens, VALID_CASES * tokens_per_case(c, prepared.max_events)) for c in prepared.corpora
    )
    return tokens / max(float(prepared.index.length.sum()), 1) / 3


def seconds_per_step(config: FinetuneConfig, prepared: Prepared) -> float:
    """Mean time of a step, from a few real ones of each data set; the weights of this trial are thrown away."""
    index = prepared.index
    model = build_model(config, prepared, config.seed)
    plan = plan_epoch(index, config.batch_tokens, config.seed, 0)
    set_expected_targets(model, prepared, plan)
    batches = PlannedBatches(prepared.rows, index, plan, model.split)
    padded = np.asarray([len(batch) * index.length[batch].max() for batch in plan])
    owner = np.asarray([index.dataset[batch[0]] for batch in plan])

    def timed(number: int) -> float:
        start = time.perf_counter()
        fields = {k: v.to(model.device) for k, v in batches[number].items()}
        model(**fields)["loss"].backward()
        model.zero_grad()
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed(0)  # warms up
    seconds = 0.0
    for dataset in np.unique(owner):
        members = np.nonzero(owner == dataset)[0]
        seconds += (
            sum(timed(n) for n in members[:TRIAL_STEPS]) / padded[members[:TRIAL_STEPS]].sum() * padded[members].sum()
        )
    model.backbone.unload()  # type: ignore[operator]
    return float(seconds / len(plan)) * 1.1


def describe_plan(plan: Plan, prepared: Prepared) -> str:
    """`1,043 rows, 214,310 tokens, 112 steps an epoch, 8 epochs, about 9 minutes`."""
    index = prepared.index
    minutes = plan.steps * plan.seconds_per_step / 60
    return (
        f"{len(index.length):,} rows, {int(index.length.sum()):,} tokens, {int(index.targets.sum()):,} targets, "
        f"{plan.blocks} blocks, "
        f"{plan.steps_per_epoch:,} steps an epoch, {plan.steps:,} steps at most, "
        f"about {minutes:.0f} minutes with validation apart"
    )
