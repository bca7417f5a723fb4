"""Leak checks: silent on worlds split as they should be, loud on each kind of leak put into them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny import tiny_backbone
from worlds import WORDS, chain_world, review_world, shop_world

from genrec.data.dataset import Dataset
from genrec.evaluation.leaks import answers_in_questions, leak_checks
from genrec.model.backbone import load_backbone
from genrec.rows.corpus import Corpus, build_corpus, offered_tasks, plain_encoder, vocabulary_of
from genrec.rows.training import training_rows
from genrec.rows.window import RowOptions
from genrec.tasks.taskfile import load_tasks


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return load_backbone(str(tiny_backbone(tmp_path_factory.mktemp("tiny"), WORDS))).tokenizer


def corpus_of(dataset: Dataset, tokenizer) -> Corpus:
    tasks, _ = offered_tasks(dataset, list(load_tasks().values()))
    vocabulary = vocabulary_of([dataset], {dataset.name: tasks}, len(tokenizer))
    names = [t.name for t in tasks]
    return build_corpus(dataset, tasks, vocabulary, plain_encoder(tokenizer), 2, 0, names)


def leaks(corpus: Corpus, count: np.ndarray | None = None, extra: list[int] | None = None) -> dict[str, str]:
    """The checks that fail."""
    sources = [s for row in training_rows(corpus, RowOptions(question_share=1.0)) for s in row.source]
    rows = np.unique(np.asarray([*sources, *(extra or [])]))
    if count is None and corpus.events is not None:
        events = corpus.events
        count = np.bincount(events.item[events.part == 0], minlength=corpus.items.size)
    return {c.name: c.found for c in leak_checks(corpus, rows, count, 100, 0) if not c.fine}


@pytest.mark.parametrize("world", [chain_world, shop_world, review_world])
def test_worlds_split_as_they_should_be_have_none(world, tokenizer) -> None:
    assert leaks(corpus_of(world(), tokenizer)) == {}


def test_each_kind_of_leak_is_found(tokenizer) -> None:
    dataset = replace(chain_world(), split_method="leave_one_out")
    corpus = corpus_of(dataset, tokenizer)
    frame = dataset.interactions
    held = frame.filter(pl.col("part") == "test")["row"][0]
    found = leaks(corpus, extra=[held])
    assert set(found) == {"training rows"} and f"file rows {held}" in found["training rows"]
    everything = np.bincount(corpus.events.item, minlength=corpus.items.size)
    assert set(leaks(corpus, count=everything)) == {"item rows"}
    backwards = replace(dataset, interactions=frame.with_columns(-pl.col("timestamp")))
    assert set(leaks(corpus_of(backwards, tokenizer))) == {"time order"}
    first = frame["row"] == frame.filter(pl.col("part") == "train")["row"][0]
    early = frame.with_columns(pl.when(first).then(pl.lit("test")).otherwise(pl.col("part")).alias("part"))
    assert "parts in time" in leaks(corpus_of(replace(dataset, interactions=early), tokenizer))
    task = next(t for t in corpus.tasks if t.name == "rating")
    telling = replace(task, seen=("They gave {rating} stars. How many?",))
    shown = answers_in_questions((task, telling))
    assert answers_in_questions((task,)).fine and not shown.fine and shown.found == "rating shows rating"


def test_what_is_said_but_ends_nothing(tokenizer, tmp_path: Path) -> None:
    dataset = review_world()
    twice = pl.when(pl.col("part") == "test").then(pl.lit("good thing , red and old")).otherwise(pl.col("review"))
    corpus = corpus_of(
        replace(dataset, interactions=dataset.interactions.with_columns(twice.alias("review"))), tokenizer
    )
    found = {c.name: c for c in leak_checks(corpus, np.zeros(0, dtype=np.int64), None, 100, 0)}
    assert found["texts"].fine and found["texts"].found.startswith("60 of 60 test texts")
