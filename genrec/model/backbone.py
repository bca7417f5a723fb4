"""Load a pretrained model frozen, with its first blocks."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from pydantic import TypeAdapter
from safetensors import safe_open
from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from ..data.fetch import cache_folder
from ..errors import GenrecError, RunError
from ..extras import require
from ..files import checked_json, shown
from ..tasks.vocabulary import Vocabulary
from .attention import chunk_attention
from .encoder_decoder import ENCODER_DECODERS, bias_by_position
from .precision import choose_precision, default_device, describe_precision
from .pretrained import CAUSAL, ENCODER, find_pretrained
from .source import BackboneSource, foreign_errors, hash_files, quiet_loading, weight_files

log = logging.getLogger(__name__)
Quantize = Literal["none", "nf4"]
ROOM = 320  # positions for the user's header, and a question or a text
MIN_SHARE = 1 / 16  # of a model's numbers that its weight files hold, packed to 4 bits or with parts left out


@dataclass(frozen=True)
class Backbone:
    """A frozen model, its tokenizer, and where both came from; only load_language gives it an LM head, the others give
    `last_hidden_state`."""

    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    source: BackboneSource


def load_backbone(
    model: str = "smollm2-135m",
    *,
    layers: int | None = None,
    at_most: int | None = None,
    quantize: Quantize = "none",
    device: str | None = None,
    cache: Path | None = None,
    expected: BackboneSource | None = None,
    allow_mismatch: bool = False,
) -> Backbone:
    """The first `layers` blocks (None: all, or `at_most`) of a causal model, or of both stacks of a T5, in eval mode,
    nothing trainable.

    expected: the source an adapter was trained on; fetched first, other weights raise RunError unless allow_mismatch.
    Raises UnknownNameError, UnavailableError (nothing cached and no network), RunError (files that cannot be used).
    """
    torch_device = torch.device(device or default_device())
    files = find_pretrained(model, cache or cache_folder(), expected, CAUSAL)
    weights = weight_files(files.folder)
    config = _config(files.folder, model)
    total = _depth(config, weights)
    blocks = min(total, at_most or total) if layers is None else layers
    if not 1 <= blocks <= total:
        raise GenrecError(f"--layers {layers}: {model} has {total} blocks; allowed: 1 to {total}")
    _keep_blocks(config, blocks)
    digest = files.sha256 or hash_files(weights)
    with quiet_loading():
        body = _load_body(files.folder, weights, config, quantize, torch_device, choose_precision(torch_device))
        tokenizer = _load_tokenizer(files.folder)
    source = BackboneSource(
        model=files.model,
        kind=files.kind,
        revision=files.revision,
        sha256=digest,
        blocks=blocks,
        total_blocks=total,
        architecture=type(body).__name__,
        hidden_size=int(config.hidden_size),
    )
    if expected is not None and not allow_mismatch:
        _check_expected(source, expected)
    body.eval().requires_grad_(False)
    chunk_attention(body)
    if config.is_encoder_decoder:
        bias_by_position(body)
    log.info(
        "backbone: %s (%s), %d of %d blocks, %s",
        source.model,
        source.kind,
        blocks,
        total,
        describe_precision(torch_device),
    )
    return Backbone(body, tokenizer, source)


def load_encoder(model: str, *, cache: Path | None = None) -> Backbone:
    """A BERT-style encoder of texts, whole and in float32, in eval mode, nothing trainable; raises as load_backbone."""
    torch_device = torch.device(default_device())
    files = find_pretrained(model, cache or cache_folder(), None, ENCODER)
    weights = weight_files(files.folder)
    config = _encoder_config(files.folder, model)
    total = _depth(config, weights)
    with quiet_loading():
        body = _load_body(files.folder, weights, config, "none", torch_device, torch.float32)
        tokenizer = _load_tokenizer(files.folder)
    source = BackboneSource(
        model=files.model,
        kind=files.kind,
        revision=files.revision,
        sha256=hash_files(weights),
        blocks=total,
        total_blocks=total,
        architecture=type(body).__name__,
        hidden_size=int(config.hidden_size),
    )
    body.eval().requires_grad_(False)
    return Backbone(body, tokenizer, source)


def load_language(
    model: str, *, device: str | None = None, expected: BackboneSource | None = None, allow_mismatch: bool = False
) -> Backbone:
    """A causal model with all its blocks and its LM head, as it was pretrained, in eval mode, nothing trainable.

    expected: the source an adapter was trained on, with any number of its blocks; raises as load_backbone.
    """
    torch_device = torch.device(device or default_device())
    files = find_pretrained(model, cache_folder(), expected, CAUSAL)
    weights = weight_files(files.folder)
    config = _config(files.folder, model)
    if config.is_encoder_decoder:
        raise GenrecError(f"{model} is an encoder-decoder model; titles as items need a decoder-only one")
    total = _depth(config, weights)
    auto_class = transformers.AutoModelForCausalLM
    with quiet_loading():
        language_model = _load_body(
            files.folder, weights, config, "none", torch_device, choose_precision(torch_device), auto_class
        )
        tokenizer = _load_tokenizer(files.folder)
    source = BackboneSource(
        model=files.model,
        kind=files.kind,
        revision=files.revision,
        sha256=files.sha256 or hash_files(weights),
        blocks=total,
        total_blocks=total,
        architecture=type(language_model.base_model).__name__,
        hidden_size=int(config.hidden_size),
    )
    if expected is not None and not allow_mismatch:
        _check_expected(replace(source, blocks=expected.blocks), expected)
    language_model.eval().requires_grad_(False)
    return Backbone(language_model, tokenizer, source)


def word_table(backbone: Backbone) -> torch.nn.Embedding:
    """The backbone's embedding layer."""
    table = backbone.model.get_input_embeddings()
    assert isinstance(table, torch.nn.Embedding)
    return table


def word_count(backbone: Backbone) -> int:
    """How many tokens are words: those of the tokenizer, or of the embedding layer if it has more."""
    return max(len(backbone.tokenizer), word_table(backbone).num_embeddings)


def events_that_fit(backbone: Backbone, vocabulary: Vocabulary) -> int:
    """How many events a row may show beside a header and a question, in the positions that the backbone has."""
    positions = getattr(backbone.model.config, "max_position_embeddings", None) or 2**20
    with_outcomes = any(not g.is_items for g in vocabulary.groups)
    return max(2, (positions - ROOM) // (2 if with_outcomes else 1))


def _config(folder: Path, model: str) -> transformers.PreTrainedConfig:
    """The folder's config, refused unless it is that of a plain causal language model or of a T5."""
    config = _read_config(folder)
    kind = config.model_type
    with foreign_errors(f"{folder / 'config.json'}: cannot be used"):
        masked = _is_encoder(config) or any("MaskedLM" in name for name in config.architectures or [])
    supported = ENCODER_DECODERS if config.is_encoder_decoder else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if masked or kind not in supported:
        raise GenrecError(
            f"--model {model}: architecture '{kind}' is not supported; supported: decoder-only models that "
            "transformers loads with AutoModelForCausalLM (Llama, SmolLM2, Qwen, Mistral, Gemma, GPT-2, ...), and of "
            f"encoder-decoder models {', '.join(ENCODER_DECODERS)} (T5, Flan-T5, mT5)"
        )
    if config.get_text_config() is not config:
        raise GenrecError(
            f"--model {model}: architecture '{kind}' reads more than text; supported: text-only causal models"
        )
    return config


def _encoder_config(folder: Path, model: str) -> transformers.PreTrainedConfig:
    """The folder's config, refused unless it is that of an encoder of texts."""
    config = _read_config(folder)
    if not _is_encoder(config):
        raise GenrecError(
            f"--item-text-model {model}: architecture '{config.model_type}' is not an encoder of texts; supported: "
            "encoders that transformers loads with AutoModel (BERT, RoBERTa, MPNet, DistilBERT, ModernBERT, ...)"
        )
    return config


def _is_encoder(config: transformers.PreTrainedConfig) -> bool:
    """Whether attention goes both ways; a model like BERT can be configured either way."""
    two_way = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    return two_way and not config.is_encoder_decoder


def _read_config(folder: Path) -> transformers.PreTrainedConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise RunError(
            f"{folder}: no config.json; a model folder holds config.json, a tokenizer and safetensors weights"
        )
    with foreign_errors(f"{path}: cannot be used"):
        values = checked_json(path.read_bytes(), TypeAdapter(dict[str, Any]))
    kind = values.get("model_type")
    if "auto_map" in values and kind not in CONFIG_MAPPING_NAMES:
        raise RunError(f"{path}: model_type {shown(kind)} needs code of its own (auto_map), which is never run")
    for name, value in values.items():
        if name.endswith("_implementation") and "/" in str(value):
            raise RunError(f"{path}: {name} {shown(value)} names code on the hub, which is never run")
    with foreign_errors(f"{path}: cannot be used"):
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _depth(config: transformers.PreTrainedConfig, weights: Sequence[Path]) -> int:
    """Blocks of the model; of an encoder-decoder, of its deeper stack. Raises RunError if the weight files cannot
    hold them."""
    decoder = config.num_decoder_layers if config.is_encoder_decoder else 0
    blocks = max(int(config.num_hidden_layers), int(decoder))
    tensors = len(_sizes(weights))
    if not 1 <= blocks <= tensors:
        raise RunError(
            f"{weights[0].parent / 'config.json'}: {blocks:,} blocks do not fit weight files of {tensors:,} tensors"
        )
    return blocks


def _sizes(weights: Sequence[Path]) -> list[int]:
    """Numbers in each tensor of the weight files."""
    sizes = []
    for file in weights:
        with safe_open(file, "pt") as tensors:
            sizes += [math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()]
    return sizes


def _keep_blocks(config: transformers.PreTrainedConfig, blocks: int) -> None:
    """Cut the config to its first blocks, both stacks of an encoder-decoder; lists with one entry per block are cut
    alike."""
    per_block = {
        k: v for k, v in config.to_dict().items() if isinstance(v, list) and len(v) == config.num_hidden_layers
    }
    config.num_hidden_layers = min(config.num_hidden_layers, blocks)
    if config.is_encoder_decoder:
        config.num_decoder_layers = min(config.num_decoder_layers, blocks)
    for name, values in per_block.items():
        setattr(config, name, values[:blocks])


def _load_body(
    folder: Path,
    weights: Sequence[Path],
    config: transformers.PreTrainedConfig,
    quantize: Quantize,
    device: torch.device,
    dtype: torch.dtype,
    auto_class: Any = transformers.AutoModel,
) -> transformers.PreTrainedModel:
    """The model, by default without its LM head, on the device; every weight it needs must be in the files, and their
    number is compared first, so that a config of a few lines cannot ask for more memory than there is."""
    options: dict[str, Any] = {"device_map": {"": device}} if device.type != "cpu" else {}
    if quantize == "nf4":
        options = {"device_map": {"": device}, "quantization_config": _nf4()}
    with foreign_errors(f"{folder}: the weights cannot be loaded"):
        with torch.device("meta"):
            n_parameters = sum(p.numel() for p in auto_class.from_config(config, trust_remote_code=False).parameters())
        if sum(_sizes(weights)) < n_parameters * MIN_SHARE:
            raise RunError(f"{folder / 'config.json'}: {n_parameters:,} numbers do not fit the weight files")
        body, info = auto_class.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))  # read by nothing here
    if missing:
        raise RunError(f"{folder}: the weight files lack {len(missing)} tensors, the first: {missing[0]}")
    return body


def _nf4() -> transformers.BitsAndBytesConfig:
    """4-bit NormalFloat with double quantization (QLoRA, Dettmers et al. 2023)."""
    require("nf4")
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _load_tokenizer(folder: Path) -> transformers.PreTrainedTokenizerBase:
    with foreign_errors(f"{folder}: no usable tokenizer"):
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _check_expected(source: BackboneSource, expected: BackboneSource) -> None:
    """Refuse weights other than those the adapter was trained on."""
    fields = ("sha256", "architecture", "blocks", "total_blocks", "hidden_size")
    differs = [f"{f} {getattr(source, f)}, not {getattr(expected, f)}" for f in fields if _differs(source, expected, f)]
    if differs:
        raise RunError(
            f"The backbone is not the one this adapter was trained on: loaded {source.model} ({source.kind}), "
            f"trained on {expected.model} ({expected.kind}); {'; '.join(differs)}. "
            "--allow-backbone-mismatch loads it all the same."
        )


def _differs(source: BackboneSource, expected: BackboneSource, name: str) -> bool:
    return bool(getattr(source, name) != getattr(expected, name))
