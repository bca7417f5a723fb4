"""Events with a sign: what is recognised and said, and what was not wanted is in no list and counts for nothing."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny import tiny_backbone
from worlds import WORDS, world

from genrec.cli import main
from genrec.data.events import kind_of, row_signs, sign_of, signs_of
from genrec.data.grown import grown
from genrec.data.load import DataOptions, load_dataset
from genrec.errors import DataError, UnknownNameError
from genrec.recommender import Recommender
from genrec.run.config import FinetuneConfig
from genrec.run.data import load_data
from genrec.run.manifest import read_manifest
from genrec.store import open_store, record_events

SIGNS = {
    "positive": "view pv click like favourite fav cart addToCart add_to_cart purchase Order transaction play listen "
    "share bookmark save follow rating 购买 收藏 浏览 gekauft acheté comprado 購入 いいね 👍",
    "negative": "dislike skip remove_from_cart removeFromCart REMOVE-FROM-CART unlike hide not_interested return "
    "refund unclick uninstall block report thumbs_down Product-Removed order_cancelled 不喜欢 移出购物车 退货 "
    "gefällt_mir_nicht remboursé no_me_gusta 低評価 カートから削除 👎",
    "neutral": "impression exposure expose shown seen view_item_list 曝光 インプレッション undislike",
}


@pytest.mark.parametrize(("sign", "word"), [(s, w) for s, words in SIGNS.items() for w in words.split()])
def test_the_words_of_people_have_a_sign_in_any_spelling(sign: str, word: str) -> None:
    assert kind_of(word) is not None and sign_of(word) == sign
    assert sign_of(word.upper()) == sign_of(word.replace("_", " ")) == sign


def read(tmp_path: Path, rows: list[str], **options: Any) -> Any:
    (tmp_path / "log.csv").write_text("\n".join(rows))
    return load_dataset(None, DataOptions(interactions=tmp_path / "log.csv", **options))


def log(*events: str) -> list[str]:
    return ["user,item,event", *(f"u{n},i{m},{event}" for n in range(4) for m, event in enumerate(events))]


def test_what_events_mean_is_said(tmp_path: Path) -> None:
    said = "events: like (wanted), dislike (not wanted), impression (seen), zapped (not known, counts as wanted)"
    found = read(
        tmp_path,
        log("Like", "like", "like", "like", "dislike", "dislike", "dislike", "impression", "impression", "zapped"),
    )
    assert f"{said}; --event EVENT=negative, positive or neutral says otherwise" in found.notes
    assert found.signs == {"like": "positive", "dislike": "negative", "impression": "neutral", "zapped": "positive"}
    assert not any(note.startswith("events:") for note in read(tmp_path, log("buy", "buy", "buy")).notes)


def test_options_say_otherwise_in_any_spelling_and_make_other_data(tmp_path: Path) -> None:
    rows = log("like", "like", "like", "Zapped-it")
    found, plain = read(tmp_path, rows, events={"zappedIt": "negative"}), read(tmp_path, rows)
    assert found.signs == {"like": "positive", "zapped-it": "negative"}
    assert "events: like (wanted), zapped-it (not wanted, as --event says)" in found.notes
    assert found.fingerprint != plain.fingerprint
    config = FinetuneConfig(interactions=str(tmp_path / "log.csv"), event=("zap=negative",))
    with pytest.raises(DataError, match="Unknown event 'zap' in --event zap=negative. .*like"):
        load_data(config)
    with pytest.raises(UnknownNameError, match="Unknown sign 'bad' in --event like=bad"):
        FinetuneConfig(interactions="log.csv", event=("like=bad",))


def test_numbers_are_signs_where_they_are_plainly_feedback(tmp_path: Path) -> None:
    assert read(tmp_path, log("1", "1", "1", "-1", "0")).signs == {"1": "positive", "-1": "negative", "0": "neutral"}
    behaviour = read(tmp_path, log("1", "2", "3", "4", "0"))  # kinds of behaviour, as shops number them
    assert {*behaviour.signs.values()} == {"positive"}
    assert "0 (a number, counts as wanted)" in next(n for n in behaviour.notes if n.startswith("events:"))
    rows = ["user,item,rating", *(f"u{n},i{m},{(1, 1, 1, -1)[m % 4]}" for n in range(4) for m in range(8))]
    rated = read(tmp_path, rows)
    assert rated.signs == {"like": "positive", "dislike": "negative"}
    assert "ratings are -1 and 1: -1 counts as dislike, 1 as like" in rated.notes
    feedback = ["user,item,feedback", *(r for r in log("1", "1", "1", "-1")[1:])]
    assert read(tmp_path, feedback).signs == {"1": "positive", "-1": "negative"}


def test_without_anything_wanted_what_was_shown_is_all_there_is(tmp_path: Path) -> None:
    found = read(tmp_path, log("impression", "impression", "impression"))
    assert found.signs == {"impression": "positive"}
    assert main(["data", "show", str(tmp_path / "log.csv"), "--event", "impression=negative"]) == 0


def test_a_later_removal_cancels_what_was_wanted_before_it() -> None:
    events = [("x", "cart"), ("y", "cart"), ("x", "remove_from_cart"), ("y", "skip"), ("x", "cart"), ("z", "view")]
    frame = pl.DataFrame({"user_id": ["a"] * 6, "item_id": [i for i, _ in events], "event": [e for _, e in events]})
    assert row_signs(frame, signs_of(frame)).to_list() == [0, 1, -1, -1, 1, 1]
    held_out = frame.with_columns(
        part=pl.Series(["train"] * 2 + ["test"] * 4)
    )  # what comes later tells training nothing
    assert row_signs(held_out, signs_of(frame)).to_list() == [1, 1, -1, -1, 1, 1]


def test_a_skip_of_an_item_that_is_rated_says_what_the_rating_says() -> None:
    frame = pl.DataFrame({"event": ["click", "skip", "dislike"], "rating": [5.0, 1.0, 1.0]})
    assert signs_of(frame) == {"click": "positive", "skip": "positive", "dislike": "negative"}
    assert row_signs(frame, {}).to_list() == [1, 1, -1]


def test_later_events_that_training_has_no_word_for_are_not_learned_as_wanted() -> None:
    rows = [(f"u{u}", f"i{n}", n, event, "train") for u in range(3) for n, event in enumerate(["view", "buy", "buy"])]
    parent = world("shop", rows, ["user_id", "item_id", "timestamp", "event", "part"])
    later = pl.DataFrame(
        {
            "user_id": ["u0", "u0", "u1", "u2"],
            "item_id": ["i0", "i1", "i0", "i0"],
            "event": ["dislike", "purchase", "like", None],
            "timestamp": [9, 10, 9, 9],
            "part": ["train"] * 4,
        }
    )
    result = grown(parent, later)
    assert result.interactions.filter(pl.col("row") > 8)["event"].to_list() == ["buy", "buy", "buy"]
    assert "1 later events (dislike) are left out: training had no such kind" in result.notes
    known = world(
        "shop", [*rows, ("u0", "i2", 4, "hide", "train")], ["user_id", "item_id", "timestamp", "event", "part"]
    )
    assert grown(known, later).interactions.filter(pl.col("row") > 9)["event"].to_list()[0] == "hide"


GOOD, POOR = 14, 4


@pytest.fixture(scope="module")
def disliked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a log in which everybody views and likes items G, some after the one before it, and dislikes items S or
    puts them into the cart and takes them out again."""
    folder = tmp_path_factory.mktemp("disliked")
    rng = np.random.default_rng(0)
    lines = []
    for user in range(150):
        start, time = int(rng.integers(GOOD)), 1_600_000_000
        for n in range(9):
            good = {"item_id": f"G{(start + n) % GOOD:02}", "event": "like" if n % 2 else "view"}
            poor = f"S{int(rng.integers(POOR))}"
            events = [good]
            if n % 3 == 1:
                events += [{"item_id": poor, "event": "dislike"}]
            elif n % 3 == 2:
                events += [{"item_id": poor, "event": "cart"}, {"item_id": poor, "event": "removeFromCart"}]
            for event in events:
                time += 60
                lines.append(json.dumps({"user_id": f"u{user:03}", **event, "timestamp": time}))
    (folder / "events.jsonl").write_text("\n".join(lines))
    tiny_backbone(folder / "tiny", WORDS, hidden_size=32)
    rates = ["--lr", "5e-3", "--row-lr", "2e-2", "--dropout", "0.05", "--batch-tokens", "1024", "--epochs", "6"]
    command = [
        "finetune",
        "--interactions",
        str(folder / "events.jsonl"),
        "--model",
        str(folder / "tiny"),
        "--layers",
        "2",
    ]
    assert main([*command, "--out", str(folder / "run"), *rates]) == 0
    return folder / "run"


def share_of_poor(frame: pl.DataFrame) -> float:
    assert frame.height
    return float(frame["item_id"].str.starts_with("S").mean())  # type: ignore[arg-type]


def test_items_that_everybody_rejected_fill_no_lists(disliked: Path) -> None:
    """Four of 18 items, 44 % of the events: by chance 22 % of the places."""
    recommender = Recommender.load(disliked)
    users = recommender.all_users()
    assert share_of_poor(recommender.recommend(users, k=3).frame) < 0.03
    assert share_of_poor(recommender.recommend(users, k=3, exclude_seen=False).frame) < 0.03
    assert share_of_poor(recommender.recommend(history=["G03", "S1"], k=5).frame) == 0
    assert share_of_poor(recommender.recommend(history=[], k=GOOD).frame) == 0  # the popular list


def test_a_rejected_item_counts_for_nothing_and_is_seen(disliked: Path) -> None:
    recommender = Recommender.load(disliked)
    counts = {i: n for i, n in recommender.catalogue().select("item_id", "train_count").iter_rows()}
    assert all((n == 0) == item.startswith("S") for item, n in counts.items())
    neighbours = recommender.views.scorer.counts["events"].neighbours
    assert neighbours is not None
    poor = {n for n, item in enumerate(recommender.catalogue()["item_id"]) if item.startswith("S")}
    linked = {int(c) for links in neighbours.kinds[:2] for c in links.candidate[links.strength != 0]}  # type: ignore[index, union-attr]
    assert not poor & linked
    user = recommender.all_users()[0]
    rejected = set(recommender.history(user).filter(pl.col("event") == "dislike")["item_id"])
    listed = recommender.recommend(user, k=GOOD + POOR).frame["item_id"]
    assert rejected and not rejected & set(listed)
    assert rejected.isdisjoint(recommender.favoured(user)["item_id"])


def test_the_run_keeps_the_signs_and_reads_other_words_by_them(disliked: Path, tmp_path: Path) -> None:
    signs = {
        "cart": "positive",
        "dislike": "negative",
        "like": "positive",
        "removefromcart": "negative",
        "view": "positive",
    }
    assert read_manifest(disliked / "adapter").signs == {"events": signs}
    recommender = Recommender.load(disliked)
    frame = pl.DataFrame({"item_id": ["G01", "G02"], "event": ["like", "dislike"]})
    same = frame.with_columns(event=pl.Series(["favourite", "thumbs-down"]))
    lists = [
        recommender.recommend(history=f, k=5).frame for f in (frame, same, frame.with_columns(event=pl.lit("like")))
    ]
    assert (
        lists[0]["item_id"].to_list() != lists[2]["item_id"].to_list() or lists[0]["score"][0] != lists[2]["score"][0]
    )
    assert lists[1]["item_id"].to_list()[0].startswith("G")


def test_what_was_rejected_is_no_case_of_an_evaluation(disliked: Path) -> None:
    assert main(["evaluate", str(disliked)]) == 0
    results = json.loads((disliked / "results.json").read_text())["datasets"]["events"]
    assert results["leak_checks"]["item rows"] == "0 of 18 items were counted with other interactions"
    with contextlib.closing(open_store(disliked / "store.db")) as store:
        event = {"user_id": "u000", "item_id": "G05", "event": "dislike"}
        assert record_events(store, "events", [event]) == ["recorded"]
    assert "G05" not in Recommender.load(disliked).recommend("u000", k=GOOD).frame["item_id"].to_list()
