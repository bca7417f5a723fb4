"""Histories x tasks x templates -> rows.

A row is one user's history followed by branches. History: what is known of the user, then an item token and, where
events end differently, an outcome token per event. Every item and every outcome in it is a target. A branch is a
question (text that may hold item tokens) or a single candidate item; it sees the history up to its event and itself
only, its positions restart there, so it reads the same alone and beside others.

    tokens    <bos> age 24, technician  <item 302> <rated 3> <item 377> <rated 1> | What comes next? | <item 51>
    segment     0    0  0  0     0           0         0          0         0        1   1    1   1       2
    targets                  next item   rating     next item   rating  next item              item     purchase
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..tasks.templates import Placeholder, pieces
from .arrays import Events
from .corpus import Corpus, Encode


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
