"""Splits: what each part holds, exactly; nothing of test in train; mistakes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from genrec.data.cuts import DAY
from genrec.data.dataset import Dataset
from genrec.data.load import DataOptions, load_dataset
from genrec.data.splits import split
from genrec.errors import DataError, UnknownNameError

USERS, EVENTS = 12, 10


def world(**columns: Any) -> Dataset:
    """12 users with 10 events each, one a day, user after user; item `i<n>` is the n-th event of its user."""
    n = pl.int_range(USERS * EVENTS, eager=True)
    frame = pl.DataFrame(
        {
            "row": n.cast(pl.UInt32),
            "event": ["click"] * len(n),
            "user_id": [f"u{i // EVENTS}" for i in n],
            "item_id": [f"i{i % EVENTS}" for i in n],
            "timestamp": [i % EVENTS * DAY for i in n],
            **columns,
        }
    )
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(EVENTS)], "title": [None] * EVENTS})
    return Dataset("world", frame, items, pl.DataFrame({"user_id": [f"u{i}" for i in range(USERS)]}))


def items_of(dataset: Dataset, part: str) -> set[str]:
    return set(dataset.interactions.filter(pl.col("part") == part)["item_id"])


@pytest.mark.parametrize("method", ["leave_one_out", "temporal", "k_fold", "random"])
def test_every_interaction_has_one_part_and_the_same_seed_the_same_parts(method: Any) -> None:
    found, again = (split(world(), method, days=2, seed=3) for _ in range(2))
    assert found.interactions.drop("part").equals(world().interactions)
    assert set(found.interactions["part"]) == {"train", "valid", "test"}
    assert found.interactions.equals(again.interactions)


@pytest.mark.parametrize("method", ["k_fold", "random"])
def test_another_seed_draws_other_parts(method: Any) -> None:
    assert not split(world(), method, seed=1).interactions.equals(split(world(), method, seed=2).interactions)


def test_leave_one_out_takes_the_last_two() -> None:
    found = split(world(), "leave_one_out")
    assert (items_of(found, "test"), items_of(found, "valid")) == ({"i9"}, {"i8"})
    assert found.interactions["part"].value_counts().sort("count")["count"].to_list() == [USERS, USERS, USERS * 8]


def test_users_with_fewer_than_three_events_train_only() -> None:
    small = world()
    frame = small.interactions.filter((pl.col("user_id") != "u0") | pl.col("item_id").is_in(["i0", "i1"]))
    found = split(Dataset("small", frame, small.items, small.users), "leave_one_out").interactions
    assert set(found.filter(pl.col("user_id") == "u0")["part"]) == {"train"}


def test_tied_times_keep_file_order_and_are_counted() -> None:
    found = split(world(timestamp=[5] * USERS * EVENTS), "leave_one_out")
    assert items_of(found, "test") == {"i9"}
    assert "12 of 12 users have a tied last timestamp; file order decides" in found.notes


def test_temporal_cuts_by_time_alone() -> None:
    found = split(world(), "temporal", days=2)
    assert [items_of(found, p) for p in ("valid", "test")] == [{"i6", "i7"}, {"i8", "i9"}]
    cutoffs = dict(found.cutoffs)
    for part, low, high in (("train", 0, cutoffs["valid"]), ("valid", cutoffs["valid"], cutoffs["test"])):
        times = found.interactions.filter(pl.col("part") == part)["timestamp"]
        assert ((times >= low) & (times < high)).all()


def test_folds_share_no_test_and_cover_all() -> None:
    tests = [
        set(split(world(), "k_fold", folds=4, fold=f).interactions.filter(pl.col("part") == "test")["row"])
        for f in range(4)
    ]
    assert set().union(*tests) == set(range(USERS * EVENTS)) and sum(map(len, tests)) == USERS * EVENTS


def test_random_is_eighty_ten_ten() -> None:
    counts = dict(split(world(), "random").interactions["part"].value_counts().iter_rows())
    assert counts == {"train": 96, "valid": 12, "test": 12}


def test_auto_fits_the_columns() -> None:
    basket = [f"b{i // 2}" for i in range(USERS * EVENTS)]
    bare = world()
    texts = Dataset("texts", bare.interactions.select("row", "event"), bare.items, bare.users)
    assert split(world()).split_method == "leave_one_out"
    assert split(world(basket=basket), days=2).split_method == "temporal"
    assert split(texts).split_method == "random"
    untimed = pl.Series([None] * USERS * EVENTS, dtype=pl.Int64)
    assert split(world(basket=basket, timestamp=untimed)).split_method == "leave_one_out"


def test_given_parts_are_kept_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("user,item,part\nu,1,train\nu,2,valid\nu,3,test\n")
    found = load_dataset(None, DataOptions(interactions=file, split="given"))
    assert found.interactions["part"].to_list() == ["train", "valid", "test"]
    assert "split given: 1 train, 1 valid, 1 test" in found.notes


def test_auto_takes_the_parts_of_the_file_where_each_row_has_one() -> None:
    parts = ["train"] * 100 + ["valid"] * 10 + ["test"] * 10
    found = split(world(part=parts))
    assert found.split_method == "given" and found.interactions["part"].to_list() == parts
    said = "the file's part column was not used; --split given reads train, valid and test from it"
    other = ["blue", "red"] * 60
    assert split(world(part=other)).split_method == "leave_one_out"
    assert said in split(world(part=other)).notes
    for mistake, value in (("tset", "'tset'"), (None, "nothing")):
        with pytest.raises(DataError, match=rf"part {value} in row 120; allowed: train \(training, fit\), valid \("):
            split(world(part=parts[:-1] + [mistake]))
        assert split(world(part=parts[:-1] + [mistake]), "random").split_method == "random"
    assert said in split(world(part=parts), "random").notes
    assert said not in split(world(), "random").notes


def test_auto_needs_enough_days_to_split_by_time() -> None:
    basket = [f"b{i // 2}" for i in range(USERS * EVENTS)]
    found = split(world(basket=basket), days=4)
    assert found.split_method == "leave_one_out"
    said = (
        "the data span 10 days, a split by time with valid and test of 4 days each needs 12 "
        "(--split temporal --days 3 gives one): leave_one_out instead"
    )
    assert said in found.notes
    assert split(world(basket=basket), days=3).split_method == "temporal"
    assert split(world(basket=basket), "temporal", days=4).split_method == "temporal"


MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"method": "temporal", "days": 0}, "--days 0: the test part of a temporal split lasts at least 1 day"),
    ({}, {"method": "temporal"}, "leaves nothing to train on: valid and test take 28 days each and the data span 10."),
    ({"timestamp": pl.Series([None] * 120, dtype=pl.Int64)}, {"method": "temporal"}, "every timestamp is missing"),
    ({}, {"method": "k_fold", "folds": 1}, "--fold 0 of --folds 1: at least 2 folds"),
    ({}, {"method": "k_fold", "fold": 5}, "--fold 5 of --folds 5: at least 2 folds, counted from 0 to 4"),
    ({}, {"method": "given"}, "--split given needs a `part` column"),
    (
        {"part": ["train"] * 119 + ["tset"]},
        {"method": "given"},
        "part 'tset' in row 120; allowed: train (training, fit), valid",
    ),
    ({"part": ["test"] * 120}, {"method": "given"}, "--split given leaves nothing to train on"),
]


@pytest.mark.parametrize(("columns", "options", "message"), MISTAKES)
def test_mistakes_are_named(columns: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        split(world(**columns), **options)
    assert message in str(error.value)


def test_an_unknown_split_is_not_random() -> None:
    with pytest.raises(UnknownNameError, match="Unknown split 'leave-one-out'. Did you mean 'leave_one_out'"):
        split(world(), "leave-one-out")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words",
    [("Training", "VAL", "hold-out"), ("fit", "dev", "tst"), ("训练集", "验证", "测试"), ("TRN", "Eval", "held_out")],
)
def test_parts_are_named_in_the_words_of_people(words: tuple[str, str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    rows = [f"u{n},i{m},{words[max(0, m - 6)]}" for n in range(5) for m in range(9)]
    file.write_text("\n".join(["user,item,usage", *rows]))
    found = load_dataset(None, DataOptions(interactions=file))
    assert found.split_method == "given" and "split given: 35 train, 5 valid, 5 test" in found.notes
    assert f"parts: {words[0]} is train, {words[1]} is valid, {words[2]} is test" in found.notes


def test_a_file_without_validation_has_it_from_the_end_of_training() -> None:
    found = split(world(part=(["train"] * 9 + ["test"]) * USERS), "given")
    assert items_of(found, "valid") == {"i8"} and items_of(found, "test") == {"i9"}
    said = "no part is named valid: each user's last training interaction, of those with at least 3, validates"
    assert said in found.notes
    texts = world(part=(["train"] * 9 + ["test"]) * USERS)
    texts = replace(texts, interactions=texts.interactions.drop("user_id", "item_id", "timestamp"))
    counts = dict(split(texts, "given").interactions["part"].value_counts().iter_rows())
    assert counts["test"] == 12 and 0 < counts["valid"] < 30


def test_shares_of_time_cut_all_users_at_the_same_moments() -> None:
    found = split(world(), shares="70,20,10")
    expected = [{f"i{n}" for n in range(7)}, {"i7", "i8"}, {"i9"}]
    assert [items_of(found, p) for p in ("train", "valid", "test")] == expected
    assert found.split_method == "temporal" and found.cutoffs == (("valid", 7 * DAY), ("test", 9 * DAY))
    assert split(world(), "temporal", shares="0.7,0.2,0.1").interactions.equals(found.interactions)
    said = "dates: train 1970-01-01 to 1970-01-07, valid 1970-01-08 to 1970-01-09, test 1970-01-10 to 1970-01-10"
    assert said in found.notes
    assert "12 interactions have the very time at which test begins; all of them are in it" in found.notes


def test_parts_begin_at_dates() -> None:
    found = split(world(), valid_from="1970-01-06", test_from=str(8 * DAY))
    assert [items_of(found, p) for p in ("valid", "test")] == [{"i5", "i6", "i7"}, {"i8", "i9"}]
    assert found.cutoffs == (("valid", 5 * DAY), ("test", 8 * DAY))
    only_test = split(world(), test_from="1970-01-06 00:00:00")
    assert [items_of(only_test, p) for p in ("valid", "test")] == [{"i4"}, {f"i{n}" for n in range(5, 10)}]
    only_valid = split(world(), valid_from="1970-01-09")
    assert [items_of(only_valid, p) for p in ("valid", "test")] == [{"i8", "i9"}, set()]
    assert "nothing is held out for a test; --test-from DATE gives one" in only_valid.notes


CUTS: list[tuple[dict[str, Any], str]] = [
    ({"shares": "70,20"}, "--shares 70,20: three numbers above 0 that sum to 100"),
    ({"shares": "70,20,20"}, "--shares 70,20,20: three numbers above 0"),
    ({"shares": "80,20,0"}, "--shares 80,20,0: three numbers above 0"),
    ({"shares": "most,some,few"}, "--shares most,some,few: three numbers"),
    ({"shares": "98,1,1"}, "--shares 98,1,1 leaves a part empty: the 120 interactions have 10 different times"),
    ({"shares": "70,20,10", "test_from": "1970-01-09"}, "either shares or dates"),
    ({"shares": "70,20,10", "days": 2}, "days from the end, shares or dates; leave all but one of them out"),
    ({"shares": "70,20,10", "method": "random"}, "--split random does not; leave one of them out"),
    ({"test_from": "soon"}, "--test-from soon: a date (2020-12-31, 2020-12-31 18:00) or seconds since 1970 is allowed"),
    ({"test_from": "05/06/1970"}, "--test-from 05/06/1970: this may be 1970-05-06 or 1970-06-05; write it so"),
    ({"test_from": "1999-01-01"}, "outside of the data, whose times go from 1970-01-01 to 1970-01-10 (0 to 777600)"),
    ({"valid_from": "1970-01-08", "test_from": "1970-01-05"}, "validation comes before the test"),
    ({"valid_from": "1970-01-05 01:00", "test_from": "1970-01-05 02:00"}, "no interaction lies between --valid-from"),
]


@pytest.mark.parametrize(("options", "message"), CUTS)
def test_mistakes_of_cuts_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        split(world(), **options)
    assert message in str(error.value)


def test_leave_one_out_asks_for_what_was_wanted() -> None:
    """Of five likes the last two are held out, each with the dislikes after it; two likes train only."""
    events = ["like", "dislike", "like", "dislike", "like", "dislike", "like", "dislike", "dislike", "dislike"]
    parts = split(world(event=events * USERS)).interactions["part"].to_list()[:EVENTS]
    assert parts == ["train"] * 4 + ["valid"] * 2 + ["test"] * 4
    few = split(world(event=(["dislike"] * 8 + ["like"] * 2) * USERS)).interactions
    assert set(few["part"]) == {"train"}
