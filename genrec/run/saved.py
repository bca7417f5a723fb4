"""RUN/data: the data of a run as it was trained on, private, and without the users who were deleted since."""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter

from .. import store as stores
from ..data.dataset import Dataset
from ..data.events import Sign
from ..data.load import fingerprint, split_as
from ..errors import RunError, UnavailableError, UnknownNameError
from ..files import atomic_write, one_line, read_json, read_parquet, sync, sync_all
from .config import FinetuneConfig
from .folder import PLACES, Run

log = logging.getLogger(__name__)
VERSION = 1  # of data.json
ROWS = 500_000  # of a file at most: what a deletion rewrites
TABLES = ("interactions", "before_split", "items", "users")


@dataclass(frozen=True)
class _Saved:
    """One data set as data.json describes it; its tables are in the folder of its number.

    fingerprint: as it was trained on. before_split: the columns of the interactions before they were split, and the
    number of notes until then; None if the data set cannot be split again. deleted: users who were deleted since.
    """

    name: str
    notes: tuple[str, ...]
    licence: str | None
    fingerprint: str
    split_method: str
    cutoffs: tuple[tuple[str, int], ...]
    before_split: tuple[tuple[str, ...], int] | None
    signs: Mapping[str, Sign]
    deleted: int = 0


@dataclass(frozen=True)
class _Description:
    """What data.json holds; places: absolute paths of the models that are local folders or files, by option."""

    version: int
    datasets: tuple[_Saved, ...]
    tasks: int
    places: Mapping[str, str]


# --- writing ------------------------------------------------------------------------------------------------------


def save_data(run: Run, datasets: Sequence[Dataset], task_files: Sequence[str], config: FinetuneConfig) -> None:
    """Write RUN/data whole or not at all, readable by its owner only; task_files: texts of the caller's own tasks."""
    partial = run.data.with_name(f".{run.data.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    saved = []
    for number, dataset in enumerate(datasets):
        folder = partial / str(number)
        folder.mkdir(mode=0o700)
        before = dataset.before_split
        tables = {"interactions": dataset.interactions, "items": dataset.items, "users": dataset.users}
        columns = before.interactions.columns if before is not None else []
        if before is not None and not (
            set(columns) <= set(dataset.interactions.columns)
            and before.interactions.equals(dataset.interactions.select(columns))
        ):
            tables["before_split"] = before.interactions
        for table, frame in tables.items():
            for place, start in enumerate(range(0, max(frame.height, 1), ROWS)):
                _write(frame.slice(start, ROWS), folder / f"{table}-{place:05}.parquet")
        split = None if before is None else (tuple(columns), len(before.notes))
        saved.append(
            _Saved(
                *(dataset.name, dataset.notes, dataset.licence, dataset.fingerprint),
                *(dataset.split_method, dataset.cutoffs, split, dataset.signs),
            )
        )
    (partial / "tasks").mkdir(mode=0o700)
    for number, text in enumerate(task_files):
        (partial / "tasks" / f"{number}.yaml").write_text(text, encoding="utf-8")
    models: dict[str, str | None] = {name: getattr(config, name) for name in PLACES}
    places = {name: str(Path(model).resolve()) for name, model in models.items() if model and _is_path(model)}
    _describe(partial, _Description(VERSION, tuple(saved), len(task_files), places))
    sync_all(partial)
    shutil.rmtree(run.data, ignore_errors=True)
    os.replace(partial, run.data)
    sync(run.folder)


def _is_path(name: str) -> bool:
    with contextlib.suppress(OSError):  # a name that is too long for a file
        return Path(name).exists()
    return False


def _write(frame: pl.DataFrame, path: Path) -> None:
    with atomic_write(path, synced=False) as partial:
        frame.write_parquet(partial)
        partial.chmod(0o600)


def _describe(folder: Path, description: _Description) -> None:
    with atomic_write(folder / "data.json") as partial:
        partial.write_text(json.dumps(asdict(description), ensure_ascii=False, indent=1), encoding="utf-8")
        partial.chmod(0o600)


# --- reading ------------------------------------------------------------------------------------------------------


def saved_data(run: Run, store: Path | None = None) -> tuple[Dataset, ...] | None:
    """The data sets that a run was trained on, as they were split, without the users who were deleted from its store
    (or from `store`) since; None for a run of a version that did not save them. Raises RunError if they are damaged.

    A user who is found to be deleted is removed from the files.
    """
    if (description := _described(run)) is None:
        return None
    if {saved.name: saved.fingerprint for saved in description.datasets} != dict(run.manifest().fingerprints):
        raise RunError(f"{run.data} does not fit: the run was trained on other data")
    with contextlib.closing(stores.open_store(store or run.store)) as opened:
        deleted = _deleted(run, description, opened)
    try:
        description = forget_users(run, deleted) or description
        deleted = {}
    except OSError as error:
        log.warning("deleted users are still in %s, which cannot be written: %s", run.data, error.strerror)
    return tuple(_dataset(run, n, saved, deleted.get(saved.name)) for n, saved in enumerate(description.datasets))


def split_again(run: Run, config: FinetuneConfig) -> tuple[Dataset, ...] | None:
    """The same data sets as the options split them; None for a run of a version that did not save them.

    Raises RunError for data that was not split by options: that of a run that was trained on.
    """
    datasets = saved_data(run)
    if datasets is None:
        return None
    if not all(dataset.before_split for dataset in datasets):
        raise RunError(f"{run.folder} was trained on from another run, whose data cannot be split again")
    return tuple(split_as(d.before_split, config.data_options()) for d in datasets if d.before_split is not None)


def _described(run: Run) -> _Description | None:
    path = run.data / "data.json"
    if not run.data.is_dir():
        return None
    description = read_json(path, TypeAdapter(_Description))
    if description.version != VERSION:
        raise RunError(f"{path} has version {description.version}, this genrec reads version {VERSION}")
    return description


def _dataset(run: Run, number: int, saved: _Saved, deleted: Collection[str] | None) -> Dataset:
    """deleted: users who are still in the files, and must not be."""
    tables = {table: _read(run, number, table, deleted or ()) for table in TABLES}
    interactions, items, users = (tables[table] for table in ("interactions", "items", "users"))
    if interactions is None or items is None or users is None:
        raise RunError(f"{run.data / str(number)} is damaged: a file of its interactions, items or users is missing")
    notes, n_deleted = saved.notes, saved.deleted + len(deleted or ())
    if n_deleted:
        notes += (f"users who were deleted since the training and are left out: {n_deleted:,}",)
    dataset = Dataset(saved.name, interactions, items, users, notes, saved.licence, signs=saved.signs)
    if saved.before_split is not None:
        columns, n_notes = saved.before_split
        unsplit = interactions.select(columns) if (frame := tables["before_split"]) is None else frame
        before = replace(dataset, interactions=unsplit, notes=(*saved.notes[:n_notes], *notes[len(saved.notes) :]))
        dataset = replace(dataset, before_split=before)
    dataset = replace(dataset, split_method=saved.split_method, cutoffs=saved.cutoffs)
    return replace(dataset, fingerprint=fingerprint(dataset) if n_deleted else saved.fingerprint)


def _files(run: Run, number: int, table: str) -> list[Path]:
    return sorted((run.data / str(number)).glob(f"{table}-*.parquet"))


def _read(run: Run, number: int, table: str, deleted: Collection[str]) -> pl.DataFrame | None:
    frames = [_without(read_parquet(path), deleted) for path in _files(run, number, table)]
    try:
        return pl.concat(frames) if frames else None
    except pl.exceptions.PolarsError as error:
        raise RunError(f"{run.data / str(number)} is damaged: the files of {table} do not fit each other") from error


def _without(frame: pl.DataFrame, users: Collection[str]) -> pl.DataFrame:
    if not users or "user_id" not in frame.columns:
        return frame
    return frame.filter(~pl.col("user_id").is_in(list(users)).fill_null(False))


def as_saved(config: FinetuneConfig, run: Run) -> FinetuneConfig:
    """Options with the models and the task files of a finished run where they are now, from whichever folder it is
    called."""
    description = _described(run)
    if description is None:
        return config
    tasks = tuple(str(run.data / "tasks" / f"{number}.yaml") for number in range(description.tasks))
    places = {option: place for option in PLACES if (place := run.local_model(option))}
    return replace(config, tasks=tasks, **places)  # type: ignore[arg-type]


# --- deletion -----------------------------------------------------------------------------------------------------


def _deleted(run: Run, description: _Description, store: stores.Store) -> dict[str, set[str]]:
    """The users in RUN/data whom a store does not have any more, by data set."""
    if not stores.deletions(store):
        return {}
    deleted = {}
    for number, saved in enumerate(description.datasets):
        present = {user for table in TABLES for path in _files(run, number, table) for user in _users(path)}
        deleted[saved.name] = present - set(stores.users(store, saved.name))
    return deleted


def forget_users(run: Run, users: Mapping[str, Collection[str]]) -> _Description | None:
    """Remove users from RUN/data, by data set, and return what data.json says then; only files that hold one of them
    are written anew. Raises OSError if they cannot be."""
    description = _described(run)
    if description is None or not any(users.values()):
        return description
    datasets = []
    for number, saved in enumerate(description.datasets):
        removed: set[str] = set()
        for path in [p for table in TABLES for p in _files(run, number, table)]:
            if gone := _users(path, users.get(saved.name, ())):
                _write(_without(read_parquet(path), gone), path)
                removed |= gone
        datasets.append(replace(saved, deleted=saved.deleted + len(removed)))
    forgotten = replace(description, datasets=tuple(datasets))
    if forgotten != description:
        _describe(run.data, forgotten)
    return forgotten


def _users(path: Path, among: Collection[str] | None = None) -> set[str]:
    """The users of a file, or those of some users that it has."""
    try:
        frame = pl.scan_parquet(path)
        if "user_id" not in frame.collect_schema():
            return set()
        column = frame.select(pl.col("user_id").drop_nulls())
        if among is not None:
            column = column.filter(pl.col("user_id").is_in(list(among)))
        return set(column.unique().collect()["user_id"].to_list())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def delete_from_folder(run: Run, user: str) -> None:
    """Remove a user from the store and the data in a run folder, and from those of its repetitions; what cannot be
    written is named in a warning."""
    for folder in with_repetitions(run):
        with _unwritable(folder):
            if folder.store.is_file():
                with contextlib.closing(stores.open_store(folder.store)) as store:
                    _delete(store, [user])
            if (description := _described(folder)) is not None:
                forget_users(folder, {saved.name: {user} for saved in description.datasets})


def drop_deleted(run: Run, shared: stores.Store) -> None:
    """Remove from a run folder, and from its repetitions, the users whom the store that servers share has no more."""
    for folder in with_repetitions(run):
        with _unwritable(folder):
            if folder.store.is_file():
                with contextlib.closing(stores.open_store(folder.store)) as store:
                    _delete(store, _all_users(store) - _all_users(shared))
            if (description := _described(folder)) is not None:
                forget_users(folder, _deleted(folder, description, shared))


def _all_users(store: stores.Store) -> set[str]:
    return {user for name in stores.datasets(store) for user in stores.users(store, name)}


def _delete(store: stores.Store, users: Collection[str]) -> None:
    for user in users:
        with contextlib.suppress(UnknownNameError):
            stores.delete_user(store, user)


@contextlib.contextmanager
def _unwritable(run: Run) -> Iterator[None]:
    try:
        yield
    except (OSError, UnavailableError) as error:
        log.warning("deleted users are still in %s, which cannot be written: %s", run.folder, one_line(error))


def with_repetitions(run: Run) -> Iterator[Run]:
    """A run, and the runs of `evaluate --seeds` and `--folds` inside it."""
    yield run
    for kind in ("seeds", "folds"):
        for folder in sorted((run.folder / kind).glob("*")):
            if folder.is_dir():
                yield Run(folder)
