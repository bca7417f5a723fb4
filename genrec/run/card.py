"""The model card of an adapter, README.md: metadata as the hub reads it, and what people need to know."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from ..data.dataset import Dataset
from ..errors import DataError, RunError
from ..files import one_line, read_parquet, write_text
from ..model.pretrained import NAMED
from .manifest import CARD, CATALOGUE, Manifest, read_manifest

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

HERE = "path/to/this/folder"
TAGS = ["genrec", "recommender-system", "recommendation", "peft", "lora"]
SHOWN = ("@10", "/rmse", "/mae", "/auc", "/accuracy", "/macro_f1", "/log_loss")  # metrics of a manifest worth a line
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
HUB_DATA = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)")
PRIVACY = """\
It holds no user: no id, no history, no review and no attribute of one. It does hold

- the catalogue: ids, titles and attributes of all items, and how many training interactions each has;
- counts of which items the same users took (`counts.safetensors`), and weights that were learned from all interactions.
  From those of a rare item one may infer what its few users did besides; nothing bounds this (there is no differential
  privacy);
- the answers, and the names of the columns, that tasks and headers use.

Do not publish it if any of this is confidential."""


@dataclass(frozen=True)
class Measured:
    """A metric of a task on the held-out test part, with its 95 % interval if there is one."""

    dataset: str
    task: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None


def model_card(
    manifest: Manifest, datasets: Sequence[Dataset], catalogues: Mapping[str, pl.DataFrame], sources: Sequence[str] = ()
) -> str:
    """README.md of an adapter; sources: where the data came from, of which those on the hub are named."""
    backbone = manifest.backbone
    base = base_model(manifest)
    name = f"[{base}](https://huggingface.co/{base})" if base else f"`{backbone.model}`"
    tasks = ", ".join(dict.fromkeys(task for of_dataset in manifest.tasks.values() for task in of_dataset))
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=base,
        datasets=list(dict.fromkeys(m[1] for source in sources if (m := HUB_DATA.match(source)))) or None,
        library_name="genrec",
        tags=TAGS,
        base_model_relation="adapter" if base else None,
    )
    body = f"""# A genrec adapter

A recommender: LoRA and one vector per item on {name} ({backbone.blocks} of {backbone.total_blocks} blocks, \
revision {backbone.revision or "unknown"}). Tasks: {tasks}.

## How to use it

{section("use", use(manifest, catalogues, HERE))}

## What it was trained on

{trained_on(manifest, datasets)}

## How good it is

{section("measured", "")}

## What it holds of users

{PRIVACY}

## Licence

{section("licence", licence_text(None))}
"""
    return with_results(data, body, manifest, list(measured_at_training(manifest)))


def base_model(manifest: Manifest) -> str | None:
    """The backbone's name on the hub; None for one that was a folder or a file."""
    backbone = manifest.backbone
    if backbone.model in NAMED:
        return NAMED[backbone.model].hub_id
    return backbone.model if backbone.kind == "hub" else None


def section(name: str, text: str) -> str:
    """A part of a card that is written anew: between two comments, which are not shown."""
    return f"<!-- genrec: {name} -->\n{text}\n<!-- genrec: end of {name} -->"


def with_section(body: str, name: str, text: str) -> str:
    """A card with another text in a part; a card without the part stays as it is."""
    pattern = re.escape(f"<!-- genrec: {name} -->") + ".*?" + re.escape(f"<!-- genrec: end of {name} -->")
    return re.sub(pattern, lambda _: section(name, text), body, flags=re.DOTALL)


def use(manifest: Manifest, catalogues: Mapping[str, pl.DataFrame], where: str) -> str:
    """The commands, and the lines of Python, that ask an adapter."""
    shell, python = ["pip install genrec"], ["import genrec", "", f"recommender = genrec.load({where!r})"]
    for dataset, tasks in manifest.tasks.items():
        items = catalogues.get(dataset)
        more = f" --dataset {shlex.quote(dataset)}" if len(manifest.tasks) > 1 else ""
        if "next_item" in tasks and items is not None and items.height:
            ids = items.sort("train_count", descending=True)["item_id"].head(2).to_list()
            history = shlex.quote(",".join(ids))
            shell.append(f"genrec recommend {shlex.quote(where)}{more} --history={history}")
            python.append(f"recommender.recommend(history={ids!r}{f', dataset={dataset!r}' if more else ''}).frame")
        elif "sentiment" in tasks:
            shell.append(f'genrec predict {shlex.quote(where)}{more} --task sentiment --text "I love it"')
            python.append("recommender.predict('sentiment', texts=['I love it']).frame")
    lines = ["```bash", *shell, "```", "", "```python", *python, "```", ""]
    lines.append("The users that it was trained on are not in it: give their histories, as ids of items, oldest first.")
    return "\n".join(lines)


def trained_on(manifest: Manifest, datasets: Sequence[Dataset]) -> str:
    """A line for each data set: counts, and the notice of its licence."""
    lines = []
    by_name = {dataset.name: dataset for dataset in datasets}
    for name, tasks in manifest.tasks.items():
        line = f"- {name}"
        if (dataset := by_name.get(name)) is not None:
            frame = dataset.interactions
            parts = dict(frame["part"].value_counts().iter_rows())
            users = frame["user_id"].n_unique() if "user_id" in frame.columns else 0
            line += f": {parts.get('train', 0):,} interactions of {users:,} users with {dataset.items.height:,} items"
            line += f"; held out {parts.get('valid', 0):,} for validation, {parts.get('test', 0):,} for the test"
            line += f" (split {dataset.split_method})"
        line += f"; tasks {', '.join(tasks)}"
        if dataset is not None and dataset.licence:
            line += f". Its licence: {' '.join(dataset.licence.split())}"
        lines.append(line)
    return "\n".join(lines)


def licence_text(licence: str | None) -> str:
    """What the card says about the licence."""
    stated = f"Licence of the adapter: {licence}." if licence else "No licence is stated."
    return (
        f"{stated} The backbone has a licence of its own, and that of the data may forbid to publish what was learned "
        "from it, or to use it commercially."
    )


def measured_at_training(manifest: Manifest) -> Iterator[Measured]:
    """The metrics that the end of the training measured."""
    for key, value in manifest.metrics.items():
        dataset, task, metric = (key.split("/", 2) + ["", ""])[:3]
        if metric and key.endswith(SHOWN):
            yield Measured(dataset, task, metric, value)


def with_results(data: "ModelCardData", body: str, manifest: Manifest, results: Sequence[Measured]) -> str:
    """A whole card with these results, in its metadata and in its text."""
    from huggingface_hub import EvalResult

    data.model_name = "genrec adapter"
    data.eval_results = [
        EvalResult(
            task_type=task_type(manifest, r.dataset, r.task),
            task_name=r.task,
            dataset_type=r.dataset,
            dataset_name=r.dataset,
            dataset_split="test",
            metric_type=r.metric,
            metric_name=r.metric,
            metric_value=round(r.value, 6),
        )
        for r in results
    ]
    data.metrics = list(dict.fromkeys(r.metric for r in results)) or None
    rows = []
    for r in results:
        interval = "" if r.low is None or r.high is None else f"{r.low:.4f} to {r.high:.4f}"
        rows.append(f"| {r.dataset} | {r.task} | {r.metric} | {r.value:.4f} | {interval} |")
    head = [
        "On the held-out test part:",
        "",
        "| data set | task | metric | value | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    body = with_section(body, "measured", "\n".join([*head, *rows]) if rows else "Nothing is held out for a test.")
    return f"---\n{data.to_yaml().strip()}\n---\n\n{body.strip()}\n"


def task_type(manifest: Manifest, dataset: str, task: str) -> str:
    """A task as the hub names kinds of tasks."""
    answers: Mapping[str, Any] = manifest.tasks.get(dataset, {}).get(task, {})
    if answers.get("values"):
        return "tabular-regression"
    if task in ("sentiment", "category"):
        return "text-classification"
    return "tabular-classification" if answers.get("words") else "recommendation"


def update_card(
    folder: Path, *, where: str | None = None, licence: str | None = None, results: Sequence[Measured] | None = None
) -> None:
    """Write an adapter's card anew where something is known now: its address, its licence, its results. What people
    have written stays. Raises RunError for a card whose metadata cannot be read, DataError for a licence."""
    from huggingface_hub import ModelCard, ModelCardData

    if licence is not None and not LICENCE.fullmatch(licence):
        raise DataError(
            f"--license {licence!r}: an identifier of the hub, such as mit, apache-2.0, cc-by-nc-4.0 or other"
        )
    path, manifest = folder / CARD, read_manifest(folder)
    catalogues = catalogues_of(folder)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not text.startswith("---"):  # of an earlier version
        text = model_card(manifest, (), catalogues)
    try:
        card = ModelCard(text)
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RunError(f"{path}: its metadata cannot be read: {one_line(error)}") from error
    data, body = card.data, card.text
    assert isinstance(data, ModelCardData)
    if licence is not None:
        data.license = licence
        body = with_section(body, "licence", licence_text(licence))
    if where is not None:
        body = with_section(body, "use", use(manifest, catalogues, where))
    if results is not None:
        write_text(path, with_results(data, body, manifest, results))
        return
    write_text(path, f"---\n{data.to_yaml().strip()}\n---\n\n{body.strip()}\n")


def catalogues_of(folder: Path) -> dict[str, pl.DataFrame]:
    """The items of an adapter folder by data set."""
    frame = read_parquet(folder / CATALOGUE)
    if "train_count" not in frame.columns:
        return {}
    return {str(name): items for (name,), items in frame.group_by("dataset", maintain_order=True)}
