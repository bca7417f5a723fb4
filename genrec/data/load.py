"""Load raw files or a named data set as a checked, cleaned and split Dataset."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import polars as pl

from ..errors import DataError
from .attributes import with_item_attributes
from .cleaning import clean, fill_after_split
from .columns import KEY, STANDARD_COLUMNS, canonical, title_expression
from .dataset import Dataset
from .events import called, event_options, signs_note, signs_of, with_opinions
from .fetch import cache_folder
from .folder import roles_in
from .impressions import BEHAVIORS, as_events, is_behaviors
from .impressions import COLUMNS as IMPRESSIONS
from .joined import join_ids
from .named import DATASETS, Raw, load_raw
from .numbers import Decimal
from .source import Files, Frame, Header, Reading, Role, Source, display_name, is_url, source_name
from .splits import LASTS, Method, split
from .tables import read_source
from .times import DateOrder
from .unnamed import with_meanings

ROLES: tuple[Role, ...] = ("interactions", "items", "users")
MIN_SHARED = 0.2  # share of purchases with their user's timestamp in common, from which on these are baskets


@dataclass(frozen=True)
class DataOptions:
    """How a data set is read, cleaned and split; see the options of `genrec finetune`."""

    interactions: Source | None = None
    items: Source | None = None
    users: Source | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    title: str | None = None
    date_order: DateOrder = "auto"
    decimal: Decimal = "auto"
    events: Mapping[str, str] = field(default_factory=dict)
    bad_rows: Literal["error", "skip"] = "error"
    delimiter: tuple[str, ...] = ()
    encoding: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    duplicates: Literal["keep", "drop"] = "keep"
    k_core: int = 0
    split: Method = "auto"
    folds: int = 5
    fold: int = 0
    days: int = LASTS
    shares: str | None = None
    valid_from: str | None = None
    test_from: str | None = None
    seed: int = 0
    cut: bool = False


def load_dataset(name: str | None, options: DataOptions | None = None) -> Dataset:
    """A named data set, or the caller's files or tables if `name` is None.

    Raises DataError for files that cannot be used, UnknownNameError for a name, UnavailableError if a download fails.
    """
    options = options or DataOptions()
    own = name is None
    if name is None:
        if options.interactions is None:
            raise DataError("no interactions: give a file or a URL")
        raw, name, licence = read_files(options), source_name(options.interactions), None
    else:
        raw = load_raw(name, cache_folder(), cut=options.cut, seed=options.seed)
        licence = DATASETS[name].licence
    interactions, items, users, notes = clean(
        raw.interactions,
        raw.items,
        raw.users,
        missing=options.missing,
        duplicates=options.duplicates,
        k_core=options.k_core,
    )
    if own:
        interactions, items, moved = with_item_attributes(interactions, items, options.missing)
        notes += moved
    interactions, opinion_notes = with_opinions(interactions)
    interactions, extra_notes = add_baskets(interactions)
    signs = signs_of(interactions, options.events)
    notes = (*raw.notes, *notes, *opinion_notes, *signs_note(signs, interactions, options.events), *extra_notes)
    dataset = Dataset(name, interactions, items, users, notes, licence, signs=signs)
    return split_as(dataset, options)


def split_as(dataset: Dataset, options: DataOptions) -> Dataset:
    """A cleaned data set as the options split it, with the gaps that are filled from the training part."""
    before = dataset
    dataset = split(
        dataset,
        options.split,
        seed=options.seed,
        folds=options.folds,
        fold=options.fold,
        days=options.days,
        shares=options.shares,
        valid_from=options.valid_from,
        test_from=options.test_from,
    )
    interactions, extra_notes = fill_after_split(dataset.interactions, options.missing)
    notes = (*dataset.notes, *extra_notes)
    dataset = replace(dataset, interactions=interactions, notes=notes, before_split=before)
    digest = fingerprint(dataset)
    if given := sorted(event_options(options.events).items()):
        digest = hashlib.sha256(repr((digest, given)).encode()).hexdigest()[:32]
    return replace(dataset, fingerprint=digest)


def read_files(options: DataOptions) -> Raw:
    """The caller's own files or tables with standard names and types."""
    options, notes = with_files_of_folder(options)
    frames: dict[str, pl.DataFrame] = {}
    columns_of: list[tuple[tuple[str, ...], Mapping[str, str], list[str]]] = []  # what a file may have, is said to, has
    for role in ROLES:
        source: Source | None = getattr(options, role)
        if source is None:
            continue
        source_table = read_source(source, _reading(options, role))
        table, label, columns = source_table.frame, display_name(source), options.columns
        notes += source_table.notes
        if not source_table.named and role == "interactions" and is_behaviors(table):
            table = table.rename(dict(zip(table.columns, BEHAVIORS, strict=True)))
        elif not source_table.named:
            table, columns = with_meanings(table, role, columns, label)
            notes.append(f"{label}: no header, its columns are taken by place and values (--column NAME=NUMBER)")
        there = table.columns
        if role == "interactions":
            table, impression_notes = as_events(table, label, columns)
            notes += impression_notes
        if role == "interactions" and options.title is not None and options.items is None:
            title_expression(table, options.title, label)  # raises if a column is missing
        frame, recognised = canonical(
            table,
            role,
            label,
            mapping={name: column for name, column in columns.items() if name not in IMPRESSIONS},
            title=options.title,
            bad_rows=options.bad_rows,
            date_order=options.date_order,
            decimal=options.decimal,
        )
        frames[role] = frame
        notes += recognised
        known = (*STANDARD_COLUMNS[role], *(IMPRESSIONS if role == "interactions" else ()))
        columns_of.append((known, {**options.columns, **columns}, there))
    for standard, column in options.columns.items():
        if not any(standard in names and given.get(standard) in there for names, given, there in columns_of):
            raise DataError(f"--column {standard}={column} changes nothing: no file has such a {column}")
    interactions = frames["interactions"]
    for role, key in KEY.items():
        if role in frames and key in interactions.columns:
            labels = display_name(options.interactions or ""), display_name(getattr(options, role))
            interactions, frames[role], joined = join_ids(key, interactions, frames[role], labels)
            notes += joined
    items = frames.get("items", pl.DataFrame(schema={"item_id": pl.String, "title": pl.String}))
    users = frames.get("users", pl.DataFrame(schema={"user_id": pl.String}))
    return Raw(interactions, items, users, tuple(notes))


def with_files_of_folder(options: DataOptions) -> tuple[DataOptions, list[str]]:
    """The options with the files of a folder of several tables in its place, and a note that names them."""
    source = options.interactions
    if source is None or isinstance(source, Files | Frame) or is_url(source) or not (folder := Path(source)).is_dir():
        return options, []
    given: dict[Role, Path] = {}
    if options.items is not None:
        given["items"] = Path(str(options.items))
    if options.users is not None:
        given["users"] = Path(str(options.users))
    roles, note = roles_in(folder, given, _reading(options, None))
    sources = {role: Files(folder, files) for role, files in roles.items()}
    options = replace(
        options,
        interactions=sources.get("interactions", source),
        items=sources.get("items", options.items),
        users=sources.get("users", options.users),
    )
    return options, [note] if note else []


def _reading(options: DataOptions, role: Role | None) -> Reading:
    """How a file is read; of a file whose role is not known yet, as options for all files say."""
    return Reading(
        options.bad_rows,
        by_role(options.delimiter, role),
        by_role(options.encoding, role),
        header_of(by_role(options.header, role)),
        options.columns,
        role,
    )


def by_role(values: Sequence[str], role: Role | None) -> str | None:
    """The value of an option for one of the files: `items=gbk` is for the catalogue only, `gbk` for all; last wins."""
    for value in reversed(values):
        name, equals, rest = value.partition("=")
        if not (equals and name in ROLES):
            return value
        if name == role:
            return rest
    return None


def header_of(value: str | None) -> Header:
    """Whether a file has a header, as `--header` says."""
    if value not in (None, "auto", "yes", "no"):
        raise DataError(f"--header {value}: allowed are yes, no and auto, for one file as items=no")
    return "auto" if value is None else value  # type: ignore[return-value]


def add_baskets(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Interactions with a `basket` if all are purchases and many share their user's timestamp, and a note; without one
    where no two interactions share theirs, which is then a number of the row."""
    if "basket" in frame.columns and frame.height > 1 and frame["basket"].drop_nulls().is_unique().all():
        return frame.drop("basket"), ("no two interactions share a basket: the column is not used",)
    keys = ("user_id", "timestamp")
    if "basket" in frame.columns or any(k not in frame.columns or frame[k].null_count() for k in keys):
        return frame, ()
    if {*frame["event"].unique()} != {*called("purchase", frame["event"].unique())}:
        return frame, ()
    shared = float(frame.select(pl.struct(keys).is_duplicated().mean()).item())
    if shared < MIN_SHARED:
        return frame, ()
    note = f"no basket column: a user's purchases of equal timestamp are one basket ({shared:.0%} share theirs)"
    return frame.with_columns(pl.col("timestamp").cast(pl.String).alias("basket")), (note,)


def fingerprint(dataset: Dataset) -> str:
    """Hash of everything that training depends on."""
    digest = hashlib.sha256(repr((dataset.name, dataset.split_method, dataset.cutoffs)).encode())
    for frame in (dataset.interactions, dataset.items, dataset.users):
        digest.update(f"Schema({list(frame.schema.items())})".encode())  # repr(schema) differs between Pythons
        if frame.height:
            digest.update(frame.hash_rows(seed=0).to_numpy().tobytes())
    return digest.hexdigest()[:32]
