"""Conditions on the columns of a catalogue."""

import numpy as np
import polars as pl

from ..errors import DataError


def where_mask(items: pl.DataFrame, where: str | pl.Expr) -> np.ndarray:
    """Mask (items,) of a condition: untrusted SQL, or an expression made by genrec. On a list column `=`, `<>` and `in`
    test for elements of the list. Null never meets a condition."""
    from .. import sql

    quoted = sql.shorten(where) if isinstance(where, str) else "EXPRESSION"
    try:
        series = sql.evaluate(where, items)
    except DataError as error:
        raise DataError(f"--where {quoted}: {error}") from error
    if series.dtype != pl.Boolean:
        raise DataError(f"--where {quoted} gives {series.dtype} values, not true or false")
    return series.fill_null(False).to_numpy()
