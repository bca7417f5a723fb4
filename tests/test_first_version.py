"""Runs, stores, results and task files of the first version are read, and answer as they did.

tests/first_version/ was made by it: two runs on small worlds, what they answered (answers.json), a task file, and the
beginning of a run that was interrupted. All in float32, whatever the processor multiplies fastest.
"""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from genrec.cli import main
from genrec.evaluation.results import read_results
from genrec.recommender import Recommender
from genrec.run.adapter import load_adapter, save_adapter
from genrec.run.manifest import FORMAT, read_manifest
from genrec.store import open_store, record_events

FIRST = Path(__file__).parent / "first_version"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in; its runs name their files relative to it."""
    monkeypatch.setattr("genrec.model.backbone.choose_precision", lambda device: torch.float32)
    copy = tmp_path / "first"
    shutil.copytree(FIRST, copy)
    monkeypatch.chdir(copy)
    return copy


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dicts()


def answers() -> dict[str, Any]:
    """What answers.json holds."""
    chain, shop = Recommender.load("chain"), Recommender.load("shop")
    users = ["u000", "u001", "u017"]
    pair: dict[str, Any] = {"users": ["u000", "u001"], "items": ["005", "900"]}
    answered = {
        "recommend": chain.recommend(users, k=5).frame,
        "recommend_seen": chain.recommend(["u002"], k=14, exclude_seen=False).frame,
        "history": chain.recommend(history=["003", "004"], k=4).frame,
        "where": chain.recommend(["u003"], k=4, where="colour = 'blue'").frame,
        "popular": chain.recommend(history=[], k=4).frame,
        "similar": chain.similar("004", k=3).frame,
        "rating": chain.predict("rating", **pair).frame,
        "enjoys": chain.predict("enjoys", **pair).frame,
        "explain": chain.explain(["009"], user="u000").frame,
        "shop": shop.recommend(["h0", "h1"], k=5).frame,
        "shop purchase": shop.predict("purchase", users=["h0", "h1"], items=["p1", "p2"]).frame,
    }
    return {name: rows(frame) for name, frame in answered.items()} | {"tasks": shop.tasks()}


def close(answered: Any, expected: Any) -> Any:
    """The expected value, its numbers up to what another processor rounds otherwise."""
    if isinstance(expected, float):
        return pytest.approx(expected, rel=1e-4, abs=1e-5)
    if isinstance(expected, list):
        return [close(a, e) for a, e in zip(answered, expected, strict=True)]
    if isinstance(expected, dict):
        return {name: close(answered[name], value) for name, value in expected.items()}
    return expected


def test_its_runs_answer_as_they_did(folder: Path) -> None:
    expected = json.loads((folder / "answers.json").read_text())
    answered = answers()
    assert answered == close(answered, expected)


def test_its_keys_of_task_files_are_named_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    Recommender.load("chain")
    lines = [r.message for r in caplog.records if "task files" in r.message]
    assert lines == [f"{Path('chain/adapter')}: nothing reads the keys metrics and version of its task files any more"]


def test_its_results_are_read_and_measured_again_as_they_were(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_results(folder / "chain", "test")["datasets"]["chain"]["tasks"]
    shutil.copytree("chain", "again")
    assert main(["evaluate", "again"]) == 0
    after = read_results(folder / "again", "test")["datasets"]["chain"]["tasks"]
    assert set(after) == set(before) and "enjoys" in after
    for task, by_phrasing in before.items():
        for phrasing, measured in by_phrasing.items():
            for name, interval in measured["metrics"].items():
                value = after[task][phrasing]["metrics"][name]["value"]
                assert value == close(value, interval["value"]), (task, phrasing, name)
    capsys.readouterr()
    assert main(["compare", "chain", "again"]) == 0
    assert "again against chain" in capsys.readouterr().out


def test_it_is_trained_on_in_today_s_format(folder: Path) -> None:
    chain = Recommender.load("chain")
    user = chain.all_users()[0]
    assert chain.history(user).height == 8
    assert read_manifest(folder / "chain" / "adapter").format < FORMAT
    liked = [{"user_id": f"u{n:03}", "item_id": "900", "rating": 5.0, "timestamp": 2_000} for n in range(30)]
    with contextlib.closing(open_store(folder / "chain" / "store.db")) as store:
        assert record_events(store, "chain", liked) == ["recorded"] * 30
    assert main(["finetune", "--resume-from", "chain", "--epochs", "1", "--out", "later"]) == 0
    assert read_manifest(folder / "later" / "adapter").format == FORMAT
    assert (folder / "later" / "adapter" / "counts.safetensors").is_file()
    (first,) = {frame["item_id"][0] for frame in [Recommender.load("later").recommend([user], k=1).frame]}
    assert first in chain.catalogue()["item_id"].to_list()


def test_its_adapter_that_is_written_again_keeps_its_counts(folder: Path) -> None:
    path = folder / "chain" / "adapter"
    before = Recommender.load("chain").recommend(["u000", "u017"], k=5).frame
    a = load_adapter(path, merge=False)
    save_adapter(
        path,
        a.model,
        a.counts,
        a.tokenizer,
        replace(a.manifest, files={}),
        list(a.tasks.values()),
        a.catalogues,
        "",
    )
    assert read_manifest(path).format == FORMAT
    assert_frame_equal(Recommender.load("chain").recommend(["u000", "u017"], k=5).frame, before)


def test_its_interrupted_run_says_to_begin_anew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--interactions", "chain.csv", "--items", "items.csv", "--users", "users.csv"]
    rates = ["--lr", "5e-3", "--epochs", "400", "--patience", "400", "--batch-tokens", "256"]
    assert main(["finetune", *files, "--model", "tiny", "--layers", "2", "--out", "interrupted", *rates]) == 2
    error = capsys.readouterr().err
    assert "interrupted holds an interrupted run on other data, tasks, backbone or precision" in error
    assert "remove it" in error
