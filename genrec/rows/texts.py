"""Questions about texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..data.dataset import Part
from ..tasks.labels import task_rows
from ..tasks.task import Task
from ..tasks.templates import placeholders
from .arrays import choice_index
from .corpus import Corpus
from .row import Branch, Row, question_tokens, text_row
from .window import pick

REVIEW_TOKENS = 256  # a longer text keeps its first and last halves of this
UNCOUNTED = 1_024  # characters of a text of few words whose tokens are not counted


def sharing_texts(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks over texts, together if each shows the same columns in all its templates: a column that only one of
    them shows might give away what another asks."""
    groups: dict[object, list[Task]] = {}
    for task in tasks:
        if task.unit == "text":
            columns = {frozenset(placeholders(t)) for t in task.seen}
            groups.setdefault(columns.pop() if len(columns) == 1 else task.name, []).append(task)
    return list(groups.values())


def text_rows(
    corpus: Corpus,
    tasks: Sequence[Task],
    part: Part,
    templates: Sequence[Sequence[str]],
    seed: int,
    shuffle: bool = False,
    most: int | None = None,
) -> Iterator[Row]:
    """One row per text of `answered_texts`: a question with the text in it, the answers of all tasks its targets.

    templates: each task's; a row is asked in one of one of its tasks', drawn by seed.
    """
    yield from rows_of_texts(
        corpus, tasks, answered_texts(corpus, tasks, part, templates, seed, shuffle, most), templates, seed
    )


@dataclass(frozen=True)
class Texts:
    """Texts that tasks ask about, a row of `frame` each.

    answers: (texts, tasks) indices of the right answers, -1 for none. numbers: (texts, tasks) the right numbers
    themselves where the answers are numbers, else nan.
    """

    frame: pl.DataFrame
    answers: np.ndarray
    numbers: np.ndarray


def rows_of_texts(
    corpus: Corpus, tasks: Sequence[Task], texts: Texts, templates: Sequence[Sequence[str]], seed: int
) -> Iterator[Row]:
    """One row per text, as `text_rows`."""
    rng = np.random.default_rng([seed, 3])
    for record, indices in zip(texts.frame.iter_rows(named=True), texts.answers.tolist(), strict=True):
        task_numbers = [n for n, answer in enumerate(indices) if answer >= 0]
        template = pick(rng, templates[task_numbers[int(rng.integers(len(task_numbers)))]])
        branch = text_branch(corpus, template, record, [(tasks[n].name, indices[n]) for n in task_numbers])
        row = text_row(corpus, branch)
        if "row" in record:
            row.source.append(int(record["row"]))
        yield row


def answered_texts(
    corpus: Corpus,
    tasks: Sequence[Task],
    part: Part,
    templates: Sequence[Sequence[str]],
    seed: int,
    shuffle: bool = False,
    most: int | None = None,
) -> Texts:
    """The texts of a part that any of the tasks asks about; a text that lacks what a template shows is left out.

    shuffle: in drawn order. most: so many texts, drawn by seed, in their order.
    """
    columns = list(dict.fromkeys(n for of_task in templates for t in of_task for n in placeholders(t)))
    texts: pl.DataFrame | None = None
    for task in tasks:
        frame = task_rows(task, corpus.dataset, part)
        key = "row" if "row" in frame.columns else "item_id"
        if key == "row" and "learned" in corpus.dataset.interactions.columns:
            new_rows = corpus.dataset.interactions.filter(~pl.col("learned")).select("row")
            frame = frame.join(new_rows, on="row", how="semi", maintain_order="left")
        group = corpus.group_of(task)
        answer = pl.Series(f"answer {task.name}", choice_index(group, frame["label"]))
        number = frame["label"].cast(pl.Float64) if group.values else pl.lit(None, dtype=pl.Float64)
        on = list(dict.fromkeys([key, *columns]))
        frame = frame.select(*on, answer, number.alias(f"number {task.name}"))
        frame = frame.filter(pl.col(answer.name) >= 0).drop_nulls(columns)
        texts = frame if texts is None else texts.join(frame, on=on, how="full", coalesce=True, maintain_order="left")
    assert texts is not None
    if shuffle:
        texts = texts.sample(fraction=1.0, shuffle=True, seed=seed)
    if most is not None and texts.height > most:
        texts = texts[np.sort(np.random.default_rng([seed, 5]).choice(texts.height, most, replace=False))]
    answers = texts.select(pl.col(f"answer {t.name}").fill_null(-1) for t in tasks).to_numpy()
    return Texts(texts, answers, texts.select(pl.col(f"number {t.name}").fill_null(np.nan) for t in tasks).to_numpy())


def text_branch(corpus: Corpus, template: str, record: dict[str, object], answers: Sequence[tuple[str, int]]) -> Branch:
    """A question about a text, and the index of each task's answer; a long text loses its middle."""
    values = {
        k: shorten(corpus, str(v)) if k in ("text", "review") else str(v) for k, v in record.items() if v is not None
    }
    tokens = question_tokens(template, values, {}, corpus.encode)
    return Branch(tokens, 0, [(*answer, 1.0, -1) for answer in answers], sees_user=False, pooled=True)


def shorten(corpus: Corpus, text: str) -> str:
    """The text, or its first and last words if it is longer than REVIEW_TOKENS tokens; of one whose words are longer
    than that, its first and last characters."""
    words = text.split(" ")
    if len(words) <= REVIEW_TOKENS // 2 and len(text) <= UNCOUNTED:
        return text
    # more words than REVIEW_TOKENS are cut without counting tokens: each word is one at least
    while len(words) > 2 and (
        sum(map(bool, words)) > REVIEW_TOKENS or len(corpus.encode(" ".join(words))) > REVIEW_TOKENS
    ):
        half = int(len(words) * 0.9) // 2
        words = words[:half] + words[-half:]
    text = " ".join(words)
    while (tokens := len(corpus.encode(text))) > REVIEW_TOKENS:
        half = int(len(text) * 0.9 * REVIEW_TOKENS / tokens) // 2
        text = text[:half] + text[-half:] if half else ""
    return text
