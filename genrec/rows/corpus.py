"""A data set as its tasks see it: events, headers, conditions and the tokens of its answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ..data.dataset import Dataset
from ..errors import GenrecError
from ..tasks.labels import answer_notes, missing_needs, resolve_answer
from ..tasks.task import Task
from ..tasks.vocabulary import EVENT, ITEMS, RATING, Group, Vocabulary, build_vocabulary
from .arrays import Events, Histories, build_events, select

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Corpus:
    """A data set as rows need it: its arrays, the tasks it feeds, and its attribute conditions.

    conditions: (words, SQL, mask over the catalogue). headers: text tokens of each user's attributes.
    """

    dataset: Dataset
    tasks: tuple[Task, ...]
    vocabulary: Vocabulary
    events: Events | None
    encode: Encode
    headers: Mapping[str, list[int]]
    bos: int
    conditions: tuple[tuple[str, str, np.ndarray], ...] = ()
    all_tasks: tuple[str, ...] = ()
    item_index: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def training(self) -> Events:
        """The events of the training part; only of a corpus with events."""
        assert self.events is not None
        return select(self.events, self.events.part == 0)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """How often each item (items,) was wanted in the training part; only of a corpus with events."""
        wanted = self.training.wanted
        return np.bincount(wanted[wanted >= 0], minlength=self.dataset.items.height)

    @property
    def items(self) -> Group:
        """The catalogue's item tokens."""
        return self.vocabulary.group(self.dataset.name, ITEMS)

    def group_of(self, task: Task | str) -> Group:
        """The answers that compete for a task."""
        name = task if isinstance(task, str) else (ITEMS if task.answer.kind == "item" else task.name)
        return self.vocabulary.group(self.dataset.name, name)


def outcome_group(corpus: Corpus) -> Group:
    """The outcomes that histories show: ratings, or what happened."""
    keys, name = corpus.vocabulary.by_key, corpus.dataset.name
    return keys[name, RATING] if (name, RATING) in keys else keys[name, EVENT]


def outcome_values(corpus: Corpus) -> np.ndarray | None:
    """The outcomes that histories show as numbers, ratings or 0 and 1 for two kinds of events; None if neither."""
    keys, name = corpus.vocabulary.by_key, corpus.dataset.name
    if (name, RATING) in keys:
        values = keys[name, RATING].values  # none if a task of this name has words as answers
        return np.asarray(values, dtype=np.float64) if values else None
    if (name, EVENT) in keys and keys[name, EVENT].size == 2:
        return np.asarray([0.0, 1.0])
    return None


def shown_outcomes(corpus: Corpus, events: Histories, user: int) -> tuple[np.ndarray, np.ndarray]:
    """Items (events,) of a user as catalogue indices, and the index (events,) of each event's outcome, -1 for none."""
    span = slice(int(events.offsets[user]), int(events.offsets[user + 1]))
    outcome = events.outcome[span]
    return events.item[span], np.where(outcome >= 0, outcome - outcome_group(corpus).first, -1)


def plain_encoder(tokenizer: Any) -> Encode:
    """Plain text to token ids with a tokenizer; text that spells a special token stays plain text."""

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    return encode


def first_token(tokenizer: Any) -> int:
    """The token that every row begins with."""
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if token is None:
        raise GenrecError("the model's tokenizer has neither a token that begins a text nor one that ends it")
    return int(token)


def offered_tasks(dataset: Dataset, tasks: Sequence[Task]) -> tuple[list[Task], list[str]]:
    """The tasks a data set can feed, with answers taken from it if they come from data, and one line for each
    that it cannot."""
    offered, notes = [], []
    for task in tasks:
        reason = missing_needs(task, dataset)
        if reason is None and task.horizon_days is not None and not dataset.cutoffs:
            reason = "looks ahead in time, so it needs a temporal split (--split temporal)"
        if reason is None and task.unit == "basket" and "basket" not in dataset.interactions.columns:
            reason = "no basket column"
        if reason is None:
            resolved = resolve_answer(task, dataset)
            offered.append(resolved)
            notes += [f"task {task.name}: {note}" for note in answer_notes(resolved, dataset)]
        else:
            notes.append(f"task {task.name} is off: {reason}")
    return offered, notes


def groups_of(dataset: Dataset, tasks: Sequence[Task]) -> list[Group]:
    """The groups of tokens that one data set adds to the vocabulary, not yet numbered."""
    name, interactions = dataset.name, dataset.interactions
    groups = [
        Group(name, t.name, 0, len(t.answer.choices), t.answer.choices, t.answer.values, t.answer.edges)
        for t in tasks
        if t.answer.kind in ("choices", "number")
    ]
    if RATING not in {t.name for t in tasks}:
        kinds = interactions.filter(pl.col("part") == "train")["event"].unique().sort().to_list()
        if len(kinds) > 1 and "item_id" in interactions.columns:
            groups.append(Group(name, EVENT, 0, len(kinds), tuple(kinds)))
    if dataset.items.height:
        groups.append(Group(name, ITEMS, 0, dataset.items.height))
    return groups


def vocabulary_of(datasets: Sequence[Dataset], tasks: Mapping[str, Sequence[Task]], n_words: int) -> Vocabulary:
    """One vocabulary for all data sets of a run."""
    return build_vocabulary(n_words, [g for d in datasets for g in groups_of(d, tasks[d.name])])


def attribute_words(name: str, value: object) -> str:
    """`age 24`, `occupation technician`; text is used as it is, numbers shortened."""
    if isinstance(value, list):
        text = ", ".join(str(v) for v in value if v)
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{name.replace('_', ' ')} {text}"


def header_columns(users: pl.DataFrame) -> list[str]:
    """The user attributes that prompts show: those that several users share, so no names and no postal codes.

    At most 100 different values, and at most half as many as there are users.
    """
    limit = min(100, users.height // 2)
    return [c for c in users.columns if c != "user_id" and users[c].n_unique() <= limit]


def user_headers(users: pl.DataFrame, encode: Encode) -> dict[str, list[int]]:
    """Tokens of `age 24, occupation technician: ` for each user with attributes."""
    columns = [c for c in users.columns if c != "user_id"]
    headers = {}
    for record in users.iter_rows(named=True):
        if header := user_header(record, columns, encode):
            headers[record["user_id"]] = header
    return headers


def user_header(record: Mapping[str, object], columns: Sequence[str], encode: Encode) -> list[int]:
    """Tokens of `age 24, occupation technician: `; empty if nothing is known of the user."""
    words = [attribute_words(c, record[c]) for c in columns if record.get(c) is not None]
    return encode(", ".join(words) + ":") if words else []


def attribute_conditions(
    items: pl.DataFrame, min_items: int = 10, max_values: int = 200
) -> list[tuple[str, str, np.ndarray]]:
    """Conditions the catalogue offers: each value of a list or small text column, each decade of `year`."""
    conditions = []
    for column in items.columns:
        if column in ("item_id", "title"):
            continue
        dtype = items.schema[column]
        if isinstance(dtype, pl.List) or dtype == pl.String:
            cells = items.select("item_id", column)
            values = cells.explode(column) if isinstance(dtype, pl.List) else cells
            counts = values.drop_nulls(column).group_by(column).len().filter(pl.col("len") >= min_items).sort(column)
            if not 2 <= counts.height <= max_values:
                continue
            for value in counts[column].to_list():
                matches = pl.col(column).list.contains(value) if isinstance(dtype, pl.List) else pl.col(column) == value
                mask = items.select(matches.fill_null(False)).to_series().to_numpy()
                quoted = str(value).replace("'", "''")
                conditions.append((f"{column.replace('_', ' ')} {value}", f"{column} = '{quoted}'", mask))
        elif column == "year" and dtype.is_numeric():
            for decade in range(1900, 2030, 10):
                mask = (
                    items.select(pl.col(column).is_between(decade, decade + 9).fill_null(False)).to_series().to_numpy()
                )
                if mask.sum() >= min_items:
                    conditions.append((f"from the {decade}s", f"year between {decade} and {decade + 9}", mask))
    return conditions


def build_corpus(
    dataset: Dataset,
    tasks: Sequence[Task],
    vocabulary: Vocabulary,
    encode: Encode,
    bos: int,
    seed: int,
    all_tasks: Sequence[str],
) -> Corpus:
    """Everything that rows of one data set are made of."""
    return Corpus(
        dataset=dataset,
        tasks=tuple(tasks),
        vocabulary=vocabulary,
        events=build_events(dataset, tasks, vocabulary, seed),
        encode=encode,
        headers=user_headers(dataset.users.select("user_id", *header_columns(dataset.users)), encode),
        bos=bos,
        conditions=tuple(attribute_conditions(dataset.items)),
        all_tasks=tuple(all_tasks),
        item_index={i: n for n, i in enumerate(dataset.items["item_id"].to_list())} if dataset.items.height else {},
    )
