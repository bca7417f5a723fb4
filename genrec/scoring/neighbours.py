"""Neighbours of items in training histories, those taken beside and after them, added to the model's scores."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import linalg, sparse
from torch import Tensor, nn

DECAYS = (0.5, 0.8, 0.95, 1.0)  # of an item's weight with each event that came after it; learned weights mix them
MAX_NEIGHBOURS = 200  # of an item, the strongest
EASE_MAX_ITEMS = 20_000  # a larger catalogue's matrix cannot be inverted in memory and minutes
EASE_PENALTY = 150.0
WINDOW = 3  # events that transitions reach
SMOOTHING = 5.0  # transitions that are added to every item's own
KINDS = ("ease", "transitions", "itself")
QUESTIONS = ("next_item", "basket")  # what comes next, and what goes with the last items of the history


def ease(histories: sparse.csr_matrix, penalty: float = EASE_PENALTY) -> sparse.csr_matrix:
    """Item-item weights (items, items) whose sum over a history best restores it, itself left out (EASE; Steck 2019).

    histories: (users, items), such as 1 where the user has the item.
    """
    gram = (histories.T @ histories).toarray().astype(np.float32)
    gram[np.diag_indices(len(gram))] += penalty
    factor, lower = linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    inverse, failed = linalg.lapack.spotri(factor, lower=lower, overwrite_c=True)
    assert not failed
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    inverse /= -np.diag(inverse).copy()[None, :]
    inverse[np.diag_indices(len(inverse))] = 0
    return strongest(inverse)


def strongest(weights: np.ndarray) -> sparse.csr_matrix:
    """The MAX_NEIGHBOURS entries of each row that are furthest from 0."""
    k = min(MAX_NEIGHBOURS, weights.shape[1])
    columns = np.argpartition(-np.abs(weights), k - 1, axis=1)[:, :k]
    rows = np.repeat(np.arange(len(weights)), k)
    values = np.take_along_axis(weights, columns, 1).ravel()
    return sparse.csr_matrix((values, (rows, columns.ravel())), shape=weights.shape)


def transitions(item: np.ndarray, user: np.ndarray, n_items: int) -> sparse.csr_matrix:
    """How often each item was followed by each other within WINDOW events, weighted by 1 / distance, as a share of
    all that followed it and SMOOTHING (items, items); item and user: (events,), users contiguous."""
    counts = sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        a, b = item[:-distance], item[distance:]
        same = (user[:-distance] == user[distance:]) & (a >= 0) & (b >= 0)
        weight = np.full(int(same.sum()), 1 / distance, dtype=np.float32)
        counts = counts + sparse.csr_matrix((weight, (a[same], b[same])), shape=(n_items, n_items))
    share = sparse.csr_matrix(sparse.diags_array(1 / (np.asarray(counts.sum(1)).ravel() + SMOOTHING)) @ counts)
    for n in np.nonzero(np.diff(share.indptr) > MAX_NEIGHBOURS)[0]:
        row = share.data[share.indptr[n] : share.indptr[n + 1]]
        row[np.argpartition(-row, MAX_NEIGHBOURS)[MAX_NEIGHBOURS:]] = 0
    share.eliminate_zeros()
    return share


def event_weights(histories: Sequence[np.ndarray], weight: Tensor) -> Tensor:
    """sum_d weight_d DECAYS_d ** (events after it) of each event, of all histories in one (events,); weight:
    (decays,)."""
    events = [np.arange(len(h))[::-1] for h in histories]
    after = torch.as_tensor(np.concatenate([np.zeros(0), *events]), dtype=torch.float32, device=weight.device)
    return torch.stack([w * d**after for w, d in zip(weight, DECAYS, strict=True)]).sum(0)


def flat(histories: Sequence[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """The history's number and the item of each event, of all histories in one (events,)."""
    row = torch.as_tensor(np.repeat(np.arange(len(histories)), [len(h) for h in histories]), device=device)
    return row, torch.as_tensor(np.concatenate([np.zeros(0), *histories]).astype(np.int64), device=device)


def taken(histories: Sequence[np.ndarray], items: int, device: torch.device) -> Tensor:
    """Which items each history holds (histories, items) bool; -1 is none."""
    row, item = flat(histories, device)
    mask = torch.zeros(len(histories), items, dtype=torch.bool, device=device)
    mask[row[item >= 0], item[item >= 0]] = True
    return mask


class Links(nn.Module):
    """Item-item strengths in CSR form: those of item i, and the items they go to, are at first[i] to first[i + 1]."""

    first: Tensor
    candidate: Tensor
    strength: Tensor

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        super().__init__()
        self.register_buffer("first", torch.as_tensor(matrix.indptr.astype(np.int64)))
        self.register_buffer("candidate", torch.as_tensor(matrix.indices.astype(np.int32)))
        self.register_buffer("strength", torch.as_tensor(matrix.data.astype(np.float32)))

    @staticmethod
    def like(state: Mapping[str, Tensor], key: str) -> "Links":
        """Links of the sizes of a saved state, whose names begin with `key`, to be filled from it."""
        links = Links(sparse.csr_matrix((1, 1)))
        for name in ("first", "candidate", "strength"):
            setattr(links, name, torch.zeros_like(state[key + name]))
        return links

    def extend(self, n: int) -> None:
        """Add n items that nothing links to."""
        self.first = torch.cat([self.first, self.first[-1:].expand(n)])

    def accumulate(self, histories: Sequence[np.ndarray], weights: Tensor) -> Tensor:
        """Sums (histories, items) of the strengths of each history's items; histories: catalogue indices, -1 for no
        item; weights: (events,) of each event, of all histories in one."""
        n = len(self.first) - 1
        row, item = flat(histories, weights.device)
        row, item, weights = (t[item >= 0] for t in (row, item, weights))
        first, count = self.first[item], self.first[item + 1] - self.first[item]
        entry = torch.repeat_interleave(first - (count.cumsum(0) - count), count)
        entry += torch.arange(len(entry), device=entry.device)
        value = self.strength[entry] * torch.repeat_interleave(weights, count)
        index = torch.repeat_interleave(row, count) * n + self.candidate[entry]
        return value.new_zeros(len(histories) * n).index_add_(0, index, value).view(len(histories), n)


class Neighbours(nn.Module):
    """Scores that a history adds to its neighbours: for each of KINDS, and each event, strength(event's item,
    candidate) times sum_d weight_d DECAYS_d ** (events after it); and `seen` for a candidate that is in the history.

    Strengths are scaled to a root mean square of 1 by kind. Each of QUESTIONS has its own weight (questions, kinds,
    decays) and seen (questions,); if they are 0 they add nothing.
    """

    weight: Tensor
    seen: Tensor

    def __init__(self, kinds: Sequence[Links]) -> None:
        super().__init__()
        self.kinds = nn.ModuleList(kinds)
        for links in kinds:
            if len(links.strength):
                links.strength /= links.strength.square().mean().sqrt().clamp_min(1e-9)
        self.register_buffer("weight", torch.zeros(len(QUESTIONS), len(kinds), len(DECAYS)))
        self.register_buffer("seen", torch.zeros(len(QUESTIONS)))

    def extend(self, n: int) -> None:
        """Add n items without neighbours."""
        for links in self.kinds:
            links.extend(n)  # type: ignore[operator]

    def adds(self, question: str) -> bool:
        """Whether anything is added to the scores of a question."""
        number = QUESTIONS.index(question)
        return bool((self.weight[number] != 0).any() or self.seen[number] != 0)

    def accumulate(self, histories: Sequence[np.ndarray], kind: int, weight: Tensor) -> Tensor:
        """Sums (histories, items) of one kind; histories: catalogue indices oldest first, -1 for no item; weight:
        (decays,)."""
        links = self.kinds[kind]
        assert isinstance(links, Links)
        return links.accumulate(histories, event_weights(histories, weight))

    def forward(self, histories: Sequence[np.ndarray], question: str) -> Tensor:
        """The addend (histories, items) to the scores of a question; histories as in `accumulate`."""
        number = QUESTIONS.index(question)
        scores = torch.zeros(len(histories), len(self.kinds[0].first) - 1, device=self.weight.device)  # type: ignore[arg-type]
        for kind, weight in enumerate(self.weight[number]):
            if (weight != 0).any():
                scores += self.accumulate(histories, kind, weight)
        for row, history in zip(scores, histories, strict=True):
            seen = torch.as_tensor(np.unique(history[history >= 0]), device=row.device, dtype=torch.long)
            row[seen] += self.seen[number]
        return scores
