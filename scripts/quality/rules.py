"""Rules without training that published figures fall short of: scores for the cases of a line."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from genrec.evaluation.metrics import auc

DAMPING = (1, 2, 5, 10, 20, 50)


def share_of_liked(cases: pl.DataFrame) -> np.ndarray:
    """The share of liked films among those that a prompt shows (cases,); one half where it shows none."""
    liked = cases["events"].list.eval(pl.element() == "like").list.mean()
    return liked.fill_null(0.5).to_numpy()


def smoothed_means(train: pl.DataFrame, asked: pl.DataFrame, of_user: float, of_item: float) -> np.ndarray:
    """Log-odds of the user's share of clicks plus those of the item's (cases,), each with so many average cases added.

    train: user_id, item_id, event. asked: user_id, item_id.
    """
    liked = (train["event"] == "click").to_numpy()
    mean = liked.mean()
    scores = np.zeros(asked.height)
    for column, damping in (("user_id", of_user), ("item_id", of_item)):
        counts = train.select(column, pl.Series("liked", liked)).group_by(column).agg(pl.col("liked").sum(), pl.len())
        found = asked.select(column).join(counts, on=column, how="left", maintain_order="left").fill_null(0)
        share = (found["liked"].to_numpy() + damping * mean) / (found["len"].to_numpy() + damping)
        scores += np.log(share / (1 - share))
    return scores


def best_damping(train: pl.DataFrame, valid: pl.DataFrame) -> tuple[float, float]:
    """The damping of user and item with the highest AUC on validation."""
    liked = (valid["event"] == "click").to_numpy()
    pairs = [(u, i) for u in DAMPING for i in DAMPING]
    return max(pairs, key=lambda pair: auc(smoothed_means(train, valid, *pair), liked))


def content_ranks(
    text: np.ndarray, histories: Sequence[np.ndarray], targets: np.ndarray, cold: np.ndarray, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (cases,) of targets by cosine with the mean of a history's last items: in the whole catalogue without the
    history, and among the cold items alone.

    text: (items, width) vectors of one length. histories: item indices, oldest first. targets: (cases,). cold: (items,)
    bool.
    """
    whole, among = np.empty(len(targets), dtype=int), np.empty(len(targets), dtype=int)
    for start in range(0, len(targets), 512):
        part = slice(start, start + 512)
        scores = np.stack([text[h[-last:]].mean(0) for h in histories[part]]) @ text.T
        for n, (own, history, target) in enumerate(zip(scores, histories[part], targets[part], strict=True), start):
            own[history] = -np.inf
            above = own > own[target]
            whole[n], among[n] = 1 + above.sum(), 1 + above[cold].sum()
    return whole, among
