"""Remarks on a sentence that was not understood, in its language: the parts that were, and examples of others."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..recommender import Recommender
from ..tasks.templates import render
from .examples import package_examples
from .language import language_of, remarks
from .reader import Reader
from .request import ANYBODY, DEFAULT_K, Answer, Asker, Request

SOME_USER = "42"  # in examples for a data set without users
HIDDEN = "..."  # what an example may not name, or cannot


def is_refused(request: Request) -> bool:
    """Whether all that would narrow a list was not understood."""
    return request.user_id is None and not request.items and bool(request.missed)


def refusal(recommender: Recommender, reader: Reader, request: Request, asker: Asker) -> Answer:
    """The parts of a request that were understood, those that were not, and examples of others."""
    words = remarks(request.language)
    joint = words["part_joint"]
    lines = [words["understood"].format(parts=joint.join(parts))] if (parts := parts_of(request)) else []
    missed = joint.join(map(repr, request.missed))
    remark = "missed" if request.task is not None else "task_missed_in" if missed else "task_missed"
    lines += [words[remark].format(missed=missed), can_ask(recommender, reader, request.language, asker)]
    return Answer(None, "\n".join(lines), understood=understood(request))


def understood(request: Request) -> dict[str, Any]:
    """The reading as JSON values."""
    title = request.items[0].title if request.items else None
    return request.to_json() | {"title": title, "k": request.k or DEFAULT_K}


def parts_of(request: Request) -> list[str]:
    """The request and what it names, in words."""
    words = remarks(request.language)
    parts = [words.get(request.kind or "", request.task)] if request.task else []
    parts += [words["user"].format(user=request.user_id)] if request.user_id is not None else []
    parts += [m.title for m in request.items]
    parts += [words["without"].format(title=m.title) for m in request.without]
    parts += [c.words() for c in request.conditions]
    return parts + ([words["size"].format(k=request.k)] if request.k is not None else [])


def can_ask(recommender: Recommender, reader: Reader, spoken: str, asker: Asker = ANYBODY) -> str:
    """A remark with examples of what can be asked, in a language."""
    words = remarks(spoken)
    return words["can_ask"].format(
        examples=words["example_joint"].join(examples_of(recommender, reader, spoken, asker))
    )


def examples_of(recommender: Recommender, reader: Reader, spoken: str, asker: Asker = ANYBODY) -> list[str]:
    """One example for each task of the run, with its own titles and a user who may be named; in another language if it
    has none in this one."""
    examples: dict[str, str] = {}
    for name, domain in reader.domains.items():
        values = example_values(recommender, name, asker)
        for task in domain.tasks:
            if sentences := (*reader.tasks[task].ask, *reader.examples[task]):
                examples.setdefault(task, render(first_in(spoken, sentences), values))
        for extra in ("rank", "explain") if reader.requests.offered(domain, "next") else ():
            examples.setdefault(extra, render(first_in(spoken, package_examples(extra)), values))
    return list(examples.values())


def example_values(recommender: Recommender, dataset: str, asker: Asker) -> Mapping[str, str]:
    """The values of placeholders in examples for a data set: its most frequent titles, a user who may be named."""
    items = recommender.catalogue(dataset).sort("train_count", descending=True, maintain_order=True)
    titles = [t for t in items["title"].head(5).to_list() if t] or [HIDDEN]
    user = recommender.some_user(dataset) or SOME_USER
    return {
        "user_id": user if asker.may_see(user) else asker.user or HIDDEN,
        "title": titles[0],
        "titles": ", ".join(titles[:2]),
        "item_id": "1",
        "text": f'"{HIDDEN}"',
        "k": "5",
        "days": "28",
        "condition": HIDDEN,
    }


def first_in(spoken: str, examples: Sequence[str]) -> str:
    """The first example in a language, else the first."""
    return next((e for e in examples if language_of(re.sub(r"{\w+}", "", e)) == spoken), examples[0])
