"""Impressions, what was shown and what was clicked, as events."""

from pathlib import Path

import polars as pl
import pytest

from genrec.data.load import DataOptions, load_dataset
from genrec.errors import DataError

EVENTS = [
    ("U1", "N1", "history"),
    ("U1", "N2", "history"),
    ("U1", "N3", "click"),
    ("U1", "N4", "skip"),
    ("U1", "N5", "skip"),
    ("U1", "N6", "click"),
    ("U1", "N3", "skip"),
    ("U2", "N3", "skip"),
    ("U2", "N7", "click"),
]
TIMES = ["11/13/2019 8:36:57 AM", "11/14/2019 8:36:57 AM", "11/13/2019 9:36:57 AM"]


def read(path: Path, **options: object) -> tuple[list[tuple[str, str, str]], tuple[str, ...]]:
    found = load_dataset(None, DataOptions(interactions=str(path), **options))  # type: ignore[arg-type]
    return found.interactions.select("user_id", "item_id", "event").rows(), found.notes


@pytest.mark.parametrize("header", [True, False])
def test_behaviors_of_mind(tmp_path: Path, header: bool) -> None:
    rows = {
        "impression_id": [1, 2, 3],
        "user_id": ["U1", "U1", "U2"],
        "time": TIMES,
        "history": ["N1 N2", "N1 N2", None],
        "impressions": ["N3-1 N4-0 N5-0", "N6-1 N3-0", "N3-0 N7-1"],
    }
    pl.DataFrame(rows).write_csv(tmp_path / "behaviors.tsv", separator="\t", include_header=header)
    events, notes = read(tmp_path / "behaviors.tsv")
    assert events == EVENTS
    assert any("3 impressions" in n and "3 clicks of 7 items shown, 2 events of histories" in n for n in notes)


@pytest.mark.parametrize("form", ["lists", "texts"])
def test_lists_of_shown_and_clicked(tmp_path: Path, form: str) -> None:
    rows = {
        "user": ["U1", "U1", "U2"],
        "time": TIMES,
        "history": [["N1", "N2"], ["N1", "N2"], []],
        "candidates": [["N3", "N4", "N5"], ["N6", "N3"], ["N3", "N7"]],
        "clicked": [["N3"], ["N6"], ["N7"]],
    }
    frame = pl.DataFrame(rows)
    if form == "texts":
        frame = frame.with_columns(pl.col("history", "candidates", "clicked").list.join(", "))
    frame.write_parquet(tmp_path / "shown.parquet")
    assert read(tmp_path / "shown.parquet")[0] == EVENTS


def test_an_impression_without_a_user_is_one_of_its_own(tmp_path: Path) -> None:
    """What a test's history holds was known before; clicked items come first where only the others are told."""
    rows = {
        "history": [["a", "b"], ["c"]],
        "not_clicked": [["e"], ["a"]],
        "clicked": [["d"], ["f"]],
        "part": ["train", "test"],
    }
    pl.DataFrame(rows).write_ndjson(tmp_path / "news.jsonl")
    found = load_dataset(None, DataOptions(interactions=str(tmp_path / "news.jsonl"), split="given")).interactions
    assert found.select("user_id", "item_id", "event").rows() == [
        ("impression 1", "a", "history"),
        ("impression 1", "b", "history"),
        ("impression 1", "d", "click"),
        ("impression 1", "e", "skip"),
        ("impression 2", "c", "history"),
        ("impression 2", "f", "click"),
        ("impression 2", "a", "skip"),
    ]
    assert found.filter(user_id="impression 2")["part"].to_list() == ["train", "test", "test"]


def test_columns_of_other_names_are_said(tmp_path: Path) -> None:
    rows = {"who": ["U1"], "banner": ["N3 N4"], "picked": ["N4"]}
    pl.DataFrame(rows).write_csv(tmp_path / "b.csv")
    columns = {"user_id": "who", "shown": "banner", "clicked": "picked"}
    assert read(tmp_path / "b.csv", columns=columns)[0] == [("U1", "N3", "skip"), ("U1", "N4", "click")]


def test_a_click_on_what_was_not_shown(tmp_path: Path) -> None:
    rows = {"user_id": ["U1", "U1"], "shown": ["N3 N4", "N5 N6"], "clicked": ["N4", "N9"]}
    pl.DataFrame(rows).write_csv(tmp_path / "b.csv")
    with pytest.raises(DataError, match="row 2: 'N9' was clicked and is not among the items shown"):
        read(tmp_path / "b.csv")


def test_a_table_of_events_stays_one(tmp_path: Path) -> None:
    """`history` and `clicked` are attributes of it like any others."""
    rows = {"user_id": ["U1"] * 3, "item_id": ["a", "b", "c"], "clicked": [1, 0, 1], "shown": [1, 1, 1]}
    pl.DataFrame(rows).write_csv(tmp_path / "e.csv")
    assert [item for _, item, _ in read(tmp_path / "e.csv")[0]] == ["a", "b", "c"]
