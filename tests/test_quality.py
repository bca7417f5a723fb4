"""The quality table: raw files to genrec's, rules, the page, and whole lines on tiny worlds."""

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import tiny_backbone
from worlds import WORDS

from genrec.data.load import DataOptions, load_dataset
from genrec.errors import DataError, RunError, UnknownNameError
from genrec.run.config import FinetuneConfig, read_config

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import bench_ablation  # type: ignore[import-not-found]  # noqa: E402
import bench_quality  # type: ignore[import-not-found]  # noqa: E402
from quality import converters, lines, page, rules, sasrec  # type: ignore[import-not-found]  # noqa: E402
from quality.lines import LINES, gains, pooled  # type: ignore[import-not-found]  # noqa: E402


def put(path: Path, text: str) -> Path:
    """A raw file; `.gz` is packed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") if path.suffix == ".gz" else path.open("w", encoding="utf-8") as file:
        file.write(text)
    return path


def rows(path: Path, *columns: str) -> list[tuple]:
    return pl.read_parquet(path).select(*columns).rows()


# --- raw files ----------------------------------------------------------------------------------------------------


def test_beauty_keeps_each_users_order(tmp_path: Path) -> None:
    put(tmp_path / "amazon-beauty" / "sequential_data.txt", "7 2 0 2\n8 1\n\n")
    records = [
        {"item_id": 0, "title": "Soap, 2 oz", "categories": [["Beauty", "Bath", "Soap"], ["Other"]]},
        {"item_id": 1, "title": "Comb", "categories": []},
        {"item_id": 2, "title": "", "categories": [["Beauty"]]},
    ]
    put(tmp_path / "amazon-beauty" / "items.jsonl", "".join(json.dumps(r) + "\n" for r in records))
    converters.beauty(tmp_path, tmp_path)
    order = [("7", "2", 0), ("7", "0", 1), ("7", "2", 2), ("8", "1", 0)]
    assert rows(tmp_path / "interactions.parquet", "user_id", "item_id", "timestamp") == order
    assert rows(tmp_path / "items.parquet", "item_id", "category") == [("0", "Soap"), ("1", None), ("2", "Beauty")]


def tmall_files(folder: Path, views: str, carts: str, buys: str, test: str) -> Path:
    put(folder / "tmall" / "view.train.txt.gz", views)
    for name, text in (("cart.train", carts), ("buy.train", buys), ("buy.test", test)):
        put(folder / "tmall" / f"{name}.txt", text)
    return folder


def test_tmall_lists_are_sets(tmp_path: Path) -> None:
    raw = tmall_files(tmp_path, "0\t1\t2\t3\n1\t4\n", "0\t2\n1\t\n", "0\t5\t6\n1\t4\n", "0\t3\n1\t9\n")
    converters.tmall(raw, tmp_path, passes=1, seed=0)
    found = pl.read_parquet(tmp_path / "interactions.parquet")
    first = found.filter(user_id="0")
    assert first["event"].to_list()[:4] == ["view", "view", "view", "cart"] and {*first["item_id"][:3]} == {
        "1",
        "2",
        "3",
    }
    assert {*first.filter(event="purchase")["item_id"]} == {"5", "6"}
    assert {*first.filter(event="pass")["item_id"]} < {"1", "2", "3"} and first.filter(event="pass").height == 2
    assert first.filter(part="valid")["event"].sort().to_list() == ["pass", "purchase"]
    second = found.filter(user_id="1")  # bought once, all that was viewed: nothing validates, nothing was passed
    assert second.select("event", "part").rows() == [("view", "train"), ("purchase", "train")]
    cases = rows(tmp_path / "cases.parquet", "user_id", "item_id", "events")
    assert cases[0] == ("0", "3", ["view"] * 3 + ["cart"] + ["purchase"] * 2) and cases[1][:2] == ("1", "9")
    sets = converters.tmall_sets(raw)
    assert converters.open_items(sets, "0") == ["2", "1", "3"] and converters.open_items(sets, "1") == []
    put(tmp_path / "tmall" / "buy.train.txt", "0\t5\n0\t6\n")
    with pytest.raises(DataError, match="line 2"):
        converters.tmall(raw, tmp_path, passes=1, seed=0)


def test_online_retail_drops_what_is_no_purchase(tmp_path: Path) -> None:
    at = datetime(2011, 5, 1, 10, 0)
    lines = [
        ("1", "85123a", "LAMP ", 2, at, 1.0, 17.0),
        ("1", "85123A", "LAMP", 1, at.replace(minute=1), 1.0, 17.0),  # the same item again, a minute later
        ("1", "22086", None, 2, at.replace(minute=1), 1.0, 17.0),
        ("2", "85123A", "big  lamp", 2, at, 1.0, 18.0),
        ("C3", "85123A", "LAMP", -2, at, 1.0, 18.0),  # a cancellation
        ("4", "POST", "POSTAGE", 1, at, 9.0, 18.0),
        ("5", "22086", "CHAIN", 1, at, 1.0, None),  # nobody known
        ("6", "22087", "found", 1, at, 0.0, 18.0),  # not paid for
    ]
    columns = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"]
    (tmp_path / "online-retail").mkdir()
    raw = pl.DataFrame(lines, schema=columns, orient="row")
    raw.write_parquet(tmp_path / "online-retail" / "online_retail_until_2011-10.parquet")
    converters.online_retail(tmp_path, tmp_path)
    second = int((at - datetime(1970, 1, 1)).total_seconds())
    wanted = [("17", "85123A", second, "1"), ("17", "22086", second, "1"), ("18", "85123A", second, "2")]
    assert rows(tmp_path / "interactions.parquet", "user_id", "item_id", "timestamp", "basket") == wanted
    assert rows(tmp_path / "items.parquet", "item_id", "title") == [("85123A", "LAMP")]
    data = load_dataset(None, DataOptions(interactions=tmp_path / "interactions.parquet", split="leave_one_out"))
    assert set(data.interactions["event"]) == {"purchase"}


def test_ratings_of_a_fold_are_asked_after_all_the_others(tmp_path: Path) -> None:
    known = load_dataset("ml-100k", DataOptions(split="random")).interactions
    held = {n: known.filter(pl.col("row") % 5 == n - 1).head(40) for n in range(1, 6)}
    for n, frame in held.items():
        lines = (
            f"{u}\t{i}\t{r:.0f}\t{t}\n"
            for u, i, r, t in frame.select("user_id", "item_id", "rating", "timestamp").rows()
        )
        put(tmp_path / "ml-100k-splits" / f"u{n}.test", "".join(lines))
    converters.ml_100k_rating(tmp_path, tmp_path / "out", valid_share=0.05, seed=0)
    for n, frame in held.items():
        found = pl.read_parquet(tmp_path / "out" / f"u{n}.parquet")
        test = found.filter(part="test").select("user_id", "item_id").rows()
        assert sorted(test) == sorted(frame.select("user_id", "item_id").rows())
        assert found.height == 100_000 and found.filter(part="valid").height == round(99_960 * 0.05)
    put(tmp_path / "ml-100k-splits" / "u2.test", "1\t1\t2\t0\n")  # rated 5 in truth
    with pytest.raises(DataError, match=r"u2\.test"):
        converters.ml_100k_rating(tmp_path, tmp_path / "out", valid_share=0.05, seed=0)


def test_ml_1m_has_no_times_and_is_shuffled(tmp_path: Path) -> None:
    ratings = "".join(f"{u},{i},{1 + (u + i) % 5},{1 + i % 5}\n" for u in range(1, 4) for i in range(1, 41))
    put(tmp_path / "ml-1m" / "ratings_5fold.csv.gz", "user_id,item_id,rating,fold\n" + ratings)
    films = "1\tSlingshot, The (Kådisbellan ) (1993)\tComedy|Drama\n" + "".join(
        f"{i}\tF (2000)\tWar\n" for i in range(2, 41)
    )
    put(tmp_path / "ml-1m" / "ml1m_items.dat", films)
    put(tmp_path / "ml-1m" / "ml1m_users.dat", "1\tF\t1\t10\t48067\n2\tM\t56\t16\t70072\n3\tM\t25\t0\t02460\n")
    converters.ml_1m(tmp_path, tmp_path, fold=1, valid_share=0.1, seed=0)
    found = pl.read_parquet(tmp_path / "interactions.parquet")
    test = found.filter(part="test")["item_id"].cast(pl.Int64)
    assert len(test) == 24 and set(test % 5) == {0} and found.filter(part="valid").height == round(96 * 0.1)
    assert "timestamp" not in found.columns and not found["item_id"].cast(pl.Int64).is_sorted()
    first = pl.read_parquet(tmp_path / "items.parquet").row(0, named=True)
    assert (first["title"], first["year"], first["genre"]) == (
        "Slingshot, The (Kådisbellan )",
        1993,
        ["Comedy", "Drama"],
    )
    people = rows(tmp_path / "users.parquet", "age", "occupation")
    assert people == [(1, "K-12 student"), (56, "self-employed"), (25, "other")]


def collm_file(folder: Path, part: str, lines: list[tuple]) -> None:
    columns = ["uid", "iid", "label", "timestamp", "title", "his_iid"]
    (folder / "collm-ml1m").mkdir(parents=True, exist_ok=True)
    pl.DataFrame(lines, schema=columns, orient="row").write_parquet(folder / "collm-ml1m" / f"{part}.parquet")


def test_collm_cases_show_no_row_of_the_test_part(tmp_path: Path) -> None:
    collm_file(tmp_path, "train", [(1, 11, 1, 5, "A (1990)", [0]), (1, 12, 0, 6, "B (1991)", [0, 11])])
    collm_file(tmp_path, "valid", [(2, 11, 1, 7, "A (1990)", [0])])
    test = [
        (1, 13, 0, 8, "C (1992)", [0, 11]),
        (1, 14, 1, 9, "D (1993)", [0, 11]),
        (1, 15, 1, 9, "E (1994)", [0, 11, 14]),
        (3, 11, 0, 9, "A (1990)", [0]),
    ]
    collm_file(tmp_path, "test", test)
    converters.collm(tmp_path, tmp_path)
    known = [("1", "11", "click", "train"), ("1", "12", "skip", "train"), ("2", "11", "click", "valid")]
    assert rows(tmp_path / "interactions.parquet", "user_id", "item_id", "event", "part") == known
    cases = rows(tmp_path / "cases.parquet", "user_id", "item_id", "label", "history", "events")
    assert cases[0] == ("1", "13", 0, ["11", "12"], ["click", "skip"])
    assert cases[2] == ("1", "15", 1, ["11", "12"], ["click", "skip"])
    assert cases[3] == ("3", "11", 0, [], [])
    assert pl.read_parquet(tmp_path / "items.parquet").height == 5
    collm_file(tmp_path, "test", [(1, 13, 0, 6, "C (1992)", [0])])
    with pytest.raises(DataError, match="split by time"):
        converters.collm(tmp_path, tmp_path)


def prompt(liked: list[str], disliked: list[str], target: str, answer: str) -> dict[str, str]:
    names = [", ".join(f'"{t}"' for t in titles) for titles in (liked, disliked)]
    asked = f'Whether the user will like the target movie "{target}"?'
    text = f"User Preference: {names[0]}\nUser Unpreference: {names[1]}\n{asked}"
    return {"instruction": "...", "input": text, "output": answer}


def tallrec_files(folder: Path, valid: list[dict], test: list[dict]) -> Path:
    for name, prompts in (("valid", valid), ("test", test)):
        put(folder / "tallrec-movie" / f"{name}.json", json.dumps(prompts, indent=4))
    return folder


def test_tallrec_prompts_are_users_of_their_own(tmp_path: Path) -> None:
    odd = 'Return, of the "Pink" Panther, The (1974)'
    valid = [  # the first two are one person's, who is asked about another film every time
        prompt(["Heat (1995)", odd], [], "Kids (1995)", "Yes."),
        prompt(["Kids (1995)", odd], [], "Se7en (1995)", "No."),
        prompt([], ["Heat (1995)"], odd, "No."),
    ]
    raw = tallrec_files(tmp_path, valid, [prompt(["Fargo (1996)"], ["Heat (1995)"], "Kids (1995)", "No.")])
    converters.tallrec(raw, tmp_path, shots=3, valid_share=0.5, draws=2, seed=0)
    found = pl.read_parquet(tmp_path / "draw-1.parquet")
    first = found.filter(user_id="person 0")
    assert {*zip(first["item_id"], first["event"], strict=True)} == {
        ("Heat (1995)", "like"),
        (odd, "like"),
        ("Kids (1995)", "like"),
        ("Se7en (1995)", "dislike"),
    }
    assert found.height == 6 and found["user_id"].n_unique() == 2
    assert found.filter(user_id="person 0")["part"].to_list() == ["train"] * 2 + ["valid"] * 2
    assert found.filter(user_id="person 1")["part"].to_list() == ["train", "valid"]
    ((item, label, history, events),) = rows(tmp_path / "cases.parquet", "item_id", "label", "history", "events")
    assert (item, label) == ("Kids (1995)", 0)
    assert {*zip(history, events, strict=True)} == {("Fargo (1996)", "like"), ("Heat (1995)", "dislike")}
    assert ("Fargo (1996)", "Fargo", 1996) in rows(tmp_path / "items.parquet", "item_id", "title", "year")
    wrong = tallrec_files(tmp_path, valid, [{"input": "Likes Heat", "output": "No."}])
    with pytest.raises(DataError, match="prompt 1 is not of TALLRec's form"):
        converters.tallrec(wrong, tmp_path, shots=2, valid_share=0.5, draws=1, seed=0)


def test_amazon2023_folds_share_no_user(tmp_path: Path) -> None:
    def review(n: int) -> dict[str, object]:
        return {
            "rating": 1.0 + n % 5,
            "review_title": None if n % 2 else "Nice",
            "review_full": f"Text<br />{n} & more ",
        }

    for part, start in (("train", 0), ("val", 12), ("test", 16)):
        lines = []
        for user in range(start, start + 4 + 8 * (part == "train")):
            history = [review(10 * user + n) for n in range(4)]
            record = {
                "user_id": f"u{user}",
                "category": "Video_Games",
                "history": history,
                "heldout": review(10 * user + 4),
            }
            lines.append(json.dumps(record) + "\n")
        put(tmp_path / "amazon2023-reviews" / f"ucsd_{part}.jsonl", "".join(lines))
    converters.amazon2023(tmp_path, tmp_path, seed=0)
    tested: list[str] = []
    for fold in range(5):
        found = pl.read_parquet(tmp_path / f"fold-{fold}.parquet")
        assert found.height == 100 and set(found["category"]) == {"Video Games"}
        users = found.with_columns(user=pl.col("review").str.extract(r"(\d+)").cast(pl.Int64) // 10)
        assert users.group_by("user").agg(pl.col("part").n_unique())["part"].max() == 1
        tested += found.filter(part="test")["review"].to_list()
    assert len(tested) == len(set(tested)) == 100
    assert "Nice. Text 0 & more" in tested and "Text 1 & more" in tested


def test_withheld_items_are_in_no_training_row(tmp_path: Path) -> None:
    sequence = [("u", str(i), i) for i in range(10)] + [("v", str(i), i) for i in (9, 3, 0)]
    frame = pl.DataFrame(sequence, schema=["user_id", "item_id", "timestamp"], orient="row").sort(
        "user_id", "timestamp"
    )
    items = pl.DataFrame({"item_id": [str(i) for i in range(10)], "title": [f"t{i}" for i in range(10)]})
    converters.withheld(frame, items, tmp_path, 0.3, np.random.default_rng(1))
    every = pl.read_parquet(tmp_path / "all.parquet")
    warm = pl.read_parquet(tmp_path / "interactions.parquet")
    cold = {*items["item_id"]} - {*warm["item_id"]}
    assert len(cold) == 3 and warm.filter(user_id="u").height == 7
    assert every.filter(part="test").rows() == warm.filter(part="test").rows()
    for _, user, item, _, history, _ in pl.read_parquet(tmp_path / "cases.parquet").iter_rows():
        own = frame.filter(user_id=user)["item_id"].to_list()
        assert item in cold and history == [i for i in own[: own.index(item)] if i not in cold] != []
    (after,) = pl.read_parquet(tmp_path / "after.parquet").iter_rows(named=True)  # the other has too few other items
    last = warm.filter(user_id="u", part="test")["item_id"].item()
    own = frame.filter(user_id="u")["item_id"].to_list()
    assert (after["user_id"], after["item_id"], after["history"]) == ("u", last, own[: own.index(last)])


def test_sports_has_words_for_titles(tmp_path: Path) -> None:
    put(tmp_path / "amazon-sports" / "sequential_data.txt.gz", "7 2 0\n")
    records = [{"item_id": n, "asin": "B", "keywords": f"bike pump {n}", "category_ids": [1]} for n in range(3)]
    put(tmp_path / "amazon-sports" / "items.jsonl.gz", "".join(json.dumps(r) + "\n" for r in records))
    converters.sports(tmp_path, tmp_path)
    assert rows(tmp_path / "interactions.parquet", "user_id", "item_id") == [("7", "2"), ("7", "0")]
    assert rows(tmp_path / "items.parquet", "item_id", "title")[2] == ("2", "bike pump 2")


def test_latest_small_has_plots(tmp_path: Path) -> None:
    ratings = "userId,movieId,rating,timestamp\n1,9,4.0,20\n1,8,3.0,10\n"
    films = 'movieId,title,genres,overview\n8,Heat (1995),Crime|Drama,"A thief, a cop."\n9,Alone,(no genres listed),\n'
    put(tmp_path / "ml-latest-small" / "ratings.csv.gz", ratings)
    put(tmp_path / "ml-latest-small" / "movies.csv.gz", films)
    converters.ml_latest(tmp_path, tmp_path)
    assert rows(tmp_path / "interactions.parquet", "user_id", "item_id") == [("1", "8"), ("1", "9")]
    found = rows(tmp_path / "items.parquet", "title", "year", "genre", "plot")
    assert found == [("Heat", 1995, ["Crime", "Drama"], "A thief, a cop."), ("Alone", None, None, None)]


def news_files(folder: Path) -> Path:
    """Impressions of two news each, of which the one of the history's category is clicked; `n8` and `n9` are shown in
    the test alone, but for one history."""
    news = [
        {"news": f"n{n}", "title": f"{WORDS[n]} thing", "category": "ab"[n % 2], "subcategory": f"s{n % 2}"}
        for n in range(10)
    ]
    put(folder / "mind-sample" / "news.jsonl.gz", "".join(json.dumps(n) + "\n" for n in news))
    rng, number = np.random.default_rng(0), 0
    for name, shown, size in (("train", (4, 5), 40), ("recprompt_valid", (6, 7), 160), ("recprompt_test", (8, 9), 20)):
        records = []
        for _ in range(size):
            side = int(rng.integers(2))
            history = [f"n{2 * i + side}" for i in rng.choice(2, 2, replace=False)] + ["n8"] * (number == 0)
            candidates, number = [f"n{i}" for i in shown], number + 1
            clicked = [c for c in candidates if int(c[1]) % 2 == side]
            records.append({"impression_id": number, "history": history, "candidates": candidates, "clicked": clicked})
        put(folder / "mind-sample" / f"{name}.jsonl.gz", "".join(json.dumps(r) + "\n" for r in records))
    return folder


def test_news_that_are_asked_about_are_in_no_training_row(tmp_path: Path) -> None:
    raw = news_files(tmp_path)
    converters.mind_sample(raw, tmp_path)
    cold, every = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("cold", "all"))
    assert every["history"][0].to_list()[-1] == "n8" and "n8" not in cold["history"].explode().to_list()
    train = cold.filter(part="train")
    assert {*train["shown"].explode()} == {"n4", "n5"} and train.height == 40
    asked = cold.filter(pl.col("part") != "train")
    assert asked["shown"].to_list() == every.filter(pl.col("part") != "train")["shown"].to_list()
    assert rows(tmp_path / "items.parquet", "item_id", "category", "subcategory")[3] == ("n3", "b", "s1")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sequential_data\.txt does not exist"):
        converters.beauty(tmp_path, tmp_path)


# --- rules, goals, the page ---------------------------------------------------------------------------------------


def test_smoothed_means_know_users_and_items() -> None:
    train = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"], "event": ["click", "click", "skip"]})
    asked = pl.DataFrame({"user_id": ["a", "b", "c"], "item_id": ["y", "x", "z"]})
    found = rules.smoothed_means(train, asked, 1, 3)
    odds = [(p / (1 - p)) for p in (2 / 3, (2 + 2 / 3) / 3, (1 + 2) / 4, (0 + 2 / 3) / 2, (1 + 2) / 5)]
    mean, user_a, item_y, user_b, item_x = np.log(odds)
    assert found == pytest.approx([user_a + item_y, user_b + item_x, 2 * mean])
    assert rules.share_of_liked(pl.DataFrame({"events": [["like", "dislike"], ["like"], []]})).tolist() == [0.5, 1, 0.5]


def test_an_impression_is_ranked_among_what_it_shows() -> None:
    scores = np.asarray([0.1, 0.9, 0.5, 0.2, 0.2, 0.2])
    clicked = np.asarray([False, False, True, True, False, False])
    found, names = rules.of_impressions(scores, clicked, ["b", "b", "b", "a", "a", "a"])
    assert names == ["a", "b"]
    assert found["click/user_auc"].tolist() == [0.5, 0.5] and found["mrr"].tolist() == [0.5, 0.5]
    assert found["ndcg@5"] == pytest.approx([1 / np.log2(3)] * 2)  # two equal scores are one place
    alone, _ = rules.of_impressions(np.arange(8.0)[::-1], np.arange(8) == 6, ["a"] * 8)
    assert alone["ndcg@5"].tolist() == [0] and alone["ndcg@10"] == pytest.approx(1 / np.log2(8))


def test_news_are_like_a_history_by_their_kind_and_their_texts() -> None:
    items = pl.DataFrame({"category": ["a", "a", "b", None], "subcategory": ["x", "y", "x", None]})
    text = np.asarray([[1, 0], [0.6, 0.8], [0, 1], [0, 1]], dtype=np.float32)
    found = rules.of_histories(items, text, {"u": [0, 1], "v": []}, [("u", 0), ("u", 2), ("u", 3), ("v", 0)])
    assert found["shared subcategory"] == pytest.approx([1.02, 1.0, 0, 0])
    assert found["nearest texts"] == pytest.approx([0.8, 0.4, 0.4, 0])
    both = found["nearest texts and shared subcategory"]
    assert both == pytest.approx([0.8 + np.log(2) / 10, 0.4 + np.log(2) / 10, 0.4, 0])


def test_content_knn_ranks_by_the_last_items() -> None:
    text = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 1]]
    cold = np.asarray([False, True, False, True, True])
    histories, targets = [np.asarray([2, 0]), np.asarray([0, 2])], np.asarray([1, 4])
    whole, among = rules.cold_ranks(rules.nearest(text, 1), histories, targets, cold)
    assert whole.tolist() == among.tolist() == [1, 1]
    whole, among = rules.cold_ranks(rules.nearest(text, 10), histories, np.asarray([3, 3]), cold)
    assert whole.tolist() == among.tolist() == [3, 3]  # the cold ones of either kind are like one item of the history


def test_sasrec_finds_an_item_that_nobody_took_by_its_text() -> None:
    """Item i is followed by i + 1, told by its text; items 20 to 29 are texts of 0 to 9 that nobody took."""
    rng = np.random.default_rng(0)
    text = rng.normal(size=(20, 16)).astype(np.float32)
    text = np.concatenate([text, text[:10] + 0.02 * rng.normal(size=(10, 16)).astype(np.float32)])
    paths = [(start + np.arange(6)) % 20 for start in rng.integers(0, 20, 300)]
    model = sasrec.trained(text, [p[:5] for p in paths], [(p[:5], int(p[5])) for p in paths])
    scores = sasrec.scores_of(model, [np.asarray([7]), np.asarray([17, 18, 19])])
    assert scores.shape == (2, 30)
    assert scores.argmax(1).tolist() in ([8, 0], [28, 0], [8, 20], [28, 20])
    assert scores[:, 20:].argmax(1).tolist() == [8, 0]


def test_a_change_is_a_gain_whichever_way_a_metric_points() -> None:
    about = [str(n) for n in range(40)]
    ranks = {k: pl.Series([[k]] * 40, dtype=pl.List(pl.Int32)) for k in (1, 20)}
    nothing = {"probabilities": pl.Series([None] * 40, dtype=pl.List(pl.Float64)), "weight": 1.0}

    def listed(first: int) -> pl.DataFrame:  # so many users have the right item first, the others the 20th
        removed = pl.concat([ranks[1][:first], ranks[20][first:]])
        return pl.DataFrame({"about": about, "ranks_removed": removed, "ranks_kept": ranks[20], **nothing})

    found = gains([listed(9), listed(11)], [listed(20), listed(10)], ())["seen_removed/hr@10"]
    assert found["value"] == pytest.approx((15 - 10) / 10)
    assert 0 < found["low"] < found["value"] < found["high"], "twelve users gained: paired, hardly by chance"

    def rated(sure: float) -> pl.DataFrame:
        rows = {"answer": 1, "number": None, "weight": 1.0, "ranks_removed": None, "ranks_kept": None}
        return pl.DataFrame({"about": about, "probabilities": [[1 - sure, sure]] * 40, **rows})

    found = gains([rated(0.6), rated(0.4)], [rated(0.5), rated(0.4)], (1.0, 2.0))
    assert found["rmse"] == pytest.approx({end: (0.55 - 0.5) / -0.5 for end in ("value", "low", "high")})
    with pytest.raises(RunError, match="not asked the same"):
        gains([listed(9)], [listed(9)[::-1]], ())


def test_runs_that_share_no_users_have_a_narrower_interval_together() -> None:
    runs = [{"rmse": figure(0.9, 0.86, 0.93)}, {"rmse": figure(1.0, 0.97, 1.04), "mae": figure(0.7)}]
    together = pooled("genrec", runs)
    assert together.metrics == {"rmse": pytest.approx({"value": 0.95, "low": 0.915, "high": 0.985})}
    assert together.values == {"rmse": [0.9, 1.0]}
    apart = pooled("genrec", runs, disjoint=True).metrics["rmse"]
    assert apart == pytest.approx({"value": 0.95, "low": 0.925, "high": 0.975})


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def line(folder: Path, **more: object) -> Path:
    """Settings in which every line of the table is the same."""
    goals = {
        "of": "rmse",
        "lower": True,
        "must": [{"value": 0.9}],
        "aim": [{"best_of": ["SVD++", "means"], "times": 0.98}],
    }
    own = {"line": "Ratings", "protocol": "As given.", "runs": 2, "baselines": True, "finetune": {"task": ["rating"]}}
    folder.mkdir(exist_ok=True)
    for name in LINES:
        text = yaml.safe_dump({**own, "figures": {"RMSE": goals}, "published": [], **more}, sort_keys=False)
        (folder / f"{name}.yaml").write_text(text)
    return folder


def result(folder: Path, rows: dict[str, float | None]) -> Path:
    """Results of the line ml-1m."""
    folder.mkdir(exist_ok=True)
    found = [
        {"name": n, "seconds": 120.0, "figures": {"RMSE": figure(v, v and v - 0.01, v and v + 0.01)}}
        for n, v in rows.items()
    ]
    settings = {"finetune": {"task": ["rating"]}}
    value = {
        "version": 1,
        "name": "ml-1m",
        "versions": {"genrec": "0.1.0"},
        "cores": 2,
        "settings": settings,
        "runs": 2,
        "rows": found,
    }
    (folder / "ml-1m.json").write_text(json.dumps(value))
    return folder


def test_the_page_says_what_was_reached_missed_and_not_measured(tmp_path: Path) -> None:
    settings, results = line(tmp_path / "s", trials=["dropout .5: .91"], limits="Few ratings."), tmp_path / "r"
    empty = page.page(settings, results)
    assert empty.count("Not measured yet.") == len(LINES) and "reached" not in empty.split("## ", 1)[1]
    shown = page.page(settings, result(results, {"genrec": 0.89, "SVD++": 0.9, "means": 0.95}))
    assert "- RMSE, must: at most 0.9: **reached**" in shown
    assert "- RMSE, aim: at most 0.98 x the best of SVD++, means (0.882): **missed**" in shown
    assert "| **genrec**, 2 runs | 0.8900 (0.8800 to 0.9000) | 2 |" in shown
    assert "- dropout .5: .91" in shown and "What limits it: Few ratings." in shown
    assert shown.count("Not measured yet.") == len(LINES) - 1
    alone = page.page(settings, result(results, {"genrec": 0.89}))
    assert "aim: at most 0.98 x the best of SVD++, means: **not measured**" in alone
    assert "The baselines of the same run were not measured." in alone and "dropout .5" not in alone
    every = page.page(settings, result(results, {"genrec": 0.85, "SVD++": 0.9, "means": 0.95}))
    assert "missed" not in every.split("|---", 1)[1]


def test_a_rival_is_beaten_where_the_paired_interval_is_on_the_better_side(tmp_path: Path) -> None:
    goals = {"of": "rmse", "lower": True, "must": [{"beaten": ["SVD++"]}], "aim": [{"beaten": ["SVD++", "means"]}]}
    settings = line(tmp_path / "s", figures={"RMSE": goals})
    folder = result(tmp_path / "r", {"genrec": 0.85, "SVD++": 0.9, "means": 0.95})
    found = json.loads((folder / "ml-1m.json").read_text())
    assert "must: better than SVD++, paired: **not measured**" in page.page(settings, folder)
    for high, state in ((-0.01, "reached"), (0.01, "missed")):
        over = {"SVD++": {"RMSE": figure(-0.05, -0.09, high)}, "means": {"RMSE": figure(-0.1, -0.2, 0.01)}}
        found["rows"][0]["over"] = over
        (folder / "ml-1m.json").write_text(json.dumps(found | {"code": ["a", "b"]}))
        shown = page.page(settings, folder)
        assert f"must: better than SVD++, paired (-0.0500: -0.0900 to {high:+.4f}): **{state}**" in shown
        assert "aim: better than SVD++ and means, paired" in shown and "+0.0100): **missed**" in shown
        assert "measured at 2 states of the code" in shown


def test_the_page_shows_what_each_part_brings(tmp_path: Path) -> None:
    """Of an error the best part is the one with the least; a line that was not measured by part has no row."""
    folder = result(tmp_path / "r", {"genrec": 0.85, "means": 0.95})
    found = json.loads((folder / "ml-1m.json").read_text())
    by_part = {"language model": 0.9, "counts": 0.87, "all": 0.85}
    over = {"language model": (-0.05, -0.06, -0.04), "counts": (-0.02, -0.03, 0.001)}
    found["rows"][0]["parts"] = {p: {"RMSE": {"value": v, "low": v, "high": v}} for p, v in by_part.items()}
    found["rows"][0]["over"] = {
        p: {"RMSE": dict(zip(("value", "low", "high"), ends, strict=True))} for p, ends in over.items()
    }
    (folder / "ml-1m.json").write_text(json.dumps(found))
    shown = page.page(line(tmp_path / "s"), folder)
    row = "| [ml-1m](#ml-1m) | RMSE | 0.9000 | 0.8700 |  |  | 0.8500 | -0.0200 (-0.0300 to +0.0010; -0.1 % at worst) |"
    assert row in shown.splitlines()
    assert shown.count("| RMSE | 0.9000 |") == 1
    rating = {**found, "name": "ml-100k-rating"}
    (folder / "ml-100k-rating.json").write_text(json.dumps(rating))
    readme = "Head.\n\n<!-- parts, written by scripts/docs.py -->\nold\n\nTail.\n"
    text = page.with_parts(readme, tmp_path / "s", folder)
    assert "| Ratings: RMSE (the less the better) | 0.900 | 0.870 |  |  | 0.850 |\n\nTail." in text
    assert "old" not in text and page.with_parts(text, tmp_path / "s", folder) == text


def test_settings_with_a_wrong_key_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'trials'"):
        page.page(line(tmp_path, trails=[]), tmp_path)
    with pytest.raises(DataError, match="no key 'of'"):
        page.page(line(tmp_path, figures={"RMSE": {"lower": True}}), tmp_path)


@pytest.mark.parametrize("name", LINES)
def test_settings_of_every_line_are_options_of_finetune(name: str, tmp_path: Path) -> None:
    settings = page.read_settings(page.SETTINGS / f"{name}.yaml")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings["finetune"]))
    found = FinetuneConfig(**read_config(config))  # type: ignore[arg-type]
    assert all((page.SETTINGS / path).is_file() for path in found.tasks)
    assert bool(found.names) == (LINES[name].convert is None)


# --- whole lines --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed settings, cut to a tiny backbone and a moment of training."""
    folder = tmp_path_factory.mktemp("settings")
    tiny = tiny_backbone(folder / "tiny", WORDS, hidden_size=64)
    rates = {"lr": 5e-3, "row_lr": 2e-2, "dropout": 0.05, "batch_tokens": 512, "patience": 30}
    for path in page.SETTINGS.glob("*.yaml"):
        own = yaml.safe_load(path.read_text())
        own["finetune"] |= {"model": str(tiny), "layers": 2, "epochs": 2, **rates}
        own["runs"] = 1
        own["finetune"].pop("item_text_model", None)
        if path.stem == "tallrec":
            own["finetune"]["epochs"] = 20  # long enough to be interrupted
            own["convert"] |= {"shots": 20, "draws": 1}
        (folder / path.name).write_text(yaml.safe_dump(own, sort_keys=False))
    (folder / "tasks").symlink_to(page.SETTINGS / "tasks")
    return folder


def found_in(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    return {row["name"]: row["figures"] for row in json.loads(path.read_text())["rows"]}


@pytest.fixture(scope="module")
def chain_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain world in Beauty's raw form: item i is followed by item i + 1."""
    raw = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    users = [(u, [(start + n) % 12 for n in range(8)]) for u, start in enumerate(rng.integers(12, size=80).tolist())]
    put(raw / "amazon-beauty" / "sequential_data.txt", "".join(f"{u} {' '.join(map(str, i))}\n" for u, i in users))
    films = [{"item_id": i, "title": f"{'blue' if i % 2 else 'red'} {i}", "categories": []} for i in range(12)]
    put(raw / "amazon-beauty" / "items.jsonl", "".join(json.dumps(f) + "\n" for f in films))
    return raw


def test_a_finished_line_is_not_trained_again(chain_files: Path, settings: Path, tmp_path: Path) -> None:
    def measure() -> tuple[bytes, int]:
        path = bench_quality.measure("beauty", chain_files, tmp_path, settings, tmp_path / "results", baselines=False)
        return path.read_bytes(), (tmp_path / "beauty" / "seed-0" / "adapter" / "genrec.json").stat().st_mtime_ns

    first = measure()
    found = found_in(tmp_path / "results" / "beauty.json")["genrec"]
    assert set(found) == set(page.read_settings(settings / "beauty.yaml")["figures"])
    assert measure() == first
    shutil.rmtree(tmp_path / "beauty")  # as on another machine: what was measured of a run is with the results
    path = bench_quality.measure("beauty", chain_files, tmp_path, settings, tmp_path / "results")
    assert path.read_bytes() == first[0] and not (tmp_path / "beauty" / "seed-0").exists()
    own = yaml.safe_load((settings / "beauty.yaml").read_text())
    own["finetune"]["epochs"] = 3
    (tmp_path / "beauty.yaml").write_text(yaml.safe_dump(own))
    with pytest.raises(RunError, match=r"seed-0\.json is of a run with other options"):
        bench_quality.measure("beauty", chain_files, tmp_path, tmp_path, tmp_path / "results", baselines=False)


def test_an_ablation_measures_what_is_left_out(chain_files: Path, settings: Path, tmp_path: Path) -> None:
    """The words of the chain world say half of what comes next; a body of random weights reads as well as the tiny one,
    which is random, too."""
    variants = ["random body and words", "no item texts"]
    path = bench_ablation.measure("beauty", chain_files, tmp_path, settings, tmp_path / "results", variants)
    rows = {row["variant"]: row for row in json.loads(path.read_text())["rows"]}
    assert [*rows] == ["as it is", *variants] and "difference" not in rows["as it is"]
    for row in rows.values():
        assert row["set"] == "beauty" and row["metric"] == "next_item/seen_removed/ndcg@10" and row["seconds"] > 0
        assert 0 <= row["language model"]["low"] <= row["language model"]["value"] <= row["language model"]["high"]
    for variant in variants:
        gain = rows[variant]["difference"]["value"]
        assert gain == pytest.approx(rows[variant]["all"]["value"] - rows["as it is"]["all"]["value"])
    (table,) = [line for line in page.ablation_section(path.parent).splitlines() if "no item texts" in line]
    assert table.startswith("| [beauty](#beauty) | next_item/seen_removed/ndcg@10 | no item texts | ")
    drawn = load_file(next((tmp_path / "random-words").glob("*.safetensors")))
    tiny = load_file(settings / "tiny" / "model.safetensors")
    assert all(not torch.equal(w, tiny[f"model.{name}"]) for name, w in drawn.items() if w.ndim > 1)


def like_files(folder: Path) -> Path:
    """Prompts of users who like the film asked about where they like most of what is shown."""
    rng = np.random.default_rng(0)
    films = [f"film {n} (19{50 + n})" for n in range(30)]

    def some(n: int) -> list[dict[str, str]]:
        found = []
        for _ in range(n):
            drawn = [films[i] for i in rng.choice(30, 5, replace=False)]
            liked = int(rng.integers(5))
            found.append(prompt(drawn[:liked], drawn[liked:4], drawn[4], "Yes." if liked > 2 else "No."))
        return found

    return tallrec_files(folder, some(40), some(50))


def test_an_interrupted_line_goes_on_to_the_same_figures(settings: Path, tmp_path: Path) -> None:
    raw = like_files(tmp_path)
    whole = bench_quality.measure("tallrec", raw, tmp_path / "one", settings, tmp_path / "r1")
    command = [sys.executable, str(ROOT / "scripts" / "bench_quality.py"), "tallrec", "--data", str(raw)]
    command += ["--out", str(tmp_path / "two"), "--settings", str(settings), "--results", str(tmp_path / "r2")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    run = tmp_path / "two" / "tallrec" / "draw-0"
    while not list((run / "checkpoints").glob("checkpoint-*")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130, said.decode()
    assert not (tmp_path / "r2").exists() and not (run / "adapter").exists()
    again = bench_quality.measure("tallrec", raw, tmp_path / "two", settings, tmp_path / "r2")
    assert found_in(again) == found_in(whole)
    assert found_in(again)["share of liked"]["AUC"]["value"] == pytest.approx(1)
    answers = pl.read_parquet(run / "answers.parquet")
    assert answers["case"].to_list() == [f"test {n}" for n in range(50)] and answers["answer"].is_between(0, 1).all()
    assert not [p for p in run.parent.iterdir() if p.name.startswith(".draw")], "the copy with the cases is gone"


def test_what_was_seen_and_not_bought_is_ranked(settings: Path, tmp_path: Path) -> None:
    users = range(30)
    views = "".join(f"{u}\t" + "\t".join(str((u + n) % 20) for n in range(16)) + "\n" for u in users)
    carts = "".join(f"{u}\t{u % 20}\t{(u + 1) % 20}\n" for u in users) + "30\t5\n"
    buys = "".join(f"{u}\t{u % 20}\t{(u + 2) % 20}\n" for u in users) + "30\t5\n"  # has nothing left to buy
    asked = "".join(f"{u}\t{(u + 1) % 20}\n" for u in users) + "30\t6\n"
    raw = tmall_files(tmp_path, views, carts, buys, asked)
    found = found_in(bench_quality.measure("tmall", raw, tmp_path / "out", settings, tmp_path / "results"))
    assert found["carted, then viewed, not bought"]["HR@10"]["value"] == pytest.approx(30 / 31)
    *lists, last = pl.read_parquet(tmp_path / "out" / "tmall" / "seed-0" / "answers.parquet")["answer"].to_list()
    assert last == []
    for user, own in zip(users, lists, strict=True):
        seen = {str((user + n) % 20) for n in range(16)} - {str(user % 20), str((user + 2) % 20)}
        assert len(set(own)) == 10 and {*own} <= seen


def test_withheld_items_stand_beside_knn_and_sasrec(
    chain_files: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(raw: Path, out: Path, *, share: float, seed: int) -> None:
        frames = converters.beauty_frames(raw)
        converters.withheld(*frames, out / "beauty", 2 * share, np.random.default_rng(seed))

    monkeypatch.setattr(lines, "COLD", ("beauty",))
    monkeypatch.setitem(lines.LINES, "cold", replace(lines.LINES["cold"], convert=convert))
    found = found_in(bench_quality.measure("cold", chain_files, tmp_path, settings, tmp_path / "results"))
    figure = "R@10, Beauty"
    assert {name: own[figure]["value"] for name, own in found.items() if name == "random"} == {"random": 10 / 12}
    places = "content kNN, last, in genrec's places"
    assert {"content kNN, last", places, "SASRec, content start", "other items after withheld ones"} <= {*found}
    gain = found["genrec"]["gain over the best kNN in the same places, Beauty"]["value"]
    best = max(own[figure]["value"] for name, own in found.items() if name.startswith("content") and "places" in name)
    assert gain == pytest.approx(found["genrec"][figure]["value"] - best)
    before, now = (found[n][figure]["value"] for n in ("other items, nothing withheld", "other items"))
    assert found["genrec"]["cost, Beauty"]["value"] == pytest.approx(now / before - 1)
    assert (tmp_path / "results" / "runs" / "cold" / "beauty.json").is_file()


def test_clicks_stand_beside_rules_on_the_same_texts(settings: Path, tmp_path: Path) -> None:
    raw = news_files(tmp_path)
    path = bench_quality.measure("mind-sample", raw, tmp_path / "out", settings, tmp_path / "results")
    found = found_in(path)
    assert found["shared subcategory"]["AUC"]["value"] == found["shared subcategory"]["MRR"]["value"] == 1
    own, warm = found["genrec"], found["genrec, clicks on the same news in training"]
    assert own["gain of AUC over the best rule"]["value"] == pytest.approx(own["AUC"]["value"] - 1)
    assert {*warm} >= {"AUC", "MRR", "nDCG@5", "nDCG@10"}
    (row,) = [r for r in json.loads(path.read_text())["rows"] if r["name"] == "genrec"]
    assert {"language model", "texts", "all"} <= {*row["parts"]} and "AUC" in row["over"]["texts"]


@pytest.mark.slow
def test_one_adapter_against_one_per_task(toy_files: Path, settings: Path, tmp_path: Path) -> None:
    own = yaml.safe_load((settings / "joint.yaml").read_text())
    files = {"interactions": str(toy_files / "chain.csv"), "items": str(toy_files / "items.csv")}
    del own["finetune"]["names"]
    own["finetune"] |= {**files, "task": ["next_item", "rating"]}
    own["runs"] = 2
    (tmp_path / "joint.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
    found = found_in(bench_quality.measure("joint", tmp_path, tmp_path / "out", tmp_path, tmp_path / "results"))
    joint, single = found["genrec"], found["one adapter per task"]
    for metric, sign in (("NDCG@10", 1), ("RMSE", -1)):
        gain = sign * (joint[metric]["value"] / single[metric]["value"] - 1)
        shown = joint[f"change of {metric}"]
        assert shown["value"] == pytest.approx(gain)
        assert shown["low"] <= shown["value"] <= shown["high"]
        assert len(joint[metric]["values"]) == 2


@pytest.mark.parametrize("runs", ["0", "4", "-1"])
def test_runs_that_a_line_has_not(runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["beauty", "--data", str(tmp_path), f"--runs={runs}", "--results", str(tmp_path)]
    assert bench_quality.main(command) == 2
    assert f"--runs {runs}: beauty has 3 runs; allowed: 1 to 3" in capsys.readouterr().err


def test_an_unknown_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_quality.main(["beuty", "--data", str(tmp_path)]) == 2
    assert "Did you mean 'beauty'" in capsys.readouterr().err
    with pytest.raises(UnknownNameError):
        bench_quality.measure("x", tmp_path, tmp_path, page.SETTINGS, tmp_path)
