"""Ids in, frames out: recommend, predict, similar, embed."""

from .recommender import Recommender
from .replies import Explanations, Predictions, Recommendations

__all__ = ["Explanations", "Predictions", "Recommendations", "Recommender"]
