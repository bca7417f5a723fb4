"""Ids of any plain type as text: a whole number is its digits, columns of any frame library are lists of ids."""

import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, SupportsInt
from uuid import UUID

from .errors import DataError
from .files import shown

Id = str | SupportsInt  # of a user or an item, as callers may give it: 42, numpy's 42, "42"
Ids = Any  # one id, or several in a list, an array or a column of a frame
SCALARS = (str, bytes, Real, Decimal, UUID)  # one value, whatever can be done with it
LIMIT = 2**63  # of fractions that are whole numbers: beyond, digits are made up


def as_id(value: object, what: str = "id") -> str:
    """One id as the data room writes it: text is trimmed, in Unicode's composed form; `130`, `130.0` and numpy's 130
    are `130`. what: its name in messages. Raises DataError for anything else: booleans, nothing, fractions, lists."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            raise DataError(f"{what} is {shown(value)}: an empty text is no id")
        return text if text.isascii() else unicodedata.normalize("NFC", text)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (Real, Decimal)) and not isinstance(value, bool):
        number = float(value)
        if abs(number) < LIMIT and number.is_integer():
            return str(int(number))
    raise DataError(f"{what} is {shown(value)}: an id is a text or a whole number")


def as_ids(values: Any, what: str = "id") -> list[str]:
    """One id, or several in a list, an array or a column of pandas, polars or pyarrow, as texts; raises DataError
    naming the place and the value of one that is none."""
    if isinstance(values, SCALARS):
        return [as_id(values, what)]
    return [as_id(value, f"{what} {n}") for n, value in enumerate(as_values(values, what), 1)]


def as_values(values: Any, what: str) -> list[Any]:
    """The values of a list, an array, or a column of pandas, polars or pyarrow as Python's own; raises DataError for
    what is none of these."""
    if isinstance(values, (list, tuple)):
        return list(values)
    if hasattr(values, "columns"):
        raise DataError(f"{what} is a table: give the column of it that holds the ids, as frame['user_id']")
    for method in ("to_list", "to_pylist", "tolist"):  # of polars and pandas, of pyarrow, of numpy
        if callable(convert := getattr(values, method, None)):
            column = convert()
            if isinstance(column, list):
                return column
            return [column]  # an array without a dimension
    if isinstance(values, Iterable) and not isinstance(values, Mapping):
        return list(values)
    raise DataError(f"{what} is {shown(values)}: an id is needed, or a list or column of ids")


def as_texts(values: Any) -> list[str] | None:
    """One text, or several in a list, an array or a column; raises DataError naming the place of what is none."""
    if values is None or isinstance(values, str):
        return None if values is None else [values]
    texts = as_values(values, "texts")
    for n, text in enumerate(texts, 1):
        if text is not None and not isinstance(text, str):
            raise DataError(f"texts {n} is {shown(text)}: a text is needed")
    return texts
