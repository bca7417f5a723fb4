"""`genrec finetune`: raw interactions to a run; an interrupted training resumes."""

import json
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from pydantic import TypeAdapter

from ..counting import counted
from ..data.dataset import Dataset
from ..errors import RunError, UnavailableError
from ..files import read_json, sole_writer, write_errors, write_text
from ..model.backbone import load_encoder
from ..model.precision import describe_precision
from ..progress import SILENT, Progress
from ..run.config import FinetuneConfig, changed_options, config_yaml, run_folder
from ..run.data import load_data, parent_of, trained_data
from ..run.folder import Run
from ..run.saved import as_saved, split_again
from ..scoring.scorer import Scorer
from .budget import Budget, Plan, TimeLimit, costs, describe_plan, make_plan, texts_in, too_early
from .finish import finish
from .plan import PlannedBatches, plan_epoch
from .prepare import Prepared, Report, prepare
from .resume import collect_new_events, load_parent_weights, parent_spaces, taken_back
from .start import build_model, fit_texts, set_expected_targets, set_scales
from .validate import headline, part_tokens, validation

logger = logging.getLogger(__name__)
KEPT = "finished checkpoints are kept"
PREPARATION = ("reading", "backbone", "rows", "item texts", "first steps", "training")


class Finished(NamedTuple):
    """A finished run, and the commands that ask it something."""

    folder: Path
    commands: tuple[str, ...]


def finetune(
    config: FinetuneConfig,
    report: Report = logger.info,
    progress: Progress = SILENT,
    frames: Mapping[str, pl.DataFrame] | None = None,
    spent: float = 0.0,
    again: Run | None = None,
) -> Finished:
    """Train one adapter and write the run folder; the same call continues an interrupted run.

    report: called with the lines a user should see. progress: called with (stage, done, in all, latest losses and
    metrics). frames: tables in memory in place of files, by role (`load_data`). spent: seconds of `config.minutes` that
    passed before the call. again: a finished run whose data, models and task files are taken, instead of those that the
    options name.
    Raises DataError, TaskError, RunError, UnavailableError for the user's mistakes, KeyboardInterrupt after a saved
    checkpoint.
    """
    budget = Budget(math.inf if config.minutes is None else 60 * config.minutes, spent)
    config.check_used()
    if budget.is_limited and (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise UnavailableError(f"--minutes bounds a training in one process, not in {processes}: give --epochs instead")
    out = run_folder(config)
    with write_errors(out):
        if out.exists() and not out.is_dir():
            raise RunError(f"--out {out} is a file; a run is a folder")
        is_first = not Run(out).finished and os.environ.get("RANK", "0") == "0"  # of several processes of one training
    with ExitStack() as first:
        if is_first:
            first.enter_context(sole_writer(out))
            first.enter_context(taken_back(Run(out)))
        return finetune_into(out, config, report, progress, budget, frames, again)


def finetune_into(
    out: Path,
    config: FinetuneConfig,
    report: Report,
    progress: Progress,
    budget: Budget,
    frames: Mapping[str, pl.DataFrame] | None,
    again: Run | None,
) -> Finished:
    """The run in its folder, which no other process writes meanwhile."""
    run, written = Run(out), config_yaml(config)
    previous = config_yaml(run.config()) if run.config_file.is_file() else None  # an older one has fewer options
    if previous != written and (run.finished or previous is not None):
        check_options(run, config)
    check_logger(config.report_to)
    if run.finished:
        manifest = run.manifest()
        datasets = load_data(config, frames) if config.resume_from is None else trained_data(run)
        if config.resume_from is None and {d.name: d.fingerprint for d in datasets} != dict(manifest.fingerprints):
            raise RunError(f"{out} holds a finished run on other data; give another --out, or remove it first")
        report(f"{out} is finished already; give another --out to train again")
        return Finished(out, next_commands(out, datasets, manifest.tasks))
    progress.expect(dict.fromkeys(PREPARATION))
    progress.update("reading", 0, 1)
    if config.resume_from is not None:
        again = parent_of(config)
    if again is not None:
        config = as_saved(config, again)
    if config.item_text_model:
        load_encoder(config.item_text_model)
    if config.resume_from is not None:
        report(collect_new_events(config))
        datasets = load_data(config)
    else:
        datasets = (split_again(again, config) if again is not None else None) or load_data(config, frames)
    plan = read_json(run.plan, TypeAdapter(Plan)) if run.plan.is_file() else None
    budget = budget.resumed(run.seconds)
    prepared = prepare(config, report, plan.blocks if plan else None, datasets, progress)
    if plan is not None and plan.inputs != prepared.fingerprint:
        raise RunError(
            f"{out} holds an interrupted run on other data, tasks, backbone or precision; give another --out, "
            "or remove it first"
        )
    report(
        f"backbone {prepared.backbone.source.model}, {prepared.backbone.source.blocks} of "
        f"{prepared.backbone.source.total_blocks} blocks, "
        f"{describe_precision(prepared.backbone.model.device)}"
    )
    if plan is None:
        progress.update("first steps", 0, 1)
        plan = make_plan(config, prepared, budget)
        if plan.blocks != prepared.backbone.source.blocks:
            prepared = prepare(config, lambda _: None, plan.blocks, datasets, progress)
    if budget.used >= (plan.until or math.inf):
        report(
            f"--minutes {config.minutes:g}: {budget.used / 60:.1f} minutes have passed before the first step; "
            "the training ends after one"
        )
    report(describe_plan(plan, prepared))
    with write_errors(out, KEPT):
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        os.chmod(run.checkpoints, 0o700)
        write_text(run.config_file, written)
        write_text(run.plan, json.dumps(asdict(plan)))
        budget.note(run.seconds)
        progress.expect(costs(config, prepared, plan, budget))
        scorer, seconds_per_token, steps = train(config, prepared, plan, out, report, progress, budget)
        manifest = finish(config, prepared, scorer, out, report, progress, budget, seconds_per_token)
    if too_early(plan, steps):
        report(
            f"--minutes {config.minutes or 0:g}: only {counted(steps, 'steps')} of {plan.steps:,} fitted, too few to "
            "learn from: give more --minutes"
            + (f", or fewer blocks (--layers {plan.blocks // 2})" if plan.blocks > 1 else "")
        )
    if config.minutes is not None:
        report(f"took {budget.used / 60:.1f} of {config.minutes:g} minutes")
    return Finished(out, next_commands(out, datasets, manifest.tasks))


def check_options(run: Run, config: FinetuneConfig) -> None:
    """Raises RunError, naming the options, if a folder holds a run with others."""
    changes = changed_options(run.config(), config) if run.config_file.is_file() else ["its config.yaml is missing"]
    if changes:  # none: the file is of a version that had fewer options
        state, remedy = ("a finished", "") if run.finished else ("an interrupted", "give the same to resume it, ")
        raise RunError(
            f"{run.folder} holds {state} run with other options ({'; '.join(changes)}); {remedy}give another --out, or "
            "remove it first"
        )


def check_logger(name: str) -> None:
    """Raises UnavailableError for a logger that transformers does not know or that is not installed."""
    from transformers.integrations.integration_utils import get_available_reporting_integrations

    installed = get_available_reporting_integrations()
    if name not in ("none", *installed):
        raise UnavailableError(
            f"--report-to {name}: not installed, or not a logger of transformers; installed: "
            f"{', '.join(installed) or 'none'}"
        )


def next_commands(out: Path, datasets: Sequence[Dataset], tasks: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Commands that ask a finished run something, with ids of its own."""
    commands: dict[str, str] = {}
    run = shlex.quote(str(out))
    for dataset in datasets:
        frame, task_names = dataset.interactions, tasks[dataset.name]
        which = f" --dataset {shlex.quote(dataset.name)}" if len(datasets) > 1 else ""
        if "user_id" in frame.columns and "item_id" in frame.columns:
            user, item = (shlex.quote(frame[c][0]) for c in ("user_id", "item_id"))
            if "next_item" in task_names:
                commands.setdefault("recommend", f"genrec recommend {run}{which} --user {user}")
                sentence = shlex.quote(f"recommend for user {frame['user_id'][0]}")
                commands.setdefault("ask", f"genrec ask {sentence} --run {run}")
            for name in task_names:
                if name in ("rating", "click", "purchase"):
                    commands.setdefault(name, f"genrec predict {run}{which} --task {name} --user {user} --item {item}")
        if "sentiment" in task_names:
            commands.setdefault("sentiment", f'genrec predict {run}{which} --task sentiment --text "I love it"')
    return tuple(commands.values())


def train(
    config: FinetuneConfig,
    prepared: Prepared,
    plan: Plan,
    out: Path,
    report: Report,
    progress: Progress,
    budget: Budget,
) -> tuple[Scorer, float, int]:
    """The steps of the plan that fit into the budget, from the latest checkpoint if there is one.

    Returns the model of the best validation, with the counts of the run that it resumes from, the seconds that reading
    a token takes, and the steps that were trained.
    """
    from transformers import TrainingArguments

    from .checkpoints import AVERAGED, best_step, checkpoints, history_of, load_trainable, patience_spent
    from .trainer import Reporter, RowTrainer

    root = Run(out).checkpoints
    spaces = None if config.resume_from is None else parent_spaces(config, prepared.backbone.source.hidden_size)
    model = build_model(config, prepared, config.seed, spaces)
    counts = {} if config.resume_from is None else load_parent_weights(config, model)
    batches: list[np.ndarray] = []
    epoch = 0
    while len(batches) < plan.steps:
        batches += plan_epoch(prepared.index, config.batch_tokens, config.seed, epoch)
        epoch += 1
        if plan.steps > max(10, len(batches) // epoch * config.epochs + config.epochs):
            raise RunError(f"{Run(out).plan} does not fit: {plan.steps:,} steps are more than the options ask for")
    batches = batches[: plan.steps]
    set_expected_targets(model, prepared, batches)
    planned = PlannedBatches(prepared.rows, prepared.index, batches, model.split)
    saved = checkpoints(root)
    if not saved and config.resume_from is None:
        set_scales(model, prepared, planned)
        fit_texts(model, prepared, config.seed, texts_in(plan, prepared))
    scorer = Scorer(model, counts)
    progress.update("training", saved[-1][0] if saved else 0, plan.steps)
    cuda = torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(root),
        max_steps=plan.steps,
        per_device_train_batch_size=1,
        learning_rate=config.lr,
        lr_scheduler_type="linear",
        warmup_steps=max(1, int(config.warmup * plan.steps)),
        max_grad_norm=1.0,
        logging_steps=max(1, min(50, plan.steps_per_epoch // 4)),
        eval_strategy="no",
        save_strategy="no",
        report_to=config.report_to,
        disable_tqdm=True,
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        seed=config.seed,
    )
    args._n_gpu = min(1, args._n_gpu)  # several GPUs: one process each, as accelerate launches them
    valid_tokens, limit = plan.valid_tokens or config.valid_tokens, None
    if plan.until is not None:
        per_step, per_validation = plan.seconds_per_step, plan.seconds_per_validation
        limit = TimeLimit(budget, plan.begun, plan.until, per_step, per_validation)
    trainer = RowTrainer(
        model,
        args,
        planned,
        lambda: validation(config, prepared, scorer, tokens=valid_tokens, progress=progress),
        lr=config.lr,
        row_lr=config.row_lr,
        weight_decay=config.weight_decay,
        patience=config.patience,
        eval_every=max(1, min(plan.steps_per_epoch, plan.steps)),
        steps_per_epoch=plan.steps_per_epoch,
        callbacks=[Reporter(lambda metrics, step: report(f"step {step}: {headline(metrics)}"), progress, limit)],
        limit=limit,
        warmup=config.warmup,
    )
    history = history_of(saved[-1][1]) if saved else []
    if saved:
        report(f"resuming from step {saved[-1][0]} of {plan.steps}")
    finished = bool(saved) and (saved[-1][0] >= plan.steps or patience_spent(history, config.patience))
    if limit is not None and limit.share == 1 and best_step(history) > 0:
        finished = True
    if not finished:  # else it was stopped while the run was being finished
        trainer.train(resume_from_checkpoint=str(saved[-1][1]) if saved else None)
        history = trainer.state.log_history
    best = best_step(history)
    by_step = dict(checkpoints(root))
    if best in by_step:
        load_trainable(model, by_step[best] / AVERAGED)
        report(f"keeping step {best}, the best of the validations")
    seconds = plan.seconds_per_validation if trainer.schedule.validation is None else trainer.schedule.validation
    done = max((int(entry["step"]) for entry in history), default=0)
    return scorer, max(seconds, 1e-3) / max(part_tokens(prepared, "valid", valid_tokens), 1), done
