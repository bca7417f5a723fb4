"""docs/quality.md from docs/results/*.json and scripts/quality/*.yaml."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from genrec.errors import DataError, unknown_name

from .lines import LINES

ROOT = Path(__file__).parents[2]
SETTINGS, RESULTS, PAGE = ROOT / "scripts" / "quality", ROOT / "docs" / "results", ROOT / "docs" / "quality.md"
KEYS = (
    "line",
    "protocol",
    "runs",
    "disjoint",
    "convert",
    "baselines",
    "finetune",
    "figures",
    "published",
    "trials",
    "limits",
)
NEEDED = ("line", "protocol", "runs", "finetune", "figures")
FIGURE = ("of", "lower", "must", "aim")
GOAL = ("value", "best_of", "beaten", "times", "plus", "end")

HEAD = """# Quality

Written by `python scripts/docs.py` from [docs/results](results) and [scripts/quality](../scripts/quality).
`scripts/bench quality NAME --data DIR` measures a line anew, from raw files to these figures, and writes both.

Settings were chosen on validation parts only; a test part is read once, with the settings that are shown. Brackets
are 95 % intervals by bootstrap over users (over texts, where the data has no users). Of several runs (seeds, folds or
draws) the value is the mean, and so are the ends of the interval: runs share their users, so that averaging them does
not narrow it (of folds that share none, deviations add up in squares). What must be reached and what is aimed at was
set before measuring. Baselines and rules are measured on the same cases; published figures are quoted, on other code
and partly on other splits. Minutes are those of training, of all runs of a line together.
"""


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a line; raises DataError where keys are unknown or missing."""
    if not path.is_file():
        raise DataError(f"{path} does not exist: every line of the quality table has its settings there")
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    check_keys(path, "", found, KEYS, NEEDED)
    for name, figure in found["figures"].items():
        check_keys(path, f" in figure {name!r}", figure, FIGURE, ("of",))
        for goal in (*figure.get("must", []), *figure.get("aim", [])):
            check_keys(path, f" in a goal of figure {name!r}", goal, GOAL, ())
    return found


def check_keys(
    path: Path, where: str, found: Mapping[str, Any], known: tuple[str, ...], needed: tuple[str, ...]
) -> None:
    """Raises DataError for an unknown or a missing key."""
    if unknown := [key for key in found if key not in known]:
        raise DataError(f"{path}: {unknown_name('key', unknown[0], known, where.strip())}")
    if missing := [key for key in needed if key not in found]:
        raise DataError(f"{path}: no key {missing[0]!r}{where}")


def figures_of(
    settings: Mapping[str, Any], metrics: Mapping[str, Any], values: Mapping[str, list[Any]]
) -> dict[str, dict[str, Any]]:
    """The figures of a line among a row's metrics, under the names that the page shows."""
    found = {}
    for name, figure in settings["figures"].items():
        if (metric := metrics.get(figure["of"])) is not None:
            more = {"values": values[figure["of"]]} if len(values.get(figure["of"], [])) > 1 else {}
            found[name] = {**metric, **more}
    return found


# --- goals --------------------------------------------------------------------------------------------------------


def bound(goal: Mapping[str, Any], name: str, lower: bool, rows: Mapping[str, Any]) -> tuple[float | None, str]:
    """The value that a goal asks for, None where it depends on what was not measured, and the goal in words."""
    least = "at most" if lower else "at least"
    if "value" in goal:
        end = {"low": "the interval's lower end ", "high": "the interval's upper end "}.get(goal.get("end", ""), "")
        return goal["value"], f"{end}{least} {goal['value']:g}"
    wanted = goal["best_of"]
    beside = [rows[row]["figures"][name]["value"] for row in wanted if row in rows and name in rows[row]["figures"]]
    factor, plus = goal.get("times", 1.0), goal.get("plus", 0.0)
    of = wanted[0] if len(wanted) == 1 else f"the best of {', '.join(wanted)}"
    words = f"{least} {f'{factor:g} x ' if factor != 1 else ''}{of}{f' {plus:+g}' if plus else ''}"
    known = [value for value in beside if value is not None]
    if len(known) < len(wanted):
        return None, words
    best = (min if lower else max)(known)
    return best * factor + plus, f"{words} ({best * factor + plus:.4g})"


def judged(goal: Mapping[str, Any], name: str, figure: Mapping[str, Any], rows: Mapping[str, Any]) -> tuple[str, str]:
    """`reached`, `missed` or `not measured`, and the goal in words."""
    lower = bool(figure.get("lower"))
    if "beaten" in goal:
        return beaten(goal["beaten"], name, lower, rows.get("genrec", {}).get("over", {}))
    wanted, words = bound(goal, name, lower, rows)
    own = rows.get("genrec", {}).get("figures", {}).get(name, {}).get(goal.get("end", "value"))
    if wanted is None or own is None:
        return "not measured", words
    return ("reached" if (own <= wanted if lower else own >= wanted) else "missed"), words


def beaten(rivals: Sequence[str], name: str, lower: bool, over: Mapping[str, Any]) -> tuple[str, str]:
    """Whether the paired interval of the difference from each rival lies on the better side of 0."""
    words = f"better than {' and '.join(rivals)}, paired"
    gains = [over[rival][name] for rival in rivals if name in over.get(rival, {})]
    if len(gains) < len(rivals):
        return "not measured", words
    shown = ", ".join(f"{g['value']:+.4f}: {g['low']:+.4f} to {g['high']:+.4f}" for g in gains)
    reached = all(g["high"] < 0 if lower else g["low"] > 0 for g in gains)
    return "reached" if reached else "missed", f"{words} ({shown})"


# --- the page -----------------------------------------------------------------------------------------------------


def results_of(results: Path, name: str) -> Any:
    """The measured results of a name, None before."""
    path = results / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def page(settings: Path = SETTINGS, results: Path = RESULTS) -> str:
    """The whole of docs/quality.md."""
    parts = [HEAD, "| line | figure | measured | must | aim |\n|---|---|---|---|---|"]
    sections = []
    for name, own in every_line(settings):
        found = results_of(results, name)
        rows = {row["name"]: row for row in found["rows"]} if found else {}
        parts.append("\n".join(summary_rows(name, own, rows)))
        sections.append(section(name, own, found, rows))
    more = filter(None, [parts_section(settings, results), ablation_section(results)])
    return "\n".join(parts) + "\n\n" + "\n".join([*more, *sections])


PARTS = ("language model", "counts", "texts", "counts and texts", "all")
PARTS_HEAD = """## What each part brings

Every task from the same states by part (`genrec evaluate`): the language model alone; counts (neighbours, effects,
visits), texts (how like they are to the history's) and both, with weights fitted to validation without the model; all
together. The last column is all together minus the best of the others, with a paired interval (of several runs the
means of value and ends); above 0 is better, of errors below 0. At worst: the worse end, in shares of the best part.
"""


def parts_section(settings: Path, results: Path) -> str:
    """The table of every line's parts, of those that were measured by part; nothing if there are none."""
    rows = list(parts_rows(settings, results))
    lines = [PARTS_HEAD, "| line | figure | " + " | ".join(PARTS) + " | all minus the best |", "|---" * 8 + "|"]
    return "\n".join([*lines, *rows, ""]) if rows else ""


ABLATION_HEAD = """## What pretrained weights and texts bring

`scripts/bench ablation --data DIR`: the same training with one thing left out, one seed, the same cases. A body of
random weights is drawn with the spread of each of its matrices; minutes are those of training. The last column is the
variant minus the run as it is, with a paired interval.
"""


def ablation_section(results: Path) -> str:
    """The table of the ablation, of what was measured so far; nothing before."""
    found = results_of(results, "ablation")
    if found is None:
        return ""
    lines = [ABLATION_HEAD, "| line | figure | variant | language model | all | minutes | change |", "|---" * 7 + "|"]
    for row in found["rows"]:
        values, change = [f"{row[part]['value']:.4f}" for part in ("language model", "all")], row.get("difference")
        ends = "" if change is None else f"{change['value']:+.4f} ({change['low']:+.4f} to {change['high']:+.4f})"
        cells = [
            f"[{row['set']}](#{row['set']})",
            row["metric"],
            row["variant"],
            *values,
            f"{row['seconds'] / 60:.0f}",
            ends,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def parts_rows(settings: Path, results: Path) -> Iterator[str]:
    """The rows of that table."""
    for name, own in every_line(settings):
        for row in (results_of(results, name) or {"rows": []})["rows"]:
            for figure, spec in own["figures"].items():
                of = {part: figures[figure] for part, figures in row.get("parts", {}).items() if figure in figures}
                if len(of) > 1:
                    yield parts_row(name, figure, spec, of, row.get("over", {}))


def parts_row(name: str, figure: str, spec: Mapping[str, Any], of: Mapping[str, Any], over: Mapping[str, Any]) -> str:
    """One figure by part."""
    alone = {part: value["value"] for part, value in of.items() if part != "all" and value["value"] is not None}
    best = (min if spec.get("lower") else max)(alone, key=lambda part: alone[part])
    gain = over.get(best, {}).get(figure)
    cells = [f"{of[part]['value']:.4f}" if part in of else "" for part in PARTS]
    ends = ""
    if gain is not None:
        worst = (-gain["high"] if spec.get("lower") else gain["low"]) / alone[best]
        ends = f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f}; {100 * worst:+.1f} % at worst)"
    return "| " + " | ".join([f"[{name}](#{name})", figure, *cells, ends]) + " |"


FIRST_SCREEN = {"beauty": "N@10, seen removed", "ml-100k-rating": "RMSE", "mind-sample": "AUC"}  # a figure of each line
BLOCK = re.compile(r"(<!-- parts, written by scripts/docs.py -->\n)(.*?)(\n\n)", re.DOTALL)


def with_parts(readme: str, settings: Path = SETTINGS, results: Path = RESULTS) -> str:
    """The text of README.md with three lines of that table, those of them that are measured."""
    lines = [f"| measured by part | {' | '.join(PARTS)} |", "|---" * (1 + len(PARTS)) + "|"]
    for name, figure in FIRST_SCREEN.items():
        own, found = read_settings(settings / f"{name}.yaml"), results_of(results, name)
        parts = found["rows"][0].get("parts", {}) if found else {}
        if parts:
            cells = [f"{parts[p][figure]['value']:.3f}" if figure in parts.get(p, {}) else "" for p in PARTS]
            less = " (the less the better)" if own["figures"][figure].get("lower") else ""
            lines.append(f"| {own['line']}: {figure.split(',')[0]}{less} | " + " | ".join(cells) + " |")
    return BLOCK.sub(lambda block: block[1] + "\n".join(lines) + block[3], readme)


def every_line(settings: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and settings of the lines, in the order of the table."""
    for name in LINES:
        yield name, read_settings(settings / f"{name}.yaml")


def summary_rows(name: str, own: Mapping[str, Any], rows: Mapping[str, Any]) -> Iterator[str]:
    """The line's figures in the table at the top."""
    measured = rows.get("genrec", {}).get("figures", {})
    for figure, spec in own["figures"].items():
        if not (spec.get("must") or spec.get("aim")):
            continue
        cells = [f"[{name}](#{name})", figure, shown(measured.get(figure))]
        for kind in ("must", "aim"):
            states = [judged(goal, figure, spec, rows) for goal in spec.get(kind, [])]
            cells.append("; ".join(f"{words}: {state}" if rows else words for state, words in states))
        yield "| " + " | ".join(cells) + " |"


def shown(value: Mapping[str, Any] | None) -> str:
    """`0.0983 (0.091 to 0.106)`."""
    if value is None or value["value"] is None:
        return "not measured"
    ends = value["low"] is not None and value["high"] is not None
    return f"{value['value']:.4f}" + (f" ({value['low']:.4f} to {value['high']:.4f})" if ends else "")


def section(name: str, own: Mapping[str, Any], found: Mapping[str, Any] | None, rows: Mapping[str, Any]) -> str:
    """A line's own part of the page."""
    lines = [f"## {name}", "", f"{own['line']}. {own['protocol'].strip()}", ""]
    if found is None:
        lines += ["Not measured yet.", ""]
    figures = [*own["figures"]]
    if found is not None or own.get("published"):
        lines += ["| | " + " | ".join(figures) + " | minutes |", "|---" * (len(figures) + 2) + "|"]
        for row in rows.values():
            cells = [shown(row["figures"][f]) if f in row["figures"] else "" for f in figures]
            minutes = "" if row["seconds"] is None else f"{row['seconds'] / 60:.0f}"
            title = f"**genrec**{runs_in_words(found, own)}" if row["name"] == "genrec" else row["name"]
            lines.append(f"| {title} | " + " | ".join(cells) + f" | {minutes} |")
        for row in own.get("published", []):
            cells = [f"{row['figures'][f]:g}" if f in row["figures"] else "" for f in figures]
            lines.append(f"| {row['name']}, published | " + " | ".join(cells) + " | |")
        lines.append("")
    missed = False
    for figure, spec in own["figures"].items():
        for kind in ("must", "aim"):
            for goal in spec.get(kind, []):
                state, words = judged(goal, figure, spec, rows)
                missed |= state == "missed"
                if found is not None:
                    lines.append(f"- {figure}, {'aim' if kind == 'aim' else 'must'}: {words}: **{state}**")
    if found is not None:
        lines.append("")
        lines += baselines_in_words(own, rows)
        lines += [f"Settings: {settings_in_words(found)}. {found['cores']} cores; {versions_in_words(found)}.", ""]
        if 0 < found.get("with_baselines", 0) < found["runs"]:
            lines += [f"Baselines stand beside {found['with_baselines']} of its runs.", ""]
        if len(found.get("code", [])) > 1:
            lines += [f"Its runs were measured at {len(found['code'])} states of the code.", ""]
    if missed:
        lines += missed_in_words(own)
    return "\n".join(lines)


def runs_in_words(found: Mapping[str, Any] | None, own: Mapping[str, Any]) -> str:
    """`, 3 runs`, or `, 1 of 3 runs` while the others are not measured."""
    if found and found["runs"] < own["runs"]:
        return f", {found['runs']} of {own['runs']} runs"
    return f", {found['runs']} runs" if found and found["runs"] > 1 else ""


def baselines_in_words(own: Mapping[str, Any], rows: Mapping[str, Any]) -> list[str]:
    """Says so where baselines belong beside the figures and were not measured."""
    if own.get("baselines") and not [row for row in rows if row != "genrec"]:
        return ["The baselines of the same run were not measured.", ""]
    return []


def settings_in_words(found: Mapping[str, Any]) -> str:
    """`split given, task next_item, minutes 40`."""
    options = {**found["settings"].get("convert", {}), **found["settings"]["finetune"]}
    texts = {key: " ".join(map(str, v)) if isinstance(v, list) else str(v) for key, v in options.items()}
    return ", ".join(f"`{key} {value}`" for key, value in texts.items())


def versions_in_words(found: Mapping[str, Any]) -> str:
    """`genrec 0.1.0, torch 2.13.0`."""
    return ", ".join(f"{package} {number}" for package, number in found["versions"].items())


def missed_in_words(own: Mapping[str, Any]) -> list[str]:
    """What was tried for a line that misses a goal, and what limits it."""
    lines = []
    if trials := own.get("trials"):
        lines += ["Tried, on validation:", "", *(f"- {trial}" for trial in trials), ""]
    if limits := own.get("limits"):
        lines += [f"What limits it: {limits.strip()}", ""]
    return lines
