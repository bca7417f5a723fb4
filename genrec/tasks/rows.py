"""Histories x tasks x templates -> rows.

A row is one user's history followed by branches. History: what is known of the user, then an item token and, where
events end differently, an outcome token per event. Every item and every outcome in it is a target. A branch is a
question (text that may hold item tokens) or a single candidate item; it sees the history up to its event and itself
only, its positions restart there, so it reads the same alone and beside others.

    tokens    <bos> age 24, technician  <item 302> <rated 3> <item 377> <rated 1> | What comes next? | <item 51>
    segment     0    0  0  0     0           0         0          0         0        1   1    1   1       2
    targets                  next item   rating     next item   rating  next item              item     purchase
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from ..data.dataset import Dataset, Part
from ..errors import GenrecError
from .task import (
    Placeholder,
    Task,
    labels,
    missing_needs,
    pieces,
    resolve_answer,
    selected,
    task_columns,
    unknown_answers,
)
from .units import with_attributes
from .vocabulary import EVENT, ITEMS, Group, Vocabulary, build_vocabulary

Encode = Callable[[str], list[int]]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
DAY = 86_400
UNDATED = -(2**62)  # the time of an interaction without one: before all others


@dataclass(frozen=True)
class Events:
    """One data set's interactions as arrays, users contiguous, oldest first.

    offsets: (users + 1,); every other array: (events,). item: index in the catalogue or -1. outcome: token id shown
    after the item, or -1. kind: what happened, an index of `kinds`. basket: code or -1. part: 0 train, 1 valid, 2 test.
    source: file row of the interaction. target: whether next_item asks for it. labels: per event task the index of the
    right answer, or -1. where: per other task with a `where`, the interactions it keeps.
    """

    users: tuple[str, ...]
    offsets: np.ndarray
    item: np.ndarray
    outcome: np.ndarray
    kind: np.ndarray
    time: np.ndarray
    basket: np.ndarray
    part: np.ndarray
    source: np.ndarray
    target: np.ndarray
    labels: Mapping[str, np.ndarray]
    where: Mapping[str, np.ndarray]
    kinds: tuple[str, ...]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays with one value per event."""
        names = ("item", "outcome", "kind", "time", "basket", "part", "source", "target")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Branch:
    """A question or candidate: what it reads, how many history events it sees, and the targets at its last token.

    pooled: the targets are read from the mean of its hidden states, as a text's are, not from the last.
    """

    tokens: list[int]
    sees: int
    targets: list[tuple[str, int, float, int]]  # task, answer index in its group, weight, allowed set or -1
    sees_user: bool = True
    pooled: bool = False


@dataclass(frozen=True)
class Row:
    """One training example; lists of equal length per token, and per target.

    A target is read from the mean hidden state of the tokens target_from to target_at: mostly one and the same.
    """

    dataset: str
    tokens: list[int]
    position: list[int]
    segment: list[int]
    limit: list[int]
    target_from: list[int]
    target_at: list[int]
    target_task: list[int]
    target_id: list[int]
    target_weight: list[float]
    target_allowed: list[int]
    source: list[int]


@dataclass(frozen=True)
class Corpus:
    """What a data set gives to rows: its arrays, the tasks it feeds, and its attribute conditions.

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
    return keys[name, "rating"] if (name, "rating") in keys else keys[name, EVENT]


def outcome_values(corpus: Corpus) -> np.ndarray | None:
    """The outcomes that histories show as numbers, ratings or 0 and 1 for two kinds of events; None where neither."""
    keys, name = corpus.vocabulary.by_key, corpus.dataset.name
    if (name, "rating") in keys:
        return np.asarray(keys[name, "rating"].values, dtype=np.float64)
    if (name, EVENT) in keys and keys[name, EVENT].size == 2:
        return np.asarray([0.0, 1.0])
    return None


def shown_outcomes(corpus: Corpus, events: Events, user: int) -> tuple[np.ndarray, np.ndarray]:
    """A user's items, and what came of them as the index of an outcome, -1 for none."""
    own = slice(int(events.offsets[user]), int(events.offsets[user + 1]))
    outcome = events.outcome[own]
    return events.item[own], np.where(outcome >= 0, outcome - outcome_group(corpus).first, -1)


def plain_encoder(tokenizer: Any) -> Encode:
    """Plain text to token ids with a tokenizer; text that spells a special token stays plain text."""

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    return encode


def first_token(tokenizer: Any) -> int:
    """What every row begins with."""
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if found is None:
        raise GenrecError("the model's tokenizer has neither a token that begins a text nor one that ends it")
    return int(found)


# --- which tasks, which tokens ------------------------------------------------------------------------------------


def offered_tasks(dataset: Dataset, tasks: Sequence[Task]) -> tuple[list[Task], list[str]]:
    """The tasks a data set can feed, with answers taken from it where they come from data, and one line for each
    that it cannot."""
    offered, why = [], []
    for task in tasks:
        reason = missing_needs(task, dataset)
        if reason is None and task.horizon_days is not None and not dataset.cutoffs:
            reason = "looks ahead in time, so it needs a temporal split (--split temporal)"
        if reason is None and task.unit == "basket" and "basket" not in dataset.interactions.columns:
            reason = "no basket column"
        if reason is None:
            resolved = resolve_answer(task, dataset)
            offered.append(resolved)
            if unknown := unknown_answers(resolved, dataset):
                why.append(
                    f"{dataset.name}: task {task.name}: {unknown:,} held-out rows have an answer that training lacks; "
                    "they are not evaluated"
                )
        else:
            why.append(f"{dataset.name}: task {task.name} is off: {reason}")
    return offered, why


def group_specs(
    dataset: Dataset, tasks: Sequence[Task]
) -> list[tuple[str, str, int, tuple[str, ...], tuple[float, ...]]]:
    """The groups of tokens that one data set adds to the vocabulary."""
    specs: list[tuple[str, str, int, tuple[str, ...], tuple[float, ...]]] = []
    interactions = dataset.interactions
    for task in tasks:
        if task.answer.kind in ("choices", "number"):
            answer = task.answer
            specs.append((dataset.name, task.name, len(answer.choices), answer.choices, answer.values))
    if "rating" not in {t.name for t in tasks}:
        kinds = interactions.filter(pl.col("part") == "train")["event"].unique().sort().to_list()
        if len(kinds) > 1 and "item_id" in interactions.columns:
            specs.append((dataset.name, EVENT, len(kinds), tuple(kinds), ()))
    if dataset.items.height:
        specs.append((dataset.name, ITEMS, dataset.items.height, (), ()))
    return specs


def vocabulary_of(datasets: Sequence[Dataset], tasks: Mapping[str, Sequence[Task]], n_words: int) -> Vocabulary:
    """One vocabulary for all data sets of a run."""
    return build_vocabulary(n_words, [s for d in datasets for s in group_specs(d, tasks[d.name])])


# --- arrays -------------------------------------------------------------------------------------------------------


def choice_index(task: Task, group: Group, answers: pl.Series) -> np.ndarray:
    """Index of each answer among the group's words; -1 where there is none."""
    if answers.dtype == pl.Boolean:
        return answers.cast(pl.Int16).fill_null(-1).to_numpy()
    if group.values:
        keys, answers = pl.Series(group.values, dtype=pl.Float64), answers.cast(pl.Float64)
    else:
        keys, answers = pl.Series(group.words, dtype=pl.String), answers.cast(pl.String)
    places = pl.Series(range(len(keys)), dtype=pl.Int16)
    return answers.replace_strict(keys, places, default=-1, return_dtype=pl.Int16).fill_null(-1).to_numpy()


def build_events(dataset: Dataset, tasks: Sequence[Task], vocabulary: Vocabulary, seed: int) -> Events | None:
    """The interactions as arrays; None where the data has no users or items.

    Events of one training basket are shuffled (seeded), since the order inside a basket means nothing.
    """
    frame = dataset.interactions
    if "user_id" not in frame.columns or "item_id" not in frame.columns:
        return None
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
    where: dict[str, np.ndarray] = {}
    target = np.zeros(frame.height, dtype=bool)
    for task in tasks:
        if task.unit == "text":
            continue
        rows = with_attributes(frame, dataset, task_columns(task))
        if task.name == "next_item":
            target = selected(task, rows).to_numpy()
        elif task.unit != "event" or task.horizon_days is not None:
            if task.where is not None:
                where[task.name] = selected(task, rows).to_numpy()
        else:
            group = vocabulary.group(name, task.name)
            index = choice_index(task, group, labels(task, rows))
            dense[task.name] = np.where(selected(task, rows).to_numpy(), index, -1).astype(np.int16)
            if task.name == "rating":
                outcome = np.where(index >= 0, group.first + index.astype(np.int64), -1)
    if "learned" in frame.columns:  # shown, and not asked for
        asked = ~frame["learned"].to_numpy()
        target &= asked
        dense = {task: np.where(asked, index, -1).astype(np.int16) for task, index in dense.items()}
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
        basket=basket,
        part=frame["part"].replace_strict(codes, return_dtype=pl.Int8).to_numpy(),
        source=frame["row"].to_numpy(),
        target=target,
        labels=dense,
        where=where,
        kinds=tuple(kinds.to_list()),
    )


def shuffled_baskets(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Interactions with the order inside each basket drawn; one without a basket stays where it is."""
    rng = np.random.default_rng([seed, 1])
    together = pl.col("row").min().over("user_id", "basket")
    place = pl.when(pl.col("basket").is_null()).then(pl.col("row")).otherwise(together)
    keys = ["_user", *(["timestamp"] if "timestamp" in frame.columns else []), "_basket", "_shuffle"]
    frame = frame.with_columns(
        pl.Series("_shuffle", rng.random(frame.height)),
        place.alias("_basket"),
        pl.col("row").min().over("user_id").alias("_user"),
    )
    return frame.sort(keys).drop("_user", "_basket", "_shuffle")


def attribute_words(name: str, value: object) -> str:
    """`age 24`, `occupation technician`; text is used as it is, numbers shortened."""
    if isinstance(value, list):
        shown = ", ".join(str(v) for v in value if v)
    else:
        shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{name.replace('_', ' ')} {shown}"


def header_columns(users: pl.DataFrame) -> list[str]:
    """The user attributes that prompts show: those that several users share, so no names and no postal codes.

    At most 100 different values, and at most half as many as there are users.
    """
    most = min(100, users.height // 2)
    return [c for c in users.columns if c != "user_id" and users[c].n_unique() <= most]


def user_headers(users: pl.DataFrame, encode: Encode) -> dict[str, list[int]]:
    """Tokens of `age 24, occupation technician: ` for each user with attributes."""
    columns = [c for c in users.columns if c != "user_id"]
    headers = {}
    for record in users.iter_rows(named=True):
        if header := user_header(record, columns, encode):
            headers[record["user_id"]] = header
    return headers


def user_header(record: Mapping[str, object], columns: Sequence[str], encode: Encode) -> list[int]:
    """Tokens of `age 24, occupation technician: `; none where nothing is known of the user."""
    known = [attribute_words(c, record[c]) for c in columns if record.get(c) is not None]
    return encode(", ".join(known) + ":") if known else []


def attribute_conditions(items: pl.DataFrame, least: int = 10, most: int = 200) -> list[tuple[str, str, np.ndarray]]:
    """Conditions the catalogue offers: each value of a list or small text column, each decade of `year`."""
    found = []
    for column in items.columns:
        if column in ("item_id", "title"):
            continue
        dtype = items.schema[column]
        if isinstance(dtype, pl.List) or dtype == pl.String:
            single = items.select("item_id", column)
            values = single.explode(column) if isinstance(dtype, pl.List) else single
            counts = values.drop_nulls(column).group_by(column).len().filter(pl.col("len") >= least).sort(column)
            if not 2 <= counts.height <= most:
                continue
            for value in counts[column].to_list():
                of = pl.col(column).list.contains(value) if isinstance(dtype, pl.List) else pl.col(column) == value
                mask = items.select(of.fill_null(False)).to_series().to_numpy()
                quoted = str(value).replace("'", "''")
                found.append((f"{column.replace('_', ' ')} {value}", f"{column} = '{quoted}'", mask))
        elif column == "year" and dtype.is_numeric():
            for decade in range(1900, 2030, 10):
                mask = (
                    items.select(pl.col(column).is_between(decade, decade + 9).fill_null(False)).to_series().to_numpy()
                )
                if mask.sum() >= least:
                    found.append((f"from the {decade}s", f"year between {decade} and {decade + 9}", mask))
    return found


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


# --- pieces of a row ----------------------------------------------------------------------------------------------


def history_tokens(
    header: list[int], item_first: int, item: np.ndarray, outcome: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of header and events, and the place of each event's item token.

    item, outcome: (events,) catalogue index and outcome token id (-1: none). An event without a known item is left out.
    """
    known = item >= 0
    width = known.astype(np.int64) * (1 + (outcome >= 0))
    place = len(header) + np.cumsum(width) - width
    tokens = np.empty(len(header) + int(width.sum()), dtype=np.int64)
    tokens[: len(header)] = header
    tokens[place[known]] = item_first + item[known]
    second = known & (outcome >= 0)
    tokens[place[second] + 1] = outcome[second]
    return tokens, place


def question_tokens(
    template: str, values: Mapping[str, str], item_tokens: Mapping[str, Sequence[int]], encode: Encode
) -> list[int]:
    """A template with words filled in and item tokens inserted; text is encoded as plain text, never as special
    tokens."""
    tokens: list[int] = []
    text = ""
    for piece in pieces(template):
        if isinstance(piece, Placeholder) and piece.name in item_tokens:
            if text.strip():
                tokens += encode(text.rstrip())
            tokens += list(item_tokens[piece.name])
            text = ""
        elif isinstance(piece, Placeholder):
            text += values[piece.name]
        else:
            text += piece
    return tokens + (encode(text) if text else [])


def assemble(
    corpus: Corpus,
    user: str | None,
    lo: int,
    hi: int,
    branches: Sequence[Branch],
    dense: bool,
    first_is_target: bool,
    events: Events | None,
) -> Row:
    """One row from events lo..hi of the arrays and its branches; `dense` makes every item and outcome a target."""
    header = [corpus.bos, *(corpus.headers.get(user, []) if user is not None else [])]
    if events is not None and hi > lo:
        item, outcome = events.item[lo:hi], events.outcome[lo:hi]
        tokens_array, place = history_tokens(header, corpus.items.first, item, outcome)
        source = events.source[lo:hi].tolist()
    else:
        tokens_array, place, source = np.asarray(header), np.zeros(0, dtype=np.int64), []
    tokens = tokens_array.tolist()
    n_history = len(tokens)
    position, segment, limit = list(range(n_history)), [0] * n_history, [n_history] * n_history
    at: list[int] = []
    of: list[int] = []
    answer: list[int] = []
    weight: list[float] = []
    allowed: list[int] = []
    task_index = {t: i for i, t in enumerate(corpus.all_tasks)}
    dense_tasks = {t.name for t in corpus.tasks if t.dense}
    if dense and events is not None and hi > lo:
        wanted = events.target[lo:hi] & (events.item[lo:hi] >= 0)
        if not first_is_target:
            wanted[0] = False
        if "next_item" in task_index:
            where = np.nonzero(wanted)[0]
            at += (place[where] - 1).tolist()
            of += [task_index["next_item"]] * len(where)
            answer += events.item[lo:hi][where].tolist()
        for name, index in events.labels.items():
            if name not in dense_tasks:
                continue
            where = np.nonzero((index[lo:hi] >= 0) & (events.item[lo:hi] >= 0))[0]
            at += place[where].tolist()
            of += [task_index[name]] * len(where)
            answer += index[lo:hi][where].tolist()
        weight, allowed = [1.0] * len(at), [-1] * len(at)
    since = list(at)
    for number, branch in enumerate(branches, start=1):
        if not branch.sees_user:
            sees = 1
        elif branch.sees >= hi - lo:
            sees = n_history
        else:
            sees = int(place[branch.sees])
        first = len(tokens)
        tokens += branch.tokens
        position += range(sees, sees + len(branch.tokens))
        segment += [number] * len(branch.tokens)
        limit += [sees] * len(branch.tokens)
        for task, target, target_weight, mask in branch.targets:
            at.append(len(tokens) - 1)
            since.append(first if branch.pooled else at[-1])
            of.append(task_index[task])
            answer.append(target)
            weight.append(target_weight)
            allowed.append(mask)
    return Row(corpus.dataset.name, tokens, position, segment, limit, since, at, of, answer, weight, allowed, source)


def read_at(row: Row, places: Sequence[int]) -> Row:
    """A row that is read at these places, whatever the right answers there are."""
    at, zeros = list(places), [0] * len(places)
    return replace(
        row,
        target_from=at,
        target_at=at,
        target_task=zeros,
        target_id=zeros,
        target_weight=[1.0] * len(at),
        target_allowed=[-1] * len(at),
    )


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
        where={name: mask[keep] for name, mask in events.where.items()},
        **{name: array[keep] for name, array in events.arrays.items()},
    )


def shown_from(events: int, most: int) -> int:
    """Where the shown part of a history of so many events begins, at most `most` of them: the oldest are cut a quarter
    at a time, so that a history that grows by one event mostly begins where it did."""
    quarter = max(1, most // 4)
    return max(0, -(-(events - most) // quarter)) * quarter
