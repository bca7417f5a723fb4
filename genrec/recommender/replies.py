"""Answers of a Recommender: frames and warnings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..counting import counted
from ..errors import UnavailableError
from ..frames import as_html, as_text

FEW_ANSWERS = 11  # of a task, which are all named: half stars, or 0 to 10
NAMED_ANSWERS = 5  # of one with more


@dataclass(frozen=True, repr=False)
class Reply:
    """A frame of polars, and what a person should know of it."""

    frame: pl.DataFrame
    warnings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The answer in a line."""
        return counted(self.frame.height, "rows")

    @property
    def table(self) -> pl.DataFrame:
        """The columns of the frame that say something."""
        frame = self.frame
        return frame.select(c for c in frame.columns if not frame.height or frame[c].null_count() < frame.height)

    def to_pandas(self) -> Any:
        """The frame as one of pandas; raises UnavailableError if pandas is not installed."""
        try:
            return self.frame.to_pandas()
        except ModuleNotFoundError as error:
            raise UnavailableError(f"to_pandas needs {error.name}: pip install {error.name}") from error

    def to_arrow(self) -> Any:
        """The frame as a table of pyarrow."""
        return self.frame.to_arrow()

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        return "\n".join([self.title, as_text(self.table), *(f"warning: {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        return as_html(self.table, self.title, [f"warning: {w}" for w in self.warnings])


@dataclass(frozen=True, repr=False)
class Recommendations(Reply):
    """frame: dataset, user_id, strategy (model, title, similar or popular), rank, item_id, title, score, probability;
    best first per user. Those of `similar` have no user_id, strategy and probability."""

    @property
    def strategy(self) -> str:
        """How the first list was made: `model` too if there is none."""
        named = "strategy" in self.frame.columns and self.frame.height
        return str(self.frame["strategy"][0]) if named else "model"

    @property
    def title(self) -> str:
        """`2 lists of items (model, popular)`."""
        columns = self.frame.columns
        n_lists = int((self.frame["rank"] == 1).sum())
        made = self.frame["strategy"].unique(maintain_order=True) if "strategy" in columns else ["similar"]
        return f"{n_lists:,} list{'' if n_lists == 1 else 's'} of items ({', '.join(made) or 'empty'})"


@dataclass(frozen=True, repr=False)
class Predictions(Reply):
    """frame: dataset, task, user_id, item_id, text, value, probabilities (list, in the order of `choices`)."""

    choices: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`2 predictions of rating (1, 2, 3)`."""
        tasks = ", ".join(self.frame["task"].unique(maintain_order=True)) or "nothing"
        return f"{self.frame.height:,} predictions of {tasks} (answers {', '.join(self.choices)})"

    def records(self) -> list[dict[str, Any]]:
        """Each prediction as values by column, its probabilities by answer."""
        rows = self.frame.iter_rows(named=True)
        return [r | {"probabilities": dict(zip(self.choices, r["probabilities"], strict=True))} for r in rows]


def value_in_words(value: object) -> str:
    """The value of a prediction: a number with two decimals, or with three digits if it is small.

    >>> value_in_words(3.456), value_in_words(0.01234), value_in_words("yes")
    ('3.46', '0.0123', 'yes')
    """
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def likeliest(probabilities: Mapping[str, float]) -> list[tuple[str, float]]:
    """The answers that are worth naming and their probabilities: all of few, the likeliest of many, likeliest first."""
    if len(probabilities) <= FEW_ANSWERS:
        return list(probabilities.items())
    return sorted(probabilities.items(), key=lambda answer: -answer[1])[:NAMED_ANSWERS]


@dataclass(frozen=True, repr=False)
class Explanations(Reply):
    """Why items score as they do. frame: dataset, item_id, reason_item_id, reason_title, effect; strongest first per
    item. effect: how much lower the item's score is without the reason in the history."""

    @property
    def title(self) -> str:
        """`Reasons of 2 items`."""
        return f"Reasons of {counted(self.frame['item_id'].n_unique(), 'items')}"


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
