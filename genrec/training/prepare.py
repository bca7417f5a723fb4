"""Everything before the first step: data, tasks, backbone and rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

from ..counting import counted
from ..data.dataset import Dataset
from ..data.fetch import cache_folder
from ..errors import DataError
from ..evaluation.reading import has_cases
from ..model.backbone import Backbone, events_that_fit, load_backbone, load_encoder, word_count
from ..model.item_texts import item_texts
from ..model.source import BackboneSource
from ..model.text_encoder import encode_texts
from ..progress import SILENT, Progress
from ..rows.corpus import Corpus, build_corpus, first_token, plain_encoder, vocabulary_of
from ..rows.stored import load_rows
from ..rows.window import RowOptions
from ..run.config import BLOCKS, FinetuneConfig
from ..run.data import load_data, offers
from ..tasks.task import Task
from ..tasks.vocabulary import Vocabulary
from .plan import RowIndex, index_rows

FEW = 100  # interactions, of which nothing can be learned
Report = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """Everything before the first step.

    encoded: vectors of the items' texts by data set, as the text encoder gives them; empty without one. task_files:
    texts of the caller's own task files.
    """

    datasets: tuple[Dataset, ...]
    corpora: tuple[Corpus, ...]
    all_tasks: tuple[Task, ...]
    vocabulary: Vocabulary
    backbone: Backbone
    rows: Any
    index: RowIndex
    max_events: int  # as configured, or the most that fit the backbone's context
    text_encoder: BackboneSource | None
    encoded: Mapping[str, torch.Tensor]
    task_files: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Everything that the training depends on besides its options, as one string."""
        parts = [d.fingerprint for d in self.datasets]
        parts += [self.backbone.source.sha256, str(self.backbone.model.dtype)]
        parts += [f"{t.fingerprint}*{t.weight}" for t in self.all_tasks]
        parts += [self.text_encoder.sha256] if self.text_encoder else []
        return " ".join(parts)


def prepare(
    config: FinetuneConfig,
    report: Report,
    layers: int | None = None,
    datasets: tuple[Dataset, ...] | None = None,
    progress: Progress = SILENT,
    frames: Mapping[str, pl.DataFrame] | None = None,
) -> Prepared:
    """Load data (unless given; frames: as `load_data`), tasks and backbone, and build (or find) the rows."""
    encoder = load_encoder(config.item_text_model) if config.item_text_model else None
    datasets = load_data(config, frames) if datasets is None else datasets
    tasks, offered, reasons = offers(config, datasets)
    task_files = tuple(Path(path).read_text(encoding="utf-8") for path in config.tasks)
    notes: list[str] = []
    for dataset in datasets:
        notes += [f"{dataset.name}: {note}" for note in (*dataset.notes, *reasons[dataset.name])]
        if not offered[dataset.name]:
            raise DataError(f"{dataset.name} can feed none of the tasks:\n" + "\n".join(reasons[dataset.name]))
        if (rows := dataset.interactions.filter(pl.col("part") == "train").height) < FEW:
            rows_said = counted(rows, "interactions")
            notes.append(f"{dataset.name}: {rows_said} to train on, too few to learn what anyone likes")
    for note in notes:
        report(note)
    if not any((d.interactions["part"] == "valid").any() for d in datasets):
        raise DataError(
            "nothing is held out for validation: the data is too small to split; "
            "give more interactions or --split random"
        )
    progress.update("backbone", 0, 1)
    backbone = load_backbone(config.model, layers=layers or config.layers, at_most=BLOCKS, quantize=config.quantize)
    tokenizer = backbone.tokenizer
    vocabulary = vocabulary_of(datasets, offered, word_count(backbone))
    all_tasks = [
        t
        for t in tasks.values()
        if any(t.name in {o.name for o in dataset_tasks} for dataset_tasks in offered.values())
    ]
    bos = first_token(tokenizer)
    names = [t.name for t in all_tasks]
    corpora = tuple(
        build_corpus(d, offered[d.name], vocabulary, plain_encoder(tokenizer), bos, config.seed, names)
        for d in datasets
    )
    fits = events_that_fit(backbone, vocabulary)
    if config.max_events > fits:
        report(f"the backbone's context holds {fits:,} events: longer histories lose their oldest quarter")
    max_events = min(config.max_events, fits)
    if not any(has_cases(corpus, "valid", max_events, config.seed) for corpus in corpora):
        raise DataError(
            f"what is held out for validation answers none of the tasks ({', '.join(names)}): "
            "give more interactions, or hold out others (--split)"
        )
    options = RowOptions(max_events, config.stride, config.question_share, config.seed)
    users = sum(len(c.events.users) if c.events is not None else c.dataset.interactions.height for c in corpora)

    rows_stage = progress.stage("rows")
    rows = load_rows(
        corpora, options, backbone.source.sha256, cache_folder() / "rows", lambda n: rows_stage(min(n, users), users)
    )
    index = index_rows(rows, vocabulary.datasets, len(names))
    texts_stage = progress.stage("item texts")
    encoded = {d.name: encode_texts(encoder, item_texts(d.items), texts_stage) for d in datasets} if encoder else {}
    source = encoder.source if encoder else None
    return Prepared(
        *(datasets, corpora, tuple(all_tasks), vocabulary, backbone, rows, index, max_events, source, encoded),
        task_files,
    )
