"""Labels of a task's rows on a data set, and the reasons why a data set cannot feed a task."""

from dataclasses import replace
from typing import Literal

import polars as pl

from ..data.dataset import Dataset
from ..errors import DataError, TaskError, unknown_name
from .task import MOST_NUMBERS, Task, number_word, sql_columns
from .units import SCHEMA, Unit, has_reviews, unit_rows


def labels(task: Task, unit_rows: pl.DataFrame) -> pl.Series:
    """The label of each row: a choice's words (String), a number (Float64), a text or the item_id; null if unknown.

    The label is null if a needed column is null, or if the answer is none of the choices that `resolve_answer` took
    from training. A label outside the choices or numbers of the task is a TaskError.
    """
    if task.answer.kind == "item":
        return unit_rows["item_id" if "item_id" in unit_rows.columns else "item_ids"].rename("label")
    assert task.label is not None
    values = _evaluate(task, task.label, "label", unit_rows)
    columns = [c for c in sql_columns(task.label) if c in task.needs and c in unit_rows.columns]
    if columns:
        is_complete = unit_rows.select(pl.all_horizontal(pl.col(*columns).is_not_null())).to_series()
        values = unit_rows.select(pl.when(is_complete).then(values)).to_series()
    return _check_labels(task, values, unit_rows).rename("label")


def selected(task: Task, unit_rows: pl.DataFrame) -> pl.Series:
    """Mask (rows,) of the task's `where`; all true without one."""
    if task.where is None:
        return pl.Series("where", [True], dtype=pl.Boolean).new_from_index(0, unit_rows.height)
    mask = _evaluate(task, task.where, "where", unit_rows)
    if mask.dtype not in (pl.Boolean, pl.Null):
        raise TaskError(f"{task.path}: where: {task.where!r} gives {mask.dtype} values, not true or false")
    return mask.cast(pl.Boolean).fill_null(False).rename("where")


def task_rows(task: Task, dataset: Dataset, part: Literal["train", "valid", "test"] | None = "train") -> pl.DataFrame:
    """The rows that the task reads in one part of the split, with a column `label`; rows without a label are dropped.

    For a task that draws negatives: one row per user and time, labelled by any item that the user gets later.
    """
    # If negatives are drawn, so are positives: any item that the user gets later.
    unit: Unit = "user_time" if task.negatives else task.unit
    rows = unit_rows(dataset, unit, part, [*task_columns(task), *task.needs], task.horizon_days)
    rows = rows.filter(selected(task, rows))
    return rows.with_columns(labels(task, rows)).filter(pl.col("label").is_not_null())


def task_columns(task: Task) -> list[str]:
    """The columns that the label and the `where` of a task read."""
    return [c for expression in (task.label, task.where) if expression for c in sql_columns(expression)]


def resolve_answer(task: Task, dataset: Dataset) -> Task:
    """The task with its choices taken from a column of the training part; raises TaskError on more than 20 numbers."""
    column = task.answer.column
    if column is None:
        return task
    answers = task_rows(task, dataset, "train")["label"].unique().sort()
    if task.answer.kind == "choices":
        return replace(task, answer=replace(task.answer, choices=tuple(answers.to_list())))
    if len(answers) > MOST_NUMBERS:
        raise TaskError(
            f"{task.path}: {dataset.name} has {len(answers)} different values of {column}, at most {MOST_NUMBERS} can "
            f"be choices; round the column, or list the numbers in the task"
        )
    values = tuple(float(v) for v in answers)
    return replace(task, answer=replace(task.answer, choices=tuple(number_word(v) for v in values), values=values))


def unknown_answers(task: Task, dataset: Dataset) -> int:
    """Number of rows whose answer the training part lacks, for a task whose choices come from the data."""
    if task.answer.column is None or task.answer.kind != "choices":
        return 0
    anything = replace(task, answer=replace(task.answer, choices=()))
    return task_rows(anything, dataset, None).height - task_rows(task, dataset, None).height


def missing_needs(task: Task, dataset: Dataset) -> str | None:
    """The reason, in one line, why this data set cannot feed the task; None if it can."""
    if missing := [need for need in task.needs if not _has(dataset, task.unit, need)]:
        return f"no {' and no '.join(missing)} (it needs {', '.join(task.needs)})"
    if task.answer.kind == "item":
        items = dataset.interactions["item_id"].drop_nulls().n_unique()
        return "fewer than 2 items" if items < 2 else None
    try:
        answers = task_rows(resolve_answer(task, dataset), dataset, "train")["label"].unique().to_list()
    except TaskError as error:
        return str(error)
    if not answers:
        return "no training row has a label" + (f" {task.horizon_days} days ahead" if task.horizon_days else "")
    if len(answers) < 2 and not (task.negatives and task.answer.choices[-1] in answers):
        return f"every training row has the same answer, {answers[0]!r}"
    return None


def _has(dataset: Dataset, unit: Unit, column: str) -> bool:
    if unit == "text" and column == "text":
        return has_reviews(dataset) or (
            "title" in dataset.items.columns and dataset.items["title"].null_count() < dataset.items.height
        )
    for table in (dataset.interactions, dataset.items, dataset.users):
        if column in table.columns and table[column].null_count() < table.height:
            return True
    return column == "basket" and unit == "basket" and _has(dataset, unit, "timestamp")


def _evaluate(task: Task, expression: str, what: str, rows: pl.DataFrame) -> pl.Series:
    from .. import sql

    quoted = sql.shorten(expression)
    try:
        columns = sql.columns(expression)
        for column in columns:
            if column in SCHEMA and column not in rows.columns:
                rows = rows.with_columns(pl.lit(None, dtype=SCHEMA[column]).alias(column))
            if column not in rows.columns:
                raise TaskError(f"{task.path}: " + unknown_name("column", column, rows.columns, f"in {what}: {quoted}"))
        if not columns:
            raise TaskError(f"{task.path}: {what}: {quoted} gives one value for all rows; it must give one per row")
        return sql.evaluate(expression, rows)
    except DataError as error:
        raise TaskError(f"{task.path}: {what}: {quoted}: {error}") from error


def _check_labels(task: Task, values: pl.Series, rows: pl.DataFrame) -> pl.Series:
    answer, label = task.answer, f"{task.path}: label: {task.label!r}"
    if answer.kind == "number":
        if not (values.dtype.is_numeric() or values.dtype == pl.Null):
            raise TaskError(f"{label} gives {values.dtype} values where the answer is a number")
        numbers = values.cast(pl.Float64)
        outside = numbers.is_not_null() & ~numbers.is_in(answer.values) if answer.values else numbers.is_nan()
        if answer.values and outside.any():
            first = outside.arg_max() or 0
            row = f" in row {rows['row'][first] + 1} of the interactions" if "row" in rows.columns else ""
            source = " (the values of the training part)" if answer.column else ""
            raise TaskError(
                f"{label} gives {number_word(numbers[first])}{row}; allowed: {', '.join(answer.choices)}{source}. "
                "Mend the row, drop it, or list all numbers in a task file of your own"
            )
        return numbers
    if values.dtype == pl.Boolean and answer.kind == "choices" and answer.column is None:
        if len(answer.choices) != 2:
            raise TaskError(f"{label} is true or false, which needs 2 choices, not {len(answer.choices)}")
        return values.replace_strict({False: answer.choices[0], True: answer.choices[1]}, return_dtype=pl.String)
    if values.dtype.is_nested():
        raise TaskError(f"{label} gives lists; one value per row is needed")
    words = values.cast(pl.String).str.strip_chars().replace("", None)
    if answer.kind == "choices" and answer.choices:
        outside = words.filter(words.is_not_null() & ~words.is_in(answer.choices))
        if len(outside) and answer.column is not None:  # taken from training: other answers cannot be predicted
            return words.set(~words.is_in(answer.choices), None)
        if len(outside):
            raise TaskError(f"{label} gives {outside[0]!r}; allowed: {', '.join(answer.choices[:MOST_NUMBERS])}")
    return words
