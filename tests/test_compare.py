"""genrec compare: differences on the very cases that two runs share, drawn together."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import shop_world

from genrec.cli import main

Said = pytest.CaptureFixture[str]


@pytest.fixture
def other(evaluated_run: Path, tmp_path: Path) -> Path:
    """A copy of the evaluated toy run."""
    return Path(shutil.copytree(evaluated_run, tmp_path / "other"))


def compared(capsys: Said, *runs: Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["compare", *map(str, runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reference"] == str(runs[0])
    return found["comparisons"]


def test_a_run_differs_from_itself_by_nothing(evaluated_run: Path, capsys: Said) -> None:
    results = json.loads((evaluated_run / "results.json").read_text())["datasets"]["chain"]["tasks"]
    found = compared(capsys, evaluated_run, evaluated_run)
    assert len(found) == sum(map(len, results.values()))
    for own in found:
        assert own["cases"] == [own["shared"]] * 2
        measured = results[own["task"]][own["phrasing"]]
        assert own["shared"] == measured["n"] and set(own["metrics"]) == set(measured["metrics"])
        for metric, values in own["metrics"].items():
            assert values["reference"] == values["value"] == pytest.approx(measured["metrics"][metric]["value"])
            low = None if metric == "ece" else 0
            assert values["difference"] == {"value": 0, "low": low, "high": low}


def test_differences_are_paired(evaluated_run: Path, other: Path, capsys: Said) -> None:
    """Half of the cases are gone and the rest better by a known amount: the same for each, so that no draw differs."""
    cases = pl.read_parquet(other / "cases.parquet")
    kept = cases.filter(pl.col("about").str.slice(1).cast(pl.Int32) % 2 == 0)
    better = kept.with_columns(pl.col("ranks_removed").list.eval(pl.lit(1, pl.Int32)))
    better.write_parquet(other / "cases.parquet")
    (own,) = [
        c for c in compared(capsys, evaluated_run, other) if (c["task"], c["phrasing"]) == ("next_item", "served")
    ]
    assert own["cases"] == [150, 75] and own["shared"] == 75
    ranks = np.asarray(kept.filter(task="next_item", phrasing="served")["ranks_removed"].list.first())
    found = own["metrics"]["seen_removed/hr@1"]
    assert found["reference"] == pytest.approx((ranks <= 1).mean()) and found["value"] == 1
    assert found["difference"]["value"] == pytest.approx((ranks > 1).mean())
    assert own["metrics"]["seen_kept/hr@10"]["difference"] == {"value": 0, "low": 0, "high": 0}


def test_a_better_answer_shows_in_its_metrics(evaluated_run: Path, other: Path, capsys: Said) -> None:
    """Probabilities that are moved towards the right answer: each draw of users finds them better."""
    cases = pl.read_parquet(other / "cases.parquet")
    rows = cases["probabilities"].to_list()
    for row, answer in zip(rows, cases["answer"].to_list(), strict=True):
        for n in range(len(row or ())):
            row[n] = 0.5 * row[n] + 0.5 * (n == answer)
    cases.with_columns(pl.Series("probabilities", rows, pl.List(pl.Float64))).write_parquet(other / "cases.parquet")
    by_task = {c["task"]: c["metrics"] for c in compared(capsys, evaluated_run, other) if c["phrasing"] == "unseen"}
    for task, metric in (("rating", "rmse"), ("rating", "log_loss")):
        assert by_task[task][metric]["difference"]["high"] < 0
    assert by_task["next_item"]["seen_removed/ndcg@10"]["difference"]["high"] == 0


def test_tasks_of_baskets_and_of_what_comes_later(toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    """Questions that are drawn, some of them twice, are matched one to one; shared cases give evaluate's values."""
    shop_world(weeks=24).interactions.drop("row", "part").write_csv(tmp_path / "shop.csv")
    data = ["--interactions", str(tmp_path / "shop.csv"), "--model", str(toy_files / "tiny"), "--split", "temporal"]
    for name in ("a", "b"):
        command = ["finetune", *data, "--layers", "1", "--epochs", "1", "--lr", "5e-3" if name == "a" else "1e-3"]
        assert main([*command, "--out", str(tmp_path / name)]) == 0
        assert main(["evaluate", str(tmp_path / name), "--phrasing", "served"]) == 0
    by_task = {c["task"]: c for c in compared(capsys, tmp_path / "a", tmp_path / "b")}
    assert set(by_task) == {"next_item", "basket", "purchase", "churn"}
    results = [json.loads((tmp_path / n / "results.json").read_text())["datasets"]["shop"]["tasks"] for n in ("a", "b")]
    for task, own in by_task.items():
        measured = [r[task]["served"] for r in results]
        assert own["shared"] == measured[0]["n"] == measured[1]["n"]
        for metric, values in own["metrics"].items():
            first, second = (m["metrics"][metric]["value"] for m in measured)
            assert values["reference"] == pytest.approx(first) and values["value"] == pytest.approx(second)
            assert first is None or values["difference"]["value"] == pytest.approx(second - first)
    page = (tmp_path / "a" / "report.html").read_text()
    assert "is it yes as often as was said?" in page and "items seen before may appear" in page


def test_tables_name_runs_and_shared_cases(evaluated_run: Path, other: Path, capsys: Said) -> None:
    assert main(["compare", str(evaluated_run), str(other), str(other)]) == 0
    out = capsys.readouterr().out
    assert out.count(f"{other} against {evaluated_run}: 150 shared cases of 150 and 150") == 2 * 6
    assert out.count("chain, rating, served") == 1


def test_other_data_is_refused(evaluated_run: Path, toy_run: Path, other: Path, capsys: Said) -> None:
    results = json.loads((other / "results.json").read_text())
    for change, said in (
        ({"part": "valid"}, "the test part"),
        ({"datasets": {"chain": results["datasets"]["chain"] | {"fingerprint": "f00"}}}, "different data or splits"),
        ({"datasets": {"shop": results["datasets"]["chain"]}}, "no data set in common"),
        ({"version": 2}, "version 2"),
    ):
        (other / "results.json").write_text(json.dumps(results | change))
        assert main(["compare", str(evaluated_run), str(other)]) == 2
        assert said in capsys.readouterr().err
    assert main(["compare", str(evaluated_run), str(toy_run)]) == 2
    assert f"genrec evaluate {toy_run}" in capsys.readouterr().err
    assert main(["compare", str(evaluated_run)]) == 2
    assert "at least two runs" in capsys.readouterr().err
    (other / "results.json").write_text(json.dumps(results))
    cases = pl.read_parquet(other / "cases.parquet")
    cases.with_columns(pl.lit(0, pl.Int32).alias("answer")).write_parquet(other / "cases.parquet")
    assert main(["compare", str(evaluated_run), str(other)]) == 2
    assert "different answers" in capsys.readouterr().err
    cases.drop("case").write_parquet(other / "cases.parquet")
    assert main(["compare", str(evaluated_run), str(other)]) == 2
    assert "written by another genrec" in capsys.readouterr().err
    (other / "cases.parquet").unlink()
    assert main(["compare", str(evaluated_run), str(other)]) == 2
