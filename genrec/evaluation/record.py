"""The files of an evaluated run: results.json, cases.parquet and, of the test part, report.html."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import __version__
from ..extras import missing_packages
from ..files import atomic_write, write_text
from .cases import check_cases, read_cases
from .evaluate import Evaluation
from .held_out import Phrasing
from .report import REPORT, write_report
from .results import HeldOutPart, cases_file, read_results, results_file


def write(run: Path, part: HeldOutPart, evaluation: Evaluation) -> list[Path]:
    """Write an evaluation, each file whole or not at all; the paths. Without the extra `report`, report.html is not
    written, and one of earlier results is removed."""
    results, cases = results_file(run, part), cases_file(run, part)
    with atomic_write(cases) as partial:
        evaluation.cases.write_parquet(partial)
    write_text(results, json.dumps(evaluation.results, indent=1, ensure_ascii=False))
    if part != "test":
        return [results, cases]
    if missing_packages("report"):
        (run / REPORT).unlink(missing_ok=True)
        return [results, cases]
    return [results, cases, write_report(run)]


def measured_once(
    run: Path, part: HeldOutPart, phrasings: Sequence[Phrasing], measure: Callable[[Path], Evaluation]
) -> Evaluation:
    """The evaluation of a run in these phrasings by this genrec, read from its files; if they lack it, `measure` makes
    it, and it is written."""
    if results_file(run, part).is_file() and cases_file(run, part).is_file():
        results = read_results(run, part)
        measured = [set(data["read_seconds"]) for data in results["datasets"].values()]
        if results["genrec"] == __version__ and all(set(phrasings) <= names for names in measured):
            cases = read_cases(cases_file(run, part))
            check_cases(cases_file(run, part), cases, results)
            return Evaluation(results, cases)
    evaluation = measure(run)
    write(run, part, evaluation)
    return evaluation
