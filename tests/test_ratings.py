"""Ratings on other scales than 1 to 5, trained and asked: half stars, 0 to 100, -10 to 10."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny import tiny_backbone

from genrec.cli import main
from genrec.errors import DataError
from genrec.recommender import Recommender
from genrec.run.manifest import read_manifest
from genrec.store.connect import open_store
from genrec.store.write import record_events

ITEMS, USERS, LENGTH = 12, 60, 9
RATES = ["--lr", "5e-3", "--row-lr", "2e-2", "--batch-tokens", "512", "--epochs", "8", "--patience", "8"]
SCALES: dict[str, tuple[float, float, Callable[[np.ndarray], np.ndarray]]] = {
    "half": (0.5, 4.5, lambda x: np.round(2 * x) / 2),
    "percent": (0.0, 100.0, lambda x: np.round(x)),
    "signed": (-10.0, 10.0, lambda x: np.round(x, 2)),
}


def quality(item: int) -> float:
    """How good an item is, from 0 to 1."""
    return (item * 5 % ITEMS) / (ITEMS - 1)


def write_ratings(path: Path, scale: str) -> None:
    """Ratings by an item's quality with some noise, items in any order; the last user's last one is 5 stars, which
    no other is."""
    rng = np.random.default_rng(0)
    low, high, rounded = SCALES[scale]
    rows = []
    for user in range(USERS):
        for n, item in enumerate(rng.permutation(ITEMS)[:LENGTH].tolist()):
            share = np.clip(quality(item) + rng.normal(0, 0.06), 0, 1)
            rows.append((f"u{user}", f"i{item}", float(rounded(low + share * (high - low))), 1_000 + n))
    if scale == "half":
        rows[-1] = (*rows[-1][:2], 5.0, rows[-1][3])
    pl.DataFrame(rows, ["user_id", "item_id", "rating", "timestamp"], orient="row").write_csv(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run on each scale, trained and evaluated through the command."""
    folder = tmp_path_factory.mktemp("scales")
    tiny_backbone(folder / "tiny", ["rated", "What", "next", "item"])
    for scale in SCALES:
        write_ratings(folder / f"{scale}.csv", scale)
        run = ["finetune", "--interactions", str(folder / f"{scale}.csv"), "--model", str(folder / "tiny")]
        assert main([*run, "--layers", "2", *RATES, "--out", str(folder / scale)]) == 0
        assert main(["evaluate", str(folder / scale), "--phrasing", "served"]) == 0
    return {scale: folder / scale for scale in SCALES}


def served(run: Path) -> dict[str, float]:
    """The metrics of the rating task."""
    (data,) = json.loads((run / "results.json").read_text())["datasets"].values()
    return {name: metric["value"] for name, metric in data["tasks"]["rating"]["served"]["metrics"].items()}


@pytest.mark.parametrize("scale", SCALES)
def test_errors_are_those_of_the_expected_value_in_the_scale_s_units(runs: dict[str, Path], scale: str) -> None:
    cases = pl.read_parquet(runs[scale] / "cases.parquet").filter(task="rating")
    values = read_manifest(runs[scale] / "adapter").vocabulary.group(scale, "rating").values
    expected = np.asarray(cases["probabilities"].to_list()) @ np.asarray(values)
    truth = cases["number"].to_numpy()
    ratings = pl.read_csv(runs[scale].parent / f"{scale}.csv")
    last = ratings.group_by("user_id", maintain_order=True).last()  # leave one out
    assert sorted(truth) == sorted(last["rating"])
    found = served(runs[scale])
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((expected - truth) ** 2)))
    assert found["mae"] == pytest.approx(np.mean(np.abs(expected - truth)))
    low, high, _ = SCALES[scale]
    assert found["rmse"] < 0.5 * truth.std() and expected.min() >= low and expected.max() <= high


@pytest.mark.parametrize("scale", SCALES)
def test_predictions_are_on_the_scale(runs: dict[str, Path], scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    low, high, _ = SCALES[scale]
    recommender = Recommender.load(runs[scale])
    items = [f"i{n}" for n in range(ITEMS)]
    frame = recommender.predict("rating", users=["u0"] * ITEMS, items=items).frame
    share = (frame["value"].to_numpy() - low) / (high - low)
    assert np.corrcoef(share, [quality(n) for n in range(ITEMS)])[0, 1] > 0.9
    assert share.min() >= 0 and share.max() <= 1 and share.max() - share.min() > 0.4
    assert main(["predict", str(runs[scale]), "--task", "rating", "--user", "u0", "--item", "i0"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("rating: ") and ("likeliest of 20: " in line) == (scale != "half")


def test_a_rating_that_only_a_held_out_row_has_is_measured_to_itself(runs: dict[str, Path]) -> None:
    manifest = read_manifest(runs["half"] / "adapter")
    assert manifest.vocabulary.group("half", "rating").values == tuple(np.arange(0.5, 5, 0.5))
    case = pl.read_parquet(runs["half"] / "cases.parquet").filter(task="rating", about=f"u{USERS - 1}")
    assert case["number"].to_list() == [5.0] and case["answer"].to_list() == [8]


def test_a_rating_between_those_of_training_is_recorded_and_read(runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["signed"], run)
    store = open_store(run / "store.db")
    recommender = Recommender.load(run)
    edges = read_manifest(run / "adapter").vocabulary.group("signed", "rating").edges
    given = [-10.0, (edges[4] + edges[5]) / 2 + 1e-3, 9.999]
    rows = [
        {"user_id": "new", "item_id": f"i{n}", "timestamp": 5_000 + n} | recommender.outcome_of("signed", None, value)
        for n, value in enumerate(given)
    ]
    assert record_events(store, "signed", rows) == ["recorded"] * 3
    store.close()
    recommender = Recommender.load(run)
    assert recommender.history("new")["rating"].to_list() == given
    middle = [float(np.mean(edges[n : n + 2])) for n in (0, 4, 19)]  # other numbers of the same bins
    like = pl.DataFrame({"item_id": ["i0", "i1", "i2"], "rating": middle})
    lists = [recommender.recommend("new", k=9).frame, recommender.recommend(history=like, k=9).frame]
    assert lists[0]["item_id"].to_list() == lists[1]["item_id"].to_list()
    assert lists[0]["score"].to_list() == pytest.approx(lists[1]["score"].to_list(), abs=1e-5)
    with pytest.raises(DataError, match="a rating of 11: those of signed go from -10 to 10, so that at least -10"):
        recommender.outcome_of("signed", None, 11)
    with pytest.raises(DataError, match="a rating of 55"):
        recommender.recommend(history=pl.DataFrame({"item_id": ["i0"], "rating": [55.0]}))
    assert recommender.outcome_of("signed", "dislike", None) == {"event": "dislike", "rating": edges[0]}


def test_an_end_of_the_scale_that_training_lacks_is_recorded(runs: dict[str, Path]) -> None:
    recommender = Recommender.load(runs["half"])
    assert recommender.outcome_of("half", "rating", 5.0) == {"event": "rating", "rating": 5.0}
    assert recommender.outcome_of("half", "rating", 0) == {"event": "rating", "rating": 0}


def test_a_run_reads_the_same_after_it_is_moved_and_trained_on(runs: dict[str, Path], tmp_path: Path) -> None:
    run, later = tmp_path / "moved", tmp_path / "later"
    shutil.copytree(runs["percent"], run)
    asked = {"users": ["u0", "u1"], "items": ["i3", "i4"]}
    before, after = (Recommender.load(r).predict("rating", **asked).frame for r in (runs["percent"], run))
    assert before.equals(after)
    store = open_store(run / "store.db")
    rows = [
        {"user_id": f"n{u}", "item_id": f"i{n}", "rating": 33.3 + u, "timestamp": 9_000 + n}
        for u in range(40)
        for n in range(4)
    ]
    assert record_events(store, "percent", rows) == ["recorded"] * len(rows)
    store.close()
    assert main(["finetune", "--resume-from", str(run), "--out", str(later), "--epochs", "1"]) == 0
    old, new = (read_manifest(r / "adapter").vocabulary.group("percent", "rating") for r in (run, later))
    assert (old.words, old.values, old.edges) == (new.words, new.values, new.edges)
    assert 0 <= Recommender.load(later).predict("rating", **asked).frame["value"].min() <= 100
