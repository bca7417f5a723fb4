"""The files of an evaluated run: results.json, cases.parquet and, of the test part, report.html."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .. import __version__
from ..errors import RunError
from ..extras import missing_packages
from ..files import atomic_write, one_line, write_text
from ..run.card import Measured, update_card
from ..run.folder import Run
from .cases import check_cases, read_cases
from .evaluate import Evaluation
from .held_out import Phrasing
from .report import REPORT, write_report
from .results import HeldOutPart, cases_file, headline, read_results, results_file

log = logging.getLogger(__name__)


def write(run: Path, part: HeldOutPart, evaluation: Evaluation) -> list[Path]:
    """Write an evaluation, each file whole or not at all; the paths. Without the extra `report`, report.html is not
    written, and one of earlier results is removed."""
    results, cases = results_file(run, part), cases_file(run, part)
    with atomic_write(cases) as partial:
        evaluation.cases.write_parquet(partial)
    write_text(results, json.dumps(evaluation.results, indent=1, ensure_ascii=False))
    if part != "test":
        return [results, cases]
    if measured := list(served_metrics(evaluation)):
        try:
            update_card(Run(run).adapter, results=measured)
        except (OSError, RunError) as error:
            log.warning("the adapter's card stays as it was: %s", one_line(error))
    if missing_packages("report"):
        (run / REPORT).unlink(missing_ok=True)
        return [results, cases]
    return [results, cases, write_report(run)]


def served_metrics(evaluation: Evaluation) -> Iterator[Measured]:
    """The metrics of an evaluation worth a line, as they are served."""
    for dataset, data in evaluation.results["datasets"].items():
        for task, by_phrasing in data["tasks"].items():
            for metric, interval in by_phrasing.get("served", {"metrics": {}})["metrics"].items():
                if headline(metric) and interval["value"] is not None:
                    yield Measured(dataset, task, metric, interval["value"], interval["low"], interval["high"])


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
