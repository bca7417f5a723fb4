"""An option that changes nothing beside the others is an error that names it, or a line: never silence."""

from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest
from conftest import toy_command

from genrec.cli import main
from genrec.errors import DataError
from genrec.run.config import DATA_OPTIONS, ROWS_OPTIONS, FinetuneConfig

OF_A_FILE = [["--items", "i.csv"], ["--users", "u.csv"], ["--column", "user_id=u"], ["--title", "{a}"]]
OF_A_FILE += [["--bad-rows", "skip"], ["--delimiter", ";"], ["--encoding", "utf-8"], ["--header", "no"]]
OF_A_SPLIT = [["--folds", "3"], ["--fold", "1"], ["--days", "7"]]
OF_A_RUN = ["--lr", "--epochs", "--minutes", "--dropout", "--patience", "--lora-r", "--batch-tokens", "--quantize"]
FINETUNE = ["finetune", "--interactions", "{files}/chain.csv", "--out", "{tmp}/run"]
CASES = [
    *([command, *rest] for command in (["finetune", "ml-100k"], ["data", "show", "ml-100k"]) for rest in OF_A_FILE),
    *([*FINETUNE, "--split", "random", *rest] for rest in OF_A_SPLIT),
    *(["data", "show", "{files}/chain.csv", "--split", "leave_one_out", *rest] for rest in OF_A_SPLIT),
    [*FINETUNE, "--split", "temporal", "--folds", "3"],
    [*FINETUNE, "--split", "k_fold", "--days", "3"],
    ["rows", *FINETUNE[1:], "--split", "random", "--days", "3"],
    *(["rows", *FINETUNE[1:], flag, "1"] for flag in OF_A_RUN),
    [*FINETUNE, "--store", "postgresql://x/y"],
    [*FINETUNE, "--column", "title=name"],
    [*FINETUNE, "--items", "{files}/items.csv", "--column", "review=text"],
    [*FINETUNE, "--tasks", "{tmp}/mine.yaml", "--task", "rating"],
    ["data", "list", "ml-100k"],
    ["data", "list", "--json"],
    ["data", "list", "--days", "7"],
    ["tasks", "list", "rating"],
    ["recommend", "run", "--users", "all", "--out", "{tmp}/o.csv", "--json"],
    ["recommend", "run", "--user", "u", "--out", "{tmp}/o.csv"],
    ["recommend", "run", "--user", "u", "--history", "a"],
    ["embed", "run", "--items", "--out", "{tmp}/o.parquet", "--json"],
    *(
        ["predict", "run", "--task", "rating", "--file", "f.csv", "--out", "{tmp}/o.csv", *rest]
        for rest in (["--user", "u"], ["--item", "i"], ["--text", "t"], ["--json"])
    ),
    ["predict", "run", "--task", "rating", "--user", "u", "-k", "3"],
]


def flat(words: list[str | list[str]]) -> list[str]:
    """A command as words."""
    return [w for word in words for w in (word if isinstance(word, list) else [word])]


@pytest.mark.parametrize("words", [flat(case) for case in CASES], ids=" ".join)
def test_an_option_without_effect_is_refused(
    tmp_path: Path, toy_files: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Exit 2 and a message that names the option, before anything is read or written."""
    shipped = (Path(__file__).parent.parent / "prompts" / "click.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(shipped.replace("task: click", "task: mine"))
    before = sorted(tmp_path.iterdir())
    assert main([word.format(tmp=tmp_path, files=toy_files, a="{a}") for word in words]) == 2
    said = capsys.readouterr().err
    last = [w for w in words if w.startswith("-")][-1] if any(w.startswith("-") for w in words) else words[-1]
    named = {"--history": "--user", "--out": "--users", "--task": "--tasks"}.get(last, last)
    assert named.split("=")[0] in said and "Traceback" not in said, said
    assert sorted(tmp_path.iterdir()) == before


def test_every_combination_of_split_and_its_options() -> None:
    """Only the options of the split that was asked for are taken; those at their defaults always are."""
    takes = {"k_fold": {"folds", "fold"}, "temporal": {"days"}, "auto": {"days"}}
    for split in ("auto", "leave_one_out", "temporal", "k_fold", "random", "given"):
        FinetuneConfig(interactions="a.csv", split=split).check_used()
        for name, value in (("folds", 3), ("fold", 1), ("days", 3)):
            config = FinetuneConfig(interactions="a.csv", split=split, **{name: value})
            if name in takes.get(split, ()):
                config.check_used()
            else:
                with pytest.raises(DataError, match=f"--{name} changes nothing here"):
                    config.check_used()


def test_the_options_of_rows_and_data_exist() -> None:
    names = {spec.name for spec in fields(FinetuneConfig)}
    assert set(DATA_OPTIONS) < set(ROWS_OPTIONS) < names


def test_a_task_that_is_not_asked_about_an_item_says_so(toy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text beside a task that reads none: the answer is the same, and a line says that the text was not used."""
    question = ["predict", str(toy_run), "--task", "rating", "--user", "u001", "--item", "003"]
    answers = []
    for more in ([], ["--text", "great"]):
        assert main([*question, *more]) == 0
        answers.append(capsys.readouterr())
    assert answers[0].out == answers[1].out and "not used" not in answers[0].err
    assert "task rating is asked about no text: not used" in answers[1].err


def test_rows_take_the_config_of_a_run(tmp_path: Path, toy_files: Path, toy_run: Path) -> None:
    """The options of a training that rows do not depend on are passed over in its file, where nobody typed them."""
    assert main(["rows", "--config", str(toy_run / "config.yaml"), "--out", str(tmp_path / "rows"), "--text"]) == 0
    assert (tmp_path / "rows" / "train.jsonl").stat().st_size > 0
    assert pl.read_ndjson(tmp_path / "rows" / "train.jsonl").columns == ["prompt", "completion"]
    assert main([*toy_command(toy_files, tmp_path / "run"), "--fold", "1"]) == 2
