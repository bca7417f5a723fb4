"""Histories of a data set as arrays: the events of all users, users contiguous."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ..data.dataset import Dataset, Part
from ..data.events import is_rejected, row_signs, signs_of
from ..tasks.labels import labels, selected, task_columns
from ..tasks.task import Task
from ..tasks.units import with_attributes
from ..tasks.vocabulary import EVENT, RATING, Group, Vocabulary

PARTS: tuple[Part, ...] = ("train", "valid", "test")
SIGN = "\0sign"  # the column of signs while arrays are made
UNDATED = -(2**62)  # the time of an interaction without one: before all others


@dataclass(frozen=True)
class Histories:
    """Histories of users as arrays, users contiguous, oldest first: all that an answer needs.

    offsets: (users + 1,); every other array: (events,). item: index in the catalogue or -1. outcome: token id shown
    after the item, or -1. time: in seconds, UNDATED for none. sign: 1 where the user wanted the item, -1 not, 0 where
    it was only seen.
    """

    users: tuple[str, ...]
    offsets: np.ndarray
    item: np.ndarray
    outcome: np.ndarray
    time: np.ndarray
    sign: np.ndarray

    @property
    def wanted(self) -> np.ndarray:
        """Index (events,) in the catalogue of the items that users wanted; -1 for any other event."""
        return np.where(self.sign > 0, self.item, -1)

    def span(self, user: int) -> tuple[int, int]:
        """Where a user's events begin and end."""
        return int(self.offsets[user]), int(self.offsets[user + 1])


@dataclass(frozen=True)
class Events(Histories):
    """One data set's interactions: Histories, and what training asks of them.

    kind: what happened, an index of `kinds`. basket: code or -1. part: 0 train, 1 valid, 2 test. source: file row of
    the interaction. target: whether next_item asks for it. labels: per event task the index of the right answer, or -1.
    numbers: per event task with numbers as answers the right number itself, or nan. where: per other task with a
    `where`, the interactions it keeps.
    """

    kind: np.ndarray
    basket: np.ndarray
    part: np.ndarray
    source: np.ndarray
    target: np.ndarray
    labels: Mapping[str, np.ndarray]
    numbers: Mapping[str, np.ndarray]
    where: Mapping[str, np.ndarray]
    kinds: tuple[str, ...]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays with one value per event."""
        names = ("item", "outcome", "kind", "time", "sign", "basket", "part", "source", "target")
        return {name: getattr(self, name) for name in names}


def choice_index(group: Group, answers: pl.Series) -> np.ndarray:
    """Index (answers,) int16 of each answer among the group's words, or of the one that stands for a number; -1 for
    none."""
    if group.values:
        return group.nearest(answers.cast(pl.Float64).to_numpy()).astype(np.int16)
    keys, answers = pl.Series(group.words, dtype=pl.String), answers.cast(pl.String)
    indices = pl.Series(range(len(keys)), dtype=pl.Int16)
    return answers.replace_strict(keys, indices, default=-1, return_dtype=pl.Int16).fill_null(-1).to_numpy()


def build_events(dataset: Dataset, tasks: Sequence[Task], vocabulary: Vocabulary, seed: int) -> Events | None:
    """The interactions as arrays; None if the data has no users or items.

    Events of one training basket are shuffled (seeded), since the order inside a basket means nothing.
    """
    frame = dataset.interactions
    if "user_id" not in frame.columns or "item_id" not in frame.columns:
        return None
    frame = frame.with_columns(row_signs(frame, dataset.signs or signs_of(frame)).alias(SIGN))
    if "timestamp" in frame.columns:
        frame = frame.with_columns(pl.col("timestamp").fill_null(UNDATED))
    if "basket" in frame.columns:
        frame = shuffled_baskets(frame, seed)
    lengths = frame.group_by("user_id", maintain_order=True).len()
    offsets = np.concatenate([[0], np.cumsum(lengths["len"].to_numpy())]).astype(np.int64)
    items = dataset.items.select("item_id").with_row_index("item")
    item = frame.select("item_id").join(items, on="item_id", how="left", maintain_order="left")["item"]
    name = dataset.name
    outcome = np.full(frame.height, -1, dtype=np.int64)
    dense: dict[str, np.ndarray] = {}
    numbers: dict[str, np.ndarray] = {}
    where: dict[str, np.ndarray] = {}
    target = np.zeros(frame.height, dtype=bool)
    sign = frame[SIGN].to_numpy()
    is_wanted = sign > 0
    for task in tasks:
        if task.unit == "text":
            continue
        rows = with_attributes(frame, dataset, task_columns(task))
        if task.name == "next_item":
            target = selected(task, rows).to_numpy() & is_wanted
        elif task.unit != "event" or task.horizon_days is not None:
            if task.where is not None or (task.gives_items and not is_wanted.all()):
                kept = selected(task, rows).to_numpy()
                where[task.name] = kept & is_wanted if task.gives_items else kept
        else:
            group = vocabulary.group(name, task.name)
            answers = labels(task, rows)
            index = choice_index(group, answers)
            dense[task.name] = np.where(selected(task, rows).to_numpy(), index, -1).astype(np.int16)
            if group.values:
                numbers[task.name] = answers.cast(pl.Float64).fill_null(np.nan).to_numpy()
            if task.name == RATING:
                outcome = np.where(index >= 0, group.first + index.astype(np.int64), -1)
                outcome = np.where(is_rejected(frame, sign) & (outcome < 0), group.first, outcome)  # as the worst
    if "learned" in frame.columns:  # learned before: part of histories, no target
        is_new = ~frame["learned"].to_numpy()
        target &= is_new
        dense = {task: np.where(is_new, index, -1).astype(np.int16) for task, index in dense.items()}
    kinds = frame["event"].unique().sort()
    kind = frame["event"].replace_strict(kinds, pl.Series(range(len(kinds)), dtype=pl.Int32)).to_numpy()
    if (name, EVENT) in vocabulary.by_key:
        group = vocabulary.group(name, EVENT)
        token = [group.first + group.words.index(k) if k in group.words else -1 for k in kinds]
        outcome = np.asarray(token, dtype=np.int64)[kind]
    basket = np.full(frame.height, -1)
    if "basket" in frame.columns:
        basket = frame["basket"].cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    codes = {"train": 0, "valid": 1, "test": 2}
    return Events(
        users=tuple(lengths["user_id"].to_list()),
        offsets=offsets,
        item=item.cast(pl.Int32).fill_null(-1).to_numpy(),
        outcome=outcome.astype(np.int32),
        kind=kind,
        time=frame["timestamp"].to_numpy() if "timestamp" in frame.columns else np.zeros(frame.height, dtype=np.int64),
        sign=sign,
        basket=basket,
        part=frame["part"].replace_strict(codes, return_dtype=pl.Int8).to_numpy(),
        source=frame["row"].to_numpy(),
        target=target,
        labels=dense,
        numbers=numbers,
        where=where,
        kinds=tuple(kinds.to_list()),
    )


def shuffled_baskets(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Interactions with the order inside each basket drawn; one without a basket keeps its position."""
    rng = np.random.default_rng([seed, 1])
    first_row = pl.col("row").min().over("user_id", "basket")
    position = pl.when(pl.col("basket").is_null()).then(pl.col("row")).otherwise(first_row)
    keys = ["_user", *(["timestamp"] if "timestamp" in frame.columns else []), "_basket", "_shuffle"]
    frame = frame.with_columns(
        pl.Series("_shuffle", rng.random(frame.height)),
        position.alias("_basket"),
        pl.col("row").min().over("user_id").alias("_user"),
    )
    return frame.sort(keys).drop("_user", "_basket", "_shuffle")


def select(events: Events, keep: np.ndarray) -> Events:
    """The events that `keep` (events,) marks, users with nothing left included."""
    counts = (
        np.add.reduceat(np.append(keep, False).astype(np.int64), events.offsets[:-1])
        if len(keep)
        else np.zeros(0, np.int64)
    )
    empty = events.offsets[:-1] == events.offsets[1:]
    counts = np.where(empty, 0, counts)
    return replace(
        events,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        labels={name: index[keep] for name, index in events.labels.items()},
        numbers={name: values[keep] for name, values in events.numbers.items()},
        where={name: mask[keep] for name, mask in events.where.items()},
        **{name: array[keep] for name, array in events.arrays.items()},
    )


def shown_from(events: int, limit: int) -> int:
    """Index of the first event that is shown of so many, at most `limit` of them: the oldest are cut a quarter of the
    limit at a time, so that a history that grows by one event mostly begins at the same one."""
    quarter = max(1, limit // 4)
    return max(0, -(-(events - limit) // quarter)) * quarter
