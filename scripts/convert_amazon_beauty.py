"""Amazon Beauty as S3-Rec published it, to files that genrec reads.

Usage: python scripts/convert_amazon_beauty.py FOLDER OUT
FOLDER holds sequential_data.txt (user, then item ids in time order) and items.jsonl (item_id, title, categories).
"""

import json
import sys
from pathlib import Path

import polars as pl


def main(folder: Path, out: Path) -> None:
    """Write interactions.parquet and items.parquet; a user's order becomes the timestamp."""
    rows = []
    for line in (folder / "sequential_data.txt").read_text().splitlines():
        user, *items = line.split()
        rows += [(user, item, n) for n, item in enumerate(items)]
    records = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    items = [(str(r["item_id"]), r["title"], (r["categories"] or [[None]])[0][-1]) for r in records]
    out.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(
        out / "interactions.parquet"
    )
    pl.DataFrame(items, schema=["item_id", "title", "category"], orient="row").write_parquet(out / "items.parquet")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
