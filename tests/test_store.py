"""A run's user store: what goes in comes out, all or nothing, for its owner only; on SQLite and on PostgreSQL."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from waiting import until

from genrec.data.dataset import Dataset
from genrec.errors import DataError, RunError, UnavailableError, UnknownNameError
from genrec.store.connect import copy_store, create_store, open_store
from genrec.store.engine import Store
from genrec.store.read import (
    added_items,
    all_events,
    datasets,
    has_user,
    history,
    items_revision,
    summary,
    user_attributes,
    users,
)
from genrec.store.write import Shown, add_events, add_items, delete_user, record_events, record_recommendations


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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store may be written."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def store(url: str) -> Store:
    return create_store(url, [shop()])


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


def test_all_events_are_the_histories_of_all_users(store: Store) -> None:
    add_events(store, "shop", "Zoë", pl.DataFrame({"item_id": ["c"], "review": ["fine"]}))
    add_events(store, "shop", "Ann", pl.DataFrame({"item_id": ["b", "a"], "timestamp": [9, 3]}))
    found = all_events(store, "shop")
    assert found.columns == ["user_id", "item_id", "event", "rating", "timestamp", "review", "basket", "part"]
    for user in users(store, "shop"):
        mine = found.filter(pl.col("user_id") == user)
        assert mine.select(history(store, "shop", user).columns).equals(history(store, "shop", user))
    assert found["user_id"].to_list() == ["007"] * 3 + ["Zoë"] * 2 + ["Ann"] * 2
    assert found["part"].to_list() == ["train", "valid", "test", "train", None, None, None]
    assert found["review"].to_list() == [None] * 4 + ["fine", None, None]
    with pytest.raises(UnknownNameError, match="Unknown data set"):
        all_events(store, "shp")


def test_a_data_set_without_users_has_no_events(url: str) -> None:
    texts = Dataset("texts", pl.DataFrame({"review": ["fine"]}), pl.DataFrame(), pl.DataFrame())
    found = all_events(create_store(url, [texts]), "texts")
    assert found.height == 0 and found.schema["rating"] == pl.Float64


def test_an_event_is_recorded_once(store: Store) -> None:
    first = {"user_id": "007", "item_id": "a", "event_id": "e1", "event": "click", "timestamp": 15}
    more = [
        first | {"item_id": "c"},  # its id is known
        {"user_id": "Ann", "item_id": "b", "rating": 4},
        {"user_id": "Ann", "item_id": "b", "rating": 4},  # without an id it counts again
        {"user_id": "007", "item_id": "b", "event_id": "e2"},
        {"user_id": "007", "item_id": "c", "event_id": "e2"},  # the id came a line before
        {"user_id": "Bob", "item_id": "b", "event_id": "e2"},  # another's id is none of Bob's
        {"user_id": "Eve", "item_id": "b", "event_id": "e9"},
        {"user_id": "Eve", "item_id": "c", "event_id": "e9"},
    ]
    done = ["duplicate", "recorded", "recorded", "recorded", "duplicate", "recorded", "recorded", "duplicate"]
    assert record_events(store, "shop", [first]) == ["recorded"]
    assert record_events(store, "shop", more) == done
    assert record_events(store, "shop", [{"user_id": "Cy", "item_id": "b"}, *more[4:5]]) == ["recorded", "duplicate"]
    assert record_events(store, "shop", []) == []
    assert history(store, "shop", "007")["item_id"].to_list() == ["b", "a", "a", "c", "b"]
    assert history(store, "shop", "Ann")["rating"].to_list() == [4.0, 4.0]
    assert history(store, "shop", "Bob").height == history(store, "shop", "Eve").height == 1
    assert users(store, "shop") == ["007", "Zoë", "idle", "Ann", "Bob", "Eve", "Cy"]


def test_an_event_id_is_of_one_data_set(url: str) -> None:
    store = create_store(url, [shop("one"), shop("two")])
    event = {"user_id": "Ann", "item_id": "a", "event_id": "e1"}
    assert [record_events(store, name, [event]) for name in ("one", "two")] == [["recorded"]] * 2
    assert history(store, "two", "Ann").height == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"user_id": None}, r"events\[1\]: every event needs a user_id"),
        ({"item_id": ""}, r"events\[1\]\.item_id: '' is not text that is not empty"),
        ({"user_id": 7}, r"events\[1\]\.user_id: 7 is not text"),
        ({"event_id": 7}, r"events\[1\]\.event_id: 7 is not text"),
        ({"rating": float("nan")}, r"events\[1\]\.rating: nan is not a finite number"),
        ({"rating": True}, r"events\[1\]\.rating: True is not"),
        ({"timestamp": "today"}, r"events\[1\]\.timestamp: 'today' is not a whole number of seconds"),
        ({"timestamp": 2**63}, r"events\[1\]\.timestamp: 9\d+ is not a whole number"),
        ({"review": ["fine"]}, r"events\[1\]\.review: \['fine'\] is not text"),
        ({"stars": 5}, r"events\[1\]: unknown field stars; allowed: user_id, item_id, event_id"),
        ({"review": "\ud800"}, "cannot hold this"),
    ],
)
def test_one_wrong_event_and_nothing_is_recorded(store: Store, wrong: dict[str, Any], message: str) -> None:
    right = {"user_id": "Ann", "item_id": "a"}
    with pytest.raises(DataError, match=message):
        record_events(store, "shop", [right, right | wrong])
    assert not has_user(store, "shop", "Ann")
    with pytest.raises(UnknownNameError, match="Unknown data set"):
        record_events(store, "shp", [right])


def test_items_that_are_added_or_changed_can_be_followed(store: Store) -> None:
    assert items_revision(store, "shop") == -1
    new = [{"item_id": "x", "title": "Ex", "tags": ["new", "red"]}, {"item_id": "y", "title": "Why"}]
    assert add_items(store, "shop", new) == ["added", "added"]
    seen = items_revision(store, "shop")
    assert added_items(store, "shop") == [
        (seen - 1, "x", {"title": "Ex", "tags": ["new", "red"]}),
        (seen, "y", {"title": "Why"}),
    ]
    changed = [{"item_id": "x", "title": "Ex 2"}, {"item_id": "z", "title": "Zed"}, {"item_id": "z", "title": "Zee"}]
    assert add_items(store, "shop", changed) == ["updated", "added", "updated"]
    later = added_items(store, "shop", seen)
    assert [(i, a) for _, i, a in later] == [("x", {"title": "Ex 2"}), ("z", {"title": "Zee"})]
    assert [r for r, _, _ in later] == sorted(r for r, _, _ in later)
    assert items_revision(store, "shop") == later[-1][0] > seen
    assert added_items(store, "shop", later[-1][0]) == []
    assert [i for _, i, _ in added_items(store, "shop")] == ["y", "x", "z"]
    for wrong, message in (
        ({"title": "no id"}, r"items\[1\]\.item_id: None is not text"),
        ({"item_id": "w", "price": float("inf")}, r"items\[1\]: the attributes of 'w' cannot be written as JSON"),
        ({"item_id": "w", "picture": b""}, "cannot be written as JSON"),
    ):
        with pytest.raises(DataError, match=message):
            add_items(store, "shop", [{"item_id": "v"}, wrong])
    assert added_items(store, "shop", later[-1][0]) == []
    with pytest.raises(UnknownNameError, match="Unknown data set"):
        add_items(store, "shp", new)


def test_the_summary_counts_what_followed_the_lists(store: Store) -> None:
    before = summary(store, "shop")
    assert (before["users"], before["events"], before["recommendations"]) == (3, 4, 0)
    assert before["events_since_training"] == {} and before["share_followed"] is None
    for name, user in (("r1", "007"), ("r2", "007"), ("r3", None), ("r4", "Zoë")):
        record_recommendations(store, [Shown(name, "shop", user, "next_item", ("a", "b"))])
    clicks = [
        {"user_id": "007", "item_id": "a", "event": "click", "recommendation_id": "r1"},
        {"user_id": "007", "item_id": "a", "event": "purchase", "recommendation_id": "r1"},
        {"user_id": "Ann", "item_id": "b", "event": "click", "recommendation_id": "r3"},
        {"user_id": "007", "item_id": "b", "event": "click"},
        {"user_id": "007", "item_id": "b", "rating": 3.5, "recommendation_id": "of another server"},
    ]
    record_events(store, "shop", clicks)
    found = summary(store, "shop")
    assert (found["users"], found["events"]) == (4, 9)
    assert found["events_since_training"] == {"click": 3, "purchase": 1, "rating": 1}
    assert (found["recommendations"], found["recommendations_followed"]) == (4, 2)
    assert found["share_followed"] == 2 / 4
    assert found["events_of_recommendations"] == {"click": 2, "purchase": 1}
    with pytest.raises(DataError, match="one of r1"):
        record_recommendations(store, [Shown("r1", "shop", "Ann", "next_item", ())])
    with pytest.raises(UnknownNameError, match="Unknown data set"):
        summary(store, "shp")


def test_a_deleted_user_is_gone_and_nobody_else(url: str) -> None:
    store = create_store(url, [shop("one"), shop("two")])
    record_recommendations(store, [Shown("r1", "one", "007", "next_item", ("a",))])
    record_recommendations(store, [Shown("r2", "one", "Zoë", "next_item", ("a",))])
    record_recommendations(store, [Shown("r3", "two", "guest", "next_item", ("a",))])
    others = [all_events(store, name).filter(pl.col("user_id") != "007") for name in ("one", "two")]
    with pytest.raises(UnknownNameError, match=r"Unknown user '07' in one, two \(6 users\)\. Did you mean '007'"):
        delete_user(store, "07")
    with pytest.raises(UnknownNameError, match="Unknown data set"):
        delete_user(store, "007", "three")
    assert delete_user(store, "007", "two") == {"users": 1, "events": 3, "recommendations": 0}
    assert has_user(store, "one", "007") and not has_user(store, "two", "007")
    assert delete_user(store, "007") == {"users": 1, "events": 3, "recommendations": 1}
    assert [all_events(store, n).equals(o) for n, o in zip(("one", "two"), others, strict=True)] == [True, True]
    assert users(store, "one") == ["Zoë", "idle"]
    assert summary(store, "one")["recommendations"] == 1
    assert delete_user(store, "guest") == {"users": 0, "events": 0, "recommendations": 1}  # only lists were given
    with pytest.raises(UnknownNameError, match="Unknown user '007'"):
        delete_user(store, "007")
    record_events(store, "one", [{"user_id": "007", "item_id": "c"}])
    assert history(store, "one", "007")["item_id"].to_list() == ["c"]


def test_nothing_of_a_deleted_user_is_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = create_store(path, [shop()])
    for n in range(40):  # in between each other, so that pages are split and cells moved
        given = [
            {"user_id": f"user<{user}>", "item_id": "a", "review": f"said by <{user}>" * (n % 7) * 20}
            for user in range(25)
        ]
        record_events(store, "shop", given)
        for user in range(25):
            record_recommendations(store, [Shown(f"r{n}-{user}", "shop", f"user<{user}>", "next_item", ("a",))])
    gone = [f"<{user}>".encode() for user in (0, 7, 24)]
    assert all(mark in path.read_bytes() + path.with_name("store.db-wal").read_bytes() for mark in gone)
    reader = open_store(path)
    assert has_user(reader, "shop", "user<0>")
    for user in (0, 7, 24):
        assert delete_user(store, f"user<{user}>") == {"users": 1, "events": 40, "recommendations": 40}
    left = path.read_bytes() + path.with_name("store.db-wal").read_bytes()
    assert not [mark for mark in gone if mark in left]
    assert b"<8>" in left


def test_a_sqlite_store_is_on_the_disk_when_it_says_so(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store.db", [shop()])
    with store.engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]
    assert found == ["wal", 2, 1]


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
from genrec.store import create_store

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
        until(lambda: writer.poll() is not None or (partial.exists() and partial.stat().st_size > 100_000))
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
    with pytest.raises(RunError, match="later genrec wrote this store: it has version 99, and this one reads up to 3"):
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
    assert all_events(store, "big")["timestamp"].to_list() == list(range(n))
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from events")).scalar_one() == n


RECORDER = """
import sys
from genrec.store import open_store, record_events

url, name, batches = sys.argv[1:]
store = open_store(url)
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(batches)):
    users = [f"u{k}" for k in (range(5) if name == "a" else reversed(range(5)))]
    own = [{"user_id": user, "item_id": name, "event_id": f"{name}-{n}-{user}"} for user in users]
    common = {"user_id": "all", "item_id": name, "event_id": f"both-{n}"}
    done = record_events(store, "shop", [*own, common])
    for event, how in zip([*own, common], done):
        print(event["event_id"], how)
    sys.stdout.flush()
"""


def recorder(url: str, name: str, batches: int) -> subprocess.Popen[str]:
    """A process that opens a store, and records in it once it is told to."""
    command = [sys.executable, "-c", RECORDER, url, name, str(batches)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_that_write_at_the_same_time_lose_nothing(store: Store, url: str) -> None:
    writers = [recorder(url, name, 25) for name in "ab"]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    told = [line.split() for writer in writers for line in writer.communicate()[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert Counter(how for _, how in told) == {"recorded": 2 * 25 * 5 + 25, "duplicate": 25}
    for user in range(5):
        assert Counter(history(store, "shop", f"u{user}")["item_id"]) == {"a": 25, "b": 25}
    assert history(store, "shop", "all").height == 25
    assert len(set(users(store, "shop"))) == 3 + 6


def test_what_was_acknowledged_is_there_after_a_kill(store: Store, url: str) -> None:
    with recorder(url, "a", 1_000_000) as writer:
        writer.stdin.write("go\n")
        writer.stdin.flush()
        lines = [writer.stdout.readline() for _ in range(120)]
        writer.kill()
        lines += [line for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    told = [line.split()[0] for line in lines]
    whose = {event_id: "all" if event_id.startswith("both-") else event_id.rsplit("-", 1)[1] for event_id in told}
    again = [{"user_id": user, "item_id": "a", "event_id": event_id} for event_id, user in whose.items()]
    assert set(record_events(store, "shop", again)) == {"duplicate"}
    heights = {history(store, "shop", f"u{user}").height for user in range(5)}
    assert len(heights) == 1 and heights.pop() * 6 >= len(told)  # a batch is there as a whole or not at all
    assert record_events(open_store(url), "shop", [{"user_id": "u0", "item_id": "b"}]) == ["recorded"]


VERSION_1 = """
create table meta (schema_version integer not null, datasets json not null);
create table users (
    dataset text not null, user_id text not null, position bigint not null, attributes json not null,
    primary key (dataset, user_id)
) {without_rowid};
create table events (
    dataset text not null, user_id text not null, position bigint not null, item_id text not null, timestamp bigint,
    event text, rating {double}, review text, basket text, part text, primary key (dataset, user_id, position)
) {without_rowid};
insert into meta values (1, '["shop"]');
insert into users values ('shop', '007', 0, '{{"age": 30}}'), ('shop', 'Ann', 1, '{{}}');
insert into events values ('shop', '007', 0, 'a', 10, 'view', 4.5, 'fine', 'b1', 'train');
insert into events values ('shop', '007', 1, 'b', null, null, null, null, null, null);
insert into events values ('shop', '007', 2, 'c', 20, 'click', null, null, null, null)
"""


def write_version_1(url: str) -> None:
    """A store as the first version wrote it, with events that were added after training."""
    engine = sa.create_engine(url)
    sqlite = engine.dialect.name == "sqlite"
    terms = {"without_rowid": "without rowid", "double": "double"} if sqlite else {}
    text = VERSION_1.format(**{"without_rowid": "", "double": "double precision"} | terms)
    with engine.begin() as connection:
        for statement in text.split(";"):
            connection.exec_driver_sql(statement)
    if sqlite:
        with engine.connect() as connection:
            connection.exec_driver_sql("pragma journal_mode = wal")
    engine.dispose()


def schema(store: Store) -> dict[str, Any]:
    """Every table, column, key and index of a store."""
    found = sa.inspect(store.engine)
    tables = {}
    for table in found.get_table_names():
        columns = [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in found.get_columns(table)]
        indexes = sorted(
            (i["name"], i["column_names"], i["unique"], {k: str(v) for k, v in i["dialect_options"].items()})
            for i in found.get_indexes(table)
        )
        options = found.get_table_options(table)
        tables[table] = (columns, found.get_pk_constraint(table), indexes, options)
    return tables


def test_a_store_of_version_1_is_brought_to_date(url: str) -> None:
    write_version_1(url)
    store = open_store(url)
    assert users(store, "shop") == ["007", "Ann"]
    assert user_attributes(store, "shop", "007") == {"age": 30}
    assert all_events(store, "shop").rows() == [
        ("007", "a", "view", 4.5, 10, "fine", "b1", "train"),
        ("007", "c", "click", None, 20, None, None, None),
        ("007", "b", None, None, None, None, None, None),
    ]
    assert summary(store, "shop")["events_since_training"] == {"click": 1, "event": 1}
    assert record_events(store, "shop", [{"user_id": "Ann", "item_id": "a", "event_id": "e1"}] * 2) == [
        "recorded",
        "duplicate",
    ]
    assert add_items(store, "shop", [{"item_id": "x", "title": "Ex"}]) == ["added"]
    record_recommendations(store, [Shown("r1", "shop", "007", "next_item", ("x",))])
    store.close()
    again = open_store(url)
    assert history(again, "shop", "Ann")["item_id"].to_list() == ["a"]
    assert delete_user(again, "007") == {"users": 1, "events": 3, "recommendations": 1}


def test_a_store_brought_to_date_is_as_a_new_one(url: str) -> None:
    write_version_1(url)
    old = open_store(url)
    migrated = schema(old)
    assert set(migrated) == {"meta", "users", "events", "items", "recommendations"}
    with old.engine.begin() as connection:
        assert connection.execute(sa.text("select schema_version from meta")).scalars().all() == [3]
        for table in migrated:
            connection.execute(sa.text(f"drop table {table}"))
    old.close()
    assert schema(create_store(url, [shop()])) == migrated


def test_event_ids_of_version_2_become_those_of_their_users(url: str) -> None:
    store = create_store(url, [shop()])
    event = {"user_id": "Ann", "item_id": "a", "event_id": "e1"}
    record_events(store, "shop", [event])
    with store.engine.begin() as connection:
        connection.exec_driver_sql("drop index events_event_id")
        form = "create unique index events_event_id on events (dataset, event_id) where event_id is not null"
        connection.exec_driver_sql(form)
        connection.exec_driver_sql("update meta set schema_version = 2")
    store.close()
    brought = open_store(url)
    assert record_events(brought, "shop", [event, event | {"user_id": "Bob"}]) == ["duplicate", "recorded"]


OPENER = "import sys; from genrec.store import open_store, users; print(users(open_store(sys.argv[1]), 'shop'))"


def test_processes_that_start_together_bring_a_store_to_date_once(url: str) -> None:
    write_version_1(url)
    command = [sys.executable, "-c", OPENER, url]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in started] == ["['007', 'Ann']\n"] * 3
    assert history(open_store(url), "shop", "007").height == 3


def test_a_store_is_brought_to_date_as_a_whole_or_not_at_all(url: str) -> None:
    write_version_1(url)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table recommendations (x integer)")  # in the way of the new one
    with pytest.raises(RunError, match="recommendations"):
        open_store(url)
    found = sa.inspect(engine)
    assert sorted(found.get_table_names()) == ["events", "meta", "recommendations", "users"]
    assert "event_id" not in [c["name"] for c in found.get_columns("events")]
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table recommendations")
    assert history(open_store(url), "shop", "007").height == 3


def test_a_store_of_today_is_opened_without_the_migrations(tmp_path: Path) -> None:
    create_store(tmp_path / "store.db", [shop()]).close()
    code = f"{OPENER}; print('alembic' in sys.modules)"
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/store.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_copy_has_what_was_added(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store.db", [shop()])
    record_events(store, "shop", [{"user_id": "Ann", "item_id": "x", "event_id": "e1"}])
    add_items(store, "shop", [{"item_id": "x", "title": "Ex"}])
    copy_store(tmp_path / "store.db", tmp_path / "copy.db")
    copy = open_store(tmp_path / "copy.db")
    assert all_events(copy, "shop").equals(all_events(store, "shop"))
    assert added_items(copy, "shop") == added_items(store, "shop")
    assert record_events(copy, "shop", [{"user_id": "Ann", "item_id": "x", "event_id": "e1"}]) == ["duplicate"]
