"""Cold items, which have no training interactions: placed among the others by their texts."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

COLD_SHARE = 0.1  # of the first of a list, about, at most


def place_cold(scores: Tensor, by_text: Tensor, warm: Tensor, histories: Sequence[np.ndarray]) -> None:
    """Give each cold item the place among a user's warm items that it has where all are judged by their texts alone.

    scores: (n, items), in which those of cold items are replaced. by_text: (n, items). warm: (items,) bool. Items of
    the history (catalogue indices, -1 for none) are not among those it is placed with. Quantile mapping: scores of the
    same rank correspond, with linear interpolation between them; beyond the first and the last, differences by text
    count. Texts alone spread scores less than what is known of items does: without this no cold item would come first.
    Where more than COLD_SHARE of the items are cold, places are lowered so that this is their share of the first.
    """
    among = warm.repeat(len(scores), 1)
    for own, history in zip(among, histories, strict=True):
        own[torch.as_tensor(history[history >= 0], device=own.device, dtype=torch.long)] = False
    among |= warm & ~among.any(1, keepdim=True)  # who has every warm item
    order_text = by_text.masked_fill(~among, -torch.inf).sort(1).values
    order = scores.masked_fill(~among, -torch.inf).sort(1).values
    cold = torch.nonzero(~warm)[:, 0]
    own = by_text[:, cold].contiguous()
    last = scores.shape[1] - 1
    first = (~among).sum(1, keepdim=True)  # place of the lowest of them

    above = torch.searchsorted(order_text, own).clamp(max=last).maximum(first)
    below = (above - 1).maximum(first)
    low, high = order_text.gather(1, below), order_text.gather(1, above)
    place = below + torch.where(high > low, (own - low) / (high - low), 0).clamp(0, 1).double()
    odds = len(cold) / int(warm.sum()) / (COLD_SHARE / (1 - COLD_SHARE))
    place = first + (last - first) * ((place - first) / (last - first).clamp(min=1)) ** max(1.0, odds)

    below = place.long()
    mapped = torch.lerp(order.gather(1, below), order.gather(1, (below + 1).clamp(max=last)), (place - below).float())
    beyond = (own - order_text[:, -1:]).clamp_min(0) + (own - order_text.gather(1, first)).clamp_max(0)
    scores[:, cold] = mapped + beyond
