"""Ids and tables of any plain type."""

import subprocess
import sys
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from genrec.errors import DataError
from genrec.frames import as_html, as_text, to_polars
from genrec.ids import as_id, as_ids, as_texts
from genrec.recommender.given import as_history


@pytest.mark.parametrize(
    "value", [130, 130.0, " 130 ", np.int64(130), np.float32(130), np.str_("130"), Decimal("130.00"), np.uint8(130)]
)
def test_an_id_is_a_text_or_a_whole_number(value: Any) -> None:
    assert as_id(value) == "130"
    assert as_ids(value) == as_ids([value]) == ["130"]


def test_text_ids_keep_their_form() -> None:
    assert [as_id(v) for v in ("007", "7.0", "e\u0301", UUID(int=7))] == ["007", "7.0", "é", str(UUID(int=7))]


@pytest.mark.parametrize(
    "value", [True, np.bool_(False), None, "", "  ", 1.5, float("nan"), float("inf"), 1e300, b"1", [1], (1,), {1: 2}]
)
def test_anything_else_is_no_id(value: Any) -> None:
    with pytest.raises(DataError, match="users is|users 1 is|users 1 is"):
        as_ids([value], "users")
    with pytest.raises(DataError, match="user is"):
        as_id(value, "user")


@pytest.mark.parametrize(
    "values",
    [
        [1, "2"],
        (1, 2),
        range(1, 3),
        {1: "a", 2: "b"}.keys(),
        np.array([1, 2]),
        np.array([1.0, 2.0]),
        pd.Series([1, 2]),
        pd.Series([1, 2], dtype="Int64"),
        pd.Series(["1", "2"], dtype="category"),
        pd.Index([1, 2]),
        pl.Series([1, 2]),
        pl.Series(["1", "2"], dtype=pl.Categorical),
        pa.array([1, 2]),
        pa.chunked_array([[1], [2]]),
    ],
    ids=lambda v: f"{type(v).__module__}.{type(v).__name__}",
)
def test_ids_come_in_any_column(values: Any) -> None:
    assert as_ids(values) == ["1", "2"]


def test_faults_of_columns_are_named() -> None:
    for values in (pd.Series([1, None]), pl.Series([1, None]), np.array([[1, 2]]), pd.DataFrame({"a": [1]}), 3j):
        with pytest.raises(DataError, match="exclude"):
            as_ids(values, "exclude")
    with pytest.raises(DataError, match="texts 2 is 3"):
        as_texts(["fine", 3])


RATINGS = {"userId": [7, 7], "movieId": [130, 131], "stars": [4.5, None], "ts": [2000, 1000]}


@pytest.mark.parametrize(
    "history",
    [
        [(131, None), (130, 4.5)],
        ["131", ("130", np.float64(4.5))],
        pd.DataFrame({"item_id": [131, 130], "rating": [None, 4.5]}),
        pd.DataFrame(RATINGS),
        pl.DataFrame(RATINGS),
        pl.LazyFrame(RATINGS),
        pa.table(RATINGS),
        [{"movieId": 131}, {"movieId": 130, "rating": 4.5}],
        {"item": ["131", "130"], "score": [None, 4.5]},
    ],
    ids=lambda v: type(v).__module__,
)
def test_histories_with_ratings(history: Any) -> None:
    frame = as_history(history)
    assert frame.select("item_id", "rating").rows() == [("131", None), ("130", 4.5)]


def test_one_id_is_a_history_of_one() -> None:
    assert as_history("130")["item_id"].to_list() == as_history(130)["item_id"].to_list() == ["130"]
    assert as_history([]).height == 0


@pytest.mark.parametrize(
    ("history", "fault"),
    [
        ([(130, "good")], "history 1 is .*an id and a rating"),
        ([(130, 4.5, 1)], "history 1 is"),
        ([(130, float("nan"))], "history 1 is"),
        ([(True, 1)], "history 1 is True"),
        (pd.DataFrame({"thing": [1]}), "the history has no item_id column. It has: thing"),
        (pd.DataFrame({"userId": [1, 2], "movieId": [1, 2]}), "of 2 users by its column 'userId'"),
        (pd.DataFrame({"movieId": [1, None]}), "row 2 has .* as movieId, which is no item_id"),
        (pd.DataFrame({"movieId": [1], "rating": ["good"]}), "row 1 has 'good' as rating"),
    ],
)
def test_faults_of_histories_are_named(history: Any, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        as_history(history)


def test_tables_of_any_library() -> None:
    columns = {"user_id": [1, 2, None], "m": [1, "a", None], "c": ["x", "y", None]}
    frame = pd.DataFrame(columns).astype({"c": "category"})
    frame["t"] = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]).tz_localize("Europe/Berlin")
    frame["n"] = pd.array([1, 2, None], dtype="Int64")
    table = to_polars(frame, "it")
    assert table.schema["c"] == pl.String and table.schema["n"] == pl.Int64
    assert table["m"].to_list() == ["1", "a", None] and table["user_id"].to_list() == [1, 2, None]
    assert table["t"].dt.epoch("s").to_list()[0] == 1577833200
    assert to_polars(frame.set_index("user_id"), "it").columns == table.columns
    for other in (pl.LazyFrame({"a": [1]}), pa.table({"a": [1]}), np.array([(1,)], dtype=[("a", "i8")]), {"a": [1]}):
        assert to_polars(other, "it").rows() == [(1,)]


@pytest.mark.parametrize(
    "table", [3, "x", [1], pd.Series([1]), {"a": [1], "b": [1, 2]}, pd.DataFrame([[1, 2]], columns=["a", "a"])]
)
def test_what_is_no_table_is_named(table: Any) -> None:
    with pytest.raises(DataError, match="items "):
        to_polars(table, "items")


def test_frames_are_shown_short_and_escaped() -> None:
    frame = pl.DataFrame({"title": ["<b>" + "x" * 100] * 50, "n": [1 / 3] * 50})
    text = as_text(frame)
    assert len(text.splitlines()) == 22 and "0.3333" in text and text.splitlines()[-1] == "... 30 more rows in .frame"
    page = as_html(frame, "<i>", ["<script>"])
    assert "<b>x" not in page and "<i>" not in page and "<script>" not in page and "&lt;script&gt;" in page


def test_importing_genrec_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import genrec; sys.stdout.write(' '.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["genrec"]
