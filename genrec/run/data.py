"""The data sets of a run: read for its training, and as they were for it afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from ..data.dataset import Dataset
from ..data.events import check_events
from ..data.grown import grown, with_items
from ..data.load import fingerprint, load_dataset
from ..data.named import expand
from ..data.source import Frame
from ..errors import DataError, GenrecError, RunError, UnknownNameError
from ..files import read_json, read_parquet
from ..rows.corpus import offered_tasks
from ..tasks.task import Task
from ..tasks.taskfile import load_task, load_tasks
from .config import FinetuneConfig, run_folder, task_weights
from .folder import Run
from .saved import saved_data

REPLAYED = 0.5  # share of the users whose earlier history is learned again with what came later


def load_data(config: FinetuneConfig, frames: Mapping[str, pl.DataFrame] | None = None) -> tuple[Dataset, ...]:
    """The data sets of a run: named ones, or the caller's files; those of the run that it resumes from, grown.

    frames: the tables in memory that stand in place of files (FRAME in the options), by role.
    """
    if config.resume_from is not None:
        return grown_data(config)
    if bool(config.names) == bool(config.interactions):
        raise DataError(
            "give either named data sets or --interactions FILE"
            if config.names
            else "nothing to train on: name a data set, or give --interactions FILE"
        )
    options = config.data_options()
    if config.interactions:
        sources: dict[str, Any] = {role: Frame(table, role) for role, table in (frames or {}).items()}
        own = replace(options, **({"interactions": config.interactions} | sources))
        datasets: tuple[Dataset, ...] = (load_dataset(None, own),)
    else:
        datasets = tuple(load_dataset(name, replace(options, cut=cut)) for name, cut in expand(config.names))
    check_events(options.events, [event for dataset in datasets for event in dataset.signs])
    return datasets


def chosen_tasks(config: FinetuneConfig) -> dict[str, Task]:
    """Shipped tasks and the caller's, cut to --task, with --task-weights applied."""
    tasks = load_tasks([Path(p) for p in config.tasks])
    for name in config.task:
        if name not in tasks:
            raise UnknownNameError("task", name, tasks)
    if config.task:
        for file in config.tasks:
            if (name := load_task(Path(file)).name) not in config.task:
                raise DataError(f"--tasks {file} changes nothing here: --task does not name its {name}; leave it out")
        tasks = {n: t for n, t in tasks.items() if n in config.task}
    if config.task_weights not in ("fixed", "learned"):
        for name, weight in task_weights(config.task_weights).items():
            if name not in tasks:
                raise UnknownNameError("task", name, tasks, "in --task-weights")
            tasks[name] = replace(tasks[name], weight=weight)
    return tasks


def with_parent_answers(config: FinetuneConfig, dataset: str, tasks: Mapping[str, Task]) -> list[Task]:
    """The tasks; those whose answers come from the data only if the run that this one resumes from has them, and with
    its answers, since what came later may hold others."""
    if config.resume_from is None:
        return list(tasks.values())
    answers = parent_of(config).manifest().tasks.get(dataset, {})
    known = [t for t in tasks.values() if not t.answer.from_data or t.name in answers]
    return [t.with_answers(answers[t.name]) if t.answer.from_data else t for t in known]


def offers(
    config: FinetuneConfig, datasets: Sequence[Dataset]
) -> tuple[dict[str, Task], dict[str, list[Task]], dict[str, list[str]]]:
    """The tasks that a run may train; those that each data set can feed; and lines on those that it cannot."""
    tasks = chosen_tasks(config)
    offered, reasons = {}, {}
    for dataset in datasets:
        offered[dataset.name], reasons[dataset.name] = offered_tasks(
            dataset, with_parent_answers(config, dataset.name, tasks)
        )
    return tasks, offered, reasons


def trained_data(run: Run, store: Path | None = None) -> tuple[Dataset, ...]:
    """The data sets that a finished run was trained on, from its folder, without the users who were deleted from its
    store (or from `store`) since.

    A run of an earlier version did not save them: they are read from where its options say. Raises RunError if they
    are others now, DataError or UnavailableError if they cannot be read.
    """
    if (datasets := saved_data(run, store)) is not None:
        return datasets
    try:
        datasets = load_data(run.config())
    except GenrecError as error:
        raise RunError(f"{error}\n({run.folder} is of an earlier version, which did not save its data)") from error
    check_unchanged(f"{run.folder} was trained on other data than", run.manifest().fingerprints, datasets)
    return datasets


def check_unchanged(claim: str, fingerprints: Mapping[str, str], datasets: tuple[Dataset, ...]) -> None:
    """Raises RunError if the data sets that were read are not those of some fingerprints; claim: begins the message."""
    for dataset in datasets:
        if fingerprints.get(dataset.name) != dataset.fingerprint:
            raise RunError(f"{claim} {dataset.name} holds now; what was held out cannot be told")


def parent_of(config: FinetuneConfig) -> Run:
    """The run that a run trains on from."""
    assert config.resume_from is not None
    return Run(Path(config.resume_from))


def grown_data(config: FinetuneConfig) -> tuple[Dataset, ...]:
    """The data sets of the run that a run resumes from, with the events and items that came since."""
    run = Run(run_folder(config))
    later = read_parquet(run.later_events)
    items = read_json(run.later_items, TypeAdapter(dict[str, list[dict[str, Any]]]))
    datasets = []
    for dataset in trained_data(parent_of(config), run.store):
        events = later.filter(pl.col("dataset") == dataset.name).drop("dataset")
        extended = with_items(dataset, items.get(dataset.name, []))
        if "user_id" not in dataset.interactions.columns:  # texts alone: nothing comes later
            extended = replace(extended, interactions=extended.interactions.with_columns(learned=pl.lit(True)))
            datasets.append(replace(extended, fingerprint=fingerprint(extended)))
            continue
        users = dataset.interactions["user_id"].unique(maintain_order=True)
        replayed = users.filter(pl.Series(np.random.default_rng([config.seed, 13]).random(len(users)) < REPLAYED))
        datasets.append(grown(extended, events, replayed.to_list()))
    return tuple(datasets)
