"""A run's user store: what goes in comes out, all or nothing, for its owner only."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from genrec.data.dataset import Dataset
from genrec.data.store import Store, add_events, create_store, datasets, history, open_store, user_attributes, users
from genrec.errors import DataError, RunError, UnavailableError, UnknownNameError


def shop(name: str = "shop", rating: float = 4.0) -> Dataset:
    interactions = pl.DataFrame(
        {
            "row": [2, 0, 1, 3],
            "user_id": ["007", "007", "007", "Zoë"],
            "item_id": ["b", "a", "c", "a"],
            "timestamp": [10, 20, 20, 5],
            "event": ["view", "purchase", "purchase", "view"],
            "rating": [None, rating, None, 2.5],
            "part": ["train", "valid", "test", "train"],
        },
        schema_overrides={"row": pl.UInt32},
    )
    attributes = pl.DataFrame({"user_id": ["idle", "Zoë"], "age": [30, None], "likes": [["x", "y"], ["z"]]})
    return Dataset(name, interactions, pl.DataFrame({"item_id": ["a", "b", "c"]}), attributes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / "store.db", [shop()])


def test_history_comes_back_oldest_first_with_ties_in_file_order(store: Store) -> None:
    found = history(store, "shop", "007")
    assert found.columns == ["item_id", "event", "rating", "timestamp", "basket", "part"]
    assert found["item_id"].to_list() == ["b", "a", "c"]
    assert found["rating"].to_list() == [None, 4.0, None]
    assert found["part"].to_list() == ["train", "valid", "test"]
    assert found.schema["basket"] == pl.String


def test_users_and_their_attributes(store: Store) -> None:
    assert datasets(store) == ["shop"]
    assert users(store, "shop") == ["007", "Zoë", "idle"]
    assert user_attributes(store, "shop", "idle") == {"age": 30, "likes": ["x", "y"]}
    assert user_attributes(store, "shop", "Zoë") == {"likes": ["z"]}
    assert user_attributes(store, "shop", "007") == {}
    assert history(store, "shop", "idle").height == 0


def test_data_sets_keep_apart_the_users_they_share(tmp_path: Path) -> None:
    texts = Dataset("texts", pl.DataFrame({"review": ["fine"], "event": ["view"]}), pl.DataFrame(), pl.DataFrame())
    store = create_store(tmp_path / "store.db", [shop("one", 1.0), shop("two", 2.0), texts])
    assert datasets(store) == ["one", "two", "texts"]
    assert history(store, "one", "007")["rating"].to_list() == [None, 1.0, None]
    assert history(store, "two", "007")["rating"].to_list() == [None, 2.0, None]
    assert users(store, "texts") == []
    with pytest.raises(DataError, match="same name: shop, shop"):
        create_store(tmp_path / "other.db", [shop(), shop()])


@pytest.mark.parametrize("hostile", ["'; drop table users; --", '" or 1=1', "%", "_07", "\U0001f600\n"])
def test_any_text_is_only_an_id(store: Store, hostile: str) -> None:
    with pytest.raises(UnknownNameError, match="Unknown user"):
        history(store, "shop", hostile)
    add_events(store, "shop", hostile, pl.DataFrame({"item_id": [hostile]}))
    assert history(store, "shop", hostile)["item_id"].to_list() == [hostile]
    assert users(store, "shop") == ["007", "Zoë", "idle", hostile]


def test_unknown_names_say_what_is_there(store: Store) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown user '07' in shop \(3 users\)\. Did you mean '007'\?"):
        history(store, "shop", "07")
    with pytest.raises(UnknownNameError, match=r"Unknown data set 'shp'\. Did you mean 'shop'"):
        user_attributes(store, "shp", "007")
    with pytest.raises(UnknownNameError, match="Unknown data set"):
        users(store, "shp")


def test_added_events_take_their_place_in_time(store: Store) -> None:
    add_events(store, "shop", "007", pl.DataFrame({"item_id": ["late", "early"], "timestamp": [99, 15]}))
    add_events(store, "shop", "007", pl.DataFrame({"item_id": ["now"], "event": ["click"], "rating": [5]}))
    found = history(store, "shop", "007")
    assert found["item_id"].to_list() == ["b", "early", "a", "c", "late", "now"]
    assert found["rating"].to_list()[-1] == 5.0
    with pytest.raises(DataError, match="unknown column user; allowed: item_id"):
        add_events(store, "shop", "007", pl.DataFrame({"item_id": ["a"], "user": ["x"]}))
    with pytest.raises(DataError, match="needs an item_id"):
        add_events(store, "shop", "007", pl.DataFrame({"event": ["view"]}))
    with pytest.raises(DataError, match="events to add"):
        add_events(store, "shop", "007", pl.DataFrame({"item_id": ["a"], "rating": ["good"]}))
    assert history(store, "shop", "007").height == 6


def test_data_without_a_time_is_the_oldest_and_what_is_added_the_latest(tmp_path: Path) -> None:
    frame = shop().interactions.with_columns(timestamp=pl.Series([None, None, 20, 5], dtype=pl.Int64))
    store = create_store(tmp_path / "store.db", [replace(shop(), interactions=frame)])
    add_events(store, "shop", "007", pl.DataFrame({"item_id": ["now"]}))
    add_events(store, "shop", "007", pl.DataFrame({"item_id": ["timed"], "timestamp": [30]}))
    assert history(store, "shop", "007")["item_id"].to_list() == ["b", "a", "c", "timed", "now"]


def test_writers_at_the_same_time_lose_nothing(store: Store) -> None:
    def write(writer: int) -> None:
        for n in range(10):
            add_events(store, "shop", "new", pl.DataFrame({"item_id": [f"{writer}-{n}"]}))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{writer}-{n}" for writer in range(4) for n in range(10)}
    assert set(history(store, "shop", "new")["item_id"]) == expected


def test_the_file_is_private_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "store.db"
    old = os.umask(0)
    try:
        store = create_store(path, [shop()])
        add_events(store, "shop", "007", pl.DataFrame({"item_id": ["x"]}))
    finally:
        os.umask(old)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    store.close()
    assert [f.name for f in path.parent.iterdir()] == ["store.db"]
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_store_written_anew_takes_nothing_from_the_old_log(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    old = create_store(path, [shop()])
    add_events(old, "shop", "007", pl.DataFrame({"item_id": ["gone"]}))
    assert path.with_name("store.db-wal").exists()
    new = create_store(path, [shop()])
    assert history(new, "shop", "007")["item_id"].to_list() == ["b", "a", "c"]


WRITER = """
import sys
from pathlib import Path
import polars as pl
from genrec.data.dataset import Dataset
from genrec.data.store import create_store

many = pl.DataFrame({"user_id": ["u"], "item_id": ["i"]}).select(pl.all().repeat_by(1_000_000).explode())
create_store(Path(sys.argv[1]), [Dataset("shop", many, pl.DataFrame(), pl.DataFrame())])
"""


@pytest.mark.parametrize("had_one", [True, False])
def test_a_killed_writer_leaves_the_old_store_or_none(tmp_path: Path, had_one: bool) -> None:
    path = tmp_path / "store.db"
    if had_one:
        create_store(path, [shop()]).close()
    partial = tmp_path / ".store.db.partial"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as writer:
        while writer.poll() is None and not (partial.exists() and partial.stat().st_size > 100_000):
            time.sleep(0.01)
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    assert partial.exists()
    if had_one:
        assert history(open_store(path), "shop", "007").height == 3
    else:
        with pytest.raises(RunError, match="the run's user store is missing"):
            open_store(path)
    store = create_store(path, [shop()])
    assert history(store, "shop", "007").height == 3
    store.close()
    assert [f.name for f in tmp_path.iterdir()] == ["store.db"]


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    broken = shop()
    broken = Dataset(
        "shop",
        pl.concat([broken.interactions, broken.interactions]),
        broken.items,
        pl.DataFrame({"user_id": ["a"], "x": [b"\xff"]}),
    )
    with pytest.raises(Exception, match="not JSON serializable"):
        create_store(tmp_path / "store.db", [broken])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the user store"):
        create_store(tmp_path / "file" / "store.db", [shop()])


def test_what_is_no_store_of_this_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    create_store(path, [shop()]).close()
    with sqlite3.connect(path) as raw:
        raw.execute("update meta set schema_version = 99")
    with pytest.raises(RunError, match="later genrec wrote this store: it has version 99, and this one reads up to 2"):
        open_store(path)
    (tmp_path / "text.db").write_text("not a database, but long enough to be mistaken for one" * 50)
    with pytest.raises(RunError, match="not a user store of genrec"):
        open_store(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "other.db").execute("create table t (x)")
    with pytest.raises(RunError, match="not a user store of genrec"):
        open_store(tmp_path / "other.db")
    truncated = path.read_bytes()[:5000]
    (tmp_path / "cut.db").write_bytes(truncated)
    with pytest.raises(RunError, match="not a user store of genrec"):
        open_store(tmp_path / "cut.db")


def test_urls(tmp_path: Path) -> None:
    store = create_store(f"sqlite:///{tmp_path}/store.db", [shop()])
    assert users(store, "shop")[0] == "007"
    with pytest.raises(RunError, match="needs a file"):
        create_store("sqlite://", [shop()])
    with pytest.raises(RunError, match="cannot be read"):
        open_store("no url")
    with pytest.raises(UnavailableError, match="driver") as failed:
        open_store("nosuch://me:secret@host/db")
    assert "secret" not in str(failed.value)


def test_a_large_store_keeps_every_event(tmp_path: Path) -> None:
    n = 120_000
    many = pl.DataFrame(
        {
            "user_id": [str(k // 100) for k in range(n)],
            "item_id": [str(k % 977) for k in range(n)],
            "timestamp": list(range(n)),
            "event": ["click"] * n,
        }
    )
    store = create_store(tmp_path / "store.db", [Dataset("big", many, pl.DataFrame(), pl.DataFrame())])
    assert users(store, "big") == [str(k) for k in range(n // 100)]
    assert history(store, "big", "1001")["timestamp"].to_list() == list(range(100_100, 100_200))
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from events")).scalar_one() == n
