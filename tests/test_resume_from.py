"""A run that is trained on with what its store took since: what is new is learned, what was known stays."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch

from genrec.cli import main
from genrec.recommender import Recommender
from genrec.run.config import FinetuneConfig, read_config
from genrec.run.data import load_data, trained_data
from genrec.run.folder import Run
from genrec.store.connect import open_store
from genrec.store.read import all_events
from genrec.store.write import add_items, record_events

RATES = ["--lr", "5e-3", "--row-lr", "2e-2", "--epochs", "30", "--patience", "30"]


@pytest.fixture
def run(toy_run: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "before"
    shutil.copytree(toy_run, copy)
    return copy


def new_habit(run: Path, users: int = 60) -> None:
    """New users who go two items back each time, which nobody did before."""
    with_store = open_store(run / "store.db")
    rows = []
    for user in range(users):
        for n in range(7):
            item = (user - 2 * n) % 12
            rating = 5.0 if item % 2 == 0 else 1.0
            rows.append({"user_id": f"new{user}", "item_id": f"{item:03}", "rating": rating, "timestamp": 9_000 + n})
    assert record_events(with_store, "chain", rows) == ["recorded"] * len(rows)
    with_store.close()


def share(run: Path, histories: list[list[str]], answers: list[str], k: int = 1) -> float:
    """How often the right answer is among the first k of a list."""
    recommender = Recommender.load(run)
    found = [recommender.recommend(history=h, k=k, exclude_seen=False).frame["item_id"].to_list() for h in histories]
    return sum(a in own for a, own in zip(answers, found, strict=True)) / len(answers)


def test_what_is_new_is_learned_and_what_was_known_stays(run: Path, tmp_path: Path) -> None:
    new_habit(run)
    out = tmp_path / "next"
    assert main(["finetune", "--resume-from", str(run), "--out", str(out), *RATES]) == 0
    back = [[f"{(s - 2 * n) % 12:03}" for n in range(4)] for s in range(12)]
    back_next = [f"{(s - 8) % 12:03}" for s in range(12)]
    on = [[f"{(s + n) % 12:03}" for n in range(4)] for s in range(12)]
    on_next = [f"{(s + 4) % 12:03}" for s in range(12)]
    assert share(run, back, back_next) < 0.3 < 0.7 < share(out, back, back_next)
    assert share(out, on, on_next) > 0.8
    store = open_store(out / "store.db")
    assert all_events(store, "chain")["part"].null_count() == 0
    assert main(["evaluate", str(out)]) == 0
    assert main(["finetune", "--resume-from", str(run), "--out", str(out), *RATES]) == 0  # finished already


def test_nothing_held_out_before_is_asked_for(run: Path, tmp_path: Path) -> None:
    new_habit(run)
    out = tmp_path / "next"
    assert main(["finetune", "--resume-from", str(run), "--out", str(out), "--epochs", "1"]) == 0
    (dataset,) = trained_data(Run(out))
    (old,) = load_data(FinetuneConfig(**read_config(run / "config.yaml")))  # type: ignore[arg-type]
    held = old.interactions.filter(pl.col("part") != "train").select("user_id", "item_id", "timestamp")
    shown = dataset.interactions.join(held, on=held.columns, how="semi")
    assert shown.height == held.height and shown["learned"].all()
    asked = dataset.interactions.filter(~pl.col("learned"))
    later = asked.filter(pl.col("user_id").str.starts_with("new"))
    assert later.height == 420 and later["user_id"].n_unique() == 60
    again = asked.join(later, on=asked.columns, how="anti", nulls_equal=True)  # lest what was learned is forgotten
    trained = old.interactions.filter(pl.col("part") == "train").select(held.columns)
    assert 0 < again["user_id"].n_unique() < old.interactions["user_id"].n_unique()
    assert again.join(trained, on=held.columns, how="semi").height == again.height
    parts = later.group_by("part").len()
    assert set(parts["part"]) == {"train", "valid", "test"}


def test_items_that_were_added_are_trained(run: Path, tmp_path: Path) -> None:
    store = open_store(run / "store.db")
    added = {"item_id": "new", "title": "blue 99", "colour": "blue", "year": 1999}
    add_items(store, "chain", [added])
    rows = [
        {"user_id": f"u{n:03}", "item_id": item, "rating": 1.0, "timestamp": 9_000 + place}
        for n in range(100)
        for place, item in enumerate(("003", "new", "005"))
    ]
    record_events(store, "chain", rows)
    store.close()
    out = tmp_path / "next"
    assert main(["finetune", "--resume-from", str(run), "--out", str(out), *RATES]) == 0
    jumps = [[f"{(s + n) % 12:03}" for n in range(4)] + ["003"] for s in range(12) if s != 11]  # 003 out of its turn
    # Half of the users are replayed, of whom 004 comes next: which of the two is first differs between processors.
    assert share(out, jumps, ["new"] * len(jumps), k=2) > 0.8
    after = Recommender.load(out)
    assert after.catalogue().filter(item_id="new")["train_count"][0] > 50
    before = Recommender.load(run)
    before.add_items([added])  # in the space of the texts that it was trained on
    texts = [r.adapter.model.rows_of("chain").text[r.views.of("chain").catalogue.index["new"]] for r in (before, after)]
    torch.testing.assert_close(*texts)


def test_an_interrupted_run_goes_on_to_the_same_weights(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_habit(run)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = ["finetune", "--resume-from", str(run), *RATES[:4], "--epochs", "3"]
    assert main([*command, "--out", str(whole)]) == 0

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("genrec.training.finetune.finish", interrupted)
    assert main([*command, "--out", str(parts)]) == 130
    monkeypatch.undo()
    assert main([*command, "--out", str(parts)]) == 0
    manifests = [json.loads((f / "adapter" / "genrec.json").read_text()) for f in (whole, parts)]
    assert manifests[0]["files"] == manifests[1]["files"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--layers", "1"], "--layers"),
        (["--split", "random"], "--split"),
        (["ml-100k"], "--names"),
        (["--config", "x.yaml"], "--config"),
    ],
)
def test_what_must_stay_cannot_be_given(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(["finetune", "--resume-from", str(run), "--out", str(tmp_path / "x"), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_dry_run_looks_at_what_came(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_habit(run)
    assert main(["finetune", "--resume-from", str(run), "--out", str(tmp_path / "x"), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "later events of 60 users" in said.out + said.err and "targets: next_item" in said.out
    assert not (tmp_path / "x").exists()


def test_nothing_new(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--resume-from", str(run), "--out", str(tmp_path / "x")]) == 2
    assert "no later event" in capsys.readouterr().err
    assert main(["finetune", "--resume-from", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "not a finished run" in capsys.readouterr().err
    unknown = open_store(run / "store.db")
    record_events(unknown, "chain", [{"user_id": "u001", "item_id": "nothing"}])
    unknown.close()
    assert main(["finetune", "--resume-from", str(run), "--out", str(tmp_path / "y")]) == 2
    assert "nothing" in capsys.readouterr().err


def test_a_limit_of_validation_reads_cases_among_many_users_without_any(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Few of the users have later events: those are drawn from, however little is read, and the lines say how few."""
    new_habit(run)
    out = tmp_path / "next"
    command = ["finetune", "--resume-from", str(run), "--out", str(out), "--epochs", "1", "--valid-tokens", "1"]
    assert main(command) == 0
    said = capsys.readouterr().err
    step = next(line for line in said.splitlines() if line.startswith("step "))
    assert "chain/next_item: only 1 case" in step and "chain/next_item/seen_removed/ndcg@10" in step


def test_a_training_that_cannot_begin_leaves_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_habit(run, users=2)
    out = tmp_path / "next"
    assert main(["finetune", "--resume-from", str(run), "--out", str(out)]) == 2
    assert "2 users have later events" in capsys.readouterr().err
    assert not out.exists()
    new_habit(run)
    assert main(["finetune", "--resume-from", str(run), "--out", str(out), "--epochs", "1"]) == 0
    assert "434 later events of 60 users" in capsys.readouterr().err
