"""Cold items, which have no training interactions: placed among the others by their texts."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .neighbours import taken

COLD_SHARE = 0.1  # of the first of a list, about, at most


def place_cold(scores: Tensor, by_text: Tensor, warm: Tensor, histories: Sequence[np.ndarray]) -> None:
    """Give each cold item the rank among a user's warm items that it has if all are scored by their texts alone.

    scores: (n, items), in which those of cold items are replaced. by_text: (n, items). warm: (items,) bool. Items of
    the history (catalogue indices, -1 for none) are not among those it is ranked with. Quantile mapping: scores of the
    same rank correspond, with linear interpolation between them; beyond the first and the last, differences by text
    count; one that scores as several others is in the middle of them. Texts alone spread scores less than learned rows
    do: without this no cold item would come first. If more than COLD_SHARE of the items are cold, ranks are lowered so
    that this is their share of the first.
    """
    eligible = warm & ~taken(histories, len(warm), warm.device)
    eligible |= warm & ~eligible.any(1, keepdim=True)  # users who have every warm item
    order_text = by_text.masked_fill(~eligible, -torch.inf).sort(1).values
    order = scores.masked_fill(~eligible, -torch.inf).sort(1).values
    cold = torch.nonzero(~warm)[:, 0]
    cold_scores = by_text[:, cold].contiguous()
    last = scores.shape[1] - 1
    first = (~eligible).sum(1, keepdim=True)  # rank of the lowest of them

    lowest, above = (torch.searchsorted(order_text, cold_scores, right=right) for right in (False, True))
    alike = (lowest + above - 1).double() / 2  # the middle of those that score the same, if there are any
    after = lowest.clamp(max=last).maximum(first)
    below = (after - 1).maximum(first)
    low, high = order_text.gather(1, below), order_text.gather(1, after)
    between = below + torch.where(high > low, (cold_scores - low) / (high - low), 0).clamp(0, 1).double()
    rank = torch.where(above > lowest, alike.clamp(min=first), between)
    odds = len(cold) / int(warm.sum()) / (COLD_SHARE / (1 - COLD_SHARE))
    rank = first + (last - first) * ((rank - first) / (last - first).clamp(min=1)) ** max(1.0, odds)

    below = rank.long()
    mapped = torch.lerp(order.gather(1, below), order.gather(1, (below + 1).clamp(max=last)), (rank - below).float())
    beyond = (cold_scores - order_text[:, -1:]).clamp_min(0) + (cold_scores - order_text.gather(1, first)).clamp_max(0)
    scores[:, cold] = mapped + beyond
