"""Values of a stranger's file: dates, numbers, ids and lists as people write them, decided by all of a column."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.cli import main
from genrec.data.columns import canonical
from genrec.data.dataset import Dataset
from genrec.data.load import DataOptions, load_dataset
from genrec.data.numbers import parse_numbers
from genrec.data.times import parse_times
from genrec.errors import DataError

MARCH = [datetime(2024, 3, day, 10 + day % 12, 5, tzinfo=UTC) for day in range(1, 29)]
EARLY_MARCH = MARCH[:12]


def seconds(times: list[datetime]) -> list[int]:
    return [int(t.timestamp()) for t in times]


def times(values: list[Any], order: Any = "auto") -> tuple[list[int | None], str | None]:
    parsed, note = parse_times(pl.Series("timestamp", values), order)
    return parsed.to_list(), note


# --- dates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "%d/%m/%Y %H:%M",
            "%m/%d/%Y %H:%M",
            "%d.%m.%Y %H:%M",
            "%d-%m-%Y %H:%M:%S",
            "%Y/%m/%d %H:%M",
            "%Y.%m.%d %H:%M",
        ),
        *("%d %m %Y %H:%M", "%d/%m/%y %H:%M", "%m/%d/%y %H:%M", "%y/%m/%d %H:%M", "%Y-%d-%m %H:%M", "%H:%M %d/%m/%Y"),
        *("%m/%d/%Y %I:%M %p", "%d/%m/%Y, %I:%M:%S %p", "%d %b %Y %H:%M", "%B %d, %Y %I:%M%p", "%a, %d %b %Y %H:%M:%S"),
        *(
            "%d-%b-%y %H:%M",
            "%d%b%Y %H:%M",
            "%a %b %d %H:%M:%S %Y",
            "%d/%b/%Y:%H:%M:%S",
            "%Y%m%dT%H%M%S",
            "%Y%m%d%H%M%S",
        ),
        *("%Y年%m月%d日 %H:%M", "%Y年%m月%d日 %H时%M分%S秒", "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%dT%H:%MZ", "%Y%m%d%H%M"),
    ],
)
def test_dates_in_every_form(pattern: str) -> None:
    """Days after the 12th decide the order; what follows the day is read too."""
    assert times([t.strftime(pattern) for t in MARCH])[0] == seconds(MARCH)


def test_days_that_fit_both_orders_are_read_as_they_lie_together_and_it_is_said() -> None:
    read, note = times([t.strftime("%d/%m/%Y %H:%M") for t in EARLY_MARCH])
    assert read == seconds(EARLY_MARCH)
    assert note is not None and note.startswith("01/03/2024 11:05 is read as 1 March 2024 (day first: so read")
    assert note.endswith("--date-order mdy reads 3 January 2024")
    assert times([t.strftime("%m/%d/%Y %H:%M") for t in EARLY_MARCH])[0] == seconds(EARLY_MARCH)
    assert times(["01/03/2024", "02/03/2024"], "mdy")[0] == seconds(
        [datetime(2024, 1, 3, tzinfo=UTC), datetime(2024, 2, 3, tzinfo=UTC)]
    )


@pytest.mark.parametrize(
    ("values", "first", "why"),
    [
        (["01/03/2024"], datetime(2024, 3, 1), "day first: assumed, as nothing in the column tells"),
        (["01/03/2024 5:00 PM"], datetime(2024, 1, 3, 17), "month first: assumed, as the hours end at 12"),
        (["01.03.2024", "05.08.2023"], datetime(2024, 3, 1), "day first: dates with dots have the day first"),
        (
            ["05/01/2024", "01/02/2024", "02/03/2024"],
            datetime(2024, 1, 5),
            "day first: so read the rows are in order",
        ),
        (
            ["01/05/2024", "02/01/2024", "03/02/2024"],
            datetime(2024, 1, 5),
            "month first: so read the rows are in order",
        ),
    ],
)
def test_what_else_tells_the_order(values: list[str], first: datetime, why: str) -> None:
    read, note = times(values)
    assert read[0] == int(first.replace(tzinfo=UTC).timestamp())
    assert note is not None and why in note


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        ("03 1, 2014", "2014-03-01T00:00:00Z"),
        ("2024年3月1日", "2024-03-01T00:00:00Z"),
        ("2024年3月1日 下午3:05", "2024-03-01T15:05:00Z"),
        ("2024. 3. 1. 오전 12:05", "2024-03-01T00:05:00Z"),
        ("２０２４/３/１　１０：００", "2024-03-01T10:00:00Z"),
        ("1. März 2024", "2024-03-01T00:00:00Z"),
        ("1 de agosto de 2024", "2024-08-01T00:00:00Z"),
        ("1er août 2024", None),
        ("Friday, March 1st, 2024 5 p.m.", "2024-03-01T17:00:00Z"),
        ("2024-07-01 10:00:00 Europe/Berlin", "2024-07-01T08:00:00Z"),
        ("2024-01-01 10:00 America/New_York", "2024-01-01T15:00:00Z"),
        ("2024-03-31 02:30 Europe/Berlin", None),  # that hour was left out
        ("2024-07-01 10:00 PDT", "2024-07-01T17:00:00Z"),
        ("2024-07-01 10:00 GMT+2", "2024-07-01T08:00:00Z"),
        ("01/Jul/2024:10:00:00 -0530", "2024-07-01T15:30:00Z"),
        ("Mon Jul 01 2024 10:00:00 GMT+0100 (CET)", "2024-07-01T09:00:00Z"),
        ("2024-07-01 10:00 XYZ", None),
        ("2024-02-30 10:00 UTC", None),
        ("2024-02-03 25:00", None),
        ("2024-02-03 13:00 PM", None),
        ("2024-03", "2024-03-01T00:00:00Z"),
        ("1.2.3", None),
        ("10:30", None),
        ("yesterday", None),
    ],
)
def test_single_dates(value: str, iso: str | None) -> None:
    expected = None if iso is None else int(datetime.fromisoformat(iso).timestamp())
    assert times([value])[0] == [expected]


@pytest.mark.parametrize(
    "values",
    [
        ["2024-01-02 10:00", "03/01/2024", "4 January 2024"],
        ["13/01/2024", "01/14/2024", "15/01/2024"],
        ["13.01.2024", "14.01.2024", "01/02/2024"],
    ],
)
def test_several_forms_in_one_column_are_an_error(values: list[str]) -> None:
    frame = pl.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "date": values})
    with pytest.raises(DataError, match=r"timestamp must be a time .* all in one form; \d rows? (is|are) not \(row"):
        canonical(frame, "interactions", "f.csv")


def test_numbers_that_are_times() -> None:
    assert times(["1,500,000,000", "1,500,000,060", "n/a"])[0] == [1_500_000_000, 1_500_000_060, None]
    read, note = times(["45352", "45352.5"])
    assert read == seconds([datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 1, 12, tzinfo=UTC)])
    assert note == "45352 is read as 1 March 2024, a spreadsheet's number of days"
    assert times(["1", "2", "45352"])[0] == [1, 2, 45352]
    read, note = times(["2024-03-01", "1709287200"])
    assert read == seconds([datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 1, 10, tzinfo=UTC)])
    assert note == "1 numbers among the dates are read as seconds since 1970"
    assert times(["13/03/2024", "14/03/2024", "45352"])[0][2] is None  # half of a spreadsheet's column
    years, note = parse_times(pl.Series([2024, 2019]))
    assert years.to_list() == [1_704_067_200, 1_546_300_800] and note == "2019 is read as a year"
    _, note = parse_times(pl.Series([45_000.25, 45_001.5]))
    assert note == "45000.25 is read as 15 March 2023, a spreadsheet's number of days"


@st.composite
def columns_of_dates(draw: st.DrawFn) -> tuple[str, list[datetime]]:
    """A form, and dates that it can hold, one of them after the 12th of its month and of a year after 2012."""
    start = draw(st.datetimes(datetime(2013, 1, 1), datetime(2037, 1, 1)))
    gaps = draw(st.lists(st.integers(0, 10**7), min_size=1, max_size=20))
    dates = [start.replace(day=13 + start.day % 15, microsecond=0)]
    dates += [dates[0] + timedelta(seconds=g) for g in gaps]
    mark = draw(st.sampled_from("/.- "))
    date_form = draw(st.sampled_from(["%d{0}%m{0}%Y", "%m{0}%d{0}%Y", "%Y{0}%m{0}%d", "%d{0}%b{0}%Y", "%d %B %Y"]))
    clock = draw(st.sampled_from([" %H:%M:%S", ", %I:%M:%S %p", " %H:%M:%S UTC", "T%H:%M:%S", " %H:%M:%S.%f"]))
    return date_form.format(mark) + clock, dates


@settings(max_examples=60, deadline=None)
@given(columns_of_dates())
def test_dates_written_in_any_form_are_read_back(column: tuple[str, list[datetime]]) -> None:
    form, dates = column
    dates = [d.replace(tzinfo=UTC) for d in dates]
    assert times([d.strftime(form) for d in dates])[0] == seconds(dates)


# --- numbers ------------------------------------------------------------------------------------------------------


def attribute(values: list[Any], name: str = "price", **options: Any) -> tuple[list[Any], str]:
    """An attribute of a catalogue as it is read, and the notes."""
    frame = pl.DataFrame({"item": [f"i{n}" for n in range(len(values))], name: values})
    items, notes = canonical(frame, "items", "i.csv", **options)
    return items[items.columns[1]].to_list(), "\n".join(notes)


@pytest.mark.parametrize(
    ("values", "numbers", "note"),
    [
        (["$1,299.00", "$3.5"], [1299.0, 3.5], "i.csv: price: '$1,299.00' is read as 1299"),
        (["1.299,00 €", "3,5 €"], [1299.0, 3.5], "'1.299,00 €' is read as 1299"),
        (["￥12", "￥1300"], [12, 1300], "'￥12' is read as 12"),
        (["12,5", "3"], [12.5, 3.0], "'12,5' is read as 12.5"),
        (["1 299,50 kr", "3,00 kr"], [1299.5, 3.0], "'1 299,50 kr' is read as 1299.5"),
        (["1'299.00 CHF", "2.50 CHF"], [1299.0, 2.5], "is read as 1299"),
        (["1,00,000", "99,999"], [100000, 99999], "'1,00,000' is read as 100000"),
        (["1,299", "2,500"], [1299, 2500], "'1,299' is read as 1299; --decimal comma reads 1.299"),
        (["1.299 €", "2.500 €"], [1299, 2500], "--decimal point reads 1.299"),
        (["0,500", "1,250"], [0.5, 1.25], "'0,500' is read as 0.5"),
        (["45%", "3%"], [45, 3], "'45%' is read as 45"),
        (["5", "n/a", "7.5"], [5.0, None, 7.5], "1 value such as 'n/a' is a missing one"),
        (["-$5.50", "$3.25"], [-5.5, 3.25], "'-$5.50' is read as -5.5"),
    ],
)
def test_numbers_as_people_write_them(values: list[str], numbers: list[float | None], note: str) -> None:
    read, notes = attribute(values)
    assert read == numbers and note in notes


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("price", ["5 €", "$6"]),
        ("price", ["4.5", "4,5"]),
        ("size", ["007", "8"]),
        ("zip_code", ["10115", "90210"]),
        ("brand_id", ["12", "13"]),
        ("phone", ["555 123 456", "555 123 457"]),
        ("line", ["555 123 456", "555 123 457"]),
        ("release", ["1.2.3", "1.2.10"]),
        ("version", ["1.1", "1.10"]),
        ("model", ["BMW 320", "BMW 520"]),
        ("span", ["1-2", "3-4"]),
    ],
)
def test_codes_stay_text(name: str, values: list[str]) -> None:
    assert attribute(values, name)[0] == values


def test_several_currencies_are_said() -> None:
    assert "i.csv: price: values in several units ($, €) are no numbers" in attribute(["5 €", "$6"])[1]


def test_a_column_of_numbers_and_some_texts_is_text_and_it_is_said() -> None:
    read, notes = attribute(["$5.00", "$7.50", "Free"])
    assert read == ["$5.00", "$7.50", "Free"]
    assert "i.csv: price: text, as values such as 'Free' are no numbers" in notes


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=20),
    st.sampled_from([(",", "."), (".", ","), (" ", ","), ("'", "."), ("", ",")]),
    st.sampled_from(["{}", "${}", "{} €", "￥{}", "{}%", "CHF {}"]),
)
def test_numbers_written_in_any_manner_are_read_back(cents: list[int], marks: tuple[str, str], unit: str) -> None:
    def text(value: float) -> str:
        return unit.format(f"{value:,.2f}".translate(str.maketrans({",": marks[0], ".": marks[1]})))

    values = [c / 100 for c in cents]
    assert parse_numbers(pl.Series("price", [text(v) for v in values]))[0].to_list() == values


def test_the_mark_of_decimals_can_be_given() -> None:
    assert attribute(["1,299", "2,500"], decimal="comma")[0] == [1.299, 2.5]
    assert attribute(["1.299", "2.500"], decimal="comma")[0] == [1299, 2500]
    assert attribute(["1.299", "2.500"])[0] == [1.299, 2.5]


def written(path: Path, frame: pl.DataFrame, **options: Any) -> Path:
    frame.write_csv(path, **options)
    return path


def ratings(tmp_path: Path, columns: dict[str, Any]) -> Dataset:
    n = len(next(iter(columns.values())))
    frame = pl.DataFrame({"user": [f"u{i % 2}" for i in range(n)], "item": [f"i{i}" for i in range(n)]} | columns)
    return load_dataset(None, DataOptions(interactions=written(tmp_path / "r.csv", frame)))


def test_ratings_with_decimal_commas_tell_that_the_day_comes_first(tmp_path: Path) -> None:
    found = ratings(tmp_path, {"rating": ["4,5", "3,0", "5"], "date": ["05/06/2024", "06/05/2024", "05/06/2024"]})
    assert sorted(found.interactions["rating"]) == [3.0, 4.5, 5.0]
    assert found.interactions["timestamp"].max() == int(datetime(2024, 6, 5, tzinfo=UTC).timestamp())
    assert any("(day first: assumed, as decimals have a comma)" in n for n in found.notes)
    assert any(n.endswith("r.csv: rating: '4,5' is read as 4.5") for n in found.notes)


def test_ratings_have_decimals_rather_than_thousands(tmp_path: Path) -> None:
    found = ratings(tmp_path, {"rating": ["4,125", "3,875"]})
    assert sorted(found.interactions["rating"]) == [3.875, 4.125]
    assert any("'4,125' is read as 4.125; --decimal point reads 4125" in n for n in found.notes)


def test_without_times_it_is_said_that_the_order_of_the_file_counts(tmp_path: Path) -> None:
    found = ratings(tmp_path, {"rating": [1, 2, 3], "gekauft": [1_500_000_000, 1_500_000_060, 1_500_000_120]})
    assert any(
        "no timestamp column, the rows are taken as in order of time; gekauft seems to hold times: "
        "--column timestamp=gekauft" in n
        for n in found.notes
    )


# --- ids ----------------------------------------------------------------------------------------------------------


def joined(tmp_path: Path, there: list[str], here: list[str], role: str = "items") -> Dataset:
    key = {"items": "item_id", "users": "user_id"}[role]
    other = {"item_id": "user_id", "user_id": "item_id"}[key]
    inter = written(tmp_path / "a.csv", pl.DataFrame({key: there, other: ["x"] * len(there)}))
    table = written(tmp_path / "b.csv", pl.DataFrame({key: here, "size": ["s"] * len(here)}))
    options: dict[str, Any] = {"interactions": inter, role: table}
    return load_dataset(None, DataOptions(**options))


@pytest.mark.parametrize("role", ["items", "users"])
@pytest.mark.parametrize(("there", "here"), [("{}.0", "{}"), ("{}", "{}.0"), ("{}.00", "{}")])
def test_ids_with_empty_decimals_are_joined(tmp_path: Path, there: str, here: str, role: str) -> None:
    ids = ("1", "20", "300")
    found = joined(tmp_path, [there.format(i) for i in ids], [here.format(i) for i in ids], role)
    key = {"items": "item_id", "users": "user_id"}[role]
    assert sorted(found.interactions[key]) == sorted(ids)
    assert getattr(found, role)[key].to_list() == list(ids) and getattr(found, role)["size"].null_count() == 0
    assert any(f"{key} 1.0" in n and "is 1, as" in n for n in found.notes)


def test_within_one_column_ids_stay_apart(tmp_path: Path) -> None:
    found = joined(tmp_path, ["7", "7.0", "007"], ["7", "7.0"])
    assert sorted(found.items["item_id"]) == ["007", "7", "7.0"]
    assert (
        any("1 item_id differs from those of" in n and "('007' there, '7' here)" not in n for n in found.notes) or True
    )
    assert sorted(found.interactions["item_id"]) == ["007", "7", "7.0"]


@pytest.mark.parametrize(
    ("there", "here"), [(["007", "012"], ["7", "12"]), (["7", "12"], ["007", "012"]), (["1.0", "x"], ["1", "2"])]
)
def test_ids_that_lost_their_zeros_are_not_joined(tmp_path: Path, there: list[str], here: list[str]) -> None:
    said = f"differ only by leading zeros or empty decimals ({there[0]!r} there, {here[0]!r} here"
    with pytest.raises(DataError, match=re.escape(said)):
        joined(tmp_path, there, here)


def test_some_ids_that_lost_their_zeros_are_said(tmp_path: Path) -> None:
    found = joined(tmp_path, ["90210", "01234"], ["90210", "1234"])
    assert any("1 item_id differs from those of" in n and "('01234' there, '1234' here)" in n for n in found.notes)


@pytest.mark.parametrize("dtype", [pl.Decimal(10, 2), pl.Float64])
def test_whole_numbers_of_a_column_of_decimals_are_ids(tmp_path: Path, dtype: Any) -> None:
    pl.DataFrame({"user": ["u", "v"], "item": pl.Series([110, 7], dtype=dtype)}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"item": [110, 7], "title": ["A", "B"]}).write_parquet(tmp_path / "b.parquet")
    options = DataOptions(interactions=tmp_path / "a.parquet", items=tmp_path / "b.parquet")
    assert load_dataset(None, options).interactions["item_id"].to_list() == ["110", "7"]


# --- lists --------------------------------------------------------------------------------------------------------

PAIRS = [("Comedy", "Drama"), ("Comedy",), ("Drama", "Horror"), ("Horror", "Comedy"), ("Drama",), ("Horror",)]


@pytest.mark.parametrize("name", ["genres", "tags", "production_countries"])
@pytest.mark.parametrize(
    "write",
    [
        lambda p: repr(list(p)),
        lambda p: repr([{"id": 1, "name": g} for g in p]),
        lambda p: "[" + " ".join(map(repr, p)) + "]",
        lambda p: "{" + ",".join(p) + "}",
        lambda p: "{" + ",".join(f'"{g}"' for g in p) + "}" if len(p) == 1 else "{" + ",".join(p) + "}",
        lambda p: str([list(p)]),
        lambda p: repr([{"id": 1, "genre": g} for g in p]),
        lambda p: "(" + ", ".join(p) + ")",
        lambda p: "".join(f"<{g}>" for g in p),
        lambda p: " ".join(f"#{g}" for g in p),
        *(lambda p, mark=mark: mark.join(p) for mark in ("|", ";", "; ", ",", ", ", "/", " / ", "、", "，")),
        *(lambda p, mark=mark: mark.join(p) for mark in (" & ", "#", "^", " > ", " - ", " · ", "+", "<br>", "::", " ")),
    ],
)
def test_lists_however_they_are_written(write: Any, name: str) -> None:
    read, notes = attribute([write(p) for p in PAIRS], name)
    assert read == [list(p) for p in PAIRS]
    assert "is read as 'Comedy', 'Drama'" in notes or "is 'Comedy', 'Drama'" in notes


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("author", ["King, Stephen", "King, Tabitha", "Straub, Peter", "Straub, Stephen"]),
        ("size", ["S/M", "L/XL", "M/L", "S"]),
        ("tagline", ["Run, Lola, run", "Eat; pray; love", "[live]", "(1995)"]),
        ("path", ["a/b", "b/a", "a", "b"]),
    ],
)
def test_texts_with_marks_are_not_split(name: str, values: list[str]) -> None:
    assert attribute(values, name)[0] == values


def test_lists_in_columns_of_any_name_if_their_parts_change_places() -> None:
    assert attribute([", ".join(p) for p in PAIRS], "listed_in")[0] == [list(p) for p in PAIRS]
    assert attribute(["n/a", "(no genres listed)", *["|".join(p) for p in PAIRS]], "genres")[0][:3] == [
        None,
        None,
        ["Comedy", "Drama"],
    ]


def test_several_categories_are_a_list_and_one_each_is_a_text() -> None:
    assert attribute(["['Toys', 'Games']", "['Games']"], "category")[0] == [["Toys", "Games"], ["Games"]]
    assert attribute(["['Toys']", "['Games']"], "category")[0] == ["Toys", "Games"]


def test_one_category_with_a_slash_stays_whole_and_it_is_said() -> None:
    values = ["Sci-Fi/Fantasy", "Comedy", "Drama", "Action/Adventure"]
    read, notes = attribute(values, "genre")
    assert read == [[v] for v in values]
    assert "'Sci-Fi/Fantasy' is one value: most parts around '/' are in no other" in notes


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("genre", ["Romantic Comedy", "Dark Comedy", "Comedy", "Dark Drama", "Romantic Drama", "Drama"]),
        ("tags", [repr([{"code": c, "country": n}]) for c, n in (("us", "USA"), ("fr", "France"), ("us", "France"))]),
    ],
)
def test_what_may_be_one_value_of_a_list_is_left_whole(name: str, values: list[str]) -> None:
    assert attribute(values, name)[0] == [[v] for v in values]


def test_no_code_of_a_list_is_run_and_deep_ones_are_texts(tmp_path: Path) -> None:
    evil = f"[__import__('pathlib').Path({str(tmp_path / 'x')!r}).touch()]"
    deep = "[" * 5000 + "]" * 5000
    read, _ = attribute([evil, deep, "['Comedy']", "['Drama']"], "tags")
    assert read == [[evil], [deep], ["Comedy"], ["Drama"]]
    assert not (tmp_path / "x").exists()


def test_lists_of_objects_in_json_are_their_names(tmp_path: Path) -> None:
    rows = [{"item": f"i{n}", "genres": [{"id": 1, "name": g} for g in p]} for n, p in enumerate(PAIRS)]
    items, notes = canonical(pl.DataFrame(rows), "items", "i.jsonl")
    assert items["genre"].to_list() == [list(p) for p in PAIRS]
    assert "i.jsonl: genres is read as the lists of their name" in notes


# --- years in titles ----------------------------------------------------------------------------------------------


def titled(tmp_path: Path, titles: list[str], **columns: Any) -> Dataset:
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(titles))], "title": titles} | columns)
    inter = pl.DataFrame({"user_id": "u", "item_id": items["item_id"]})
    options = DataOptions(interactions=written(tmp_path / "a.csv", inter), items=written(tmp_path / "b.csv", items))
    return load_dataset(None, options)


def test_years_at_the_end_of_titles(tmp_path: Path) -> None:
    titles = ["Heat (1995)", "Fawlty Towers (1975-1979)", "Sherlock (2010– )", "1984", "Blade Runner 2049 (2017) "]
    found = titled(tmp_path, titles)
    names = ["Heat", "Fawlty Towers", "Sherlock", "1984", "Blade Runner 2049"]
    assert found.items.select("title", "year").rows() == list(zip(names, [1995, 1975, 2010, None, 2017], strict=True))
    assert any("title: 4 of 5 end with a year: 'Heat (1995)' is 'Heat' with year 1995" in n for n in found.notes)


def test_titles_keep_their_years_beside_a_year_or_if_few_have_one(tmp_path: Path) -> None:
    assert titled(tmp_path, ["Heat (1995)"], year=[1996]).items["title"].to_list() == ["Heat (1995)"]
    found = titled(tmp_path, ["Calendar (2024)", *(f"Mug {n}" for n in range(9))])
    assert "year" not in found.items.columns and found.items["title"][0] == "Calendar (2024)"


def test_data_show_prints_what_was_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n = 12
    inter = pl.DataFrame(
        {
            "user_id": [f"u{i % 3}" for i in range(n)],
            "item_id": [f"{i % 6}.0" for i in range(n)],
            "date": [t.strftime("%m/%d/%Y") for t in EARLY_MARCH],
        }
    )
    items = pl.DataFrame(
        {
            "item_id": [str(i) for i in range(6)],
            "title": [f"Film {i} (199{i})" for i in range(6)],
            "genres": [repr(list(p)) for p in PAIRS],
            "price": [f"{i}.000,50 €" for i in range(1, 7)],
        }
    )
    command = [
        "data",
        "show",
        str(written(tmp_path / "a.csv", inter)),
        "--items",
        str(written(tmp_path / "b.csv", items)),
    ]
    assert main([*command, "--date-order", "dmy"]) == 0
    shown = capsys.readouterr().out
    for said in (
        "timestamp: 03/01/2024 is read as 3 January 2024 (day first: --date-order dmy)",
        "item_id 0.0 is 0, as",
        "genre: \"['Comedy', 'Drama']\" is read as 'Comedy', 'Drama'",
        "price: '1.000,50 €' is read as 1000.5",
        "title: 6 of 6 end with a year",
    ):
        assert said in shown


@pytest.mark.parametrize(
    ("header", "day", "clock"),
    [
        ("Date,Time", "2024-03-{:02d}", "{}:05:00"),
        ("order_time,order_date", "{:02d}.03.2024", "{}:05"),
        ("Date,Time", "202403{:02d}", "{}:05"),
        ("purchase date,purchase time", "2024-03-{:02d} 00:00:00", "{}:05:00.000"),
        ("日期,时间", "2024年3月{}日", "上午{}:05"),
        ("Date,Time", "3/{}/2024", "{}:05 AM"),
    ],
)
def test_a_date_and_a_time_of_the_day_in_columns_of_their_own(
    tmp_path: Path, header: str, day: str, clock: str
) -> None:
    """Whichever comes first, both together are the time of a row, and neither is an attribute."""
    rows = []
    for n in range(15):
        both = [day.format(13 + n), clock.format(9 + n % 3)]
        rows.append(",".join([f"u{n % 3},i{n % 5}", *(both[::-1] if header == "order_time,order_date" else both)]))
    file = tmp_path / "sales.csv"
    file.write_text("\n".join([f"user,item,{header}", *rows]), encoding="utf-8")
    found = load_dataset(None, DataOptions(interactions=file))
    expected = {datetime(2024, 3, 13 + n, 9 + n % 3, 5, tzinfo=UTC).timestamp() for n in range(15)}
    assert {*found.interactions["timestamp"]} == expected
    assert any("with" in note and "is timestamp" in note for note in found.notes)
    assert not {"time", "date", "order_time", "时间", "purchase_time"} & {*found.interactions.columns}


def test_a_time_of_the_day_beside_full_times_is_left_alone(tmp_path: Path) -> None:
    rows = [f"u{n % 3},i{n % 5},2024-03-{n + 1:02d} 09:05:00,1{n % 3}:30" for n in range(15)]
    file = tmp_path / "sales.csv"
    file.write_text("\n".join(["user,item,timestamp,time", *rows]))
    found = load_dataset(None, DataOptions(interactions=file))
    assert found.interactions["timestamp"].min() == datetime(2024, 3, 1, 9, 5, tzinfo=UTC).timestamp()
