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
from ..run.saved import save_data
from ..scoring.calibration import Calibration
from ..scoring.scorer import Scorer
from ..store.connect import create_store
from .budget import Budget, tokens_in
from .prepare import Prepared, Report
from .validate import CALIBRATION, calibrate, headline, part_tokens, validation

CALIBRATION_SHARE, TEST_SHARE = 0.5, 0.8  # of the time that is left for them


def finish(
    config: FinetuneConfig,
    prepared: Prepared,
    scorer: Scorer,
    out: Path,
    report: Report,
    progress: Progress,
    budget: Budget,
    seconds_per_token: float,
) -> Manifest:
    """Calibrate, measure the test part and write the run, in the time that is left; reports a test part that is not
    read whole. seconds_per_token: of reading, as validation took them."""
    begun, tokens, limit = budget.used, CALIBRATION * config.valid_tokens, None
    if budget.is_limited:
        tokens = min(tokens, tokens_in(CALIBRATION_SHARE * budget.left, seconds_per_token, prepared))
    calibration = calibrate(config, prepared, scorer, progress, tokens)
    if budget.is_limited:
        read = part_tokens(prepared, "valid", tokens)
        seconds_per_token = max(seconds_per_token, (budget.used - begun) / max(read, 1))
        limit = tokens_in(TEST_SHARE * budget.left, seconds_per_token, prepared)
        share = part_tokens(prepared, "test", limit) / max(part_tokens(prepared, "test", None), 1)
        if share < 1:
            report(f"--minutes: about {share:.0%} of the test part is measured; `genrec evaluate` measures all of it")
        else:
            limit = None
    return write_run(config, prepared, scorer, calibration, out, report, progress, test_tokens=limit)


def write_run(
    config: FinetuneConfig,
    prepared: Prepared,
    scorer: Scorer,
    calibration: Mapping[str, Calibration],
    out: Path,
    report: Report,
    progress: Progress,
    more_options: Mapping[str, Any] | None = None,
    test_tokens: int | None = None,
) -> Manifest:
    """Measure the held-out test part once, and write store, data and adapter; the manifest comes last.

    more_options: options of the adapter besides those of `config`. test_tokens: the most that are read of it.
    """
    metrics = validation(config, prepared, scorer, "test", test_tokens, calibration, progress)
    metrics.pop("criterion", None)
    report("test: " + headline(metrics) if metrics else "nothing is held out for a test")
    progress.update("writing", 0, 1)
    run = Run(out)
    if not run.store.exists():
        create_store(run.store, prepared.datasets).close()
    save_data(run, prepared.datasets, prepared.task_files, config)
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
        signs={d.name: dict(d.signs) for d in prepared.datasets},
        attributes={d: [*c.attributes] for d, c in scorer.counts.items() if c.attributes is not None},
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
        model_card(manifest, prepared.datasets, catalogues, [s for s in (*config.names, config.interactions) if s]),
    )
    progress.update("writing", 1, 1)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    for path in (run.later_events, run.later_items):  # RUN/data holds them now
        path.unlink(missing_ok=True)
    return manifest


def answers_of(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """Per data set and task its answers, as a manifest holds them."""
    return {c.dataset.name: {t.name: t.answer.to_json() for t in c.tasks} for c in prepared.corpora}


def with_popularity(corpus: Corpus) -> pl.DataFrame:
    """The catalogue with `train_count`, how often each item was wanted in the training part."""
    counts = np.zeros(corpus.dataset.items.height, dtype=np.int64)
    if corpus.events is not None:
        counts = corpus.item_counts
    return corpus.dataset.items.with_columns(pl.Series("train_count", counts))
