"""What a run gains by training on with later events, against training anew: a replay of MovieLens 100K.

Usage: scripts/bench feedback [--out DIR] [--seed N]

A run is trained on the first 80 % of each user's ratings. The next 10 % come to its store as events, as a server
records them. Lists of ten are then compared by the first rating of the last 10 %, seen films removed: of the run as it
was, of the same run that knows the later events but was not trained on, of `finetune --resume-from`, and of a run that
was trained anew on 90 %. Every training takes its defaults, next_item alone. An interrupted measurement goes on.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from genrec.data.load import load_dataset
from genrec.recommender import Recommender
from genrec.store.connect import open_store
from genrec.store.write import record_events

BEFORE, AFTER = 0.8, 0.9  # of each user's ratings: what is trained on at first, and what is known at the end
K = 10


def written(frame: pl.DataFrame, file: Path) -> Path:
    """A frame as a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(file)
    return file


def trained(out: Path, *options: str) -> float:
    """Seconds of a training, as it took when it was made."""
    file = out.with_suffix(".seconds")
    if not file.is_file():
        start = time.perf_counter()
        command = [sys.executable, "-m", "genrec", "finetune", "--out", str(out), *options]
        subprocess.run(command, check=True)
        file.write_text(str(time.perf_counter() - start))
    return float(file.read_text())


def measured(run: Path, targets: dict[str, str], histories: dict[str, pl.DataFrame] | None = None) -> dict[str, float]:
    """HR and NDCG at ten, and how many users; histories: instead of those of the run's store."""
    recommender = Recommender.load(run)
    ranks = []
    for user, target in targets.items():
        given = {"users": user} if histories is None else {"history": histories[user]}
        found = recommender.recommend(**given, k=K).frame["item_id"].to_list()  # type: ignore[arg-type]
        ranks.append(found.index(target) if target in found else None)
    gains = [1 / math.log2(r + 2) for r in ranks if r is not None]
    return {"HR@10": len(gains) / len(ranks), "NDCG@10": sum(gains) / len(ranks), "users": len(ranks)}


def main() -> None:
    """Train, record, train on, train anew, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/feedback"), help="folder (default: runs/feedback)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = load_dataset("ml-100k")
    place = pl.int_range(pl.len()).over("user_id") / pl.len().over("user_id")
    ratings = data.interactions.select("user_id", "item_id", "rating", "timestamp").with_columns(place.alias("place"))
    first, known = (ratings.filter(pl.col("place") < share).drop("place") for share in (BEFORE, AFTER))
    later = ratings.filter((pl.col("place") >= BEFORE) & (pl.col("place") < AFTER)).drop("place")
    seen = known.select("user_id", "item_id").unique()
    last = ratings.filter(pl.col("place") >= AFTER).join(seen, on=["user_id", "item_id"], how="anti")
    targets = dict(last.group_by("user_id", maintain_order=True).first().select("user_id", "item_id").iter_rows())
    files = [
        *("--items", str(written(data.items, args.out / "items.parquet"))),
        *("--users", str(written(data.users, args.out / "users.parquet"))),
        *("--task", "next_item", "--seed", str(args.seed)),
    ]
    base, on, anew = (args.out / name for name in ("before", "trained-on", "anew"))
    seconds = {"as it was": 0.0, "later events known": 0.0}
    spent = trained(base, "--interactions", str(written(first, args.out / "first.parquet")), *files)
    old = {user: frame for (user,), frame in first.group_by("user_id")}
    found = {"as it was": measured(base, targets, {u: old[u] for u in targets})}
    store = open_store(base / "store.db")
    dataset = Recommender.load(base).datasets[0]
    rows = [
        {**row, "event_id": f"{row['user_id']}-{row['item_id']}-{n}"}
        for n, row in enumerate(later.iter_rows(named=True))
    ]
    record_events(store, dataset, rows)
    store.close()
    found["later events known"] = measured(base, targets)
    seconds["trained on"] = trained(on, "--resume-from", str(base), "--seed", str(args.seed))
    found["trained on"] = measured(on, targets)
    both = str(written(known, args.out / "known.parquet"))
    seconds["trained anew"] = trained(anew, "--interactions", both, *files)
    found["trained anew"] = measured(anew, targets)
    print(f"\n{len(later):,} later ratings; the run before took {spent:.0f} seconds")
    print(f"{'':22}{'HR@10':>8}{'NDCG@10':>9}{'seconds':>9}")
    for name, own in found.items():
        print(f"{name:22}{own['HR@10']:8.4f}{own['NDCG@10']:9.4f}{seconds[name]:9.0f}")
    (args.out / "feedback.json").write_text(
        json.dumps({"metrics": found, "seconds": seconds, "before": spent}, indent=1)
    )


if __name__ == "__main__":
    main()
