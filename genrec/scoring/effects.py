"""How a user rates or answers, how an item is rated, and how they suit each other: features of a user and an item."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .neighbours import Links

FACTORS = 40  # of an item; on ratings held out of ML-100K's training part 30 to 60 are alike
PENALTY = 1.5  # of 1 to 2 the least error there and of ML-1M's ratings, the best AUC within users of CoLLM's clicks
DAMPING = 10.0  # events at the mean that a user is given besides his own; better than PENALTY sqrt(n) on CoLLM
NAMES = ("user", "item", "factors", "neighbours")


def ridge(vectors: np.ndarray, values: np.ndarray, damping: float | None = None) -> np.ndarray:
    """The weights (width + 1,) of the vectors (n, width) and of a constant that come closest to the values (n,), held
    near 0 by PENALTY sqrt(n): between a prior, whose penalty stays the same, and an average, whose penalty grows with
    n. damping: the constant's own penalty."""
    inputs = np.column_stack([vectors, np.ones(len(vectors))])
    gram = inputs.T @ inputs
    penalty = np.full(len(gram), PENALTY * np.sqrt(max(len(values), 1)))
    if damping is not None:
        penalty[-1] = damping
    gram[np.diag_indices(len(gram))] += penalty
    found: np.ndarray = np.linalg.solve(gram, inputs.T @ values)
    return found


class Effects(nn.Module):
    """Deviations from the mean outcome, in standard deviations, that are known of a user and an item: user effect, item
    effect and the product of their factors, all from one matrix factorisation (Koren, Bell and Volinsky 2009), and what
    the residuals of the user's items say of the item (a ridge regression, as EASE is).

    value: (outcomes,) of each outcome shown in a history, of mean 0 and variance 1 over the training part. item:
    (items,) effects. factors: (items, width). links: from the residuals, beyond user and item effects, of a history's
    items to that of a candidate.
    """

    value: Tensor
    item: Tensor
    factors: Tensor

    def __init__(self, value: Tensor, item: Tensor, factors: Tensor, links: Links) -> None:
        super().__init__()
        self.register_buffer("value", value)
        self.register_buffer("item", item)
        self.register_buffer("factors", factors)
        self.links = links

    @staticmethod
    def like(state: Mapping[str, Tensor], key: str) -> "Effects":
        """Effects of the sizes of a saved state, whose names begin with `key`, to be filled from it."""
        value, item, factors = (torch.zeros_like(state[key + name]) for name in ("value", "item", "factors"))
        return Effects(value, item, factors, Links.like(state, key + "links."))

    def extend(self, n: int) -> None:
        """Add n items of which nothing is known."""
        self.item = torch.cat([self.item, self.item.new_zeros(n)])
        self.factors = torch.cat([self.factors, self.factors.new_zeros(n, self.factors.shape[1])])
        self.links.extend(n)

    def user(self, items: np.ndarray, outcomes: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """A user's effect and factors (width,), and the residuals (events,) of a history beyond user and item effects,
        0 for an event without item or outcome.

        items: catalogue indices or -1; outcomes: indices of `value` or -1.
        """
        known = (items >= 0) & (outcomes >= 0)
        beyond = np.where(known, self.value.cpu().numpy()[outcomes] - self.item.cpu().numpy()[items], 0)
        found = ridge(self.factors.cpu().numpy()[items[known]].astype(np.float64), beyond[known], DAMPING)
        return float(found[-1]), found[:-1], np.where(known, beyond - found[-1], 0)

    def forward(
        self, histories: Sequence[tuple[np.ndarray, np.ndarray]], candidates: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """NAMES of each candidate of each history in turn (candidates in all, 4); histories: (items, outcomes) as in
        `user`."""
        item, factors = self.item.cpu().numpy(), self.factors.cpu().numpy()
        rows = [np.zeros((0, len(NAMES)))]
        for (items, outcomes), asked in zip(histories, candidates, strict=True):
            effect, own, residual = self.user(items, outcomes)
            say = torch.as_tensor(residual, dtype=torch.float32, device=self.value.device)
            beside = self.links.spread([items], say)[0].cpu().numpy()
            at = np.asarray(asked, dtype=np.int64)
            rows.append(np.column_stack([np.full(len(at), effect), item[at], factors[at] @ own, beside[at]]))
        return np.concatenate(rows)
