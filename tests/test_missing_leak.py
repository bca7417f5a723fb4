"""Filling gaps must not carry a held-out value into training."""

from pathlib import Path

import pytest

from genrec.data.load import DataOptions, load_dataset


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
        found.append(dataset.interactions.filter(dataset.interactions["part"] == "train").drop("part"))
    assert found[0].equals(found[1])
