"""The latency of single answers."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..rows.corpus import Corpus
from ..store import open_store
from ..tasks.templates import placeholders
from .recommender import Recommender

if TYPE_CHECKING:
    from ..run.loaded import Loaded

K = 10  # items of a list
TIMED = 30  # users whose answers are timed


def latency_of(loaded: "Loaded") -> Callable[[Corpus], dict[str, Any]]:
    """A function from a data set of a run to how long single answers about it take."""
    recommender = Recommender(loaded.adapter, loaded.scorer, open_store(loaded.run.store))
    return lambda corpus: latency(recommender, corpus, loaded.config.seed)


def latency(recommender: Recommender, corpus: Corpus, seed: int) -> dict[str, Any]:
    """Milliseconds of single `recommend` and `predict` calls for users (or texts) that were not asked about before."""
    name = corpus.dataset.name
    tasks = {t.name for t in corpus.tasks}
    results: dict[str, Any] = {}
    rng = np.random.default_rng([seed, 22])
    users: list[str] = []
    if corpus.events is not None:
        users = [corpus.events.users[n] for n in rng.permutation(len(corpus.events.users))[: 2 * TIMED + 1]]
    if "next_item" in tasks and users:
        results["recommend"] = timed(lambda user: recommender.recommend(user, k=K, dataset=name), users[: TIMED + 1])
    if (prediction := predict_call(recommender, corpus, users[len(users) // 2 :], rng)) is not None:
        task, call, questions = prediction
        results["predict"] = {"task": task, **timed(call, questions)}
    return results


def predict_call(
    recommender: Recommender, corpus: Corpus, users: Sequence[str], rng: np.random.Generator
) -> tuple[str, Callable[[str], object], list[str]] | None:
    """A task that `predict` answers, a single call of it, and its arguments, one per call; None if there is none."""
    name, columns, ids = corpus.dataset.name, corpus.dataset.interactions.columns, corpus.dataset.items["item_id"]
    for task in corpus.tasks:
        shows_text = any(set(placeholders(t)) <= {"text", "review"} for t in task.seen)
        if task.unit == "text" and "review" in columns and shows_text:
            texts = corpus.dataset.interactions["review"].drop_nulls()
            texts = texts.filter(texts.str.strip_chars() != "")
            chosen = [texts[int(n)] for n in rng.permutation(len(texts))[: TIMED + 1]]
            return task.name, lambda text, t=task.name: recommender.predict(t, texts=text, dataset=name), chosen
        if task.unit in ("event", "user_time") and task.answer.kind != "item" and users:
            item = ids[int(rng.integers(len(ids)))] if task.unit == "event" else None
            call = partial(recommender.predict, task.name, items=item, dataset=name)
            return task.name, lambda user, call=call: call(users=user), list(users[: TIMED + 1])
    return None


def timed(call: Callable[[str], object], questions: Sequence[str]) -> dict[str, Any]:
    """How long a call takes; the first of several warms up."""
    seconds = []
    for question in questions:
        start = time.perf_counter()
        call(question)
        seconds.append(time.perf_counter() - start)
    milliseconds = np.asarray(seconds[1:] or seconds) * 1000
    return {
        "n": len(milliseconds),
        "median_ms": float(np.median(milliseconds)),
        "p95_ms": float(np.quantile(milliseconds, 0.95)),
    }
