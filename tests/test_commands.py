"""Commands beyond the main path: texts without users, a task of one's own, 4-bit training, every small command."""

import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import polars as pl
import pytest
import yaml
from conftest import USERS, toy_command
from safetensors.torch import load_file
from worlds import chain_world, review_world

from genrec.ask import answer as asking
from genrec.cli import main
from genrec.recommender import Recommender
from genrec.rows.arrays import shown_from
from genrec.serving.chat.chat import with_reasons
from genrec.serving.chat.markdown import markdown

Said = pytest.CaptureFixture[str]


def answer(said: Said, *command: str) -> dict:
    said.readouterr()
    assert main([*command, "--json"]) == 0
    return json.loads(said.readouterr().out)


def test_texts_need_neither_users_nor_items(tmp_path: Path, toy_files: Path, capsys: Said) -> None:
    """A category that only held-out texts have is counted, not evaluated."""
    frame = review_world(600).interactions.drop("row", "event")
    odd = pl.when(pl.col("part") == "test").then(pl.lit("rare")).otherwise("category")
    frame.with_columns(odd.alias("category")).write_csv(tmp_path / "reviews.csv")
    rates = ["--lr", "5e-3", "--row-lr", "2e-2", "--dropout", "0.05", "--epochs", "20", "--batch-tokens", "512"]
    files = ["--interactions", str(tmp_path / "reviews.csv"), "--model", str(toy_files / "tiny")]
    run = str(tmp_path / "run")
    assert main(["finetune", *files, "--layers", "2", "--out", run, *rates]) == 0
    said = capsys.readouterr()
    assert "category: of 120 held-out rows the answer is one that training lacks" in said.err
    assert f"genrec predict {run} --task sentiment" in said.out and "recommend" not in said.out
    for text, expected in (("good thing , red and new", "positive"), ("bad thing , blue and old", "negative")):
        found = answer(capsys, "predict", run, "--task", "sentiment", "--text", text)
        assert found["value"] == expected and found["user_id"] is None
        assert sum(found["probabilities"].values()) == pytest.approx(1)
    for command in (
        ["recommend", run, "--history", "1"],
        ["embed", run, "--items", "--out", str(tmp_path / "v.jsonl")],
    ):
        assert main(command) == 2
        assert "reviews" in capsys.readouterr().err


def test_an_option_given_twice_adds_up(toy_files: Path, capsys: Said) -> None:
    files = ["--interactions", str(toy_files / "chain.csv"), "--model", str(toy_files / "tiny"), "--layers", "2"]
    assert main(["finetune", *files, "--dry-run", "--task", "next_item", "--task", "rating"]) == 0
    said = capsys.readouterr().out
    assert "next_item" in said and "rating" in said and "click" not in said


OWN = """
task: keeper
description: Will the user rate this item 5?
unit: event
needs: [user_id, item_id, rating, colour]
where: "colour is not null"
label: "rating >= 5"
answer: {choices: ["no", "yes"]}
dense: true
ask:
  - "is {title} a keeper for user {user_id}?"
templates:
  seen:
    - "Is {item} a keeper for this user? Answer yes or no."
  unseen:
    - "Would this user call {item} perfect?"
"""


def test_a_task_of_one_s_own_needs_no_code(tmp_path: Path, toy_files: Path, capsys: Said) -> None:
    """It reads a column of the items, and learns what is true: even items are rated 5."""
    (tmp_path / "keeper.yaml").write_text(OWN)
    command = toy_command(toy_files, tmp_path / "run", "--tasks", str(tmp_path / "keeper.yaml"))
    assert main(["tasks", "check", str(tmp_path / "keeper.yaml")]) == 0
    assert main([*command, "--task-weights", "learned"]) == 0
    pairs = ("--user", "u001", "--item")
    for item, expected in (("004", "yes"), ("007", "no")):
        assert answer(capsys, "predict", str(tmp_path / "run"), "--task", "keeper", *pairs, item)["value"] == expected
    learned = load_file(tmp_path / "run" / "adapter" / "item_rows.safetensors")["log_variance"]
    assert len(set(learned.tolist())) == len(learned) == 3  # next_item, rating, keeper


def test_training_on_a_quantized_backbone(tmp_path: Path, toy_files: Path, capsys: Said) -> None:
    pytest.importorskip("bitsandbytes")
    with warnings.catch_warnings():  # a kernel without a gradient only warns
        warnings.filterwarnings("error", "bitsandbytes")
        assert main(toy_command(toy_files, tmp_path / "run", "--quantize", "nf4", "--epochs", "8")) == 0
    run = Recommender.load(tmp_path / "run")  # as it was trained
    assert any("4bit" in type(m).__name__ for m in run.scorer.model.modules())
    lora = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert lora and all(value.abs().sum() > 0 for value in lora.values())
    assert run.recommend("u001", k=3).frame.height == 3


def test_a_run_s_config_can_be_given_again(toy_run: Path, tmp_path: Path, capsys: Said) -> None:
    config = str(toy_run / "config.yaml")
    assert main(["finetune", "--config", config, "--out", str(toy_run)]) == 0
    assert "finished already" in capsys.readouterr().err
    assert main(["finetune", "--config", config, "--out", str(toy_run), "--seed", "9"]) == 2
    value = yaml.safe_load(Path(config).read_text())
    for name, wrong, said in (("epochs", "many", "epochs: 'many'"), ("epoch", 3, "Did you mean 'epochs'")):
        (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(value | {name: wrong}))
        assert main(["finetune", "--config", str(tmp_path / "wrong.yaml")]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--epochs", "0"], "--epochs 0: at least 1"),
        (["--stride", "0"], "--stride 0"),
        (["--dropout", "1.5"], "--dropout 1.5"),
        (["--seed", "-1"], "--seed -1"),
        (["--minutes", "0"], "--minutes 0"),
        (["--task-weights", "rating=abc"], "--task-weights rating=abc"),
        (["--column", "user_id"], "NAME=VALUE"),
        (["--report-to", "tensorbored"], "--report-to tensorbored"),
    ],
)
def test_options_out_of_range(toy_files: Path, tmp_path: Path, capsys: Said, option: list[str], said: str) -> None:
    assert main(toy_command(toy_files, tmp_path / "run", *option)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_without_next_item_ranks_nothing(toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    assert main(toy_command(toy_files, tmp_path / "run", "--task", "rating", "--epochs", "1")) == 0
    assert "recommend" not in capsys.readouterr().out
    assert main(["recommend", str(tmp_path / "run"), "--user", "u001"]) == 2
    assert "not trained on next_item" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "run"), "--task", "rating", "--user", "u001", "--item", "003"]) == 0


def test_other_data_is_not_the_same_run(toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    data = tmp_path / "d.csv"
    data.write_text((toy_files / "chain.csv").read_text())
    command = toy_command(toy_files, tmp_path / "run", "--interactions", str(data), "--epochs", "1")
    assert main(command) == 0
    data.write_text(data.read_text().replace("u001,", "v001,"))
    assert main(command) == 2
    assert "finished run on other data" in capsys.readouterr().err


def test_small_commands(toy_run: Path, tmp_path: Path, capsys: Said) -> None:
    run = str(toy_run)
    found = answer(capsys, "similar", run, "--item", "003", "-k", "4")
    assert [i["rank"] for i in found["items"]] == [1, 2, 3, 4] and "003" not in [i["item_id"] for i in found["items"]]
    by_title = answer(capsys, "recommend", run, "--title", "red 2", "--title", "BLUE 3", "-k", "2")
    by_id = answer(capsys, "recommend", run, "--history", "002,003", "-k", "2")
    assert by_title["items"] == by_id["items"]
    best = by_id["items"][0]["item_id"]
    without = answer(capsys, "recommend", run, "--history", "002,003", "-k", "2", "--exclude", best)
    assert best not in [i["item_id"] for i in without["items"]]
    (tmp_path / "users.tsv").write_text("userId\tnote\nu002\tx\n u005 \ty\n")
    out = tmp_path / "r.csv"
    assert main(["recommend", run, "--users", str(tmp_path / "users.tsv"), "-k", "3", "--out", str(out)]) == 0
    assert pl.read_csv(out)["user_id"].to_list() == ["u002"] * 3 + ["u005"] * 3
    assert main(["embed", run, "--users", "--out", str(tmp_path / "v.parquet")]) == 0
    assert pl.read_parquet(tmp_path / "v.parquet").height == USERS
    (tmp_path / "gap.csv").write_text("user_id,item_id\nu001,003\n,004\n")
    gap = ["--file", str(tmp_path / "gap.csv"), "--out", str(tmp_path / "p.csv")]
    assert main(["predict", run, "--task", "rating", *gap]) == 2
    assert "gap.csv: row 2 has no user_id" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()
    assert main(["doctor"]) == 0
    assert "precision" in capsys.readouterr().out


def test_dry_run_says_what_would_be_trained(toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    assert main(toy_command(toy_files, tmp_path / "run", "--dry-run")) == 0
    said = capsys.readouterr().out
    for word in (
        f"{USERS} rows",
        "tokens per training event",
        "targets: ",
        "memory",
        "with validation apart",
        "<item 0",
        "row 0 ",
    ):
        assert word in said, word
    assert not (tmp_path / "run").exists()


def test_a_history_longer_than_the_model_reads_loses_its_oldest_quarter(
    toy_files: Path, tmp_path: Path, capsys: Said
) -> None:
    command = toy_command(toy_files, tmp_path / "run", "--epochs", "1")
    assert main([*command, "--max-events", "4", "--stride", "2", "--no-collaborative"]) == 0
    run = Recommender.load(tmp_path / "run")
    history = chain_world(users=USERS).interactions.filter(pl.col("user_id") == "u003")["item_id"].to_list()
    long = run.recommend(history=history, k=12, exclude_seen=False)
    assert long.warnings == ("the history has 8 events; the oldest 4 are not read, and only count as taken",)
    short = run.recommend(history=history[4:], k=12, exclude_seen=False)
    assert long.frame["score"].to_list() == short.frame["score"].to_list() and not short.warnings
    asked = with_reasons(run, asking.answer(run, "recommend 2 items for user u003"))
    assert asked.warnings and "not read" not in markdown(asked)  # who chats is spared it
    seen = set(run.recommend(history=history, k=12).frame["item_id"])
    assert not seen & set(history)  # what is not read is still known as seen
    assert [shown_from(n, 100) for n in (5, 100, 101, 125, 126)] == [0, 0, 25, 25, 50]


def test_a_context_shorter_than_the_history_is_said(toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    """The tiny backbone has 1,024 positions: 352 events with their outcomes beside a question."""
    assert main(toy_command(toy_files, tmp_path / "run", "--max-events", "5000", "--dry-run")) == 0
    assert "the backbone's context holds 352 events" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from genrec.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'polars', 'numpy', 'transformers', 'pydantic', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_wheel_holds_the_tasks_and_installs(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert sum(n.startswith("genrec/prompts/") and n.endswith(".yaml") for n in names) == 8
    words = {str(f.relative_to(root)) for f in (root / "genrec" / "ask").rglob("*") if f.suffix in (".yaml", ".txt")}
    assert words and words <= set(names)
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    shown = subprocess.run(
        [sys.executable, "-m", "genrec", "tasks", "list"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"},
    )
    assert len(shown.stdout.splitlines()) == 8
