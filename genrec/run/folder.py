"""A run folder: where its files are, whether it is finished, and what it was trained with."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import RunError
from ..files import read_json, read_yaml, shown
from .config import FinetuneConfig, read_config

if TYPE_CHECKING:  # a manifest is read with the model's files, which loads torch
    from .manifest import Manifest

MANIFEST = "genrec.json"  # of an adapter folder, written last
PLACES: tuple[Literal["model", "item_text_model"], ...] = ("model", "item_text_model")  # options that may be paths


@dataclass(frozen=True)
class _Places:
    """The part of data.json that says where the models are."""

    places: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A run folder, which need not be there yet, or an adapter folder alone (see `open_run`).

    source: the address and the commit of an adapter of the hub.
    """

    folder: Path
    is_adapter: bool = False
    source: str | None = None

    @property
    def adapter(self) -> Path:
        """The adapter, which may be shared."""
        return self.folder if self.is_adapter else self.folder / "adapter"

    @property
    def store(self) -> Path:
        """The database of users and events, which is private."""
        return self.folder / "store.db"

    @property
    def data(self) -> Path:
        """The data that it was trained on, which is private; runs of earlier versions have none."""
        return self.folder / "data"

    @property
    def config_file(self) -> Path:
        """The options that it was trained with."""
        return self.folder / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints that an interrupted training resumes from."""
        return self.folder / "checkpoints"

    @property
    def plan(self) -> Path:
        """The plan of a training, fixed before its first step."""
        return self.checkpoints / "plan.json"

    @property
    def seconds(self) -> Path:
        """Seconds that the tries of a training with --minutes have taken."""
        return self.checkpoints / "seconds.json"

    @property
    def log(self) -> Path:
        """Losses and validations by step."""
        return self.folder / "metrics.jsonl"

    @property
    def alignment(self) -> Path:
        """Of an aligned run: which run it was, the options, and the validations before and after."""
        return self.folder / "align.json"

    @property
    def later_events(self) -> Path:
        """Of a run that trains on from another: the events that came since."""
        return self.folder / "later.parquet"

    @property
    def later_items(self) -> Path:
        """Of a run that trains on from another: the items that were added since."""
        return self.folder / "later_items.json"

    @property
    def finished(self) -> bool:
        """Whether its training has come to an end."""
        return (self.adapter / MANIFEST).is_file()

    def check(self, flag: str = "") -> None:
        """Raises RunError for a folder that is no finished run; flag: the option that named it."""
        label = f"{flag} {self.folder}".strip()
        if self.is_adapter:
            return
        self.check_whole(flag)
        if not self.folder.is_dir():
            raise RunError(
                f"{flag + ': ' if flag else ''}there is no run folder {self.folder}; "
                f"`genrec finetune ... --out {self.folder}` makes one"
            )
        if not self.adapter.is_dir():
            command = "align" if self.alignment.is_file() else "finetune"
            reason = (
                f"its training was interrupted: give the same `genrec {command}` command to resume it"
                if self.checkpoints.is_dir()
                else f"it has no adapter/; `genrec finetune ... --out {self.folder}` makes one"
            )
            raise RunError(f"{label} is not a finished run: {reason}")
        if self.finished and not self.store.exists() and not self.config_file.exists():
            raise RunError(f"{label} holds an adapter alone: name the adapter itself, {self.adapter}")

    def check_whole(self, flag: str = "") -> None:
        """Raises RunError for an adapter where a run is needed; flag: the option that named it."""
        label = f"{flag} {self.folder}".strip()
        if (self.folder / MANIFEST).is_file() or str(self.folder).startswith("hf:"):
            raise RunError(
                f"{label} is an adapter alone, without the users and the data of its run: recommend, similar, predict, "
                "ask, chat and serve take it; this needs the folder of the run"
            )

    def manifest(self, flag: str = "") -> "Manifest":
        """The manifest of its adapter; raises RunError if it is not finished or damaged."""
        from .manifest import read_manifest

        self.check(flag)
        return read_manifest(self.adapter)

    def config(self) -> FinetuneConfig:
        """The options that it was trained with, `out` being this folder; raises DataError if they cannot be read."""
        return FinetuneConfig(**read_config(self.config_file) | {"out": str(self.folder)})  # type: ignore[arg-type]

    def local_model(self, option: Literal["model", "item_text_model"]) -> str | None:
        """Path of its backbone or text encoder, if that is a folder or file: the run knows it, the adapter must not."""
        from pydantic import TypeAdapter

        if self.is_adapter:  # a stranger's, perhaps: beside its own files nothing in it is read
            return None
        config = read_yaml(self.config_file) if self.config_file.is_file() else {}
        model = config.get(option) if isinstance(config, dict) else config
        if not isinstance(config, dict) or not isinstance(model, str | None):
            raise RunError(
                f"{self.config_file} cannot be used: {option} is {shown(model)}; "
                "the name of a model is allowed, or null"
            )
        description = self.data / "data.json"
        with suppress(OSError):  # a name that is too long for a file
            if description.is_file():
                place = read_json(description, TypeAdapter(_Places)).places.get(option)
                if place and Path(place).exists():
                    return place
            return model if model and Path(model).exists() else None
        return None
