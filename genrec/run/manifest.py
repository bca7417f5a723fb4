"""The manifest of an adapter folder: all that genrec.json says, checked."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, TypeAdapter, ValidateAs

from .. import __version__
from ..data.events import Sign
from ..errors import RunError
from ..files import read_json, shown
from ..model.backbone import Quantize
from ..model.source import BackboneSource
from ..scoring.content import MOST
from ..tasks.vocabulary import ITEMS, Vocabulary
from .folder import MANIFEST

FORMAT = 7  # of an adapter; another format's answers would be wrong
READABLE = (4, 5, 6, FORMAT)  # in 6 texts are not whitened, 5 has no bins of numbers, in 4 counts are among the rows
ROWS = "item_rows.safetensors"
COUNTS = "counts.safetensors"  # neighbours and effects, if there are any
CATALOGUE = "catalogue.parquet"
CARD = "README.md"
LORA, LORA_CONFIG = "adapter_model.safetensors", "adapter_config.json"
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
    edges: tuple[Finite, ...] = ()


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
    edges: tuple[Finite, ...] = ()


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
    """Everything genrec.json says of an adapter: read from it and written to it.

    attributes: per data set those that answers about items compare with a history's; older adapters have none.
    text_encoder: where the items' text vectors come from, None for the backbone's own words. tasks: per data set, per
    task, its answers (words, values, edges). calibration: per `dataset/task`, temperature and bias.
    files: sha256 of every other file of the folder but the card, which people may change. signs: per data set the sign
    of each event that training had; older adapters have none.
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
    signs: Mapping[str, Mapping[str, Sign]] = field(default_factory=dict)
    attributes: Mapping[str, Annotated[Sequence[str], Field(max_length=MOST)]] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, in today's format, whichever it was read from."""
        value = asdict(replace(self, format=FORMAT))
        return {"format": FORMAT, "genrec": __version__} | value | {"vocabulary": self.vocabulary.to_json()}


@dataclass(frozen=True)
class _Written:
    """Keys that every format's genrec.json has."""

    format: int
    genrec: str


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an adapter folder; raises RunError if it is missing, damaged or of another format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise RunError(
            f"{folder} is not a finished adapter: {MANIFEST} is missing. "
            "Train one with `genrec finetune ... --out RUN`."
        )
    header = read_json(path, TypeAdapter(_Written))
    if header.format not in READABLE:
        raise RunError(
            f"{folder} has format {header.format}, this genrec ({__version__}) reads {READABLE[0]} to {FORMAT}; "
            f"it was written by genrec {shown(header.genrec)}" + ("; train it anew" if header.format < FORMAT else "")
        )
    manifest = read_json(path, TypeAdapter(Manifest))
    for complaint in misfits(manifest):
        raise RunError(f"{path} does not fit: {complaint}")
    return manifest


def misfits(manifest: Manifest) -> Iterator[str]:
    """Contradictions between the parts of a manifest."""
    vocabulary = manifest.vocabulary
    if set(manifest.tasks) != set(vocabulary.datasets):
        yield f"tasks are of {sorted(manifest.tasks)}, the vocabulary of {sorted(vocabulary.datasets)}"
    for name in (ROWS, CATALOGUE, LORA, LORA_CONFIG):
        if name not in manifest.files:
            yield f"{name} is not among its files"
    for dataset, tasks in manifest.tasks.items():
        for task, answers in tasks.items():
            label = f"{task!r} of {dataset!r}"
            if task_file(task) not in manifest.files:
                yield f"the file of task {label} is not among its files"
            group = vocabulary.by_key.get((dataset, task if answers["words"] else ITEMS))
            listed = answers["words"], answers["values"], answers["edges"]
            if group is None or (group.words, group.values, group.edges) != listed:
                yield f"the answers of {label} are not those of the vocabulary"
            fitted = {"bias": (), "features": (), "tilt": ()} | dict(manifest.calibration.get(f"{dataset}/{task}", {}))
            sizes = [len(fitted[name]) for name in ("bias", "features", "tilt")]
            n = len(answers["words"])
            if sizes[0] not in (0, n) or sizes[2] not in (0, n) or (sizes[1] > 0) != (sizes[2] > 0):
                yield f"the calibration of {label} is not of {n} answers"


def task_file(name: str) -> str:
    """Where an adapter folder holds a task."""
    return f"tasks/{name}.yaml"


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every file of the manifest but the card is there, in the folder itself, and unchanged; raises RunError naming the
    first that is not, or counts or a task that the manifest does not list."""
    inside = [folder.resolve()]
    if folder.parent.name == "snapshots":  # of the hub's cache, where files are links to those of `blobs`
        inside.append((folder.parent.parent / "blobs").resolve())
    for name, expected in {**manifest.files, CARD: ""}.items():
        path = folder / name
        is_unsafe = not name.isprintable() or len(name.encode(errors="replace")) > 255
        if is_unsafe or Path(name).is_absolute() or ".." in Path(name).parts:
            raise RunError(f"{folder / MANIFEST} does not fit: the file {shown(name)} is not one of this folder")
        if name == CARD and not path.exists():
            continue
        if not path.is_file():
            raise RunError(f"{folder} is incomplete: {name} is missing")
        if not any(path.resolve().is_relative_to(place) for place in inside):
            raise RunError(f"{path} is refused: it is a link to a file outside of {folder}")
        if name != CARD and file_hash(path) != expected:
            raise RunError(
                f"{path} is damaged: its sha256 is not the one in {MANIFEST}; fetch or train the adapter again"
            )
    for path in [folder / COUNTS, *sorted((folder / "tasks").glob("*.yaml"))]:
        if path.exists() and str(path.relative_to(folder)) not in manifest.files:
            raise RunError(f"{path} is refused: {MANIFEST} does not list it")
