"""One split per data set, shared by all tasks: every interaction is in train, valid or test."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl

from ..counting import counted
from ..errors import DataError, UnknownNameError
from .cuts import DAY, Cutoffs, cutoffs_by_days, cutoffs_by_shares, cutoffs_from_dates, dates_of, tied
from .dataset import Dataset
from .events import Sign, row_signs, signs_of, squeezed
from .parts import PART_OF, read_parts, understood, with_validation

Method = Literal["auto", "leave_one_out", "temporal", "k_fold", "random", "given"]
METHODS = ("auto", "leave_one_out", "temporal", "k_fold", "random", "given")
PARTS = ("train", "valid", "test")
LASTS = 28  # days of a held-out part of a split by time
MIN_HISTORY = 3  # users with fewer interactions that were wanted are in train only


def split(
    dataset: Dataset,
    method: Method = "auto",
    *,
    seed: int = 0,
    folds: int = 5,
    fold: int = 0,
    days: int = LASTS,
    shares: str | None = None,
    valid_from: str | None = None,
    test_from: str | None = None,
) -> Dataset:
    """The data set with `part` on every interaction.

    auto: temporal if shares or dates are given, given if the file's `part` column names parts, temporal if there are
    baskets and times that span enough days, leave_one_out if there are users and items, else random.
    leave_one_out: a user's last interaction that was wanted is test, the one before it valid, each with those after it
    that were not. temporal: by time alone, as `cuts` says; `cutoffs` holds the first timestamps: the last `days` days
    are test and as many before them valid, or the shares of train, valid and test (`70,20,10`), or validation and test
    begin at dates. k_fold: fold number `fold` of `folds` is test, a tenth of the rest valid. random: 80, 10 and 10
    percent. given: the `part` column of the file; without a validation part it is the end of training.
    """
    frame = dataset.interactions
    if method not in METHODS:
        raise UnknownNameError("split", method, METHODS)
    cuts = {"--shares": shares, "--valid-from": valid_from, "--test-from": test_from}
    check_cuts({flag: value for flag, value in cuts.items() if value is not None}, method, days)
    notes: list[str] = []
    if method == "auto":
        method, notes = ("temporal", []) if any(cuts.values()) else choose(frame, days)
    if days != LASTS and method != "temporal":
        dataset = replace(
            dataset, notes=(*dataset.notes, f"--days {days} is not used: the split is {method}, not temporal")
        )
    if method == "given":
        return _given_split(dataset, seed)
    if "part" in frame.columns:
        notes.append("the file's part column was not used; --split given reads train, valid and test from it")
    needs = {"leave_one_out": ("user_id",), "temporal": ("timestamp",)}.get(method, ())
    if missing := [c for c in needs if c not in frame.columns]:
        raise DataError(
            f"{dataset.name}: --split {method} needs a {missing[0]} column; there are {', '.join(frame.columns)}"
        )
    cutoffs: Cutoffs = ()
    if method == "leave_one_out":
        part = pl.lit(_last_wanted(frame, dataset.signs or signs_of(frame)))
    elif method == "temporal":
        times = frame["timestamp"]
        if shares is not None:
            cutoffs = cutoffs_by_shares(times, shares, dataset.name)
        elif valid_from is not None or test_from is not None:
            cutoffs = cutoffs_from_dates(times, valid_from, test_from, dataset.name)
        else:
            cutoffs = cutoffs_by_days(times, days, dataset.name)
        in_part = {name: pl.col("timestamp") >= first for name, first in cutoffs}
        part = _parts(in_part["valid"], in_part.get("test", pl.lit(False)))
    else:
        part = pl.lit(_random_parts(frame.height, method, seed, folds, fold))
    interactions = frame.with_columns(part.alias("part"))
    notes += [_count_parts(dataset.name, interactions, method, days), *_ties(frame, method)]
    if method == "temporal":
        notes += [*dates_of(interactions), *tied(frame["timestamp"], cutoffs)]
        if unknown := frame["timestamp"].null_count():
            notes.append(f"{counted(unknown, 'interactions have')} no time; they train")
        if "test" not in dict(cutoffs):
            notes.append("nothing is held out for a test; --test-from DATE gives one")
    return replace(
        dataset, interactions=interactions, notes=(*dataset.notes, *notes), split_method=method, cutoffs=cutoffs
    )


def check_cuts(given: Mapping[str, str], method: str, days: int) -> None:
    """Raises DataError for options of a split by time that contradict each other or another split."""
    if not given:
        return
    said = " ".join(f"{flag} {value}" for flag, value in given.items())
    if method not in ("auto", "temporal"):
        raise DataError(f"{said}: these split by time, --split {method} does not; leave one of them out")
    if "--shares" in given and len(given) > 1:
        raise DataError(f"{said}: either shares or dates; leave one of them out")
    if days != LASTS:
        raise DataError(f"{said} --days {days}: days from the end, shares or dates; leave all but one of them out")


def choose(frame: pl.DataFrame, days: int) -> tuple[Method, list[str]]:
    """The method that fits the columns, and a note if the data span too few days for a temporal split."""
    if "part" in frame.columns and understood(frame["part"]).count():
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


def _last_wanted(frame: pl.DataFrame, signs: Mapping[str, Sign]) -> pl.Series:
    """Parts (interactions,) of leave_one_out."""
    wanted = frame.select("user_id", (row_signs(frame, signs) > 0).cast(pl.Int64).alias("wanted"))
    size = pl.col("wanted").sum().over("user_id")
    from_end = size - pl.col("wanted").cum_sum().over("user_id") + 1  # what follows what was wanted is in its part
    enough = size >= MIN_HISTORY
    return wanted.select(_parts((from_end == 2) & enough, (from_end == 1) & enough).alias("part")).to_series()


def _count_parts(name: str, frame: pl.DataFrame, method: str, days: int) -> str:
    """A note on the size of each part; raises DataError if the training part is empty."""
    counts = dict(frame["part"].value_counts().iter_rows())
    if not counts.get("train"):
        cause = f" ({frame.height:,} interactions)"
        if method == "temporal":
            cause = f": valid and test take {days} days each and the data span {_span(frame)}. "
            cause += "Give fewer --days or another --split, or --shares 80,10,10"
        raise DataError(f"{name}: --split {method} leaves nothing to train on{cause}")
    return f"split {method}: " + ", ".join(f"{counts.get(p, 0):,} {p}" for p in ("train", "valid", "test"))


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


def _given_split(dataset: Dataset, seed: int) -> Dataset:
    frame = dataset.interactions
    if "part" not in frame.columns:
        raise DataError(
            f"{dataset.name}: --split given needs a `part` column that says train, valid or test; there are "
            f"{', '.join(frame.columns)}. Say which it is with --column part=NAME"
        )
    words = frame["part"].drop_nulls().unique(maintain_order=True).to_list()
    frame = read_parts(frame, dataset.name)
    wanted = row_signs(frame, dataset.signs or signs_of(frame)) > 0
    frame, notes = with_validation(frame, wanted, seed)
    if others := [word for word in words if word not in PARTS]:
        notes.insert(0, "parts: " + ", ".join(f"{word} is {PART_OF[squeezed(word)]}" for word in others))
    notes += [_count_parts(dataset.name, frame, "given", 0), *dates_of(frame)]
    return replace(dataset, interactions=frame, split_method="given", notes=(*dataset.notes, *notes))


def _ties(frame: pl.DataFrame, method: Method) -> list[str]:
    """A note on users whose last timestamp is tied, for leave_one_out."""
    if method != "leave_one_out" or "timestamp" not in frame.columns:
        return []
    last = frame.group_by("user_id").agg((pl.col("timestamp") == pl.col("timestamp").max()).sum().alias("n"))
    tied = last.filter(pl.col("n") > 1).height
    return [f"{tied:,} of {last.height:,} users have a tied last timestamp; file order decides"] if tied else []
