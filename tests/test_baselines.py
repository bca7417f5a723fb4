"""Baselines beside a run: worlds whose right answer one of them must find, on the same cases as ours."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from worlds import chain_world, review_world, shop_world, visits_world, world

from genrec.baselines.cases import basket_cases, list_cases, list_ranks, pair_cases, training
from genrec.baselines.compare import list_comparison, outcome_comparison
from genrec.baselines.models import Predicted
from genrec.baselines.rivals import (
    baselines_of,
    basket_makers,
    filled,
    next_item_makers,
    pair_makers,
    text_makers,
    visit_makers,
)
from genrec.cli import main
from genrec.data.dataset import Dataset
from genrec.data.fetch import cache_folder
from genrec.evaluation.reading import Outcomes, read_part
from genrec.progress import SILENT
from genrec.rows.corpus import Corpus, build_corpus, offered_tasks, vocabulary_of
from genrec.run.loaded import load_run
from genrec.tasks.task import Task
from genrec.tasks.taskfile import load_task, load_tasks

Said = pytest.CaptureFixture[str]
RATING = Path(__file__).parents[1] / "scripts" / "quality" / "tasks" / "review_rating.yaml"


def corpus_of(dataset: Dataset, *names: str, own: tuple[Task, ...] = ()) -> Corpus:
    """A data set with some of its tasks, without a backbone: words are their letters."""
    tasks = [t for t in offered_tasks(dataset, [*load_tasks().values(), *own])[0] if t.name in names]
    vocabulary = vocabulary_of([dataset], {dataset.name: tasks}, 300)

    def encode(text: str) -> list[int]:
        return [ord(c) % 200 for c in text]

    return build_corpus(dataset, tasks, vocabulary, encode, 2, 0, [t.name for t in tasks])


def effects_world(users: int = 60, items: int = 30) -> Dataset:
    """Ratings that are what is usual of the user and of the item, in halves from 1 to 5."""
    rng = np.random.default_rng(0)
    user, item = rng.normal(0, 0.8, users), rng.normal(0, 0.8, items)
    rows: list[tuple[object, ...]] = []
    for u in range(users):
        for n, i in enumerate(rng.choice(items, 16, replace=False)):
            rating = float(np.clip(np.round(2 * (3 + user[u] + item[i])) / 2, 1, 5))
            part = "test" if n % 8 == 7 else "valid" if n % 8 == 6 else "train"
            rows.append((f"u{u}", f"i{i}", n, "rating", rating, part))
    return world("effects", rows, ["user_id", "item_id", "timestamp", "event", "rating", "part"])


def pairs_world(users: int = 150, pairs: int = 25) -> Dataset:
    """Items 2 i and 2 i + 1 go together, in no order; the last two items are partners of earlier ones."""
    rng = np.random.default_rng(0)
    rows: list[tuple[object, ...]] = []
    for u in range(users):
        chosen = rng.permutation(pairs)[:6]
        first = [int(2 * p + rng.integers(2)) for p in chosen]
        early = rng.permutation([*first, *(i ^ 1 for i in first[2:])])
        for n, i in enumerate([*early.tolist(), first[0] ^ 1, first[1] ^ 1]):
            part = {len(early): "valid", len(early) + 1: "test"}.get(n, "train")
            rows.append((f"u{u}", f"i{i:02}", n, "view", part))
    return world("pairs", rows, ["user_id", "item_id", "timestamp", "event", "part"])


def rmse(said: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((said - truth) ** 2)))


# --- models of our own environment --------------------------------------------------------------------------------


def test_means_of_users_and_items_explain_ratings_made_of_them() -> None:
    corpus = corpus_of(effects_world(), "rating")
    (task,) = corpus.tasks
    found = pair_makers(corpus, task, "test", 200, 0, SILENT)["user and item means"]()
    truth = np.asarray(task.answer.values)[pair_cases(corpus, task, "test", 200, 0).answer]
    assert rmse(found.arrays["values"], truth) < 0.4 < rmse(np.full(len(truth), truth.mean()), truth)
    assert found.settings["item damping"] <= 5 and found.searched == 64


def test_visits_tell_who_comes_back() -> None:
    corpus = corpus_of(visits_world(), "churn")
    (task,) = corpus.tasks
    found = visit_makers(corpus, task, "test", 200, 0, SILENT)["recency and frequency"]()
    asked = pair_cases(corpus, task, "test", 200, 0)
    yes = found.arrays["probabilities"][:, 1]
    assert set(asked.answer) == {0, 1} and ((yes >= found.arrays["threshold"]) == (asked.answer == 1)).all()


def test_words_tell_sentiment_and_rating() -> None:
    corpus = corpus_of(review_world(400), "sentiment", "review_rating", own=(load_task(RATING),))
    by_name = {t.name: t for t in corpus.tasks}
    frame = corpus.dataset.interactions.filter(pl.col("part") == "test")
    found = text_makers(corpus, by_name["sentiment"], "test", 0, SILENT)["TF-IDF + logistic regression"]()
    words = [by_name["sentiment"].answer.choices[n] for n in found.arrays["probabilities"].argmax(1)]
    assert words == [{5.0: "positive", 3.0: "neutral", 1.0: "negative"}[r] for r in frame["rating"]]
    found = text_makers(corpus, by_name["review_rating"], "test", 0, SILENT)["TF-IDF + ridge regression"]()
    assert rmse(found.arrays["values"], frame["rating"].to_numpy()) < 0.2


def test_own_most_frequent_items_are_counted() -> None:
    corpus = corpus_of(shop_world(), "next_item")
    asked = list_cases(corpus, "test", 0)
    found = next_item_makers(corpus, "test", 0, SILENT)["own most frequent"]().arrays["kept"]
    for case in range(5):
        own = asked.known.filter(pl.col("case") == case)["item"].to_list()
        often = [own.count(i) for i in found[case] if i in own]
        assert len(often) == len(set(own)) and often == sorted(often, reverse=True)
        assert sorted(found[case][: len(often)]) == sorted(set(own))


# --- the same cases, the same code --------------------------------------------------------------------------------


def test_the_cases_are_those_that_ours_reads(toy_run: Path) -> None:
    loaded = load_run(toy_run)
    (corpus,) = loaded.corpora
    reading = read_part(loaded.scorer, corpus, "test", loaded.manifest.max_events)
    asked = list_cases(corpus, "test", 0)
    assert reading.ranked is not None and list(asked.users) == reading.ranked.users
    assert all((a == b).all() for a, b in zip(asked.targets, reading.ranked.targets, strict=True))
    for task in corpus.tasks:
        if task.unit == "event" and task.answer.kind != "item":
            own = pair_cases(corpus, task, "test", 200, 0)
            assert own.about == reading.outcomes[task.name].about
            assert (own.answer == reading.outcomes[task.name].answer).all()


def test_what_is_known_before_a_case_holds_nothing_of_it() -> None:
    corpus = corpus_of(chain_world(), "next_item")
    assert corpus.events is not None
    train = training(corpus)
    assert train.height == int((corpus.events.part == 0).sum())
    valid, test = (list_cases(corpus, part, 0) for part in ("valid", "test"))
    assert valid.known["item"].to_list() == train["item"].to_list()
    for case, target in enumerate(test.targets):
        own = test.known.filter(pl.col("case") == case)["item"].to_list()
        assert len(own) == 7 and own[-1] == valid.targets[case][0] and target[0] == (own[-1] + 1) % 12


def test_a_basket_is_asked_without_its_missing_item() -> None:
    corpus = corpus_of(shop_world(), "basket")
    asked, before = basket_cases(corpus, corpus.tasks[0], "test", 0)
    assert len(asked.users) > 20
    for given, target in zip(asked.seen, asked.targets, strict=True):
        assert [i ^ 1 for i in given] == target.tolist()
    assert 0 < before.known["case"].n_unique() < len(asked.users)  # ours does not see every user either


def test_lists_go_on_with_what_is_popular() -> None:
    corpus = corpus_of(chain_world(items=30), "next_item")
    asked = list_cases(corpus, "test", 0)
    popular = np.arange(30)
    lists = filled([[5, 3]] + [[]] * (len(asked.users) - 1), asked, popular, removed=False)
    assert lists[0].tolist() == [5, 3, *(i for i in range(30) if i not in (5, 3))][:20]
    assert lists[1].tolist() == list(range(20))
    removed = filled([[]] * len(asked.users), asked, popular, removed=True)
    assert not any(set(own) & set(seen) for own, seen in zip(removed.tolist(), asked.seen, strict=True))


def test_ranks_in_lists() -> None:
    lists = np.asarray([[4, 2, -1], [1, 0, 3]])
    ranks = list_ranks(lists, [np.asarray([2]), np.asarray([3, 5])], 7)
    assert ranks[0].tolist() == [2] and ranks[1].tolist() == [3, 21]


def test_differences_are_those_of_the_values_and_none_to_oneself() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = ([rng.integers(1, 30, 1) for _ in range(200)] for _ in range(2))
    users = [f"u{n // 2}" for n in range(200)]
    mine, _ = list_comparison((ours, ours), (ours, ours), users)
    found, gain = list_comparison((ours, ours), (theirs, theirs), users)
    for name, (value, low, high) in gain.items():
        assert value == pytest.approx(mine[name][0] - found[name][0]) and low <= value <= high
    assert all(v == (0, 0, 0) for v in list_comparison((ours, ours), (ours, ours), users)[1].values())

    answer = rng.integers(2, size=200)
    yes = np.clip(0.3 * answer + 0.5 * rng.random(200), 0.01, 0.99)
    ours_p, theirs_p = (np.stack([1 - p, p], axis=1) for p in (yes, rng.random(200)))
    outcomes = Outcomes(ours_p, answer, np.ones(200), tuple(users), tuple(users))
    other = Predicted({}, 1, 0.0, 0.0, arrays={"probabilities": theirs_p, "threshold": np.asarray(0.5)})
    same = Predicted({}, 1, 0.0, 0.0, arrays={"probabilities": ours_p, "threshold": np.asarray(0.4)})
    mine, zero = outcome_comparison(outcomes, ours_p, 0.4, (), same)
    found, gain = outcome_comparison(outcomes, ours_p, 0.4, (), other)
    assert {"auc", "log_loss", "f1", "user_auc"} <= set(gain)
    for name, (value, *_) in gain.items():
        assert value == pytest.approx(mine[name][0] - found[name][0])
        assert zero[name][0] == 0
    assert gain["auc"][1] > 0


# --- the command --------------------------------------------------------------------------------------------------


def without_network(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    """No package index and no folder of packages for pip."""
    empty.mkdir()
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_CONFIG_FILE", os.devnull), ("PIP_FIND_LINKS", str(empty))):
        monkeypatch.setenv(name, value)


def test_an_environment_that_cannot_be_built_says_why(
    toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    run = tmp_path / "run"
    shutil.copytree(toy_run, run)
    monkeypatch.setenv("GENREC_CACHE", str(tmp_path / "cache"))
    without_network(monkeypatch, tmp_path / "empty")
    assert main(["evaluate", str(run), "--phrasing", "served", "--baselines"]) == 2
    said = capsys.readouterr().err
    assert "-m pip --python" in said and "No matching distribution found for torch" in said
    assert not list((tmp_path / "cache" / "environments").glob("baselines-*"))
    assert not (run / "results.json").exists()


def test_baselines_need_the_served_phrasing(toy_run: Path, capsys: Said) -> None:
    assert main(["evaluate", str(toy_run), "--phrasing", "unseen", "--baselines"]) == 2
    assert "add served to --phrasing" in capsys.readouterr().err


@pytest.fixture(scope="session")
def environments() -> Path:
    """Where the environment of the baselines is built, once for all tests and for the user."""
    folder = cache_folder() / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def fresh(environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that has nothing but the environment."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "environments").symlink_to(environments)
    monkeypatch.setenv("GENREC_CACHE", str(cache))
    return cache


def hits(found: Predicted, corpus: Corpus) -> float:
    """Share of the cases whose target is first, seen items removed."""
    targets = list_cases(corpus, "test", 0).targets
    return float(np.mean([own[0] in t for own, t in zip(found.arrays["removed"], targets, strict=True)]))


@pytest.mark.slow
def test_sasrec_finds_the_order_and_popularity_the_counts(fresh: Path) -> None:
    corpus = corpus_of(chain_world(items=40, users=250, length=14), "next_item")
    makers = next_item_makers(corpus, "test", 0, SILENT)
    popular, sasrec = makers["popularity"](), makers["SASRec"]()
    assert hits(sasrec, corpus) > 0.9 and hits(popular, corpus) < 0.2
    counts = np.bincount(training(corpus)["item"], minlength=40)
    assert (np.diff(counts[popular.arrays["kept"][0]]) <= 0).all()
    assert counts[popular.arrays["kept"]].min() >= np.sort(counts)[-20]


def test_words_find_what_is_called_alike() -> None:
    """Users take four things of one colour and then four of another one, of which the last two are held out."""
    rng, rows = np.random.default_rng(0), []
    for user in range(120):
        first, second = rng.choice(10, 2, replace=False)
        taken = [*(f"{first}{n}" for n in rng.permutation(4)), *(f"{second}{n}" for n in rng.permutation(4))]
        parts = ["train"] * 6 + ["valid", "test"]
        rows += [(f"u{user}", i, n, "view", part) for n, (i, part) in enumerate(zip(taken, parts, strict=True))]
    colours = world("colours", rows, ["user_id", "item_id", "timestamp", "event", "part"])
    titles = pl.format("colour{} thing{}", pl.col("item_id").str.head(1), pl.col("item_id").str.tail(1))
    titled = replace(colours, items=colours.items.with_columns(title=titles))
    found = next_item_makers(corpus_of(titled, "next_item"), "test", 0, SILENT)["TF-IDF"]()
    assert hits(found, corpus_of(titled, "next_item")) == 1 and found.valid["ndcg@10"] > 0.8
    assert (found.arrays["removed"][:, 0] != found.arrays["kept"][:, 0]).all()  # what was taken is like itself
    untitled = replace(colours, items=colours.items.with_columns(title=pl.lit(None, pl.String)))
    assert "TF-IDF" not in next_item_makers(corpus_of(untitled, "next_item"), "test", 0, SILENT)


@pytest.mark.slow
def test_item_models_find_what_goes_together(fresh: Path) -> None:
    corpus = corpus_of(pairs_world(), "next_item")
    makers = next_item_makers(corpus, "test", 0, SILENT)
    found = {name: makers[name]() for name in ("popularity", "ItemKNN", "EASE")}
    assert hits(found["popularity"], corpus) < 0.2
    assert hits(found["ItemKNN"], corpus) > 0.4 and hits(found["EASE"], corpus) > 0.9
    best = (1 + 1 / np.log2(3)) / 2  # on validation either of two missing partners may be the first to come
    assert found["ItemKNN"].searched == 12 and found["EASE"].valid["ndcg@10"] == pytest.approx(best, abs=0.05)
    shop = corpus_of(shop_world(), "basket")
    makers = basket_makers(shop, shop.tasks[0], "test", 0, SILENT)
    for name in ("ItemKNN", "EASE"):
        arrays = makers[name]().arrays
        assert (arrays["removed"][:, 0] == arrays["targets"]).mean() > 0.9


@pytest.mark.slow
def test_svd_explains_ratings_made_of_users_and_items(fresh: Path) -> None:
    corpus = corpus_of(effects_world(), "rating")
    (task,) = corpus.tasks
    said = pair_makers(corpus, task, "test", 200, 0, SILENT)["SVD++"]().arrays["values"]
    truth = np.asarray(task.answer.values)[pair_cases(corpus, task, "test", 200, 0).answer]
    assert rmse(said, truth) < 0.6 * rmse(np.full(len(truth), truth.mean()), truth)


@pytest.mark.slow
def test_a_second_evaluation_reads_what_the_first_predicted(
    toy_run: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    run = tmp_path / "run"
    shutil.copytree(toy_run, run)
    command = ["evaluate", str(run), "--phrasing", "served", "--baselines"]
    assert main(command) == 0
    said = capsys.readouterr().out
    first = json.loads((run / "results.json").read_text())["datasets"]["chain"]
    rows = {row["name"]: row for row in first["baselines"]["next_item"]}
    assert list(rows) == ["popularity", "TF-IDF", "ItemKNN", "EASE", "SASRec"] and all(name in said for name in rows)
    assert rows["SASRec"]["metrics"]["seen_removed/hr@1"]["value"] > 0.9
    own = first["tasks"]["next_item"]["served"]["metrics"]["seen_removed/ndcg@10"]["value"]
    gain = rows["popularity"]["difference"]["seen_removed/ndcg@10"]
    assert gain["value"] == pytest.approx(own - rows["popularity"]["metrics"]["seen_removed/ndcg@10"]["value"])
    assert gain["low"] > 0 and first["cost"]["train_seconds"] > 0 and first["cost"]["predict_ms"] > 0
    assert {row["name"] for row in first["baselines"]["rating"]} == {"user and item means", "SVD++"}

    (fresh / "environments").unlink()
    without_network(monkeypatch, tmp_path / "empty")
    assert main(command) == 0
    assert json.loads((run / "results.json").read_text())["datasets"]["chain"]["baselines"] == first["baselines"]
    (corpus,) = load_run(run).corpora
    corpus = replace(corpus, tasks=tuple(t for t in corpus.tasks if t.name == "next_item"))
    again, _ = baselines_of(corpus, "test", 150, 1, SILENT)  # a run with another seed is asked the same
    assert list(again["next_item"]) == list(rows)
    assert not (fresh / "environments").exists()
