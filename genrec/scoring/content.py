"""What an item's text and attributes share with the items of a history: features of a user and an item."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..data.dataset import Dataset
from ..model.item_rows import ItemRows

NEAREST = 5  # items of a history whose texts count
MOST = 8  # attributes of a catalogue that are compared, the first ones
SHARED_BY = 2  # items that have a value of such an attribute, on average at least
LIKENESS = "likeness"


def shared_attributes(items: pl.DataFrame) -> tuple[str, ...]:
    """The attributes of words, at most MOST, whose values are shared by SHARED_BY items or more, as genres or a brand
    are and descriptions are not."""
    found = []
    for column in items.columns:
        values = items[column].explode() if items.schema[column] == pl.List(pl.String) else items[column]
        known = values.drop_nulls()
        is_words = column not in ("item_id", "title") and values.dtype == pl.String
        if is_words and len(known) and known.n_unique() > 1 and len(known) >= SHARED_BY * known.n_unique():
            found.append(column)
    return tuple(found[:MOST])


def content_features(
    rows: ItemRows,
    dataset: Dataset,
    attributes: Sequence[str],
    histories: Sequence[np.ndarray],
    candidates: Sequence[Sequence[int]],
) -> np.ndarray:
    """Features (candidates in all, 1 + attributes) of each history's candidates in turn: the likeness, and for each
    attribute log(1 + n) of the n items of the history that share a value of it.

    The likeness is the mean cosine of the item's text with those of the NEAREST items of the history, times the root of
    the width. histories, candidates: catalogue indices, -1 for no item, which has features of 0.
    """
    worded = rows.worded.cpu().numpy()
    found = [np.zeros((0, 1 + len(attributes)))]
    for history, asked in zip(histories, candidates, strict=True):
        past, items = np.unique(history[history >= 0]), np.asarray(asked, dtype=np.int64)
        features = np.zeros((len(items), 1 + len(attributes)))
        known = items >= 0
        if len(past) and known.any():
            of_texts = nearest_texts(rows, items[known], past[worded[past]])
            features[known, 0] = np.where(worded[items[known]], of_texts, 0.0)
            for number, name in enumerate(attributes, start=1):
                values = dataset.values_of(name)
                shared = (values[items[known]] @ values[past].T) > 0
                features[known, number] = np.log1p(np.asarray(shared.sum(1)).ravel())
        found.append(features)
    return np.concatenate(found)


def nearest_texts(rows: ItemRows, items: np.ndarray, past: np.ndarray) -> np.ndarray:
    """The likeness (items,) of items to those of a history, 0 for an empty one."""
    if not len(past):
        return np.zeros(len(items))
    text = rows.text
    cosines = text[items] @ text[past].t() * (text.shape[1] ** 0.5 / rows.space.length**2)
    return np.asarray(cosines.topk(min(NEAREST, len(past)), 1).values.mean(1).cpu().numpy(), dtype=np.float64)
