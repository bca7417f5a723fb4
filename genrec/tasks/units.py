"""Units of examples: events, moments, baskets or texts of a data set, with the columns that labels need."""

import re
import zlib
from collections.abc import Collection, Sequence
from typing import Literal

import polars as pl

from ..data.cuts import DAY
from ..data.dataset import Dataset, Part
from ..data.events import called
from ..errors import TaskError
from .numbers import round_scale

Unit = Literal["event", "user_time", "basket", "text"]

NEXT_EVENT = re.compile(r"next_(\w+)_days")
RETURNS = "returns_days"
SHARE = "rating_share"  # how far up its scale a rating is
SCHEMA: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "item_id": pl.String(),
    "timestamp": pl.Int64(),
    "event": pl.String(),
    "rating": pl.Float64(),
    SHARE: pl.Float64(),
    "review": pl.String(),
    "basket": pl.String(),
}


def is_lookahead(column: str) -> bool:
    """Whether the column looks ahead: `returns_days`, `next_<event>_days`."""
    return column == RETURNS or NEXT_EVENT.fullmatch(column) is not None


def unit_rows(
    dataset: Dataset,
    unit: Unit,
    part: Part | None = "train",
    columns: Collection[str] = (),
    horizon_days: int | None = None,
) -> pl.DataFrame:
    """The rows of a unit within one part of the split (None: all), in the order of the interactions.

    event: the interactions. user_time: the last event of each user and timestamp. basket: one row per user and basket
    (by timestamp if there are no baskets) with `item_ids` (List(String)). text: the interactions with a review, else
    the items with a title; `text` is that review or title.

    Those of `columns` that the unit lacks are added: columns of the items and the users, `returns_days` (until the
    user's next event at a later time) and `next_<event>_days` (until the user does this at a later time; in unit event,
    with the same item). Days are Float64, infinite if it does not happen before the part's cut-off. With
    `horizon_days`, rows whose horizon passes the cut-off are dropped. Looking ahead in a part that is not split by time
    raises TaskError.
    """
    rows = _in_part(dataset.interactions, part)
    if unit == "text":
        rows = _texts(dataset, part)
    elif unit == "user_time":
        rows = rows.unique(["user_id", "timestamp"], keep="last", maintain_order=True)
    elif unit == "basket":
        rows = _baskets(rows)
    ahead = [c for c in dict.fromkeys(columns) if is_lookahead(c) and c not in rows.columns]
    if ahead or horizon_days:
        rows = _look_ahead(rows, dataset, unit, part, ahead, horizon_days)
    return with_attributes(rows, dataset, columns)


def with_attributes(rows: pl.DataFrame, dataset: Dataset, columns: Collection[str]) -> pl.DataFrame:
    """The rows with those of `columns` that they lack: what the items or the users have, and `rating_share`, which is 0
    at the beginning of the scale of the training part's ratings (`round_scale`) and 1 at its end."""
    if SHARE in columns and "rating" in rows.columns:
        low, high = (
            _in_part(dataset.interactions, "train").select(pl.col("rating").min(), b=pl.col("rating").max()).row(0)
        )
        begin, end = (0.0, 1.0) if low is None else round_scale(low, high)
        rows = rows.with_columns(((pl.col("rating") - begin) / (end - begin)).alias(SHARE))
    for table, key in ((dataset.items, "item_id"), (dataset.users, "user_id")):
        extra = [c for c in dict.fromkeys(columns) if c in table.columns and c not in rows.columns]
        if extra and key in rows.columns and key in table.columns:
            rows = rows.join(table.select(key, *extra), on=key, how="left", maintain_order="left")
    return rows


def has_reviews(dataset: Dataset) -> bool:
    """Whether any interaction has a review."""
    frame = dataset.interactions
    return "review" in frame.columns and bool(frame.select(_is_filled("review").any()).item())


def _is_filled(column: str) -> pl.Expr:
    return (pl.col(column).str.strip_chars() != "").fill_null(False)


def _in_part(frame: pl.DataFrame, part: Part | None) -> pl.DataFrame:
    return frame if part is None or "part" not in frame.columns else frame.filter(pl.col("part") == part)


def _texts(dataset: Dataset, part: Part | None) -> pl.DataFrame:
    if has_reviews(dataset):
        return _in_part(dataset.interactions.filter(_is_filled("review")), part).with_columns(text=pl.col("review"))
    items = dataset.items.filter(_is_filled("title")).with_columns(text=pl.col("title"))
    # Items are not split: a stable hash of the id assigns a part (8 train : 1 valid : 1 test).
    parts = [("valid", "test")[h] if (h := zlib.crc32(i.encode()) % 10) < 2 else "train" for i in items["item_id"]]
    return _in_part(items.with_columns(part=pl.Series(parts, dtype=pl.String)), part)


def _baskets(rows: pl.DataFrame) -> pl.DataFrame:
    key = [c for c in ("user_id", "basket" if "basket" in rows.columns else "timestamp") if c in rows.columns]
    rest = [pl.col(c).first() for c in rows.columns if c not in key and c != "item_id"]
    return rows.group_by(key, maintain_order=True).agg(*rest, pl.col("item_id").alias("item_ids"))


def _look_ahead(
    rows: pl.DataFrame,
    dataset: Dataset,
    unit: Unit,
    part: Part | None,
    columns: Sequence[str],
    horizon_days: int | None,
) -> pl.DataFrame:
    events = dataset.interactions
    last = events.select(pl.col("timestamp").max()).item()
    end = 0 if last is None else last + 1
    if part is not None and "part" in events.columns:
        if not dataset.cutoffs:
            raise TaskError(f"looking ahead needs a split by time, not {dataset.split_method or 'this one'}")
        end = dict(dataset.cutoffs).get({"train": "valid", "valid": "test"}.get(part, ""), end)
        events = events.filter(pl.col("timestamp") < end)
    if horizon_days:
        rows = rows.filter(pl.col("timestamp") + horizon_days * DAY < end)
    for column in columns:
        match = NEXT_EVENT.fullmatch(column)
        by = ["user_id", "item_id"] if match and unit == "event" else ["user_id"]
        targets = events.filter(pl.col("event").is_in(called(match[1], events["event"].unique()))) if match else events
        later = targets.select(*by, pl.col("timestamp"), pl.col("timestamp").alias("__next")).sort("timestamp")
        days = (pl.col("__next") - pl.col("timestamp")) / DAY
        rows = (
            rows.with_row_index("__order")
            .sort("timestamp")
            .join_asof(
                later, on="timestamp", by=by, strategy="forward", allow_exact_matches=False, check_sortedness=False
            )
            .sort("__order")
            .with_columns(days.fill_null(float("inf")).alias(column))
            .drop("__order", "__next")
        )
    return rows
