"""A store on PostgreSQL that several servers share; what both databases do alike is in test_store.py."""

import contextlib
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from serving import Server, serving
from test_store import shop

from genrec.cli import main
from genrec.data.dataset import Dataset
from genrec.errors import DataError, RunError, UnavailableError
from genrec.store.connect import create_store, fetch_store, open_store, shared_store
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
from genrec.store.write import Shown, add_items, delete_user, record_events, record_recommendations


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's own store, with something added to each of its tables."""
    path = tmp_path / "store.db"
    store = create_store(path, [shop("one"), shop("two")])
    record_events(store, "one", [{"user_id": "Ann", "item_id": "x", "event_id": "e1", "recommendation_id": "r1"}])
    add_items(store, "one", [{"item_id": "x", "title": "Ex"}, {"item_id": "y", "tags": ["red"]}])
    record_recommendations(store, [Shown("r1", "one", "Ann", "next_item", ("x", "a"))])
    store.close()
    return path


def everything(store: Store) -> list[object]:
    """All that a server reads of a store."""
    return [
        part
        for name in datasets(store)
        for part in (
            all_events(store, name).rows(),
            [(user, user_attributes(store, name, user)) for user in users(store, name)],
            added_items(store, name),
            summary(store, name),
        )
    ]


def test_a_database_without_a_store_gets_the_run_s(run: Path, postgres_url: str) -> None:
    shared = shared_store(run, postgres_url)
    assert everything(shared) == everything(open_store(run))
    assert record_events(shared, "one", [{"user_id": "Ann", "item_id": "x", "event_id": "e1"}]) == ["duplicate"]
    assert items_revision(shared, "one") == items_revision(open_store(run), "one")


def test_a_store_that_is_there_is_opened_as_it_is(run: Path, postgres_url: str) -> None:
    first = shared_store(run, postgres_url)
    delete_user(first, "Zoë")
    record_events(first, "two", [{"user_id": "Bob", "item_id": "a"}])
    second = shared_store(run, postgres_url.replace("postgresql+psycopg", "postgresql"))  # as psql writes it
    assert everything(second) == everything(first)
    assert has_user(second, "two", "Bob") and not has_user(second, "one", "Zoë")
    assert has_user(open_store(run), "one", "Zoë")  # the run's own stays what it was


def test_servers_that_start_together_copy_once(run: Path, postgres_url: str) -> None:
    opened: list[Store] = []
    threads = [threading.Thread(target=lambda: opened.append(shared_store(run, postgres_url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [everything(store) for store in opened] == [everything(open_store(run))] * 3


def test_what_is_of_others_is_refused_and_left_alone(run: Path, postgres_url: str, tmp_path: Path) -> None:
    other = create_store(tmp_path / "other.db", [shop("three")])
    other.close()
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("create table users (name text)"))
    with pytest.raises(RunError, match=r"tables of others: users; use another database, or another schema"):
        shared_store(run, postgres_url)
    with pytest.raises(RunError, match=r"already has users; use another"):
        create_store(postgres_url, [shop()])
    assert sa.inspect(engine).get_table_names() == ["users"]
    with engine.begin() as connection:
        connection.execute(sa.text("create schema apart"))
    apart = f"{postgres_url}&options=-csearch_path%3Dapart"
    assert everything(shared_store(run, apart)) == everything(open_store(run))
    assert sa.inspect(engine).get_table_names() == ["users"]
    with pytest.raises(RunError, match=r"holds the data sets one, two, and the run has three"):
        shared_store(tmp_path / "other.db", apart)
    with pytest.raises(RunError, match="not a user store of genrec"):
        open_store(postgres_url)
    with pytest.raises(RunError, match="servers share a PostgreSQL database"):
        shared_store(run, f"sqlite:///{tmp_path}/shared.db")


def test_a_copy_that_fails_leaves_the_database_empty(tmp_path: Path, postgres_url: str) -> None:
    store = create_store(tmp_path / "store.db", [shop()])
    record_events(store, "shop", [{"user_id": "Ann", "item_id": "a\0b"}])  # PostgreSQL has no such text
    with pytest.raises(DataError, match="cannot hold this.*NUL"):
        shared_store(tmp_path / "store.db", postgres_url)
    assert sa.inspect(sa.create_engine(postgres_url)).get_table_names() == []


def test_two_servers_see_what_the_other_does(postgres_url: str) -> None:
    here, there = create_store(postgres_url, [shop()]), open_store(postgres_url)
    record_events(here, "shop", [{"user_id": "Ann", "item_id": "a", "event_id": "e1"}])
    assert history(there, "shop", "Ann")["item_id"].to_list() == ["a"]
    assert record_events(there, "shop", [{"user_id": "Ann", "item_id": "a", "event_id": "e1"}]) == ["duplicate"]
    add_items(there, "shop", [{"item_id": "x", "title": "Ex"}])
    seen = items_revision(here, "shop")
    add_items(there, "shop", [{"item_id": "x", "title": "Ex 2"}])
    assert [a for _, _, a in added_items(here, "shop", seen)] == [{"title": "Ex 2"}]
    record_recommendations(here, [Shown("r1", "shop", "Ann", "next_item", ("a",))])
    record_events(there, "shop", [{"user_id": "Ann", "item_id": "a", "recommendation_id": "r1"}])
    assert summary(here, "shop")["recommendations_followed"] == 1
    delete_user(there, "Ann")
    assert not has_user(here, "shop", "Ann")


def test_a_value_that_the_database_cannot_hold_is_the_caller_s_mistake(postgres_url: str) -> None:
    store = create_store(postgres_url, [shop()])
    with pytest.raises(DataError, match="NUL"):
        record_events(store, "shop", [{"user_id": "Ann", "item_id": "a\0"}])
    with pytest.raises(DataError, match="NUL"):
        history(store, "shop", "\0")
    assert history(store, "shop", "007").height == 3


def test_connections_have_limits_and_come_back(postgres_url: str) -> None:
    store = create_store(postgres_url, [shop()])
    with store.engine.connect() as connection:
        limits = [
            connection.execute(sa.text(f"show {name}")).scalar_one()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        ]
        connection.rollback()
    assert limits == ["10s", "10s"]
    others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
    with contextlib.closing(open_store(postgres_url)) as admin, admin.engine.connect() as connection:
        connection.execute(sa.text(f"{others} and pid <> pg_backend_pid()"))  # as a restart of the server would
    assert history(store, "shop", "007").height == 3


def test_a_server_that_is_away_is_unavailable(tmp_path: Path, run: Path) -> None:
    away = f"postgresql://me:secret@/shop?host={tmp_path}"
    for act in (lambda: open_store(away), lambda: shared_store(run, away), lambda: create_store(away, [shop()])):
        with pytest.raises(UnavailableError, match="cannot reach the database") as failed:
            act()
        assert "secret" not in str(failed.value)


HOLDER = """
import sys, time
from genrec.store.connect import open_store
from genrec.store.engine import writing
with writing(open_store(sys.argv[1])):
    print("holding", flush=True)
    time.sleep(600)
"""


def test_a_writer_that_is_killed_holds_nobody_up(postgres_url: str) -> None:
    store = create_store(postgres_url, [shop()])
    with subprocess.Popen([sys.executable, "-c", HOLDER, postgres_url], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "holding\n"
        holder.kill()
    assert record_events(store, "shop", [{"user_id": "Ann", "item_id": "a"}]) == ["recorded"]


def test_a_large_store_is_copied_whole(tmp_path: Path, postgres_url: str) -> None:
    n = 60_000
    many = pl.DataFrame({"user_id": [str(k // 100) for k in range(n)], "item_id": [str(k % 977) for k in range(n)]})
    create_store(tmp_path / "store.db", [shop(), Dataset("big", many, pl.DataFrame(), pl.DataFrame())]).close()
    shared = shared_store(tmp_path / "store.db", postgres_url)
    assert all_events(shared, "big")["item_id"].to_list() == many["item_id"].to_list()


def test_two_servers_of_one_run(toy_run: Path, postgres_url: str, tmp_path: Path) -> None:
    shutil.copytree(toy_run, tmp_path / "run")
    options = ["--store", postgres_url]
    with serving(tmp_path / "run", *options) as one, serving(tmp_path / "run", *options) as two:
        listed = one.get("/v1/recommendations", body={"session_id": "visitor", "num_results": 3})
        assert listed["strategy"] == "popular"
        event = {"event_id": "e1", "session_id": "visitor", "item_id": "006", "event_type": "like"}
        given = {**event, "recommendation_id": listed["recommendation_id"]}
        assert one.get("/v1/events", body={"events": [given]})["recorded"] == 1
        assert two.get("/v1/events", body={"events": [event]})["duplicates"] == 1
        following = two.get("/v1/recommendations", body={"session_id": "visitor", "num_results": 1})["items"]
        assert following[0]["item_id"] == "007"  # each item is followed by the next one
        assert two.get("/v1/metrics/summary")["summary"]["recommendations_followed"] == 1

        def metric(server: Server, name: str) -> float:
            found = re.search(rf"^genrec_{name} (\S+)", server.call("/metrics")[1], re.M)
            assert found
            return float(found[1])

        def until(server: Server, name: str, value: float) -> None:
            for _ in range(100):  # servers look at what others do once in a second, asked or not
                if metric(server, name) == value:
                    break
                time.sleep(0.2)
            assert metric(server, name) == value

        count = metric(two, 'catalog_items{dataset="chain"}')
        one.get("/v1/items", body={"items": [{"item_id": "new", "title": "red 40", "colour": "red", "year": 2020}]})
        until(two, 'catalog_items{dataset="chain"}', count + 1)
        ranked = two.get("/v1/rank", body={"user_id": "u001", "items": ["001", "new"]})["items"]
        assert {i["item_id"] for i in ranked} == {"001", "new"}
        named = ("item_id", "rating", "timestamp")
        history = [{k: h[k] for k in named} for h in one.get("/v1/users/u001")["history"]]
        same = {"history": history, "num_results": 3}
        one.get("/v1/recommendations", body=same)
        before = metric(one, "prefix_hits")
        one.get("/v1/recommendations", body=same)
        known = metric(one, "prefix_hits")
        assert known > before and metric(one, "prefix_bytes") > 0
        assert two.get("/v1/users/u001", method="DELETE")["deleted"]["events"] == len(history)
        until(one, "prefix_bytes", 0)  # nothing of the user is left in memory either
        assert one.call("/v1/users/u001")[0] == 404
        one.get("/v1/recommendations", body=same)
        assert metric(one, "prefix_hits") == known


def test_training_goes_on_with_what_servers_share(
    toy_run: Path, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(toy_run, run)
    shared = shared_store(run / "store.db", postgres_url)
    add_items(shared, "chain", [{"item_id": "new", "title": "red 40", "colour": "red", "year": 2020}])

    def come(users: range) -> None:
        rows = [
            {"user_id": f"new{user}", "item_id": f"{(user + n) % 12:03}", "rating": 5.0, "timestamp": 9_000 + n}
            for user in users
            for n in range(4)
        ]
        assert record_events(shared, "chain", [*rows, {"user_id": "new0", "item_id": "new"}])[0] == "recorded"

    def trained(before: Path, name: str) -> str:
        options = ["--store", postgres_url, "--out", str(tmp_path / name), "--epochs", "1"]
        assert main(["finetune", "--resume-from", str(before), *options]) == 0
        assert "postgresql" not in (tmp_path / name / "config.yaml").read_text()
        return capsys.readouterr().err

    come(range(40))
    assert "161 later events of 40 users, 1 added items" in trained(run, "next")
    come(range(40, 60))  # what the first training took is not later any more
    assert "81 later events of 21 users" in trained(tmp_path / "next", "third")
    own, ours = open_store(tmp_path / "third" / "store.db"), all_events(shared, "chain")
    what = ("user_id", "item_id", "rating")
    assert all_events(own, "chain").select(what).sort(what).equals(ours.select(what).sort(what))
    assert main(["finetune", "ml-100k", "--store", postgres_url, "--out", str(tmp_path / "x")]) == 2
    create_store(tmp_path / "other.db", [shop("other")])
    with pytest.raises(RunError, match="chain"):
        fetch_store(postgres_url, tmp_path / "copy.db", tmp_path / "other.db")
