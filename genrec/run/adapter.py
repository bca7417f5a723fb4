"""The adapter folder: LoRA in PEFT's own format, item rows, catalogue, tasks, tokenizer and a manifest. Data only."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..counting import counted
from ..errors import RunError
from ..files import read_parquet, shown, sync, sync_all
from ..model.backbone import Backbone, Quantize, events_that_fit, load_backbone, word_count
from ..model.item_rows import ItemRows
from ..model.item_texts import TextSpace
from ..model.recmodel import RecModel
from ..scoring.effects import Effects
from ..scoring.features import feature_names
from ..scoring.neighbours import Links, Neighbours
from ..scoring.scorer import Counts
from ..scoring.texts import Texts
from ..tasks.task import Task
from ..tasks.taskfile import load_task
from ..tasks.vocabulary import Vocabulary
from .folder import MANIFEST
from .lora import clean_adapter_config, merged, read_lora_config, with_lora
from .manifest import (
    CARD,
    CATALOGUE,
    COUNTS,
    FORMAT,
    LORA,
    LORA_CONFIG,
    ROWS,
    Manifest,
    check_files,
    file_hash,
    read_manifest,
    task_file,
)
from .tensors import catalogue_keys, check_tensors, read_counts, read_rows, read_tensors

log = logging.getLogger(__name__)
COLUMNS = (pl.String(), pl.Int64(), pl.Float64(), pl.List(pl.String()))  # types of a catalogue's attributes


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter: the model, its tokenizer, tasks by name, and the catalogue and counts of each data set."""

    model: RecModel
    tokenizer: Any
    manifest: Manifest
    tasks: Mapping[str, Task]
    catalogues: Mapping[str, pl.DataFrame]
    counts: Mapping[str, Counts]

    def tasks_of(self, dataset: str) -> list[Task]:
        """The tasks of a data set, with the answers that training found in it."""
        return [self.tasks[name].with_answers(answers) for name, answers in self.manifest.tasks[dataset].items()]


def rows_state(model: RecModel) -> dict[str, Tensor]:
    """Every tensor of the model that is not the backbone's: outcome rows, item rows with their starting vectors,
    scales."""
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if not k.startswith("backbone.")}


def save_adapter(
    folder: Path,
    model: RecModel,
    counts: Mapping[str, Counts],
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
    save_file(rows_state(model), partial / ROWS)
    if state := counts_state(manifest.vocabulary, counts):
        save_file(state, partial / COUNTS)
    empty = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String, "dataset": pl.String})
    named = [frame.with_columns(pl.lit(name).alias("dataset")) for name, frame in catalogues.items()]
    pl.concat(named or [empty], how="diagonal_relaxed").write_parquet(partial / CATALOGUE)
    for task in tasks:
        (partial / "tasks" / f"{task.name}.yaml").write_text(task.text, encoding="utf-8")
    tokenizer.save_pretrained(partial)
    files = {str(p.relative_to(partial)): file_hash(p) for p in sorted(partial.rglob("*")) if p.is_file()}
    files.pop(CARD, None)  # peft writes one
    (partial / CARD).write_text(card, encoding="utf-8")
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


def read_tasks(folder: Path, manifest: Manifest) -> dict[str, Task]:
    """The tasks of an adapter by name, those of its manifest; raises TaskError or RunError if one is not as the
    manifest says."""
    loaded = {}
    for name in sorted({name for tasks in manifest.tasks.values() for name in tasks}):
        path = folder / task_file(name)
        task = loaded[name] = load_task(path, trained=True)
        if task.name != name:
            raise RunError(f"{path} does not fit: it holds the task {task.name!r}")
        for tasks in manifest.tasks.values():
            if name in tasks and bool(tasks[name]["words"]) == (task.answer.kind == "item"):
                raise RunError(f"{path} does not fit: its answers are of another kind than those in {MANIFEST}")
    return loaded


def read_catalogues(folder: Path, manifest: Manifest) -> dict[str, pl.DataFrame]:
    """The items of each data set, in the order of their item tokens; raises RunError if they do not fit the
    vocabulary."""
    path = folder / CATALOGUE
    sizes = {g.dataset: g.size for g in manifest.vocabulary.groups if g.is_items}
    frame = read_parquet(path, sum(sizes.values()))
    fixed: dict[str, pl.DataType] = {name: pl.String() for name in ("item_id", "title", "dataset")}
    fixed |= {"train_count": pl.Int64()} if sizes else {}
    for name, kind in {**dict(frame.schema), **{n: frame.schema.get(n) for n in fixed}}.items():
        allowed = [fixed[name]] if name in fixed else COLUMNS
        if kind not in allowed:
            mismatch = f"column {shown(name)} is {kind or 'missing'}; allowed: {', '.join(map(str, allowed))}"
            raise RunError(f"{path} does not fit: {mismatch}")
    catalogues = {}
    for name in [n for n in manifest.vocabulary.datasets if n in sizes]:
        size = sizes[name]
        items = frame.filter(pl.col("dataset") == name).drop("dataset")
        if items.height != size or items["item_id"].null_count() or items["item_id"].n_unique() != size:
            mismatch = f"{items.height:,} rows and {items['item_id'].drop_nulls().n_unique():,} item ids"
            raise RunError(f"{path} does not fit: {mismatch} are of {name!r}, the vocabulary has {size:,} items")
        keep = [c for c in items.columns if c in ("item_id", "title") or items[c].null_count() < items.height]
        catalogues[name] = items.select(keep)
    return catalogues


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

    Raises RunError if files are missing, damaged or of another format, or if the backbone differs and `allow_mismatch`
    is not set. place: where the backbone is, for one that is a folder or file of the user's: an adapter holds no path.
    merge: whether LoRA goes into the weights of an unquantized backbone; with nf4 it stays apart.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    tasks, catalogues = read_tasks(folder, manifest), read_catalogues(folder, manifest)
    unread = sorted({key for task in tasks.values() for key in task.unread})
    if unread and manifest.format < FORMAT:  # else its training said so
        log.warning("%s: nothing reads the keys %s of its task files any more", folder, " and ".join(unread))
    source = manifest.backbone
    if place is None and source.kind in ("folder", "gguf") and not Path(source.model).exists():
        raise RunError(
            f"{folder} was trained on a backbone that was a {source.kind} {source.model!r} on its trainer's machine: "
            "say with --model where a copy of it is"
        )
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
    state, counts_tensors = read_rows(folder, manifest, backbone.source.hidden_size), read_counts(folder, manifest)
    body = merged(backbone.model, folder) if merge and quantize == "none" else with_lora(backbone.model, folder)
    model = empty_model(body, manifest.vocabulary, state)
    load_rows(model, state)
    model.to(backbone.model.device)
    model.eval()
    counts = counts_from(manifest, counts_tensors)
    check_features(folder, manifest, tasks, counts)
    on_device = {dataset: dataset_counts.to(model.device) for dataset, dataset_counts in counts.items()}
    return Adapter(model, backbone.tokenizer, manifest, tasks, catalogues, on_device)


def check_words(folder: Path, manifest: Manifest, backbone: Backbone, allow_mismatch: bool) -> None:
    """The words and the positions of the backbone are those of the manifest; raises RunError if they are not."""
    words, limit = word_count(backbone), events_that_fit(backbone, manifest.vocabulary)
    n_words = manifest.vocabulary.n_words
    if n_words < words or (n_words > words and not allow_mismatch):
        raise RunError(f"{folder / MANIFEST} does not fit: it counts {n_words:,} words, the backbone has {words:,}")
    if manifest.max_events > limit:
        raise RunError(
            f"{folder / MANIFEST} does not fit: max_events is {manifest.max_events:,}, the backbone holds {limit:,}"
        )


def check_features(folder: Path, manifest: Manifest, tasks: Mapping[str, Task], counts: Mapping[str, Counts]) -> None:
    """Every task has as many weights of features as features, or none; raises RunError if it has not."""
    for dataset, own in counts.items():
        for name in manifest.tasks[dataset]:
            weights = manifest.calibration.get(f"{dataset}/{name}", {}).get("features", ())
            if len(weights) not in (0, expected := len(feature_names(own, tasks[name]))):
                complaint = (
                    f"the calibration of {name!r} of {dataset!r} has weights of {counted(len(weights), 'features')}"
                )
                raise RunError(f"{folder / MANIFEST} does not fit: {complaint}; allowed: 0 or {expected:,}")


def load_rows(model: RecModel, state: Mapping[str, Tensor]) -> None:
    """Put every tensor of an adapter's rows into a model of the same sizes; the backbone's own are not among them."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    for rows in model.catalogues:
        rows.whiten()  # type: ignore[operator]
    assert not unexpected and all(name.startswith("backbone.") for name in missing), (missing, unexpected)


def counts_state(vocabulary: Vocabulary, counts: Mapping[str, Counts]) -> dict[str, Tensor]:
    """The tensors of counts as an adapter holds them."""
    return {
        f"{key}{name}.{k}": v.detach().cpu().contiguous()
        for key, dataset, _ in catalogue_keys(vocabulary)
        if (dataset_counts := counts.get(dataset)) is not None
        for name in ("neighbours", "effects", "texts")
        if (part := getattr(dataset_counts, name)) is not None
        for k, v in part.state_dict().items()
    }


def counts_from(manifest: Manifest, state: Mapping[str, Tensor]) -> dict[str, Counts]:
    """The counts of each catalogue from the tensors and the manifest of an adapter."""
    counts = {}
    for key, dataset, _ in catalogue_keys(manifest.vocabulary):
        neighbours, effects, texts = None, None, None
        if (weight := state.get(key + "neighbours.weight")) is not None:
            kinds = [Links.like(state, f"{key}neighbours.kinds.{n}.") for n in range(weight.shape[1])]
            neighbours = Neighbours(kinds)
            neighbours.load_state_dict(tensors_of(state, key + "neighbours."))
        if key + "effects.item" in state:
            effects = Effects.like(state, key + "effects.")
            effects.load_state_dict(tensors_of(state, key + "effects."))
        if key + "texts.weight" in state:
            texts = Texts()
            texts.load_state_dict(tensors_of(state, key + "texts."))
        attributes = manifest.attributes.get(dataset)
        counts[dataset] = Counts(neighbours, effects, texts, None if attributes is None else tuple(attributes))
    return counts


def tensors_of(state: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, under the rest of their names."""
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}


def spaces_of(folder: Path, manifest: Manifest, width: int) -> dict[str, TextSpace]:
    """The space of texts of each catalogue of an adapter folder."""
    state = read_rows(folder, manifest, width)
    return {
        dataset: TextSpace(*(state[f"{key}space.{name}"] for name in ("rarity", "centre", "basis", "length")))
        for key, dataset, _ in catalogue_keys(manifest.vocabulary)
    }


def continue_from(model: RecModel, folder: Path) -> dict[str, Counts]:
    """Put an adapter folder's LoRA and rows into a model made for training on the same data, or on data that has grown,
    and return its counts by data set, as large as the data.

    Items beyond those of the folder keep the rows that the model has, and `warm` tells which items were taken since.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    manifest = read_manifest(folder)
    check_files(folder, manifest)
    state = read_rows(folder, manifest, model.outcome_rows.shape[1])
    counts = counts_from(manifest, read_counts(folder, manifest))
    for (key, dataset, _), rows in zip(catalogue_keys(manifest.vocabulary), model.catalogues, strict=True):
        assert isinstance(rows, ItemRows)
        old, now = len(state[key + "text"]), len(rows.text)
        if old > now:
            raise RunError(f"{folder} has {old:,} items in a catalogue of which the data holds {now:,} now")
        newly_warm = rows.warm[:old] & ~state[key + "warm"].to(rows.warm.device)
        bias = rows.bias.data.clone()
        for name in ("text", "collaborative", "known", "warm", "worded", "spared", "residual", "bias"):
            values = getattr(rows, name).data.cpu()
            state[key + name] = torch.cat([state[key + name].to(values), values[old:]])
        state[key + "warm"][:old] |= newly_warm.cpu()
        state[key + "bias"][:old][newly_warm.cpu()] = bias[:old][newly_warm].cpu()
        counts[dataset].extend(now - old)
    _, unexpected = model.load_state_dict(state, strict=False)
    for rows in model.catalogues:
        rows.whiten()  # type: ignore[operator]
    assert not unexpected, unexpected
    config: Any = model.backbone.peft_config["default"]  # type: ignore[index]
    if read_lora_config(folder) != (config.r, config.lora_alpha):
        raise RunError(
            f"{folder / LORA_CONFIG} does not fit: r and lora_alpha are not {config.r} and {config.lora_alpha}, as in "
            "the options of the run"
        )
    lora = read_tensors(folder / LORA)
    expected_lora = get_peft_model_state_dict(model.backbone)
    check_tensors(folder / LORA, lora, {name: (torch.float32, tuple(t.shape)) for name, t in expected_lora.items()})
    set_peft_model_state_dict(model.backbone, lora)
    model.to(model.device)  # tensors made here are on the CPU
    return {dataset: dataset_counts.to(model.device) for dataset, dataset_counts in counts.items()}


def empty_model(backbone: torch.nn.Module, vocabulary: Vocabulary, state: Mapping[str, Tensor]) -> RecModel:
    """A model of the shapes that `state` holds."""
    catalogues = {}
    names = [g.dataset for g in vocabulary.groups if g.is_items]
    order = [n for n in vocabulary.datasets if n in names]
    for number, name in enumerate(order):
        key = f"catalogues.{number}."
        text, known = state[key + "text"], state[key + "known"]
        space = TextSpace.plain(vocabulary.n_words, text.shape[1])
        rows = ItemRows(text, state[key + "collaborative"], known, space=space, rank=state[key + "down"].shape[1])
        catalogues[name] = rows
    model = RecModel(backbone, vocabulary, catalogues, state["outcome_rows"])
    model.log_variance = torch.nn.Parameter(state["log_variance"].clone(), requires_grad=False)
    return model
