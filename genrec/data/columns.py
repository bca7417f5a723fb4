"""Columns of a file recognised by name, renamed and typed; missing ones reported."""

import difflib
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import polars as pl

from ..counting import counted
from ..errors import DataError, unknown_name
from .aliases import ALIASES, KINDS, RECURRING, plain, squeezed
from .events import names_events
from .lists import named_elements, parse_lists
from .numbers import Decimal, are_ratings
from .parts import names_parts
from .source import BadRows, Role
from .times import DateOrder, date_and_clock, has_dates_alone, looks_like_clocks, looks_like_times
from .values import ROW, SHOWN, cast_columns, unnamed_event

STANDARD_COLUMNS: dict[Role, tuple[str, ...]] = {
    "interactions": (
        *("user_id", "item_id", "timestamp", "rating", "event", "review"),
        *("basket", "title", "category", "part"),
    ),
    "items": ("item_id", "title", "category", "genre", "year"),
    "users": ("user_id",),
}
KEY: dict[Role, str] = {"items": "item_id", "users": "user_id"}
# Names of many meanings, which count if the values are such.
AMBIGUOUS = dict.fromkeys("partition fold subset dataset set usage 集合 划分 数据集".split(), names_parts)
AMBIGUOUS |= dict.fromkeys("feedback reaction interaction activity 操作 动作".split(), names_events)
KEYS = 0.5  # share of different ids from which on they are the keys of a table
AMBIGUOUS |= dict.fromkeys("note nota".split(), are_ratings)
HEADINGS = ("title", "name", "description")  # beside a review they head it and are not the item's title


def canonical(
    frame: pl.DataFrame,
    role: Role,
    file: str,
    *,
    mapping: Mapping[str, str] | None = None,
    title: str | None = None,
    bad_rows: BadRows = "error",
    date_order: DateOrder = "auto",
    decimal: Decimal = "auto",
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frame with standard names and types, and notes on what was recognised.

    mapping: standard name -> column of the file, before any guess. title: template that composes titles from columns.
    date_order, decimal: how dates and numbers are written, by default decided by all values of a column.
    Raises DataError for a missing item or user column, a duplicate id in a catalogue, and rows without an item, with a
    rating that is not a number or with an invalid timestamp. `bad_rows="skip"` drops and counts these rows.
    """
    try:
        return _canonical(frame, role, file, mapping or {}, title, bad_rows, date_order, decimal)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        allowed = "; allowed: numbers of 64 bits" if reason.startswith("conversion") else ""
        raise DataError(f"{file}: {reason}{allowed}") from error


def _canonical(
    frame: pl.DataFrame,
    role: Role,
    file: str,
    mapping: Mapping[str, str],
    title: str | None,
    bad_rows: BadRows,
    date_order: DateOrder,
    decimal: Decimal,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    frame, names = named_elements(frame)
    columns = recognise(frame, role, file, mapping)
    if "timestamp" in columns and "timestamp" not in mapping:
        frame, columns["timestamp"] = with_clock(frame, columns)
    renamed = [f"{c} is {s}" for s, c in columns.items() if plain(c) != s]
    notes = [f"{file}: {', '.join(renamed)}"] if renamed else []
    notes += [f"{file}: {note}" for note in names]
    notes += [
        f"{file}: there is no column {c!r} (--column {s}={c}), {columns[s]!r} is taken"
        for s, c in mapping.items()
        if s in columns and c not in frame.columns
    ]
    if title is not None and (role == "items" or (role == "interactions" and _has_fields(frame, title))):
        frame = frame.with_columns(title_expression(frame, title, file).alias("\0title"))
        columns["title"] = "\0title"
    if role == "interactions" and "event" not in columns:
        notes.append(f"{file}: no event column, every row counts as {unnamed_event([*columns])}")
    attributes, unused = others(frame, columns)
    if role == "interactions" and "timestamp" not in columns and "user_id" in columns:
        likely = next((c for _, c in attributes if looks_like_times(frame[c])), None)
        hint = "" if likely is None else f"; {likely} seems to hold times: --column timestamp={likely}"
        notes.append(f"{file}: no timestamp column, the rows are taken as in order of time{hint}")
    if unused:
        notes.append(f"{file}: {', '.join(unused)} not used: no text, number or list of these")
    table = frame.select(
        *(pl.col(c).alias(s) for s, c in columns.items()), *(pl.col(c).alias(s) for s, c in attributes)
    )
    table = table.with_row_index(ROW)
    table, values_notes, dropped = cast_columns(table, role, file, bad_rows, date_order, decimal)
    notes += values_notes
    if dropped:
        notes.append(f"{file}: {counted(dropped, 'rows with values that cannot be used were')} dropped")
    if role == "interactions":
        return table, tuple(notes)
    if role == "items" and "title" not in table.columns:
        table = table.with_columns(pl.lit(None, dtype=pl.String).alias("title"))
    return _catalogue(table, KEY[role], file, notes), tuple(notes)


def _catalogue(frame: pl.DataFrame, key: str, file: str, notes: list[str]) -> pl.DataFrame:
    """One row per id."""
    n_missing = frame[key].null_count()
    if n_missing:
        notes.append(f"{file}: {counted(n_missing, f'rows without {key} were')} dropped")
        frame = frame.filter(pl.col(key).is_not_null())
    repeated = frame.filter(pl.col(key).is_duplicated())
    if repeated.height:
        rows = repeated.group_by(key, maintain_order=True).agg(pl.col(ROW) + 1)
        examples = "; ".join(f"{i!r} in rows {', '.join(map(str, r[:SHOWN]))}" for i, r in rows.head(SHOWN).iter_rows())
        raise DataError(
            f"{file}: {counted(rows.height, f'{key}s occur')} more than once ({examples}); each may occur once"
        )
    return frame.drop(ROW)


def recognise(frame: pl.DataFrame, role: Role, file: str, mapping: Mapping[str, str]) -> dict[str, str]:
    """Standard name -> column of the file: by `mapping`, else the first alias that the file has."""
    columns = frame.columns
    column_of: dict[str, str] = {}
    for standard, column in mapping.items():
        if standard not in ALIASES:
            raise DataError(unknown_name("column meaning", standard, ALIASES, f"in --column {standard}={column}"))
        if standard in STANDARD_COLUMNS[role] and column in columns:
            check_type(frame, standard, column, file)
            column_of[standard] = column
    lists: dict[str, str] = {}  # columns recognised by name, but of list type
    by_name = _by_name(columns)
    for standard in STANDARD_COLUMNS[role]:
        names = ALIASES[standard]
        if standard == KEY.get(role):
            names = (*names, "id")  # of a catalogue itself
        if standard == "item_id" and role == "interactions":
            names = (*names, *KINDS)
        if standard == "genre" and PurePath(file).suffix == ".item":
            names = (*names, "class")  # RecBole's MovieLens files
        if standard == "title" and role == "interactions" and "item_id" not in column_of:
            continue
        for alias in names:
            candidate = by_name.get(alias)
            if standard in column_of or candidate is None or candidate in column_of.values():
                continue
            if alias in HEADINGS and role == "interactions" and "review" in column_of:
                continue
            if alias in RECURRING and role == "interactions" and not frame[candidate].is_duplicated().any():
                continue
            if alias in AMBIGUOUS and not AMBIGUOUS[alias](frame[candidate]):
                continue
            if isinstance(frame.schema[candidate], pl.List) and standard != "genre":
                lists[standard] = candidate
            elif standard != "category" or _single_valued(frame[candidate]):
                check_type(frame, standard, candidate, file)
                column_of[standard] = candidate
    # One --column option applies to all files, so a column that another file may have is no error here.
    elsewhere = ("title", "category") if role == "interactions" else ("category",)
    for standard, column in mapping.items():
        if standard in STANDARD_COLUMNS[role] and column not in columns and standard not in elsewhere:
            if standard in ("user_id", "item_id") and standard in column_of:
                continue
            raise DataError(f"{file}: " + unknown_name("column", column, columns, f"in --column {standard}={column}"))
    for required in (KEY[role],) if role in KEY else () if "review" in column_of else ("item_id", "user_id"):
        if required not in column_of:
            if required in lists:
                check_type(frame, required, lists[required], file)
            hint = "; a catalogue is given with --items, beside --interactions" if "title" in by_name else ""
            hint = hint if role == "interactions" and "item_id" in column_of else ""
            if len(columns) == 1:
                hint += "; if this is several columns, say with --delimiter what parts them"
            raise DataError(missing_column(required, columns, column_of, file) + hint)
    return {s: column_of[s] for s in STANDARD_COLUMNS[role] if s in column_of}


def role_by_columns(frame: pl.DataFrame, mapping: Mapping[str, str]) -> Role | None:
    """What a table of named columns holds: a user and an item make interactions; of one of them, hardly ever repeated,
    users or a catalogue, whose key may be an `id` beside a title, a category or genres."""
    by_name = _by_name(frame.columns)

    def column(standard: str) -> str | None:
        given = mapping.get(standard)
        return given if given in frame.columns else next((by_name[n] for n in ALIASES[standard] if n in by_name), None)

    user, item = column("user_id"), column("item_id")
    if user is not None:
        is_key = frame[user].n_unique() >= KEYS * frame.height
        kind = any(name in by_name for name in KINDS) and not is_key  # else a job, say, is the user's own
        return "interactions" if item is not None or kind else "users" if is_key else None
    if item is None and any(column(s) is not None for s in ("title", "category", "genre")):
        item = by_name.get("id")
    return "items" if item is not None and frame[item].n_unique() >= KEYS * frame.height else None


def fits(frame: pl.DataFrame, role: Role, mapping: Mapping[str, str]) -> bool:
    """Whether a table has the columns that its role needs."""
    try:
        recognise(frame, role, "", mapping)
    except DataError:
        return False
    return True


def with_clock(frame: pl.DataFrame, columns: Mapping[str, str]) -> tuple[pl.DataFrame, str]:
    """The frame and its column of times: a date and a time of the day in columns of their own become one, if both have
    names of times."""
    date: str | None
    clock: str | None
    date = column = columns["timestamp"]
    free = [c for c in frame.columns if c not in columns.values() and squeezed(c) in ALIASES["timestamp"]]
    clock = next((c for c in free if looks_like_clocks(frame[c])), None)
    if looks_like_clocks(frame[column]):
        date, clock = next((c for c in free if looks_like_times(frame[c])), None), column
    if date is None or clock is None or not has_dates_alone(frame[date]):
        return frame, column
    both = f"{date} with {clock}"
    return frame.with_columns(date_and_clock(frame[date], frame[clock]).alias(both)).drop(date, clock), both


def _by_name(columns: Sequence[str]) -> dict[str, str]:
    """Columns by their names in the form used to compare, those of structs by their last ones."""
    return _inner_fields(columns) | {squeezed(c): c for c in reversed(columns)}


def _inner_fields(columns: Sequence[str]) -> dict[str, str]:
    """Fields of structs such as `data.user_id` by their last name: all of a struct that has the user and the item, else
    ids that no other field is called as."""
    last_names = [(squeezed(column.rpartition(".")[2]), column) for column in columns if "." in column]
    counts = Counter(name for name, _ in last_names)
    ids = {*ALIASES["user_id"], *ALIASES["item_id"]}
    found = {name: column for name, column in last_names if name in ids and counts[name] == 1}
    structs = {found[name].rpartition(".")[0] for name in found if name in ALIASES["user_id"]}
    structs &= {found[name].rpartition(".")[0] for name in found if name in ALIASES["item_id"]}
    return {name: column for name, column in last_names if column.rpartition(".")[0] in structs} | found


def check_type(frame: pl.DataFrame, standard: str, column: str, file: str) -> None:
    """Raises DataError if a column's type does not fit its standard name."""
    dtype = frame.schema[column]
    if unusable(innermost(dtype) if standard == "genre" else dtype):
        raise DataError(
            f"{file}: column {column!r} is {standard} and holds {dtype}; allowed: text, numbers or times. "
            f"Another column: --column {standard}=NAME"
        )


def unusable(dtype: pl.DataType) -> bool:
    """Whether a type holds neither text nor numbers."""
    return dtype.is_nested() or dtype in (pl.Binary, pl.Duration, pl.Object)


def innermost(dtype: pl.DataType) -> pl.DataType:
    """The element type of nested lists; any other type itself."""
    while isinstance(dtype, pl.List):
        assert isinstance(dtype.inner, pl.DataType)
        dtype = dtype.inner
    return dtype


def _single_valued(values: pl.Series) -> bool:
    if values.dtype != pl.String:
        return not values.dtype.is_nested()
    if values.str.contains("|", literal=True).any():
        return False
    lists, _ = parse_lists(values.str.strip_chars().alias(plain(values.name)))
    return lists is None or not (lists.list.len() > 1).any()


def others(frame: pl.DataFrame, columns: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(name, column of the file) of the columns without a standard name, and the columns that cannot be attributes."""
    names_in_use = {*columns, ROW}
    attributes: list[tuple[str, str]] = []
    unused: list[str] = []
    for column, dtype in frame.schema.items():
        if column in columns.values():
            continue
        if unusable(innermost(dtype)) or dtype == pl.Null:
            unused.append(column)
            continue
        base = plain(column) or "column"
        if base == "title" and "review" in columns:
            base = "heading"  # of the review
        # A list must not take the standard name of a text or a number.
        not_ours = {*ALIASES} - {"category", "genre"} if dtype == pl.List else set()
        names = (base, *(f"{base}_{i}" for i in range(2, len(frame.columns) + 3)))
        name = next(n for n in names if n not in names_in_use and n not in not_ours)
        names_in_use.add(name)
        attributes.append((name, column))
    return attributes, unused


def missing_column(standard: str, columns: list[str], column_of: Mapping[str, str], file: str) -> str:
    """`FILE has no item_id column. It has: a, b. The nearest name is 'b'. ...`"""
    free = [c for c in columns if c not in column_of.values()]
    likeness = {
        c: max(difflib.SequenceMatcher(None, squeezed(c), alias).ratio() for alias in ALIASES[standard]) for c in free
    }
    best = max(likeness, key=lambda c: likeness[c], default=None)
    nearest = best if best is not None and likeness[best] >= 0.6 else None
    hint = f" The nearest name is {nearest!r}." if nearest else ""
    return (
        f"{file} has no {standard} column. It has: {', '.join(columns)}.{hint} "
        f"Say which it is with --column {standard}={nearest or 'NAME'}"
    )


def _fields(template: str) -> list[tuple[str, str | None]]:
    """The texts of a title template, each with the column that follows it."""
    try:
        fields = [(literal, name) for literal, name, _, _ in string.Formatter().parse(template)]
    except ValueError as error:
        raise DataError(f"--title {template!r} cannot be read ({error}); write a column as {{name}}") from error
    if all(name is None for _, name in fields):
        raise DataError(f"--title {template!r} names no column; write a column as {{name}}")
    return fields


def _has_fields(frame: pl.DataFrame, template: str) -> bool:
    return all(name in (None, *frame.columns) for _, name in _fields(template))


def title_expression(frame: pl.DataFrame, template: str, file: str) -> pl.Expr:
    """A title from other columns; missing values leave no gap."""
    parts = []
    for literal, name in _fields(template):
        if literal:
            parts.append(pl.lit(literal))
        if name is not None:
            if name not in frame.columns:
                raise DataError(f"{file}: " + unknown_name("column", name, frame.columns, f"in --title {template!r}"))
            if unusable(frame.schema[name]):
                raise DataError(
                    f"{file}: column {name!r} in --title {template!r} holds {frame.schema[name]}; "
                    "allowed: text, numbers or times"
                )
            parts.append(pl.col(name).cast(pl.String).fill_null(""))
    return pl.concat_str(parts).str.replace_all(r"\s+", " ").str.strip_chars()
