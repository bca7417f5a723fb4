"""Encoder-decoder backbones: what is read where, and from files to answers with a small random T5."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import toy_command
from safetensors.torch import load_file
from test_rows import corpus_of, model_of
from tiny import tiny_t5
from torch import Tensor
from transformers import AutoModel
from worlds import WORDS, chain_world, review_world, shop_world

from genrec.cli import main
from genrec.errors import GenrecError, RunError
from genrec.model.backbone import Backbone, load_backbone
from genrec.model.batching import collate
from genrec.model.encoder_decoder import Split, split_row
from genrec.model.fused_lora import fuse_lora
from genrec.model.lora import add_lora
from genrec.model.precision import choose_precision
from genrec.model.recmodel import SAMPLES, Draws, TaskHead
from genrec.recommender import Recommender
from genrec.rows.corpus import Corpus
from genrec.rows.row import Branch, Row, prompt_row, text_row, training_row
from genrec.rows.training import training_rows
from genrec.rows.window import RowOptions
from genrec.scoring.scorer import Scorer

USERS, ITEMS = 100, 12
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
KEEPER = """
task: keeper
description: Will the user rate this item 5?
unit: event
needs: [user_id, item_id, rating]
label: "rating >= 5"
answer: {choices: ["no", "yes"]}
ask:
  - "is {title} a keeper for user {user_id}?"
templates:
  seen:
    - "Will the user rate {item} 5? yes or no"
  unseen:
    - "Is {item} good?"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("t5") / "tiny-t5", WORDS)


@pytest.fixture
def backbone(folder: Path) -> Backbone:
    found = load_backbone(str(folder))
    found.model.float()
    return found


@pytest.fixture
def corpus(backbone: Backbone) -> Corpus:
    return corpus_of(chain_world(), backbone)


@pytest.fixture
def scorer(corpus: Corpus, backbone: Backbone) -> Scorer:
    return Scorer(model_of(corpus, backbone))


def row(corpus: Corpus, branches: list[Branch], user: str = "u000", hi: int = 6) -> Row:
    """The first events of the first user, said to be those of `user`."""
    return prompt_row(corpus, user, corpus.events, 0, hi, branches)


def question(corpus: Corpus, sees: int, sees_user: bool = True) -> Branch:
    """Words with an item among them."""
    tokens = [*corpus.encode("Recommend"), corpus.items.first + 1, *corpus.encode("?")]
    return Branch(tokens, sees, [("next_item", 0, 1.0, -1)], sees_user)


def test_what_goes_where() -> None:
    """Two words on the user, two events with outcomes, a question with an item in it, and a bare candidate."""
    start, words = 0, 50
    tokens = [1, 20, 21, 60, 51, 61, 52, 30, 62, 31, 63]
    segment = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2]
    limit = [7, 7, 7, 7, 7, 7, 7, 5, 5, 5, 7]
    position = [*range(7), 5, 6, 7, 7]
    n = [0] * 5
    made = Row("shop", tokens, position, segment, limit, [2, 3, 6, 9, 10], [2, 3, 6, 9, 10], n, n, [1.0] * 5, n, [])
    decoded, encoded = split_row(made, Split(words, start))
    assert encoded.tokens.tolist() == [1, 20, 21, 30, 62, 31]
    assert encoded.segment.tolist() == [0, 0, 0, 1, 1, 1]
    assert decoded.tokens == [start, 60, 51, 61, 52, start, 63]
    assert decoded.position == [0, 1, 2, 3, 4, 3, 5]
    assert decoded.segment == [0, 0, 0, 0, 0, 1, 2]
    assert decoded.target_at == [0, 1, 4, 5, 6]
    fields = collate([made], 0, Split(words, start))
    sees = ["1000000", "1100000", "1110000", "1111000", "1111100", "1110010", "1111101"]
    reads = ["111000"] * 5 + ["111111"] + ["111000"]
    for name, expected in {"mask": sees, "cross_mask": reads, "encoder_mask": ["111000"] * 3 + ["000111"] * 3}.items():
        assert fields[name][0, 0].int().tolist() == [[int(c) for c in line] for line in expected], name


def test_a_branch_reads_the_same_alone_and_beside_others(corpus: Corpus, scorer: Scorer) -> None:
    candidate = Branch([corpus.items.first + 4], 5, [("rating", 0, 1.0, -1)])
    branches = [question(corpus, 3), candidate, question(corpus, 6), question(corpus, 6, sees_user=False)]
    together = scorer.states([row(corpus, branches)])
    alone = scorer.states([row(corpus, [b]) for b in branches])
    torch.testing.assert_close(together, alone, **CLOSE)
    assert len(together.round(decimals=3).unique(dim=0)) == len(branches)


def test_a_question_sees_the_user_and_the_history_up_to_its_place(corpus: Corpus, scorer: Scorer) -> None:
    def read(asked: Branch, user: str = "u000", hi: int = 6) -> Tensor:
        return scorer.states([row(corpus, [asked], user, hi)])

    asked, apart = question(corpus, 3), question(corpus, 3, sees_user=False)
    torch.testing.assert_close(read(asked), read(asked, hi=3), **CLOSE)
    assert not torch.allclose(read(asked), read(question(corpus, 2)), **CLOSE)
    assert not torch.allclose(read(asked), read(asked, user="u001"), **CLOSE)  # of another age
    torch.testing.assert_close(read(apart), read(apart, user="u001", hi=2), **CLOSE)


def test_a_candidate_reads_as_the_item_would_in_the_history(corpus: Corpus, scorer: Scorer) -> None:
    whole = training_row(corpus, "u000", corpus.events, 0, 6, [], True)
    rating = corpus.all_tasks.index("rating")
    dense = scorer.states([whole])[[n for n, task in enumerate(whole.target_task) if task == rating][5]]
    candidate = Branch([corpus.items.first + int(corpus.events.item[5])], 5, [("rating", 0, 1.0, -1)])
    torch.testing.assert_close(scorer.states([row(corpus, [candidate])])[0], dense, **CLOSE)


def test_batches_read_as_single_rows(backbone: Backbone) -> None:
    corpus = corpus_of(shop_world(), backbone)
    scorer = Scorer(model_of(corpus, backbone))
    rows = [r for _, r in zip(range(12), training_rows(corpus, RowOptions()), strict=False)]
    assert any(r.segment[-1] > 0 for r in rows) and len({len(r.tokens) for r in rows}) > 1
    torch.testing.assert_close(scorer.states(rows), torch.cat([scorer.states([r]) for r in rows]), **CLOSE)


def test_a_history_reads_as_transformers_reads_it(corpus: Corpus, scorer: Scorer, folder: Path) -> None:
    """The encoder gets the words, the decoder its start token and the events; the first item is asked of the start."""
    plain = AutoModel.from_pretrained(folder, dtype=choose_precision("cpu")).float().eval()
    whole = training_row(corpus, "u000", corpus.events, 0, 6, [], True)
    tokens = torch.tensor(whole.tokens)
    words = int((tokens < corpus.vocabulary.n_words).sum())
    items = scorer.item_rows("chain")[0]
    with torch.no_grad():
        decoded = scorer.model.embed(torch.cat([torch.tensor([0]), tokens[words:]])[None], "chain", items)
        states = plain(input_ids=tokens[None, :words], decoder_inputs_embeds=decoded, use_cache=False)
    at = torch.tensor(whole.target_at) - (words - 1)
    assert words > 1 and at.min() == 0
    torch.testing.assert_close(scorer.states([whole]), states.last_hidden_state[0, at], atol=1e-5, rtol=1e-5)


def test_positions_in_order_give_t5_s_own_bias(backbone: Backbone, folder: Path) -> None:
    """Longer than the distances that T5 tells apart."""
    plain = AutoModel.from_pretrained(folder, dtype=choose_precision("cpu")).float().eval()
    tokens = torch.randint(5, 50, (2, 200), generator=torch.Generator().manual_seed(0))
    places = torch.arange(200).expand(2, -1)
    with torch.no_grad():
        expected = plain(input_ids=tokens, decoder_input_ids=tokens).last_hidden_state
        encoded = plain.encoder(input_ids=tokens)
        found, apart = (
            backbone.model(encoder_outputs=encoded, decoder_input_ids=tokens, position_ids=at).last_hidden_state
            for at in (places, 2 * places)
        )
    assert torch.equal(found, expected)
    assert not torch.allclose(apart, expected, atol=1e-3)


def test_a_sampled_softmax_knows_the_items_of_questions(
    backbone: Backbone, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only item 3 is ever drawn; item 1 is shown in a question and nowhere else."""
    monkeypatch.setattr("genrec.model.recmodel.SAMPLED_ABOVE", ITEMS - 1)
    model = model_of(corpus, backbone)
    head = TaskHead(0, corpus.all_tasks.index("next_item"), "next_item", len(corpus.vocabulary.groups) - 1, 1.0)
    model.head_list, model.heads = (head,), {(0, head.task): 0}
    share = torch.nn.functional.one_hot(torch.tensor(3), ITEMS).float() * 0.9
    model.draws["chain"] = Draws(share, torch.full((ITEMS,), 0.01))
    fields = collate([text_row(corpus, question(corpus, 0))], 0, model.split)
    model.train()
    model(**fields)["loss"].backward()
    moved = model.rows_of("chain").residual.grad.abs().sum(1) > 0
    assert SAMPLES > ITEMS and moved.nonzero().flatten().tolist() == [0, 1, 3]  # 0 is the target


def test_lora_is_on_every_linear_layer_and_fused(folder: Path) -> None:
    found = []
    inputs = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0))
    for fused in (False, True):
        body = load_backbone(str(folder)).model.float()
        torch.manual_seed(0)
        model = add_lora(body, 4, 8)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        if fused:
            assert fuse_lora(model) == 2 * 7 + 2 * 11  # with cross-attention in each block of the decoder
        out = model(inputs_embeds=inputs, decoder_inputs_embeds=inputs).last_hidden_state
        out.square().sum().backward()
        found.append((out.detach(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}))
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=1e-3)


def test_both_stacks_are_cut(tmp_path: Path) -> None:
    deep = tiny_t5(tmp_path / "deep", WORDS, layers=3)
    cut = load_backbone(str(deep), layers=2)
    assert (len(cut.model.encoder.block), len(cut.model.decoder.block)) == (2, 2)
    assert (cut.source.blocks, cut.source.total_blocks, cut.source.architecture) == (2, 3, "T5Model")
    with pytest.raises(GenrecError, match=r"--layers 4: .* has 3 blocks; allowed: 1 to 3"):
        load_backbone(str(deep), layers=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the chain world with clicks, ratings and a task that is asked in words."""
    files = tmp_path_factory.mktemp("chain")
    world = chain_world(users=USERS)
    columns = ["user_id", "item_id", "rating", "timestamp", "event"]
    world.interactions.select(columns).write_csv(files / "chain.csv")
    world.items.write_csv(files / "items.csv")
    world.users.write_csv(files / "users.csv")
    (files / "keeper.yaml").write_text(KEEPER)
    tiny_t5(files / "tiny", WORDS, hidden_size=64)
    more = ["--tasks", str(files / "keeper.yaml"), "--question-share", "1", "--epochs", "36"]
    assert main(toy_command(files, files / "run", *more)) == 0
    return files / "run"


@pytest.fixture(scope="module")
def recommender(run: Path) -> Recommender:
    return Recommender.load(run)


def test_a_t5_learns_what_comes_next_and_how_it_ends(recommender: Recommender) -> None:
    last = chain_world(users=USERS).interactions.group_by("user_id", maintain_order=True).last()
    right = {u: f"{(int(i) + 1) % ITEMS:03}" for u, i in zip(last["user_id"], last["item_id"], strict=True)}
    found = recommender.recommend(recommender.all_users(), k=1).frame
    assert np.mean([right[u] == i for u, i in zip(found["user_id"], found["item_id"], strict=True)]) >= 0.9
    users = [u for u in recommender.all_users() for _ in range(2)]
    items = ["004", "007"] * (len(users) // 2)
    rating = recommender.predict("rating", users=users, items=items).frame["value"].to_numpy()
    assert np.abs(rating - np.tile([5.0, 1.0], len(users) // 2)).mean() < 0.5
    for task in ("click", "keeper"):
        answers = recommender.predict(task, users=users, items=items).frame["value"]
        assert np.mean(answers.to_numpy() == np.tile(["yes", "no"], len(users) // 2)) > 0.9, task


def test_many_users_get_what_each_gets_alone(recommender: Recommender) -> None:
    users = recommender.all_users()[:5]
    together = recommender.recommend(users, k=4).frame
    alone = pl.concat([recommender.recommend(u, k=4).frame for u in users])
    assert together["score"].to_list() == pytest.approx(alone["score"].to_list(), abs=1e-4)


def test_loading_twice_gives_the_same_scores_bit_for_bit(recommender: Recommender, run: Path) -> None:
    again = Recommender.load(run)
    users = recommender.all_users()
    for answer in (
        lambda r: r.recommend(users, k=ITEMS, exclude_seen=False),
        lambda r: r.predict("keeper", users=users, items=["004"] * len(users)),
    ):
        assert answer(recommender).frame.equals(answer(again).frame)
    lora = load_file(run / "adapter" / "adapter_model.safetensors")
    assert any("EncDecAttention" in name for name in lora) and all(v.abs().sum() > 0 for v in lora.values())


def test_nf4_keeps_most_of_the_list(recommender: Recommender, run: Path) -> None:
    pytest.importorskip("bitsandbytes")
    small = Recommender.load(run, quantize="nf4")
    users = recommender.all_users()
    one, two = (
        r.recommend(users, k=3, exclude_seen=False).frame.group_by("user_id").agg("item_id").sort("user_id")["item_id"]
        for r in (recommender, small)
    )
    assert np.mean([len(set(a) & set(b)) / 3 for a, b in zip(one, two, strict=True)]) > 0.7


def test_texts_are_read_by_the_encoder(tmp_path: Path, folder: Path) -> None:
    review_world().interactions.drop("row", "event", "category").write_csv(tmp_path / "reviews.csv")
    files = ["--interactions", str(tmp_path / "reviews.csv"), "--model", str(folder)]
    rates = ["--lr", "5e-3", "--row-lr", "2e-2", "--epochs", "8", "--batch-tokens", "512"]
    assert main(["finetune", *files, "--out", str(tmp_path / "run"), *rates]) == 0
    texts = ["good thing , red and new", "fair thing , red and new", "bad thing , blue and old"]
    found = Recommender.load(tmp_path / "run").predict("sentiment", texts=texts).frame
    assert found["value"].to_list() == ["positive", "neutral", "negative"]


def test_an_mt5_is_read_alike(corpus: Corpus, scorer: Scorer, folder: Path, tmp_path: Path) -> None:
    """Its weights have the names of T5's."""
    shutil.copytree(folder, tmp_path / "mt5")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "mt5" / "config.json").write_text(json.dumps(config | {"model_type": "mt5"}))
    other = load_backbone(str(tmp_path / "mt5"))
    other.model.float()
    assert other.source.architecture == "MT5Model"
    rows = [row(corpus, [question(corpus, 3)])]
    assert torch.equal(scorer.states(rows), Scorer(model_of(corpus, other)).states(rows))


def test_other_weights_than_the_adapters(folder: Path, tmp_path: Path) -> None:
    trained_on = load_backbone(str(folder)).source
    with pytest.raises(RunError, match="blocks 2, not 1"):
        load_backbone(str(folder), expected=replace(trained_on, blocks=1))
