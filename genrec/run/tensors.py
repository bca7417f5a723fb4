"""Tensors of an adapter folder: their names, types and sizes are checked before any is used."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import RunError
from ..files import one_line, shown
from ..model.item_texts import TextSpace
from ..scoring.neighbours import DECAYS, QUESTIONS
from ..tasks.vocabulary import EVENT, Vocabulary
from .manifest import COUNTS, ROWS, Manifest


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises RunError if it is damaged."""
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
        for dimension, (size, expected) in enumerate(zip(tensor.shape, sizes, strict=True)):
            required = free.setdefault(expected, size) if isinstance(expected, str) else expected
            if size != required:
                axis = ("rows", "columns", "layers")[dimension]
                raise RunError(f"{path} does not fit: {name} has {size:,} {axis}, {required:,} are expected")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise RunError(f"{path} is refused: {name} holds values that are no finite numbers")


def catalogue_keys(vocabulary: Vocabulary) -> Iterator[tuple[str, str, int]]:
    """Prefix of the names of a catalogue's tensors, its data set, and the number of its items."""
    sizes = {g.dataset: g.size for g in vocabulary.groups if g.is_items}
    for number, dataset in enumerate(name for name in vocabulary.datasets if name in sizes):
        yield f"catalogues.{number}.", dataset, sizes[dataset]


def rows_layout(manifest: Manifest, width: int) -> Layout:
    """The tensors of the item rows of an adapter by its vocabulary and the backbone's width."""
    vocabulary, real = manifest.vocabulary, torch.float32
    layout: Layout = {
        "outcome_rows": (real, (vocabulary.n_outcomes, width)),
        "outcome_bias": (real, (vocabulary.n_outcomes,)),
        "outcome_log_scale": (real, (len(vocabulary.groups),)),
        "log_variance": (real, (max(1, sum(len(tasks) for tasks in manifest.tasks.values())),)),
    }
    for key, _, n in catalogue_keys(vocabulary):
        layout |= {f"{key}{name}": (real, (n, width)) for name in ("text", "collaborative", "residual")}
        layout |= {f"{key}{name}": (torch.bool, (n,)) for name in ("known", "warm", "worded", "spared")}
        layout |= {f"{key}{name}": (real, (width,)) for name in ("space.centre", "text_bias")}
        layout |= {f"{key}space.rarity": (real, (vocabulary.n_words,)), f"{key}space.basis": (real, (width, width))}
        layout |= {f"{key}{name}": (real, ()) for name in ("log_scale", "text_log_scale", "space.length")}
        layout |= {f"{key}bias": (real, (n,))}
        for name in ("", "text_"):
            layout |= {f"{key}{name}down": (real, (width, key + "rank"))}
            layout |= {f"{key}{name}up": (real, (key + "rank", width))}
    return layout


def counts_layout(manifest: Manifest, names: Collection[str]) -> Layout:
    """The tensors of the counts of an adapter's catalogues.

    names: those of the file, which tell whether a catalogue has neighbours, of how many kinds, and effects.
    """
    layout: Layout = {}
    real, vocabulary = torch.float32, manifest.vocabulary
    for key, dataset, n in catalogue_keys(vocabulary):
        kinds = 0
        while f"{key}neighbours.kinds.{kinds}.first" in names:
            layout |= links_layout(f"{key}neighbours.kinds.{kinds}.", n)
            kinds += 1
        if kinds:
            layout[key + "neighbours.weight"] = (real, (len(QUESTIONS), kinds, len(DECAYS)))
            layout[key + "neighbours.seen"] = (real, (len(QUESTIONS),))
        if key + "texts.weight" in names:
            layout[key + "texts.weight"] = (real, (len(QUESTIONS), len(DECAYS)))
            layout[key + "texts.cold"] = (real, (len(QUESTIONS), 1 + len(DECAYS)))
        if key + "effects.item" in names:
            by_key = vocabulary.by_key
            outcomes = by_key.get((dataset, "rating")) or by_key.get((dataset, EVENT))
            layout[key + "effects.value"] = (real, (outcomes.size if outcomes else 0,))
            layout[key + "effects.item"] = (real, (n,))
            layout[key + "effects.factors"] = (real, (n, key + "factors"))
            layout |= links_layout(f"{key}effects.links.", n)
    return layout


def links_layout(key: str, items: int) -> Layout:
    """The tensors of `Links` between the items of a catalogue, whose names begin with `key`."""
    entries = key + "entries"
    return {
        key + "first": (torch.int64, (items + 1,)),
        key + "candidate": (torch.int32, (entries,)),
        key + "strength": (torch.float32, (entries,)),
    }


def read_rows(folder: Path, manifest: Manifest, width: int) -> dict[str, Tensor]:
    """The item rows of an adapter folder and its outcome rows; raises RunError if they do not fit the vocabulary and
    the backbone's width."""
    path = folder / ROWS
    state = read_tensors(path)
    if manifest.format < 6:
        state = {name: tensor for name, tensor in state.items() if not is_count(name)}
    if manifest.format < 7:
        state = with_spaces(path, manifest, state)
    check_tensors(path, state, rows_layout(manifest, width))
    return state


def with_spaces(path: Path, manifest: Manifest, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an older format with those that it lacks: texts were means of words, all alike, less a centre."""
    now = dict(state)
    for key, _, n in catalogue_keys(manifest.vocabulary):
        centre, text = now.pop(key + "centre", None), now.get(key + "text")
        if centre is None or text is None or centre.ndim != 1 or text.ndim != 2:
            raise RunError(f"{path} does not fit: {key}centre or {key}text is missing, or of other dimensions")
        space = TextSpace.plain(manifest.vocabulary.n_words, len(centre), float(text.norm(dim=1).mean()))
        space.centre = centre
        now |= {f"{key}space.{name}": tensor for name, tensor in space.state_dict().items()}
        now |= {key + "worded": torch.ones(n, dtype=torch.bool), key + "spared": torch.zeros(n, dtype=torch.bool)}
        same = ("down", "up", "log_scale")
        now |= {f"{key}text_{name}": now[key + name].clone() for name in same if key + name in now}
    return now


def is_count(name: str) -> bool:
    """Whether a tensor is one of counts, in a file of format 4, which holds them among the item rows."""
    return name.split(".")[2:3] in (["neighbours"], ["effects"])


def read_counts(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """The tensors of an adapter folder's counts; raises RunError if they do not fit the vocabulary."""
    path = folder / (COUNTS if COUNTS in manifest.files else ROWS)
    if path.name == ROWS and manifest.format >= 6:
        return {}
    state = {name: tensor for name, tensor in read_tensors(path).items() if path.name == COUNTS or is_count(name)}
    check_tensors(path, state, counts_layout(manifest, state))
    for name in [n.removesuffix("candidate") for n in state if n.endswith(".candidate")]:
        first, candidate = state[name + "first"], state[name + "candidate"]
        in_order = first[0] == 0 and first[-1] == len(candidate) and (first.diff() >= 0).all()
        if not in_order or (len(candidate) and not 0 <= candidate.min() <= candidate.max() < len(first) - 1):
            raise RunError(f"{path} is refused: {name}first and candidate lead to items that there are not")
    return state
