"""Filling gaps must not carry a held-out value into training."""

from pathlib import Path

import pytest

from genrec.data.load import DataOptions, load_dataset
from genrec.errors import DataError


def write(path: Path, last: str) -> Path:
    rows = ["user_id,item_id,timestamp,rating"]
    rows += [
        f"u{u},i{n},{n},{last if n == 4 else ('' if n == 1 else 1 + (n + u) % 2)}" for u in range(4) for n in range(5)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("how", ["mean", "median", "nearest", "interpolate"])
def test_training_values_do_not_depend_on_the_test_rating(tmp_path: Path, how: str) -> None:
    found = []
    for last in ("1", "5"):
        file = write(tmp_path / f"d{last}.csv", last)
        dataset = load_dataset(None, DataOptions(interactions=file, missing={"rating": how}, split="leave_one_out"))
        assert dataset.interactions["rating"].null_count() == 0
        assert set(dataset.interactions["rating"]) <= {1.0, 2.0, 5.0}
        found.append(dataset.interactions.filter(dataset.interactions["part"] == "train").drop("part"))
    assert found[0].equals(found[1])


@pytest.mark.parametrize("how", ["mean", "median", "nearest", "interpolate"])
def test_a_held_out_gap_stays_a_gap(tmp_path: Path, how: str) -> None:
    options = DataOptions(write(tmp_path / "d.csv", ""), missing={"rating": how}, split="leave_one_out")
    dataset = load_dataset(None, options)
    assert dataset.interactions.height == 20
    assert set(dataset.interactions.filter(dataset.interactions["rating"].is_null())["part"]) == {"test"}
    assert dataset.interactions.select("user_id", "item_id").rows() == [
        (f"u{u}", f"i{n}") for u in range(4) for n in range(5)
    ]
    filled = f"rating: 4 of 4 missing values filled ({how}), as the nearest rating of the training part"
    assert filled in dataset.notes
    assert "rating: 4 missing values outside the training part stay missing" in dataset.notes


@pytest.mark.parametrize("how", ["mean", "nearest"])
def test_nothing_to_fill_with(tmp_path: Path, how: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text("user,item,rating\nu,1,\nu,2,\nu,3,4\nu,4,5\n")
    with pytest.raises(DataError, match=f"--missing rating={how}: no training row has a value of rating"):
        load_dataset(None, DataOptions(path, missing={"rating": how}))
