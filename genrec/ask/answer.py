"""A Request to an answer: text for people, structure for programs."""

import difflib
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import GenrecError, UnknownNameError
from ..recommender import Recommender
from .understand import Request, understand

EXAMPLES = {
    "next_item": "recommend for user 42",
    "rating": "what would user 42 rate TITLE?",
    "click": "will user 42 like TITLE?",
    "purchase": "will user 42 buy TITLE?",
    "sentiment": 'is this review positive: "..."',
    "category": 'which category is "..."?',
    "churn": "will user 42 come back?",
}


@dataclass(frozen=True)
class Answer:
    """task is None where the sentence was not understood; `content` holds items, or value and probabilities."""

    task: str | None
    answer: str
    dataset: str | None = None
    content: dict[str, Any] = field(default_factory=dict)
    understood: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        base = {"dataset": self.dataset, "task": self.task, "answer": self.answer}
        return base | self.content | {"understood": self.understood, "warnings": list(self.warnings)}


def answer(recommender: Recommender, sentence: str, dataset: str | None = None) -> Answer:
    """Answer a sentence; what is not understood or not known is said, never invented."""
    request = understand(sentence)
    try:
        return _answer(recommender, request, dataset)
    except UnknownNameError as error:
        if error.kind == "user" and request.task == "next_item":
            return _unknown_user(recommender, request, dataset, error)
        return Answer(None, f"{error}\n{can_ask(recommender)}", understood=request.understood())
    except GenrecError as error:
        return Answer(None, f"{error}\n{can_ask(recommender)}", understood=request.understood())


def can_ask(recommender: Recommender) -> str:
    """What the run can be asked."""
    offered = {task for name in recommender.datasets for task in recommender.tasks(name)}
    return "You can ask, for example: " + "; ".join(e for task, e in EXAMPLES.items() if task in offered)


def _answer(recommender: Recommender, request: Request, dataset: str | None) -> Answer:
    understood = request.understood()
    asked = request.task
    if asked is None or (request.task == "next_item" and request.user_id is None and not request.items):
        missing = "no task" if request.task is None else "no user or item"
        return Answer(None, f"I found {missing} in this. {can_ask(recommender)}", understood=understood)
    if request.task == "next_item":
        if request.user_id is not None:
            found = recommender.recommend(request.user_id, k=request.k, dataset=dataset)
        else:
            found = recommender.recommend(history=request.items, k=request.k, dataset=dataset)
        whom = f"user {request.user_id}" if request.user_id is not None else f"item {', '.join(request.items)}"
        return _list(f"For {whom}:", found.frame.to_dicts(), understood, found.warnings)
    warnings: tuple[str, ...] = ()
    if request.title is not None:
        request, dataset, warnings = _with_item(recommender, request, dataset)
        understood = request.understood()
    predicted = recommender.predict(
        asked,
        users=request.user_id,
        items=request.items[0] if request.items else None,
        texts=request.text,
        dataset=dataset,
    )
    row = predicted.frame.row(0, named=True)
    probabilities = dict(zip(predicted.choices, row["probabilities"], strict=True))
    value = row["value"]
    shown = f"{value:.2f}" if isinstance(value, float) else str(value)
    chances = ", ".join(f"{choice} {p:.2f}" for choice, p in probabilities.items())
    content = {"value": value, "probabilities": probabilities}
    text = f"{request.task}: {shown} ({chances})"
    return Answer(request.task, text, row["dataset"], content, understood, warnings + predicted.warnings)


def _list(head: str, rows: list[dict[str, Any]], understood: dict[str, Any], warnings: tuple[str, ...]) -> Answer:
    items = [{k: r[k] for k in ("rank", "item_id", "title", "score", "probability")} for r in rows]
    lines = [f"{r['rank']:3}  {r['title'] or r['item_id']}  ({r['score']:.3f})" for r in items]
    dataset = rows[0]["dataset"] if rows else None
    return Answer("next_item", "\n".join([head, *lines]), dataset, {"items": items}, understood, warnings)


def _with_item(recommender: Recommender, request: Request, dataset: str | None) -> tuple[Request, str, tuple[str, ...]]:
    """The request with its title as an item id, and the data set that has it: the first of those with the task."""
    assert request.title is not None
    for name in [dataset] if dataset else [d for d in recommender.datasets if request.task in recommender.tasks(d)]:
        found = recommender.find_items(request.title, name)
        if found.height:
            several = found.height > 1
            note = (f"{request.title!r} fits {found.height} items; {found['title'][0]!r} is taken",) if several else ()
            return replace(request, items=(str(found["item_id"][0]),)), name, note
    raise GenrecError(f"no title contains {request.title!r}")


def _unknown_user(recommender: Recommender, request: Request, dataset: str | None, error: UnknownNameError) -> Answer:
    """The nearest ids, and the popular items, marked as such."""
    near = difflib.get_close_matches(error.name, recommender.all_users(dataset), n=3)
    popular = recommender.recommend(history=[], k=request.k, dataset=dataset)
    hint = f" Near it: {', '.join(near)}." if near else ""
    head = f"User {error.name} is unknown.{hint} The most popular items instead:"
    warning = (f"user {error.name} is unknown: strategy popular",)
    return _list(head, popular.frame.to_dicts(), request.understood(), warning + popular.warnings)
