"""Summary statistics of a data set, for `genrec data show`."""

from typing import Any

import polars as pl

from .dataset import Dataset


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts, columns with their missing values, density, tied timestamps and parts, as plain JSON values."""
    frame = dataset.interactions
    users = frame["user_id"].n_unique() if "user_id" in frame.columns else 0
    items = dataset.items.height
    tied = 0.0
    if "timestamp" in frame.columns and "user_id" in frame.columns:
        tied = float(frame.select(pl.struct("user_id", "timestamp").is_duplicated().mean()).item())
    return {
        "name": dataset.name,
        "licence": dataset.licence,
        "interactions": frame.height,
        "users": users,
        "items": items,
        "density": frame.height / (users * items) if users and items else None,
        "tied_timestamps": tied,
        "split": dataset.split_method,
        "parts": {p: n for p, n in sorted(frame["part"].value_counts().iter_rows())},
        "columns": {
            role: {c: {"type": str(t), "missing": table[c].null_count()} for c, t in table.schema.items()}
            for role, table in (("interactions", frame), ("items", dataset.items), ("users", dataset.users))
            if table.height
        },
        "notes": list(dataset.notes),
    }
