"""Rows per second and peak memory of loading data: generated interactions as CSV, from file to split Dataset.

Every size runs in its own process, so that one peak does not hide another.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

MILLIONS = (0.1, 1.0, 10.0)
CHUNK = 1_000_000  # rows written at a time
LIMIT_GIB = 4.0


def generate(path: Path, rows: int, seed: int = 0) -> None:
    """Interactions of `rows` / 50 users with items of Zipf popularity, in order of time, as CSV."""
    rng = np.random.default_rng(seed)
    users, items = max(rows // 50, 10), max(min(rows // 100, 100_000), 10)
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            n = min(CHUNK, rows - start)
            frame = pl.DataFrame(
                {
                    "user_id": rng.integers(0, users, n),
                    "item_id": (items ** rng.random(n)).astype(np.int64),
                    "rating": rng.integers(1, 6, n),
                    "timestamp": 1_500_000_000 + np.arange(start, start + n) * 3,
                }
            ).with_columns(pl.format("u{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id"))
            frame.write_csv(file, include_header=start == 0)


def measure(path: Path, connection: "multiprocessing.connection.Connection") -> None:
    """Load one file; send seconds, rows and this process's peak memory in GiB."""
    from genrec.data.load import DataOptions, load_dataset

    started = time.perf_counter()
    dataset = load_dataset(None, DataOptions(interactions=path))
    seconds = time.perf_counter() - started
    connection.send((seconds, dataset.interactions.height, peak_bytes() / 2**30))


def peak_bytes() -> int:
    """The most memory that this process has held; on Linux not by getrusage, whose figure a started process has from
    the one that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(rows: int, folder: Path) -> dict[str, float]:
    """One size in a process of its own."""
    path = folder / f"{rows}.csv"
    writer = multiprocessing.get_context("spawn").Process(target=generate, args=(path, rows))
    writer.start()
    writer.join()
    here, there = multiprocessing.Pipe(duplex=False)
    loader = multiprocessing.get_context("spawn").Process(target=measure, args=(path, there))
    loader.start()
    there.close()
    try:
        seconds, loaded, peak = here.recv()
    except EOFError:
        raise SystemExit(f"loading {rows:,} rows failed") from None
    finally:
        loader.join()
    size = path.stat().st_size
    path.unlink()
    return {
        "rows": loaded,
        "file_mb": round(size / 1e6, 1),
        "seconds": round(seconds, 2),
        "rows_per_second": round(loaded / seconds),
        "peak_gib": round(peak, 2),
    }


def main() -> int:
    """Print one line per size; exit 1 where the largest needs more memory than it may."""
    parser = argparse.ArgumentParser(prog="scripts/bench data", description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=MILLIONS, help="sizes in million rows")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    args = parser.parse_args()
    peak = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for millions in args.millions:
            found = run(round(millions * 1e6), Path(folder))
            peak = max(peak, found["peak_gib"])
            if args.json:
                print(json.dumps(found), flush=True)
            else:
                print(
                    f"{found['rows']:>12,} rows  {found['file_mb']:>8,.1f} MB  {found['seconds']:>7.2f} s  "
                    f"{found['rows_per_second']:>10,} rows/s  peak {found['peak_gib']:.2f} GiB",
                    flush=True,
                )
    if peak > LIMIT_GIB:
        print(f"peak {peak:.2f} GiB is above {LIMIT_GIB:.0f} GiB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
