"""Ids as a caller writes them: in a word, in a list, in a column of a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..ids import as_id


def split_ids(value: str) -> tuple[str, ...]:
    """`1,2,3` as ids."""
    return tuple(as_id(i) for i in value.split(",") if i.strip())


def read_ids(path: Path, needed: Sequence[str], wanted: Sequence[str] | None = None) -> list[Any]:
    """Columns of a file (default: those needed) by their usual names; None for one that it lacks.

    Ids are read as in the data room. Raises DataError for a needed column that is not there, and a row without an id.
    """
    from ..data.aliases import ALIASES, squeezed
    from ..data.columns import missing_column
    from ..data.files import read_table
    from ..data.values import IDS, as_id

    read = read_table(path)
    table = read.frame
    if not read.named and table.width == len(wanted or needed):
        table = table.rename(dict(zip(table.columns, wanted or needed, strict=True)))
    by_name = {squeezed(c): c for c in reversed(table.columns)}
    columns: list[Any] = []
    for column in wanted or needed:
        name = next((by_name[a] for a in ALIASES[column] if a in by_name), None)
        if name is None:
            if column in needed:
                raise DataError(missing_column(column, table.columns, {}, str(path)))
            columns.append(None)
            continue
        values = as_id(table[name]) if column in IDS else table[name]
        if values.null_count():
            row = int(values.is_null().arg_max() or 0) + 1
            raise DataError(f"{path}: row {row} has no {name}; every row needs one")
        columns.append([str(v) for v in values.to_list()])
    return columns
