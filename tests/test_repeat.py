"""genrec evaluate --seeds and --folds: the same training again, resumable, and what its runs say together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import toy_command

from genrec.cli import main

Said = pytest.CaptureFixture[str]
SHORT = ("--epochs", "2", "--task", "next_item", "--task", "rating")


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


def trained(run: Path) -> int:
    return (run / "adapter" / "genrec.json").stat().st_mtime_ns


def test_seeds_are_trained_once(toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    run, single = tmp_path / "run", tmp_path / "single"
    assert main(toy_command(toy_files, run, *SHORT, "--seed", "4")) == 0
    command = ["evaluate", str(run), "--phrasing", "served", "--seeds", "2"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "2 runs, of which 1 are to be trained" in said.err and "seeds 4, 5" in said.out
    before, first = trained(run / "seeds" / "5"), results(run)
    assert main(command) == 0
    assert "2 runs, of which 0 are to be trained" in capsys.readouterr().err
    assert trained(run / "seeds" / "5") == before and not (run / "seeds" / "4").exists()
    assert results(run)["seeds"] == first["seeds"]

    found = first["seeds"]
    assert found["numbers"] == [4, 5] and found["same_data"]
    assert found["runs"] == [str(run), str(run / "seeds" / "5")]
    own = [
        r["datasets"]["chain"]["tasks"]["rating"]["served"]["metrics"] for r in (first, results(run / "seeds" / "5"))
    ]
    for metric, over in found["datasets"]["chain"]["rating"]["served"].items():
        values = [o[metric]["value"] for o in own]
        assert over["values"] == values
        assert over["mean"] == pytest.approx(sum(values) / 2)
        assert over["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert "Seeds 4, 5" in (run / "report.html").read_text()

    assert main(toy_command(toy_files, single, *SHORT, "--seed", "5")) == 0
    rows = [folder / "adapter" / "item_rows.safetensors" for folder in (single, run / "seeds" / "5")]
    assert rows[0].read_bytes() == rows[1].read_bytes()


def test_folds_hold_out_every_interaction_once(toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    run = tmp_path / "run"
    assert main(toy_command(toy_files, run, *SHORT, "--split", "k_fold", "--folds", "3", "--fold", "1")) == 0
    assert main(["evaluate", str(run), "--phrasing", "served", "--folds", "3"]) == 0
    said = capsys.readouterr()
    assert "3 runs, of which 2 are to be trained" in said.err and "3 folds" in said.out
    folders = [run / "folds" / "0", run, run / "folds" / "2"]
    assert results(run)["folds"]["runs"] == [str(f) for f in folders] and not (run / "folds" / "1").exists()
    cases = pl.concat([pl.read_parquet(f / "cases.parquet") for f in folders]).filter(task="rating")
    assert sorted(cases["case"].to_list()) == sorted(f"row {n}" for n in range(150 * 8))

    found = results(run)["folds"]["datasets"]["chain"]["rating"]["served"]
    assert found["n"] == 150 * 8
    values = np.asarray(results(run)["datasets"]["chain"]["answers"]["rating"]["values"])
    error = np.asarray(cases["probabilities"].to_list()) @ values - values[cases["answer"].to_numpy()]
    rmse = found["metrics"]["rmse"]
    assert rmse["value"] == pytest.approx(np.sqrt((error**2).mean()))
    assert rmse["low"] < rmse["value"] < rmse["high"]
    own = [results(f)["datasets"]["chain"]["tasks"]["rating"]["served"]["metrics"]["rmse"]["value"] for f in folders]
    assert rmse["values"] == own and min(own) <= rmse["value"] <= max(own)
    assert "3 folds" in (run / "report.html").read_text()

    capsys.readouterr()
    assert main(["evaluate", str(run), "--folds", "2"]) == 2  # folds/0 is one of three
    assert f"{run / 'folds' / '0'} holds a run with other options" in capsys.readouterr().err


def test_one_run_is_no_repetition(evaluated_run: Path, capsys: Said) -> None:
    for flag in ("--seeds", "--folds"):
        assert main(["evaluate", str(evaluated_run), flag, "1"]) == 2
        assert "at least 2" in capsys.readouterr().err
