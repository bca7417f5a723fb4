"""The end of a training: the run is measured once and written."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from ..progress import Progress
from ..rows.corpus import Corpus, header_columns
from ..run.adapter import save_adapter
from ..run.card import model_card
from ..run.config import LOCAL, FinetuneConfig, config_yaml
from ..run.folder import Run
from ..run.manifest import Manifest
from ..scoring.calibration import Calibration
from ..scoring.scorer import Scorer
from ..store.connect import create_store
from .prepare import Prepared, Report
from .validate import calibrate, headline, validation


def finish(
    config: FinetuneConfig, prepared: Prepared, scorer: Scorer, out: Path, report: Report, progress: Progress
) -> Manifest:
    """Calibrate, and write the run."""
    calibration = calibrate(config, prepared, scorer, progress)
    return write_run(config, prepared, scorer, calibration, out, report, progress)


def write_run(
    config: FinetuneConfig,
    prepared: Prepared,
    scorer: Scorer,
    calibration: Mapping[str, Calibration],
    out: Path,
    report: Report,
    progress: Progress,
    more_options: Mapping[str, Any] | None = None,
) -> Manifest:
    """Measure the held-out test part once, and write store and adapter; the manifest comes last.

    more_options: options of the adapter besides those of `config`.
    """
    metrics = validation(config, prepared, scorer, "test", calibration=calibration, progress=progress)
    metrics.pop("criterion", None)
    report("test: " + headline(metrics) if metrics else "nothing is held out for a test")
    run = Run(out)
    if not run.store.exists():
        create_store(run.store, prepared.datasets).close()
    manifest = Manifest(
        backbone=prepared.backbone.source,
        vocabulary=prepared.vocabulary,
        tasks=answers_of(prepared),
        max_events=prepared.max_events,
        header_columns={d.name: header_columns(d.users) for d in prepared.datasets},
        calibration={name: asdict(fitted) for name, fitted in calibration.items()},
        metrics=metrics,
        fingerprints={d.name: d.fingerprint for d in prepared.datasets},
        options={k: v for k, v in yaml.safe_load(config_yaml(config)).items() if k not in LOCAL}
        | dict(more_options or {}),
        files={},
        text_encoder=prepared.text_encoder,
    )
    catalogues = {c.dataset.name: with_popularity(c) for c in prepared.corpora if c.dataset.items.height}
    save_adapter(
        run.adapter,
        scorer.model,
        scorer.counts,
        prepared.backbone.tokenizer,
        manifest,
        prepared.all_tasks,
        catalogues,
        model_card(manifest),
    )
    shutil.rmtree(run.checkpoints, ignore_errors=True)
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
        train = corpus.training
        counts = np.bincount(train.item[train.item >= 0], minlength=len(counts))
    return corpus.dataset.items.with_columns(pl.Series("train_count", counts))
