"""Answers of a Recommender: frames and warnings."""

from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Recommendations:
    """frame: dataset, user_id, strategy (model, title, similar or popular), rank, item_id, title, score, probability;
    best first per user."""

    frame: pl.DataFrame
    warnings: tuple[str, ...] = ()

    @property
    def strategy(self) -> str:
        """How the first list was made: `model` too if there is none."""
        return str(self.frame["strategy"][0]) if self.frame.height else "model"


@dataclass(frozen=True)
class Predictions:
    """frame: dataset, task, user_id, item_id, text, value, probabilities (list, in the order of `choices`)."""

    frame: pl.DataFrame
    choices: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """Each prediction as values by column, its probabilities by answer."""
        rows = self.frame.iter_rows(named=True)
        return [r | {"probabilities": dict(zip(self.choices, r["probabilities"], strict=True))} for r in rows]


@dataclass(frozen=True)
class Explanations:
    """Why items score as they do. frame: dataset, item_id, reason_item_id, reason_title, effect; strongest first per
    item. effect: how much lower the item's score is without the reason in the history."""

    frame: pl.DataFrame
    warnings: tuple[str, ...] = ()


RECOMMENDATION_SCHEMA = {
    "dataset": pl.String,
    "user_id": pl.String,
    "strategy": pl.String,
    "rank": pl.Int64,
    "item_id": pl.String,
    "title": pl.String,
    "score": pl.Float64,
    "probability": pl.Float64,
}
EXPLANATION_SCHEMA = {
    "dataset": pl.String,
    "item_id": pl.String,
    "reason_item_id": pl.String,
    "reason_title": pl.String,
    "effect": pl.Float64,
}
