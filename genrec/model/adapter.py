"""The adapter folder: LoRA in PEFT's own format, item rows, catalogue, tasks, tokenizer and a manifest. Data only."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import __version__
from ..errors import RunError
from ..tasks.task import Task, load_task
from ..tasks.vocabulary import Vocabulary
from .backbone import Backbone, BackboneSource, Quantize, load_backbone
from .effects import Effects
from .item_rows import ItemRows
from .neighbours import Links, Neighbours
from .recmodel import RecModel

if TYPE_CHECKING:  # peft takes a second to import, and answers from a merged backbone need none of it
    from peft import LoraConfig, PeftModel

FORMAT = 4  # of what an adapter means; another format's answers would be wrong
MANIFEST = "genrec.json"
ROWS = "item_rows.safetensors"
CATALOGUE = "catalogue.parquet"


@dataclass(frozen=True)
class Manifest:
    """What an adapter is: read from and written to genrec.json.

    text_encoder: where the items' text vectors come from, None for the backbone's own words. tasks: per data set, per
    task, its answers (words, values). calibration: per `dataset/task`, temperature and bias.
    files: sha256 of every other file of the folder.
    """

    backbone: BackboneSource
    vocabulary: Vocabulary
    tasks: Mapping[str, Mapping[str, Any]]
    max_events: int
    header_columns: Mapping[str, Sequence[str]]
    calibration: Mapping[str, Any]
    metrics: Mapping[str, float]
    fingerprints: Mapping[str, str]
    options: Mapping[str, Any]
    files: Mapping[str, str]
    text_encoder: BackboneSource | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        value = asdict(self)
        return {"format": FORMAT, "genrec": __version__, **value, "vocabulary": self.vocabulary.to_json()}


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter: the model, its tokenizer, tasks by name, and the catalogue of each data set."""

    model: RecModel
    tokenizer: Any
    manifest: Manifest
    tasks: Mapping[str, Task]
    catalogues: Mapping[str, pl.DataFrame]

    def tasks_of(self, dataset: str) -> list[Task]:
        """The tasks of a data set, with the answers that training found in it."""
        found = []
        for name, answers in self.manifest.tasks[dataset].items():
            task = self.tasks[name]
            answer = replace(task.answer, choices=tuple(answers["words"]), values=tuple(answers["values"]))
            found.append(replace(task, answer=answer))
        return found


def add_lora(backbone: torch.nn.Module, r: int, alpha: int) -> "PeftModel":
    """LoRA on every linear layer of the backbone (Hu et al. 2021), its weights in float32."""
    from peft import get_peft_model

    # peft asks an attribute that transformers renames in v6
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(backbone, lora_config(r, alpha))


def lora_config(r: int, alpha: int) -> "LoraConfig":
    """LoRA without dropout: its masks cost a CPU more time than they are worth (measured)."""
    from peft import LoraConfig

    return LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", bias="none")


def own_state(model: RecModel) -> dict[str, Tensor]:
    """Every tensor of the model that is not the backbone's: outcome rows, item rows with their starting vectors,
    scales."""
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if not k.startswith("backbone.")}


def trainable_state(model: RecModel) -> dict[str, Tensor]:
    """Every trained tensor, LoRA included."""
    return {k: v.detach().cpu().contiguous() for k, v in model.named_parameters() if v.requires_grad}


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_adapter(
    folder: Path,
    model: RecModel,
    tokenizer: Any,
    manifest: Manifest,
    tasks: Sequence[Task],
    catalogues: Mapping[str, pl.DataFrame],
    card: str,
) -> None:
    """Write the folder whole or not at all: into a neighbour first, then renamed."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "tasks").mkdir(parents=True)
    model.backbone.save_pretrained(partial)  # type: ignore[operator]
    clean_adapter_config(partial / "adapter_config.json", manifest.backbone.model)
    save_file(own_state(model), partial / ROWS)
    empty = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String, "dataset": pl.String})
    named = [frame.with_columns(pl.lit(name).alias("dataset")) for name, frame in catalogues.items()]
    pl.concat(named or [empty], how="diagonal_relaxed").write_parquet(partial / CATALOGUE)
    for task in tasks:
        (partial / "tasks" / f"{task.name}.yaml").write_text(task.text, encoding="utf-8")
    tokenizer.save_pretrained(partial)
    (partial / "README.md").write_text(card, encoding="utf-8")
    files = {str(p.relative_to(partial)): file_hash(p) for p in sorted(partial.rglob("*")) if p.is_file()}
    text = json.dumps(manifest.to_json() | {"files": files}, indent=1, ensure_ascii=False)
    (partial / MANIFEST).write_text(text, encoding="utf-8")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def clean_adapter_config(path: Path, model: str) -> None:
    """No local path leaves in PEFT's file: the base model is named as the user named it."""
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = model
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an adapter folder; raises RunError where it is missing, damaged or of another format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise RunError(
            f"{folder} is not a finished adapter: {MANIFEST} is missing. "
            "Train one with `genrec finetune ... --out RUN`."
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        found = int(value["format"])
        if found != FORMAT:
            raise RunError(
                f"{folder} has format {found}, this genrec ({__version__}) reads format {FORMAT}; "
                f"it was written by genrec {value.get('genrec')}" + ("; train it anew" if found < FORMAT else "")
            )
        read = ("backbone", "vocabulary", "text_encoder")
        rest = {f.name: value[f.name] for f in fields(Manifest) if f.name not in read}
        encoder = BackboneSource(**value["text_encoder"]) if value.get("text_encoder") else None
        backbone, vocabulary = BackboneSource(**value["backbone"]), Vocabulary.from_json(value["vocabulary"])
        return Manifest(backbone=backbone, vocabulary=vocabulary, text_encoder=encoder, **rest)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error!r}") from error


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every file of the manifest is there and unchanged; raises RunError naming the first that is not."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise RunError(f"{folder} is incomplete: {name} is missing")
        if file_hash(path) != expected:
            raise RunError(
                f"{path} is damaged: its sha256 is not the one in {MANIFEST}; fetch or train the adapter again"
            )


def read_catalogues(folder: Path, manifest: Manifest) -> dict[str, pl.DataFrame]:
    """The items of each data set, in the order of their item tokens."""
    frame = pl.read_parquet(folder / CATALOGUE)
    found = {}
    for name in manifest.vocabulary.datasets:
        own = frame.filter(pl.col("dataset") == name).drop("dataset")
        if own.height:
            keep = [c for c in own.columns if c in ("item_id", "title") or own[c].null_count() < own.height]
            found[name] = own.select(keep)
    return found


def load_adapter(
    folder: Path,
    *,
    quantize: Quantize = "none",
    device: str | None = None,
    cache: Path | None = None,
    allow_mismatch: bool = False,
    place: str | None = None,
    merge: bool = True,
) -> Adapter:
    """Load an adapter onto the backbone it was trained on.

    Raises RunError where files are missing, damaged or of another format, or the backbone differs and `allow_mismatch`
    is not set. place: where the backbone is, for one that is a folder or file of the user's: an adapter holds no path.
    merge: whether LoRA goes into the weights of an unquantized backbone; with nf4 it stays apart.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    source = manifest.backbone
    backbone: Backbone = load_backbone(
        place or source.model,
        layers=source.blocks,
        quantize=quantize,
        device=device,
        cache=cache,
        expected=source,
        allow_mismatch=allow_mismatch,
    )
    try:
        state = load_file(folder / ROWS)
    except SafetensorError as error:
        raise RunError(f"{folder / ROWS} is damaged: {error}") from error
    body = merged(backbone.model, folder) if merge and quantize == "none" else with_lora(backbone.model, folder)
    model = empty_model(body, manifest.vocabulary, state)
    model.load_state_dict(state, strict=False)
    model.to(backbone.model.device)
    model.eval()
    tasks = {p.stem: load_task(p) for p in sorted((folder / "tasks").glob("*.yaml"))}
    return Adapter(model, backbone.tokenizer, manifest, tasks, read_catalogues(folder, manifest))


def with_lora(backbone: nn.Module, folder: Path) -> nn.Module:
    """The backbone with an adapter folder's LoRA beside its weights, in the dtype of its activations."""
    from peft import PeftModel

    from .fused_lora import fuse_lora

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        found = PeftModel.from_pretrained(backbone, str(folder), is_trainable=False)
    dtype = backbone.get_input_embeddings().weight.dtype  # type: ignore[operator]
    for name, parameter in found.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    fuse_lora(found)
    return found


def merged(backbone: nn.Module, folder: Path) -> nn.Module:
    """The backbone with an adapter folder's LoRA in its weights, summed in float32 and rounded once.

    In bf16 the scores are then no further from those of float32 than with LoRA apart (`scripts/bench decode`).
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    scale = config["lora_alpha"] / config["r"]
    state = load_file(folder / "adapter_model.safetensors")
    for key in [k for k in state if k.endswith(".lora_A.weight")]:
        down, up = state[key], state[key.replace(".lora_A.", ".lora_B.")]
        layer = backbone.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        weight = layer.weight
        assert isinstance(weight, Tensor)
        update = (up.float() @ down.float()).to(weight.device)
        if not isinstance(layer, nn.Linear):
            update = update.t()  # transformers' Conv1D, as in GPT-2
        weight.data = weight.float().add_(update, alpha=scale).to(weight.dtype)
    return backbone


def make_room(rows: ItemRows, state: Mapping[str, Tensor], key: str) -> None:
    """Give item rows neighbours and effects of the sizes of a saved state, whose names begin with `key`."""
    if (weight := state.get(key + "neighbours.weight")) is not None:
        rows.neighbours = Neighbours([Links.like(state, f"{key}neighbours.kinds.{n}.") for n in range(weight.shape[1])])
    if key + "effects.item" in state:
        rows.effects = Effects.like(state, key + "effects.")


def continue_from(model: RecModel, folder: Path) -> None:
    """Put an adapter folder's LoRA, rows, neighbours and effects into a model made for training on the same data, or on
    data that has grown: items beyond those of the folder keep the rows that the model has, and `warm` tells who was
    taken since."""
    from peft import set_peft_model_state_dict

    state = load_file(folder / ROWS)
    for number, rows in enumerate(model.catalogues):
        assert isinstance(rows, ItemRows)
        key = f"catalogues.{number}."
        make_room(rows, state, key)
        old = len(state[key + "text"])
        woken = rows.warm[:old] & ~state[key + "warm"].to(rows.warm.device)
        bias = rows.bias.data.clone()
        for name in ("text", "collaborative", "known", "warm", "residual", "bias"):
            own = getattr(rows, name).data.cpu()
            state[key + name] = torch.cat([state[key + name].to(own), own[old:]])
        state[key + "warm"][:old] |= woken.cpu()
        state[key + "bias"][:old][woken.cpu()] = bias[:old][woken].cpu()
        for name in ("neighbours", "effects"):
            start, beside = f"{key}{name}.", getattr(rows, name)
            own = {k.removeprefix(start): state.pop(k) for k in list(state) if k.startswith(start)}
            if beside is not None:
                beside.load_state_dict(own)
                beside.extend(len(rows.warm) - old)
    _, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    set_peft_model_state_dict(model.backbone, load_file(folder / "adapter_model.safetensors"))
    model.to(model.device)  # what was made here lies on the CPU


def empty_model(backbone: torch.nn.Module, vocabulary: Vocabulary, state: Mapping[str, Tensor]) -> RecModel:
    """A model of the shapes that `state` holds."""
    catalogues = {}
    names = [g.dataset for g in vocabulary.groups if g.is_items]
    order = [n for n in vocabulary.datasets if n in names]
    for number, name in enumerate(order):
        key = f"catalogues.{number}."
        text, known = state[key + "text"], state[key + "known"]
        rows = ItemRows(text, state[key + "collaborative"], known, rank=state[key + "down"].shape[1])
        make_room(rows, state, key)
        catalogues[name] = rows
    model = RecModel(backbone, vocabulary, catalogues, state["outcome_rows"])
    model.log_variance = torch.nn.Parameter(state["log_variance"].clone(), requires_grad=False)
    return model
