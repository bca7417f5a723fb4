"""Lists of an evaluation: ranking metrics, coverage, novelty, diversity and popularity."""

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
    """Ranking metrics under both protocols, of warm and cold cases apart, and the make-up of the lists."""
    assert corpus.events is not None
    train = corpus.training
    count = corpus.item_counts
    seen_users = {u for u, n in zip(train.users, np.diff(train.offsets), strict=True) if n > 0}
    cold_user = np.asarray([u not in seen_users for u in ranked.users])
    cold_item = np.asarray([bool((count[t] == 0).any()) for t in ranked.targets])
    intervals = mean_intervals(rank_values(ranked.seen_removed, ranked.seen_kept), ranked.users)
    values = metrics.ranking_values(ranked.seen_removed)
    groups = {"warm": ~cold_user & ~cold_item, "cold_user": cold_user, "cold_item": cold_item}
    apart = {}
    for name, mask in groups.items():
        if mask.any():
            users = [u for u, m in zip(ranked.users, mask, strict=True) if m]
            subset = {k: values[k][mask] for k in ("hr@10", "ndcg@10", "mrr@10")}
            apart[name] = {"n": int(mask.sum()), "metrics": as_json(mean_intervals(subset, users))}
    vectors = scorer.item_rows(corpus.dataset.name)[0].cpu().numpy()
    return {
        "n": len(ranked.users),
        "metrics": as_json(intervals),
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
    sums = {name: np.bincount(tenth[index], minlength=TENTHS) for name, index in items.items()}
    return {name: [float(v) for v in counts / max(counts.sum(), 1)] for name, counts in sums.items()}


def list_results(lists: np.ndarray, count: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """Make-up of lists (cases, k), -1 for no item.

    coverage: share of the catalogue in any list. novelty: mean -log2 of an item's share of the training interactions
    (one is added to each count; Zhou et al. 2010). diversity: one minus the mean cosine of the item vectors (items,
    width) within a list (Ziegler et al. 2005). popularity_lift: mean training interactions of a listed item, over that
    of the interactions themselves: 1 if lists repeat the items that people take anyway (Abdollahpouri et al. 2019, in
    spirit).
    """
    listed = lists[lists >= 0]
    share = (count + 1) / (count + 1).sum()
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    diversity = []
    for items in lists:
        items = items[items >= 0]
        if len(items) > 1:
            mean = unit[items].sum(0)
            diversity.append(1 - (mean @ mean - len(items)) / (len(items) * (len(items) - 1)))
    usual = (count.astype(np.float64) ** 2).sum() / max(count.sum(), 1)
    return {
        f"coverage@{K}": coverage(lists, len(count)),
        f"novelty@{K}": float(-np.log2(share[listed]).mean()) if len(listed) else float("nan"),
        f"diversity@{K}": float(np.mean(diversity)) if diversity else float("nan"),
        f"popularity_lift@{K}": float(count[listed].mean() / usual) if usual and len(listed) else float("nan"),
    }
