"""Splits: what each part holds, exactly; nothing of test in train; mistakes."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from genrec.data.dataset import Dataset
from genrec.data.load import DataOptions, load_dataset
from genrec.data.splits import DAY, split
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
    for other in (parts[:-1] + ["dev"], parts[:-1] + [None]):
        assert split(world(part=other)).split_method == "leave_one_out"
        assert said in split(world(part=other)).notes
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
    ({"part": ["train"] * 119 + ["tset"]}, {"method": "given"}, "part 'tset' in row 120; allowed: train, valid, test"),
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
