"""align(config): preference tuning of a finished run, from the items that users chose and those they passed over."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, RunError, UnavailableError, UnknownNameError
from ..evaluation.metrics import ranking_metrics, sums_up
from ..evaluation.reading import Ranked, rescore
from ..extras import require
from ..files import sole_writer, write_errors, write_text
from ..model.batching import Batch
from ..progress import SILENT, Progress
from ..run.adapter import continue_from
from ..run.alignment import read_alignment
from ..run.config import AlignConfig, FinetuneConfig, config_yaml
from ..run.data import trained_data
from ..run.folder import MANIFEST, Run
from ..run.manifest import Manifest, file_hash
from ..run.saved import as_saved
from ..scoring.scorer import Scorer
from ..store.connect import copy_store
from .checkpoints import AVERAGED, best_step, checkpoints, history_of, load_trainable, patience_spent
from .dpo import PreferenceTrainer, log_probabilities
from .finetune import KEPT
from .finish import write_run
from .preferences import PreferenceBatches, PreferenceRow, chosen_later, preference_rows
from .prepare import Prepared, Report, prepare
from .start import build_model
from .trainer import Reporter
from .validate import (
    CALIBRATION,
    calibrate,
    corpus_tokens,
    fit_outcomes,
    fit_questions,
    headline,
    read,
    task_metrics,
)

if TYPE_CHECKING:
    from trl.trainer.dpo_config import DPOConfig

VALIDATIONS = 2  # of an epoch
ROW_RATE = 2.0  # learning rate of rows over that of LoRA, as in the defaults of finetune


@dataclass(frozen=True)
class Aligned:
    """Result of an alignment: the metrics of the validation part as served `before` and `after`, and whether the run
    was written."""

    folder: Path
    step: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    written: bool

    @property
    def better(self) -> bool:
        """Whether validation is better than before."""
        return self.after["criterion"] > self.before["criterion"]


def align(config: AlignConfig, report: Report, progress: Progress = SILENT) -> Aligned:
    """Tune a run to the preferences of its training part, and write another run; the same call continues an interrupted
    one.

    If validation does not get better, the run is written only if `config.out` asks for it by name. The test part is
    measured once, when the run is written. Raises RunError, DataError, UnavailableError or UnknownNameError for the
    user's mistakes.
    """
    require("align")
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise UnavailableError(f"preference tuning runs in one process, not in {processes}")
    with write_errors(config.folder):
        if config.folder.exists() and not config.folder.is_dir():
            raise RunError(f"--out {config.folder} is a file; a run is a folder")
        finished = Run(config.folder).finished
    with nullcontext() if finished else sole_writer(config.folder):
        return align_into(config, report, progress)


def align_into(config: AlignConfig, report: Report, progress: Progress) -> Aligned:
    """The aligned run in its folder, which no other process writes meanwhile."""
    run, aligned = Run(Path(config.run)), Run(config.folder)
    out = aligned.folder
    manifest = ranking_manifest(run)
    record = record_of(config, run, manifest)
    previous = previous_record(aligned, run, record)
    if aligned.finished:
        if previous["step"] is None or any("criterion" not in (previous[part] or {}) for part in ("before", "after")):
            raise RunError(f"{aligned.alignment} cannot be read: it does not say what the alignment came to")
        report(f"{out} is finished already; give another --out to align again")
        return Aligned(out, previous["step"], previous["before"], previous["after"], True)
    finetuned = run.config()
    if finetuned.resume_from is not None:
        raise RunError(
            f"{run.folder} was trained on from {finetuned.resume_from}; align a run that was trained from the start"
        )
    finetuned = as_saved(finetuned, run)
    prepared, scorer = prepared_again(run, manifest, finetuned, progress)
    preferences, owner = choices(config, prepared, report, progress)
    batches = PreferenceBatches(preferences, owner, finetuned.batch_tokens, config.seed, scorer.model.split)
    with write_errors(out, KEPT):
        write_text(aligned.alignment, json.dumps(record, indent=1))
        step, before, after = train(config, finetuned, prepared, scorer, batches, out, report, progress)
        write_text(aligned.alignment, json.dumps(record | {"step": step, "before": before, "after": after}, indent=1))
        written = config.out is not None or after["criterion"] > before["criterion"]
        if written:
            write_text(aligned.config_file, config_yaml(run.config()))
            if not aligned.store.exists():
                copy_store(run.store, aligned.store)
            calibration = calibrate(finetuned, prepared, scorer, progress)
            write_run(finetuned, prepared, scorer, calibration, out, report, progress, {"align": record["options"]})
    return Aligned(out, step, before, after, written)


def summary(aligned: Aligned) -> str:
    """The metrics of lists and answers on validation before and after, and whether the run was written."""
    lines = [
        f"{name}: {value:.4f}, then {aligned.after[name]:.4f}"
        for name, value in aligned.before.items()
        if sums_up(name) and name in aligned.after
    ]
    verdict = f"better than before: step {aligned.step} is kept" if aligned.better else "not better than before"
    lines.insert(0, f"validation, {verdict}")
    hint = f"nothing is written; the same command with --out {aligned.folder} writes it, without training again"
    return "\n".join([*lines, f"Done: {aligned.folder}" if aligned.written else hint])


# --- the run, and its output folder -------------------------------------------------------------------------------


def ranking_manifest(run: Run) -> Manifest:
    """The manifest of a finished run that ranks items; raises RunError for any other folder."""
    manifest = run.manifest()
    if not any("next_item" in tasks for tasks in manifest.tasks.values()):
        tasks = ", ".join(dict.fromkeys(t for task_names in manifest.tasks.values() for t in task_names))
        raise RunError(
            f"{run.folder} ranks no items, so it has no preferences to learn: next_item is not among its tasks "
            f"({tasks})"
        )
    return manifest


def record_of(config: AlignConfig, run: Run, manifest: Manifest) -> dict[str, Any]:
    """The inputs of an alignment as align.json holds them: run, manifest, options."""
    for name in config.dataset:
        if name not in manifest.tasks:
            raise UnknownNameError("data set", name, manifest.tasks, f"in {run.folder}")
        if "next_item" not in manifest.tasks[name]:
            raise DataError(f"--dataset {name}: it has no task next_item, so there is nothing to rank")
    options = {k: v for k, v in asdict(config).items() if k not in ("run", "out")} | {"dataset": list(config.dataset)}
    return {"run": str(run.folder), "manifest": file_hash(run.adapter / MANIFEST), "options": options}


def previous_record(aligned: Run, run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of this alignment in its folder, empty at its start; raises RunError if it holds anything else."""
    out = aligned.folder
    if out.resolve() == run.folder.resolve():
        raise RunError(f"--out {out} is RUN itself, which is kept as it is; give another --out")
    if not out.exists() or not any(out.iterdir()):
        return {}
    if not aligned.alignment.is_file():
        raise RunError(f"--out {out} is not empty and holds no alignment; give another --out, or remove it first")
    previous = read_alignment(aligned)
    if previous["manifest"] != record["manifest"]:
        raise RunError(
            f"{out} holds an alignment of another run ({previous['run']}); give another --out, or remove it first"
        )
    if previous["options"] != record["options"]:
        then_now = [(k, v, record["options"].get(k)) for k, v in previous["options"].items()]
        other = [
            f"--{k} {then or 'not given'} then, {now or 'not given'} now" for k, then, now in then_now if now != then
        ]
        raise RunError(
            f"{out} holds an alignment with other options ({', '.join(other)}); give the same to resume it, "
            "give another --out, or remove it first"
        )
    return previous


def prepared_again(run: Run, manifest: Manifest, config: FinetuneConfig, progress: Progress) -> tuple[Prepared, Scorer]:
    """The run's data and its model and counts, which train on; raises RunError if either has changed."""
    datasets = trained_data(run)
    plain = replace(config, item_text_model=None, dropout=0.0, collaborative=False)
    prepared = prepare(plain, lambda _: None, manifest.backbone.blocks, datasets, progress)
    if prepared.backbone.source.sha256 != manifest.backbone.sha256:
        raise RunError(f"{run.folder} was trained on other weights of {manifest.backbone.model} than there are now")
    if prepared.vocabulary != manifest.vocabulary:
        raise RunError(
            f"{run.folder} was trained on other tasks or answers than its task files and its data hold now; "
            "train it anew first"
        )
    model = build_model(plain, prepared, config.seed)  # then filled with the run's weights
    scorer = Scorer(model, continue_from(model, run.adapter))
    return replace(prepared, text_encoder=manifest.text_encoder), scorer


def choices(
    config: AlignConfig, prepared: Prepared, report: Report, progress: Progress
) -> tuple[list[PreferenceRow], np.ndarray]:
    """The preferences of all data sets asked for, and the data set's number of each row; reports their sources."""
    rows: list[PreferenceRow] = []
    owner: list[int] = []
    for number, corpus in enumerate(prepared.corpora):
        name = corpus.dataset.name
        ranks = corpus.events is not None and any(t.name == "next_item" for t in corpus.tasks)
        if not ranks or (config.dataset and name not in config.dataset):
            continue
        advance = progress.stage(f"preferences of {name}")
        preferences, words = preference_rows(corpus, config.rejected, prepared.max_events, config.seed, advance)
        pairs = sum(len(p.rejected) for p in preferences)
        rejected = sum(int((p.rejected >= 0).sum()) for p in preferences)
        report(f"{name}: {pairs:,} chosen items with {rejected:,} rejected ones: {words}")
        rows += preferences
        owner += [number] * len(preferences)
    if not rows:
        raise DataError(
            f"{config.run}: its training part holds no preference: no chosen item has a rejected one near it and a "
            "history before it"
        )
    return rows, np.asarray(owner)


# --- training -----------------------------------------------------------------------------------------------------


def validation_metrics(
    config: FinetuneConfig, prepared: Prepared, scorer: Scorer, progress: Progress
) -> dict[str, float]:
    """Metrics of the validation part as the model would be served, and `criterion`, the number that is maximised.

    The weights of the neighbours and the calibration are fitted first, as they would be: those of another step would
    not fit the scores of this one. The criterion is the mean over the data sets of `next_item/chosen/ndcg@10`: NDCG@10
    of the cases whose held-out item was chosen. If a data set also asks for items that were passed over, NDCG of all
    cases falls as preferences are learned. Metrics that are not defined are left out.
    """
    scorer.refresh()
    metrics: dict[str, float] = {}
    of_chosen = []
    for corpus in prepared.corpora:
        name = corpus.dataset.name
        reading = read(config, prepared, scorer, corpus, "valid", config.valid_tokens, progress, "validation")
        if reading.ranked is not None:
            fit_questions(scorer, name, scorer.counts[name], reading, config.seed)
            reading = rescore(scorer, corpus, reading)
        for task, values in task_metrics(corpus, reading, fit_outcomes(scorer, corpus, reading)).items():
            metrics |= {f"{name}/{task}/{k}": float(v) for k, v in values.items()}
        if reading.ranked is not None and (ranks := ranks_of_chosen(reading.ranked, chosen_later(corpus, "valid"))):
            ndcg = float(ranking_metrics(ranks)["ndcg@10"])
            metrics |= {f"{name}/next_item/chosen/n": float(len(ranks)), f"{name}/next_item/chosen/ndcg@10": ndcg}
            of_chosen.append(ndcg)
    if not of_chosen:
        raise DataError("no held-out item of the validation part was chosen: nothing tells which step is the best")
    return {k: v for k, v in metrics.items() if np.isfinite(v)} | {"criterion": float(np.mean(of_chosen))}


def ranks_of_chosen(ranked: Ranked, chosen: Mapping[str, set[int]]) -> list[np.ndarray]:
    """Ranks of the cases whose held-out items a user chose, with seen items kept if most of these were seen before.

    chosen: items by user.
    """
    cases = zip(ranked.users, ranked.targets, strict=True)
    index = [n for n, (user, items) in enumerate(cases) if not chosen.get(user, set()).isdisjoint(items.tolist())]
    seen = [np.isin(ranked.targets[n], ranked.seen[n]).mean() for n in index]
    ranks = ranked.seen_kept if index and np.mean(seen) > 0.5 else ranked.seen_removed
    return [ranks[n] for n in index]


def train(
    config: AlignConfig,
    finetuned: FinetuneConfig,
    prepared: Prepared,
    scorer: Scorer,
    batches: PreferenceBatches,
    out: Path,
    report: Report,
    progress: Progress,
) -> tuple[int, dict[str, float], dict[str, float]]:
    """All steps, from the latest checkpoint if there is one; the model becomes that of the best of them.

    Returns that step, and the validation metrics before the first step and after it.
    """
    root = Run(out).checkpoints
    root.mkdir(exist_ok=True)
    os.chmod(root, 0o700)
    saved = checkpoints(root)
    args = arguments(config, finetuned, root, len(batches.plan), fresh=not saved)
    batches.repeat(config.epochs)
    trainer = PreferenceTrainer(
        scorer.model,
        args,
        batches,
        lambda: validation_metrics(finetuned, prepared, scorer, progress),
        engine=scorer,
        lr=config.lr,
        row_lr=ROW_RATE * config.lr,
        weight_decay=0.0,
        patience=finetuned.patience,
        eval_every=-(-len(batches.plan) // VALIDATIONS),
        steps_per_epoch=len(batches.plan),
        callbacks=[Reporter(lambda metrics, step: report(f"step {step}: {headline(metrics)}"), progress)],
    )
    history = history_of(saved[-1][1]) if saved else []
    if saved:
        report(f"resuming from step {saved[-1][0]} of {len(batches)}")
    finished = bool(saved) and (saved[-1][0] >= len(batches) or patience_spent(history, finetuned.patience))
    if not finished:  # else it was stopped while the run was being finished, or --out asks for a run that is not better
        progress.expect(costs(config, finetuned, prepared, batches))
        batches.reference = references(scorer, batches, progress)
        trainer.train(resume_from_checkpoint=str(saved[-1][1]) if saved else None)
        history = trainer.state.log_history
    best = best_step(history)
    load_trainable(scorer.model, root / f"checkpoint-{best}" / AVERAGED)
    report(f"keeping step {best}, the best of the validations")
    return best, validation_at(history, 0), validation_at(history, best)


def costs(
    config: AlignConfig, finetuned: FinetuneConfig, prepared: Prepared, batches: PreferenceBatches
) -> dict[str, float]:
    """The stages of an alignment, with the tokens that each reads, those of training three times."""
    tokens = float(len(batches.plan) * finetuned.batch_tokens)
    stages = {"reference": tokens, "training": 3 * config.epochs * tokens}
    for what, part, most in (("calibration", "valid", CALIBRATION * finetuned.valid_tokens), ("test", "test", None)):
        for corpus in prepared.corpora:
            stages[f"{what} of {corpus.dataset.name}"] = corpus_tokens(corpus, prepared.max_events, part, most)
    return stages


def validation_at(history: Sequence[Mapping[str, Any]], step: int) -> dict[str, float]:
    """The metrics of the validation at a step."""
    validation = next((entry for entry in history if entry["step"] == step and "eval/criterion" in entry), None)
    if validation is None:
        raise RunError(f"the checkpoints tell of no validation at step {step}: remove them, to align from the start")
    return {name.removeprefix("eval/"): v for name, v in validation.items() if name.startswith("eval/")}


def arguments(config: AlignConfig, finetuned: FinetuneConfig, root: Path, per_epoch: int, fresh: bool) -> "DPOConfig":
    """TRL's options of the training; a fresh one is validated before its first step, a resumed one is not again."""
    from trl.trainer.dpo_config import DPOConfig

    cuda = torch.cuda.is_available()
    steps = per_epoch * config.epochs
    args = DPOConfig(
        output_dir=str(root),
        beta=config.beta,
        precompute_ref_log_probs=True,
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=config.lr,
        lr_scheduler_type="linear",
        warmup_steps=max(1, int(finetuned.warmup * steps)),
        max_grad_norm=1.0,
        logging_steps=max(1, min(50, per_epoch // 4)),
        eval_strategy="no",
        eval_on_start=fresh,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not cuda,
        bf16=False,  # the backbone is in its own precision, trained tensors are in float32
        activation_checkpointing=False,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        seed=config.seed,
    )
    args._n_gpu = min(1, args._n_gpu)  # several GPUs: one is used
    return args


@torch.no_grad()
def references(scorer: Scorer, batches: PreferenceBatches, progress: Progress) -> list[Tensor]:
    """Log-probabilities of every batch of the plan by the model as it is, on the CPU."""
    scorer.model.eval()
    log_probs = []
    for number in range(len(batches.plan)):
        fields = {k: v.to(scorer.model.device) for k, v in batches.batch(number).items()}
        rejected = fields.pop("rejected")
        log_probs.append(log_probabilities(scorer, Batch.from_fields(fields), rejected).cpu())
        progress.update("reference", number + 1, len(batches.plan))
    return log_probs
