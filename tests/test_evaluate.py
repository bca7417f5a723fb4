"""genrec evaluate: what it measures is what recommend and predict answer, and what training wrote down."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from worlds import review_world

from genrec.cli import main
from genrec.evaluation.cases import cases_of
from genrec.evaluation.lists import list_results
from genrec.evaluation.reading import Outcomes, Reading, next_item_metrics, read_part
from genrec.evaluation.summary import summary
from genrec.recommender import Recommender
from genrec.run.loaded import load_run
from genrec.scoring.calibration import Calibration
from genrec.scoring.scorer import Scorer

Said = pytest.CaptureFixture[str]


@pytest.fixture
def run(evaluated_run: Path) -> Path:
    """The toy run, evaluated."""
    return evaluated_run


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def test_the_served_phrasing_gives_what_training_measured(run: Path) -> None:
    found = results(run)["datasets"]["chain"]["tasks"]
    metrics = Recommender.load(run).adapter.manifest.metrics
    for task, metric in (
        ("next_item", "seen_removed/ndcg@10"),
        ("next_item", "seen_kept/mrr@5"),
        ("rating", "rmse"),
        ("rating", "log_loss"),
    ):
        own = found[task]["served"]["metrics"][metric]
        assert own["value"] == pytest.approx(metrics[f"chain/{task}/{metric}"], abs=2e-3)
        assert own["low"] <= own["value"] <= own["high"]
    assert set(found["rating"]) == {"served", "seen", "unseen"}


def test_hits_are_those_of_the_recommended_lists(run: Path) -> None:
    """The lists for the histories before each held-out item, asked for one by one, hit as often."""
    (corpus,), recommender = load_run(run).corpora, Recommender.load(run)
    frame = corpus.dataset.interactions
    hits = []
    for user in frame["user_id"].unique(maintain_order=True)[:40]:
        own = frame.filter(frame["user_id"] == user)
        before = own.filter(own["part"] != "test")["item_id"].to_list()
        held = own.filter(own["part"] == "test")["item_id"].to_list()
        listed = recommender.recommend(history=before, k=1).frame["item_id"].to_list()
        hits.append(listed == held[:1])
    every = results(run)["datasets"]["chain"]["tasks"]["next_item"]["served"]["metrics"]["seen_removed/hr@1"]["value"]
    assert np.mean(hits) == pytest.approx(every, abs=0.1)


def test_examples_are_cases_of_the_evaluation(run: Path) -> None:
    """An example's right item has the rank that the case had, is marked where it is listed, and reasons are taken from
    the user's own history."""
    cases = pl.read_parquet(run / "cases.parquet").filter(task="next_item", phrasing="served")
    ranks = dict(zip(cases["about"], cases["ranks_removed"].to_list(), strict=True))
    (corpus,) = load_run(run).corpora
    before = corpus.dataset.interactions.filter(pl.col("part") != "test")
    found = results(run)["datasets"]["chain"]["examples"]
    assert len({e["user_id"] for e in found}) == 12
    for example in found:
        own = before.filter(user_id=example["user_id"])["item_id"].to_list()
        assert [e["item_id"] for e in example["history"]] == own[-10:] and example["interactions"] == len(own)
        (right,) = example["right"]
        assert ranks[example["user_id"]] == [right["rank"]]
        marked = [i["item_id"] for i in example["items"] if i["right"]]
        assert marked == ([right["item_id"]] if right["rank"] <= len(example["items"]) else [])
        assert not {i["item_id"] for i in example["items"]} & set(own)
        reasons = [r for i in example["items"] for r in i["reasons"]]
        assert reasons and all(r["item_id"] in own and r["effect"] > 0 for r in reasons)
    assert sum(e["items"][0]["reasons"][0]["item_id"] == e["history"][-1]["item_id"] for e in found) > 6  # the chain


def test_cases_hold_the_probabilities_that_are_measured(toy_run: Path) -> None:
    """What is known of a case besides the model's scores is in its probabilities, too."""
    (corpus,) = load_run(toy_run).corpora
    rng = np.random.default_rng(0)
    scores, features = rng.normal(size=(4, 2)), rng.normal(size=(4, 3))
    own = Outcomes(
        scores, np.asarray([0, 1, 1, 0]), np.ones(4), ("u0", "u0", "u1", "u2"), ("a", "b", "a", "a"), features
    )
    fitted = Calibration(2.0, (0.1, 0.0), (0.5, -1.0, 2.0), (-1.0, 1.0))
    cases = cases_of(corpus, "served", Reading(None, {"rating": own}, None), {"rating": fitted})
    assert np.asarray(cases["probabilities"].to_list()) == pytest.approx(fitted.probabilities(scores, features))
    assert list(zip(cases["about"], cases["case"], strict=True)) == list(zip(own.about, own.keys, strict=True))


def test_popularity_shares_and_coverage_are_counts(run: Path) -> None:
    (corpus,) = load_run(run).corpora
    found = results(run)["datasets"]["chain"]["tasks"]["next_item"]["served"]
    assert found["coverage"][9] == found["lists"]["coverage@10"] and found["coverage"] == sorted(found["coverage"])
    frame = corpus.dataset.interactions
    counts = frame.filter(part="train")["item_id"].value_counts(sort=True)["count"].to_list()
    assert found["popularity"]["train"][0] == pytest.approx(sum(counts[:2]) / sum(counts))  # 12 items: a tenth holds 2
    assert sum(found["popularity"]["lists"]) == pytest.approx(1) == pytest.approx(sum(found["popularity"]["held_out"]))


def test_answers_are_timed(run: Path) -> None:
    latency = results(run)["datasets"]["chain"]["latency"]
    assert latency["predict"]["task"] in ("click", "rating") and latency["recommend"]["n"] == 30
    assert all(0 < own["median_ms"] <= own["p95_ms"] for own in latency.values())


def test_a_run_whose_data_changed_is_refused(toy_files: Path, toy_run: Path, tmp_path: Path, capsys: Said) -> None:
    """A run of an earlier version holds no data of its own: it is measured on the original."""
    run = tmp_path / "run"
    shutil.copytree(toy_run, run)
    shutil.rmtree(run / "data")
    data = tmp_path / "chain.csv"
    data.write_text("\n".join((toy_files / "chain.csv").read_text().splitlines()[:-3]) + "\n")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(toy_files / "chain.csv"), str(data)))
    assert main(["evaluate", str(run)]) == 2
    assert "trained on other data" in capsys.readouterr().err
    assert not (run / "results.json").exists()


def test_texts_have_macro_metrics_and_a_confusion_matrix(toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    review_world(400).interactions.drop("row", "event").write_csv(tmp_path / "reviews.csv")
    files = ["--interactions", str(tmp_path / "reviews.csv"), "--model", str(toy_files / "tiny"), "--layers", "2"]
    run = str(tmp_path / "run")
    assert main(["finetune", *files, "--task", "sentiment", "--epochs", "8", "--out", run]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--phrasing", "served", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["datasets"]["reviews"]["tasks"]["sentiment"]["served"]
    assert found["metrics"]["macro_f1"]["value"] > 0.95
    matrix = np.asarray(found["confusion"]["right_by_chosen"])
    assert found["confusion"]["answers"] == ["negative", "neutral", "positive"] and matrix.sum() == found["n"]
    assert np.diag(matrix).sum() / matrix.sum() == pytest.approx(found["metrics"]["accuracy"]["value"])


def test_what_lists_are_made_of() -> None:
    count = np.asarray([8, 4, 2, 1, 0])
    vectors = np.eye(5)
    popular = list_results(np.asarray([[0, 1], [0, 1]]), count, vectors)
    rare = list_results(np.asarray([[3, 4], [2, -1]]), count, vectors)
    assert popular["coverage@10"] == pytest.approx(2 / 5) and rare["coverage@10"] == pytest.approx(3 / 5)
    assert popular["novelty@10"] < rare["novelty@10"]
    assert popular["popularity_lift@10"] > 1 > rare["popularity_lift@10"]
    assert popular["diversity@10"] == pytest.approx(1)
    assert list_results(np.asarray([[0, 1]]), count, np.ones((5, 2)))["diversity@10"] == pytest.approx(0)


def test_each_task_is_measured_by_part(run: Path) -> None:
    """All together is what is served; a model without its counts measures what the language model's part says."""
    data = results(run)["datasets"]["chain"]
    for task, by_part in data["parts"].items():
        assert list(by_part) == ["language model", "counts", "texts", "counts and texts", "all"]
        served = data["tasks"][task]["served"]
        assert by_part["all"]["n"] == served["n"]
        for name, interval in by_part["all"]["metrics"].items():
            assert interval["value"] == pytest.approx(served["metrics"][name]["value"], abs=1e-6), (task, name)
        for part in list(by_part)[:-1]:
            for name, gain in by_part[part]["difference"].items():
                both = [by_part[p]["metrics"][name]["value"] for p in ("all", part)]
                assert gain["value"] == pytest.approx(both[0] - both[1], abs=1e-6), (task, part, name)
    loaded = load_run(run)
    (corpus,) = loaded.corpora
    alone = Scorer(loaded.adapter.model)
    ranked = read_part(alone, corpus, "test", loaded.manifest.max_events, seed=loaded.config.seed).ranked
    assert ranked is not None
    ndcg = next_item_metrics(ranked)["seen_removed/ndcg@10"]
    assert data["parts"]["next_item"]["language model"]["metrics"]["seen_removed/ndcg@10"]["value"] == pytest.approx(
        ndcg
    )
    rmse = {part: own["metrics"]["rmse"]["value"] for part, own in data["parts"]["rating"].items()}
    assert rmse["counts"] < 0.5  # each item is always rated alike, which its effect says


def test_the_summary_shows_the_parts(run: Path, capsys: Said) -> None:
    shown = summary(json.loads((run / "results.json").read_text()))
    (first, *_) = [line for line in shown.splitlines() if line.strip().startswith("by part")]
    assert "seen_removed/ndcg@10" in first
    assert sum(line.strip().startswith("language model") for line in shown.splitlines()) == len(
        results(run)["datasets"]["chain"]["parts"]
    )
