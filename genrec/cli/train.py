"""`genrec finetune`, `align` and `rows`: a run, another run from it, or the rows alone."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.source import display_name
from ..errors import DataError
from ..options import option, options_of
from ..run.config import ROWS_OPTIONS, AlignConfig, FinetuneConfig, read_config, source_options
from .output import progress_bar, resumable, say
from .parser import command


@dataclass(frozen=True)
class Finetune:
    """Options of finetune."""

    training: FinetuneConfig = options_of(FinetuneConfig)
    config: Path | None = option(
        None, "options from a run's config.yaml; those given beside it come first", metavar="FILE"
    )


@dataclass(frozen=True)
class Rows:
    """Options of rows: those of finetune that rows depend on, and the form of the output."""

    training: FinetuneConfig = options_of(FinetuneConfig, ROWS_OPTIONS)
    config: Path | None = option(
        None, "options from a run's config.yaml; those given beside it come first", metavar="FILE"
    )
    text: bool = option(False, "prompt and completion as text (JSON lines), as TRL reads it")


def values_of_run(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of --config, or those of the run that --resume-from names."""
    if given.get("resume_from"):
        from ..training.resume import options_of

        return options_of(given["resume_from"], given)
    return read_config(given["config"]) if given.get("config") else {}


def is_source(word: str) -> bool:
    """Whether a word names a data set, or is a file or folder of one's own rather than a task."""
    from ..data.named import NAMES
    from ..data.source import is_url

    return word in NAMES or is_url(word) or (Path(word).exists() and Path(word).suffix not in (".yaml", ".yml"))


def with_sources(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options that were given, interactions of one's own among the data sets as --interactions."""
    sources = source_options(given["names"]) if given.get("names") else {}
    if "interactions" in sources and "interactions" in given:
        raise DataError(f"{display_name(sources['interactions'])} and --interactions: interactions are given once")
    return {**{k: v for k, v in given.items() if k != "names"}, **sources}


@command(below=values_of_run, takes=is_source, reads=with_sources)
@resumable()
def finetune(options: Finetune) -> None:
    """Train one adapter on your interactions or on named data sets."""
    begun = time.monotonic()
    from ..training.finetune import finetune as train
    from ..training.look import dry_run

    if options.training.dry_run:
        for line in dry_run(options.training, say):
            print(line)
        return
    with progress_bar() as progress:
        finished = train(options.training, say, progress, spent=time.monotonic() - begun)
    print("\n  ".join((f"Done: {finished.folder}. Next:", *finished.commands)))


@command()
@resumable()
def align(config: AlignConfig) -> None:
    """Tune a run to what its users chose and what they passed over; writes another run."""
    from ..training.align import align as tune
    from ..training.align import summary

    with progress_bar() as progress:
        aligned = tune(config, say, progress)
    print(summary(aligned))


@command(below=values_of_run, takes=is_source, reads=with_sources)
def rows(options: Rows) -> None:
    """Write the training rows, for a look or for another trainer."""
    from ..training.look import export_rows

    if options.training.out is None:
        raise DataError("--out DIR is needed: where the rows go")
    with progress_bar() as progress:
        line = export_rows(options.training, Path(options.training.out), options.text, say, progress)
    print(line)
