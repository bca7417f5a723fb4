"""From files to answers through the command, in worlds with a known right answer."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import USERS, toy_command
from safetensors.torch import load_file
from waiting import until
from worlds import chain_world

from genrec.cli import main
from genrec.model.backbone import load_backbone
from genrec.progress import SILENT, Progress
from genrec.recommender import Recommender
from genrec.run.folder import Run
from genrec.run.lora import merged, with_lora
from genrec.training.finetune import finetune

ITEMS = 12


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.load(toy_run)


def expected_next() -> dict[str, str]:
    last = chain_world(users=USERS).interactions.group_by("user_id", maintain_order=True).last()
    return {u: f"{(int(i) + 1) % ITEMS:03}" for u, i in zip(last["user_id"], last["item_id"], strict=True)}


def test_the_next_item_is_learned(recommender: Recommender) -> None:
    """Asked two events beyond the longest history of the training."""
    found = recommender.recommend(recommender.all_users(), k=1).frame
    right = expected_next()
    assert np.mean([right[u] == i for u, i in zip(found["user_id"], found["item_id"], strict=True)]) >= 0.9


def test_outcomes_are_learned_and_probabilities_sum_to_one(recommender: Recommender) -> None:
    users = [u for u in recommender.all_users() for _ in range(2)]
    items = ["004", "007"] * (len(users) // 2)
    found = recommender.predict("rating", users=users, items=items)
    truth = np.tile([5.0, 1.0], len(users) // 2)
    assert np.abs(found.frame["value"].to_numpy() - truth).mean() < 0.5
    assert found.frame["probabilities"].list.sum().to_list() == pytest.approx([1.0] * len(users))
    assert found.choices == ("1", "5")


def test_many_users_get_what_each_gets_alone(recommender: Recommender) -> None:
    users = recommender.all_users()[:7]
    together = recommender.recommend(users, k=4).frame
    alone = pl.concat([recommender.recommend(u, k=4).frame for u in users])
    assert together["item_id"].to_list() == alone["item_id"].to_list()
    assert together["score"].to_list() == pytest.approx(alone["score"].to_list(), abs=1e-4)
    pairs = recommender.predict("rating", users=users, items=["003"] * 7).frame["value"].to_list()
    assert pairs == pytest.approx(
        [recommender.predict("rating", users=u, items="003").frame["value"][0] for u in users], abs=1e-4
    )


def test_filters_hold_and_ranking_is_sorting(recommender: Recommender) -> None:
    user = "u001"
    seen = set(chain_world(users=USERS).interactions.filter(pl.col("user_id") == user)["item_id"])
    everything = recommender.recommend(user, k=ITEMS, exclude_seen=False).frame
    assert sorted(everything["item_id"]) == [f"{i:03}" for i in range(ITEMS)]
    assert everything["score"].to_list() == sorted(everything["score"], reverse=True)
    assert everything["probability"].sum() == pytest.approx(1.0)
    unseen = recommender.recommend(user, k=ITEMS)
    assert unseen.frame["item_id"].to_list() == [i for i in everything["item_id"] if i not in seen]
    assert unseen.warnings and "fewer than 12" in unseen.warnings[0]
    assert unseen.frame["probability"].sum() == pytest.approx(1.0)
    chosen = recommender.recommend(user, k=3, candidates=["001", "002", "003"], exclude_seen=False).frame
    assert chosen["item_id"].to_list() == [i for i in everything["item_id"] if i in ("001", "002", "003")]
    best = everything["item_id"][0]
    assert best not in set(recommender.recommend(user, k=ITEMS, exclude=[best], exclude_seen=False).frame["item_id"])
    red = recommender.recommend(
        user, k=ITEMS, where="colour = 'red' and year between 1982 and 1990", exclude_seen=False
    ).frame
    assert set(red["item_id"]) == {f"{i:03}" for i in range(2, 11, 2)}
    # the probability is that of the whole catalogue, whatever the filter
    shared = everything.join(red, on="item_id", suffix="_red")
    assert shared["probability"].to_list() == pytest.approx(shared["probability_red"].to_list())


def test_loading_twice_gives_the_same_scores_bit_for_bit(recommender: Recommender, toy_run: Path) -> None:
    again = Recommender.load(toy_run)
    one = recommender.recommend(recommender.all_users(), k=ITEMS, exclude_seen=False).frame
    assert one.equals(again.recommend(recommender.all_users(), k=ITEMS, exclude_seen=False).frame)


def test_merging_lora_keeps_the_scores(toy_run: Path, toy_files: Path) -> None:
    """In float32: a run is loaded with LoRA in its weights, and scores as with LoRA apart."""
    scores = []
    for put in (with_lora, merged):
        loaded = Recommender.load(toy_run)
        loaded.scorer.model.float()
        backbone = load_backbone(str(toy_files / "tiny"), layers=2).model.float()
        loaded.scorer.model.backbone = put(backbone, toy_run / "adapter")
        frame = loaded.recommend(loaded.all_users(), k=ITEMS, exclude_seen=False).frame
        scores.append(frame.sort("user_id", "item_id")["score"])
    assert float((scores[0] - scores[1]).abs().max()) < 1e-4 * float(scores[0].std())
    assert not any("lora" in name for name, _ in Recommender.load(toy_run).scorer.model.named_parameters())


def test_nf4_keeps_most_of_the_list(recommender: Recommender, toy_run: Path) -> None:
    pytest.importorskip("bitsandbytes")
    small = Recommender.load(toy_run, quantize="nf4")
    users = recommender.all_users()
    one, two = (
        r.recommend(users, k=3, exclude_seen=False).frame.group_by("user_id").agg("item_id").sort("user_id")["item_id"]
        for r in (recommender, small)
    )  # of 12 items; lists drawn at random would share a quarter
    assert np.mean([len(set(a) & set(b)) / 3 for a, b in zip(one, two, strict=True)]) > 0.85


def test_vectors(recommender: Recommender) -> None:
    items = recommender.embed_items()
    assert items["item_id"].to_list() == [f"{i:03}" for i in range(ITEMS)]
    users = recommender.embed_users(["u003", "u001"])
    assert users["user_id"].to_list() == ["u003", "u001"]
    assert np.stack(users["vector"].to_list()).shape == (2, 64)
    near = recommender.similar("003", k=20).frame
    assert near.height == ITEMS - 1 and "003" not in set(near["item_id"])
    assert near["score"].is_sorted(descending=True)


def test_the_run_folder_is_data_only_and_names_no_path(toy_run: Path, toy_files: Path) -> None:
    files = {p.name for p in (toy_run / "adapter").rglob("*") if p.is_file()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "item_rows.safetensors",
        "catalogue.parquet",
        "genrec.json",
        "README.md",
    } <= files
    assert not [f for f in files if f.endswith((".bin", ".pkl", ".pt", ".py"))]
    for path in (toy_run / "adapter").rglob("*.json"):
        assert str(toy_files) not in path.read_text(), path.name
    assert oct((toy_run / "store.db").stat().st_mode)[-3:] == "600"
    assert not (toy_run / "checkpoints").exists()
    lines = [json.loads(line) for line in (toy_run / "metrics.jsonl").read_text().splitlines()]
    assert any("eval/criterion" in line for line in lines)


def test_json_answers_have_the_documented_keys(toy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*command: str) -> dict:
        capsys.readouterr()
        assert main([*command, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    run = str(toy_run)
    found = answer("recommend", run, "--user", "u001", "-k", "2")
    assert list(found) == ["dataset", "user_id", "strategy", "items", "warnings"]
    assert list(found["items"][0]) == ["rank", "item_id", "title", "score", "probability"]
    found = answer("predict", run, "--task", "rating", "--user", "u001", "--item", "004")
    assert list(found) == ["dataset", "task", "value", "probabilities", "user_id", "item_id"]
    found = answer("ask", "top 3 for user u001", "--run", run)
    assert found["task"] == "next_item" and len(found["items"]) == 3 and found["understood"]["user_id"] == "u001"
    found = answer("ask", "what would user u001 rate red 4?", "--run", run)
    assert found["task"] == "rating" and found["understood"]["items"] == ["004"]
    found = answer("ask", "recommend for user nobody", "--run", run)
    assert "most popular" in found["answer"] and "user nobody is unknown" in found["warnings"][0]
    found = answer("ask", "what is the weather?", "--run", run)
    assert found["task"] is None and "recommend for user" in found["answer"]


def test_batches_from_and_to_files(toy_run: Path, tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["u001", "u002"], "item_id": ["004", "005"]}).write_csv(tmp_path / "pairs.csv")
    assert (
        main(
            [
                "predict",
                str(toy_run),
                "--task",
                "rating",
                "--file",
                str(tmp_path / "pairs.csv"),
                "--out",
                str(tmp_path / "p.parquet"),
            ]
        )
        == 0
    )
    assert pl.read_parquet(tmp_path / "p.parquet")["item_id"].to_list() == ["004", "005"]
    assert main(["recommend", str(toy_run), "--users", "all", "-k", "2", "--out", str(tmp_path / "r.jsonl")]) == 0
    assert pl.read_ndjson(tmp_path / "r.jsonl").height == 2 * USERS


def test_only_lora_and_rows_are_trained(toy_files: Path, tmp_path: Path) -> None:
    """No backbone weight is in the adapter; every LoRA matrix and every row of a seen item has moved."""
    out = tmp_path / "run"
    assert main(toy_command(toy_files, out, "--epochs", "1")) == 0
    rows = load_file(out / "adapter" / "item_rows.safetensors")
    assert (rows["catalogues.0.residual"].abs().sum(1) > 0).all()
    assert not any("layers" in name for name in rows)
    lora = load_file(out / "adapter" / "adapter_model.safetensors")
    assert lora and all("lora_" in name for name in lora)
    assert all(value.abs().sum() > 0 for value in lora.values())


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "genrec", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ.copy(),
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_same_command_resumes_to_the_same_weights(
    toy_files: Path, toy_run: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "run"
    command = toy_command(toy_files, out)
    process = start(command)
    until(lambda: list((out / "checkpoints").glob("checkpoint-*")) or process.poll() is not None, 300)
    time.sleep(0.3)  # somewhere inside a step or a checkpoint
    process.send_signal(how)
    _, said = process.communicate()
    assert process.returncode in ((-9,) if how == signal.SIGKILL else (130,)), said.decode()
    assert not (out / "adapter").exists()
    assert main(command) == 0
    for name in ("item_rows.safetensors", "counts.safetensors", "adapter_model.safetensors"):
        one, two = load_file(toy_run / "adapter" / name), load_file(out / "adapter" / name)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), name


def test_draws_belong_to_batches(toy_run: Path, tmp_path: Path) -> None:
    """What is drawn between the steps changes nothing; another seed does."""

    def weights(name: str, seed: int, draw: bool) -> bytes:
        config = replace(Run(toy_run).config(), out=str(tmp_path / name), epochs=2, seed=seed)
        finetune(config, progress=Progress(lambda *_: torch.rand(7)) if draw else SILENT)
        return (tmp_path / name / "adapter" / "item_rows.safetensors").read_bytes()

    assert weights("plain", 0, False) == weights("drawn", 0, True) != weights("other", 1, False)


ADORED = """task: adored
description: Will the user rate this item 5?
unit: event
needs: [user_id, item_id, rating]
label: "rating >= 5"
answer: {choices: ["no", "yes"]}
dense: true
ask:
  - "does user {user_id} adore {title}?"
templates:
  seen:
    - "Is {item} good for this user? Answer yes or no."
  unseen:
    - "Will the user like {item}?"
"""


def test_a_run_resumes_with_another_sentence_of_a_task(
    toy_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What people say of a task is no part of the training; what the model is asked is."""
    out, tasks = tmp_path / "run", tmp_path / "adored.yaml"
    tasks.write_text(ADORED)
    command = toy_command(toy_files, out, "--tasks", str(tasks), "--epochs", "60")
    process = start(command)
    until(lambda: list((out / "checkpoints").glob("checkpoint-*")) or process.poll() is not None, 300)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130, error.decode()
    tasks.write_text(ADORED.replace("Is {item} good", "Is {item} fine"))
    capsys.readouterr()
    assert main(command) == 2
    assert "an interrupted run on other data, tasks" in capsys.readouterr().err
    tasks.write_text(ADORED.replace("templates:", '  - "is {title} dear to user {user_id}?"\ntemplates:'))
    assert main(command) == 0
    assert "resuming from step" in capsys.readouterr().err


@pytest.fixture(scope="module")
def unrated(toy_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """The chain world without ratings, with two items that nobody has had: `n1` is red, `n2` blue."""
    folder = tmp_path_factory.mktemp("unrated")
    known = pl.read_csv(toy_files / "items.csv", infer_schema=False).select("item_id", pl.col("colour").alias("title"))
    new = pl.DataFrame({"item_id": ["n1", "n2"], "title": ["red", "blue"]})
    pl.concat([known, new]).write_csv(folder / "items.csv")
    pl.read_csv(toy_files / "chain.csv", infer_schema=False).drop("rating").write_csv(folder / "chain.csv")
    files = ["--interactions", str(folder / "chain.csv"), "--items", str(folder / "items.csv")]
    options = ["--no-collaborative", "--epochs", "100"]
    assert main(toy_command(toy_files, folder / "run", *files, *options)) == 0
    return Recommender.load(folder / "run")


def test_a_history_of_ids_needs_no_user(unrated: Recommender) -> None:
    right = 0
    for start in range(ITEMS):
        history = [f"{(start + n) % ITEMS:03}" for n in range(3)]
        found = unrated.recommend(history=history, k=2).frame
        assert found["strategy"][0] == "model"
        right += found["item_id"][0] == f"{(start + 3) % ITEMS:03}"
    assert right >= 0.8 * ITEMS
    popular = unrated.recommend(history=[], k=3).frame
    assert popular["strategy"].to_list() == ["popular"] * 3
    assert popular["score"].is_sorted(descending=True)


def test_an_item_known_only_by_its_text_is_ranked_by_it(unrated: Recommender) -> None:
    """After a red item comes a blue one: of two items that nobody has had, the blue one must rank higher then."""
    lead = {"red": [], "blue": []}
    for last in range(ITEMS):
        history = [f"{(last - n) % ITEMS:03}" for n in (2, 1, 0)]
        found = unrated.recommend(history=history, candidates=["n1", "n2"]).frame
        score = dict(zip(found["title"], found["score"], strict=True))
        lead["red" if last % 2 == 0 else "blue"].append(score["blue"] - score["red"])
    assert np.mean(lead["red"]) > 0 > np.mean(lead["blue"])
