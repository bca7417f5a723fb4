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
from genrec.scoring.features import feature_names, visits
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
    fitted = fit_outcomes(engine, corpus, replace(reading, outcomes={task: blind}))[f"visits/{task}"]
    asked = read_part(engine, corpus, "test", most).outcomes[task]
    yes = replace(asked, scores=np.zeros_like(asked.scores)).probabilities(fitted)[:, 1]
    assert metrics.auc(yes, asked.answer == 1, asked.weight) > 0.99


@pytest.mark.parametrize(("task", "features"), [("churn", 5), ("purchase", 7)])
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


COLOURS = ("red", "blue", "new", "old")
ASKED = 200  # the first item that no history holds


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A run on impressions of items that are never in training, of a model that hardly learned anything: users click
    what has the colour of their history."""
    folder = tmp_path_factory.mktemp("shown")
    items = [f"i{n}" for n in range(2 * ASKED)]
    colours = [[COLOURS[n % 4], "thing"] if n % 3 else [COLOURS[n % 4]] for n in range(2 * ASKED)]
    pl.DataFrame({"item_id": items, "colours": colours, "text": items}).write_parquet(folder / "items.parquet")
    rng, rows = np.random.default_rng(0), []
    for user in range(500):
        colour, part = user % 4, "train" if user < 200 else "valid" if user < 400 else "test"
        history = [items[4 * n + colour] for n in rng.choice(ASKED // 4, 5, replace=False)]
        start = 0 if part == "train" else ASKED
        four = [items[start + 4 * int(n) + c] for c, n in enumerate(rng.integers(0, ASKED // 4, 4))]
        rows.append({"user_id": f"u{user}", "history": history, "shown": four, "clicked": [four[colour]], "part": part})
    pl.DataFrame(rows).write_parquet(folder / "shown.parquet")
    model = str(tiny_backbone(folder / "tiny", WORDS))
    data = ["--interactions", str(folder / "shown.parquet"), "--items", str(folder / "items.parquet")]
    options = ["--split", "given", "--task", "click", "--epochs", "1", "--lr", "1e-5", "--row-lr", "1e-5"]
    assert main(["finetune", *data, "--model", model, *options, "--out", str(folder / "run")]) == 0
    return load_run(folder / "run")


def test_what_an_item_shares_with_the_history_tells_of_items_that_nobody_took(shown: Loaded) -> None:
    (corpus,) = shown.corpora
    counts = shown.scorer.counts[corpus.dataset.name]
    assert counts.attributes == ("colours",)  # of texts of which each item has its own, nothing can be shared
    asked = read_part(shown.scorer, corpus, "test", shown.manifest.max_events).outcomes["click"]
    fitted = Calibration.from_json(shown.manifest.calibration["shown/click"])
    within = metrics.user_auc(
        asked.probabilities(fitted)[:, 1], asked.answer == 1, np.arange(len(asked.about)) // 4, asked.weight
    )
    assert np.mean([*within.values()]) > 0.98
    names = feature_names(counts, next(t for t in corpus.tasks if t.name == "click"))
    assert asked.features is not None and names[-2:] == ["likeness", "colours"]
    shared = asked.features[:, -1]  # every item has the colour of a quarter, some are things as well
    assert np.allclose(shared[asked.answer == 1], np.log1p(5)) and shared[asked.answer == 0].max() < np.log1p(5) + 1e-9


def test_an_item_added_later_shares_as_the_others_do(shown: Loaded) -> None:
    recommender = Recommender.load(shown.run.folder)
    users = [f"u{n}" for n in range(400, 440)]
    added = [{"item_id": f"late {c}", "title": f"{c} thing", "colours": [c], "text": "late"} for c in COLOURS]
    recommender.add_items(added)
    found = recommender.predict(
        "click", users=[u for u in users for _ in COLOURS], items=[i["item_id"] for i in added] * 40
    )
    yes = np.asarray([p[1] for p in found.frame["probabilities"]]).reshape(40, 4)
    assert np.mean(yes.argmax(1) == np.arange(40) % 4) > 0.9


def test_few_cases_say_nothing_about_visits(weekly: Loaded) -> None:
    (corpus,) = weekly.corpora
    some = read_part(weekly.scorer, corpus, "valid", 100, max_users=100)
    assert fit_outcomes(weekly.scorer, corpus, some)["visits/churn"].features == ()
