"""What the pretrained weights and the texts bring, by leaving them out.

Usage: scripts/bench ablation --data DIR [--set NAME ...] [--variant NAME ...] [--out FOLDER] [--results FOLDER]

Every variant is trained with `genrec finetune` on each data set, as its line of the quality table is, with one seed,
and measured by `genrec evaluate` on the same cases; `difference` is the variant minus the run as it is, with a paired
interval. The same command goes on where it was interrupted; the results so far are in docs/results/ablation.json.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench_quality import exit_status  # noqa: E402
from quality import converters  # noqa: E402
from quality.lines import LINES, Bench, call, finetune, only, seconds_of  # noqa: E402
from quality.page import RESULTS, SETTINGS, read_settings  # noqa: E402

from genrec.errors import RunError, UnknownNameError  # noqa: E402
from genrec.evaluation.cases import read_cases  # noqa: E402
from genrec.evaluation.compare import differences  # noqa: E402
from genrec.evaluation.results import cases_file  # noqa: E402
from genrec.files import write_text  # noqa: E402
from genrec.model.backbone import load_backbone  # noqa: E402
from genrec.run.config import FinetuneConfig  # noqa: E402

Options = dict[str, Any]
SETS = ("ml-100k", "beauty", "ml-latest-small", "clothing")
METRICS = {"clothing": "sentiment/macro_f1"}  # of the task that a set is about; the others' is NDCG@10
NDCG = "next_item/seen_removed/ndcg@10"
REFERENCE = "as it is"


def random_backbone(model: str, folder: Path, words: bool) -> Path:
    """A backbone with weights drawn anew, each matrix with its own spread, norms at 1; words: its word embeddings,
    too."""
    if not (folder / "config.json").is_file():
        backbone = load_backbone(model)
        torch.manual_seed(0)
        with torch.no_grad():
            for name, weight in backbone.model.named_parameters():
                if weight.ndim < 2:
                    weight.fill_(1.0)
                elif words or "embed" not in name:
                    weight.copy_(torch.randn_like(weight) * weight.float().std())
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        backbone.model.save_pretrained(partial)
        backbone.tokenizer.save_pretrained(partial)
        partial.rename(folder)
    return folder


def without_texts(bench: Bench, options: Options) -> Options:
    """Options with a catalogue of ids alone."""
    ids = bench.work / "ids.parquet"
    if "items" in options:
        converters.write(pl.read_parquet(options["items"]).select("item_id"), ids)
        return {**options, "items": str(ids)}
    from genrec.data.load import DataOptions, load_dataset

    (name,) = bench.settings["finetune"]["names"]
    found = load_dataset(name, DataOptions(split="random")).interactions
    kept = [c for c in ("user_id", "item_id", "rating", "timestamp") if c in found.columns]
    converters.write(found.select(kept), bench.work / "interactions.parquet")
    converters.write(found.select(pl.col("item_id").unique(maintain_order=True)), ids)
    return {"names": [], "interactions": str(bench.work / "interactions.parquet"), "items": str(ids)}


def variants(bench: Bench, options: Options, out: Path) -> dict[str, Callable[[], Options]]:
    """The options of every variant of a data set's run."""

    model = str(bench.settings["finetune"].get("model", FinetuneConfig.model))

    def minutes() -> float:
        return max(1.0, seconds_of(bench, slug(REFERENCE)) / 60)

    made: dict[str, Callable[[], Options]] = {
        REFERENCE: lambda: options,
        "random body": lambda: {**options, "model": str(random_backbone(model, out / "random-body", False))},
        "random body and words": lambda: {**options, "model": str(random_backbone(model, out / "random-words", True))},
        "all 30 blocks, equal minutes": lambda: {**options, "layers": 30, "minutes": minutes()},
    }
    if bench.name != "clothing":  # whose answers are about texts of their own
        made |= {
            "no item texts": lambda: without_texts(bench, options),
            "texts by MiniLM": lambda: {**options, "item_text_model": "minilm"},
        }
    return made


def slug(variant: str) -> str:
    """The folder of a variant."""
    return variant.replace(",", "").replace(" ", "-")


def measured(run: Path) -> dict[str, Any]:
    """The results of the one data set of a run, measured once."""
    path = run / "results.json"
    if not path.is_file():
        call(["evaluate", str(run), "--phrasing", "served"])
    return dict(only(json.loads(path.read_text(encoding="utf-8"))["datasets"]))


def row_of(name: str, variant: str, bench: Bench, run: Path, reference: Path) -> dict[str, Any]:
    """One variant's figures: the whole and the language model alone, and the paired difference of the whole."""
    metric = METRICS.get(name, NDCG)
    task, figure = metric.split("/", 1)
    found = measured(run)
    row: dict[str, Any] = {
        "set": name,
        "variant": variant,
        "metric": metric,
        "seconds": seconds_of(bench, slug(variant)),
        "all": found["tasks"][task]["served"]["metrics"][figure],
        "language model": found["parts"][task]["language model"]["metrics"][figure],
    }
    if run != reference:
        values = tuple(found["answers"][task]["values"])
        both = [read_cases(cases_file(r, "test")).filter(task=task).sort("about", "case") for r in (reference, run)]
        if not both[0].select("about", "case").equals(both[1].select("about", "case")):
            raise RunError(f"{run} was not asked the same as {reference}")
        row["difference"] = differences(*both, values, (None, None))[figure]["difference"]
    return row


def main(argv: list[str] | None = None) -> int:
    """Measure the variants of the data sets; exit 2 for what the caller can mend."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the raw files")
    parser.add_argument("--set", action="append", metavar="NAME", help=f"of {', '.join(SETS)} (default: all)")
    parser.add_argument("--variant", action="append", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--out", type=Path, default=Path("build/ablation"), metavar="FOLDER")
    parser.add_argument("--settings", type=Path, default=SETTINGS, metavar="FOLDER")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    args = parser.parse_args(argv)

    def work() -> None:
        for name in args.set or SETS:
            if name not in SETS:
                raise UnknownNameError("data set", name, SETS, "of the ablation")
            measure(name, args.data, args.out, args.settings, args.results, args.variant)

    return exit_status(work)


def measure(
    name: str, data: Path, out: Path, settings_folder: Path, results: Path, chosen: list[str] | None = None
) -> Path:
    """Train and measure the variants of one data set, and write each beside those that are known; returns the file."""
    settings = read_settings(settings_folder / f"{name}.yaml")
    options: Mapping[str, Any] = settings["finetune"]
    own = {**options, "tasks": [str(settings_folder / path) for path in options.get("tasks", [])]}
    bench = Bench(name, {**settings, "finetune": own, "runs": 1}, data, out / name, results, False)
    bench.work.mkdir(parents=True, exist_ok=True)
    line = LINES[name]
    if line.convert is not None:
        line.convert(data, bench.files, **settings.get("convert", {}))
    ((_, of_run),) = line.runs(bench)
    made = variants(bench, of_run, out.resolve())
    for variant in chosen or made:
        if variant not in made:
            raise UnknownNameError("variant", variant, made, f"of {name}")
    path = results / "ablation.json"
    results.mkdir(parents=True, exist_ok=True)
    for variant in dict.fromkeys([REFERENCE, *(chosen or made)]):
        run = finetune(bench, slug(variant), made[variant]())
        row = row_of(name, variant, bench, run, bench.work / slug(REFERENCE))
        known = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
        kept = [k for k in known if (k["set"], k["variant"]) != (name, variant)]
        write_text(path, json.dumps({"version": 1, "rows": [*kept, row]}, indent=1) + "\n")
        print(yaml.safe_dump(row, sort_keys=False), flush=True)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
