"""The files of an evaluated run: results.json, cases.parquet and, of the test part, report.html."""

import json
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..evaluation.cases import check_cases, read_cases
from ..evaluation.held_out import Phrasing
from ..evaluation.report import write_report
from ..evaluation.results import HeldOutPart, cases_file, read_results, results_file
from ..files import whole, write_text
from .evaluate import Evaluation, Progress, evaluate


def write(run: Path, part: HeldOutPart, found: Evaluation) -> list[Path]:
    """Write what was measured, each file whole or not at all; the paths."""
    results, cases = results_file(run, part), cases_file(run, part)
    with whole(cases) as partial:
        found.cases.write_parquet(partial)
    write_text(results, json.dumps(found.results, indent=1, ensure_ascii=False))
    return [results, cases, *([write_report(run)] if part == "test" else [])]


def measured_once(run: Path, part: HeldOutPart, phrasings: Sequence[Phrasing], progress: Progress | None) -> Evaluation:
    """What was measured of a run in these phrasings by this genrec, which is done and written where it was not."""
    if results_file(run, part).is_file() and cases_file(run, part).is_file():
        results = read_results(run, part)
        asked = [set(data["read_seconds"]) for data in results["datasets"].values()]
        if results["genrec"] == __version__ and all(set(phrasings) <= own for own in asked):
            cases = read_cases(cases_file(run, part))
            check_cases(cases_file(run, part), cases, results)
            return Evaluation(results, cases)
    found = evaluate(run, part=part, phrasings=phrasings, progress=progress)
    write(run, part, found)
    return found
