"""Predictions: the outcome of a task for users and items, for users, or for texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..errors import DataError, UnknownNameError
from ..rows.row import Branch, Row, question_tokens, text_row
from ..rows.texts import REVIEW_TOKENS, shorten, text_branch
from ..tasks.task import Task
from ..tasks.templates import placeholders
from ..turns import in_turns
from .histories import end_states, given_history, length_warnings, prompts_of, stored_history
from .replies import Predictions
from .views import View, Views

AT_A_TIME = 200  # questions of a user, before others have their turn
BRANCH_TOKENS = 256  # of the questions on one row


@dataclass(frozen=True)
class PredictionRequest:
    """Users, items and texts of a prediction: sequences of equal length, or None; or a history in place of users."""

    task: str
    users: Sequence[str] | None
    items: Sequence[str] | None
    texts: Sequence[str] | None
    dataset: str | None
    history: pl.DataFrame | None = None


@dataclass(frozen=True)
class Questions:
    """Rows to read; order: the index in the request of each answer that they read; features: those of counts
    (answers, features)."""

    rows: list[Row]
    order: list[int]
    features: np.ndarray | None
    warnings: tuple[str, ...]


def predict(views: Views, request: PredictionRequest) -> Predictions:
    """The outcomes of a request; see `Recommender.predict`."""
    users, items, texts = request.users, request.items, request.texts
    dataset = dataset_of(views, request) if request.dataset is None else request.dataset
    view, warnings = views.place(users[0] if users else None, items[0] if items else None, dataset)
    task = view.task(request.task)
    if task.gives_items:
        raise DataError(f"task {task.name} gives items: use recommend")
    if task.unit == "text":
        if texts is None:
            raise DataError(f"task {task.name} is asked about a text: give --text")
        questions, users, items = text_questions(view, task, texts), None, None
    else:
        if (users is None) == (request.history is None):
            either = "either, not both" if users is not None else "--user or --history"
            raise DataError(f"task {task.name} is asked about a user or a history: give {either}")
        if task.unit == "event" and items is None:
            raise DataError(f"task {task.name} is asked about a user and an item: give --item")
        items, texts = items if task.unit == "event" else None, None
        asked, items = pairs_of([""] if users is None else users, items)
        past = None if request.history is None else given_history(view, request.history)
        questions = user_questions(views, view, task, asked, items, past)
        users = None if users is None else asked
    warnings += unused(task.name, request, users, items, texts)
    states = views.scorer.states(questions.rows)
    scores = in_order(views.scorer.outcome_scores(states, view.name, task.name).double().cpu().numpy(), questions.order)
    features = None if questions.features is None else in_order(questions.features, questions.order)
    frame = prediction_frame(views, view, task, scores, features)
    about = [pl.Series(name, values, dtype=pl.String) for name, values in columns_of(users, items, texts, len(scores))]
    return Predictions(frame.with_columns(about), warnings + questions.warnings, task.answer.choices)


def pairs_of(users: Sequence[str], items: Sequence[str] | None) -> tuple[Sequence[str], Sequence[str] | None]:
    """As many users as items: one user goes with every item, one item with every user. Raises DataError for other
    numbers of them, and for none."""
    for what, ids in (("users", users), ("items", items)):
        if ids is not None and not len(ids):
            raise DataError(f"{what} is an empty list: give one at least")
    if items is None or len(users) == len(items):
        return users, items
    if len(users) != 1 and len(items) != 1:
        raise DataError(
            f"{len(users):,} users and {len(items):,} items: give as many of each, one user for all items, "
            "or one item for all users"
        )
    return list(users) * len(items) if len(users) == 1 else users, list(items) * len(users) if len(
        items
    ) == 1 else items


def dataset_of(views: Views, request: PredictionRequest) -> str | None:
    """The data set that a task is asked of if none is named: None for the first; raises UnknownNameError for a task
    that the run was not trained on."""
    trained = {name: [t.name for t in views.of(name).corpus.tasks] for name in views.datasets}
    if request.task in trained[views.datasets[0]]:
        return None
    having = [name for name, tasks in trained.items() if request.task in tasks]
    if not having:
        every = dict.fromkeys(t for tasks in trained.values() for t in tasks)
        raise UnknownNameError("task", request.task, every, "in this run")
    user, item = (values[0] if values else None for values in (request.users, request.items))
    return next((name for name in having if views.knows(name, user, item)), having[0])


def unused(
    task: str,
    request: PredictionRequest,
    users: Sequence[str] | None,
    items: Sequence[str] | None,
    texts: Sequence[str] | None,
) -> tuple[str, ...]:
    """A warning that names what a request gives and its task is not asked about."""
    asked = {"user": (request.users, users), "item": (request.items, items), "text": (request.texts, texts)}
    names = [name for name, (given, used) in asked.items() if given is not None and used is None]
    if request.history is not None and texts is not None:
        names.append("history")
    return (f"task {task} is asked about no {' or '.join(names)}: not used",) if names else ()


def in_order(values: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Values (answers, ...) in the order of the request."""
    ordered = np.empty_like(values)
    ordered[order] = values
    return ordered


def columns_of(
    users: Sequence[str] | None, items: Sequence[str] | None, texts: Sequence[str] | None, n: int
) -> list[tuple[str, Sequence[str | None]]]:
    """The columns of the users, items and texts that were asked about."""
    columns = {"user_id": users, "item_id": items, "text": texts}
    return [(name, values if values is not None else [None] * n) for name, values in columns.items()]


def text_questions(view: View, task: Task, texts: Sequence[str]) -> Questions:
    """A row for each text; raises DataError for an empty one, or a task that shows more than a text."""
    template = next((t for t in task.seen if set(placeholders(t)) <= {"text", "review"}), None)
    if template is None:
        raise DataError(f"task {task.name} shows more than a text ({task.seen[0]!r}), which cannot be given here")
    for number, text in enumerate(texts):
        if not (text or "").strip():
            raise DataError(f"the text in row {number + 1} is empty; task {task.name} is asked about a text")
    rows, long = [], 0
    warnings: tuple[str, ...] = ()
    for (text,) in in_turns(texts, 1):
        short = shorten(view.corpus, text)
        long += short != text
        fields: dict[str, object] = {"text": short, "review": short}
        rows.append(text_row(view.corpus, text_branch(view.corpus, template, fields, [(task.name, 0)])))
    if long:
        whose = "the text" if len(texts) == 1 else f"{long:,} texts"
        warnings = (f"of {whose} only the beginning and the end are read, {REVIEW_TOKENS} tokens",)
    return Questions(rows, list(range(len(texts))), None, warnings)


def user_questions(
    views: Views,
    view: View,
    task: Task,
    users: Sequence[str],
    items: Sequence[str] | None,
    past: pl.DataFrame | None,
) -> Questions:
    """Rows of each user with a branch per question, and the features of the users and items. past: the history of
    nobody known, whom all questions are about (`""`)."""
    from ..scoring.features import asks_list, features_of

    of_user: dict[str, list[int]] = {}
    for n, user in enumerate(users):
        of_user.setdefault(user, []).append(n)
    frames = [stored_history(views, view, user) if past is None else past for user in of_user]
    prompts = prompts_of(views, view, list(of_user), frames)
    rows, order = [], []
    for n, positions in enumerate(of_user.values()):
        branches: list[Branch] = []
        for part in in_turns(positions, AT_A_TIME):
            for position in part:
                branch = question(view, task, items[position] if items is not None else None)
                if branches and sum(len(b.tokens) for b in branches) + len(branch.tokens) > BRANCH_TOKENS:
                    rows.append(prompts.row(n, branches))
                    branches = []
                branches.append(branch)
                order.append(position)
        rows.append(prompts.row(n, branches))
    user_items = [
        (n, [view.catalogue.place(items[p]) if items is not None else -1 for p in positions])
        for n, positions in enumerate(of_user.values())
    ]
    ends = end_states(views, prompts) if asks_list(task) else None
    features = features_of(views.scorer, prompts.corpus, prompts.histories, task, user_items, ends)
    return Questions(rows, order, features, length_warnings(frames, views.adapter.manifest.max_events))


def question(view: View, task: Task, item: str | None) -> Branch:
    """The dense reading is the candidate item itself; other tasks ask in words."""
    item_tokens = {} if item is None else {"item": [view.corpus.items.first + view.catalogue.place(item)]}
    if item_tokens and task.dense:
        tokens = item_tokens["item"]
    else:
        tokens = question_tokens(task.seen[0], {}, item_tokens, view.corpus.encode)
    return Branch(tokens, 0, [(task.name, 0, 1.0, -1)])


def prediction_frame(
    views: Views, view: View, task: Task, scores: np.ndarray, features: np.ndarray | None
) -> pl.DataFrame:
    """Calibrated answers of scores (n, answers) and features (n, features) as a frame; its columns of users, items and
    texts are empty."""
    from ..scoring.calibration import Calibration

    fitted = views.adapter.manifest.calibration.get(f"{view.name}/{task.name}", {})
    probabilities = Calibration.from_json(fitted).probabilities(scores, features)
    n = len(scores)
    if task.answer.values:
        value = pl.Series("value", probabilities @ np.asarray(task.answer.values))
    else:
        value = pl.Series("value", [task.answer.choices[c] for c in probabilities.argmax(1)], dtype=pl.String)
    empty = pl.Series([None] * n, dtype=pl.String)
    return pl.DataFrame(
        {
            "dataset": [view.name] * n,
            "task": [task.name] * n,
            "user_id": empty,
            "item_id": empty,
            "text": empty,
            "value": value,
            "probabilities": pl.Series(probabilities.tolist(), dtype=pl.List(pl.Float64)),
        }
    )
