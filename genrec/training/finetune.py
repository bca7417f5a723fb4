"""finetune(config): raw interactions to a run folder."""

import errno
import json
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import torch
import yaml
from pydantic import TypeAdapter
from safetensors import SafetensorError

from ..data.dataset import Dataset
from ..data.store import create_store
from ..errors import DataError, RunError, UnavailableError
from ..evaluation import metrics
from ..evaluation.calibration import Calibration, fit_items, fit_outcome
from ..evaluation.features import unfitted
from ..evaluation.protocols import Reading, next_item_losses, next_item_metrics, read_part, weighed_again
from ..files import read_json, write_text
from ..inference.engine import Engine
from ..model.adapter import Manifest, read_manifest, save_adapter
from ..model.backbone import (
    Backbone,
    describe_precision,
    load_encoder,
)
from ..model.recmodel import RecModel
from ..tasks.rows import (
    Corpus,
    header_columns,
    select,
)
from ..tasks.rowstore import read_row, spell, text_examples
from .collaborative import find_effects, find_neighbours, fit_neighbours
from .config import LOCAL, FinetuneConfig, config_yaml, load_data, run_folder
from .plan import PlannedBatches, plan_epoch
from .prepare import Prepared, Progress, Say, prepare
from .resume import few, fitted_before, take_later, take_over
from .start import build_model, fit_texts, set_expected_targets, set_scales

logger = logging.getLogger(__name__)
VALID_CASES = 4_000  # users or texts that a validation reads at most: a standard error of .003 in NDCG
CALIBRATION = 4  # what calibration reads at most, once, in validations: weights of neighbours and features need cases
TRIAL_STEPS = 3  # of each data set, timed before a training to say how long it will take


class Finished(NamedTuple):
    """A finished run, and the commands that ask it something."""

    folder: Path
    commands: tuple[str, ...]


def validation(
    config: FinetuneConfig,
    prepared: Prepared,
    engine: Engine,
    part: Literal["valid", "test"] = "valid",
    tokens: int | None = None,
    calibration: Mapping[str, Calibration] | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Every task's metrics on a part, and `criterion`, the number that early stopping maximises.

    The criterion is the mean NDCG@10 of next_item over the data sets that have it (seen items removed, or kept where
    baskets repeat items); without next_item, minus the mean log loss. Empty where nothing is held out for a test.
    tokens: what is read at most. calibration: by `dataset/task`.
    """
    engine.refresh()
    found: dict[str, float] = {}
    ranked, losses = [], []
    for corpus in prepared.corpora:
        reading = read(config, prepared, engine, corpus, part, tokens, progress)
        for task, values in task_metrics(corpus, reading, calibration or {}).items():
            if task == "next_item":
                ranked.append(values[f"{protocol(corpus)}/ndcg@10"])
            elif "log_loss" in values:
                losses.append(values["log_loss"])
            found |= {f"{corpus.dataset.name}/{task}/{k}": v for k, v in values.items()}
    if not ranked and not losses:
        if part == "test":
            return {}
        raise DataError(
            "nothing is held out for validation: the data is too small to split; "
            "give more interactions or --split random"
        )
    found["criterion"] = float(np.mean(ranked)) if ranked else -float(np.mean(losses))
    return found


def protocol(corpus: Corpus) -> Literal["seen_kept", "seen_removed"]:
    """What lists of a data set are measured by: seen items kept where baskets repeat items, else removed."""
    return "seen_kept" if "basket" in corpus.dataset.interactions.columns else "seen_removed"


def task_metrics(
    corpus: Corpus, reading: Reading, calibration: Mapping[str, Calibration]
) -> dict[str, dict[str, float]]:
    """The metrics of every task that a reading holds cases of."""
    found: dict[str, dict[str, float]] = {}
    for task in corpus.tasks:
        if task.name == "next_item" and reading.ranked is not None:
            found[task.name] = next_item_metrics(reading.ranked)
        elif task.unit == "basket" and reading.basket_ranks is not None:
            ranks = list(reading.basket_ranks[:, None])
            found[task.name] = {"n": float(len(ranks)), **metrics.ranking_metrics(ranks)}
        elif task.name in reading.outcomes:
            outcomes = reading.outcomes[task.name]
            fitted = calibration.get(f"{corpus.dataset.name}/{task.name}", Calibration())
            probabilities = outcomes.probabilities(fitted)
            found[task.name] = metrics.outcome_metrics(
                probabilities, outcomes.answer, task.answer.values, outcomes.weight
            )
    return found


def read(
    config: FinetuneConfig,
    prepared: Prepared,
    engine: Engine,
    corpus: Corpus,
    part: Literal["valid", "test"],
    tokens: int | None,
    progress: Progress | None,
) -> Reading:
    """What the model makes of a part of one data set, with progress under the data set's name."""

    def shown(done: int, total: int) -> None:
        if progress is not None:
            progress(f"reading {part} of {corpus.dataset.name}", done, total, {})

    most = most_users(corpus, prepared.max_events, tokens)
    return read_part(engine, corpus, part, prepared.max_events, most, config.seed, shown)


def most_users(corpus: Corpus, max_events: int, tokens: int | None) -> int | None:
    """How many users (or texts) a validation of at most `tokens` tokens reads."""
    return None if tokens is None else min(VALID_CASES, max(1, int(tokens / tokens_per_case(corpus, max_events))))


def tokens_per_case(corpus: Corpus, max_events: int) -> float:
    """Tokens of a user's history or of a text, roughly."""
    if corpus.events is None:
        return 100.0
    events = min(max_events, len(corpus.events.item) / max(1, len(corpus.events.users)))
    return 2 + events * (1 + float((corpus.events.outcome >= 0).mean()))


def calibrate(
    config: FinetuneConfig, prepared: Prepared, engine: Engine, progress: Progress | None = None
) -> dict[str, Calibration]:
    """Temperatures and biases of every task by `dataset/task`, fitted on validation, and the neighbours' weights.

    Where a run resumes from another and validation has few events, they are those of the other one.
    """
    engine.refresh()
    found: dict[str, Calibration] = {}
    for corpus in prepared.corpora:
        if config.resume_from is not None and few(corpus):
            found |= fitted_before(config, corpus, engine)
            continue
        if config.collaborative and corpus.events is not None and corpus.dataset.items.height:
            effects = find_effects(corpus)
            engine.model.rows_of(corpus.dataset.name).effects = effects and effects.to(engine.model.device)
        reading = read(config, prepared, engine, corpus, "valid", CALIBRATION * config.valid_tokens, progress)
        if (ranked := reading.ranked) is not None:
            name = corpus.dataset.name
            if config.collaborative:
                engine.model.rows_of(name).neighbours = find_neighbours(corpus).to(engine.model.device)
                fit_questions(engine, name, reading, config.seed)
                reading = weighed_again(engine, corpus, reading)
            found[f"{name}/next_item"] = fit_items(*next_item_losses(engine, name, ranked))
        found |= fit_outcomes(corpus, reading)
    return found


def fit_questions(engine: Engine, dataset: str, reading: Reading, seed: int) -> None:
    """Fit the weights of a data set's neighbours for every question that the reading asks."""
    if (ranked := reading.ranked) is not None:
        fit_neighbours(engine, dataset, ranked.states, ranked.histories, ranked.targets, seed)
    if (baskets := reading.baskets) is not None:
        asked = baskets.states, baskets.histories, baskets.targets
        fit_neighbours(engine, dataset, *asked, seed, "basket", baskets.given)


def fit_outcomes(corpus: Corpus, reading: Reading) -> dict[str, Calibration]:
    """Temperatures, biases and weights of effects of a data set's tasks with choices or numbers, by `dataset/task`."""
    found = {}
    for name, outcomes in reading.outcomes.items():
        task = next(t for t in corpus.tasks if t.name == name)
        features = outcomes.features if task.answer.values or len(task.answer.choices) == 2 else None
        found[f"{corpus.dataset.name}/{name}"] = fit_outcome(
            outcomes.scores, outcomes.answer, outcomes.weight, features, task.answer.values, unfitted(corpus, task)
        )
    return found


# --- the plan -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a run will do, fixed before its first step and read back when it resumes.

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
        own = np.nonzero(owner == dataset)[0]
        seconds += sum(timed(n) for n in own[:TRIAL_STEPS]) / padded[own[:TRIAL_STEPS]].sum() * padded[own].sum()
    model.backbone.unload()  # type: ignore[operator]
    return float(seconds / len(plan)) * 1.1


# --- the run ------------------------------------------------------------------------------------------------------


def finetune(config: FinetuneConfig, say: Say = logger.info, progress: Progress | None = None) -> Finished:
    """Train one adapter and write the run folder; the same call continues an interrupted run.

    say: receives the lines a user should see. progress: called with (stage, done, in all, latest losses and metrics).
    Raises DataError, TaskError, RunError, UnavailableError for the user's mistakes, KeyboardInterrupt after a saved
    checkpoint.
    """
    out = run_folder(config)
    written = config_yaml(config)
    checkpoint_root = out / "checkpoints"
    if out.exists() and not out.is_dir():
        raise RunError(f"--out {out} is a file; a run is a folder")
    previous = (out / "config.yaml").read_bytes() if (out / "config.yaml").is_file() else None
    finished = (out / "adapter" / "genrec.json").is_file()
    if previous != written.encode() and (finished or previous is not None):
        state, remedy = ("a finished", "") if finished else ("an interrupted", "give the same options to resume it, ")
        raise RunError(f"{out} holds {state} run with other options; {remedy}give another --out, or remove it first")
    check_logger(config.report_to)
    if config.item_text_model and not finished:
        load_encoder(config.item_text_model)
    if config.resume_from is not None and not finished:
        say(take_later(config))
    datasets = load_data(config)
    if finished:
        manifest = read_manifest(out / "adapter")
        if {d.name: d.fingerprint for d in datasets} != dict(manifest.fingerprints):
            raise RunError(f"{out} holds a finished run on other data; give another --out, or remove it first")
        say(f"{out} is finished already; give another --out to train again")
        return Finished(out, next_commands(out, datasets, manifest.tasks))
    plan_file = checkpoint_root / "plan.json"
    plan = read_json(plan_file, TypeAdapter(Plan)) if plan_file.is_file() else None
    prepared = prepare(config, say, plan.blocks if plan else None, datasets, progress)
    if plan is not None and plan.inputs != prepared.fingerprint:
        raise RunError(
            f"{out} holds an interrupted run on other data, tasks, backbone or precision; give another --out, "
            "or remove it first"
        )
    say(
        f"backbone {prepared.backbone.source.model}, {prepared.backbone.source.blocks} of "
        f"{prepared.backbone.source.total_blocks} blocks, "
        f"{describe_precision(prepared.backbone.model.device)}"
    )
    if plan is None:
        plan = make_plan(config, prepared)
        if plan.blocks != prepared.backbone.source.blocks:
            prepared = prepare(config, lambda _: None, plan.blocks, datasets, progress)
    say(describe_plan(plan, prepared))
    with disk_errors(out):
        checkpoint_root.mkdir(parents=True, exist_ok=True)
        os.chmod(checkpoint_root, 0o700)
        write_text(out / "config.yaml", written)
        write_text(plan_file, json.dumps(asdict(plan)))
        model = train(config, prepared, plan, out, say, progress)
        manifest = finish(config, prepared, model, out, say, progress)
    return Finished(out, next_commands(out, datasets, manifest.tasks))


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
    found: dict[str, str] = {}
    run = shlex.quote(str(out))
    for dataset in datasets:
        frame, own = dataset.interactions, tasks[dataset.name]
        which = f" --dataset {shlex.quote(dataset.name)}" if len(datasets) > 1 else ""
        if "user_id" in frame.columns and "item_id" in frame.columns:
            user, item = (shlex.quote(frame[c][0]) for c in ("user_id", "item_id"))
            if "next_item" in own:
                found.setdefault("recommend", f"genrec recommend {run}{which} --user {user}")
                sentence = shlex.quote(f"recommend for user {frame['user_id'][0]}")
                found.setdefault("ask", f"genrec ask {sentence} --run {run}")
            for name in own:
                if name in ("rating", "click", "purchase"):
                    found.setdefault(name, f"genrec predict {run}{which} --task {name} --user {user} --item {item}")
        if "sentiment" in own:
            found.setdefault("sentiment", f'genrec predict {run}{which} --task sentiment --text "I love it"')
    return tuple(found.values())


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """A full disk is the user's to mend; torch and safetensors report it as errors of their own."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or shutil.disk_usage(out.parent).free < 2**20:
            raise RunError(
                f"no space left while writing {out}: free some and run the same command again; "
                "finished checkpoints are kept"
            ) from error
        raise


def train(
    config: FinetuneConfig,
    prepared: Prepared,
    plan: Plan,
    out: Path,
    say: Say,
    progress: Progress | None,
) -> RecModel:
    """All steps of the plan, from the latest checkpoint if there is one; returns the model of the best validation."""
    from transformers import TrainingArguments

    from .trainer import (
        AVERAGED,
        RowTrainer,
        Teller,
        best_step,
        checkpoints,
        history_of,
        load_trainable,
        patience_spent,
    )

    root = out / "checkpoints"
    model = build_model(config, prepared, config.seed)
    if config.resume_from is not None:
        take_over(config, model)
    batches: list[np.ndarray] = []
    epoch = 0
    while len(batches) < plan.steps:
        batches += plan_epoch(prepared.index, config.batch_tokens, config.seed, epoch)
        epoch += 1
        if plan.steps > max(10, len(batches) // epoch * config.epochs + config.epochs):
            raise RunError(f"{root / 'plan.json'} does not fit: {plan.steps:,} steps are more than the options ask for")
    batches = batches[: plan.steps]
    set_expected_targets(model, prepared, batches)
    planned = PlannedBatches(prepared.rows, prepared.index, batches, model.split)
    done = checkpoints(root)
    if not done and config.resume_from is None:
        set_scales(model, prepared, planned)
        fit_texts(model, prepared, config.seed)
    engine = Engine(model)
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
    trainer = RowTrainer(
        model,
        args,
        planned,
        lambda: validation(config, prepared, engine, tokens=config.valid_tokens, progress=progress),
        lr=config.lr,
        row_lr=config.row_lr,
        weight_decay=config.weight_decay,
        patience=config.patience,
        eval_every=max(1, min(plan.steps_per_epoch, plan.steps)),
        steps_per_epoch=plan.steps_per_epoch,
        callbacks=[Teller(lambda found, step: say(f"step {step}: {headline(found)}"), progress)],
    )
    history = history_of(done[-1][1]) if done else []
    if done:
        say(f"resuming from step {done[-1][0]} of {plan.steps}")
    over = bool(done) and (done[-1][0] >= plan.steps or patience_spent(history, config.patience))
    if not over:  # else it was stopped while the run was being finished
        trainer.train(resume_from_checkpoint=str(done[-1][1]) if done else None)
        history = trainer.state.log_history
    best = best_step(history)
    by_step = dict(checkpoints(root))
    if best in by_step:
        load_trainable(model, by_step[best] / AVERAGED)
        say(f"keeping step {best}, the best of the validations")
    return model


def headline(found: Mapping[str, float]) -> str:
    """The few metrics worth a line."""
    keys = ("/ndcg@10", "/rmse", "/auc", "/macro_f1", "/accuracy")
    return ", ".join(f"{k} {v:.4f}" for k, v in found.items() if k.endswith(keys))


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


def finish(
    config: FinetuneConfig, prepared: Prepared, model: RecModel, out: Path, say: Say, progress: Progress | None
) -> Manifest:
    """Calibrate, and write the run."""
    calibration = calibrate(config, prepared, Engine(model), progress)
    return write_run(config, prepared, model, calibration, out, say, progress)


def write_run(
    config: FinetuneConfig,
    prepared: Prepared,
    model: RecModel,
    calibration: Mapping[str, Calibration],
    out: Path,
    say: Say,
    progress: Progress | None,
    more_options: Mapping[str, Any] | None = None,
) -> Manifest:
    """Measure the held-out test part once, and write store and adapter; the manifest comes last.

    more_options: what the adapter's options say besides those of `config`.
    """
    found = validation(config, prepared, Engine(model), "test", calibration=calibration, progress=progress)
    found.pop("criterion", None)
    say("test: " + headline(found) if found else "nothing is held out for a test")
    store = out / "store.db"
    if not store.exists():
        create_store(store, prepared.datasets).close()
    manifest = Manifest(
        backbone=prepared.backbone.source,
        vocabulary=prepared.vocabulary,
        tasks=answers_of(prepared),
        max_events=prepared.max_events,
        header_columns={d.name: header_columns(d.users) for d in prepared.datasets},
        calibration={name: asdict(fitted) for name, fitted in calibration.items()},
        metrics=found,
        fingerprints={d.name: d.fingerprint for d in prepared.datasets},
        options={k: v for k, v in yaml.safe_load(config_yaml(config)).items() if k not in LOCAL}
        | dict(more_options or {}),
        files={},
        text_encoder=prepared.text_encoder,
    )
    catalogues = {c.dataset.name: with_popularity(c) for c in prepared.corpora if c.dataset.items.height}
    save_adapter(
        out / "adapter",
        model,
        prepared.backbone.tokenizer,
        manifest,
        prepared.all_tasks,
        catalogues,
        model_card(manifest),
    )
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return manifest


def answers_of(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """Per data set and task its answers (words, values), as a manifest holds them."""
    return {
        c.dataset.name: {t.name: {"words": list(t.answer.choices), "values": list(t.answer.values)} for t in c.tasks}
        for c in prepared.corpora
    }


def with_popularity(corpus: Corpus) -> pl.DataFrame:
    """The catalogue with `train_count`, the item's interactions in the training part."""
    counts = np.zeros(corpus.dataset.items.height, dtype=np.int64)
    if corpus.events is not None:
        train = select(corpus.events, corpus.events.part == 0)
        counts = np.bincount(train.item[train.item >= 0], minlength=len(counts))
    return corpus.dataset.items.with_columns(pl.Series("train_count", counts))


def model_card(manifest: Manifest) -> str:
    """README.md of an adapter."""
    lines = [
        "# A genrec adapter",
        "",
        f"Backbone: {manifest.backbone.model}, {manifest.backbone.blocks} of {manifest.backbone.total_blocks} blocks.",
        "",
    ]
    for name, tasks in manifest.tasks.items():
        lines.append(f"- {name}: {', '.join(tasks)}")
    if manifest.metrics:
        lines += ["", "Measured on the held-out test part:", "", "| metric | value |", "|---|---|"]
    lines += [
        f"| {k} | {v:.4f} |"
        for k, v in manifest.metrics.items()
        if k.endswith(("@10", "/rmse", "/mae", "/auc", "/accuracy", "/macro_f1", "/n"))
    ]
    return "\n".join(lines) + "\n"


# --- looking before training --------------------------------------------------------------------------------------


def dry_run(config: FinetuneConfig, say: Say) -> list[str]:
    """Row counts, three rendered rows, tokens per event, memory and time; trains nothing."""
    prepared = prepare(config, say)
    plan = make_plan(config, prepared)
    index = prepared.index
    lines = [describe_plan(plan, prepared)]
    for number, corpus in enumerate(prepared.corpora):
        own = index.dataset == number
        targets = index.targets[own].sum(0)
        counts = ", ".join(f"{t.name} {int(targets[n]):,}" for n, t in enumerate(prepared.all_tasks) if targets[n])
        events = int((corpus.events.part == 0).sum()) if corpus.events is not None else 0
        per_event = f", {index.length[own].sum() / events:.2f} tokens per training event" if events else ""
        lines.append(f"{corpus.dataset.name}: {int(own.sum()):,} rows{per_event}; targets: {counts}")
    lines.append(f"memory: about {memory_estimate(config, prepared) / 2**30:.1f} GiB")
    decode = decoder(prepared.backbone)
    corpora = {c.dataset.name: c for c in prepared.corpora}
    for number in np.linspace(0, len(index.length) - 1, min(3, len(index.length))).astype(int).tolist():
        row = read_row(prepared.rows[number])
        text = spell(corpora[row.dataset], row.tokens, decode)
        lines.append(f"row {number} ({row.dataset}, {len(row.tokens)} tokens, {len(row.target_at)} targets): {text}")
    return lines


def decoder(backbone: Backbone) -> Callable[[list[int]], str]:
    """Token ids to text."""
    return lambda tokens: str(backbone.tokenizer.decode(tokens))


def memory_estimate(config: FinetuneConfig, prepared: Prepared) -> int:
    """Bytes of weights, row optimizer state and the activations of one batch; an estimate."""
    weights = sum(p.numel() * p.element_size() for p in prepared.backbone.model.parameters())
    width = prepared.backbone.source.hidden_size
    items = sum(c.dataset.items.height for c in prepared.corpora)
    scores = config.batch_tokens * max(c.dataset.items.height for c in prepared.corpora) * 4 * 3
    activations = config.batch_tokens * width * prepared.backbone.source.blocks * 40 * 4
    return weights + items * width * 4 * 6 + scores + activations + 2**30


def export_rows(config: FinetuneConfig, out: Path, text: bool, say: Say) -> str:
    """Write the training rows to a folder, as Arrow or prompt/completion JSON lines; says what was written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is not an empty folder; give another --out")
    prepared = prepare(replace(config, out=None, item_text_model=None), say)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if text:
        partial.mkdir(parents=True)
        corpora = {c.dataset.name: c for c in prepared.corpora}
        decode = decoder(prepared.backbone)
        n = 0
        with (partial / "train.jsonl").open("w", encoding="utf-8") as file:
            for record in prepared.rows:
                row = read_row(record)
                for example in text_examples(corpora[row.dataset], row, decode):
                    file.write(json.dumps(example, ensure_ascii=False) + "\n")
                    n += 1
        what = f"{n:,} examples in {out / 'train.jsonl'}"
    else:
        prepared.rows.save_to_disk(str(partial))
        what = f"{len(prepared.rows):,} rows in {out} (datasets.load_from_disk)"
    if out.exists():
        out.rmdir()
    os.replace(partial, out)
    return what
