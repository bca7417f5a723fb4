"""Results of an evaluation as text: the metrics worth a line, and tables beside rivals."""

from collections.abc import Mapping, Sequence
from typing import Any

from .metrics import table_metrics
from .results import headline, with_interval


def summary(results: Mapping[str, Any]) -> str:
    """The metrics worth a line, by data set, task and phrasing, each with its interval."""
    lines = []
    for name, data in results["datasets"].items():
        for task, by_phrasing in data["tasks"].items():
            for phrasing, measured in by_phrasing.items():
                metric_lines = [
                    f"{metric} {with_interval(interval)}"
                    for metric, interval in measured["metrics"].items()
                    if headline(metric) and interval["value"] is not None
                ]
                lines.append(f"{name}, {task}, {phrasing}, {measured['n']:,} cases")
                lines += [f"    {line}" for line in metric_lines]
                lists = measured.get("lists", {})
                lines += ["    lists: " + ", ".join(f"{k} {v:.3f}" for k, v in lists.items())] if lists else []
                for group, group_results in measured.get("groups", {}).items():
                    ndcg = group_results["metrics"]["ndcg@10"]["value"]
                    lines.append(f"    {group.replace('_', ' ')}: ndcg@10 {ndcg:.4f}, {group_results['n']:,} cases")
                if phrasing == "served":
                    lines += part_lines(data.get("parts", {}).get(task, {}))
    return "\n".join([*lines, *tables(results)])


def part_lines(by_part: Mapping[str, Any]) -> list[str]:
    """A table of a task's parts and what all together have over each; nothing if there is only one."""
    if len(by_part) < 2:
        return []
    names = table_metrics(by_part["language model"]["metrics"])
    cells = [["by part", *names, f"all minus this, {names[0]}"]]
    for part, results in by_part.items():
        gain = results.get("difference", {}).get(names[0])
        values = [number_text(results["metrics"].get(m, {}).get("value"), ".4f") for m in names]
        cells.append([part, *values, "" if gain is None else difference_text(gain)])
    return columns(cells)


def tables(results: Mapping[str, Any]) -> list[str]:
    """Lines of one table per task of results that hold baselines: a row per model with quality and cost."""
    lines = []
    for name, data in results["datasets"].items():
        for task, rows in data.get("baselines", {}).items():
            lines += [
                "",
                *table(f"{name}, {task}, beside baselines", data["tasks"][task]["served"], data["cost"], rows),
            ]
        lines += [f"{name}, {line}" for line in data.get("baselines_left_out", [])]
    return lines


def table(title: str, ours: Mapping[str, Any], cost: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a task's table; the difference is ours minus theirs, of the first metric, with its interval."""
    names = table_metrics(m for m in ours["metrics"] if any(m in r["metrics"] for r in rows))
    cells = [["", *names, f"ours minus theirs, {names[0]}", "training s", "predict ms"]]
    for row in [{"name": "genrec", "metrics": ours["metrics"], **cost}, *rows]:
        gain = row.get("difference", {}).get(names[0])
        cells.append(
            [
                row["name"],
                *(number_text(row["metrics"].get(m, {}).get("value"), ".4f") for m in names),
                "" if gain is None else difference_text(gain),
                number_text(row["train_seconds"], ",.1f"),
                number_text(row["predict_ms"], ".2f"),
            ]
        )
    return [f"{title}, {ours['n']:,} cases", *columns(cells)]


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with columns of one width, the first to the left."""
    width = [max(len(line[n]) for line in cells) for n in range(len(cells[0]))]
    rows = [[c[0].ljust(width[0]), *(v.rjust(w) for v, w in zip(c[1:], width[1:], strict=True))] for c in cells]
    return ["    " + "  ".join(row) for row in rows]


def number_text(value: float | None, form: str) -> str:
    """A number, or a dash if there is none."""
    return "-" if value is None else format(value, form)


def difference_text(gain: Mapping[str, float | None]) -> str:
    """A difference with its interval."""
    if gain["value"] is None:
        return "-"
    interval = "" if gain["low"] is None else f" ({gain['low']:+.4f} to {gain['high']:+.4f})"
    return f"{gain['value']:+.4f}{interval}"
