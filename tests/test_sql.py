"""SQL of strangers: what is allowed gives what polars' own SQL gives, all else is one clear error that computes
nothing, reads nothing and ends no process."""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from genrec import sql
from genrec.catalogue.where import where_mask
from genrec.cli import main
from genrec.errors import DataError, GenrecError, TaskError, UnknownNameError
from genrec.recommender import Recommender
from genrec.sql import syntax
from genrec.tasks.labels import labels, selected
from genrec.tasks.taskfile import load_task, shipped_tasks

FRAME = pl.DataFrame(
    {
        "i": [1, 2, None, -7, 0],
        "j": [2, 0, 3, 2, None],
        "f": [1.5, -2.5, None, 0.0, float("nan")],
        "g": [0.5, None, 2.0, 3.0, 1.0],
        "s": ["abc", "A_c", "%x", None, " é "],
        "t": ["abc", None, "x", "b", ""],
        "b": [True, False, None, True, False],
        "c": [None, None, True, False, True],
        "i8": pl.Series([1, 2, None, 3, 4], dtype=pl.Int8),
        "u": pl.Series([1, 2, None, 3, 4], dtype=pl.UInt32),
        "f32": pl.Series([0.1, 0.2, None, 1, 2], dtype=pl.Float32),
        "genre": [["x", "y"], [], None, ["x", None], ["z"]],
        "years": [[1, 2], [], None, [3], [2]],
        "A b": [1, 2, 3, 4, 5],
        "timestamp": [10, 20, 30, None, 50],
        "text": ["a", "b", None, "d", "e"],
    }
)

SAME = [
    *(
        "i",
        '"A b"',
        "timestamp > 20",
        "text = 'a'",
        "i = 1",
        "i = 1.0",
        "i <> j",
        "i != j",
        "i < j",
        "i >= 0",
        "s < 'b'",
    ),
    *(
        "i + j",
        "i - j",
        "i * j",
        "i / j",
        "i / 2",
        "i / 0",
        "i % j",
        "i % 0",
        "f % 2",
        "-7 % 2",
        "i % -2",
        "-i",
        "- -i",
    ),
    *("i + f", "f / 0", "i + 1.5", "i * 1e3", "1 + 2 * i - j", "(i + 1) * 2", "u % 3", "i8 = 300", "f32 > 0.1"),
    *("f = f", "f <> f", "f > 1", "b = 1", "b = true", "i = null", "null is null", "i is null", "s is not null"),
    *("not b", "not i = 1", "b and c", "b or c", "b and i = 1", "c or b and i = 1 or j = 0", "not (i = 1 or b and c)"),
    *("i is distinct from j", "i is not distinct from j", "i is distinct from null"),
    *("i in (1, 2)", "i in (1, null)", "i not in (1, null)", "i not in (1, 2)", "i in (1.5, 2)", "f in (1.5, 0)"),
    *("f32 in (0.1)", "i8 in (1, 300)", "s in ('abc', 'it''s')", "b in (true)", "i in (-7)", "i + 1 in (2)"),
    *("i between 0 and 2", "i not between 0 and 2", "i between 2 and 0", "s between 'a' and 'b'"),
    *("s like 'a%'", "s like 'a_c'", "s ilike 'a_c'", "s not like '%c'", "s like '%'", "s like '.%'", "s like '\\%x'"),
    *("s like 'a%c'", "s like '%x'", "s ilike '%É%'", "s like ''", "s not ilike 'A%'"),
    *("case when i = 1 then 'x' when i is null then 'n' end", "case i when 1 then 'x' else 'y' end"),
    *("case when b then 1 else 2.5 end", "case i when null then 'x' else 'y' end", "case when c then i else j end"),
    *("coalesce(i, j)", "coalesce(null, i, 5)", "nullif(i, 1)", "nullif(s, 'abc')", "least(i, j)", "greatest(f, g, 1)"),
    *("lower(s)", "UPPER(s)", "length(s)", "char_length(s)", "abs(i)", "abs(f)", "round(f)", "round(g * 3, 1)"),
    *("round(i)", "floor(f)", "ceil(f)", "ceiling(f)", "sqrt(i)", "ln(g)", "exp(g)", "starts_with(s, 'a')"),
    *("trim(s)", "trim('a' from s)", "trim(both 'a' from s)", "trim(leading 'a' from s)", "ltrim(s)", "rtrim(s)"),
    *("substring(s, 1, 2)", "substring(s, 2)", "substring(s from 2 for 1)", "substr(s, 0, 2)", "substring(s, -1, 3)"),
    *("replace(s, 'a', 'x')", "replace(s, '.', 'x')", "concat(s, t)", "concat(s, 'x', i)", "s || t", "i || 'x'"),
    *(
        "starts_with(s, t)",
        "cast(i as double)",
        "cast(i as text)",
        "f::text",
        "cast(i as boolean)",
        "cast(b as integer)",
    ),
    *("cast(g as integer)", "cast(b as text)", "cast(i as varchar)", "i::bigint", "cast(i as double precision)"),
    *("array_length(genre)", "array_contains(genre, 'x')", "genre is null", "case when genre is null then 0 end"),
]


def as_floats(series: pl.Series) -> pl.Series:
    """Numbers as Float64: a literal of polars' SQL is a decimal, ours a double; lengths are unsigned there."""
    return series.cast(pl.Float64) if series.dtype.is_numeric() else series


@pytest.mark.parametrize("text", SAME)
def test_polars_sql_gives_the_same(text: str) -> None:
    theirs = FRAME.with_columns(pl.sql_expr(text).alias("out"))["out"]
    ours = sql.evaluate(text, FRAME)
    assert_series_equal(as_floats(ours), as_floats(theirs), check_names=False, abs_tol=0, rel_tol=1e-15)


DIFFERENT = {
    # IS gives true or false, never null, as the standard says; polars compares with =
    "b is true": [True, False, False, True, False],
    "b is not true": [False, True, True, False, True],
    "b is false": [False, True, False, False, True],
    "b is unknown": [False, False, True, False, False],
    # polars refuses numbers as conditions after AND and OR, and takes them after NOT
    "i and b": [True, False, None, True, False],
    # lengths are signed: 3 - 5 is -2, not 4294967294
    "length(s) - 5": [-2, -2, -3, None, -2],
    # polars refuses to compare a list with what it holds
    "genre = 'x'": [True, False, None, True, False],
    "'x' = genre": [True, False, None, True, False],
    "genre <> 'x'": [False, True, None, False, True],
    "genre in ('y', 'z')": [True, False, None, False, True],
    "genre not in ('y', 'z')": [False, True, None, True, False],
    "genre = null": [None] * 5,
    "years in (2, 7)": [True, False, None, False, True],
    "years in (2.0, 2.5)": [True, False, None, False, True],
    "case genre when 'x' then 1 else 0 end": [1, 0, 0, 1, 0],
}


@pytest.mark.parametrize("text", DIFFERENT)
def test_where_polars_sql_differs(text: str) -> None:
    assert sql.evaluate(text, FRAME).to_list() == DIFFERENT[text]


def test_the_documentation_names_every_function() -> None:
    section = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text().split("## SQL")[1].split("## Answers")[0]
    assert [f for f in syntax.FUNCTIONS if f"`{f}" not in section] == ["ceiling"]  # another name of ceil


def test_columns_in_the_order_of_the_text() -> None:
    assert sql.columns("b and i in (1, 2) and (case when s like 'a%' then j else i end) = 1") == ["b", "i", "s", "j"]


REFUSED = {
    "": "it is empty",
    "-- i": "it is empty",
    "i =": "see '=' (line 1, column 3)",
    "i = 'x": "a quote",
    "i; j": "';' is not allowed; allowed are columns",
    "t.i = 1": "'.' is not allowed",
    "*": "STAR is not allowed",
    '"*" = 1': "no column can be called '*'",
    '"^.*$" = 1': "no column can be called '^.*$'",
    "i = $1": "'$' is not allowed",
    "i = ?": "'?' is not allowed",
    "i[1]": "'[' is not allowed",
    "max(i)": "max(...) gives one value for all rows",
    "count(*)": "count(...) gives one value for all rows",
    "row_number() over ()": "the function row_number is not allowed; allowed are abs, array_contains",
    "generate_series(1, 1000000000)": "the function generate_series is not allowed",
    "i in (select 1)": "it is no SQL expression",
    "exists (select 1)": "the function exists is not allowed",
    "(i, j) = (1, 2)": "TUPLE is not allowed",
    "i in (j)": "is needed here, not COLUMN",
    "cast(i as date)": "a cast to DATE is not allowed; allowed are integer, double, text, boolean",
    "cast(s as varchar(3))": "the function varchar is not allowed",
    "round(f, j)": "round takes whole numbers from 0 to 15",
    "s like t": "texts in quotes",
    "s like '" + "%a" * 600 + "'": "a pattern of 1,200 characters is too long",
    "i = 9223372036854775808": "does not fit 64 bits",
    "f = 1e999": "does not fit 64 bits",
    "replace(" * 3 + "s" + f", 'a', '{'a' * 20}')" * 3: "more than 5,000 steps",
    "nullif(" * 29 + "i" + ", 1)" * 29: "more than 5,000 steps",
    "case " * 29 + "i" + " when 1 then 1 when 2 then 2 end" * 29: "more than 5,000 steps",
    "w" * 1000: "at most 200 characters",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda t: t[:30])
def test_refused(text: str) -> None:
    with pytest.raises(DataError) as error:
        sql.columns(text)
    assert REFUSED[text] in str(error.value)
    assert len(str(error.value)) < 800


def test_what_cannot_be_computed_is_said_in_one_line() -> None:
    with pytest.raises(UnknownNameError, match="Unknown column 'k'"):
        sql.evaluate("k = 1", FRAME)
    for text in ("s + 1", "lower(i)", "s = 1", "i in ('x')", "s in (1)", "genre in (1)", "cast(s as integer)", "-u"):
        with pytest.raises(DataError) as error:
            sql.evaluate(text, FRAME)
        assert "\n" not in str(error.value)


# Files and addresses


class Requests(BaseHTTPRequestHandler):
    """Counts what reaches the server."""

    seen: list[str] = []

    def handle_one_request(self) -> None:
        self.seen.append("a request")
        self.close_connection = True


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/canary.csv"
    server.shutdown()
    server.server_close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """A file, and whether anyone has opened it since (inotify)."""
    canary = tmp_path / "canary.csv"
    canary.write_text("a\n1\n")
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(canary), 0x20) > 0  # IN_OPEN

    def was_opened() -> bool:
        try:
            return bool(os.read(watch, 4096))
        except BlockingIOError:
            return False

    yield canary, was_opened
    os.close(watch)


TABLES = sorted(
    {n for n in dir(pl) if n.startswith(("read_", "scan_"))}
    | {"read_text", "read_blob", "parquet_scan", "iceberg_scan", "delta_scan", "unnest", "generate_series", "nosuch"}
)
SPELLINGS = (
    "{0}('{1}')",
    "{U}('{1}')",
    "\"{0}\"('{1}')",
    "pg_catalog.{0}('{1}')",
    "read_/**/{0}('{1}')",
    "{0}/* x */('{1}')",
    "{0} -- x\n ('{1}')",
    "(select * from {0}('{1}'))",
    "(SELECT a FROM {U}('{1}') LIMIT 1) = 1",
    '(select "a" from "{0}"(\'{1}\'))',
    "(with w as (select * from {0}('{1}')) select * from w) is null",
    "(table {0}('{1}'))",
    "(values (1) union select * from {0}('{1}'))",
    "1 in (select a from {0}('{1}'))",
    "rating in (1, (select a from {0}('{1}')))",
    "rating = any (select a from {0}('{1}'))",
    "exists (select 1 from {0}('{1}'))",
    "case when rating > 1 then (select a from {0}('{1}')) else 1 end",
    "coalesce(rating, (select a from {0}('{1}')))",
    "lower({0}('{1}'))",
    "cast((select a from {0}('{1}')) as integer)",
    "array[(select a from {0}('{1}'))]",
    "'a\\' or {0}(''{1}'') --'",
    "'a\\' = (select a from {0}('{1}')) or ''",
    "'a' 'b' = (select a from {0}('{1}'))",
    "E'a\\'' = (select a from {0}('{1}'))",
    "$$ $$ = (select a from {0}($${1}$$))",
    "$t$'$t$ = (select a from {0}('{1}'))",
    "U&'\\0041' = (select a from {0}('{1}'))",
    "rating > 1; select * from {0}('{1}')",
    "rating from {0}('{1}')",
    "rating, (select a from {0}('{1}'))",
    "select * from {0}('{1}')",
    "create table x as select * from {0}('{1}')",
    "copy x from '{1}'",
)

TASK = """\
task: probe
description: A probe.
unit: event
needs: [user_id, item_id, rating]
label: LABEL
where: WHERE
answer: {choices: ["no", "yes"]}
ask:
  - "a probe of {title}?"
templates:
  seen:
    - "Is {item} it?"
  unseen:
    - "And {item}?"
"""


def task_file(folder: Path, label: str = "rating > 1", where: str = "rating > 0") -> Path:
    file = folder / "probe.yaml"
    file.write_text(TASK.replace("LABEL", json.dumps(label)).replace("WHERE", json.dumps(where)))
    return file


@pytest.mark.parametrize("name", TABLES)
def test_no_file_is_read_and_no_address_asked(
    name: str, tmp_path: Path, address: str, opened: tuple[Path, Callable[[], bool]]
) -> None:
    canary, was_opened = opened
    items = pl.DataFrame({"rating": [1, 2, 3]})
    assert load_task(task_file(tmp_path)).label == "rating > 1"
    for target in (str(canary), address):
        for spelling in SPELLINGS:
            text = spelling.format(name, target, U=name.upper())
            with pytest.raises(DataError):
                sql.columns(text)
            with pytest.raises(TaskError, match="probe.yaml:5: label: cannot read the SQL expression"):
                load_task(task_file(tmp_path, label=text))
            with pytest.raises(TaskError, match="probe.yaml:6: where: cannot read the SQL expression"):
                load_task(task_file(tmp_path, where=text))
            with pytest.raises(GenrecError, match="--where"):
                where_mask(items, text)
    assert not was_opened()
    assert not Requests.seen
    canary.read_text()
    assert was_opened()  # the watch works


def test_a_task_made_in_code_is_no_way_round(opened: tuple[Path, Callable[[], bool]]) -> None:
    canary, was_opened = opened
    rows = pl.DataFrame({"rating": [1.0, 2.0]})
    text = f"(select a from read_csv('{canary}')) = 1"
    with pytest.raises(TaskError, match="label"):
        labels(replace(shipped_tasks()["sentiment"], label=text), rows)
    with pytest.raises(TaskError, match="where"):
        selected(replace(shipped_tasks()["sentiment"], where=text), rows)
    assert not was_opened()


# Size and depth


@pytest.mark.parametrize("n", [6_000, 10_000])
def test_thousands_of_values(n: int) -> None:
    numbers = f"i in ({', '.join(map(str, range(n)))})"
    assert sql.evaluate(numbers, FRAME).to_list() == [True, True, None, False, True]
    texts = f"genre in ({', '.join(f'{chr(39)}v{k}{chr(39)}' for k in range(n - 1))}, 'y')"[: syntax.CHARACTERS]
    assert where_mask(FRAME, texts).tolist() == [True, False, False, False, False]


LARGE = {
    "ors": (" or ".join(["i = 1"] * 5_000), "more than 1,000 parts"),
    "ands": (" and ".join(["i = 1"] * 5_000), "more than 1,000 parts"),
    "both": (" and i = 2 or ".join(["i = 1"] * 3_000), "more than 1,000 parts"),
    "parentheses": ("(" * 5_000 + "i" + ")" * 5_000, "nested too deeply: at most 30"),
    "open": ("(" * 5_000, "nested too deeply: at most 30"),
    "nots": ("not " * 5_000 + "b", "nested too deeply: at most 30"),
    "minus": ("- " * 5_000 + "i", "nested too deeply: at most 30"),
    "minus and plus": ("-+" * 5_000 + "i", "nested too deeply: at most 30"),
    "cases": ("case when b then " * 5_000 + "1" + " end" * 5_000, "105,001 characters are too many"),
    "short cases": ("case b when " * 5_000 + "1", "nested too deeply: at most 30"),
    "functions": ("abs(" * 5_000 + "i" + ")" * 5_000, "nested too deeply: at most 30"),
    "sums": (" + ".join(["i"] * 5_000), "nested too deeply: at most 60"),
    "comparisons": (" = ".join(["i"] * 5_000), "nested too deeply: at most 60"),
    "betweens": ("i between 1 and " * 4_000 + "2", "nested too deeply: at most 60"),
    "casts": ("i" + "::integer" * 5_000, "nested too deeply: at most 60"),
    "is": ("i" + " is null" * 5_000, "nested too deeply: at most 60"),
    "arrays": ("array[" * 5_000, "'[' is not allowed"),
    "types": ("decimal(" * 5_000, "the function decimal is not allowed"),
    "array types": ("array<" * 5_000 + "int" + ">" * 5_000, "it is no SQL expression"),
    "dots": ("i" + ".i" * 5_000, "'.' is not allowed"),
    "tokens": ("i," * 30_000, "60,000 words and signs"),
    "a long text": ("s = '" + "x" * 200_000 + "'", "200,006 characters are too many"),
    "comments": ("/*" * 40_000, "a comment"),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_expressions_end_in_a_message(name: str) -> None:
    text, message = LARGE[name]
    code = """
import sys, polars as pl
from genrec import sql
from genrec.errors import DataError
try:
    print(sql.evaluate(sys.stdin.read(), pl.DataFrame({"i": [1, 2], "b": [True, False], "s": ["a", "b"]})))
except DataError as error:
    print("refused:", error)
"""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("refused: ") and message in done.stdout
    assert len(done.stdout) < 800
    assert time.perf_counter() - begin < 60


def test_chains_and_nests_within_the_bounds() -> None:
    assert sql.evaluate(" or ".join(["i = 1"] * 240), FRAME).to_list() == [True, False, None, False, False]
    assert sql.evaluate(" and ".join(["(i = 1)"] * 190), FRAME).to_list() == [True, False, None, False, False]
    assert sql.evaluate("(" * 29 + "i = 1" + ")" * 29, FRAME).to_list() == [True, False, None, False, False]
    assert sql.evaluate("not " * 30 + "b", FRAME).to_list() == FRAME["b"].to_list()
    assert sql.evaluate("case when b then " * 29 + "1" + " end" * 29, FRAME).to_list() == [1, None, None, 1, None]
    whens = " ".join(f"when i = {n} then {n}" for n in range(190))
    assert sql.evaluate(f"case {whens} end", FRAME).to_list() == [1, 2, None, None, 0]


WORDS = st.sampled_from(
    (
        *("i", "f", "s", "b", "genre", '"A b"', "1", "-2.5", "'x'", "null", "true", "(", ")", ",", "=", "<>", "<", "+"),
        *(
            "-",
            "*",
            "/",
            "%",
            "||",
            "and",
            "or",
            "not",
            "in",
            "(1, 2)",
            "between",
            "like",
            "ilike",
            "is",
            "case",
            "when",
        ),
        *("then", "else", "end", "distinct", "from", "as", "::", "integer", "text", "select", "array", "[", "]", "for"),
        *("lower(", "coalesce(", "round(", "substring(", "trim(", "replace(", "cast(", "array_contains(", "nullif("),
    )
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=14).map(" ".join)))
def test_any_text_is_computed_or_refused(text: str) -> None:
    try:
        sql.columns(text)
        series = sql.evaluate(text, FRAME)
    except (DataError, UnknownNameError):
        return
    assert len(series) == FRAME.height


OPERANDS = st.recursive(
    st.sampled_from(("i", "j", "f", "s", "b", "genre", "u", "1", "0", "-3", "2.5", "'a'", "null", "true")),
    lambda e: st.one_of(
        st.tuples(e, st.sampled_from(("=", "<>", "<", "+", "-", "*", "/", "%", "||", "and", "or")), e).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        st.tuples(
            st.sampled_from(("abs", "length", "not", "-", "round", "lower", "sqrt", "ln", "array_length")), e
        ).map(lambda t: f"({t[0]}({t[1]}))"),
        st.tuples(st.sampled_from(("coalesce", "nullif", "least", "concat", "array_contains")), e, e).map(
            lambda t: f"{t[0]}({t[1]}, {t[2]})"
        ),
        st.tuples(e, e, e).map(lambda t: f"case when {t[0]} then {t[1]} else {t[2]} end"),
        e.map(lambda t: f"({t} in (1, 2, null))"),
        e.map(lambda t: f"cast({t} as text)"),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(OPERANDS)
def test_any_expression_is_computed_or_refused(text: str) -> None:
    try:
        series = sql.evaluate(text, FRAME)
    except DataError:
        return
    assert len(series) == FRAME.height


# Filters that are no SQL


def meeting(column: str, **wanted: object) -> list[bool | None]:
    return sql.evaluate(sql.meets(column, FRAME.schema[column], **wanted), FRAME).to_list()


def test_filters() -> None:
    assert meeting("s", any_of=["abc", "%x"]) == [True, False, True, None, False]
    assert meeting("s", none_of=["abc"]) == [False, True, True, None, True]
    assert meeting("i", any_of=["1", 2.0, 2.5]) == [True, True, None, False, False]
    assert meeting("i8", any_of=[300, 4]) == [False, False, None, False, True]
    assert meeting("f", any_of=[1.5, "0"], lte=1) == [False, False, None, True, False]
    assert meeting("i", gte=0, lte=1) == [True, False, None, False, True]
    assert meeting("b", any_of=[True]) == [True, False, None, True, False]
    assert meeting("genre", any_of=["y", "z"]) == [True, False, None, False, True]
    assert meeting("genre", any_of=["x", "z"], none_of=["y"]) == [False, False, None, True, True]
    assert meeting("years", any_of=[2]) == [True, False, None, False, True]
    assert meeting("i", any_of=[]) == [False] * 5
    assert where_mask(FRAME, sql.meets("s", pl.String(), none_of=[])).tolist() == [True] * 5
    for column, wanted, message in (
        ("i", {"any_of": ["x"]}, "'x' is no number, as i holds"),
        ("i", {"any_of": ["nan"]}, "nan is no number to ask for"),
        ("s", {"gte": 1}, "s holds text, which is not greater or less"),
        ("genre", {"lte": 1}, "genre holds text, which is not greater or less"),
    ):
        with pytest.raises(DataError, match=message):
            meeting(column, **wanted)


def test_ten_thousand_values_over_a_hundred_thousand_items() -> None:
    rng = np.random.default_rng(0)
    values = [f"value {n}" for n in range(20_000)]
    tags = rng.integers(0, len(values), (100_000, 3))
    items = pl.DataFrame(
        {
            "title": [values[row[0]] for row in tags],
            "genre": [[values[n] for n in row] for row in tags],
            "year": tags[:, 0].astype(np.float64),
        }
    )
    wanted = values[:10_000]
    for column, asked in (("title", wanted), ("genre", wanted), ("year", list(range(10_000)))):
        begin = time.perf_counter()
        found = where_mask(items, sql.meets(column, items.schema[column], any_of=asked))
        assert time.perf_counter() - begin < 1
        expected = (tags < 10_000).any(1) if column == "genre" else tags[:, 0] < 10_000
        assert (found == expected).all()


# The command


def test_where_of_the_command(toy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["recommend", str(toy_run), "--history", "003", "--where"]
    assert main([*ask, "(select a from read_csv('/etc/hostname')) = 1"]) == 2
    assert "is not allowed" in capsys.readouterr().err
    assert main([*ask, " or ".join(["colour = 'red'"] * 5_000)]) == 2
    message = capsys.readouterr().err
    assert "more than 1,000 parts" in message and len(message) < 800
    recommender = Recommender.load(toy_run)
    condition = sql.meets("colour", pl.String(), any_of=["red"])
    by_text = recommender.recommend(history=["003"], where="colour = 'red'").frame
    assert by_text.height and by_text.equals(recommender.recommend(history=["003"], where=condition).frame)
    assert recommender.similar("003", where="colour in ('red')").frame.equals(
        recommender.similar("003", where=condition).frame
    )
