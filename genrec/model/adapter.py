"""The adapter folder: LoRA in PEFT's own format, item rows, catalogue, tasks, tokenizer and a manifest. Data only."""

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import polars as pl
import torch
from pydantic import AfterValidator, Field, TypeAdapter, ValidateAs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .. import __version__
from ..errors import RunError
from ..files import one_line, read_json, read_parquet, shown, sync, sync_all
from ..tasks.task import Task, load_task
from ..tasks.vocabulary import EVENT, ITEMS, Vocabulary
from .backbone import Backbone, BackboneSource, Quantize, events_that_fit, load_backbone, word_count
from .effects import Effects
from .item_rows import ItemRows
from .neighbours import DECAYS, QUESTIONS, Links, Neighbours
from .recmodel import RecModel

if TYPE_CHECKING:  # peft takes a second to import, and answers from a merged backbone need none of it
    from peft import LoraConfig, PeftModel

log = logging.getLogger(__name__)

FORMAT = 4  # of what an adapter means; another format's answers would be wrong
MANIFEST = "genrec.json"
ROWS = "item_rows.safetensors"
CATALOGUE = "catalogue.parquet"
LORA, LORA_CONFIG = "adapter_model.safetensors", "adapter_config.json"
COLUMNS = (pl.String(), pl.Int64(), pl.Float64(), pl.List(pl.String()))  # what a catalogue's attributes are
LORA_IS: Mapping[str, Any] = {  # what PEFT's file says besides nothing
    "peft_type": "LORA",
    "bias": "none",
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
}
LORA_TELLS = (
    *("r", "lora_alpha", "lora_dropout", "target_modules", "task_type", "inference_mode"),
    *("auto_mapping", "base_model_name_or_path", "revision", "peft_version"),
)  # what may stand there too: the first two are read, and the tensors tell which layers there are

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class _Group:
    """A group of the vocabulary as genrec.json holds it."""

    dataset: str
    name: str
    size: Count
    words: tuple[str, ...]
    values: tuple[Finite, ...]


@dataclass(frozen=True)
class _Groups:
    """The vocabulary as genrec.json holds it."""

    n_words: Count
    groups: tuple[_Group, ...]


@dataclass(frozen=True)
class _Answers:
    """The answers of a task as genrec.json holds them."""

    words: tuple[str, ...]
    values: tuple[Finite, ...]


@dataclass(frozen=True)
class _Fitted:
    """A calibration as genrec.json holds it."""

    temperature: Annotated[Finite, Field(gt=0)] = 1.0
    bias: tuple[Finite, ...] = ()
    features: tuple[Finite, ...] = ()
    tilt: tuple[Finite, ...] = ()


def _checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that loading reads have values that it knows."""
    if options.get("quantize", "none") not in get_args(Quantize):
        raise ValueError(f"quantize is {shown(options['quantize'])}; allowed: {', '.join(get_args(Quantize))}")
    seed = options.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ValueError(f"seed is {shown(seed)}; a whole number of at least 0 is allowed")
    return options


def _checked_source(source: BackboneSource) -> BackboneSource:
    """The name of a backbone, and its revision on the hub, lead to no place outside the hub and its cache."""
    parts, revision = source.model.split("/"), source.revision or ""
    if len(parts) > (2 if source.kind == "hub" else 1) or any(p in ("", ".", "..") or p[0] == "~" for p in parts):
        raise ValueError(f"{source.model!r} is no name of a model: an adapter holds no path")
    if source.kind == "hub" and not (len(revision) == 40 and set(revision) <= set("0123456789abcdef")):
        raise ValueError(f"{revision!r} is no commit of the hub")
    return source


Source = Annotated[BackboneSource, AfterValidator(_checked_source)]


@dataclass(frozen=True)
class Manifest:
    """What an adapter is: read from and written to genrec.json.

    text_encoder: where the items' text vectors come from, None for the backbone's own words. tasks: per data set, per
    task, its answers (words, values). calibration: per `dataset/task`, temperature and bias.
    files: sha256 of every other file of the folder.
    """

    backbone: Source
    vocabulary: Annotated[Vocabulary, ValidateAs(_Groups, lambda groups: Vocabulary.from_json(asdict(groups)))]
    tasks: Mapping[str, Mapping[str, Annotated[Mapping[str, Any], ValidateAs(_Answers, asdict)]]]
    max_events: Count
    header_columns: Mapping[str, Sequence[str]]
    calibration: Mapping[str, Annotated[Mapping[str, Any], ValidateAs(_Fitted, asdict)]]
    metrics: Mapping[str, float]
    fingerprints: Mapping[str, str]
    options: Annotated[Mapping[str, Any], AfterValidator(_checked_options)]
    files: Mapping[str, Sha256]
    text_encoder: Source | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        value = asdict(self)
        return {"format": FORMAT, "genrec": __version__, **value, "vocabulary": self.vocabulary.to_json()}


@dataclass(frozen=True)
class _Written:
    """What every format's genrec.json says."""

    format: int
    genrec: str


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
    """Write the folder whole or not at all: into a neighbour first, then renamed. It outlives a power cut."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "tasks").mkdir(parents=True)
    model.backbone.save_pretrained(partial)  # type: ignore[operator]
    clean_adapter_config(partial / LORA_CONFIG, manifest.backbone.model)
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
    sync_all(partial)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    sync(folder.parent)
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
    written = read_json(path, TypeAdapter(_Written))
    if written.format != FORMAT:
        raise RunError(
            f"{folder} has format {written.format}, this genrec ({__version__}) reads format {FORMAT}; it was written "
            f"by genrec {shown(written.genrec)}" + ("; train it anew" if written.format < FORMAT else "")
        )
    manifest = read_json(path, TypeAdapter(Manifest))
    for complaint in misfits(manifest):
        raise RunError(f"{path} does not fit: {complaint}")
    return manifest


def misfits(manifest: Manifest) -> Iterator[str]:
    """What the parts of a manifest say that cannot be true of all of them."""
    vocabulary = manifest.vocabulary
    if set(manifest.tasks) != set(vocabulary.datasets):
        yield f"tasks are of {sorted(manifest.tasks)}, the vocabulary of {sorted(vocabulary.datasets)}"
    for name in (ROWS, CATALOGUE, LORA, LORA_CONFIG):
        if name not in manifest.files:
            yield f"{name} is not among its files"
    for dataset, tasks in manifest.tasks.items():
        for task, answers in tasks.items():
            where = f"{task!r} of {dataset!r}"
            if task_file(task) not in manifest.files:
                yield f"the file of task {where} is not among its files"
            group = vocabulary.by_key.get((dataset, task if answers["words"] else ITEMS))
            if group is None or (group.words, group.values) != (answers["words"], answers["values"]):
                yield f"the answers of {where} are not those of the vocabulary"
            fitted = {"bias": (), "features": (), "tilt": ()} | dict(manifest.calibration.get(f"{dataset}/{task}", {}))
            sizes = [len(fitted[name]) for name in ("bias", "features", "tilt")]
            n = len(answers["words"])
            if sizes[0] not in (0, n) or sizes[2] not in (0, n) or (sizes[1] > 0) != (sizes[2] > 0):
                yield f"the calibration of {where} is not of {n} answers"


def task_file(name: str) -> str:
    """Where an adapter folder holds a task."""
    return f"tasks/{name}.yaml"


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every file of the manifest is there, in the folder itself, and unchanged; raises RunError naming the first that
    is not, or a task that the manifest does not list."""
    inside = folder.resolve()
    for name, expected in manifest.files.items():
        path = folder / name
        odd = not name.isprintable() or len(name.encode(errors="replace")) > 255
        if odd or Path(name).is_absolute() or ".." in Path(name).parts:
            raise RunError(f"{folder / MANIFEST} does not fit: the file {shown(name)} is not one of this folder")
        if not path.is_file():
            raise RunError(f"{folder} is incomplete: {name} is missing")
        if not path.resolve().is_relative_to(inside):
            raise RunError(f"{path} is refused: it is a link to a file outside of {folder}")
        if file_hash(path) != expected:
            raise RunError(
                f"{path} is damaged: its sha256 is not the one in {MANIFEST}; fetch or train the adapter again"
            )
    for path in sorted((folder / "tasks").glob("*.yaml")):
        if f"tasks/{path.name}" not in manifest.files:
            raise RunError(f"{path} is refused: {MANIFEST} does not list it")


def read_tasks(folder: Path, manifest: Manifest) -> dict[str, Task]:
    """The tasks of an adapter by name, those of its manifest; raises TaskError or RunError where one is not what the
    manifest says."""
    found = {}
    for name in sorted({name for tasks in manifest.tasks.values() for name in tasks}):
        path = folder / task_file(name)
        task = found[name] = load_task(path)
        if task.name != name:
            raise RunError(f"{path} does not fit: it holds the task {task.name!r}")
        for tasks in manifest.tasks.values():
            if name in tasks and bool(tasks[name]["words"]) == (task.answer.kind == "item"):
                raise RunError(f"{path} does not fit: its answers are of another kind than those in {MANIFEST}")
    if unread := sorted({key for task in found.values() for key in task.unread}):
        log.warning("%s: nothing reads the keys %s of its task files any more", folder, " and ".join(unread))
    return found


def read_catalogues(folder: Path, manifest: Manifest) -> dict[str, pl.DataFrame]:
    """The items of each data set, in the order of their item tokens; raises RunError where they do not fit the
    vocabulary."""
    path = folder / CATALOGUE
    sizes = {g.dataset: g.size for g in manifest.vocabulary.groups if g.is_items}
    frame = read_parquet(path, sum(sizes.values()))
    fixed: dict[str, pl.DataType] = {name: pl.String() for name in ("item_id", "title", "dataset")}
    fixed |= {"train_count": pl.Int64()} if sizes else {}
    for name, kind in {**dict(frame.schema), **{n: frame.schema.get(n) for n in fixed}}.items():
        allowed = [fixed[name]] if name in fixed else COLUMNS
        if kind not in allowed:
            what = f"column {shown(name)} is {kind or 'missing'}; allowed: {', '.join(map(str, allowed))}"
            raise RunError(f"{path} does not fit: {what}")
    found = {}
    for name in [n for n in manifest.vocabulary.datasets if n in sizes]:
        size = sizes[name]
        own = frame.filter(pl.col("dataset") == name).drop("dataset")
        if own.height != size or own["item_id"].null_count() or own["item_id"].n_unique() != size:
            what = f"{own.height:,} rows and {own['item_id'].drop_nulls().n_unique():,} item ids"
            raise RunError(f"{path} does not fit: {what} are of {name!r}, the vocabulary has {size:,} items")
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
    tasks, catalogues = read_tasks(folder, manifest), read_catalogues(folder, manifest)
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
    check_words(folder, manifest, backbone, allow_mismatch)
    state = read_rows(folder, manifest, backbone.source.hidden_size)
    body = merged(backbone.model, folder) if merge and quantize == "none" else with_lora(backbone.model, folder)
    model = empty_model(body, manifest.vocabulary, state)
    load_rows(model, state)
    model.to(backbone.model.device)
    model.eval()
    return Adapter(model, backbone.tokenizer, manifest, tasks, catalogues)


def check_words(folder: Path, manifest: Manifest, backbone: Backbone, allow_mismatch: bool) -> None:
    """The words and the positions of the backbone are those of the manifest; raises RunError where they are not."""
    words, most = word_count(backbone), events_that_fit(backbone, manifest.vocabulary)
    given = manifest.vocabulary.n_words
    if given < words or (given > words and not allow_mismatch):
        raise RunError(f"{folder / MANIFEST} does not fit: it counts {given:,} words, the backbone has {words:,}")
    if manifest.max_events > most:
        raise RunError(
            f"{folder / MANIFEST} does not fit: max_events is {manifest.max_events:,}, the backbone holds {most:,}"
        )


# --- tensors ------------------------------------------------------------------------------------------------------


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises RunError where it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{path} is damaged: {one_line(error)}") from error


Sizes = tuple[torch.dtype, tuple[int | str, ...]]  # a tensor's dtype and sizes; a name is a size left free
Layout = dict[str, Sizes]


def check_tensors(path: Path, state: Mapping[str, Tensor], layout: Mapping[str, Sizes]) -> None:
    """A file's tensors are those of the layout, sizes of one name are the same, and numbers are finite; raises RunError
    naming the first tensor that is not so."""
    for name in [*(n for n in layout if n not in state), *(n for n in state if n not in layout)]:
        raise RunError(f"{path} does not fit: {shown(name)} is " + ("missing" if name in layout else "not expected"))
    free: dict[str, int] = {}
    for name, (dtype, sizes) in layout.items():
        tensor = state[name]
        if tensor.dtype != dtype or tensor.ndim != len(sizes):
            dtypes = [str(d).removeprefix("torch.") for d in (tensor.dtype, dtype)]
            raise RunError(
                f"{path} does not fit: {name} is {dtypes[0]} of {tensor.ndim} dimensions, "
                f"{dtypes[1]} of {len(sizes)} is expected"
            )
        for place, (size, expected) in enumerate(zip(tensor.shape, sizes, strict=True)):
            wanted = free.setdefault(expected, size) if isinstance(expected, str) else expected
            if size != wanted:
                axis = ("rows", "columns", "layers")[place]
                raise RunError(f"{path} does not fit: {name} has {size:,} {axis}, {wanted:,} are expected")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise RunError(f"{path} is refused: {name} holds values that are no finite numbers")


def rows_layout(manifest: Manifest, width: int, names: Collection[str]) -> Layout:
    """The tensors of the item rows of an adapter by its vocabulary and the backbone's width. names: those of the file,
    which tell whether a catalogue has neighbours, of how many kinds, and effects."""
    vocabulary, real = manifest.vocabulary, torch.float32
    found: Layout = {
        "outcome_rows": (real, (vocabulary.n_outcomes, width)),
        "outcome_bias": (real, (vocabulary.n_outcomes,)),
        "outcome_log_scale": (real, (len(vocabulary.groups),)),
        "log_variance": (real, (max(1, sum(len(tasks) for tasks in manifest.tasks.values())),)),
    }
    sizes = {g.dataset: g.size for g in vocabulary.groups if g.is_items}
    for number, dataset in enumerate(n for n in vocabulary.datasets if n in sizes):
        key, n = f"catalogues.{number}.", sizes[dataset]
        found |= {f"{key}{name}": (real, (n, width)) for name in ("text", "collaborative", "residual")}
        found |= {f"{key}{name}": (torch.bool, (n,)) for name in ("known", "warm")}
        found |= {f"{key}{name}": (real, (width,)) for name in ("centre", "text_bias")}
        found |= {f"{key}bias": (real, (n,)), f"{key}log_scale": (real, ())}
        found |= {f"{key}down": (real, (width, key + "rank")), f"{key}up": (real, (key + "rank", width))}
        kinds = 0
        while f"{key}neighbours.kinds.{kinds}.first" in names:
            found |= links_layout(f"{key}neighbours.kinds.{kinds}.", n)
            kinds += 1
        if kinds:
            found[key + "neighbours.weight"] = (real, (len(QUESTIONS), kinds, len(DECAYS)))
            found[key + "neighbours.seen"] = (real, (len(QUESTIONS),))
        if key + "effects.item" in names:
            by_key = vocabulary.by_key
            shown_in_histories = by_key.get((dataset, "rating")) or by_key.get((dataset, EVENT))
            found[key + "effects.value"] = (real, (shown_in_histories.size if shown_in_histories else 0,))
            found[key + "effects.item"] = (real, (n,))
            found[key + "effects.factors"] = (real, (n, key + "factors"))
            found |= links_layout(f"{key}effects.links.", n)
    return found


def links_layout(key: str, items: int) -> Layout:
    """The tensors of `Links` between the items of a catalogue, whose names begin with `key`."""
    entries = key + "entries"
    return {
        key + "first": (torch.int64, (items + 1,)),
        key + "candidate": (torch.int32, (entries,)),
        key + "strength": (torch.float32, (entries,)),
    }


def read_rows(folder: Path, manifest: Manifest, width: int) -> dict[str, Tensor]:
    """The item rows of an adapter folder, outcome rows and what lies beside them; raises RunError where they do not fit
    the vocabulary and the backbone's width."""
    path = folder / ROWS
    state = read_tensors(path)
    check_tensors(path, state, rows_layout(manifest, width, state))
    for name in [n.removesuffix("candidate") for n in state if n.endswith(".candidate")]:
        first, candidate = state[name + "first"], state[name + "candidate"]
        in_order = first[0] == 0 and first[-1] == len(candidate) and (first.diff() >= 0).all()
        if not in_order or (len(candidate) and not 0 <= candidate.min() <= candidate.max() < len(first) - 1):
            raise RunError(f"{path} is refused: {name}first and candidate lead to items that there are not")
    return state


def load_rows(model: RecModel, state: Mapping[str, Tensor]) -> None:
    """Put every tensor of an adapter's rows into a model of the same sizes; the backbone's own are not among them."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith("backbone.") for name in missing), (missing, unexpected)


def read_lora_config(folder: Path) -> tuple[int, int]:
    """Rank and alpha of an adapter folder's LoRA; raises RunError where PEFT's file asks for anything but LoRA as
    `lora_config` makes it. PEFT itself never reads the file: it imports modules that such a file names."""
    path = folder / LORA_CONFIG
    config = read_json(path, TypeAdapter(dict[str, Any]))
    for name, value in config.items():
        if value != LORA_IS[name] if name in LORA_IS else value and name not in LORA_TELLS:
            allowed = shown(LORA_IS[name]) if name in LORA_IS else "nothing"
            raise RunError(f"{path} is refused: {shown(name)} is {shown(value)}; allowed: {allowed}")
    found = []
    for name in ("r", "lora_alpha"):
        value = config.get(name)
        if type(value) is not int or not 1 <= value < 2**16:
            raise RunError(f"{path} is refused: {name} is {shown(value)}; a whole number from 1 to 65,535 is allowed")
        found.append(value)
    return found[0], found[1]


def read_lora(folder: Path, backbone: nn.Module) -> tuple[int, int, dict[str, Tensor]]:
    """Rank, alpha and tensors of an adapter folder's LoRA; raises RunError where they do not fit each other or the
    linear layers of the backbone."""
    r, alpha = read_lora_config(folder)
    layout: Layout = {}
    for name, layer in backbone.named_modules():
        if isinstance(layer, (nn.Linear, Conv1D)):
            into, out = ("in_features", "out_features") if isinstance(layer, nn.Linear) else ("nx", "nf")
            layout[f"base_model.model.{name}.lora_A.weight"] = (torch.float32, (r, int(getattr(layer, into))))
            layout[f"base_model.model.{name}.lora_B.weight"] = (torch.float32, (int(getattr(layer, out)), r))
    state = read_tensors(folder / LORA)
    check_tensors(folder / LORA, state, layout)
    return r, alpha, state


def with_lora(backbone: nn.Module, folder: Path) -> nn.Module:
    """The backbone with an adapter folder's LoRA beside its weights, in the dtype of its activations."""
    from peft import set_peft_model_state_dict

    from .fused_lora import fuse_lora

    r, alpha, state = read_lora(folder, backbone)
    found = add_lora(backbone, r, alpha)
    set_peft_model_state_dict(found, state)
    found.requires_grad_(False).eval()
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
    r, alpha, state = read_lora(folder, backbone)
    scale = alpha / r
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
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    manifest = read_manifest(folder)
    check_files(folder, manifest)
    state = read_rows(folder, manifest, model.outcome_rows.shape[1])
    for number, rows in enumerate(model.catalogues):
        assert isinstance(rows, ItemRows)
        key = f"catalogues.{number}."
        make_room(rows, state, key)
        old, now = len(state[key + "text"]), len(rows.text)
        if old > now:
            raise RunError(f"{folder} has {old:,} items in a catalogue of which the data holds {now:,} now")
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
    config: Any = model.backbone.peft_config["default"]  # type: ignore[index]
    if read_lora_config(folder) != (config.r, config.lora_alpha):
        raise RunError(
            f"{folder / LORA_CONFIG} does not fit: r and lora_alpha are not {config.r} and {config.lora_alpha}, as in "
            "the options of the run"
        )
    lora = read_tensors(folder / LORA)
    own_lora = get_peft_model_state_dict(model.backbone)
    check_tensors(folder / LORA, lora, {name: (torch.float32, tuple(t.shape)) for name, t in own_lora.items()})
    set_peft_model_state_dict(model.backbone, lora)
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
