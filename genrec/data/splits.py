"""One split per data set, shared by all tasks: every interaction is in train, valid or test."""

from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl

from ..errors import DataError, UnknownNameError
from .dataset import Dataset

Method = Literal["auto", "leave_one_out", "temporal", "k_fold", "random", "given"]
METHODS = ("auto", "leave_one_out", "temporal", "k_fold", "random", "given")
PARTS = ("train", "valid", "test")
DAY = 86_400
MIN_HISTORY = 3  # users with fewer interactions are in train only


def split(
    dataset: Dataset, method: Method = "auto", *, seed: int = 0, folds: int = 5, fold: int = 0, days: int = 28
) -> Dataset:
    """The data set with `part` on every interaction.

    auto: given if the file's `part` column is train, valid or test in each row, temporal if there are baskets and times
    that span enough days, leave_one_out if there are users and items, else random.
    leave_one_out: a user's last interaction is test, the one before it valid. temporal: the last `days` days are test,
    as many before them valid; `cutoffs` holds the first timestamps. k_fold: fold number `fold` of `folds` is test, a
    tenth of the rest valid. random: 80, 10 and 10 percent. given: the `part` column of the file.
    """
    frame = dataset.interactions
    if method not in METHODS:
        raise UnknownNameError("split", method, METHODS)
    notes: list[str] = []
    if method == "auto":
        method, notes = choose(frame, days)
    if method == "given":
        return _given_split(dataset)
    if "part" in frame.columns:
        notes.append("the file's part column was not used; --split given reads train, valid and test from it")
    needs = {"leave_one_out": ("user_id",), "temporal": ("timestamp",)}.get(method, ())
    if missing := [c for c in needs if c not in frame.columns]:
        raise DataError(
            f"{dataset.name}: --split {method} needs a {missing[0]} column; there are {', '.join(frame.columns)}"
        )
    cutoffs: tuple[tuple[str, int], ...] = ()
    if method == "leave_one_out":
        size = pl.len().over("user_id")
        from_end = size - pl.int_range(pl.len()).over("user_id")
        enough = size >= MIN_HISTORY
        part = _parts((from_end == 2) & enough, (from_end == 1) & enough)
    elif method == "temporal":
        if days < 1:
            raise DataError(f"--days {days}: the test part of a temporal split lasts at least 1 day")
        last = _latest(frame, dataset.name)
        cutoffs = (("valid", last + 1 - 2 * days * DAY), ("test", last + 1 - days * DAY))
        part = _parts(pl.col("timestamp") >= cutoffs[0][1], pl.col("timestamp") >= cutoffs[1][1])
    else:
        part = pl.lit(_random_parts(frame.height, method, seed, folds, fold))
    interactions = frame.with_columns(part.alias("part"))
    notes += [_count_parts(dataset.name, interactions, method, days), *_ties(frame, method)]
    if method == "temporal" and (unknown := frame["timestamp"].null_count()):
        notes.append(f"{unknown:,} interactions have no time; they train")
    return replace(
        dataset, interactions=interactions, notes=(*dataset.notes, *notes), split_method=method, cutoffs=cutoffs
    )


def choose(frame: pl.DataFrame, days: int) -> tuple[Method, list[str]]:
    """The method that fits the columns, and a note if the data span too few days for a temporal split."""
    if "part" in frame.columns and frame["part"].is_in(PARTS).fill_null(False).all():
        return "given", []
    by_user: Method = "leave_one_out" if "user_id" in frame.columns and "item_id" in frame.columns else "random"
    timed = "timestamp" in frame.columns and frame["timestamp"].count() > 0
    if not timed or "basket" not in frame.columns or "user_id" not in frame.columns:
        return by_user, []
    span = _span(frame)
    if span >= 3 * days:
        return "temporal", []
    reason = f"the data span {span} days, a split by time with valid and test of {days} days each needs {3 * days}"
    hint = f" (--split temporal --days {span // 3} gives one)" if span >= 3 else ""
    return by_user, [f"{reason}{hint}: {by_user} instead"]


def _span(frame: pl.DataFrame) -> int:
    """Days from the first to the last timestamp; 0 without timestamps."""
    first, last = frame["timestamp"].min(), frame["timestamp"].max()
    return (last - first) // DAY + 1 if isinstance(first, int) and isinstance(last, int) else 0


def _parts(valid: pl.Expr, test: pl.Expr) -> pl.Expr:
    return pl.when(test).then(pl.lit("test")).when(valid).then(pl.lit("valid")).otherwise(pl.lit("train"))


def _count_parts(name: str, frame: pl.DataFrame, method: str, days: int) -> str:
    """A note on the size of each part; raises DataError if the training part is empty."""
    counts = dict(frame["part"].value_counts().iter_rows())
    if not counts.get("train"):
        cause = f" ({frame.height:,} interactions)"
        if method == "temporal":
            cause = f": valid and test take {days} days each and the data span {_span(frame)}. "
            cause += "Give fewer --days or another --split"
        raise DataError(f"{name}: --split {method} leaves nothing to train on{cause}")
    return f"split {method}: " + ", ".join(f"{counts.get(p, 0):,} {p}" for p in ("train", "valid", "test"))


def _latest(frame: pl.DataFrame, name: str) -> int:
    latest = frame["timestamp"].max()
    if not isinstance(latest, int):
        raise DataError(f"{name}: --split temporal needs times and every timestamp is missing")
    return latest


def _random_parts(n: int, method: Method, seed: int, folds: int, fold: int) -> pl.Series:
    """Parts drawn at random: disjoint shares of a permutation."""
    rng = np.random.default_rng([seed, 11])
    position = rng.permutation(n)
    if method == "k_fold":
        if folds < 2 or not 0 <= fold < folds:
            raise DataError(
                f"--fold {fold} of --folds {folds}: at least 2 folds, counted from 0 to {max(folds - 1, 1)}"
            )
        test = position % folds == fold
        valid = ~test & (rng.permutation(n) < n // 10)
    else:
        test, valid = position < n // 10, (position >= n // 10) & (position < n // 5)
    return pl.Series("part", np.where(test, "test", np.where(valid, "valid", "train")))


def _given_split(dataset: Dataset) -> Dataset:
    frame = dataset.interactions
    if "part" not in frame.columns:
        raise DataError(f"{dataset.name}: --split given needs a `part` column that says train, valid or test")
    wrong = frame.filter(~pl.col("part").is_in(PARTS) | pl.col("part").is_null())
    if wrong.height:
        raise DataError(
            f"{dataset.name}: part {wrong['part'][0]!r} in row {wrong['row'][0] + 1}; allowed: train, valid, test"
        )
    return replace(dataset, split_method="given", notes=(*dataset.notes, _count_parts(dataset.name, frame, "given", 0)))


def _ties(frame: pl.DataFrame, method: Method) -> list[str]:
    """A note on users whose last timestamp is tied, for leave_one_out."""
    if method != "leave_one_out" or "timestamp" not in frame.columns:
        return []
    last = frame.group_by("user_id").agg((pl.col("timestamp") == pl.col("timestamp").max()).sum().alias("n"))
    tied = last.filter(pl.col("n") > 1).height
    return [f"{tied:,} of {last.height:,} users have a tied last timestamp; file order decides"] if tied else []
