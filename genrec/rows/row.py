"""Histories x tasks x templates -> rows.

A row is one user's history followed by branches. History: attributes of the user, then an item token and, if events
end differently, an outcome token per event. Every item and every outcome in it is a target. A branch is a question
(text that may hold item tokens) or a single candidate item; it attends to the history up to its event and to itself
only, its positions restart there, so its states are the same alone and beside others.

    tokens    <bos> age 24, technician  <item 302> <rated 3> <item 377> <rated 1> | What comes next? | <item 51>
    segment     0    0  0  0     0           0         0          0         0        1   1    1   1       2
    targets                  next item   rating     next item   rating  next item              item     purchase
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..tasks.templates import Placeholder, pieces
from .arrays import Events, Histories
from .corpus import Corpus, Encode


@dataclass(frozen=True)
class Branch:
    """A question or candidate: its tokens, how many history events it attends to, and the targets at its last token.

    pooled: the targets are read from the mean of its hidden states, as a text's are, not from the last.
    """

    tokens: list[int]
    sees: int
    targets: list[tuple[str, int, float, int]]  # task, answer index in its group, weight, allowed set or -1
    sees_user: bool = True
    pooled: bool = False


@dataclass(frozen=True)
class Row:
    """One training example: lists of equal length per token, others of equal length per target, stored as int32
    (target_weight as float32, source as uint32).

    segment: 0 for the history, else the branch's number. limit: so many history tokens the token attends to. A target
    is read from the mean hidden state of the tokens target_from to target_at: mostly one and the same. target_id: index
    of the answer in its group, not a token. target_allowed: the condition whose items compete, -1 for all. source: file
    rows of the history's events.
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
    """Tokens (tokens,) of header and events, and the position (events,) of each event's item token.

    item, outcome: (events,) catalogue index and outcome token id (-1: none). An event without a known item is left out.
    """
    has_item = item >= 0
    width = has_item.astype(np.int64) * (1 + (outcome >= 0))
    positions = len(header) + np.cumsum(width) - width
    tokens = np.empty(len(header) + int(width.sum()), dtype=np.int64)
    tokens[: len(header)] = header
    tokens[positions[has_item]] = item_first + item[has_item]
    has_outcome = has_item & (outcome >= 0)
    tokens[positions[has_outcome] + 1] = outcome[has_outcome]
    return tokens, positions


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


@dataclass
class _Targets:
    """Targets of a row under construction: `Row`'s lists of them, without the names."""

    since: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    task: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    allowed: list[int] = field(default_factory=list)

    def add(self, since: list[int], at: list[int], task: int, answer: list[int], weight: float, allowed: int) -> None:
        """Targets of one task, read from the tokens `since` to `at`."""
        self.since += since
        self.at += at
        self.task += [task] * len(at)
        self.answer += answer
        self.weight += [weight] * len(at)
        self.allowed += [allowed] * len(at)


def prompt_row(
    corpus: Corpus, user: str | None, histories: Histories, lo: int, hi: int, branches: Sequence[Branch]
) -> Row:
    """A row of the events lo..hi of the arrays and its branches, which alone have targets."""
    tokens, positions = _history_tokens(corpus, user, histories, lo, hi)
    source = histories.source[lo:hi].tolist() if isinstance(histories, Events) else []
    return _with_branches(corpus, tokens, positions, branches, _Targets(), source)


def training_row(
    corpus: Corpus, user: str | None, events: Events, lo: int, hi: int, branches: Sequence[Branch], first: bool
) -> Row:
    """As `prompt_row`, with every item and outcome of the history as a target, too; first: the first item as well."""
    tokens, positions = _history_tokens(corpus, user, events, lo, hi)
    targets = _Targets()
    task_index = {t: i for i, t in enumerate(corpus.all_tasks)}
    dense_tasks = {t.name for t in corpus.tasks if t.dense}
    item = events.item[lo:hi]
    if hi > lo:
        is_target = events.target[lo:hi] & (item >= 0)
        is_target[0] &= first
        if "next_item" in task_index:
            at = (positions[is_target] - 1).tolist()
            targets.add(at, at, task_index["next_item"], item[is_target].tolist(), 1.0, -1)
        for name, index in events.labels.items():
            if name in dense_tasks:
                has_answer = (index[lo:hi] >= 0) & (item >= 0)
                at = positions[has_answer].tolist()
                targets.add(at, at, task_index[name], index[lo:hi][has_answer].tolist(), 1.0, -1)
    return _with_branches(corpus, tokens, positions, branches, targets, events.source[lo:hi].tolist())


def text_row(corpus: Corpus, branch: Branch) -> Row:
    """A row of a question about a text, without a user and a history."""
    tokens, positions = np.asarray([corpus.bos]), np.zeros(0, dtype=np.int64)
    return _with_branches(corpus, tokens, positions, [branch], _Targets(), [])


def _history_tokens(
    corpus: Corpus, user: str | None, histories: Histories, lo: int, hi: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the user's header and the events lo..hi, and the position of each event's item token."""
    header = [corpus.bos, *(corpus.headers.get(user, []) if user is not None else [])]
    if hi <= lo:
        return np.asarray(header), np.zeros(0, dtype=np.int64)
    return history_tokens(header, corpus.items.first, histories.item[lo:hi], histories.outcome[lo:hi])


def _with_branches(
    corpus: Corpus,
    history: np.ndarray,
    positions: np.ndarray,
    branches: Sequence[Branch],
    targets: _Targets,
    source: list[int],
) -> Row:
    """A row of the tokens of a history, whose events' item tokens are at `positions`, and of branches after it."""
    tokens = history.tolist()
    n_history = len(tokens)
    position, segment, limit = list(range(n_history)), [0] * n_history, [n_history] * n_history
    task_index = {t: i for i, t in enumerate(corpus.all_tasks)}
    for number, branch in enumerate(branches, start=1):
        if not branch.sees_user:
            sees = 1
        elif branch.sees >= len(positions):
            sees = n_history
        else:
            sees = int(positions[branch.sees])
        first = len(tokens)
        tokens += branch.tokens
        position += range(sees, sees + len(branch.tokens))
        segment += [number] * len(branch.tokens)
        limit += [sees] * len(branch.tokens)
        last = len(tokens) - 1
        for task, answer, weight, mask in branch.targets:
            targets.add([first if branch.pooled else last], [last], task_index[task], [answer], weight, mask)
    t = targets
    target_lists = (t.since, t.at, t.task, t.answer, t.weight, t.allowed)
    return Row(corpus.dataset.name, tokens, position, segment, limit, *target_lists, source)


def read_at(row: Row, positions: Sequence[int]) -> Row:
    """A row with targets at these token positions, of which only the hidden states matter."""
    token_positions, zeros = list(positions), [0] * len(positions)
    return replace(
        row,
        target_from=token_positions,
        target_at=token_positions,
        target_task=zeros,
        target_id=zeros,
        target_weight=[1.0] * len(token_positions),
        target_allowed=[-1] * len(token_positions),
    )
