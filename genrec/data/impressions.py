"""Impressions: rows that hold lists of what was shown and what was clicked, as a row per event."""

from collections.abc import Mapping

import polars as pl

from ..counting import counted
from ..errors import DataError
from .aliases import ALIASES, squeezed
from .parts import names_parts

COLUMNS = ("history", "shown", "clicked", "not_clicked")  # that `--column NAME=COLUMN` can name
NAMES: Mapping[str, tuple[str, ...]] = {  # in the form of `squeezed`
    "history": ("history", "clickhistory", "clickedhistory", "userhistory", "hist"),
    "shown": ("shown", "candidates", "impressions", "impression", "impressed", "displayed", "slate", "exposed"),
    "clicked": ("clicked", "clicks", "clickeditems", "positives"),
    "not_clicked": ("notclicked", "nonclicked", "unclicked", "skipped", "nonclicks", "negatives"),
}
OWN = ("impressionid", "impid", "requestid", "slateid")  # what an impression without a user is called by
BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")  # columns of MIND's behaviors.tsv
MARKED = r"^(\S+)-([01])$"  # an item with its click, as in MIND's behaviors.tsv: N55689-1
CLICK, SKIP, HISTORY = "click", "skip", "history"  # events; those of a history are known clicks of before


def as_events(frame: pl.DataFrame, file: str, mapping: Mapping[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """A table of impressions as one of events, with a note on how it was read; any other table as it is.

    Impressions have a column of what was shown, in which each item is marked as `N55689-1`, or one of what was clicked
    and one of what was shown or not clicked; and no item column. Their values are lists, or texts parted by spaces,
    commas or bars. `history`: clicks of before; the first impression of a user tells them. A row without a user is one
    of its own. mapping: column by name of COLUMNS, before any guess. Raises DataError if clicked items were not shown.
    """
    columns = found(frame, mapping)
    if not columns:
        return frame, []
    by_name = {squeezed(c): c for c in frame.columns}
    user = mapping.get("user_id") or next((by_name[a] for a in ALIASES["user_id"] if a in by_name), None)
    owner = user or next((by_name[a] for a in OWN if a in by_name), None)
    kept = [c for c in frame.columns if c not in (*columns.values(), owner)]
    lists = {name: listed(frame[column]) for name, column in columns.items()}
    if "shown" in lists and "clicked" not in lists:
        marks = lists["shown"].list.eval(pl.element().str.extract(MARKED, 2) == "1")
        items = lists["shown"].list.eval(pl.element().str.extract(MARKED, 1))
    else:
        items, marks = shown_and_clicked(lists, file)
    number = pl.int_range(frame.height, eager=True)
    ids = pl.Series([f"impression {n + 1}" for n in range(frame.height)]) if owner is None else frame[owner]
    base = pl.DataFrame([ids.cast(pl.String).alias("user_id"), number.alias("\0row")])
    base = base.hstack(frame.select(kept)) if kept else base
    shown = base.with_columns(items.alias("item_id"), marks.alias("\0clicked")).explode("item_id", "\0clicked")
    shown = shown.filter(pl.col("item_id").is_not_null()).with_columns(
        pl.when("\0clicked").then(pl.lit(CLICK)).otherwise(pl.lit(SKIP)).alias("event")
    )
    parts = [shown.drop("\0clicked").with_columns(pl.lit(1).alias("\0late"))]
    if "history" in lists:
        past = base.with_columns(lists["history"].alias("item_id"))
        if user is not None:
            past = past.unique("user_id", keep="first", maintain_order=True)
        past = past.explode("item_id").filter(pl.col("item_id").is_not_null())
        named = mapping.get("part") or next((by_name[a] for a in ALIASES["part"] if a in by_name), None)
        if named in past.columns and names_parts(past[named]):
            past = past.with_columns(pl.lit("train").alias(named))  # known before, also of a test
        parts.append(past.with_columns(pl.lit(HISTORY).alias("event"), pl.lit(0).alias("\0late")))
    events = pl.concat(parts, how="diagonal").sort("\0row", "\0late", maintain_order=True).drop("\0row", "\0late")
    said = ", ".join(f"{column} is {name}" for name, column in columns.items())
    clicks = int((events["event"] == CLICK).sum())
    note = (
        f"{file}: {counted(frame.height, 'impressions')} ({said}): {counted(clicks, 'clicks')} of "
        f"{counted(shown.height, 'items')} shown, {counted(events.height - shown.height, 'events')} of histories"
    )
    return events, [note]


def is_behaviors(frame: pl.DataFrame) -> bool:
    """Whether a table without a header has the columns of MIND's behaviors.tsv."""
    return frame.width == len(BEHAVIORS) and is_marked(frame[frame.columns[-1]])


def found(frame: pl.DataFrame, mapping: Mapping[str, str]) -> dict[str, str]:
    """The columns of impressions by name of COLUMNS; empty for any other table."""
    by_name = {squeezed(c): c for c in frame.columns}
    columns = {}
    for name in COLUMNS:
        column = mapping.get(name) or next((by_name[a] for a in NAMES[name] if a in by_name), None)
        if column in frame.columns:
            columns[name] = column
    given = any(name in mapping for name in COLUMNS)
    if not given and ("item_id" in mapping or any(a in by_name for a in ALIASES["item_id"])):
        return {}
    if "clicked" in columns and ("shown" in columns or "not_clicked" in columns):
        return {name: column for name, column in columns.items() if given or is_listed(frame[column])}
    shown = columns.get("shown")
    if shown is not None and is_marked(frame[shown]):
        return {name: column for name, column in columns.items() if name in ("history", "shown")}
    return {}


def is_listed(values: pl.Series) -> bool:
    """Whether a column holds lists, or texts of several ids."""
    return isinstance(values.dtype, pl.List) or values.dtype in (pl.String, pl.Null)


def is_marked(values: pl.Series) -> bool:
    """Whether every item of a column is marked by its click."""
    items = listed(values).explode().drop_nulls()
    return len(items) > 0 and bool(items.str.contains(MARKED).all())


def listed(values: pl.Series) -> pl.Series:
    """A column as lists of ids."""
    if isinstance(values.dtype, pl.List):
        return values.cast(pl.List(pl.String))
    return values.cast(pl.String).str.replace_all(r"[\[\]{}\"',;|]", " ").str.extract_all(r"\S+")


def shown_and_clicked(lists: Mapping[str, pl.Series], file: str) -> tuple[pl.Series, pl.Series]:
    """What each impression showed, and whether it was clicked; raises DataError for a click on what was not shown."""
    rows, marks = [], []
    clicked_lists = lists["clicked"].to_list()
    shown_lists = lists["shown"].to_list() if "shown" in lists else [None] * len(clicked_lists)
    not_clicked = lists["not_clicked"].to_list() if "not_clicked" in lists else [None] * len(clicked_lists)
    for number, (clicked, shown, others) in enumerate(zip(clicked_lists, shown_lists, not_clicked, strict=True), 1):
        clicks = set(clicked or [])
        every = list(shown) if shown is not None else [*(clicked or []), *(others or [])]
        if shown is not None and (missing := clicks - set(shown)):
            raise DataError(
                f"{file}: row {number}: {sorted(missing)[0]!r} was clicked and is not among the items shown; allowed: "
                "items of the same row"
            )
        rows.append(every)
        marks.append([item in clicks for item in every])
    return pl.Series(rows, dtype=pl.List(pl.String)), pl.Series(marks, dtype=pl.List(pl.Boolean))
