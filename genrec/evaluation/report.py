"""report.html: a run and its results for people, made from the files of the run alone."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..errors import RunError
from ..evaluation import plots
from ..extras import require
from ..files import one_line, read_json, write_text
from ..options import arguments
from ..run.folder import MANIFEST, Run
from .metrics import METRICS, sums_up
from .results import headline, read_log, read_results, results_file

REPORT = "report.html"
TEMPLATE = Path(__file__).with_name("report.html.jinja")
CURVES = ("seen_removed/ndcg@10", *(name for name in METRICS if sums_up(name)))  # the first that a task has
TENTHS = ("training interactions", "items of the lists", "held-out items")


@dataclass(frozen=True)
class _Backbone:
    """The fields of a backbone that the page shows."""

    model: str
    revision: str | None
    blocks: int
    total_blocks: int


@dataclass(frozen=True)
class _Adapter:
    """The fields of an adapter that the page shows, as genrec.json holds them."""

    backbone: _Backbone
    max_events: int


def write_report(run: Path) -> Path:
    """Write RUN/report.html; the path."""
    write_text(run / REPORT, report(run))
    return run / REPORT


def report(run: Path) -> str:
    """The page of an evaluated run; raises RunError if one of its files is missing or cannot be read, UnavailableError
    without matplotlib."""
    require("report")
    import jinja2

    results = read_results(run, "test")
    config = replace(Run(run).config(), out=None)
    log = read_log(run)
    manifest = read_json(Run(run).adapter / MANIFEST, TypeAdapter(_Adapter))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "settings": settings, "headlines": headlines}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    options = shlex.join(arguments(config))
    try:  # of results.json only what other commands read was checked; the page shows all of it
        by_dataset = {name: sections(name, data, log) for name, data in results["datasets"].items()}
        return template.render(
            results=results, manifest=manifest, options=options, seed=config.seed, sections=by_dataset
        )
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, jinja2.TemplateError) as error:
        path = results_file(run, "test")
        raise RunError(f"{path} cannot be shown: {one_line(error)}; `genrec evaluate {run}` writes it anew") from error


def sections(name: str, data: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> dict[str, list[plots.Plot]]:
    """The plots of one data set: of its training, its answers and its lists."""
    training: list[plots.Plot] = []
    answers: list[plots.Plot] = []
    lists: list[plots.Plot] = []
    for task, by_phrasing in data["tasks"].items():
        training += training_plots(name, task, log)
        phrasing, results = next(iter(by_phrasing.items()))
        key = f"{name}/{task}"
        if "reliability" in results:
            caption = f"{task}: is it yes as often as was said? ({phrasing})"
            answers.append(plots.reliability(f"{key}/reliability", caption, results["reliability"]))
        if "coverage" in results:
            caption = f"{task}: how much of the catalogue the lists reach ({phrasing})"
            lists.append(plots.coverage(f"{key}/coverage", caption, results["coverage"]))
            shares = results["popularity"]
            groups = {
                label: [(v, v, v) for v in shares[part]]
                for label, part in zip(TENTHS, ("train", "lists", "held_out"), strict=True)
            }
            caption = f"{task}: where popular items stand, in lists and in what people took ({phrasing})"
            axes = ("tenth of the catalogue, most popular first", "share")
            lists.append(plots.bars(f"{key}/popularity", caption, axes, [str(n) for n in range(1, 11)], groups))
            lists.append(warm_and_cold(key, f"{task}: warm and cold cases ({phrasing})", results["groups"]))
    return {"training": training, "answers": answers, "lists": lists}


def training_plots(name: str, task: str, log: Sequence[Mapping[str, Any]]) -> Iterator[plots.Plot]:
    """A task's training loss and its first metric of CURVES at each validation."""
    key = f"{name}/{task}"
    if loss := [(e["step"], e[f"{key}/loss"]) for e in log if f"{key}/loss" in e]:
        yield plots.curve(f"{key}/loss", f"{task}: loss in training", "loss", loss)
    for metric in CURVES:
        if points := [(e["step"], e[f"eval/{key}/{metric}"]) for e in log if f"eval/{key}/{metric}" in e]:
            yield plots.curve(f"{key}/valid", f"{task}: {metric} on validation", metric, points, 1)
            return


def warm_and_cold(key: str, caption: str, groups: Mapping[str, Any]) -> plots.Plot:
    """NDCG and HR at 10 of warm cases, cold users and cold items."""
    ticks = [f"{g.replace('_', ' ')}\n{group['n']:,} cases" for g, group in groups.items()]
    metrics = {}
    for metric in ("ndcg@10", "hr@10"):
        intervals = [group["metrics"][metric] for group in groups.values()]
        metrics[metric] = [(f["value"], f["low"], f["high"]) for f in intervals]
    return plots.bars(f"{key}/groups", caption, ("", "value with its 95 % interval"), ticks, metrics)


def number(value: float | int | None, digits: int = 4) -> str:
    """A number as the page shows it."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def settings(value: Mapping[str, Any]) -> str:
    """`a=1, b=2`."""
    return ", ".join(f"{k}={v}" for k, v in value.items())


def headlines(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics worth a column."""
    return [m for m in metrics if headline(m)]
