"""--minutes: the whole command keeps to it; the time of earlier tries counts; without it nothing looks at a clock."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from genrec.errors import UnavailableError
from genrec.progress import Progress
from genrec.run.config import FinetuneConfig
from genrec.run.folder import Run
from genrec.training.budget import Budget, TimeLimit
from genrec.training.finetune import finetune


@pytest.fixture
def config(toy_files: Path, tmp_path: Path) -> FinetuneConfig:
    """A training of four epochs on the chain world, with a budget that it does not need."""
    return FinetuneConfig(
        interactions=str(toy_files / "chain.csv"),
        items=str(toy_files / "items.csv"),
        model=str(toy_files / "tiny"),
        out=str(tmp_path / "run"),
        epochs=4,
        minutes=600,
        patience=4,
    )


def log_of(config: FinetuneConfig) -> list[dict[str, float]]:
    """The log of a run."""
    return [json.loads(line) for line in (Path(config.out or "") / "metrics.jsonl").read_text().splitlines()]


def validations(config: FinetuneConfig) -> list[float]:
    """The steps of the validations."""
    return [e["step"] for e in log_of(config) if "eval/criterion" in e]


def test_a_budget_that_is_not_needed_changes_nothing_but_the_report(config: FinetuneConfig) -> None:
    """All steps are done, the rate falls to nothing, and the last line says what was asked and what was taken."""
    lines: list[str] = []
    finetune(config, lines.append)
    assert validations(config)[-1] == 4 * validations(config)[0]
    rates = [e["learning_rate"] for e in log_of(config) if "learning_rate" in e]
    assert rates[1:] == sorted(rates[1:], reverse=True) and rates[-1] < 0.1 * config.lr < rates[1]  # after the warmup
    assert not any("test part is measured" in line or "too few to learn from" in line for line in lines)
    assert lines[-1].startswith("took ") and lines[-1].endswith(" of 600 minutes")


def test_a_budget_that_reading_alone_takes(config: FinetuneConfig) -> None:
    """It is said; one step is done, validated and kept, and the run is finished."""
    lines: list[str] = []
    finished = finetune(config, lines.append, spent=1e6)
    assert any("minutes have passed before the first step" in line for line in lines)
    assert any("of the test part is measured" in line for line in lines) or "test: " in " ".join(lines)
    assert validations(config) == [1]
    (early,) = [line for line in lines if "only 1 step of " in line]
    assert early.endswith("too few to learn from: give more --minutes, or fewer blocks (--layers 1)")
    assert Run(finished.folder).finished and "keeping step 1, the best of the validations" in lines


def test_the_time_of_earlier_tries_counts(config: FinetuneConfig) -> None:
    """An interrupted try writes down what it took; with nothing left, the next one finishes the best step it finds."""
    run = Run(Path(config.out or ""))

    def stop(stage: str, done: int, total: int, latest: Mapping[str, float]) -> None:
        if stage == "training" and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(config, progress=Progress(stop))
    before = validations(config)
    assert before and 0 < json.loads(run.seconds.read_text()) < 600 * 60
    run.seconds.write_text(str(600 * 60 + 1.0))
    lines: list[str] = []
    finetune(config, lines.append)
    assert run.finished and validations(config) == before
    assert lines[-1].startswith("took 600.") or lines[-1].startswith("took 601")


def test_two_runs_without_a_budget_are_equal(config: FinetuneConfig, tmp_path: Path) -> None:
    """No clock is read: the same command gives the same weights."""
    weights = []
    for name in ("a", "b"):
        out = tmp_path / name
        finetune(replace(config, minutes=None, epochs=1, out=str(out)))
        weights.append((out / "adapter" / "item_rows.safetensors").read_bytes())
        assert not Run(out).seconds.exists()
    assert weights[0] == weights[1]


def test_several_processes_keep_no_time(config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their clocks would stop them at different steps: refused instead of waiting for each other."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UnavailableError, match="--minutes bounds a training in one process, not in 2"):
        finetune(config)


def test_the_share_of_the_time() -> None:
    """Steps run from second 10 to 110; the share is of those, and a step that would pass the end is not begun."""
    for used, share, fits in ((0, 0, True), (10, 0, True), (60, 0.5, True), (99, 0.89, True), (104, 0.94, False)):
        limit = TimeLimit(Budget(200, spent=used), 10, 110, 1.0, 5.0)
        assert limit.share == pytest.approx(share, abs=0.01)
        assert limit.is_reached(2.0, 5.0) != fits
    slow = TimeLimit(Budget(200, spent=60), 10, 110, 1.0, 5.0)
    assert not slow.is_reached(2.0, None)  # a machine half as fast: 2 s and 10 s
    assert slow.is_reached(9.0, None)  # a ninth: 9 s and 45 s
    assert TimeLimit(Budget(200, spent=500), 10, 110, 1.0, 5.0).share == 1
    assert not Budget().is_limited and Budget().left == float("inf")
