"""Data from SQL and the hub: what is read, that passwords stay out of everything, what is an error and what it says."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
import yaml
from conftest import toy_command
from polars.testing import assert_frame_equal

from genrec.cli import main
from genrec.data.files import read_table
from genrec.data.load import DataOptions, load_dataset
from genrec.data.source import source_name
from genrec.data.tables import read_source
from genrec.errors import DataError, GenrecError, UnavailableError, UnknownNameError
from genrec.run.config import FinetuneConfig, config_yaml, read_config, run_folder

SECRET = "hun@ter/2:#?%"
ROWS = [(f"{u:03}", f"i{(u + n) % 5}", 1 + (n + u) % 5, 100 + n) for u in range(8) for n in range(5)]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with the same data as shop.db and as CSV files."""
    monkeypatch.chdir(tmp_path)
    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    frame.write_csv("ratings.csv")
    pl.DataFrame({"item_id": ["i0", "i1", "i2", "i3", "i4"], "title": list("abcde")}).write_csv("things.csv")
    pl.DataFrame({"user_id": ["000", "001"], "age": [30, 40]}).write_csv("people.csv")
    with closing(sqlite3.connect("shop.db")) as db:
        db.execute("CREATE TABLE ratings (user_id TEXT, item_id TEXT, rating INTEGER, timestamp INTEGER)")
        db.executemany("INSERT INTO ratings VALUES (?, ?, ?, ?)", ROWS)
        db.execute("CREATE TABLE things (item_id TEXT, title TEXT)")
        db.executemany("INSERT INTO things VALUES (?, ?)", [(f"i{n}", t) for n, t in enumerate("abcde")])
        db.execute('CREATE TABLE "the people" (user_id TEXT, age INTEGER)')
        db.executemany('INSERT INTO "the people" VALUES (?, ?)', [("000", 30), ("001", 40)])
        db.execute("CREATE VIEW high AS SELECT * FROM ratings WHERE rating > 3")
        db.execute("CREATE TABLE blank (item_id TEXT)")
        db.commit()
    return tmp_path


def from_sql(what: str, **options: str) -> pl.DataFrame:
    return load_dataset(None, DataOptions(interactions=f"sqlite:///shop.db#{what}", **options)).interactions


def test_tables_give_the_data_of_the_same_files(shop: Path) -> None:
    files = load_dataset(None, DataOptions(Path("ratings.csv"), Path("things.csv"), Path("people.csv")))
    tables = load_dataset(
        None,
        DataOptions("sqlite:///shop.db#ratings", "sqlite:///shop.db#things", "sqlite:///shop.db#the people"),
    )
    for role in ("interactions", "items", "users"):
        assert_frame_equal(getattr(tables, role), getattr(files, role))
    assert (tables.name, tables.fingerprint) == (files.name, files.fingerprint)


def test_queries_views_and_absolute_paths(shop: Path) -> None:
    wanted = from_sql("ratings").filter(pl.col("rating") > 3)
    for what in ("high", "main.high", "SELECT * FROM ratings WHERE rating > 3"):
        assert_frame_equal(from_sql(what).drop("row", "part"), wanted.drop("row", "part"))
    query = "WITH r AS (SELECT user_id AS who, item_id AS what FROM ratings) SELECT * FROM r WHERE what LIKE '%1%'"
    found = load_dataset(
        None,
        DataOptions(f"sqlite:///{shop}/shop.db#{query}", columns={"user_id": "who", "item_id": "what"}),
    )
    assert found.name == "shop"
    assert set(found.interactions["item_id"]) == {"i1"}


def test_colons_and_percents_of_a_query_are_its_own(shop: Path) -> None:
    table = read_source("sqlite:///shop.db#SELECT '12:30 :at ::x' AS time, '%s 5%' AS share").frame
    assert table.rows() == [("12:30 :at ::x", "%s 5%")]


def test_kinds_of_values_that_change_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genrec.data.database.BATCH", 2)
    with closing(sqlite3.connect(tmp_path / "m.db")) as db:
        db.execute("CREATE TABLE m (a, b, c)")
        db.executemany("INSERT INTO m VALUES (?, ?, ?)", [(None, 1, "x"), (None, 2, None), ("007", 2.5, None)])
        db.commit()
    table = read_source(f"sqlite:///{tmp_path}/m.db#m").frame
    assert table.rows() == [(None, 1.0, "x"), (None, 2.0, None), ("007", 2.5, None)]


def test_order_is_kept_and_a_query_can_fix_it(shop: Path) -> None:
    query = "SELECT item_id, user_id FROM ratings ORDER BY item_id, user_id DESC, rowid"
    table = read_source(f"sqlite:///shop.db#{query}").frame
    assert table.rows() == sorted(table.rows(), key=lambda r: (r[0], -int(r[1])))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sqlite:///shop.db#ratings", "ratings"),
        ("postgresql://u:${PW}@h/db#sales.ratings", "ratings"),
        ("postgresql://u:${PW}@h/db#select a from b", "db"),
        ("postgresql://u:${PW}@h/${BASE}#select a from b", "BASE"),
        ("${SHOP}#select a from b", "SHOP"),
        ("postgresql://h#select 1", "postgresql"),
        ("sqlite:////a/b/shop.db#select 1", "shop"),
        ("sqlite:///shop.db#the people", "the-people"),
        ("a/b.c.csv", "b"),
        ("hf://datasets/me/films@v1/data/ratings.csv", "ratings"),
        ("hf://me/films?config=full&split=train", "films"),
    ],
)
def test_names_of_data_sets(source: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", SECRET)
    assert source_name(source) == name


def test_run_folders(shop: Path) -> None:
    assert run_folder(FinetuneConfig(interactions="sqlite:///shop.db#ratings")) == Path("runs/ratings")
    assert run_folder(FinetuneConfig(interactions="data/a.b.csv")) == Path("runs/a.b")
    assert run_folder(FinetuneConfig(interactions="data/a.b.csv.gz")) == Path("runs/a.b")


# --- passwords ----------------------------------------------------------------------------------------------------


def test_variables_are_expanded_at_reading_only(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", str(shop))
    monkeypatch.setenv("SHOP", "sqlite:///shop.db")
    wanted = read_table(shop / "things.csv").frame
    for source in ("sqlite:///${FOLDER}/shop.db#things", "${SHOP}#things"):
        assert_frame_equal(read_source(source).frame, wanted)
        written = config_yaml(FinetuneConfig(interactions="sqlite:///shop.db#ratings", items=source))
        assert yaml.safe_load(written)["items"] == source
        (shop / "config.yaml").write_text(written)
        assert FinetuneConfig(**read_config(shop / "config.yaml")).items == source  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source",
    [
        "postgresql://me:PW@host/db#ratings",
        "postgresql://me:PW@host#ratings",
        "postgresql://:PW@host/db#ratings",
        "postgresql://me:${NAME}PW@host/db#ratings",
        "postgresql://host/db?user=me&password=PW#ratings",
        "postgresql://host/db?sslPassword=PW#ratings",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Dme%3BPWD%3DPW%3B#ratings",
        "postgresql:/me:PW@host/db#ratings",
        "${KIND}://me:PW@host/db#ratings",
    ],
)
@pytest.mark.parametrize("password", ["hunter2", "12#34", "a/b#c", "p@ss/word"])
def test_a_written_password_is_refused_and_not_shown(
    shop: Path, capsys: pytest.CaptureFixture[str], source: str, password: str
) -> None:
    if "PW%" in source or "?" in source:
        password = password.replace("#", "")  # there it ends the URL
    given = source.replace("PW@", f"{password}@").replace("=PW", f"={password}").replace("3DPW", f"3D{password}")
    assert password in given
    for command in (
        ["finetune", "--interactions", given],
        ["finetune", "--interactions", "ratings.csv", "--items", given],
        ["finetune", given],
        ["data", "show", given],
    ):
        assert main(command) == 2
        said = capsys.readouterr()
        assert password not in said.out + said.err
        assert "${PASSWORD}" in said.err
    assert not (shop / "runs").exists()


def test_a_password_of_the_environment_is_nowhere(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PW", SECRET)
    monkeypatch.setenv("SHOP", f"postgresql://me:{SECRET}@host/db")
    monkeypatch.setenv("HIDDEN", "sqlite:///hidden-place.db")
    for source in ("postgresql://me:${PW}@127.0.0.1:1/db#ratings", "sqlite:///${PW}#ratings", "${SHOP}#ratings"):
        assert main(["data", "show", source]) == 2
        said = capsys.readouterr()
        for part in (SECRET, "ter/2"):
            assert part not in said.out + said.err + caplog.text
        assert source in said.err
    assert main(["data", "show", "${HIDDEN}#ratings"]) == 2
    assert "hidden-place" not in capsys.readouterr().err


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("sqlite:///shop.db#rating", UnknownNameError, ("'rating'", "Did you mean 'ratings'", "the people", "high")),
        ("sqlite:///shop.db#main.rating", UnknownNameError, ("main.ratings",)),
        ("sqlite:///shop.db#SELEC * FROM ratings", UnknownNameError, ("SELECT or WITH", "ratings")),
        ("sqlite:///shop.db", DataError, ("#TABLE", "SELECT", "ratings")),
        ("sqlite:///shop.db#SELECT * FROM rating", DataError, ("no such table: rating",)),
        ("sqlite:///shop.db#SELECT FROM WHERE", DataError, ("syntax error",)),
        ("sqlite:///shop.db#SELECT r.*, r.* FROM ratings r", DataError, ("user_id", "more than once")),
        ("sqlite:///shop.db#blank", DataError, ("no rows",)),
        ("sqlite:///shop.db#SELECT * FROM ratings WHERE rating > 9", DataError, ("no rows",)),
        ("sqlite:///shop.db#WITH r AS (SELECT 1) DELETE FROM ratings", DataError, ("readonly",)),
        ("sqlite:///shop.db#SELECT 1; DROP TABLE ratings", DataError, ("one statement",)),
        ("sqlite:///shop.db#SELECT CAST(x'ff' AS TEXT) AS item_id", DataError, ("UTF-8",)),
        ("sqlite:///ratings.csv#ratings", DataError, ("not a database",)),
        ("sqlite:///other.db#ratings", DataError, ("other.db", "no such file")),
        ("sqlite://#ratings", DataError, ("no such file",)),
        ("sqlite:///${UNSET_HERE}/shop.db#ratings", DataError, ("UNSET_HERE is not set",)),
        ("${UNSET_HERE}#ratings", DataError, ("UNSET_HERE is not set",)),
        ("postgresql://host:port/db#ratings", DataError, ("port",)),
        ("mysql://host/db#ratings", UnavailableError, ("mysqlclient",)),
        ("oracle://host/db#ratings", UnavailableError, ("pip install 'oracledb'",)),
        ("duckdb:///shop.db#ratings", UnavailableError, ("duckdb-engine",)),
        ("sqlit:///shop.db#ratings", UnavailableError, ("sqlit", "dialect")),
    ],
)
def test_mistakes_are_one_message(
    shop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    kind: type[GenrecError],
    said: tuple[str, ...],
) -> None:
    monkeypatch.delenv("UNSET_HERE", raising=False)
    before = (shop / "shop.db").read_bytes()
    with pytest.raises(kind):
        read_source(source)
    assert main(["finetune", "--interactions", source]) == 2
    message = capsys.readouterr().err
    for text in said:
        assert text in message, message
    assert len(message.strip().splitlines()) == 1
    assert (shop / "shop.db").read_bytes() == before
    assert not (shop / "other.db").exists()
    assert not (shop / "runs").exists()


def test_items_that_nobody_met(shop: Path) -> None:
    query = "sqlite:///shop.db#SELECT 'x' || item_id AS item_id, title FROM things"
    with pytest.raises(DataError, match="no item_id in it is one of sqlite:///shop.db#ratings; here 'xi0', there 'i0'"):
        load_dataset(None, DataOptions("sqlite:///shop.db#ratings", items=query))


# --- commands -----------------------------------------------------------------------------------------------------


def test_data_show_takes_a_table(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "sqlite:///shop.db#ratings", "--items", "sqlite:///shop.db#things"]) == 0
    assert capsys.readouterr().out.startswith("ratings: 40 interactions, 8 users, 5 items\n")


def test_a_run_from_sql_holds_nothing_of_the_environment(
    toy_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "hidden-place", tmp_path / "run"
    folder.mkdir()
    chain = pl.read_csv(toy_files / "chain.csv", infer_schema=False)
    with closing(sqlite3.connect(folder / "shop.db")) as db:
        db.execute(f"CREATE TABLE chain ({', '.join(chain.columns)})")
        db.executemany(f"INSERT INTO chain VALUES ({', '.join('?' * chain.width)})", chain.rows())
        db.commit()
    monkeypatch.setenv("PLACE", "hidden-place")
    monkeypatch.chdir(tmp_path)
    sql = "sqlite:///${PLACE}/shop.db#SELECT * FROM chain ORDER BY rowid"
    assert main(toy_command(toy_files, out, "--interactions", sql, "--epochs", "1")) == 0
    assert yaml.safe_load((out / "config.yaml").read_text())["interactions"] == sql
    for file in out.rglob("*"):
        assert file.is_dir() or b"hidden-place" not in file.read_bytes(), file
    for file in (out / "adapter").rglob("*"):
        assert file.is_dir() or b"sqlite:" not in file.read_bytes(), file


# --- the hub ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, that `datasets` reads: splits train and test of CSV files in films/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "films").mkdir()
    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    frame.head(30).write_csv("films/train.csv")
    frame.tail(10).write_csv("films/test.csv")
    return tmp_path


def test_splits_are_what_their_files_hold(folder: Path) -> None:
    for split in ("train", "test"):
        wanted = load_dataset(None, DataOptions(folder / "films" / f"{split}.csv"))
        for place in ("./films", folder / "films"):
            found = load_dataset(None, DataOptions(f"hf://{place}?split={split}"))
            assert_frame_equal(found.interactions, wanted.interactions)
    assert read_source("hf://./films?split=train%2Btest").frame.rows() == [
        (u, i, str(r), str(t)) for u, i, r, t in ROWS
    ]


def test_parquet_keeps_its_types_and_the_only_split_needs_no_name(folder: Path) -> None:
    (folder / "one").mkdir()
    frame = pl.read_csv("films/train.csv", schema_overrides={"user_id": pl.String})
    frame.write_parquet("one/ratings.parquet")
    assert_frame_equal(read_source("hf://./one").frame, frame)


def test_a_file_of_the_hub_from_its_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    for name, revision in (("main", "a" * 40), ("v1", "b" * 40)):
        place = folder / "hub" / "datasets--me--films"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / name).write_text(revision)
        (place / "snapshots" / revision / "data").mkdir(parents=True)
        source = folder / "films" / ("train.csv" if name == "main" else "test.csv")
        (place / "snapshots" / revision / "data" / "r.csv").write_bytes(source.read_bytes())
    assert_frame_equal(
        read_source("hf://datasets/me/films/data/r.csv").frame, read_table(folder / "films/train.csv").frame
    )
    assert_frame_equal(
        read_source("hf://datasets/me/films@v1/data/r.csv").frame, read_table(folder / "films/test.csv").frame
    )


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("hf://datasets/me/films/a/r.csv", UnavailableError, ("hf download --repo-type dataset me/films a/r.csv",)),
        ("hf://me/films?split=train", UnavailableError, ("hf download --repo-type dataset me/films ", "hf://./FOLDER")),
        ("hf://films", DataError, ("hf://OWNER/NAME",)),
        ("hf://datasets/me/films", DataError, ("hf://datasets/OWNER/NAME/FILE",)),
        ("hf://./nowhere", DataError, ("no folder nowhere",)),
        ("hf://./films", DataError, ("?split=", "train, test")),
        ("hf://./films?split=valid", DataError, ("valid", "train", "test")),
        ("hf://./films?config=full&split=train", DataError, ("full", "default")),
        ("hf://./films?spilt=train", UnknownNameError, ("spilt", "split")),
        ("hf://./empty", DataError, ("empty",)),
    ],
)
def test_mistakes_on_the_hub_are_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str], source: str, kind: type[GenrecError], said: tuple[str, ...]
) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(kind):
        read_source(source)
    capsys.readouterr()
    assert main(["finetune", "--interactions", source]) == 2
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("genrec ")]
    assert len(messages) == 1
    for text in (source, *said):
        assert text in messages[0], messages
