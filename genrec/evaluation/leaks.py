"""Checks that no held-out interaction leaks into training rows, prompts or questions; a leak ends an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from ..data.dataset import Dataset
from ..rows.corpus import Corpus
from ..tasks.labels import task_columns
from ..tasks.task import Task
from ..tasks.templates import placeholders
from .held_out import held_out, user_rows

ORDERED = 0.95  # rank correlation from which ids are said to tell the order of first interactions
SHOWN_USERS = 500  # whose prompts are checked
TEXT_WORDS = 5  # a shorter text may well occur twice


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it is fine, and a line about its result."""

    name: str
    fine: bool
    found: str


def leak_checks(
    corpus: Corpus, sources: np.ndarray, train_count: np.ndarray | None, max_events: int, seed: int, fewer: bool = False
) -> list[Check]:
    """All checks of one data set.

    sources: the file rows that its training rows were made of, of all tasks. train_count: interactions by item that the
    run's item rows started from. fewer: whether users were deleted since the training.
    """
    dataset = corpus.dataset
    checks = [training_sources(dataset, sources)]
    if train_count is not None and corpus.events is not None:
        checks.append(item_counts(corpus, train_count, fewer))
    if corpus.events is not None:
        checks += [prompts(corpus, max_events, seed), time_order(dataset), part_order(dataset), id_order(dataset)]
    checks += [answers_in_questions(corpus.tasks), repeated_texts(dataset)]
    return checks


def training_sources(dataset: Dataset, sources: np.ndarray) -> Check:
    """No task's training row was made of an interaction that is held out, from this task or another."""
    held = dataset.interactions.filter(pl.col("part") != "train")["row"].to_numpy()
    leaked = np.intersect1d(sources, held)
    some = f", file rows {', '.join(map(str, leaked[:5].tolist()))}" if len(leaked) else ""
    return Check("training rows", not len(leaked), f"{len(leaked):,} held-out interactions are in training rows{some}")


def item_counts(corpus: Corpus, train_count: np.ndarray, fewer: bool) -> Check:
    """Item rows and biases started from the interactions of the training part alone; fewer: some of them are deleted
    by now, so that others are told only where there are too many."""
    assert corpus.events is not None
    of_train = corpus.events.part == 0
    wanted, every = (item[of_train & (item >= 0)] for item in (corpus.events.wanted, corpus.events.item))
    counts = [np.bincount(item, minlength=corpus.items.size) for item in (wanted, every)]  # older runs: every one
    counted = [((c > train_count) if fewer else (c != train_count)) for c in counts]
    other, count = min(int(wrong.sum()) for wrong in counted), counts[0]
    return Check("item rows", not other, f"{other:,} of {len(count):,} items were counted with other interactions")


def prompts(corpus: Corpus, max_events: int, seed: int) -> Check:
    """The prompts of test cases show no interaction of the test part."""
    assert corpus.events is not None
    held = held_out(corpus.events, "test")
    later = set(corpus.events.source[corpus.events.part == 2].tolist())
    users = np.random.default_rng([seed, 21]).permutation(len(held.visible.users))[:SHOWN_USERS]
    rows, _ = user_rows(corpus, "test", held, users.tolist(), max_events, seed)
    leaked = sum(bool(later.intersection(row.source)) for row in rows)
    return Check("prompts", not leaked, f"{leaked:,} of {len(rows):,} prompts show a test interaction")


def time_order(dataset: Dataset) -> Check:
    """A user's interactions are in the order of their times, ties in the order of the file."""
    frame = dataset.interactions
    if "timestamp" not in frame.columns:
        return Check("time order", True, "no times: the file's order")
    together = pl.col("user_id") == pl.col("user_id").shift(1)
    earlier = pl.col("timestamp") < pl.col("timestamp").shift(1)
    tied = (pl.col("timestamp") == pl.col("timestamp").shift(1)) & (pl.col("row") < pl.col("row").shift(1))
    wrong = int(frame.select((together & (earlier | tied)).fill_null(False).sum()).item())
    return Check("time order", not wrong, f"{wrong:,} interactions stand before one that came earlier")


def part_order(dataset: Dataset) -> Check:
    """If parts follow each other in time, no user has a training interaction after a held-out one, and no
    interaction of an earlier part comes after a cut-off."""
    frame = dataset.interactions.with_columns(
        pl.col("part").replace_strict({"train": 0, "valid": 1, "test": 2}, return_dtype=pl.Int8).alias("code")
    )
    wrong = 0
    if dataset.split_method in ("leave_one_out", "temporal"):
        together = pl.col("user_id") == pl.col("user_id").shift(1)
        back = pl.col("code") < pl.col("code").shift(1)
        wrong = int(frame.select((together & back).fill_null(False).sum()).item())
    for part, first in dataset.cutoffs:
        code = {"valid": 1, "test": 2}[part]
        late = (pl.col("code") < code) & (pl.col("timestamp") >= first)
        wrong += int(frame.select(late.fill_null(False).sum()).item())
    return Check("parts in time", not wrong, f"{wrong:,} interactions are in an earlier part than ones before them")


def id_order(dataset: Dataset) -> Check:
    """Whether item ids tell when an item was first seen. genrec never reads an id, and equal scores count against it,
    so that this is reported, and never ends an evaluation."""
    frame = dataset.interactions
    if "item_id" not in frame.columns:
        return Check("ids", True, "no items")
    time = "timestamp" if "timestamp" in frame.columns else "row"
    first = frame.group_by("item_id").agg(pl.col(time).min()).drop_nulls()
    number = first["item_id"].str.extract(r"(\d+)$").cast(pl.Int64, strict=False)
    if first.height < 10 or number.null_count() or first[time].n_unique() < 2:
        return Check("ids", True, "ids are no numbers, or there are too few")
    rho = float(spearmanr(number.to_numpy(), first[time].to_numpy()).statistic)
    says = "they tell it; no id is ever read" if abs(rho) >= ORDERED else "they do not tell it"
    return Check("ids", True, f"rank correlation of ids with first interactions {rho:.2f}: {says}")


def answers_in_questions(tasks: Sequence[Task]) -> Check:
    """No template of a task shows a column that its answer is made of."""
    wrong = []
    for task in tasks:
        answer = set(task_columns(task)) - {"event", "user_id", "item_id"}
        columns = {name for t in (*task.seen, *task.unseen) for name in placeholders(t)}
        wrong += [f"{task.name} shows {name}" for name in sorted(answer & columns)]
    return Check("questions", not wrong, ", ".join(wrong) or f"the questions of {len(tasks)} tasks hide their answers")


def repeated_texts(dataset: Dataset) -> Check:
    """Reviews of the test part that training has word for word: only reported, since people do write the same."""
    frame = dataset.interactions
    if "review" not in frame.columns:
        return Check("texts", True, "no texts")
    long = frame.filter(pl.col("review").str.count_matches(r"\S+") >= TEXT_WORDS)
    parts: Mapping[str, pl.Series] = {p: long.filter(pl.col("part") == p)["review"] for p in ("train", "test")}
    n = int(parts["test"].is_in(parts["train"].unique().implode()).sum())
    return Check("texts", True, f"{n:,} of {len(parts['test']):,} test texts occur in training, too")
