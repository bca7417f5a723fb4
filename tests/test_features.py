"""What is known of a case besides what the model reads, and what calibration makes of it."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tiny import tiny_backbone
from worlds import DAY, WORDS, visits_world

from genrec.cli import main
from genrec.evaluation import metrics
from genrec.evaluation.held_out import held_out
from genrec.evaluation.reading import read_part
from genrec.recommender import Recommender
from genrec.rows.arrays import UNDATED
from genrec.run.loaded import Loaded, load_run
from genrec.scoring.calibration import Calibration
from genrec.scoring.features import visits
from genrec.store.write import add_events
from genrec.training.validate import fit_outcomes

TASKS = ["churn", "purchase", "next_item"]


@pytest.fixture(scope="module")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A run on users who come each week and users who come every 32 days, of a model that hardly learned anything."""
    folder = tmp_path_factory.mktemp("weekly")
    world = visits_world(users=400)
    world.interactions.select("user_id", "item_id", "timestamp", "event").write_parquet(folder / "visits.parquet")
    world.items.write_parquet(folder / "items.parquet")
    model = str(tiny_backbone(folder / "tiny", WORDS))
    data = ["--interactions", str(folder / "visits.parquet"), "--items", str(folder / "items.parquet")]
    options = ["--split", "temporal", "--days", "60", "--epochs", "1", "--lr", "1e-5"]
    options += [word for task in TASKS for word in ("--task", task)]
    assert main(["finetune", *data, "--model", model, *options, "--out", str(folder / "run")]) == 0
    return load_run(folder / "run")


def test_visits_of_a_user(weekly: Loaded) -> None:
    events = weekly.corpora[0].events
    assert events is not None
    time = np.asarray([0, 0, UNDATED, 3 * DAY, 5 * DAY, 5 * DAY, 5 * DAY])
    events = replace(events, users=("nobody", "once", "thrice"), time=time, offsets=np.asarray([0, 0, 2, 7]))
    assert (visits(events, 0) == 0).all()
    np.testing.assert_allclose(visits(events, 1), [1, 0, np.log(2), np.log(3), 0])
    np.testing.assert_allclose(visits(events, 2), [0, *np.log([3, 3, 5, 3])])


@pytest.mark.parametrize("task", ["churn", "purchase"])
def test_visits_tell_who_comes_back_and_buys(weekly: Loaded, task: str) -> None:
    """Features alone, without a model, once validation has shown what they mean."""
    (corpus,) = weekly.corpora
    engine, most = weekly.scorer, weekly.manifest.max_events
    reading = read_part(engine, corpus, "valid", most)
    blind = reading.outcomes[task]
    blind = replace(blind, scores=np.zeros_like(blind.scores))
    fitted = fit_outcomes(corpus, replace(reading, outcomes={task: blind}))[f"visits/{task}"]
    asked = read_part(engine, corpus, "test", most).outcomes[task]
    yes = replace(asked, scores=np.zeros_like(asked.scores)).probabilities(fitted)[:, 1]
    assert metrics.auc(yes, asked.answer == 1, asked.weight) > 0.99


@pytest.mark.parametrize(("task", "features"), [("churn", 5), ("purchase", 6)])
def test_predict_says_what_was_measured(weekly: Loaded, task: str, features: int) -> None:
    recommender, (corpus,) = Recommender.load(weekly.run.folder), weekly.corpora
    most = weekly.manifest.max_events
    fitted = Calibration.from_json(weekly.manifest.calibration[f"visits/{task}"])
    assert len(fitted.features) == features
    asked = read_part(weekly.scorer, corpus, "test", most).outcomes[task]
    measured = asked.probabilities(fitted)[:, 1]
    assert corpus.events is not None
    visible = held_out(corpus.events, "test").visible
    every = dict.fromkeys(asked.about)
    wanted = [*every][:2]
    for user in wanted:  # as known before the test part
        own = slice(*visible.offsets[[visible.users.index(user), visible.users.index(user) + 1]])
        items = corpus.dataset.items["item_id"].gather(visible.item[own].tolist())
        events = pl.DataFrame({"item_id": items, "event": "purchase", "timestamp": visible.time[own]})
        add_events(recommender.store, "visits", f"{task} {user}", events)
    cases = [n for n, user in enumerate(asked.about) if user in wanted]
    items = [asked.keys[n].removeprefix("item ") for n in cases] if task == "purchase" else None
    said = recommender.predict(task, users=[f"{task} {asked.about[n]}" for n in cases], items=items).frame
    assert [p[1] for p in said["probabilities"]] == pytest.approx(measured[cases], abs=0.01)  # of bfloat16


def test_few_cases_say_nothing_about_visits(weekly: Loaded) -> None:
    (corpus,) = weekly.corpora
    some = read_part(weekly.scorer, corpus, "valid", 100, max_users=100)
    assert fit_outcomes(corpus, some)["visits/churn"].features == ()
