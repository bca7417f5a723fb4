"""A data set with the items and events added after training, and the split of the later events."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ..errors import DataError
from .dataset import Dataset
from .events import alike, sign_of
from .load import fingerprint

HELD_OUT = 0.1  # share of the users with later events whose last event is validation; as many for test
COLUMNS = ("user_id", "item_id", "event", "rating", "timestamp", "review", "part")
LATEST = 2**62


def with_items(dataset: Dataset, added: Sequence[Mapping[str, object]]) -> Dataset:
    """The data set with items added to its catalogue (item_id and attributes); existing ones are unchanged."""
    item_ids = set(dataset.items["item_id"].to_list())
    rows = [{c: item.get(c) for c in dataset.items.columns} for item in added if item["item_id"] not in item_ids]
    return replace(dataset, items=pl.concat([dataset.items, pl.DataFrame(rows, schema=dataset.items.schema)]))


def later_events(dataset: Dataset, events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The events of a store that came after training, with their parts: user_id, item_id, event, rating, timestamp,
    review, part; if the data has times, an event without one has the time of its arrival.

    events: as `store.all_events`. The last event of a tenth of these users, drawn by seed, is validation, that of
    another tenth test. Raises DataError for items that the catalogue lacks.
    """
    later = events.filter(pl.col("part").is_null())
    unknown = later.filter(~pl.col("item_id").is_in(dataset.items["item_id"].implode()))["item_id"].unique().sort()
    if len(unknown):
        raise DataError(f"{dataset.name}: events on items that the catalogue lacks: {', '.join(unknown[:10])}")
    users = later["user_id"].unique(maintain_order=True)
    draw = np.random.default_rng([seed, 12]).random(len(users))
    part = np.where(draw < HELD_OUT, "valid", np.where(draw < 2 * HELD_OUT, "test", "train"))
    drawn = pl.DataFrame({"user_id": users, "_part": pl.Series(part, dtype=pl.String)})
    last = pl.int_range(pl.len()).over("user_id") == pl.len().over("user_id") - 1
    event_part = pl.when(last).then(pl.col("_part")).otherwise(pl.lit("train")).alias("part")
    return later.join(drawn, on="user_id", how="left", maintain_order="left").with_columns(event_part).select(COLUMNS)


def grown(dataset: Dataset, later: pl.DataFrame, learned_again: Sequence[str] = ()) -> Dataset:
    """The data set with later events appended.

    Its earlier events, held-out ones included, are history and no targets (`learned`); for the users in
    `learned_again` those of the training part are targets again. A later event takes the name of its kind in training;
    one that was not wanted and has none there is left out, with a note.
    """
    interactions = dataset.interactions
    train = interactions.filter(pl.col("part") == "train")
    last = int(interactions["row"].to_numpy().max()) if interactions.height else -1
    event_names = train["event"].value_counts().sort("count", "event", descending=[True, False])["event"].to_list()
    known: dict[str, str | None] = {}
    for name in later["event"].drop_nulls().unique().to_list():
        known[name] = alike(name, event_names, dataset.signs)
    unwanted = [n for n, word in known.items() if word is None and dataset.signs.get(n, sign_of(n)) != "positive"]
    wanted = [n for n in event_names if dataset.signs.get(n, sign_of(n)) == "positive"]
    commonest = next(iter(wanted + event_names), "interaction")
    event: pl.Expr = pl.col("event").replace_strict(known, default=None, return_dtype=pl.String)
    if "rating" in interactions.columns:  # the event that a rating counts as in this data
        events = train.drop_nulls("rating").group_by("rating").agg(pl.col("event").mode().sort().first()).sort("rating")
        rated = later.select("rating").with_row_index("_row").sort("rating", nulls_last=True)
        counted = rated.join_asof(events, on="rating", strategy="nearest").sort("_row")["event"]
        event = pl.when(pl.col("rating").is_not_null()).then(counted).otherwise(event)
    has_value = pl.col("rating").is_not_null() if "rating" in interactions.columns else pl.lit(False)
    is_unsaid = (pl.col("event").is_in(unwanted) & ~has_value).fill_null(False)
    notes = dataset.notes
    if unsaid := int(later.select(is_unsaid.sum()).item()):
        notes += (f"{unsaid:,} later events ({', '.join(sorted(unwanted))}) are left out: training had no such kind",)
    rows = later.filter(~is_unsaid).with_columns(
        event.fill_null(commonest).alias("event"),
        pl.int_range(last + 1, last + 1 + pl.len(), dtype=pl.UInt32).alias("row"),
        pl.lit(False).alias("learned"),
    )
    rows = rows.select(c for c in rows.columns if c in interactions.columns or c == "learned")
    is_target = pl.col("user_id").is_in(list(learned_again)) & (pl.col("part") == "train")
    earlier = interactions.with_columns((~is_target).alias("learned"), pl.lit("train").alias("part"))
    if "learned" in interactions.columns:
        earlier = earlier.with_columns((~is_target).alias("learned"))
    frame = pl.concat([earlier, rows], how="diagonal_relaxed").select(earlier.columns)
    users = frame["user_id"].unique(maintain_order=True)
    order = pl.DataFrame({"user_id": users}).with_row_index("_user")
    frame = frame.join(order, on="user_id", how="left", maintain_order="left")
    keys: list[pl.Expr] = [pl.col("_user")]
    if "timestamp" in frame.columns:
        undated = pl.when(pl.col("row") > last).then(LATEST).otherwise(-LATEST)
        keys.append(pl.col("timestamp").fill_null(undated))
    frame = frame.sort(*keys, "row").drop("_user")
    result = replace(dataset, interactions=frame, split_method="later", notes=notes, before_split=None)
    return replace(result, fingerprint=fingerprint(result))
