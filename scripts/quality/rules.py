"""Rules without training that published figures fall short of: scores for the cases of a line."""

from collections.abc import Callable, Mapping, Sequence

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


def of_impressions(
    scores: np.ndarray, clicked: np.ndarray, impression: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """AUC, MRR and nDCG at 5 and 10 of each impression with one click (impressions,), and the impressions' names.

    scores, clicked: (cases,). An equal score counts half.
    """
    values: dict[str, list[float]] = {name: [] for name in ("click/user_auc", "mrr", "ndcg@5", "ndcg@10")}
    names, index = np.unique(np.asarray(impression), return_inverse=True)
    for number in range(len(names)):
        own, of_click = scores[index == number], clicked[index == number]
        (target,) = own[of_click]
        above = (own[~of_click] > target).sum() + (own[~of_click] == target).sum() / 2
        values["click/user_auc"].append(1 - above / (~of_click).sum())
        values["mrr"].append(1 / (1 + above))
        for k in (5, 10):
            values[f"ndcg@{k}"].append(1 / np.log2(2 + above) if above < k else 0.0)
    return {name: np.asarray(own) for name, own in values.items()}, names.tolist()


def of_histories(
    items: pl.DataFrame, text: np.ndarray, histories: Mapping[str, Sequence[int]], asked: Sequence[tuple[str, int]]
) -> dict[str, np.ndarray]:
    """Scores of the cases by what a news shares with a history: how many there are of its subcategory, and of its
    category where these are as many; the mean cosine of the five nearest texts; and this with a tenth of the logarithm
    of 1 + that count.

    items: category, subcategory. text: (items, width) of length 1. histories: item indices by user. asked: user and
    item of each case.
    """
    category, subcategory = items["category"].to_list(), items["subcategory"].to_list()
    shared, near = np.zeros(len(asked)), np.zeros(len(asked))
    for number, (user, item) in enumerate(asked):
        past = histories[user]
        of_subcategory = sum(subcategory[i] == subcategory[item] for i in past if subcategory[i])
        of_category = sum(category[i] == category[item] for i in past if category[i])
        shared[number] = of_subcategory + of_category / 100
        near[number] = np.sort(text[list(past)] @ text[item])[::-1][:5].mean() if past else 0.0
    return {
        "shared subcategory": shared,
        "nearest texts": near,
        "nearest texts and shared subcategory": near + np.log1p(np.floor(shared)) / 10,
    }


def nearest(text: np.ndarray, last: int) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Scores (histories, items) of histories by the cosine of every item's text with the mean of their last items;
    text: (items, width) vectors of one length."""
    return lambda histories: np.stack([text[h[-last:]].mean(0) for h in histories]) @ text.T


def cold_ranks(
    score: Callable[[Sequence[np.ndarray]], np.ndarray],
    histories: Sequence[np.ndarray],
    targets: np.ndarray,
    cold: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (cases,) of targets by the scores after a history: in the whole catalogue without the history, and among
    the cold items alone.

    score: scores (histories, items). histories: item indices, oldest first. targets: (cases,). cold: (items,) bool.
    """
    whole, among = np.empty(len(targets), dtype=int), np.empty(len(targets), dtype=int)
    for start in range(0, len(targets), 512):
        part = slice(start, start + 512)
        every = score(histories[part])
        for n, (own, history, target) in enumerate(zip(every, histories[part], targets[part], strict=True), start):
            own[history] = -np.inf
            above = own > own[target]
            whole[n], among[n] = 1 + above.sum(), 1 + above[cold].sum()
    return whole, among
