"""How a user rates or answers, how an item is rated, and how they suit each other: features of a user and an item."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .neighbours import Links

FACTORS = 40  # of an item; on ratings held out of ML-100K's training part 30 to 60 are alike
PENALTY = 1.5  # of 1 to 2 the least error there and of ML-1M's ratings, the best AUC within users of CoLLM's clicks
DAMPING = 10.0  # events at the mean that are added to a user's own; better than PENALTY sqrt(n) on CoLLM
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
    weights: np.ndarray = np.linalg.solve(gram, inputs.T @ values)
    return weights


class Effects(nn.Module):
    """Deviations from the mean outcome, in standard deviations, of a user and an item: user effect, item effect and the
    product of their factors, all from one matrix factorisation (Koren, Bell and Volinsky 2009), and the prediction of
    the residuals of the user's other items (a ridge regression, as EASE is).

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
        """Add n items without effects."""
        self.item = torch.cat([self.item, self.item.new_zeros(n)])
        self.factors = torch.cat([self.factors, self.factors.new_zeros(n, self.factors.shape[1])])
        self.links.extend(n)

    def user(self, items: np.ndarray, outcomes: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """A user's effect and factors (width,), and the residuals (events,) of a history beyond user and item effects,
        0 for an event without item or outcome.

        items: catalogue indices or -1; outcomes: indices of `value` or -1.
        """
        mask = (items >= 0) & (outcomes >= 0)
        beyond = np.where(mask, self.value.cpu().numpy()[outcomes] - self.item.cpu().numpy()[items], 0)
        weights = ridge(self.factors.cpu().numpy()[items[mask]].astype(np.float64), beyond[mask], DAMPING)
        return float(weights[-1]), weights[:-1], np.where(mask, beyond - weights[-1], 0)

    def forward(
        self, histories: Sequence[tuple[np.ndarray, np.ndarray]], candidates: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """Features NAMES (candidates in all, 4) of each history's candidates in turn.

        histories: (items, outcomes) as in `user`.
        """
        item, factors = self.item.cpu().numpy(), self.factors.cpu().numpy()
        rows = [np.zeros((0, len(NAMES)))]
        for (items, outcomes), item_numbers in zip(histories, candidates, strict=True):
            effect, user_factors, residual = self.user(items, outcomes)
            event_weights = torch.as_tensor(residual, dtype=torch.float32, device=self.value.device)
            link_sums = self.links.accumulate([items], event_weights)[0].cpu().numpy()
            index = np.asarray(item_numbers, dtype=np.int64)
            columns = [np.full(len(index), effect), item[index], factors[index] @ user_factors, link_sums[index]]
            rows.append(np.column_stack(columns))
        return np.concatenate(rows)
