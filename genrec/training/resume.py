"""A finished run trained on with what its store took since: only what is new is learned."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ..data import store as stores
from ..data.grown import later_events, with_items
from ..errors import DataError, RunError
from ..evaluation.calibration import Calibration
from ..files import whole, write_text
from ..inference.engine import Engine
from ..model.adapter import MANIFEST, Manifest, check_files, continue_from, read_manifest, read_tasks
from ..model.recmodel import RecModel
from ..options import flag
from ..tasks.rows import Corpus
from .collaborative import find_effects, find_neighbours
from .config import LATER, LATER_ITEMS, FinetuneConfig, before, load_data, read_config, run_folder

ENOUGH = 1_000  # events of validation from which weights and temperatures are fitted anew
SLOWER = 0.3  # learning rates over those of the run before, which was trained from the start
FREE = (
    *("resume_from", "store", "out", "epochs", "minutes", "lr", "row_lr", "weight_decay", "warmup"),
    *("dropout", "row_dropout", "label_smoothing", "batch_tokens", "valid_tokens", "patience"),
    *("seed", "report_to", "dry_run"),
)  # options that may differ from those of the run before


def options_of(run: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run that another one resumes from; raises DataError for one that is given and must stay."""
    manifest = finished(Path(run))
    values = read_config(Path(run) / "config.yaml")
    for name, value in given.items():
        if name in FinetuneConfig.__dataclass_fields__ and name not in FREE and value not in (None, [], ()):
            raise DataError(f"{flag(name)}: with --resume-from it is that of {run}; leave it out")
    if given.get("config") is not None:
        raise DataError(f"--config: with --resume-from the options are those of {run}; leave it out")
    if values.get("resume_from") is None:
        before = FinetuneConfig(**values)  # type: ignore[arg-type]
        values |= {"lr": SLOWER * before.lr, "row_lr": SLOWER * before.row_lr}
    return {**values, "minutes": None, "layers": manifest.backbone.blocks, "out": f"{run.rstrip('/')}-next"}


def finished(run: Path) -> Manifest:
    """The manifest of a run that can be trained on; raises RunError for any other folder."""
    if not (run / "adapter" / MANIFEST).is_file():
        what = "is not a finished run" if run.is_dir() else "is no folder"
        raise RunError(f"--resume-from {run} {what}; `genrec finetune ... --out {run}` makes a run")
    manifest = read_manifest(run / "adapter")
    check_files(run / "adapter", manifest)
    return manifest


def take_later(config: FinetuneConfig) -> str:
    """Write down what the store took since the run was trained, once: `LATER` and `LATER_ITEMS` in the new run's folder
    and a store in which it counts as known; returns a line about it. Raises DataError where nothing came."""
    assert config.resume_from is not None
    run, out = Path(config.resume_from), run_folder(config)
    manifest = finished(run)
    ahead = [f"{t} of {d}" for d, tasks in manifest.tasks.items() for t in tasks if t in looks_ahead(run, d)]
    if ahead:
        raise RunError(f"{run} has tasks that look ahead in time ({', '.join(ahead)}): train it anew with the new data")
    if (out / LATER).is_file():
        learn(out)
        return f"trains on from {run} with what was taken from its store at first"
    out.mkdir(parents=True, exist_ok=True)
    if config.store is not None:
        stores.fetch_store(config.store, out / "store.db", run / "store.db")
    else:
        stores.copy_store(run / "store.db", out / "store.db")
    parts, items = [], {}
    with contextlib.closing(stores.open_store(out / "store.db")) as store:
        for dataset in load_data(before(config)):
            if "user_id" not in dataset.interactions.columns:
                continue
            if "timestamp" in dataset.interactions.columns:
                stores.date_events(store, dataset.name)
            items[dataset.name] = [{"item_id": i, **a} for _, i, a in stores.added_items(store, dataset.name)]
            known = with_items(dataset, items[dataset.name])
            later = later_events(known, stores.all_events(store, dataset.name), config.seed)
            parts.append(later.with_columns(pl.lit(dataset.name).alias("dataset")))
    later = pl.concat(parts) if parts else pl.DataFrame()
    if not later.height:
        raise DataError(f"nothing came since {run} was trained: the store holds no later event")
    if not (later["part"] == "valid").any():
        raise DataError(
            f"{later['user_id'].n_unique()} users have later events, and validation, a tenth of them, is drawn empty: "
            "wait for more"
        )
    write_text(out / LATER_ITEMS, json.dumps(items, ensure_ascii=False))
    with whole(out / LATER) as partial:
        later.write_parquet(partial)
    (out / LATER).chmod(0o600)
    learn(out)
    return (
        f"trains on from {run}: {later.height:,} later events of {later['user_id'].n_unique():,} users, "
        f"{sum(map(len, items.values())):,} added items"
    )


def looks_ahead(run: Path, dataset: str) -> set[str]:
    """The tasks of a run that look ahead in time."""
    tasks = read_tasks(run / "adapter", read_manifest(run / "adapter"))
    return {t.name for t in tasks.values() if t.horizon_days is not None or t.unit == "user_time"}


def take_over(config: FinetuneConfig, model: RecModel) -> None:
    """What the run before has learned, into a model of the grown data; raises RunError where it does not fit."""
    assert config.resume_from is not None
    run = Path(config.resume_from)
    manifest, ours = read_manifest(run / "adapter"), model.vocabulary
    theirs = [(g.dataset, g.name, g.words) for g in manifest.vocabulary.groups]
    if theirs != [(g.dataset, g.name, g.words) for g in ours.groups]:
        raise RunError(f"{run} was trained on other tasks or answers than there are now; train it anew")
    continue_from(model, run / "adapter")


def learn(out: Path) -> None:
    """Let what is learned now count as known in the new run's store."""
    with contextlib.closing(stores.open_store(out / "store.db")) as store:
        stores.learn_events(store)


def few(corpus: Corpus) -> bool:
    """Whether validation is too small to fit anything on."""
    return corpus.events is None or int((corpus.events.part == 1).sum()) < ENOUGH


def fitted_before(config: FinetuneConfig, corpus: Corpus, engine: Engine) -> dict[str, Calibration]:
    """The calibration of the run before; neighbours and effects are of all that is known now, with its weights."""
    assert config.resume_from is not None
    name = corpus.dataset.name
    manifest = read_manifest(Path(config.resume_from) / "adapter")
    if corpus.events is not None and corpus.dataset.items.height and config.collaborative:
        rows = engine.model.rows_of(name)
        old = rows.neighbours
        effects = find_effects(corpus)
        rows.effects = effects and effects.to(engine.model.device)
        if old is not None:
            rows.neighbours = find_neighbours(corpus).to(engine.model.device)
            rows.neighbours.weight.copy_(old.weight)
            rows.neighbours.seen.copy_(old.seen)
    own = {k: v for k, v in manifest.calibration.items() if k.startswith(f"{name}/")}
    return {k: Calibration.from_json(v) for k, v in own.items()}
