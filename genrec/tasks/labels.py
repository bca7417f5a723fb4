"""Labels of a task's rows on a data set, and the reasons why a data set cannot feed a task."""

import contextlib
from dataclasses import replace

import polars as pl

from ..data.dataset import Dataset, Part
from ..errors import DataError, TaskError, unknown_name
from .numbers import MOST_NUMBERS, levels_of, number_word
from .task import Answer, Task, sql_columns
from .truth import no_and_yes, says_truth
from .units import SCHEMA, Unit, has_reviews, unit_rows

SHOWN = 5  # numbers that a note names


def labels(task: Task, unit_rows: pl.DataFrame) -> pl.Series:
    """The label of each row: a choice's words (String), a number (Float64), a text or the item_id; null if unknown.

    The label is null if a needed column is null, if a number is not finite, and if the answer is none of the task's
    choices. A label of another kind than the answer is a TaskError.
    """
    if task.answer.kind == "item":
        return unit_rows["item_id" if "item_id" in unit_rows.columns else "item_ids"].rename("label")
    values = _answers(task, unit_rows)
    if task.answer.kind == "choices" and task.answer.choices:
        values = values.set(~values.is_in(task.answer.choices), None)
    return values.rename("label")


def selected(task: Task, unit_rows: pl.DataFrame) -> pl.Series:
    """Mask (rows,) of the task's `where`; all true without one."""
    if task.where is None:
        return pl.Series("where", [True], dtype=pl.Boolean).new_from_index(0, unit_rows.height)
    mask = _evaluate(task, task.where, "where", unit_rows)
    if mask.dtype not in (pl.Boolean, pl.Null):
        raise TaskError(f"{task.path}: where: {task.where!r} gives {mask.dtype} values, not true or false")
    return mask.cast(pl.Boolean).fill_null(False).rename("where")


def task_rows(task: Task, dataset: Dataset, part: Part | None = "train") -> pl.DataFrame:
    """The rows that the task reads in one part of the split, with a column `label`; rows without a label are dropped.

    For a task that draws negatives: one row per user and time, labelled by any item that the user gets later.
    """
    rows = _read_rows(task, dataset, part)
    return rows.with_columns(labels(task, rows)).filter(pl.col("label").is_not_null())


def task_columns(task: Task) -> list[str]:
    """The columns that the label and the `where` of a task read."""
    return [c for expression in (task.label, task.where) if expression for c in sql_columns(expression)]


def resolve_answer(task: Task, dataset: Dataset) -> Task:
    """The task with its choices taken from the training part, if they come from the data and are not known yet."""
    if not task.answer.from_data or task.answer.choices:
        return task
    answers = _answered_rows(task, dataset, "train")["label"]
    if task.answer.kind == "choices":
        return replace(task, answer=replace(task.answer, choices=tuple(answers.unique().sort().to_list())))
    levels = levels_of(answers.to_numpy())
    answer = replace(task.answer, choices=levels.words, values=levels.values, edges=levels.edges)
    return replace(task, answer=answer)


def answer_notes(task: Task, dataset: Dataset) -> list[str]:
    """A line for each thing that is assumed about the answers of a task whose choices are known."""
    from .. import sql

    answer = task.answer
    notes: list[str] = []
    if answer.kind == "item":
        return notes
    rows = _answered_rows(task, dataset, "train" if task.looks_ahead else None)
    if answer.edges:
        notes.append(
            f"its numbers go from {number_word(answer.edges[0])} to {number_word(answer.edges[-1])} with more than "
            f"{MOST_NUMBERS} different values: they are read in {len(answer.values)} bins of about as many rows each; "
            "answers are expected values on the same scale"
        )
    if _is_true_or_false(task, rows) and not says_truth(answer.choices):
        no, yes = no_and_yes(answer.choices) or answer.choices
        notes.append(f"the answer is {yes!r} where {sql.shorten(task.label or '')} is true, else {no!r}")
    if answer.edges or "part" not in rows.columns:
        return notes
    unknown = rows.filter((pl.col("part") != "train") & _outside(task))
    if not unknown.height:
        return notes
    if answer.kind == "choices":
        what = "one that training lacks" if answer.from_data else "none of its choices"
        notes.append(f"of {unknown.height:,} held-out rows the answer is {what}; they are not evaluated")
    else:
        numbers = unknown["label"].unique().sort()
        shown = ", ".join(number_word(n) for n in numbers[:SHOWN]) + (", ..." if len(numbers) > SHOWN else "")
        notes.append(
            f"of {unknown.height:,} held-out rows the number is none of its answers ({shown}): the nearest answer "
            "counts as right, and errors are measured to the number itself"
        )
    return notes


def missing_needs(task: Task, dataset: Dataset) -> str | None:
    """The reason, in one line, why this data set cannot feed the task; None if it can."""
    if missing := [need for need in task.needs if not _has(dataset, task.unit, need)]:
        missing = [f"{n} of items" if n in dataset.interactions.columns and n not in SCHEMA else n for n in missing]
        return f"no {' and no '.join(missing)} (it needs {', '.join(task.needs)})"
    if task.answer.kind == "item":
        items = dataset.interactions["item_id"].drop_nulls().n_unique()
        return "fewer than 2 items" if items < 2 else None
    try:
        rows = _answered_rows(task, dataset, "train")
        _check_listed(task, rows)
    except TaskError as error:
        return str(error)
    answers = rows["label"].unique().to_list()
    if not answers:
        ahead = f" {task.horizon_days} days ahead" if task.horizon_days else ""
        return f"no training row has a label{ahead}" + (f" (it is asked where {task.where})" if task.where else "")
    if len(answers) < 2 and not (task.negatives and task.answer.choices[-1] in answers):
        answer = number_word(answers[0]) if task.answer.kind == "number" else repr(answers[0])
        return f"every training row has the same answer, {answer}"
    return None


def _read_rows(task: Task, dataset: Dataset, part: Part | None) -> pl.DataFrame:
    """The rows that the task reads in one part of the split, without labels."""
    # If negatives are drawn, so are positives: any item that the user gets later.
    unit: Unit = "user_time" if task.negatives else task.unit
    rows = unit_rows(dataset, unit, part, [*task_columns(task), *task.needs], task.horizon_days)
    return rows.filter(selected(task, rows))


def _answered_rows(task: Task, dataset: Dataset, part: Part | None) -> pl.DataFrame:
    """As `task_rows`, of a task whose answer is no item, with labels that are none of its choices as well."""
    rows = _read_rows(task, dataset, part)
    return rows.with_columns(_answers(task, rows).alias("label")).filter(pl.col("label").is_not_null())


def _is_true_or_false(task: Task, rows: pl.DataFrame) -> bool:
    """Whether the label of a task with listed choices is true or false in these rows."""
    if task.answer.from_data or task.answer.values or task.label is None:
        return False
    return _evaluate(task, task.label, "label", rows.head(0)).dtype == pl.Boolean


def _outside(task: Task) -> pl.Expr:
    """Whether a label is none of the task's choices or numbers."""
    allowed = task.answer.values or task.answer.choices
    return ~pl.col("label").is_in(allowed)


def _check_listed(task: Task, rows: pl.DataFrame) -> None:
    """Raises TaskError if a task file lists its answers and a training row has another one, or if they do not tell
    which is for true."""
    answer = task.answer
    if answer.from_data:
        return
    if _is_true_or_false(task, rows) and no_and_yes(answer.choices) is None:
        raise TaskError(
            f"{task.path}: label: {task.label!r} is true or false, and {', '.join(answer.choices)} do not tell which "
            'choice is for true: write ["no", "yes"], or a label that gives the words: case when ... then ... end'
        )
    outside = rows.filter(_outside(task))
    if not outside.height:
        return
    first = outside.row(0, named=True)
    value = number_word(first["label"]) if answer.values else repr(first["label"])
    row = f" in row {first['row'] + 1} of the interactions" if "row" in outside.columns else ""
    more = "; {number: true} takes any number" if answer.values else ""
    raise TaskError(
        f"{task.path}: label: {task.label!r} gives {value}{row}; allowed: {', '.join(answer.choices[:MOST_NUMBERS])}"
        f"{more}"
    )


def _has(dataset: Dataset, unit: Unit, column: str) -> bool:
    if unit == "text" and column == "text":
        return has_reviews(dataset) or (
            "title" in dataset.items.columns and dataset.items["title"].null_count() < dataset.items.height
        )
    of_items = unit == "text" and column not in SCHEMA and not has_reviews(dataset)
    for table in (dataset.items,) if of_items else (dataset.interactions, dataset.items, dataset.users):
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


def _answers(task: Task, rows: pl.DataFrame) -> pl.Series:
    """What the label gives in each row as words (String) or as a finite number (Float64), null if it is not known."""
    answer = task.answer
    assert task.label is not None
    values = _evaluate(task, task.label, "label", rows)
    columns = [c for c in sql_columns(task.label) if c in task.needs and c in rows.columns]
    if columns:
        is_complete = rows.select(pl.all_horizontal(pl.col(*columns).is_not_null())).to_series()
        values = rows.select(pl.when(is_complete).then(values)).to_series()
    label = f"{task.path}: label: {task.label!r}"
    if answer.kind == "number":
        if not (values.dtype.is_numeric() or values.dtype == pl.Null):
            raise TaskError(f"{label} gives {values.dtype} values where the answer is a number")
        numbers = values.cast(pl.Float64)
        return numbers.set(~numbers.is_finite(), None)
    if values.dtype.is_nested():
        raise TaskError(f"{label} gives lists; one value per row is needed")
    if values.dtype == pl.Boolean and not answer.from_data:
        return _truth_answers(task, values)
    if values.dtype.is_float():
        return _number_answers(answer, values)
    return values.cast(pl.String).str.strip_chars().replace("", None)


def _truth_answers(task: Task, values: pl.Series) -> pl.Series:
    """The choice for true and the one for false."""
    choices = task.answer.choices
    if len(choices) != 2:
        raise TaskError(f"{task.path}: label: {task.label!r} is true or false, which needs 2 choices")
    no, yes = no_and_yes(choices) or choices  # an adapter of before may have other words: the second is yes
    return values.replace_strict({False: no, True: yes}, return_dtype=pl.String)


def _number_answers(answer: Answer, values: pl.Series) -> pl.Series:
    """Numbers as the choices that write them, `3` or `3.0`, else as they are commonly written."""
    words: dict[float, str] = {}
    for choice in answer.choices:
        with contextlib.suppress(ValueError):
            words.setdefault(float(choice), choice)
    numbers = values.cast(pl.Float64).unique().drop_nulls().drop_nans()
    written = {n: words.get(n, number_word(n)) for n in numbers.to_list()}
    return values.cast(pl.Float64).replace_strict(written, default=None, return_dtype=pl.String)
