"""Likeness of texts: to the items of a history, added to every item's score, and in the score of cold items."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..model.item_rows import ItemRows
from .neighbours import DECAYS, QUESTIONS, event_weights, flat

UNFITTED = (1.0, 0.0, 0.2, 0.0, 0.0)  # weights of a cold item's score


class Texts(nn.Module):
    """Weights of how like an item's text is to those of a history, and of a cold item's score.

    A likeness is, for each event, the cosine of the two items' texts in the catalogue's space, times sum_d weight_d
    DECAYS_d ** (events after it), times the root of the width: unrelated texts then have a root mean square of 1. Each
    of QUESTIONS has weights (questions, decays); if they are 0 nothing is added. It also has weights of a cold item's
    score (questions, 1 + decays): of the language model's by texts alone, and of the likeness; UNFITTED at first.
    """

    weight: Tensor
    cold: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(len(QUESTIONS), len(DECAYS)))
        self.register_buffer("cold", torch.tensor(UNFITTED).repeat(len(QUESTIONS), 1))

    def adds(self, question: str) -> bool:
        """Whether anything is added to the scores of a question."""
        return bool((self.weight[QUESTIONS.index(question)] != 0).any())

    def forward(self, rows: ItemRows, histories: Sequence[np.ndarray], question: str) -> Tensor:
        """The addend (histories, items) to the scores of a question; histories as in `likeness`."""
        return likeness(rows, histories, self.weight[QUESTIONS.index(question)])

    def cold_scores(
        self, rows: ItemRows, histories: Sequence[np.ndarray], question: str, by_text: Tensor | None
    ) -> Tensor:
        """Scores (histories, items) of all items as if they were cold; by_text: those of the language model by texts
        alone, None without it."""
        share, *weight = self.cold[QUESTIONS.index(question)]
        scores = likeness(rows, histories, torch.stack(weight))
        return scores if by_text is None else torch.add(scores, by_text * share)


def likeness(rows: ItemRows, histories: Sequence[np.ndarray], weight: Tensor) -> Tensor:
    """Weighted likeness (histories, items) of every item of a catalogue to each history.

    histories: catalogue indices oldest first, -1 for no item. weight: (decays,). An item without text is like none.
    """
    text = rows.white
    n, width = text.shape
    if not (weight != 0).any():
        return text.new_zeros(len(histories), n)
    row, item = flat(histories, text.device)
    share = event_weights(histories, weight)
    known = (item >= 0) & rows.worded[item]
    row, item, share = row[known], item[known], share[known]
    mean = text.new_zeros(len(histories), width).index_add_(0, row, text[item] * share[:, None])
    cosines = mean @ text.t() * (width**0.5 / rows.space.length**2)  # every text has the same length
    return cosines * rows.worded
