"""Load a pretrained model frozen, with its first blocks."""

import importlib.util
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
from ..errors import GenrecError, RunError, UnavailableError
from ..files import checked_json, shown
from ..tasks.vocabulary import Vocabulary
from .attention import chunk_attention
from .encoder_decoder import ENCODER_DECODERS, bias_by_position
from .precision import choose_precision, default_device, describe_precision
from .pretrained import CAUSAL, ENCODER, find_pretrained
from .source import BackboneSource, foreign_errors, hash_files, quiet_loading, weight_files

log = logging.getLogger(__name__)
Quantize = Literal["none", "nf4"]
ROOM = 320  # positions for what is known of the user, and a question or a text
LEAST_SHARE = 1 / 16  # of a model's numbers that its weight files hold, packed to 4 bits or with parts left out


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
    where = torch.device(device or default_device())
    found = find_pretrained(model, cache or cache_folder(), expected, CAUSAL)
    weights = weight_files(found.folder)
    config = _config(found.folder, model)
    total = _depth(config, weights)
    blocks = min(total, at_most or total) if layers is None else layers
    if not 1 <= blocks <= total:
        raise GenrecError(f"--layers {layers}: {model} has {total} blocks; allowed: 1 to {total}")
    _keep_blocks(config, blocks)
    digest = found.sha256 or hash_files(weights)
    with quiet_loading():
        body = _load_body(found.folder, weights, config, quantize, where, choose_precision(where))
        tokenizer = _load_tokenizer(found.folder)
    source = BackboneSource(
        model=found.model,
        kind=found.kind,
        revision=found.revision,
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
        "backbone: %s (%s), %d of %d blocks, %s", source.model, source.kind, blocks, total, describe_precision(where)
    )
    return Backbone(body, tokenizer, source)


def load_encoder(model: str, *, cache: Path | None = None) -> Backbone:
    """A BERT-style encoder of texts, whole and in float32, in eval mode, nothing trainable; raises as load_backbone."""
    where = torch.device(default_device())
    found = find_pretrained(model, cache or cache_folder(), None, ENCODER)
    weights = weight_files(found.folder)
    config = _encoder_config(found.folder, model)
    total = _depth(config, weights)
    with quiet_loading():
        body = _load_body(found.folder, weights, config, "none", where, torch.float32)
        tokenizer = _load_tokenizer(found.folder)
    source = BackboneSource(
        model=found.model,
        kind=found.kind,
        revision=found.revision,
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

    expected: the source an adapter was trained on, of which any blocks may have been kept; raises as load_backbone.
    """
    where = torch.device(device or default_device())
    found = find_pretrained(model, cache_folder(), expected, CAUSAL)
    weights = weight_files(found.folder)
    config = _config(found.folder, model)
    if config.is_encoder_decoder:
        raise GenrecError(f"{model} is an encoder-decoder model; titles as items need a decoder-only one")
    total = _depth(config, weights)
    kind = transformers.AutoModelForCausalLM
    with quiet_loading():
        whole = _load_body(found.folder, weights, config, "none", where, choose_precision(where), kind)
        tokenizer = _load_tokenizer(found.folder)
    source = BackboneSource(
        model=found.model,
        kind=found.kind,
        revision=found.revision,
        sha256=found.sha256 or hash_files(weights),
        blocks=total,
        total_blocks=total,
        architecture=type(whole.base_model).__name__,
        hidden_size=int(config.hidden_size),
    )
    if expected is not None and not allow_mismatch:
        _check_expected(replace(source, blocks=expected.blocks), expected)
    whole.eval().requires_grad_(False)
    return Backbone(whole, tokenizer, source)


def word_table(backbone: Backbone) -> torch.nn.Embedding:
    """The backbone's embedding layer."""
    table = backbone.model.get_input_embeddings()
    assert isinstance(table, torch.nn.Embedding)
    return table


def word_count(backbone: Backbone) -> int:
    """How many tokens are words: those of the tokenizer, or of the embedding layer where it has more."""
    return max(len(backbone.tokenizer), word_table(backbone).num_embeddings)


def events_that_fit(backbone: Backbone, vocabulary: Vocabulary) -> int:
    """How many events a row may show beside a header and a question, in the positions that the backbone knows."""
    positions = getattr(backbone.model.config, "max_position_embeddings", None) or 2**20
    with_outcomes = any(not g.is_items for g in vocabulary.groups)
    return max(2, (positions - ROOM) // (2 if with_outcomes else 1))


def _config(folder: Path, model: str) -> transformers.PreTrainedConfig:
    """The folder's config, refused unless it is that of a plain causal language model or of a T5."""
    config = _read_config(folder)
    kind = config.model_type
    with foreign_errors(f"{folder / 'config.json'}: cannot be used"):
        masked = _is_encoder(config) or any("MaskedLM" in name for name in config.architectures or [])
    known = ENCODER_DECODERS if config.is_encoder_decoder else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if masked or kind not in known:
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
    """Whether every token of the model sees every other; BERT's kin can be configured either way."""
    two_way = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    return two_way and not config.is_encoder_decoder


def _read_config(folder: Path) -> transformers.PreTrainedConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise RunError(
            f"{folder}: no config.json; a model folder holds config.json, a tokenizer and safetensors weights"
        )
    with foreign_errors(f"{path}: cannot be used"):
        given = checked_json(path.read_bytes(), TypeAdapter(dict[str, Any]))
    kind = given.get("model_type")
    if "auto_map" in given and kind not in CONFIG_MAPPING_NAMES:
        raise RunError(f"{path}: model_type {shown(kind)} needs code of its own (auto_map), which is never run")
    for name, value in given.items():
        if name.endswith("_implementation") and "/" in str(value):
            raise RunError(f"{path}: {name} {shown(value)} names code on the hub, which is never run")
    with foreign_errors(f"{path}: cannot be used"):
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _depth(config: transformers.PreTrainedConfig, weights: Sequence[Path]) -> int:
    """Blocks of the model; of an encoder-decoder, of its deeper stack. Raises RunError where the weight files cannot
    hold them."""
    decoder = config.num_decoder_layers if config.is_encoder_decoder else 0
    found = max(int(config.num_hidden_layers), int(decoder))
    tensors = len(_sizes(weights))
    if not 1 <= found <= tensors:
        raise RunError(
            f"{weights[0].parent / 'config.json'}: {found:,} blocks do not fit weight files of {tensors:,} tensors"
        )
    return found


def _sizes(weights: Sequence[Path]) -> list[int]:
    """Numbers in each tensor of the weight files."""
    found = []
    for file in weights:
        with safe_open(file, "pt") as tensors:
            found += [math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()]
    return found


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
    kind: Any = transformers.AutoModel,
) -> transformers.PreTrainedModel:
    """The model, by default without its LM head, on the device; every weight it needs must be in the files, and their
    number is compared first, lest a config of a few lines asks for more memory than there is."""
    options: dict[str, Any] = {"device_map": {"": device}} if device.type != "cpu" else {}
    if quantize == "nf4":
        options = {"device_map": {"": device}, "quantization_config": _nf4()}
    with foreign_errors(f"{folder}: the weights cannot be loaded"):
        with torch.device("meta"):
            wanted = sum(p.numel() for p in kind.from_config(config, trust_remote_code=False).parameters())
        if sum(_sizes(weights)) < wanted * LEAST_SHARE:
            raise RunError(f"{folder / 'config.json'}: {wanted:,} numbers do not fit the weight files")
        body, info = kind.from_pretrained(
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
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UnavailableError("--quantize nf4 needs bitsandbytes: pip install 'genrec[nf4]'")
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
