"""Lists of an evaluation: ranking metrics, and what lists are made of."""

from typing import Any

import numpy as np

from ..evaluation import metrics
from ..rows.corpus import Corpus
from ..scoring.scorer import Scorer
from .bootstrap import mean_intervals
from .cases import as_json, rank_values
from .reading import LONGEST, Ranked

K = 10  # of lists whose make-up is measured
TENTHS = 10  # of the catalogue by popularity


def next_item_results(scorer: Scorer, corpus: Corpus, ranked: Ranked) -> dict[str, Any]:
    """Ranking metrics under both protocols, of warm and cold cases apart, and what the lists are made of."""
    assert corpus.events is not None
    train = corpus.training
    count = np.bincount(train.item[train.item >= 0], minlength=corpus.items.size)
    seen_users = {u for u, n in zip(train.users, np.diff(train.offsets), strict=True) if n > 0}
    cold_user = np.asarray([u not in seen_users for u in ranked.users])
    cold_item = np.asarray([bool((count[t] == 0).any()) for t in ranked.targets])
    found = mean_intervals(rank_values(ranked.seen_removed, ranked.seen_kept), ranked.users)
    values = metrics.ranking_values(ranked.seen_removed)
    groups = {"warm": ~cold_user & ~cold_item, "cold_user": cold_user, "cold_item": cold_item}
    apart = {}
    for name, mask in groups.items():
        if mask.any():
            users = [u for u, m in zip(ranked.users, mask, strict=True) if m]
            some = {k: values[k][mask] for k in ("hr@10", "ndcg@10", "mrr@10")}
            apart[name] = {"n": int(mask.sum()), "metrics": as_json(mean_intervals(some, users))}
    vectors = scorer.item_rows(corpus.dataset.name)[0].cpu().numpy()
    return {
        "n": len(ranked.users),
        "metrics": as_json(found),
        "lists": list_results(ranked.lists[:, :K], count, vectors),
        "coverage": [coverage(ranked.lists[:, :k], len(count)) for k in range(1, LONGEST + 1)],
        "popularity": popularity_shares(ranked, count),
        "groups": apart,
    }


def coverage(lists: np.ndarray, items: int) -> float:
    """Share of a catalogue in any of the lists (cases, k), -1 for no item."""
    return len(np.unique(lists[lists >= 0])) / max(items, 1)


def popularity_shares(ranked: Ranked, count: np.ndarray) -> dict[str, list[float]]:
    """How much of the training interactions, of the lists and of the held-out items falls on each tenth of the
    catalogue, the most popular items first."""
    order = np.argsort(-count, kind="stable")
    tenth = np.empty(len(count), dtype=np.int64)
    tenth[order] = np.arange(len(count)) * TENTHS // len(count)
    lists = ranked.lists[:, :K]
    items = {"train": np.repeat(np.arange(len(count)), count), "lists": lists[lists >= 0]}
    items["held_out"] = np.concatenate(ranked.targets)
    sums = {name: np.bincount(tenth[own], minlength=TENTHS) for name, own in items.items()}
    return {name: [float(v) for v in own / max(own.sum(), 1)] for name, own in sums.items()}


def list_results(lists: np.ndarray, count: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """What lists (cases, k) are made of, -1 for no item.

    coverage: share of the catalogue in any list. novelty: mean -log2 of an item's share of the training interactions
    (one is added to each count; Zhou et al. 2010). diversity: one minus the mean cosine of the item vectors (items,
    width) within a list (Ziegler et al. 2005). popularity_lift: mean training interactions of a listed item, over that
    of the interactions themselves: 1 where lists repeat what people take anyway (Abdollahpouri et al. 2019, in spirit).
    """
    shown = lists[lists >= 0]
    share = (count + 1) / (count + 1).sum()
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    diversity = []
    for own in lists:
        own = own[own >= 0]
        if len(own) > 1:
            mean = unit[own].sum(0)
            diversity.append(1 - (mean @ mean - len(own)) / (len(own) * (len(own) - 1)))
    usual = (count.astype(np.float64) ** 2).sum() / max(count.sum(), 1)
    return {
        f"coverage@{K}": coverage(lists, len(count)),
        f"novelty@{K}": float(-np.log2(share[shown]).mean()) if len(shown) else float("nan"),
        f"diversity@{K}": float(np.mean(diversity)) if diversity else float("nan"),
        f"popularity_lift@{K}": float(count[shown].mean() / usual) if usual and len(shown) else float("nan"),
    }
