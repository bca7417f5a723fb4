"""Why an item is in a list."""

from typing import Any

import polars as pl

from ...recommender import Recommender
from .forms import Reason
from .query import ListQuery


def reasons_of(
    recommender: Recommender, query: ListQuery, frame: pl.DataFrame, strategy: str, explain: bool | str
) -> dict[str, list[Reason]]:
    """The reasons of each item of a list: that it is popular, like the items asked for, like one of the history
    (`explain` true), or without which event it would score lower (`measured`)."""
    ids = frame["item_id"].to_list()
    reasons: dict[str, list[Reason]] = {i: [] for i in ids}
    if strategy == "popular":
        for i in ids:
            reasons[i].append(Reason(code="popular", text="popular, since nothing is known of the user"))
    if query.like:
        titles = recommender.titles(query.like, query.dataset)
        names = [title or i for title, i in zip(titles, query.like, strict=True)]
        for i in ids:
            reasons[i].append(Reason(code="similar_to", text=f"like {', '.join(names)}"))
    if strategy == "model" and explain is True:
        add_similar(recommender, query, reasons)
    elif strategy == "model" and explain == "measured" and ids:
        add_measured(recommender, query, reasons)
    return reasons


def add_similar(recommender: Recommender, query: ListQuery, reasons: dict[str, list[Reason]]) -> None:
    """Add to each item the one of the history that it is most like."""
    if query.history is not None:
        past = query.history["item_id"].to_list()
    else:
        known = query.user if query.is_known else None
        past = [] if known is None else recommender.favoured(known, query.dataset)["item_id"].to_list()
    nearest = recommender.relatives(list(reasons), past, query.dataset)
    titles = recommender.titles([n or "" for n in nearest], query.dataset)
    for item, near, title in zip(reasons, nearest, titles, strict=True):
        if near is not None:
            reasons[item].append(Reason(code="similar_to", text=f"like {title or near}", item_id=near))


def add_measured(recommender: Recommender, query: ListQuery, reasons: dict[str, list[Reason]]) -> None:
    """Add to each item the events of the history without which it would score lower."""
    past: dict[str, Any] = {"user": query.user}
    if query.user is None or query.history is not None:
        past = {"history": [] if query.history is None else query.history["item_id"].to_list()}
    for row in recommender.explain(list(reasons), dataset=query.dataset, **past).frame.iter_rows(named=True):
        title = row["reason_title"] or row["reason_item_id"]
        reason = Reason(
            code="because_of", text=f"because of {title}", item_id=row["reason_item_id"], effect=row["effect"]
        )
        reasons[row["item_id"]].append(reason)
