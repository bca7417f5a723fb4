"""GGUF files converted once to safetensors."""

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import TypeAdapter
from safetensors.torch import save_file

from ..data.fetch import CACHE_HINT
from ..errors import RunError
from ..files import read_json, write_errors
from .source import Kind, PretrainedFiles, foreign_errors, hash_file, quiet_loading

log = logging.getLogger(__name__)


def from_gguf(path: Path, cache: Path, *, model: str, kind: Kind) -> PretrainedFiles:
    """A GGUF file, de-quantized once into the cache under its own hash."""
    digest = hash_file(path)
    folder = cache / "models" / f"{path.stem}-{digest[:16]}"
    files = converted(folder, model, kind, None)
    if files is None:
        convert_gguf(path, folder)
        files = converted(folder, model, kind, None)
    if files is None:
        raise RunError(f"{folder}: the converted model is incomplete; delete the folder and try again")
    return files


def converted(folder: Path, model: str, kind: Kind, revision: str | None) -> PretrainedFiles | None:
    """A converted GGUF, its weights checked against the hash noted when it was written."""
    note = folder / "genrec_source.json"
    if not note.is_file():
        return None
    hashes = read_json(note, TypeAdapter(dict[str, str]))
    if missing := {"gguf_sha256", "weights_sha256"} - set(hashes):
        raise RunError(f"{note}: no {min(missing)}; delete {folder}")
    weights = folder / "model.safetensors"
    if hash_file(weights) != hashes["weights_sha256"]:
        raise RunError(f"{weights}: corrupt (its hash is not the one noted when it was written); delete {folder}")
    return PretrainedFiles(folder, model, kind, revision, hashes["gguf_sha256"])


def convert_gguf(path: Path, folder: Path) -> None:
    """Write a GGUF as bf16 safetensors, config and tokenizer: into a temporary folder, then renamed.

    Raises RunError for a file that cannot be read.
    """
    log.info("converting %s once into %s", path.name, folder)
    options: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    with foreign_errors(f"{path}: cannot be read as a GGUF causal model"), quiet_loading():
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
    with write_errors(folder, CACHE_HINT):
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            save_file(tensors, scratch / "model.safetensors", metadata={"format": "pt"})
            config.architectures = [type(model).__name__]
            config.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            hashes = {"gguf_sha256": hash_file(path), "weights_sha256": hash_file(scratch / "model.safetensors")}
            (scratch / "genrec_source.json").write_text(json.dumps(hashes))
            shutil.rmtree(folder, ignore_errors=True)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
