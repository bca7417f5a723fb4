"""Lists by the words of items alone: those whose texts are most like the ones of a history."""

import time
from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from ..evaluation import metrics
from ..evaluation.reading import LONGEST
from ..model.item_texts import item_texts
from .cases import Lists, list_ranks
from .models import Predicted

LAST = (1, 2, 5, 10, 1_000_000)  # items of a history that count, of which validation chooses
AT_ONCE = 256  # histories scored at a time


def has_texts(items: pl.DataFrame) -> bool:
    """Whether a catalogue has any words."""
    return any(any(c.isalnum() for c in text) for text in item_texts(items))


def text_lists(
    items: pl.DataFrame, popular: np.ndarray, valid: Lists, cases: Lists, criterion: str, protocols: Sequence[str]
) -> Predicted:
    """Lists by the cosine of TF-IDF vectors of the items' titles and attributes with the mean of the history's last
    ones; equal scores go by popularity.

    popular: the catalogue, the most frequent item first. criterion: the protocol of the NDCG@10 on validation by which
    the number of last items is chosen.
    """
    start = time.perf_counter()
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+").fit_transform(item_texts(items)).tocsr()
    vectors = vectors[popular].astype(np.float32)
    place = np.argsort(popular)  # of an item among the popular ones

    def lists(of: Lists, last: int, removed: bool) -> np.ndarray:
        found = np.full((len(of.users), LONGEST), -1, dtype=np.int64)
        known = dict(of.known.sort("case", "place").group_by("case", maintain_order=True).agg("item").iter_rows())
        for first in range(0, len(of.users), AT_ONCE):
            part = range(first, min(first + AT_ONCE, len(of.users)))
            recent = [place[known.get(n, [])[-last:]] for n in part]
            sizes = [len(r) for r in recent]
            row, column = np.repeat(np.arange(len(part)), sizes), np.concatenate([np.zeros(0, np.int64), *recent])
            share = np.repeat([1 / max(n, 1) for n in sizes], sizes).astype(np.float32)
            mean = sparse.csr_array((share, (row, column)), shape=(len(part), vectors.shape[0])) @ vectors
            for n, scores in zip(part, (mean @ vectors.T).toarray(), strict=True):
                if removed:
                    scores[place[of.seen[n]]] = -np.inf
                best = np.argsort(-scores, kind="stable")[:LONGEST]
                best = best[np.isfinite(scores[best])]
                found[n, : len(best)] = popular[best]
        return found

    def quality(last: int) -> float:
        ranks = list_ranks(lists(valid, last, criterion == "removed"), valid.targets, len(popular))
        return float(metrics.ranking_metrics(ranks)["ndcg@10"])

    found = {last: quality(last) for last in LAST}
    best = max(found, key=lambda last: found[last])
    trained = time.perf_counter() - start
    start = time.perf_counter()
    arrays = {protocol: lists(cases, best, protocol == "removed") for protocol in protocols}
    settings = {"last items": best if best < LAST[-1] else "all"}
    seconds = (time.perf_counter() - start) / len(arrays)
    return Predicted(settings, len(LAST), trained, seconds, {"ndcg@10": found[best]}, arrays)
