"""Losses of answers, each (n,) of n targets, not yet weighed or summed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def outcome_losses(scores: Tensor, answer: Tensor, values: Sequence[float] | None) -> Tensor:
    """Cross-entropy over the answers; with numbers as answers the squared error of the expected value besides, in
    quarters of their range, so that it weighs alike on every scale, and as it is from 1 to 5.

    scores: (n, answers). answer: (n,) indices. values: of the answers, ascending, or None.
    """
    losses = nn.functional.cross_entropy(scores, answer, reduction="none")  # (n,)
    if values is None:
        return losses
    span = values[-1] - values[0]
    quarters = torch.tensor([4 * v / span for v in values], device=scores.device)
    return losses + (scores.softmax(1) @ quarters - quarters[answer]).square()


def smoothed(losses: Tensor, scores: Tensor, answer: Tensor, mean_score: Tensor, share: float) -> Tensor:
    """The losses if a share of each right answer is spread over the catalogue (Szegedy et al. 2016).

    scores: (n, items). mean_score: (n,) of the items that it is spread over.
    """
    return losses + share * (scores.gather(1, answer[:, None])[:, 0] - mean_score)


def conditional(losses: Tensor, scores: Tensor, answer: Tensor, allowed: Tensor, masks: Tensor) -> Tensor:
    """The losses, those of targets under a condition over its items only.

    scores: (n, items). allowed: (n,) the condition of each target, -1 for none. masks: (conditions, items) bool.
    """
    under = torch.nonzero(allowed >= 0)[:, 0]
    inside = scores[under].masked_fill(~masks[allowed[under]], float("-inf"))
    return losses.index_put((under,), nn.functional.cross_entropy(inside, answer[under], reduction="none"))
