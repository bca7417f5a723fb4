"""The lines of the quality table, from raw files to figures.

Usage: scripts/bench quality NAME|all --data DIR [--out FOLDER] [--runs N] [--no-baselines]

Each line converts its raw files, trains with `genrec finetune`, measures with `genrec evaluate` (or by asking the run,
where the line has a protocol of its own) and writes docs/results/NAME.json and docs/quality.md. The same command goes
on where it was interrupted, and on another machine after the runs that docs/results/runs knows. Settings and goals:
scripts/quality/NAME.yaml.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from quality.lines import LINES, Bench, Row  # noqa: E402
from quality.page import PAGE, RESULTS, SETTINGS, figures_of, page, read_settings  # noqa: E402

from genrec import __version__  # noqa: E402
from genrec.errors import DataError, GenrecError, UnknownNameError  # noqa: E402
from genrec.files import write_text  # noqa: E402

VERSIONS = ("torch", "transformers", "peft", "polars", "scikit-learn")


def measure(
    name: str,
    data: Path,
    out: Path,
    settings_folder: Path,
    results: Path,
    baselines: bool = True,
    runs: int | None = None,
) -> Path:
    """Convert, train and measure one line, and write its results; returns the file. runs: only so many, the first."""
    if name not in LINES:
        raise UnknownNameError("line", name, LINES, "of the quality table")
    settings = read_settings(settings_folder / f"{name}.yaml")
    if runs is not None and not 1 <= runs <= settings["runs"]:
        raise DataError(f"--runs {runs}: {name} has {settings['runs']} runs; allowed: 1 to {settings['runs']}")
    settings["runs"] = runs or settings["runs"]
    options = dict(settings["finetune"])
    options["tasks"] = [str(settings_folder / path) for path in options.get("tasks", [])]
    wanted = baselines and bool(settings.get("baselines"))
    bench = Bench(name, {**settings, "finetune": options}, data, out / name, results, wanted)
    bench.work.mkdir(parents=True, exist_ok=True)
    line = LINES[name]
    if line.convert is not None:
        if not data.is_dir():
            raise DataError(f"--data {data}: there is no such folder; the raw files of {name} are expected in it")
        line.convert(data, bench.files, **settings.get("convert", {}))
    rows = line.measure(bench)
    path = results / f"{name}.json"
    results.mkdir(parents=True, exist_ok=True)
    records = sorted((results / "runs" / name).glob("*.json"))[: runs or None]
    write_text(path, json.dumps(results_of(name, settings, rows, settings["runs"], records), indent=1) + "\n")
    return path


def results_of(name: str, settings: dict[str, Any], rows: list[Row], runs: int, records: list[Path]) -> dict[str, Any]:
    """What is written of a line: figures by row, settings, versions; the same for the same runs. records: of the runs,
    which tell the states of genrec's sources that they were measured at, and whether baselines stand beside them."""
    known = [json.loads(path.read_text(encoding="utf-8")) for path in records]
    return {
        "version": 1,
        "name": name,
        "versions": {"genrec": __version__, **{package: version(package) for package in VERSIONS}},
        "cores": len(os.sched_getaffinity(0)),
        "settings": {key: settings[key] for key in ("convert", "finetune") if key in settings},
        "runs": runs,
        "code": sorted({record["code"] for record in known}),
        "with_baselines": sum(bool(record["found"].get("baselines")) for record in known),
        "rows": [
            {"name": row.name, "seconds": row.seconds, "figures": figures_of(settings, row.metrics, row.values)}
            | {
                key: {part: own for part, values in parts.items() if (own := figures_of(settings, values, {}))}
                for key, parts in (("parts", row.parts), ("over", row.over))
                if parts
            }
            for row in rows
        ],
    }


def main(argv: list[str] | None = None) -> int:
    """Measure one line or all of them; exit 2 for what the caller can mend."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help=f"all, or one of {', '.join(LINES)}")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the raw files")
    parser.add_argument(
        "--out", type=Path, default=Path("build/quality"), metavar="FOLDER", help="runs (default: build/quality)"
    )
    parser.add_argument("--runs", type=int, metavar="N", help="only the first N runs of the line (default: all)")
    parser.add_argument("--no-baselines", action="store_true", help="leave out the baselines of genrec evaluate")
    parser.add_argument(
        "--settings", type=Path, default=SETTINGS, metavar="FOLDER", help="NAME.yaml (default: scripts/quality)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="for NAME.json (default: docs/results)"
    )
    args = parser.parse_args(argv)

    def work() -> None:
        for name in LINES if args.name == "all" else [args.name]:
            path = measure(*(name, args.data, args.out, args.settings, args.results, not args.no_baselines, args.runs))
            print(f"written: {path}")
            if args.results == RESULTS:
                write_text(PAGE, page())

    return exit_status(work)


def exit_status(work: Callable[[], None]) -> int:
    """0 after the work, 2 for what the caller can mend, 130 after Ctrl-C."""
    try:
        work()
    except GenrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
