"""A run is self-contained: it is measured, trained on and aligned from its own folder, wherever that is."""

import contextlib
import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import toy_command

from genrec.cli import main
from genrec.data.dataset import Dataset
from genrec.evaluation.results import read_results
from genrec.recommender import Recommender
from genrec.run.data import load_data, trained_data
from genrec.run.folder import Run
from genrec.run.saved import forget_users, saved_data, split_again
from genrec.store.connect import open_store
from genrec.store.read import has_user
from genrec.store.write import delete_user, record_events

Said = pytest.CaptureFixture[str]
TIMES = ("made", "run", "commands", "read_seconds", "cost", "latency")


def untimed(value: Any) -> Any:
    """Results without what differs between two measurements of one run."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in TIMES}
    return [untimed(v) for v in value] if isinstance(value, list) else value


@pytest.fixture
def alone(evaluated_run: Path, toy_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The evaluated run at another place, with another working directory, and its original files gone."""
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(evaluated_run, moved)
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = moved / "config.yaml"
    text = config.read_text()
    for name in ("chain", "items", "users"):
        text = text.replace(str(toy_files / f"{name}.csv"), str(tmp_path / "gone" / f"{name}.csv"))
    config.write_text(text)
    return moved


def same(one: Dataset, other: Dataset) -> bool:
    frames = all(getattr(one, n).equals(getattr(other, n)) for n in ("interactions", "items", "users"))
    schemas = all(getattr(one, n).schema == getattr(other, n).schema for n in ("interactions", "items", "users"))
    facts = [(d.name, d.notes, d.licence, d.fingerprint, d.split_method, d.cutoffs) for d in (one, other)]
    return frames and schemas and facts[0] == facts[1]


def test_it_holds_the_data_as_it_was_trained_on(toy_run: Path) -> None:
    run = Run(toy_run)
    (saved,), (read,) = trained_data(run), load_data(run.config())
    assert same(saved, read)
    folders = [run.data, *(p for p in run.data.rglob("*") if p.is_dir())]
    assert {stat.S_IMODE(p.stat().st_mode) for p in folders} == {0o700}
    files = [p for p in run.data.rglob("*") if p.is_file() and p.parent.name != "tasks"]
    assert files and {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}


def test_a_moved_run_measures_the_same(alone: Path, evaluated_run: Path) -> None:
    assert main(["evaluate", "run"]) == 0
    assert untimed(read_results(alone, "test")) == untimed(read_results(evaluated_run, "test"))
    cases = [pl.read_parquet(folder / "cases.parquet") for folder in (alone, evaluated_run)]
    assert cases[0].equals(cases[1])
    assert main(["report", "run"]) == 0 and main(["compare", str(evaluated_run), "run"]) == 0


def test_a_moved_run_is_trained_on_and_aligned(alone: Path, capsys: Said) -> None:
    with contextlib.closing(open_store(alone / "store.db")) as store:
        rows = [
            {"user_id": f"new{n}", "item_id": f"{(n + place) % 12:03}", "rating": 5.0, "timestamp": 9_000 + place}
            for n in range(30)
            for place in range(4)
        ]
        record_events(store, "chain", rows)
    assert main(["finetune", "--resume-from", "run", "--epochs", "1", "--out", "next"]) == 0
    assert not (Path("next") / "later.parquet").exists()
    shutil.rmtree(alone / "data" / "0")  # the new run needs nothing of the one before
    assert main(["evaluate", "next"]) == 0
    assert main(["finetune", "--resume-from", "run", "--epochs", "1", "--out", "next"]) == 0
    assert "finished already" in capsys.readouterr().err


def test_a_moved_run_is_aligned(alone: Path) -> None:
    pytest.importorskip("trl")
    assert main(["align", "run", "--out", "aligned", "--epochs", "1"]) == 0
    shutil.rmtree(alone)
    assert main(["evaluate", "aligned", "--phrasing", "served"]) == 0


def test_other_seeds_and_folds_train_on_the_same_data(alone: Path) -> None:
    config = alone / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 30", "epochs: 1"))
    assert main(["evaluate", "run", "--phrasing", "served", "--seeds", "2"]) == 0
    assert read_results(alone, "test")["seeds"]["same_data"]


def test_it_is_split_again_as_it_would_have_been(tmp_path: Path, toy_files: Path) -> None:
    rows = [(f"u{n % 30}", f"{n % 12:03}", None if n % 7 == 0 else float(n % 5 + 1), n) for n in range(300)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    frame.with_columns(pl.lit("train").alias("part")).write_csv(tmp_path / "gaps.csv")
    out = tmp_path / "run"
    options = ["--interactions", str(tmp_path / "gaps.csv"), "--items", str(toy_files / "items.csv"), "--epochs", "1"]
    command = ["finetune", *options, "--model", str(toy_files / "tiny"), "--missing", "rating=mean", "--split"]
    assert main([*command, "k_fold", "--fold", "1", "--out", str(out)]) == 0
    run = Run(out)
    config = run.config()
    for fold in (0, 1, 2):
        other = replace(config, fold=fold)
        (again,), (read,) = split_again(run, other) or (), load_data(other)
        assert same(again, read), fold


def test_a_deleted_user_is_in_no_file_that_is_read_again(alone: Path) -> None:
    (before,) = trained_data(Run(alone))
    assert "u007" in before.interactions["user_id"].to_list()
    with contextlib.closing(open_store(alone / "store.db")) as store:
        delete_user(store, "u007")
    assert main(["evaluate", "run"]) == 0
    (after,) = trained_data(Run(alone))
    for frame, full in ((after.interactions, before.interactions), (after.users, before.users)):
        assert frame.equals(full.filter(pl.col("user_id") != "u007")) and frame.height < full.height
    assert b"u007" not in b"".join(p.read_bytes() for p in (alone / "data").rglob("*.parquet"))
    assert "u007" not in pl.read_parquet(alone / "cases.parquet")["about"].to_list()
    notes = read_results(alone, "test")["datasets"]["chain"]["notes"]
    assert "users who were deleted since the training and are left out: 1" in notes
    pytest.importorskip("trl")
    assert main(["align", "run", "--out", "aligned", "--epochs", "1"]) == 0
    assert trained_data(Run(Path("aligned")))[0].interactions.equals(after.interactions)


def test_a_server_s_deletion_reaches_every_file(alone: Path) -> None:
    shutil.copytree(alone, alone / "seeds" / "1")
    recommender = Recommender.load(alone)
    assert recommender.records.delete_user("u007")["users"] == 1
    recommender.records.close()
    for folder in (alone, alone / "seeds" / "1"):
        with contextlib.closing(open_store(folder / "store.db")) as store:
            assert not has_user(store, "chain", "u007")
        parquet = list((folder / "data").rglob("*.parquet"))
        assert parquet and all(b"u007" not in path.read_bytes() for path in parquet)


def test_a_deletion_that_cannot_be_written_still_holds(alone: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in list((alone / "data" / "0").glob("*.parquet")):
        path.with_name(f".{path.name}.partial").mkdir()  # where the file would be written
    with contextlib.closing(open_store(alone / "store.db")) as store:
        delete_user(store, "u007")
    (data,) = trained_data(Run(alone))
    assert "u007" not in data.interactions["user_id"].to_list()
    assert "deleted users are still in" in caplog.text


def test_files_that_do_not_belong_are_refused(alone: Path, capsys: Said) -> None:
    described = alone / "data" / "data.json"
    value = json.loads(described.read_text())
    value["datasets"][0]["fingerprint"] = "0" * 32
    described.write_text(json.dumps(value))
    assert main(["evaluate", "run"]) == 2
    assert "data does not fit: the run was trained on other data" in capsys.readouterr().err
    described.write_text("{")
    assert main(["evaluate", "run"]) == 2
    assert "data.json cannot be read" in capsys.readouterr().err
    forget_users(Run(alone / "nothing"), {"chain": {"u1"}})
    assert saved_data(Run(alone / "nothing")) is None


def test_a_run_of_an_earlier_version_reads_the_original(alone: Path, toy_files: Path, capsys: Said) -> None:
    shutil.rmtree(alone / "data")
    assert main(["evaluate", "run"]) == 2
    error = capsys.readouterr().err
    assert "chain.csv" in error and "is of an earlier version, which did not save its data" in error
    config = alone / "config.yaml"
    config.write_text(config.read_text().replace(str(alone.parents[1] / "gone"), str(toy_files)))
    assert main(["evaluate", "run", "--phrasing", "served"]) == 0


def test_an_option_that_differs_is_named(toy_run: Path, toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    out = tmp_path / "run"
    shutil.copytree(toy_run, out)
    assert main(toy_command(toy_files, out, "--seed", "7", "--task", "rating")) == 2
    error = capsys.readouterr().err
    assert "holds a finished run with other options (--task not given then, rating now; --seed 0 then, 7 now)" in error
