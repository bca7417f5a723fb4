"""Texts: read from all of their tokens, with answers that start from what the backbone already knows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from worlds import review_world

from genrec.evaluation.reading import read_part
from genrec.rows.stored import read_row
from genrec.rows.texts import sharing_texts, text_rows
from genrec.run.config import FinetuneConfig
from genrec.scoring.scorer import Scorer
from genrec.training.prepare import Prepared, prepare
from genrec.training.start import build_model, fit_texts

PLEASED = """
task: pleased
description: Is the rating above 2?
unit: text
needs: [review, rating]
label: "rating > 2"
answer: {choices: ["no", "yes"]}
weight: 1.0
ask:
  - "are they pleased? {text}"
templates:
  seen:
    - "Is the writer pleased? {text}"
    - "{text} Pleased or not?"
  unseen:
    - "{text} Content?"
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, toy_files: Path) -> Callable[[], Prepared]:
    """Reviews whose last word but one decides the rating; a new backbone each time."""
    folder = tmp_path_factory.mktemp("reviews")
    said = pl.col("review").str.replace(r"(\w+) (thing , .*) (\w+)$", "$2 $1 $3")
    review_world(600).interactions.with_columns(said).drop("row", "event").write_csv(folder / "reviews.csv")
    (folder / "pleased.yaml").write_text(PLEASED)
    config = FinetuneConfig(
        interactions=str(folder / "reviews.csv"),
        model=str(toy_files / "tiny"),
        tasks=(str(folder / "pleased.yaml"),),
        task=("sentiment", "pleased"),
    )
    return lambda: prepare(config, lambda _: None)


def test_a_text_is_read_from_the_mean_of_its_states_alone_and_beside_others(prepared: Callable[[], Prepared]) -> None:
    known = prepared()
    model = build_model(FinetuneConfig(), known, 0).float().eval()
    (corpus,) = known.corpora
    rows = list(text_rows(corpus, corpus.tasks[:1], "test", [corpus.tasks[0].seen], 0))[:30]
    assert len({len(r.tokens) for r in rows}) > 1, "some are padded"
    together = Scorer(model).states(rows)
    alone = torch.cat([Scorer(model).states([r]) for r in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        plain = model.backbone(input_ids=torch.tensor([rows[0].tokens])).last_hidden_state[0, 1:].mean(0)
    torch.testing.assert_close(together[0], plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("task", ["sentiment", "pleased"])
def test_answers_start_from_what_the_backbone_makes_of_training_texts(
    prepared: Callable[[], Prepared], task: str
) -> None:
    known = prepared()
    model = build_model(FinetuneConfig(), known, 0)

    def right() -> float:
        outcomes = read_part(Scorer(model), known.corpora[0], "test", known.max_events).outcomes[task]
        return float((outcomes.scores.argmax(1) == outcomes.answer).mean())

    before = right()
    fit_texts(model, known, 0)
    assert right() >= 0.95 > before


def test_all_that_is_asked_about_a_text_is_one_row(prepared: Callable[[], Prepared]) -> None:
    known = prepared()
    (corpus,) = known.corpora
    rows = [read_row(known.rows[n]) for n in range(len(known.rows))]
    texts = {r["row"]: r for r in corpus.dataset.interactions.filter(part="train").iter_rows(named=True)}
    assert sorted(row.source[0] for row in rows) == sorted(texts)
    words = {t.name: corpus.group_of(t).words for t in corpus.tasks}
    assert corpus.tasks[1].name == "pleased"
    phrased = set()
    for row in rows:
        record = texts[row.source[0]]
        answers = {
            known.all_tasks[t].name: words[known.all_tasks[t].name][a]
            for t, a in zip(row.target_task, row.target_id, strict=True)
        }
        sentiment = "negative" if record["rating"] < 3 else "neutral" if record["rating"] == 3 else "positive"
        assert answers == {"sentiment": sentiment, "pleased": "yes" if record["rating"] > 2 else "no"}
        said = [t.format(text=record["review"]) for t in corpus.tasks[1].seen]
        phrased.add(row.tokens[1:] in [corpus.encode(s) for s in said])
    assert phrased == {True, False}, "each task's words are used"


def test_a_task_that_shows_more_than_the_text_is_asked_apart(prepared: Callable[[], Prepared]) -> None:
    sentiment, pleased = prepared().corpora[0].tasks
    telling = replace(pleased, name="telling", seen=("{text} has {rating} stars. Pleased?",))
    mixed = replace(pleased, name="mixed", seen=("{text}?", "{text} has {rating} stars. Pleased?"))
    found = sharing_texts([sentiment, telling, mixed, pleased])
    assert [[t.name for t in tasks] for tasks in found] == [["sentiment", "pleased"], ["telling"], ["mixed"]]
