"""A training looked at beforehand: counts, rendered rows, memory, time; rows for other trainers."""

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from ..counting import counted
from ..errors import RunError
from ..files import sole_writer, write_errors
from ..model.backbone import Backbone
from ..progress import SILENT, Progress
from ..rows.stored import read_row, spell, text_examples
from ..run.config import FinetuneConfig
from .budget import Budget, describe_plan, make_plan
from .prepare import Prepared, Report, prepare
from .resume import collect_new_events


def dry_run(config: FinetuneConfig, report: Report, frames: Mapping[str, pl.DataFrame] | None = None) -> list[str]:
    """Row counts, three rendered rows, tokens per event, memory and time; trains nothing. frames: as `load_data`."""
    config.check_used()
    if config.resume_from is None:
        return _looked_at(config, report, frames)
    with TemporaryDirectory(prefix="genrec-") as folder:  # for what came since the other run, as a new run has it
        trial = replace(config, out=folder)
        report(collect_new_events(trial))
        return _looked_at(trial, report, frames)


def _looked_at(config: FinetuneConfig, report: Report, frames: Mapping[str, pl.DataFrame] | None) -> list[str]:
    budget = Budget(math.inf if config.minutes is None else 60 * config.minutes)
    prepared = prepare(config, report, frames=frames)
    plan = make_plan(config, prepared, budget)
    index = prepared.index
    lines = [describe_plan(plan, prepared)]
    for number, corpus in enumerate(prepared.corpora):
        mask = index.dataset == number
        targets = index.targets[mask].sum(0)
        counts = ", ".join(f"{t.name} {int(targets[n]):,}" for n, t in enumerate(prepared.all_tasks) if targets[n])
        events = int((corpus.events.part == 0).sum()) if corpus.events is not None else 0
        per_event = f", {index.length[mask].sum() / events:.2f} tokens per training event" if events else ""
        lines.append(f"{corpus.dataset.name}: {counted(int(mask.sum()), 'rows')}{per_event}; targets: {counts}")
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


def export_rows(config: FinetuneConfig, out: Path, text: bool, report: Report, progress: Progress = SILENT) -> str:
    """Write the training rows to a folder, as Arrow or prompt/completion JSON lines; returns a line about them."""
    config.check_used()
    with write_errors(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"{out} is not an empty folder; give another --out")
    partial = out.with_name(f".{out.name}.partial")
    with sole_writer(out), write_errors(out):
        try:
            return write_rows(config, out, partial, text, report, progress)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_rows(config: FinetuneConfig, out: Path, partial: Path, text: bool, report: Report, progress: Progress) -> str:
    """Write the rows into `partial`, which then takes the place of the empty folder `out`."""
    progress.expect({"reading": 0.1, "backbone": 0.1, "rows": 1.0, "writing": 0.5})
    prepared = prepare(replace(config, out=None), report, progress=progress)
    progress.update("writing", 0, 1)
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
        summary = f"{n:,} examples in {out / 'train.jsonl'}"
    else:
        prepared.rows.save_to_disk(str(partial))
        summary = f"{len(prepared.rows):,} rows in {out} (datasets.load_from_disk)"
    os.replace(partial, out)
    return summary
