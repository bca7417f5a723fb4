"""One progress for a whole command: its share never falls, ends at the whole, and knows every stage."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from genrec.cli.output import progress_bar
from genrec.progress import Progress, Total, duration
from genrec.run.config import FinetuneConfig
from genrec.training.finetune import finetune


def test_the_share_of_a_whole_command(toy_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading, rows, training, calibration, test and writing in one share; time left is told once it was measured."""
    monkeypatch.setenv("GENREC_CACHE", str(tmp_path / "cache"))  # no rows of an earlier training
    seen: list[tuple[str, float, bool]] = []

    def note(stage: str, done: int, total: int, latest: Mapping[str, float]) -> None:
        seen.append((stage.split(" of ")[0], progress.total.share, progress.total.seconds_left is not None))

    progress = Progress(note)
    data = {"interactions": str(toy_files / "chain.csv"), "model": str(toy_files / "tiny")}
    finetune(FinetuneConfig(**data, out=str(tmp_path / "run"), epochs=2), progress=progress)
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    order = ["reading", "backbone", "rows", "first steps", "training", "validation", "calibration", "test", "writing"]
    assert stages == order
    shares = [share for _, share, _ in seen]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert all(share < 0.06 for stage, share, _ in seen if stage in order[:4])
    assert not any(told for stage, _, told in seen if stage in order[:4]) and seen[-1][2]


def test_a_share_by_costs() -> None:
    total = Total()
    total.expect({"a": 1.0, "b": 3.0})
    total.update("a", 0, 10)
    total.update("a", 4, 10)
    assert total.share == pytest.approx(0.1, abs=0.03)
    total.update("other", 1, 1)  # inside of a
    total.update("b", 0, 3)
    assert total.share == pytest.approx(0.25, abs=0.2) and total.share >= 0.25
    total.update("b", 3, 3)
    assert total.share == 1.0


def test_parts_of_one_whole() -> None:
    """The second of four runs, half done, is three eighths of the whole; its names say which it is."""
    names: list[str] = []
    whole = Progress(lambda stage, *_: names.append(stage))
    fold = whole.under("fold 1", 1, 4)
    fold.expect({"x": 1.0, "y": 1.0})
    fold.update("x", 1, 1)
    assert whole.total.share == pytest.approx(3 / 8) and names == ["fold 1: x"]


def test_a_log_gets_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal, thousands of updates within a moment write nothing."""
    with progress_bar() as progress:
        progress.expect({"rows": 1.0})
        for n in range(5_000):
            progress.update("rows", n, 5_000)
    assert capsys.readouterr().err == ""
    assert [duration(s) for s in (0.8, 40, 420, 9_000)] == ["1 second", "40 seconds", "7 minutes", "2.5 hours"]
