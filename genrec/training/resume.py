"""A finished run trained on with the events that its store took since: only new events are targets."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from .. import store as stores
from ..data.grown import later_events, with_items
from ..errors import DataError, RunError
from ..files import atomic_write, write_text
from ..model.item_texts import TextSpace
from ..model.recmodel import RecModel
from ..options import flag
from ..rows.corpus import Corpus
from ..run.adapter import continue_from, read_tasks, spaces_of
from ..run.config import FinetuneConfig, read_config, run_folder
from ..run.data import parent_of, trained_data
from ..run.folder import Run
from ..run.manifest import Manifest, check_files
from ..scoring.calibration import Calibration
from ..scoring.fit import find_effects, find_neighbours
from ..scoring.scorer import Counts, Scorer

ENOUGH = 1_000  # events of validation from which weights and temperatures are fitted anew
SLOWER = 0.3  # learning rates over those of the parent run, which was trained from the start
FREE = (
    *("resume_from", "store", "out", "epochs", "minutes", "lr", "row_lr", "weight_decay", "warmup"),
    *("dropout", "label_smoothing", "batch_tokens", "valid_tokens", "patience"),
    *("seed", "report_to", "dry_run"),
)  # options that may differ from those of the parent run


def options_of(folder: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run that another one resumes from; raises DataError for a given one that cannot change."""
    run = Run(Path(folder))
    manifest = finished_manifest(run)
    values = read_config(run.config_file)
    for name, value in options.items():
        if name in FinetuneConfig.__dataclass_fields__ and name not in FREE and value not in (None, [], ()):
            raise DataError(f"{flag(name)}: with --resume-from it is that of {folder}; leave it out")
    if options.get("config") is not None:
        raise DataError(f"--config: with --resume-from the options are those of {folder}; leave it out")
    if values.get("resume_from") is None:
        parent = run.config()
        values |= {"lr": SLOWER * parent.lr, "row_lr": SLOWER * parent.row_lr}
    return {**values, "minutes": None, "layers": manifest.backbone.blocks, "out": f"{folder.rstrip('/')}-next"}


def finished_manifest(run: Run) -> Manifest:
    """The manifest of a run that can be trained on; raises RunError for any other folder."""
    manifest = run.manifest("--resume-from")
    check_files(run.adapter, manifest)
    return manifest


def collect_new_events(config: FinetuneConfig) -> str:
    """Record the events and items that the store took since the parent run was trained, once, in the new run's
    folder, and a copy of the store in which they count as trained; returns a line about it. Raises DataError if there
    are none."""
    run, new = parent_of(config), Run(run_folder(config))
    manifest = finished_manifest(run)
    ahead = [f"{t} of {d}" for d, tasks in manifest.tasks.items() for t in tasks if t in looks_ahead(run, d)]
    if ahead:
        raise RunError(
            f"{run.folder} has tasks that look ahead in time ({', '.join(ahead)}): train it anew with the new data"
        )
    if new.later_events.is_file():
        mark_as_trained(new)
        return f"trains on from {run.folder} with what was taken from its store at first"
    new.folder.mkdir(parents=True, exist_ok=True)
    if config.store is not None:
        stores.fetch_store(config.store, new.store, run.store)
    else:
        stores.copy_store(run.store, new.store)
    parts, items = [], {}
    with contextlib.closing(stores.open_store(new.store)) as store:
        for dataset in trained_data(run, new.store):
            if "user_id" not in dataset.interactions.columns:
                continue
            if "timestamp" in dataset.interactions.columns:
                stores.date_events(store, dataset.name)
            items[dataset.name] = [{"item_id": i, **a} for _, i, a in stores.added_items(store, dataset.name)]
            grown = with_items(dataset, items[dataset.name])
            later = later_events(grown, stores.all_events(store, dataset.name), config.seed)
            parts.append(later.with_columns(pl.lit(dataset.name).alias("dataset")))
    later = pl.concat(parts) if parts else pl.DataFrame()
    if not later.height:
        raise DataError(f"nothing came since {run.folder} was trained: the store holds no later event")
    if not (later["part"] == "valid").any():
        raise DataError(
            f"{later['user_id'].n_unique()} users have later events, and validation, a tenth of them, is drawn empty: "
            "wait for more"
        )
    write_text(new.later_items, json.dumps(items, ensure_ascii=False))
    with atomic_write(new.later_events) as partial:
        later.write_parquet(partial)
    new.later_events.chmod(0o600)
    mark_as_trained(new)
    return (
        f"trains on from {run.folder}: {later.height:,} later events of {later['user_id'].n_unique():,} users, "
        f"{sum(map(len, items.values())):,} added items"
    )


@contextlib.contextmanager
def taken_back(run: Run) -> Iterator[None]:
    """What `collect_new_events` writes into the folder of a run is removed again if the training does not begin."""
    files = (run.store, run.later_events, run.later_items)
    new = [path for path in files if not path.exists()]
    try:
        yield
    except BaseException:
        if not run.config_file.is_file():
            for path in new:
                path.unlink(missing_ok=True)
        raise


def looks_ahead(run: Run, dataset: str) -> set[str]:
    """The tasks of a run that look ahead in time."""
    tasks = read_tasks(run.adapter, run.manifest())
    return {t.name for t in tasks.values() if t.horizon_days is not None or t.unit == "user_time"}


def parent_spaces(config: FinetuneConfig, width: int) -> dict[str, TextSpace]:
    """The spaces of texts of the parent run by data set, in which the items that came since are put, too. width: of the
    backbone."""
    run = parent_of(config)
    return spaces_of(run.adapter, run.manifest(), width)


def load_parent_weights(config: FinetuneConfig, model: RecModel) -> dict[str, Counts]:
    """Put the weights of the parent run into a model of the grown data, and return its counts, grown as well; raises
    RunError if they do not fit."""
    run = parent_of(config)
    manifest, ours = run.manifest(), model.vocabulary
    theirs = [(g.dataset, g.name, g.words) for g in manifest.vocabulary.groups]
    if theirs != [(g.dataset, g.name, g.words) for g in ours.groups]:
        raise RunError(f"{run.folder} was trained on other tasks or answers than there are now; train it anew")
    return continue_from(model, run.adapter)


def mark_as_trained(run: Run) -> None:
    """Mark the events of a run's store as trained, so that the next resumption skips them."""
    with contextlib.closing(stores.open_store(run.store)) as store:
        stores.learn_events(store)


def has_little_validation(corpus: Corpus) -> bool:
    """Whether validation is too small to fit anything on."""
    return corpus.events is None or int((corpus.events.part == 1).sum()) < ENOUGH


def parent_calibration(config: FinetuneConfig, corpus: Corpus, scorer: Scorer) -> dict[str, Calibration]:
    """The calibration of the parent run; neighbours and effects are of all events of now, with the parent's weights."""
    name, manifest = corpus.dataset.name, parent_of(config).manifest()
    if corpus.events is not None and corpus.dataset.items.height and config.collaborative:
        counts = scorer.counts[name]
        effects = find_effects(corpus)
        counts.effects = effects and effects.to(scorer.model.device)
        if (old := counts.neighbours) is not None:
            counts.neighbours = find_neighbours(corpus).to(scorer.model.device)
            counts.neighbours.weight.copy_(old.weight)
            counts.neighbours.seen.copy_(old.seen)
    calibration = {k: v for k, v in manifest.calibration.items() if k.startswith(f"{name}/")}
    return {k: Calibration.from_json(v) for k, v in calibration.items()}
