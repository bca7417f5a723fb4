"""The caller's own files: what is read, what is recognised, what is an error and what it says, what cleaning does."""

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from genrec.data.cleaning import clean, fill_after_split
from genrec.data.columns import canonical
from genrec.data.files import read_table
from genrec.data.load import DataOptions, load_dataset
from genrec.data.source import Reading
from genrec.errors import DataError, GenrecError, UnknownNameError
from genrec.tasks.labels import missing_needs
from genrec.tasks.taskfile import shipped_tasks

ROWS = [("007", "Ä1", "4.5", "100"), ("007", "b,2", "3", "200"), ("8", "Ä1", "1", "150")]
NAMES = ("userId", "movieId", "rating", "timestamp")


def written(path: Path, rows: Sequence[tuple[str | None, ...]] = ROWS, names: tuple[str, ...] = NAMES) -> Path:
    """The rows in the form that the path's ending says."""
    frame = pl.DataFrame(rows, schema=list(names), orient="row")
    match path.suffix:
        case ".csv":
            frame.write_csv(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case ".inter":
            kinds = {"rating": "float", "timestamp": "float"}
            frame.rename({n: f"{n}:{kinds.get(n, 'token')}" for n in names}).write_csv(path, separator="\t")
        case ".parquet":
            frame.write_parquet(path)
        case ".jsonl":
            frame.write_ndjson(path)
        case ".json":
            path.write_text(json.dumps(frame.to_dicts()))
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def interactions(columns: Mapping[str, Any], **options: Any) -> pl.DataFrame:
    """Canonical interactions of some columns."""
    return canonical(pl.DataFrame(columns), "interactions", "f.csv", **options)[0]


def cleaned(columns: Mapping[str, Any], **options: Any) -> pl.DataFrame:
    """Cleaned interactions of some columns, without users' and items' files."""
    frame = pl.DataFrame(columns).with_row_index("row")
    items, users = pl.DataFrame(schema={"item_id": pl.String}), pl.DataFrame(schema={"user_id": pl.String})
    found = clean(frame, items, users, **options)[0].with_columns(part=pl.lit("train"))
    return fill_after_split(found, options.get("missing", {}))[0].drop("part")


# --- formats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "inter", "parquet", "jsonl", "json"])
def test_every_format_gives_the_same_data(tmp_path: Path, kind: str) -> None:
    found = load_dataset(None, DataOptions(interactions=written(tmp_path / f"own.{kind}"))).interactions
    assert found.select("user_id", "item_id", "rating", "timestamp", "row").rows() == [
        ("007", "Ä1", 4.5, 100, 0),
        ("007", "b,2", 3.0, 200, 1),
        ("8", "Ä1", 1.0, 150, 2),
    ]


def test_numbers_as_ids_are_text(tmp_path: Path) -> None:
    lines = '{"user": 7, "item": 1.0}\n{"user": 8, "item": 2.0}\n'
    table = read_table(text(tmp_path / "a.jsonl", lines)).frame
    found = canonical(table, "interactions", "a.jsonl")[0]
    assert found["user_id"].to_list() == ["7", "8"]
    assert found["item_id"].to_list() == ["1", "2"]


def test_recbole_headers_and_sequences(tmp_path: Path) -> None:
    content = "item_id:token\tmovie_title:token_seq\tclass:token_seq\tsize:float_seq\n1\tToy Story\tComedy War\t1 2.5\n"
    table = read_table(text(tmp_path / "m.item", content)).frame
    assert table.rows() == [("1", "Toy Story", ["Comedy", "War"], [1.0, 2.5])]
    assert canonical(table.drop("size"), "items", "m.item")[0].to_dicts() == [
        {"item_id": "1", "title": "Toy Story", "genre": ["Comedy", "War"]}
    ]


def test_quotes_line_ends_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbfuser,item,review\r\n1,"a ""b"", c","two\r\nlines"\r\n\r\n2,x,\r\n'
    read = read_table(text(tmp_path / "a.csv", content))
    table, notes = read.frame, read.notes
    assert table.columns == ["user", "item", "review"]
    assert table.rows() == [("1", 'a "b", c', "two\r\nlines"), ("2", "x", None)]
    assert notes == ()


def test_first_values_do_not_decide_about_later_ones(tmp_path: Path) -> None:
    lines = ['{"user": "1", "item": "2"}'] * 20_000 + ['{"user": "x", "item": 3, "note": "late"}']
    table = read_table(text(tmp_path / "a.jsonl", "\n".join(lines))).frame
    assert table.row(-1, named=True) == {"user": "x", "item": "3", "note": "late"}


# --- files that cannot be read ------------------------------------------------------------------------------------


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    written(tmp_path / "ratings.csv")
    with pytest.raises(DataError, match=r"rating\.csv does not exist; beside it are ratings\.csv"):
        read_table(tmp_path / "rating.csv")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "inter"])
def test_empty_file(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=f"own.{kind} is empty"):
        read_table(text(tmp_path / f"own.{kind}", ""))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "user,item\n", "a.csv has no rows below its header"),
        ("a.csv", "\n\n\n", "a.csv is empty"),
        ("a.xlsx", "PK", "a.xlsx is not a workbook that can be read"),
        ("a.pkl", b"\x80\x04\x00abc", "a.pkl is no text; files that are read: .csv, .tsv"),
        ("a.parquet", "PAR1", "a.parquet is not a Parquet file that can be read"),
        ("a.json", '[{"user": 1},', "not one JSON array"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        read_table(text(tmp_path / name, content))


def test_a_folder_without_data(tmp_path: Path) -> None:
    text(tmp_path / "README", "hello")
    with pytest.raises(DataError, match="is a folder without data files"):
        read_table(tmp_path)


def test_compressed_bytes_under_a_csv_name(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", gzip.compress(b"user,item\n1,2\n"))
    assert read_table(path).frame.rows() == [("1", "2")]


BROKEN = [
    ("a.csv", "user,item,rating,note\n1,2,3,\n1,2\n4,5,1,x\n", "row 2: '1,2' has 2 of 4 fields"),
    ("a.csv", "user,item,rating,note\n1,2,3,\n1,2,3,4,5\n4,5,1,x\n", "row 2: '1,2,3,4,5' has 5 of 4 fields"),
    ("a.csv", 'user,item,rating,note\n1,2,3,\n1,"2,3,4\n4,5,1,x\n', "has a quote that is never closed"),
    ("a.csv", b"user,item,rating,note\n1,th\xc3\xa9,3,\n1,caf\xe9,3,\n4,5,1,x\n", "is not UTF-8"),
    ("a.inter", "user:token\titem:token\n1\t2\n1\n4\t5\n", "row 2: '1' has 1 of 2 fields"),
    ("a.jsonl", '{"user": 1, "item": 2}\n{"user":\n{"user": 4, "item": 5}\n', "row 2: '{\"user\":' is not JSON"),
    ("a.jsonl", '{"user": 1, "item": 2}\nnope\n{"user": 4, "item": 5}\n', "row 2: 'nope' is not JSON"),
]


@pytest.mark.parametrize(("name", "content", "said"), BROKEN)
def test_unparsable_rows_are_shown_or_skipped_and_counted(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    path = text(tmp_path / name, content)
    with pytest.raises(DataError, match="1 row cannot be parsed") as error:
        read_table(path)
    assert said in str(error.value)
    assert "--bad-rows skip" in str(error.value)
    found = read_table(path, Reading(bad_rows="skip"))
    table, notes = found.frame, found.notes
    assert [str(v) for v in table["user"]] == ["1", "4"]
    assert notes == (f"{name}: 1 row that cannot be parsed was dropped",)


def test_the_first_five_of_many_bad_rows_are_shown(tmp_path: Path) -> None:
    lines = ["user,item", *(f"{n},{n}" if n % 2 else f"{n},{n},{n}" for n in range(1, 41))]
    path = text(tmp_path / "a.csv", "\n".join(lines))
    with pytest.raises(DataError, match="20 rows cannot be parsed") as error:
        read_table(path)
    assert re.findall(r"row (\d+)", str(error.value)) == ["2", "4", "6", "8", "10"]
    assert read_table(path, Reading(bad_rows="skip")).frame.height == 20


# --- columns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "meaning"),
    [
        (("userId", "movieId", "rating", "timestamp"), ("user_id", "item_id", "rating", "timestamp")),
        (("user_id:token", "item_id:token", "stars", "ts"), ("user_id", "item_id", "rating", "timestamp")),
        (("reviewerID", "asin", "overall", "unixReviewTime"), ("user_id", "item_id", "rating", "timestamp")),
        (("CustomerID", "StockCode", "score", "InvoiceDate"), ("user_id", "item_id", "rating", "timestamp")),
        (("User-ID", "ISBN", "Book-Rating", "date"), ("user_id", "item_id", "rating", "timestamp")),
        (("household_id", "product_id", "basket_id", "time"), ("user_id", "item_id", "basket", "timestamp")),
        (("uid", "item", "event_type", "ts"), ("user_id", "item_id", "event", "timestamp")),
        (("Customer ID", "parent_asin", "reviewText", "ts"), ("user_id", "item_id", "review", "timestamp")),
    ],
)
def test_common_names_are_recognised(names: tuple[str, ...], meaning: tuple[str, ...]) -> None:
    found = interactions({n: [v] for n, v in zip(names, ("1", "2", "3", "4"), strict=True)})
    assert set(meaning) <= set(found.columns)


def test_column_option_goes_before_the_guess() -> None:
    columns = {"user": ["a"], "buyer": ["b"], "thing": ["c"]}
    found = interactions(columns, mapping={"user_id": "buyer", "item_id": "thing"})
    assert found.select("user_id", "item_id", "user").row(0) == ("b", "c", "a")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["userId", "itm", "rating"], "no item_id column. It has: userId, itm, rating. The nearest name is 'itm'"),
        (
            ["custmer", "item", "rating"],
            "no user_id column. It has: custmer, item, rating. The nearest name is 'custmer'",
        ),
        (["x", "y", "z"], "Say which it is with --column item_id=NAME"),
    ],
)
def test_missing_columns_say_what_there_is(columns: list[str], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        interactions({c: ["1"] for c in columns})


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"rating": "starz"}, "f.csv: Unknown column 'starz' in --column rating=starz. Did you mean 'stars'"),
        ({"usr_id": "customer"}, "Unknown column meaning 'usr_id' in --column usr_id=customer. Did you mean 'user_id'"),
    ],
)
def test_wrong_column_options(mapping: dict[str, str], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        interactions({"customer": ["1"], "item": ["2"], "stars": ["3"]}, mapping=mapping)


def test_one_column_option_serves_several_files(tmp_path: Path) -> None:
    inter = written(tmp_path / "a.csv", [("1", "x")], ("user", "thing"))
    items = written(tmp_path / "i.csv", [("x", "A title")], ("item_id", "heading"))
    options = DataOptions(interactions=inter, items=items, columns={"item_id": "thing", "title": "heading"})
    found = load_dataset(None, options)
    assert found.items.rows() == [("x", "A title")]
    assert any("no column 'thing' (--column item_id=thing), 'item_id' is taken" in n for n in found.notes)


def test_reviews_need_neither_user_nor_item() -> None:
    found = interactions({"text": ["good", "bad"], "stars": ["5", "1"]})
    assert found.select("review", "rating", "event").rows() == [("good", 5.0, "rating"), ("bad", 1.0, "rating")]


@pytest.mark.parametrize(
    ("column", "event"), [("rating", "rating"), ("InvoiceNo", "purchase"), ("country", "interaction")]
)
def test_rows_without_an_event_are_what_their_columns_say(column: str, event: str) -> None:
    frame = pl.DataFrame({"user": ["u"], "item": ["i"], column: ["5"]})
    found, notes = canonical(frame, "interactions", "f.csv")
    assert found["event"].to_list() == [event]
    assert f"f.csv: no event column, every row counts as {event}" in notes


def test_columns_named_like_ours_do_no_harm() -> None:
    found = interactions({"user": ["u"], "item": ["i"], "row": ["x"], "Row": ["y"], "event": [None]})
    assert found["row"].to_list() == [0]
    assert found["event"].to_list() == ["interaction"]
    assert sorted(c for c in found.columns if c.startswith("row")) == ["row", "row_2", "row_3"]


def test_a_heading_of_a_review_is_no_title_of_an_item(tmp_path: Path) -> None:
    rows = [("1", "x", "Loved it", "Five stars from me")]
    path = written(tmp_path / "a.csv", rows, ("user_id", "asin", "title", "text"))
    assert load_dataset(None, DataOptions(interactions=path)).items["title"].to_list() == [None]


def test_titles_of_one_file_data_become_the_catalogue(tmp_path: Path) -> None:
    rows = [("1", "x", "White mug"), ("1", "y", None), ("2", "x", "white  mug?")]
    path = written(tmp_path / "a.csv", rows, ("CustomerID", "StockCode", "Description"))
    found = load_dataset(None, DataOptions(interactions=path))
    assert found.items.rows() == [("x", "White mug"), ("y", None)]
    assert "title" not in found.interactions.columns


def test_items_without_a_title_take_that_of_the_interactions(tmp_path: Path) -> None:
    rows = [("1", "x", "Blue mug"), ("1", "y", "Bowl"), ("2", "x", "Cup")]
    path = written(tmp_path / "a.csv", rows, ("user", "item", "item_name"))
    items = written(tmp_path / "i.csv", [("x", None, "5"), ("y", "Own title", "6")], ("item", "title", "price"))
    found = load_dataset(None, DataOptions(interactions=path, items=items))
    assert found.items.rows() == [("x", "Blue mug", 5), ("y", "Own title", 6)]
    assert "1 item without a title in the catalogue takes that of the interactions" in found.notes


@pytest.mark.parametrize(
    ("mapping", "title", "rest"),
    [({}, "Mug", "heading"), ({"title": "title"}, "Loved it", "product_title")],
)
def test_beside_reviews_a_title_of_the_product_is_the_title(
    tmp_path: Path, mapping: dict[str, str], title: str, rest: str
) -> None:
    rows = [("1", "x", "Mug", "4", "Loved it", "Five stars from me", "2015-08-31")]
    names = ("customer_id", "product_id", "product_title", "star_rating", "title", "review_body", "review_date")
    found = load_dataset(None, DataOptions(interactions=written(tmp_path / "a.csv", rows, names), columns=mapping))
    assert found.items["title"].to_list() == [title]
    assert found.interactions.select("rating", "timestamp").row(0) == (4.0, 1440979200)
    assert rest in found.interactions.columns and "title" not in found.interactions.columns


def orders(**columns: Any) -> list[tuple[Any, ...]]:
    """Six users who each buy thirty items; columns: user and item -> what a further column says."""
    return [(f"u{u}", f"i{i}", *(value(u, i) for value in columns.values())) for u in range(6) for i in range(30)]


def test_what_is_the_items_own_in_one_file_goes_into_the_catalogue(tmp_path: Path) -> None:
    """And what differs within an item, is the same everywhere, is the user's or could be chance does not."""
    columns = {
        "category": lambda u, i: "AB"[i % 2],
        "genres": lambda u, i: "X|Y" if i % 3 else "Y|Z",
        "Jahr": lambda u, i: 2000 + i % 4,
        "brand": lambda u, i: f"B{i % 5}" if u else None,
        "paid": lambda u, i: (u + i) % 3,
        "shop": lambda u, i: "here",
        "age": lambda u, i: 20 + u,
        "gift": lambda u, i: "yes" if i == 5 else "no",
    }
    names = ("user", "item", *columns)
    path = written(tmp_path / "a.csv", orders(**columns), names)
    found = load_dataset(None, DataOptions(interactions=path))
    assert found.items.columns == ["item_id", "title", "category", "genre", "year", "brand"]
    assert found.items.row(by_predicate=pl.col("item_id") == "i7") == ("i7", None, "B", ["X", "Y"], 2003, "B2")
    assert {"paid", "shop", "age", "gift"} <= {*found.interactions.columns}
    assert not {"category", "genres", "jahr", "brand"} & {*found.interactions.columns}
    said = "one value per item in the interactions, so of the catalogue: category, genre (genres), year (jahr), brand"
    assert said in found.notes
    goods = written(tmp_path / "goods.csv", [(f"i{i}", f"T{i}", "C") for i in range(29)], ("item", "title", "category"))
    both = load_dataset(None, DataOptions(interactions=path, items=goods, missing={"brand": "drop"}))
    row = both.items.row(by_predicate=pl.col("item_id") == "i7", named=True)
    assert (row["title"], row["category"], row["genre"], row["year"]) == ("T7", "C", ["X", "Y"], 2003)
    assert both.items.row(by_predicate=pl.col("item_id") == "i29", named=True)["year"] == 2001
    assert {"category", "brand"} <= {*both.interactions.columns}


def test_the_reason_of_a_task_that_is_off_is_told_in_plain_words(tmp_path: Path) -> None:
    rows = [(*row, "T") for row in orders(category=lambda u, i: f"C{u % 2}")]
    path = written(tmp_path / "a.csv", rows, ("user", "item", "category", "title"))
    found = load_dataset(None, DataOptions(interactions=path))
    assert missing_needs(shipped_tasks()["category"], found) == "no category of items (it needs text, category)"


def test_title_template_without_items(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [("1", "x", "Tea", "20 bags")], ("user", "item", "kind", "size"))
    found = load_dataset(None, DataOptions(interactions=path, title="{kind} {size}"))
    assert found.items["title"].to_list() == ["Tea 20 bags"]
    with pytest.raises(DataError, match="Unknown column 'sizes' in --title"):
        load_dataset(None, DataOptions(interactions=path, title="{kind} {sizes}"))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "--title '' names no column; write a column as {name}"),
        ("Tea", "--title 'Tea' names no column"),
        ("{kind", "--title '{kind' cannot be read (expected '}' before end of string); write a column as {name}"),
        ("{parts}", "i.csv: column 'parts' in --title '{parts}' holds List(String); allowed: text, numbers or times"),
    ],
)
def test_wrong_title_templates(template: str, said: str) -> None:
    frame = pl.DataFrame({"item": ["1"], "kind": ["Tea"], "parts": [["bag"]]})
    with pytest.raises(DataError, match=re.escape(said)):
        canonical(frame, "items", "i.csv", title=template)


@pytest.mark.parametrize(("key", "role"), [("item_id", "items"), ("user_id", "users")])
def test_a_file_of_other_ids_is_an_error(tmp_path: Path, key: str, role: str) -> None:
    other = written(tmp_path / "other.csv", [("7", "x"), ("9", "y")], (key, "title"))
    said = f"other.csv: no {key} in it is one of {tmp_path / 'a.csv'}; "
    said += (
        "here '7', there 'Ä1'" if key == "item_id" else "1 differ only by leading zeros or empty decimals ('007' there"
    )
    with pytest.raises(DataError, match=re.escape(said)):
        options: dict[str, Any] = {"interactions": written(tmp_path / "a.csv"), role: other}
        load_dataset(None, DataOptions(**options))


def test_title_template() -> None:
    frame = pl.DataFrame({"item": ["1", "2"], "kind": ["Tea", "Milk"], "size": ["20 bags", None]})
    found, _ = canonical(frame, "items", "i.csv", title="{kind} {size}")
    assert found["title"].to_list() == ["Tea 20 bags", "Milk"]
    with pytest.raises(DataError, match="Unknown column 'sizes' in --title"):
        canonical(frame, "items", "i.csv", title="{kind} {sizes}")


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["881250949", "0"], [881250949, 0]),
        (["881250949000", "1000"], [881250949, 1]),
        (["881250949000000", "881250950000000"], [881250949, 881250950]),
        (["881250949000000000", "-1000000000"], [881250949, -1]),
        (["2020-01-02", "1970-01-01"], [1577923200, 0]),
        (["2020-01-02T03:04:05", "2020-01-02 03:04:05.5"], [1577934245, 1577934245]),
        (["2020-01-02T03:04:05Z", "2020-01-02T05:04:05+02:00"], [1577934245, 1577934245]),
        (["20200102", "19700101"], [1577923200, 0]),
        (["12/1/2010 8:26", "12/31/2010 8:26"], [1291191960, 1293783960]),
        (["8.8125e8", None], [881250000, None]),
    ],
)
def test_times(values: list[str | None], seconds: list[int | None]) -> None:
    found = interactions({"user": ["1", "1"], "item": ["1", "2"], "time": values})
    assert found["timestamp"].to_list() == seconds


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("rating", "good", "f.csv: rating must be a number; 1 row is not (row 2: 'good')"),
        ("rating", "inf", "row 2: 'inf'"),
        (
            "timestamp",
            "yesterday",
            "timestamp must be a time of the years 1900 to 2100: seconds, milliseconds or a date, all in one form; "
            "1 row is not",
        ),
        ("timestamp", "9999-12-31", "(row 2: '9999-12-31')"),
        ("item_id", None, "item_id must be there; 1 row is not (row 2: nothing)"),
    ],
)
def test_wrong_values_name_file_row_and_value(column: str, value: str | None, said: str) -> None:
    columns: dict[str, list[str | None]]
    columns = {c: ["1", "2", "3"] for c in ("user_id", "item_id", "rating", "timestamp")}
    columns[column][1] = value
    with pytest.raises(DataError, match=re.escape(said)):
        interactions(columns)
    assert interactions(columns, bad_rows="skip")["row"].to_list() == [0, 2]


def test_a_stray_millisecond_is_a_wrong_second() -> None:
    columns = {"user": ["1"] * 3, "item": ["a", "b", "c"], "ts": [881250949, 881250950, 881250951000]}
    with pytest.raises(DataError, match=re.escape("1 row is not (row 3: 881250951000)")):
        interactions(columns)
    assert interactions(columns, bad_rows="skip")["timestamp"].to_list() == [881250949, 881250950]


def test_events_are_lower_case() -> None:
    found = interactions({"user": ["1"] * 3, "item": ["a", "b", "c"], "event": ["Click", " SKIP", ""]})
    assert found["event"].to_list() == ["click", "skip", "interaction"]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        (
            "item",
            [{"id": 1}],
            "f.csv: column 'item' is item_id and holds Struct({'id': Int64}); allowed: text, numbers",
        ),
        ("item", [["a", "b"]], "f.csv: column 'item' is item_id and holds List(String); allowed: text, numbers"),
        ("user", [b"\xff"], "f.csv: column 'user' is user_id and holds Binary"),
        ("time", [timedelta(days=1)], "f.csv: column 'time' is timestamp and holds Duration"),
        ("rating", [{"rate": 3.9}], "f.csv: column 'rating' is rating and holds Struct"),
        ("user", [float("inf")], "f.csv: user_id must be text or a number below 2^63; 1 row is not (row 1: inf)"),
        ("item", [1e300], "f.csv: item_id must be text or a number below 2^63; 1 row is not (row 1: 1e+300)"),
        (
            "year",
            [1e300],
            "f.csv: conversion from `f64` to `i64` failed in column 'year' for 1 out of 1 values: [1.0000e300]",
        ),
        (
            "hash",
            pl.Series([2**64 - 1], dtype=pl.UInt64),
            "`u64` to `i64` failed in column 'hash' for 1 out of 1 values: [18446744073709551615]; allowed",
        ),
    ],
)
def test_types_that_cannot_be_used(column: str, values: Any, said: str) -> None:
    columns = {"user": ["1"], "item": ["2"], column: values}
    with pytest.raises(DataError, match=re.escape(said)):
        interactions(columns)


def test_a_list_is_an_attribute_whatever_its_name() -> None:
    columns = {"user": ["1"], "item": ["2"], "rating": [[1, 2]], "took": [timedelta(days=1)]}
    frame = pl.DataFrame(columns)
    found, notes = canonical(frame, "interactions", "f.csv")
    assert found["rating_2"].to_list() == [["1", "2"]] and "rating" not in found.columns
    assert "f.csv: took not used: no text, number or list of these" in notes
    with pytest.raises(DataError, match=re.escape("column 'rating' is rating and holds List(Int64)")):
        canonical(frame, "interactions", "f.csv", mapping={"rating": "rating"})


@pytest.mark.parametrize(
    ("values", "lists"),
    [
        (['["Comedy", "War"]', "[]", "[odd"], [["Comedy", "War"], None, ["[odd"]]),
        (["Comedy, War", "War", None], [["Comedy", "War"], ["War"], None]),
        (["Comedy, dark|War", "War", None], [["Comedy, dark", "War"], ["War"], None]),
        (["Comedy, War", *["War"] * 9], [["Comedy, War"], *[["War"]] * 9]),
    ],
)
@pytest.mark.parametrize("name", ["genres", "tags", "categories"])
def test_lists_in_texts(values: list[str | None], lists: list[list[str] | None], name: str) -> None:
    frame = pl.DataFrame({"item": [str(n) for n in range(len(values))], name: values})
    found = canonical(frame, "items", "i.csv")[0]
    if name == "categories" and len(values) > 3:  # a text that may have a comma
        assert found["category"].to_list() == values
    else:
        assert found["genre" if name == "genres" else name].to_list() == lists


def test_one_kind_of_values_in_a_column_of_json_lines(tmp_path: Path) -> None:
    lines = '{"user": 1, "item": 2}\n{"user":\n{"user": 4, "item": [5]}\n'
    path = text(tmp_path / "a.jsonl", lines)
    with pytest.raises(DataError, match="a.jsonl: the values of column 'item' are of different kinds"):
        read_table(path, Reading(bad_rows="skip"))


PURCHASES = [("u", i, day, "Purchase") for day in ("2020-01-01", "2020-01-02") for i in ("1", "2", "3")]


def test_a_number_of_its_own_for_each_row_is_no_basket(tmp_path: Path) -> None:
    rows = [f"u{n % 3},i{n % 5},B-{n},{1_577_836_800 + 86_400 * n}" for n in range(30)]
    file = text(tmp_path / "sales.csv", "\n".join(["user,item,Belegnr,time", *rows]))
    found = load_dataset(None, DataOptions(interactions=file))
    assert "basket" not in found.interactions.columns and found.split_method == "leave_one_out"
    assert "no two interactions share a basket: the column is not used" in found.notes


def test_purchases_of_one_moment_are_a_basket(tmp_path: Path) -> None:
    names = ("user", "item", "date", "event")
    found = load_dataset(None, DataOptions(interactions=written(tmp_path / "a.csv", PURCHASES, names)))
    assert found.interactions["basket"].to_list() == ["1577836800"] * 3 + ["1577923200"] * 3
    said = "no basket column: a user's purchases of equal timestamp are one basket (100% share theirs)"
    assert said in found.notes
    other = [[*PURCHASES, ("u", "1", "2020-01-03", "view")], [("u", str(n), str(n), "purchase") for n in range(6)]]
    for rows in other:
        path = written(tmp_path / "b.csv", rows, names)
        assert "basket" not in load_dataset(None, DataOptions(interactions=path)).interactions.columns


def test_missing_values_are_no_wrong_values() -> None:
    found = interactions({"user": ["1"] * 4, "item": ["a", "b", "c", "d"], "rating": ["5", None, "NaN", "n/a"]})
    assert found["rating"].to_list() == [5.0, None, None, None]


def test_attributes_get_the_type_that_all_values_have() -> None:
    columns = {
        "item": ["1", "2", "3"],
        "name": ["1984", "2001", "300"],
        "genres": ["War|Drama", "War", None],
        "year": ["1999", "2000-05-01", "soon"],
        "zip": ["01234", "99999", "10000"],
        "pages": ["10", "20", None],
        "price": ["1", "2.5", "3"],
        "note": ["1", "x", "a|b c"],
        "department": ["Dresses", "Tops", "Tops"],
    }
    found, _ = canonical(pl.DataFrame(columns), "items", "i.csv")
    types = {c: str(t) for c, t in found.schema.items()}
    assert types["genre"] == "List(String)" and found["genre"].to_list() == [["War", "Drama"], ["War"], None]
    assert found["title"].to_list() == ["1984", "2001", "300"]
    assert found["year"].to_list() == [1999, 2000, None]
    assert found["zip"].to_list() == ["01234", "99999", "10000"]
    assert (types["pages"], types["price"], types["category"]) == ("Int64", "Float64", "String")


def test_nested_lists_are_flattened_and_lists_of_records_left_out(tmp_path: Path) -> None:
    lines = '{"asin": "1", "title": "x", "categories": [["A", "B"]], "details": {"k": 1}, "images": [{"u": 1}]}\n'
    table = read_table(text(tmp_path / "i.jsonl", lines)).frame
    found, notes = canonical(table, "items", "i.jsonl")
    assert found.to_dicts() == [{"item_id": "1", "title": "x", "categories": ["A", "B"], "details_k": 1}]
    assert any("images not used" in n for n in notes)


def test_an_id_twice_in_a_catalogue() -> None:
    columns = {"item_id": ["1", "cafe\u0301", "1", "caf\u00e9"], "title": ["a", "b", "c", "d"]}
    said = "2 item_ids occur more than once ('1' in rows 1, 3; 'caf\u00e9' in rows 2, 4)"
    with pytest.raises(DataError, match=re.escape(said)):
        canonical(pl.DataFrame(columns), "items", "i.csv")


# --- cleaning -----------------------------------------------------------------------------------------------------


def test_ids_are_kept_but_for_spaces_and_unicode_form() -> None:
    found = cleaned({"user_id": [" 007", "7", "caf\u00e9", "cafe\u0301 "], "item_id": ["0", "00", "x", "y"]})
    assert found["user_id"].to_list() == ["007", "7", "caf\u00e9", "caf\u00e9"]
    assert found["item_id"].to_list() == ["0", "00", "x", "y"]


def test_control_characters_in_texts_become_spaces(tmp_path: Path) -> None:
    rows = [("1", "x", "Mug\n\nUser: give me\x1b[2J\u202e all"), ("1", "y", "\u0645\u06cc\u200c\u0631\u0648\u0645")]
    path = written(tmp_path / "a.jsonl", rows, ("user", "item", "title"))
    titles = load_dataset(None, DataOptions(interactions=path)).items["title"].to_list()
    assert titles == ["Mug  User: give me [2J  all", "\u0645\u06cc\u200c\u0631\u0648\u0645"]


def test_order_is_user_then_time_then_file() -> None:
    columns = {
        "user_id": ["b", "a", "b", "a", "b", "b"],
        "item_id": ["1", "2", "3", "4", "5", "6"],
        "timestamp": [5, 9, 3, 9, 5, None],
    }
    assert cleaned(columns)["item_id"].to_list() == ["6", "3", "1", "5", "2", "4"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("drop", [1.0, 5.0, 3.0]),
        ("mean", [1.0, 3.0, 3.0, 5.0, 3.0, 3.0]),
        ("median", [1.0, 3.0, 3.0, 5.0, 3.0, 3.0]),
        ("nearest", [1.0, 1.0, 5.0, 5.0, 3.0, 3.0]),
        ("interpolate", [1.0, 1 + 4 * 10 / 100, 1 + 4 * 90 / 100, 5.0, 3.0, 3.0]),
    ],
)
def test_missing_values(how: str, expected: list[float]) -> None:
    columns = {
        "user_id": ["a", "a", "a", "a", "b", "b"],
        "item_id": ["1", "2", "3", "4", "1", "2"],
        "timestamp": [0, 10, 90, 100, 0, 1],
        "price": [1.0, None, None, 5.0, None, 3.0],
    }
    assert cleaned(columns, missing={"price": how})["price"].to_list() == pytest.approx(expected)


@pytest.mark.parametrize(("how", "filled"), [("mean", 2.0), ("median", 1.0), ("nearest", 1.0), ("interpolate", 2.0)])
def test_a_filled_rating_is_one_that_occurs(how: str, filled: float) -> None:
    columns = {
        "user_id": ["a"] * 5,
        "item_id": ["1", "2", "3", "4", "5"],
        "timestamp": [0, 40, 100, 101, 102],
        "rating": [1.0, None, 5.0, 2.0, 1.0],
    }
    assert cleaned(columns, missing={"rating": how})["rating"].to_list() == [1.0, filled, 5.0, 2.0, 1.0]


def test_missing_times_are_filled_before_the_order() -> None:
    columns = {"user_id": ["a"] * 4, "item_id": ["1", "2", "3", "4"], "timestamp": [10, None, 30, 5]}
    found = cleaned(columns, missing={"timestamp": "interpolate"})
    assert found.select("item_id", "timestamp").rows() == [("4", 5), ("1", 10), ("2", 20), ("3", 30)]


def test_numbers_of_users_that_hardly_two_share_are_rounded() -> None:
    ids = [str(n) for n in range(150)]
    frame = pl.DataFrame({"row": [0], "user_id": ["0"], "item_id": ["1"], "event": ["click"]})
    income, age, share = (
        [12_345 + n for n in range(150)],
        [20 + n % 90 for n in range(150)],
        [n / 7 for n in range(150)],
    )
    users = pl.DataFrame({"user_id": ids, "income": income, "age": age, "share": share})
    _, _, found, notes = clean(frame, pl.DataFrame(schema={"item_id": pl.String}), users)
    assert found.schema == users.schema
    assert (found["income"][0], found["age"].to_list(), found["share"][149]) == (12_000, age, 21.0)
    assert "income: 150 different values, rounded to two significant digits for prompts" in notes


def test_missing_values_of_users_and_items() -> None:
    frame = pl.DataFrame({"row": [0], "user_id": ["a"], "item_id": ["1"], "event": ["click"]})
    items = pl.DataFrame({"item_id": ["1", "2", "3"], "title": ["x", "y", "z"], "year": [1990, None, 2001]})
    users = pl.DataFrame({"user_id": ["a", "b"], "age": [20.0, None]})
    _, items, users, notes = clean(frame, items, users, missing={"year": "mean", "age": "drop"})
    assert items["year"].to_list() == [1990, 1996, 2001]
    assert users["user_id"].to_list() == ["a"]
    assert "year: 1 of 1 missing values filled (mean)" in notes


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"ratng": "mean"}, "Unknown column 'ratng' in --missing ratng=mean. Did you mean 'rating'"),
        (
            {"rating": "meen"},
            "Unknown treatment of missing values 'meen' in --missing rating=meen. Did you mean 'mean'",
        ),
        ({"event": "mean"}, "--missing event=mean: event holds String, not numbers; allowed: drop"),
    ],
)
def test_wrong_missing_options(missing: dict[str, str], said: str) -> None:
    columns = {"user_id": ["a", "a"], "item_id": ["1", "2"], "rating": [1.0, None], "event": ["x", None]}
    with pytest.raises(GenrecError, match=re.escape(said)):
        cleaned(columns, missing=missing)


def test_duplicates_are_counted_and_dropped_on_request(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [*ROWS, ROWS[0], ROWS[0]])
    kept = load_dataset(None, DataOptions(interactions=path))
    dropped = load_dataset(None, DataOptions(interactions=path, duplicates="drop"))
    assert (kept.interactions.height, dropped.interactions.height) == (5, 3)
    assert any(n.startswith("2 interactions equal an earlier one: kept") for n in kept.notes)
    assert dropped.interactions["row"].to_list() == [0, 1, 2]


def test_k_core_is_repeated_until_it_holds() -> None:
    # c has two items, but one of them only c has: without it c has one interaction, and goes too.
    pairs = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("c", "1"), ("c", "9")]
    columns = {"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs]}
    assert cleaned(columns, k_core=2)["user_id"].to_list() == ["a", "a", "b", "b"]
    with pytest.raises(DataError, match="--k-core 5 leaves nothing"):
        cleaned(columns, k_core=5)


def test_items_outside_the_catalogue_and_single_interactions_are_counted(tmp_path: Path) -> None:
    items = written(tmp_path / "i.csv", [("Ä1", "Known"), ("z", "Never met")], ("item_id", "title"))
    found = load_dataset(None, DataOptions(interactions=written(tmp_path / "a.csv"), items=items))
    assert found.items.rows() == [("Ä1", "Known"), ("z", "Never met"), ("b,2", None)]
    assert "1 item of the interactions is not in the catalogue, 1 without a title" in found.notes
    assert any(n.startswith("1 user has a single interaction") for n in found.notes)


def test_rows_without_a_user_are_dropped_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [*ROWS, ("", "x", "1", "1")])
    found = load_dataset(None, DataOptions(interactions=path))
    assert found.interactions.height == 3
    assert "1 interaction without a user was dropped" in found.notes


def test_same_input_same_result(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [(str(n % 7), str(n % 11), str(n % 5), str(n % 13)) for n in range(500)])
    options = DataOptions(interactions=path, k_core=2, duplicates="drop", missing={"rating": "interpolate"})
    one, two = load_dataset(None, options), load_dataset(None, options)
    assert one.fingerprint == two.fingerprint
    assert one.interactions.equals(two.interactions)
    (tmp_path / "b").mkdir()
    changed = written(tmp_path / "b" / "a.csv", ROWS)
    assert load_dataset(None, DataOptions(interactions=changed)).fingerprint != one.fingerprint


# --- the command --------------------------------------------------------------------------------------------------


def test_mistakes_leave_with_code_2_and_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from genrec.cli import main

    path = written(tmp_path / "a.csv", [("1", "2", "good", "3")])
    assert main(["data", "show", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "row 1: 'good'" in said.err and "Traceback" not in said.err


def test_unknown_name_is_no_file() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ml-100k'"):
        load_dataset("ml-100")


def test_bench_measures_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    import bench_data  # type: ignore[import-not-found]

    held = np.ones(2**27)  # 1 GiB of this process, not of the one that is measured
    found = bench_data.run(2_000, tmp_path)
    assert found["rows"] == 2_000
    assert 0.05 < found["peak_gib"] < held.nbytes / 2**30
    assert not list(tmp_path.iterdir())


def test_a_column_named_by_what_items_are(tmp_path: Path) -> None:
    """`movie` is the item where nothing else is; beside an id it is a word about it."""
    rows = "".join(f"{n % 4},m{n % 5},{1 + n % 5},{n % 5},2024-01-{n + 1:02d}\n" for n in range(20))
    (tmp_path / "alone.csv").write_text("user,movie,stars,screen,watchedAt\n" + rows)
    (tmp_path / "beside.csv").write_text("user,movie,stars,movie_id,watchedAt\n" + rows)
    alone = load_dataset(None, DataOptions(interactions=tmp_path / "alone.csv")).interactions
    assert {"m0", "m4"} <= {*alone["item_id"]} and alone["timestamp"].null_count() == 0
    beside = load_dataset(None, DataOptions(interactions=tmp_path / "beside.csv")).interactions
    assert {*beside["item_id"]} == {"0", "1", "2", "3", "4"} and "movie" in beside.columns


def test_days_without_a_split_by_time_are_said(tmp_path: Path) -> None:
    rows = "".join(f"{n % 4},m{n % 5},2024-01-{n + 1:02d}\n" for n in range(20))
    (tmp_path / "d.csv").write_text("user_id,item_id,date\n" + rows)
    for days, method, said in ((3, "auto", True), (28, "auto", False), (3, "temporal", False)):
        found = load_dataset(None, DataOptions(interactions=tmp_path / "d.csv", days=days, split=method))
        assert any("--days 3 is not used: the split is leave_one_out" in note for note in found.notes) == said


def test_types_of_mongodb_are_their_values(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    rows = [
        {"_id": {"$oid": f"{n:024x}"}, "user": {"id": {"$numberLong": str(n % 3)}}, "item": f"i{n % 5}"}
        | {"at": {"$date": f"2024-03-{n + 1:02d}T10:00:00Z"}}
        for n in range(15)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = load_dataset(None, DataOptions(interactions=file, columns={"timestamp": "at"})).interactions
    assert {*found["user_id"]} == {"0", "1", "2"} and found["timestamp"].min() == 1_709_287_200
