"""A few held-out cases as people see them: history, list, the right answer, and why."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ..data.dataset import Part
from ..progress import Stage
from ..rows.arrays import Events
from ..rows.corpus import Corpus
from ..run.loaded import Loaded
from ..scoring.occlusion import occlusion
from .held_out import HeldOut, first_targets, held_out, history_row, last_window
from .metrics import target_ranks

EXAMPLES = 12
K = 10  # length of an example's list
SHOWN = 10  # latest interactions of an example's history
REASONS = 2  # per item


def examples(loaded: Loaded, corpus: Corpus, part: Part, seed: int, progress: Stage) -> list[dict[str, Any]]:
    """Up to EXAMPLES cases of next_item, drawn by seed, read as the served phrasing is (docs/json.md, `examples`).

    Where a user's baskets repeat items, those seen before may be listed. progress: called with examples done and in
    all.
    """
    if corpus.events is None or all(t.name != "next_item" for t in corpus.tasks):
        return []
    held = held_out(corpus.events, part)
    users = np.asarray([u for u in range(len(held.visible.users)) if len(first_targets(held, u))])
    drawn = np.random.default_rng([seed, 21]).permutation(users)[:EXAMPLES].tolist()
    cases = []
    for n, user in enumerate(drawn, start=1):
        cases.append(example(loaded, corpus, held, user))
        progress(n, len(drawn))
    return cases


def example(loaded: Loaded, corpus: Corpus, held: HeldOut, user: int) -> dict[str, Any]:
    """One user's held-out case."""
    scorer, manifest, name = loaded.scorer, loaded.manifest, corpus.dataset.name
    lo, hi = last_window(held.visible, user, manifest.max_events)
    begin = int(held.visible.offsets[user])
    positions, history_items, wanted = np.arange(lo, hi), held.visible.item[begin:hi], held.visible.wanted[begin:hi]

    def scores_without(left_out: Sequence[Sequence[int]]) -> np.ndarray:
        histories = [events_at(held.visible, user, np.delete(positions, list(without))) for without in left_out]
        states = scorer.states([history_row(corpus, events, 0, manifest.max_events, [], 1) for events in histories])
        item_histories = [np.concatenate([wanted[: lo - begin], events.wanted]) for events in histories]
        return scorer.item_scores(states, name, item_histories).double().cpu().numpy()[:, listed]

    seen = np.unique(history_items[history_items >= 0])
    repeats = "basket" in corpus.dataset.interactions.columns
    excluded = seen[:0] if repeats else seen
    temperature = float(manifest.calibration.get(f"{name}/next_item", {}).get("temperature", 1.0))
    states = scorer.states([history_row(corpus, held.visible, user, manifest.max_events, [], 1)])
    (ranking,) = scorer.rank(states, name, K, [excluded], [wanted], temperature=temperature)
    scores = scorer.item_scores(states, name, [wanted])[0].double().cpu().numpy()
    scores[excluded] = -np.inf
    targets = first_targets(held, user)
    listed = ranking.index.tolist()
    effects = occlusion(len(positions), scores_without)
    names = corpus.dataset.items.select("item_id", "title").to_dicts()
    items = []
    for index, item in enumerate(listed):
        by_effect = sorted(
            ((float(e[index]), int(held.visible.item[positions[n]])) for n, e in effects.items()), reverse=True
        )
        strongest: dict[int, float] = {}  # an item may have been taken more than once
        for effect, cause in by_effect:
            if effect > 0 and cause >= 0:
                strongest.setdefault(cause, effect)
        reasons = [{**names[cause], "effect": effect} for cause, effect in list(strongest.items())[:REASONS]]
        entry = {"rank": index + 1, **names[item], "score": float(ranking.score[index])}
        probability = float(ranking.probability[index])
        items.append(entry | {"probability": probability, "right": bool(item in targets), "reasons": reasons})
    ranks = target_ranks(scores, targets)
    return {
        "user_id": held.visible.users[user],
        "interactions": len(history_items),
        "history": history(corpus, held.visible.source[positions[-SHOWN:]]),
        "seen": "kept" if repeats else "removed",
        "right": [
            {**names[item], "rank": int(rank), "seen_before": bool(item in seen)}
            for item, rank in zip(targets.tolist(), ranks, strict=True)
        ],
        "items": items,
    }


def events_at(events: Events, user: int, positions: np.ndarray) -> Events:
    """Some of one user's events, as the events of a data set of one user."""
    arrays = {name: array[positions] for name, array in events.arrays.items()}
    ends = np.asarray([0, len(positions)])
    return replace(events, users=(events.users[user],), offsets=ends, labels={}, where={}, **arrays)


def history(corpus: Corpus, rows: np.ndarray) -> list[dict[str, Any]]:
    """Interactions by file row, in the order given: item_id, title, event, rating."""
    frame = pl.DataFrame({"row": rows.astype(np.uint32)}).join(corpus.dataset.interactions, on="row", how="left")
    frame = frame.join(corpus.dataset.items.select("item_id", "title"), on="item_id", how="left", maintain_order="left")
    rating = "rating" if "rating" in frame.columns else pl.lit(None, pl.Float64).alias("rating")
    return frame.select("item_id", "title", "event", rating).to_dicts()
