"""How users and items are rated or answered on the whole, and how alike items are: features of a user and an item."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .neighbours import Links

DAMPING = {"user": 10.0, "item": 3.0}  # events at the mean that each is given besides its own
NAMES = ("user", "item", "neighbours")


class Effects(nn.Module):
    """Deviations from the mean outcome, in standard deviations, that are known of a user and an item.

    value: (outcomes,) of each outcome shown in a history, of mean 0 and variance 1 over the training part. item:
    (items,) damped mean of an item's deviations. links: from the residuals, beyond user and item effects, of a
    history's items to that of a candidate (a ridge regression, as EASE is).
    """

    value: Tensor
    item: Tensor

    def __init__(self, value: Tensor, item: Tensor, links: Links) -> None:
        super().__init__()
        self.register_buffer("value", value)
        self.register_buffer("item", item)
        self.links = links

    @staticmethod
    def like(state: Mapping[str, Tensor], key: str) -> "Effects":
        """Effects of the sizes of a saved state, whose names begin with `key`, to be filled from it."""
        value, item = (torch.zeros_like(state[key + name]) for name in ("value", "item"))
        return Effects(value, item, Links.like(state, key + "links."))

    def user(self, items: np.ndarray, outcomes: np.ndarray) -> tuple[float, np.ndarray]:
        """A user's effect, and the residuals (events,) of a history, 0 for an event without item or outcome.

        items: catalogue indices or -1; outcomes: indices of `value` or -1.
        """
        known = (items >= 0) & (outcomes >= 0)
        beyond = np.where(known, self.value.cpu().numpy()[outcomes] - self.item.cpu().numpy()[items], 0)
        effect = float(beyond.sum() / (known.sum() + DAMPING["user"]))
        return effect, np.where(known, beyond - effect, 0)

    def forward(
        self, histories: Sequence[tuple[np.ndarray, np.ndarray]], candidates: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """NAMES of each candidate of each history in turn (candidates in all, 3); histories: (items, outcomes) as in
        `user`."""
        item, rows = self.item.cpu().numpy(), [np.zeros((0, len(NAMES)))]
        for (items, outcomes), asked in zip(histories, candidates, strict=True):
            effect, residual = self.user(items, outcomes)
            say = torch.as_tensor(residual, dtype=torch.float32, device=self.value.device)
            beside = self.links.spread([items], say)[0].cpu().numpy()
            rows.append(np.asarray([(effect, item[i], beside[i]) for i in asked]).reshape(-1, len(NAMES)))
        return np.concatenate(rows)
