"""Ids that two files write differently: joined where it is safe, and said; else an error or a note that names them."""

import polars as pl

from ..counting import counted
from ..errors import DataError

EMPTY_DECIMALS = r"^-?\d+\.0+$"
WHOLE = r"^-?(?:0|[1-9]\d*)$"


def join_ids(
    key: str, interactions: pl.DataFrame, table: pl.DataFrame, labels: tuple[str, str]
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Interactions and a catalogue or users with the ids of one column alike, and notes.

    `123.0` is `123` only where all ids of one file have empty decimals, and all of the other are whole numbers.
    labels: of the two files. Raises DataError if no id of the table is one of the interactions.
    """
    frames = [interactions, table]
    ids = [frame[key].drop_nulls().unique(maintain_order=True) for frame in frames]
    if not all(len(i) for i in ids):
        return interactions, table, []
    notes: list[str] = []
    for one, other in ((0, 1), (1, 0)):
        if ids[one].str.contains(EMPTY_DECIMALS).all() and ids[other].str.contains(WHOLE).all():
            whole = ids[one].str.replace(r"\.0+$", "")
            if whole.n_unique() == len(whole):
                frames[one] = frames[one].with_columns(pl.col(key).str.replace(r"\.0+$", ""))
                notes.append(f"{labels[one]}: {key} {ids[one][0]} is {whole[0]}, as {labels[other]} writes it")
                ids[one] = whole
    apart = _nearly_equal(ids[0], ids[1])
    examples = "; ".join(f"{a!r} there, {b!r} here" for a, b in apart.head(3).iter_rows())
    if not ids[1].is_in(ids[0].implode()).any():
        hint = f"here {ids[1][0]!r}, there {ids[0][0]!r}"
        if apart.height:
            hint = f"{apart.height:,} differ only by leading zeros or empty decimals ({examples}): write them alike"
        raise DataError(f"{labels[1]}: no {key} in it is one of {labels[0]}; {hint}")
    if apart.height:
        notes.append(
            f"{labels[1]}: {counted(apart.height, f'{key}s differ')} from those of {labels[0]} only by leading zeros "
            f"or empty decimals and are not joined ({examples}): write them alike if they are the same"
        )
    return frames[0], frames[1], notes


def _nearly_equal(first: pl.Series, second: pl.Series) -> pl.DataFrame:
    """Pairs of ids without an equal in the other series that are the same number."""
    columns = [
        pl.DataFrame({"id": a.filter(~a.is_in(b.implode()))}).with_columns(
            pl.col("id").str.extract(r"^(-?)0*(\d+?)(?:\.0+)?$", 2).alias("number")
        )
        for a, b in ((first, second), (second, first))
    ]
    return columns[0].drop_nulls().join(columns[1].drop_nulls(), on="number", maintain_order="left").drop("number")
