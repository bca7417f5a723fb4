"""The Python interface: what a newcomer types, on frames."""

import pydoc
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml
from tiny import tiny_backbone
from worlds import WORDS, chain_world

import genrec
from genrec.cli import main
from genrec.errors import DataError, RunError, UnknownNameError

SHORT: dict[str, Any] = {"layers": 2, "epochs": 1, "batch_tokens": 512, "lr": 5e-3, "row_lr": 2e-2}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The chain world as frames of pandas with integer ids, and a tiny backbone."""
    world = chain_world(users=40)
    columns = [pl.col("user_id").str.slice(1).cast(pl.Int64), pl.col("item_id").cast(pl.Int64), "rating", "timestamp"]
    folder = tmp_path_factory.mktemp("python")
    model = tiny_backbone(folder / "tiny", WORDS)
    ratings = world.interactions.select(columns).to_pandas()
    ratings["timestamp"] = pd.to_datetime(ratings["timestamp"], unit="s", utc=True)
    items = world.items.with_columns(pl.col("item_id").cast(pl.Int64))
    return {"ratings": ratings, "items": items, "model": model, "out": folder / "run"}


@pytest.fixture(scope="module")
def run(frames: dict[str, Any]) -> genrec.Run:
    options = {"items": frames["items"], "model": frames["model"], "out": frames["out"], **SHORT}
    loaded: genrec.Run = genrec.finetune(frames["ratings"], **options)
    return loaded


def test_a_frame_becomes_a_run(run: genrec.Run, frames: dict[str, Any]) -> None:
    config = yaml.safe_load((frames["out"] / "config.yaml").read_text())
    assert (config["interactions"], config["items"], config["users"]) == ("<frame>", "<frame>", None)
    assert run.datasets == ("frame",) and repr(run).startswith(f"genrec run {frames['out']}")
    found = run.recommend(7, k=3)
    assert found.strategy == "model" and found.frame["user_id"].unique().to_list() == ["7"]
    again = genrec.load(frames["out"]).recommend(7, k=3)
    assert again.frame.equals(found.frame)
    assert run.recommend(np.array([7, 8]), k=3).frame.height == 6


def test_the_same_frames_are_the_same_run(
    run: genrec.Run, frames: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    options = {"items": frames["items"], "model": frames["model"], "out": frames["out"], **SHORT}
    genrec.finetune(pl.from_pandas(frames["ratings"]), report=lines.append, **options)
    assert "is finished already" in lines[-1]
    with pytest.raises(RunError, match="finished run on other data"):
        genrec.finetune(frames["ratings"][:-1], **options)
    with pytest.raises(RunError, match="finished run with other options"):
        genrec.finetune(frames["ratings"], **{**options, "epochs": 2})
    assert main(["finetune", "--config", str(frames["out"] / "config.yaml"), "--out", str(tmp_path / "again")]) == 2
    assert "<frame>: this was a table in Python's memory" in capsys.readouterr().err


def test_frames_are_read_as_files_are(frames: dict[str, Any], tmp_path: Path) -> None:
    frames["ratings"].to_csv(tmp_path / "frame.csv", index=False)
    frames["items"].write_csv(tmp_path / "items.csv")
    of_frames = genrec.finetune(frames["ratings"], items=frames["items"], model=frames["model"], dry_run=True)
    of_files = genrec.finetune(
        tmp_path / "frame.csv", items=tmp_path / "items.csv", model=frames["model"], dry_run=True
    )
    untimed = [[re.sub(r"about \S+ \S+ with", "with", line) for line in lines] for lines in (of_frames, of_files)]
    assert untimed[0] == untimed[1] and "rows" in of_frames[1]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"k_cor": 3}, "Unknown keyword 'k_cor' of genrec.finetune. Did you mean 'k_core'"),
        ({"k_core": "3"}, "k_core='3' is not a value of --k-core: drop users"),
        ({"k_core": True}, "k_core=True is not a value"),
        ({"k_core": -1}, "--k-core -1: at least 0"),
        ({"items": 3}, "items is a int"),
        ({"split": "auti"}, "split='auti' is not a value of --split"),
        ({"column": {"rating": "nobody"}}, "the interactions frame: Unknown column 'nobody'"),
    ],
)
def test_faults_of_a_training_are_named(frames: dict[str, Any], tmp_path: Path, options: Any, fault: str) -> None:
    with pytest.raises((DataError, UnknownNameError), match=re.escape(fault)):
        genrec.finetune(frames["ratings"], model=frames["model"], out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_what_is_no_data_is_named() -> None:
    for data, fault in (
        ("ml-100", "'ml-100' is neither a file nor a data set; data sets: ml-100k"),
        (["ml-100k", "nothing"], "Unknown data set 'nothing'"),
        ([1, 2], "interactions is a list"),
        (pd.DataFrame({"a": []}), "the interactions frame has no rows"),
        (None, "nothing to train on"),
    ):
        with pytest.raises((DataError, UnknownNameError), match=re.escape(fault)):
            genrec.finetune(data)


def test_answers_are_frames(run: genrec.Run) -> None:
    lists = run.recommend([7, 999], k=2)
    assert (
        lists.to_pandas()["item_id"].tolist()
        == lists.frame["item_id"].to_list()
        == lists.to_arrow()["item_id"].to_pylist()
    )
    assert "2 lists of items" in repr(lists) and "warning: user 999 is unknown" in repr(lists)
    assert "<table>" in lists._repr_html_() and "<table>" in run._repr_html_()
    assert repr(run.explain(3, user=7)).startswith("Reasons of")
    assert run.similar(3, k=2).frame["item_id"].to_list() == run.similar([3.0], k=2).frame["item_id"].to_list()


def test_histories_and_choices_of_any_kind(run: genrec.Run) -> None:
    expected = run.recommend(history=["1", "2"], k=4, exclude=["3"]).frame
    for history in ([1, 2], np.array([1, 2]), pd.Series([1, 2]), pl.Series([1, 2]), pd.DataFrame({"movieId": [1, 2]})):
        assert run.recommend(history=history, k=4, exclude=3).frame.equals(expected)
    rated = run.recommend(history=[(1, 1.0), (2, 5.0)], k=4, exclude=pd.Series([3]))
    table = {"item_id": [2, 1], "rating": [5, 1], "timestamp": ["2020-01-02", "2020-01-01"]}
    assert run.recommend(history=table, k=4, exclude=3).frame.equals(rated.frame)
    assert run.recommend(7, candidates=[1, 2], exclude_seen=False).frame.height == 2
    assert run.recommend(7, like=5, k=1, exclude_seen=False).frame.height == 1


def test_one_user_goes_with_many_items(run: genrec.Run) -> None:
    of_user = run.predict("rating", users=7, items=range(3)).frame
    assert of_user.select("user_id", "item_id").rows() == [("7", "0"), ("7", "1"), ("7", "2")]
    assert run.predict("rating", users=[7, 8], items=1).frame["item_id"].to_list() == ["1", "1"]
    assert run.predict("rating", users=[7, 7, 7], items=[0, 1, 2]).frame.equals(of_user)
    with pytest.raises(DataError, match="2 users and 3 items"):
        run.predict("rating", users=[7, 8], items=[0, 1, 2])


def test_an_unknown_user_gets_the_popular_list(run: genrec.Run) -> None:
    found = run.recommend(70, k=2)
    assert found.strategy == "popular" and found.frame["user_id"].to_list() == ["70", "70"]
    (warning,) = found.warnings
    assert warning.startswith("user 70 is unknown") and "nearest ids: 0, 7, 10" in warning
    (warning,) = run.recommend(70, k=2, show_users=False).warnings
    assert "nearest" not in warning
    many = run.recommend([*range(100, 130), 7], k=1)
    assert many.frame["strategy"].to_list() == ["popular"] * 30 + ["model"]
    assert len(many.warnings) == 11 and many.warnings[-1] == "20 more users are unknown"
    assert run.ask("recommend for user 70").content["strategy"] == "popular"
    for ask in (
        lambda: run.predict("rating", users=70, items=1),
        lambda: run.explain(1, user=70),
        lambda: run.history(70),
        lambda: run.embed_users([70]),
        lambda: run.ask("what would user 70 rate red 2?"),
    ):
        with pytest.raises(UnknownNameError, match="Unknown user '70'"):
            ask()


def test_wrong_words_are_told_the_nearest(run: genrec.Run) -> None:
    with pytest.raises(UnknownNameError, match="Unknown keyword 'user' of recommend. Did you mean 'users'"):
        run.recommend(user=7)  # type: ignore[call-arg]
    with pytest.raises(UnknownNameError, match="Unknown keyword 'quantise' of load. Did you mean 'quantize'"):
        genrec.load("runs/mine", quantise="nf4")  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match=r"a run has it: genrec.load\(.*\).recommend"):
        genrec.recommend  # noqa: B018
    assert {"finetune", "load", "Run"} <= set(dir(genrec))
    page, of_run = (pydoc.plain(pydoc.render_doc(thing)) for thing in (genrec, genrec.Run))
    assert "finetune(" in page and re.search(r"recommend\(\W*self,\W*users", of_run)  # 3.13 breaks long lines


def test_a_notebook_and_a_terminal_see_one_bar_for_the_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genrec.python import progress_bar

    with progress_bar() as progress:
        progress.update("training", 1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar() as progress:
        progress.expect({"training": 3.0, "evaluation": 1.0})
        for step in range(3):
            progress.update("training", step, 2, {"loss": 1.5})
        progress.update("evaluation", 1, 2)
    shown = capsys.readouterr().err
    assert "training 1 of 2: 50%" in shown and "training 2 of 2: 75%" in shown and "evaluation 1 of 2" in shown
    assert "loss 1.500" in shown and "left" in shown
