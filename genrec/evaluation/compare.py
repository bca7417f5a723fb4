"""Runs side by side on the cases that they share, with paired intervals of their differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..errors import DataError, RunError
from .bootstrap import mean_intervals, metric_intervals
from .cases import (
    answers_of,
    as_json,
    check_cases,
    finite,
    measure_of,
    plain_ece,
    rank_values,
    ranks_of,
    read_cases,
    user_aucs,
)
from .results import HeldOutPart, cases_file, headline, read_results, with_interval

KEY = ("dataset", "task", "phrasing", "about", "case")


def compare(runs: Sequence[Path], part: HeldOutPart) -> dict[str, Any]:
    """Every run beside the first (docs/json.md, `genrec compare`).

    Raises DataError for fewer than two runs, RunError for a run without results, on other data or of another part.
    """
    if len(runs) < 2:
        raise DataError(f"give at least two runs to compare ({len(runs)} given)")
    results = [read_results(run, part) for run in runs]
    cases = [with_repeat_numbers(read_cases(cases_file(run, part))) for run in runs]
    comparisons = []
    for run, theirs, table in zip(runs[1:], results[1:], cases[1:], strict=True):
        check(runs[0], results[0], run, theirs)
        for path, run_results, run_cases in ((runs[0], results[0], cases[0]), (run, theirs, table)):
            check_cases(cases_file(path, part), run_cases, run_results)
        comparisons += [
            {"run": str(run), **comparison} for comparison in comparisons_of(results[0], cases[0], theirs, table)
        ]
    return {"version": 1, "part": part, "reference": str(runs[0]), "comparisons": comparisons}


def check(first: Path, ours: Mapping[str, Any], run: Path, theirs: Mapping[str, Any]) -> None:
    """Both runs were measured on the same part of the same data; raises RunError if they were not."""
    if ours["part"] != theirs["part"]:
        raise RunError(f"{first} was measured on the {ours['part']} part, {run} on the {theirs['part']} part")
    both = [name for name in ours["datasets"] if name in theirs["datasets"]]
    if not both:
        names = [", ".join(r["datasets"]) for r in (ours, theirs)]
        raise RunError(f"{first} and {run} have no data set in common: {names[0]}; {names[1]}")
    for name in both:
        prints = [r["datasets"][name]["fingerprint"] for r in (ours, theirs)]
        if prints[0] != prints[1]:
            raise RunError(
                f"{first} and {run} were measured on different data or splits of {name} "
                f"(fingerprints {prints[0]} and {prints[1]}); only cases of the same data can be compared"
            )


def with_repeat_numbers(cases: pl.DataFrame) -> pl.DataFrame:
    """The cases with `again`, which tells apart those that were drawn more than once."""
    return cases.with_columns(pl.int_range(pl.len()).over(KEY).alias("again"))


def comparisons_of(
    ours: Mapping[str, Any], our_cases: pl.DataFrame, theirs: Mapping[str, Any], their_cases: pl.DataFrame
) -> list[dict[str, Any]]:
    """One entry per data set, task and phrasing that both have."""
    both = our_cases.join(their_cases, on=[*KEY, "again"], how="inner", maintain_order="left", suffix="_theirs")
    comparisons = []
    for key in our_cases.select(KEY[:3]).unique(maintain_order=True).iter_rows():
        fields = dict(zip(KEY[:3], key, strict=True))
        shared = both.filter(**fields)
        if not shared.height:
            continue
        name, task, _ = key
        answers = [r["datasets"][name]["answers"][task] for r in (ours, theirs)]
        if any(answers[0][name] != answers[1][name] for name in ("words", "values")):
            raise RunError(
                f"{name}, {task}: the runs know different answers: {answers[0]['words']}; {answers[1]['words']}"
            )
        if (shared["answer"] != shared["answer_theirs"]).any():
            raise RunError(f"{name}, {task}: the runs were asked the same and held different answers to be right")
        thresholds = [r["datasets"][name]["thresholds"].get(task) for r in (ours, theirs)]
        columns = ["answer", "number", "weight", "ranks_removed", "ranks_kept", "probabilities"]
        tables = [
            shared.select("about", *columns),
            shared.select("about", *(pl.col(f"{c}_theirs").alias(c) for c in columns)),
        ]
        comparisons.append(
            {
                **fields,
                "cases": [t.filter(**fields).height for t in (our_cases, their_cases)],
                "shared": shared.height,
                "metrics": differences(tables[0], tables[1], tuple(answers[0]["values"]), thresholds),
            }
        )
    return comparisons


def differences(
    ours: pl.DataFrame, theirs: pl.DataFrame, values: tuple[float, ...], thresholds: Sequence[float | None]
) -> dict[str, dict[str, Any]]:
    """Per metric the reference's value, the other's, and the second minus the first with its interval; the draws are
    the same for both."""
    about = ours["about"].to_list()
    if ours["probabilities"].null_count():
        listed, beside = (rank_values(*ranks_of(t)) for t in (ours, theirs))
        intervals = mean_intervals({m: beside[m] - listed[m] for m in listed}, about)
        pairs = {m: (float(listed[m].mean()), float(beside[m].mean())) for m in listed}
    else:
        measures = [
            measure_of(answers_of(t), values, limit) for t, limit in zip((ours, theirs), thresholds, strict=True)
        ]

        def metric_differences(factor: np.ndarray) -> dict[str, float]:
            reference, other = (m(factor) for m in measures)
            return {name: other[name] - reference[name] for name in reference}

        intervals = plain_ece(metric_intervals(metric_differences, about))
        reference, other = (m(np.ones(len(about))) for m in measures)
        pairs = {m: (reference[m], other[m]) for m in reference}
        if None not in thresholds:
            (first, users), (second, _) = (user_aucs(answers_of(t), about) for t in (ours, theirs))
            if len(users) > 1:
                intervals |= mean_intervals({"user_auc": second - first}, users)
                pairs["user_auc"] = float(first.mean()), float(second.mean())
    entries = as_json(intervals)
    return {
        m: {"reference": finite(pairs[m][0]), "value": finite(pairs[m][1]), "difference": entries[m]} for m in entries
    }


def table(results: Mapping[str, Any]) -> str:
    """One table per data set, task and phrasing: the metrics worth a line, by run."""
    lines = []
    keys = dict.fromkeys((c["dataset"], c["task"], c["phrasing"]) for c in results["comparisons"])
    for key in keys:
        lines += [", ".join(key), f"    {'':24} {'reference':>10} {'this':>10}  difference (95 % interval)"]
        for comparison in results["comparisons"]:
            if (comparison["dataset"], comparison["task"], comparison["phrasing"]) != key:
                continue
            first, second = comparison["cases"]
            shared = f"{comparison['shared']:,} shared cases of {first:,} and {second:,}"
            lines.append(f"  {comparison['run']} against {results['reference']}: {shared}")
            for metric, values in comparison["metrics"].items():
                if headline(metric) and values["value"] is not None and values["reference"] is not None:
                    pair = f"{values['reference']:>10.4f} {values['value']:>10.4f}"
                    lines.append(f"    {metric:24} {pair}  {with_interval(values['difference'])}")
    return "\n".join(lines)
