"""genrec align: which pairs are learned from, S-DPO's loss, and a run that comes to prefer what its users chose."""

import json
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import toy_command
from safetensors.torch import load_file
from tiny import tiny_t5
from torch.nn.functional import log_softmax, logsigmoid
from worlds import WORDS, chain_world, shop_world, taste_world, view_world

from genrec.cli import main
from genrec.data.dataset import Dataset
from genrec.errors import RunError
from genrec.evaluation.reading import Ranked
from genrec.model.batching import Batch, collate
from genrec.progress import Progress
from genrec.recommender import Recommender
from genrec.rows.arrays import select
from genrec.rows.corpus import Corpus, build_corpus, offered_tasks, vocabulary_of
from genrec.run.config import AlignConfig
from genrec.scoring.scorer import Scorer
from genrec.tasks.taskfile import load_tasks
from genrec.training.align import Aligned, align, ranks_of_chosen
from genrec.training.dpo import log_probabilities, softmax_dpo
from genrec.training.preferences import NEAR, preference_rows, signs_of

pytest.importorskip("trl")

Said = pytest.CaptureFixture[str]
OPTIONS = {"lr": 2e-3, "epochs": 3}
COMMAND = ("--lr", "2e-3", "--epochs", "3")


def corpus_of(dataset: Dataset) -> Corpus:
    tasks, _ = offered_tasks(dataset, list(load_tasks().values()))
    vocabulary = vocabulary_of([dataset], {dataset.name: tasks}, 50)
    return build_corpus(dataset, tasks, vocabulary, lambda text: [3] * len(text.split()), 2, 0, [t.name for t in tasks])


# --- pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [taste_world, view_world, lambda: chain_world(length=30)])
@pytest.mark.parametrize("max_events", [150, 6])
def test_pairs_are_of_the_training_part_and_show_what_came_before(world, max_events: int) -> None:
    corpus = corpus_of(world())
    train = select(corpus.events, corpus.events.part == 0)
    rows, _ = preference_rows(corpus, 3, max_events, seed=0)
    signs = signs_of(corpus)
    frame = corpus.dataset.interactions
    item_of = dict(zip(frame["row"], frame["item_id"], strict=True))
    liked, passed = ({} for _ in range(2))
    for mask, found in ((signs.chosen, liked), (signs.rejected, passed)):
        for n in np.nonzero(mask & (corpus.events.part == 0))[0]:
            user = int(np.searchsorted(corpus.events.offsets, n, side="right")) - 1
            found.setdefault(corpus.events.users[user], []).append(int(corpus.events.item[n]))
    user_of = dict(zip(frame["row"], frame["user_id"], strict=True))
    pairs = 0
    for one in rows:
        row = one.row
        user = user_of[row.source[0]]
        assert row.target_at == row.target_from and max(row.target_at) == len(row.tokens) - 1
        own = int(train.users.index(user))
        events = slice(int(train.offsets[own]), int(train.offsets[own + 1]))
        source, items = train.source[events].tolist(), train.item[events]
        place = source.index(row.source[0])
        assert row.source == source[place : place + len(row.source)] and len(row.source) <= max_events
        shown = [t - corpus.items.first for t in row.tokens if t >= corpus.items.first]
        assert shown == [corpus.item_index[item_of[s]] for s in row.source]
        for at, chosen, rejected in zip(row.target_at, row.target_id, one.rejected, strict=True):
            rejected = rejected[rejected >= 0].tolist()
            assert chosen in liked[user] and set(rejected) <= set(passed[user]) - set(liked[user])
            assert 1 <= len(rejected) == len(set(rejected)) <= 3
            before = place + sum(t >= corpus.items.first for t in row.tokens[: at + 1])
            later = items[before : before + 2 * NEAR + 1].tolist()  # all of the pair comes after what is shown
            assert chosen in later and set(rejected) <= set(later)
            pairs += 1
    assert pairs > len(rows)


def test_without_a_sign_of_dislike_items_are_drawn_that_the_user_never_took() -> None:
    corpus = corpus_of(shop_world())
    rows, words = preference_rows(corpus, 3, 150, seed=0)
    assert "drawn" in words
    frame = corpus.dataset.interactions.filter(part="train")
    taken = {u: set(i) for u, i in frame.group_by("user_id").agg("item_id").iter_rows()}
    user_of = dict(zip(frame["row"], frame["user_id"], strict=True))
    ids = corpus.dataset.items["item_id"].to_list()
    for one in rows:
        own = taken[user_of[one.row.source[0]]]
        assert {ids[n] for n in one.row.target_id} <= own
        assert (one.rejected >= 0).all() and not own & {ids[n] for n in one.rejected.ravel()}


def test_ratings_are_held_to_the_user_s_own_mean() -> None:
    dataset = chain_world()
    rated = dataset.interactions.drop("event").with_columns(
        event=pl.lit("rating"), rating=pl.when(pl.col("rating") > 3).then(5.0).otherwise(4.0)
    )
    corpus = corpus_of(Dataset("stars", rated, dataset.items, dataset.users, fingerprint="stars"))
    signs = signs_of(corpus)
    even = corpus.events.item % 2 == 0
    assert (signs.chosen == even).all() and (signs.rejected == ~even).all() and "mean" in signs.words


# --- loss ---------------------------------------------------------------------------------------------------------


def drawn(pairs: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(log_softmax(torch.randn(pairs, 1 + n, generator=generator), 1) for _ in range(2))


def test_the_loss_is_the_formula() -> None:
    policy, reference = drawn(6, 4)
    known = torch.tensor([[True, True, True, n % 2 == 0] for n in range(6)])
    loss, found = softmax_dpo(policy, reference, known, 0.7)
    ratio = policy - reference
    expected, margins = [], []
    for own, has in zip(ratio, known, strict=True):
        behind = [0.7 * (own[1 + r] - own[0]) for r in range(4) if has[r]]
        expected.append(-logsigmoid(-torch.stack(behind).exp().sum().log()))
        margins.append(-torch.stack(behind).mean())
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-6)
    assert found["rewards/margins"].tolist() == pytest.approx(torch.stack(margins).tolist(), abs=1e-6)
    start, found = softmax_dpo(policy, policy, known, 0.7)
    assert start.item() == pytest.approx(np.mean([np.log(1 + n) for n in known.sum(1).tolist()]))
    assert all((found[f"rewards/{n}"] == 0).all() for n in ("chosen", "rejected", "margins", "accuracies"))


def test_with_one_rejected_item_it_is_trl_s_dpo() -> None:
    """Loss and logged values are those of DPOTrainer, given the same log-probabilities as answers of one token."""
    from collections import defaultdict

    from trl import DPOConfig, DPOTrainer

    policy, reference = drawn(6, 1)
    pairs = len(policy)
    output = SimpleNamespace(
        log_probs=policy.t().reshape(-1, 1),
        entropy=torch.zeros(2 * pairs, 1),
        mean_logits=torch.zeros(2 * pairs, 1),
        is_top1=torch.zeros(2 * pairs, 1, dtype=torch.bool),
    )
    alone = SimpleNamespace(device=torch.device("cpu"), gather=lambda v: v, gather_for_metrics=lambda v: v)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=alone,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=DPOConfig("out", use_cpu=True, bf16=False, activation_checkpointing=False).loss_type,
        loss_weights=[1.0],
        use_weighting=False,
        beta=0.7,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    tokens = torch.ones(2 * pairs, 2, dtype=torch.long)
    inputs = {
        "input_ids": tokens,
        "attention_mask": tokens,
        "completion_mask": torch.tensor([[0, 1]] * 2 * pairs),
        "ref_chosen_logps": reference[:, 0],
        "ref_rejected_logps": reference[:, 1],
    }
    theirs = DPOTrainer._compute_loss(trainer, lambda **_: output, inputs, False)
    loss, found = softmax_dpo(policy, reference, torch.ones(pairs, 1, dtype=torch.bool), 0.7)
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6)
    for name, values in found.items():
        assert values.mean().item() == pytest.approx(trainer._metrics["train"][name][0], abs=1e-6), name


def test_a_log_probability_is_that_of_the_whole_catalogue(taste_run: Path) -> None:
    recommender = Recommender.load(taste_run)
    scorer = Scorer(recommender.scorer.model)
    loaded = corpus_of(taste_world())
    corpus = Corpus(**{**vars(loaded), "vocabulary": recommender.adapter.manifest.vocabulary})
    rows, _ = preference_rows(corpus, 2, 150, seed=0)
    rows = rows[:5]
    fields = collate([r.row for r in rows], 0)
    rejected = torch.as_tensor(np.concatenate([r.rejected for r in rows]))
    found = log_probabilities(scorer, Batch.from_fields(fields), rejected)
    scores = log_softmax(scorer.model_scores(scorer.states([r.row for r in rows]), "taste"), 1)
    chosen = torch.as_tensor([t for r in rows for t in r.row.target_id])
    expected = scores.gather(1, torch.cat([chosen[:, None], rejected.clamp_min(0)], 1))
    assert torch.allclose(found, expected, atol=2e-2)  # rows of bf16 in batches of unlike lengths


def test_chosen_items_are_ranked_among_what_is_asked_of_most_of_them() -> None:
    """Of four cases the first three hold a chosen item; where two of these were seen before, seen items are kept."""
    cases = {"users": ["a", "b", "c", "d"], "targets": [np.asarray([n]) for n in range(4)]}
    ranks = {"seen_removed": [np.asarray([n]) for n in range(4)], "seen_kept": [np.asarray([10 + n]) for n in range(4)]}
    rest = {"lists": np.zeros((4, 1)), "states": torch.zeros(4, 1)}
    chosen = {"a": {0}, "b": {1, 7}, "c": {2}, "d": {9}}
    for seen, expected in ((2, [10, 11, 12]), (1, [0, 1, 2])):
        histories = [np.asarray([n if n < seen else 20]) for n in range(4)]
        found = ranks_of_chosen(Ranked(**cases, **ranks, **rest, seen=histories, histories=histories), chosen)
        assert [int(r[0]) for r in found] == expected


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taste_files(toy_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taste")
    world = taste_world()
    world.interactions.select("user_id", "item_id", "timestamp", "event", "rating").write_csv(folder / "taste.csv")
    world.items.write_csv(folder / "items.csv")
    shutil.copytree(toy_files / "tiny", folder / "tiny")
    return folder


def taste_command(files: Path, out: Path, *more: str) -> list[str]:
    data = ["--interactions", str(files / "taste.csv"), "--items", str(files / "items.csv")]
    command = toy_command(files, out, *data, "--epochs", "4", *more)
    place = command.index("--users")
    return command[:place] + command[place + 2 :]


@pytest.fixture(scope="module")
def taste_run(taste_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "taste"
    assert main(taste_command(taste_files, out)) == 0
    return out


def test_a_t5_starts_from_what_it_was(taste_files: Path, tmp_path: Path) -> None:
    tiny_t5(tmp_path / "t5", WORDS, hidden_size=64)
    out = tmp_path / "run"
    assert main(taste_command(taste_files, out, "--model", str(tmp_path / "t5"))) == 0
    assert main(["align", str(out), *COMMAND, "--out", str(tmp_path / "aligned")]) == 0
    logged = [entry for entry in history(tmp_path / "aligned") if "rewards/margins" in entry]
    assert logged[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert logged[-1]["rewards/margins"] > 0.1


@pytest.fixture(scope="module")
def aligned_run(taste_run: Path) -> Path:
    """The run beside it that the command writes by default."""
    before = contents(taste_run)
    assert main(["align", str(taste_run), *COMMAND]) == 0
    assert contents(taste_run) == before
    return Path(f"{taste_run}-aligned")


def contents(run: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in run.rglob("*") if p.is_file() and not p.name.startswith("store.db-")}


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def blue_ranks(run: Path) -> float:
    """Mean rank of the clicked kind of items in the lists of all users."""
    recommender = Recommender.load(run)
    found = recommender.recommend(recommender.all_users(), k=16, exclude_seen=False).frame
    return float(found.filter(pl.col("title").str.starts_with("blue"))["rank"].mean())


def test_what_users_click_comes_to_rank_above_what_they_skip(taste_run: Path, aligned_run: Path) -> None:
    logged = [entry for entry in history(aligned_run) if "rewards/margins" in entry]
    assert logged[0]["rewards/margins"] == 0 and logged[0]["loss"] == pytest.approx(np.log(4), abs=1e-5)
    assert logged[-1]["rewards/margins"] > 0.3 and logged[-1]["rewards/accuracies"] > 0.95
    assert logged[-1]["loss"] < 1.2
    assert blue_ranks(aligned_run) < blue_ranks(taste_run) - 2  # 8 of 16 items: at best 4.5, by chance 8.5
    kept = json.loads((aligned_run / "align.json").read_text())
    name = "taste/next_item/chosen/ndcg@10"
    assert kept["after"][name] > kept["before"][name] and kept["after"]["criterion"] == kept["after"][name]
    assert {"taste/next_item/seen_kept/ndcg@10", "taste/click/auc"} <= set(kept["before"]) & set(kept["after"])
    assert kept["step"] > 0


def test_the_run_folder_is_whole(aligned_run: Path) -> None:
    files = {"adapter", "align.json", "config.yaml", "metrics.jsonl", "store.db"}
    assert files <= {p.name for p in aligned_run.iterdir()} and not (aligned_run / "checkpoints").exists()
    manifest = json.loads((aligned_run / "adapter" / "genrec.json").read_text())
    assert manifest["options"]["align"]["beta"] == 1.0
    assert oct((aligned_run / "store.db").stat().st_mode)[-3:] == "600"


def test_an_aligned_run_is_a_run(taste_run: Path, aligned_run: Path, tmp_path: Path, capsys: Said) -> None:
    first, second = (Path(shutil.copytree(r, tmp_path / r.name)) for r in (taste_run, aligned_run))
    assert main(["recommend", str(second), "--user", "u001", "-k", "3"]) == 0
    assert main(["predict", str(second), "--task", "click", "--user", "u001", "--item", "001"]) == 0
    for run in (first, second):
        assert main(["evaluate", str(run), "--phrasing", "served"]) == 0
    assert main(["compare", str(first), str(second)]) == 0
    commands = json.loads((second / "results.json").read_text())["commands"]
    assert commands[0].startswith("genrec finetune") and commands[1].startswith(f"genrec align {taste_run} --out")
    capsys.readouterr()
    assert main(["evaluate", str(second), "--seeds", "2"]) == 2
    assert "was aligned" in capsys.readouterr().err
    assert main(["align", str(taste_run), *COMMAND]) == 0  # finished already
    said = capsys.readouterr()
    assert "is finished already" in said.err and "then" in said.out


def quiet(_: str) -> None:
    """Nothing is said."""


def test_an_interrupted_alignment_goes_on_to_the_same_weights(
    taste_run: Path, aligned_run: Path, tmp_path: Path
) -> None:
    config = AlignConfig(run=str(taste_run), out=str(tmp_path / "out"), **OPTIONS)

    def stop(stage: str, done: int, total: int, latest: Mapping[str, float]) -> None:
        if stage == "training" and done == total // 2 + 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        align(config, quiet, Progress(stop))
    assert list((tmp_path / "out" / "checkpoints").glob("checkpoint-*"))
    with pytest.raises(RunError, match="the same `genrec align` command"):
        Recommender.load(tmp_path / "out")
    said: list[str] = []
    found = align(config, said.append)
    assert any("resuming from step" in line for line in said)
    kept = json.loads((aligned_run / "align.json").read_text())
    assert (found.step, found.before, found.after) == (kept["step"], kept["before"], kept["after"])
    for name in ("item_rows.safetensors", "adapter_model.safetensors"):
        one, two = (load_file(run / "adapter" / name) for run in (aligned_run, tmp_path / "out"))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one), name


def test_what_is_not_better_is_written_on_request_only(taste_run: Path, tmp_path: Path, capsys: Said) -> None:
    run = Path(shutil.copytree(taste_run, tmp_path / "run"))
    command = ["align", str(run), "--lr", "1e-12", "--epochs", "1"]
    assert main(command) == 0
    out = tmp_path / "run-aligned"
    said = capsys.readouterr()
    assert "not better than before" in said.out and f"--out {out}" in said.out
    assert not (out / "adapter").exists() and not (out / "store.db").exists()
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "not better than before" in said.out and f"Done: {out}" in said.out and "step 1:" not in said.err
    assert main(["recommend", str(out), "--user", "u001"]) == 0


def test_errors_say_what_is_wrong(
    taste_run: Path,
    aligned_run: Path,
    taste_files: Path,
    tmp_path: Path,
    capsys: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*command: str) -> str:
        capsys.readouterr()
        assert main(["align", *command]) == 2
        return capsys.readouterr().err

    run = str(taste_run)
    assert f"there is no run folder {tmp_path / 'no'}" in refused(str(tmp_path / "no"))
    assert "is not a finished run" in refused(str(tmp_path))
    assert "is RUN itself" in refused(run, "--out", run)
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    assert "holds no alignment" in refused(run, "--out", str(full)) and (full / "notes.txt").exists()
    assert "is a file" in refused(run, "--out", str(full / "notes.txt"))
    assert "Unknown data set 'tast'" in refused(run, "--dataset", "tast")
    for flag in ("--beta", "--lr", "--rejected", "--epochs"):
        assert f"{flag} 0" in refused(run, flag, "0")
    other = tmp_path / "other"
    other.mkdir()
    kept = json.loads((aligned_run / "align.json").read_text())
    (other / "align.json").write_text(json.dumps(kept | {"options": kept["options"] | {"beta": 0.5}}))
    assert "other options (--beta 0.5 then, 1.0 now)" in refused(run, "--out", str(other), *COMMAND)
    (other / "align.json").write_text(json.dumps(kept | {"manifest": "0"}))
    assert "alignment of another run" in refused(run, "--out", str(other), *COMMAND)
    plain = tmp_path / "plain"
    assert main(taste_command(taste_files, plain, "--task", "click", "--epochs", "1")) == 0
    assert "next_item is not among its tasks (click)" in refused(str(plain))
    monkeypatch.setitem(sys.modules, "trl", None)
    assert "pip install 'genrec[align]'" in refused(run, "--out", str(tmp_path / "new"))


def test_better_is_what_the_criterion_says() -> None:
    one, two = {"criterion": 0.1}, {"criterion": 0.2}
    assert Aligned(Path("x"), 1, one, two, True).better and not Aligned(Path("x"), 1, one, one, True).better
