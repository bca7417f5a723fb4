"""Losses of answers, each (n,) of n targets, not yet weighed or summed."""

import torch
from torch import Tensor, nn


def outcome_losses(scores: Tensor, answer: Tensor, values: Tensor | None) -> Tensor:
    """Cross-entropy over the answers; with numbers as answers the squared error of the expected value besides.

    scores: (n, answers). answer: (n,) indices. values: (answers,) or None.
    """
    losses = nn.functional.cross_entropy(scores, answer, reduction="none")  # (n,)
    if values is None:
        return losses
    return losses + (scores.softmax(1) @ values - values[answer]).square()


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
