"""The Python interface: `genrec.finetune`, `genrec.load`, and the run that both give."""

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, get_args

import polars as pl

from .ask.request import Answer
from .data.named import NAMES
from .data.source import FRAME, is_url
from .errors import DataError, UnknownNameError
from .files import is_value, shown
from .frames import as_html, to_polars
from .options import flag, options_in
from .progress import SILENT, Progress, stage_text
from .recommender import Recommender
from .run.config import FinetuneConfig

if TYPE_CHECKING:
    from .evaluation.evaluate import Evaluation

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger("genrec")
ROLES = ("interactions", "items", "users")
KEYWORDS = {o.name: o for o in options_in(FinetuneConfig) if o.name not in ("names", "interactions")}
DEFAULT_OUT = "runs/frame"  # of a table, which has no name
PART = Literal["valid", "test"]
PHRASING = Literal["served", "seen", "unseen"]


def keywords(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which names the nearest of its keywords beside one that it does not have."""
    names = list(inspect.signature(function).parameters)
    names = names[1:] if names[0] == "self" else names

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise UnknownNameError("keyword", name, names, f"of {function.__name__}")
        return function(*args, **kwargs)

    return call


class Run(Recommender):
    """A finished run, loaded. Ids may be text or whole numbers, one or several, in any list, array or column; answers
    hold a frame of polars (`.frame`, `.to_pandas()`, `.to_arrow()`) and `.warnings`."""

    where = ""  # the folder or address that it was loaded from

    recommend = keywords(Recommender.recommend)
    predict = keywords(Recommender.predict)
    similar = keywords(Recommender.similar)
    explain = keywords(Recommender.explain)
    history = keywords(Recommender.history)
    embed_items = keywords(Recommender.embed_items)
    embed_users = keywords(Recommender.embed_users)

    @keywords
    def ask(self, sentence: str, *, dataset: str | None = None, explain: bool = False) -> Answer:
        """Answer a sentence, as "top 5 comedies from the 1990s for user 42"; what is not understood is said. explain:
        name the items of the history that each item is there for. Raises UnknownNameError if the answer needs a user
        who is unknown."""
        from .ask.answer import answer

        return answer(self, sentence, dataset, explain)

    @keywords
    def evaluate(
        self,
        *,
        part: PART = "test",
        phrasing: str | Sequence[PHRASING] = get_args(PHRASING),
        baselines: bool = False,
    ) -> "Evaluation":
        """Measure every task on what was held out, with intervals, and write the results into the run's folder, as
        `genrec evaluate` does. baselines: beside strong baselines. Raises RunError for an adapter without a run."""
        from .baselines.compare import rivals_of
        from .evaluation.evaluate import evaluate
        from .evaluation.record import write
        from .recommender.latency import latency_of
        from .run.loaded import load_run

        phrasings = as_words("phrasing", phrasing, get_args(PHRASING))
        as_words("part", part, get_args(PART))
        folder = Path(self.where)
        loaded = load_run(folder)
        with progress_bar() as progress:
            evaluation = evaluate(
                loaded,
                part=part,
                phrasings=phrasings,
                progress=progress,
                rivals=rivals_of if baselines else None,
                latency=latency_of(loaded),
            )
        write(folder, part, evaluation)
        return evaluation

    def __repr__(self) -> str:
        lines = [f"genrec run {self.where}, {self.backbone_name}"]
        return "\n".join(lines + [f"  {d}: {n:,} items, tasks {t}" for d, n, t in self.overview().iter_rows()])

    def _repr_html_(self) -> str:
        return as_html(self.overview(), f"genrec run {self.where}, {self.backbone_name}")

    def overview(self) -> pl.DataFrame:
        """Its data sets: dataset, items, tasks."""
        rows = [(name, self.catalogue(name).height, ", ".join(self.tasks(name))) for name in self.datasets]
        return pl.DataFrame(rows, schema=["dataset", "items", "tasks"], orient="row")


@keywords
def load(
    where: str | Path,
    *,
    quantize: Literal["none", "nf4"] | None = None,
    device: str | None = None,
    allow_mismatch: bool = False,
    model: str | None = None,
) -> Run:
    """A finished run, loaded.

    where: a run folder, an adapter folder alone, or `hf://OWNER/NAME[@REVISION]`. quantize: `none` or `nf4` for the
    backbone (default: as it was trained). device: of torch. allow_mismatch: load on other weights of the same
    architecture. model: where the backbone is, if it has moved. Raises RunError for what is no finished run, or is
    incomplete, damaged or newer.
    """
    run = Run.load(where, quantize=quantize, device=device, allow_mismatch=allow_mismatch, model=model)
    run.where = str(where)
    return run


def finetune(
    data: Any = None,
    *,
    report: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Any:
    """Train one adapter, and load the run; the same call resumes an interrupted training, or loads the finished run.

    data: interactions as a table (a frame of pandas, polars or pyarrow, a list of dicts, a dict of columns), a file or
    a URL; or the name of a data set, or several. options: the flags of `genrec finetune` with underscores, as `k_core`;
    `items` and `users` may be tables too, `column={"user_id": "customer"}` and other NAME=VALUE options are dicts, and
    what may be repeated is a list. report: called with each line that a person should see. progress: in place of the
    bar that a terminal and a notebook show. With dry_run it returns lines about the training instead. Raises
    DataError, TaskError, RunError, UnavailableError and UnknownNameError for the caller's mistakes.
    """
    from .cli.train import values_of_run
    from .options import build
    from .run.config import run_folder
    from .training.finetune import finetune as train
    from .training.look import dry_run

    given, frames = as_options(data, options)
    config = build(FinetuneConfig, {**values_of_run(given), **given})
    with progress_bar() if progress is None else given_progress(progress) as shown_progress:
        say = report or (line_above_bar if is_interactive() else logger.info)
        if config.dry_run:
            return dry_run(config, say, frames=frames)
        train(config, say, shown_progress, frames=frames)
    return load(run_folder(config))


def as_options(data: Any, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """The options of a training as FinetuneConfig takes them, and the tables by role; raises UnknownNameError for a
    keyword that there is not, DataError for a value that it cannot take."""
    given: dict[str, Any] = {}
    frames: dict[str, pl.DataFrame] = {}
    sources = {"interactions": data} | {role: options[role] for role in ROLES if role in options}
    for role, source in sources.items():
        if role == "interactions" and names_data_sets(source):
            given["names"] = (source,) if isinstance(source, str) else tuple(source)
        elif isinstance(source, str | Path):
            given[role] = str(source)
        elif source is not None:
            given[role], frames[role] = FRAME, to_polars(source, role)
    for name, value in options.items():
        if name == "config":
            given[name] = Path(value)
        elif name not in ROLES:
            given[name] = as_value(name, value)
    if "interactions" in frames:
        given.setdefault("out", DEFAULT_OUT)
    return {name: value for name, value in given.items() if value is not None}, frames


def names_data_sets(source: Any) -> bool:
    """Whether a source is the name of a data set, or several; raises DataError for a word that is neither that nor a
    file."""
    if isinstance(source, str):
        if source in NAMES or is_url(source) or Path(source).exists() or Path(source).suffix:
            return source in NAMES
        raise DataError(f"{source!r} is neither a file nor a data set; data sets: {', '.join(NAMES)}")
    words = isinstance(source, list | tuple) and len(source) > 0 and all(isinstance(name, str) for name in source)
    if words and (unknown := [name for name in source if name not in NAMES]):
        raise UnknownNameError("data set", unknown[0], NAMES)
    return words


def as_value(name: str, value: Any) -> Any:
    """The value of a keyword as the option holds it: a path as text, a dict as NAME=VALUE pairs."""
    if name not in KEYWORDS:
        raise UnknownNameError("keyword", name, ["items", "users", "config", *KEYWORDS], "of genrec.finetune")
    hint, several = KEYWORDS[name].hint, KEYWORDS[name].is_tuple
    plain = str(value) if isinstance(value, Path) else value
    if isinstance(plain, Mapping):
        plain = [f"{key}={word}" for key, word in plain.items()]
        plain = plain if several else ",".join(plain)
    if several:
        plain = [plain] if isinstance(plain, str) else [str(v) if isinstance(v, Path) else v for v in plain or ()]
    if hasattr(plain, "item") and not isinstance(plain, str):  # numpy's numbers
        plain = plain.item()
    if not is_value(plain, hint):
        raise DataError(f"{name}={shown(value)} is not a value of {flag(name)}: {KEYWORDS[name].spec.metadata['help']}")
    return tuple(plain) if several else plain


def as_words(name: str, value: Any, allowed: Sequence[str]) -> tuple[Any, ...]:
    """One word or several, all allowed; raises UnknownNameError for another."""
    words = (value,) if isinstance(value, str) else tuple(value)
    for word in words:
        if word not in allowed:
            raise UnknownNameError(name, str(word), allowed)
    return words


# --- progress -------------------------------------------------------------------------------------------------------


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


def is_interactive() -> bool:
    """Whether somebody watches: a notebook or a terminal."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def line_above_bar(line: str) -> None:
    """A line for the person who watches, above the bar."""
    from tqdm import tqdm

    tqdm.write(line)


@contextmanager
def given_progress(progress: Progress) -> Iterator[Progress]:
    """The caller's own progress."""
    yield progress


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """One bar for the whole work, with the stage under way and the time left, of widgets in a notebook that has them;
    silent where nobody watches."""
    if not is_interactive():
        yield SILENT
        return
    has_widgets = in_notebook() and find_spec("ipywidgets") is not None
    tqdm = import_module("tqdm.notebook" if has_widgets else "tqdm").tqdm
    with tqdm(total=1.0, leave=False, bar_format="{desc}: {percentage:.0f}%|{bar}| {elapsed}{postfix}") as bar:

        def show(stage: str, done: int, total: int, latest: Mapping[str, float]) -> None:
            loss = f"loss {latest['loss']:.3f}" if "loss" in latest else ""
            bar.set_description_str(stage_text(stage, done, total), refresh=False)
            bar.set_postfix_str(", ".join(filter(None, (progress.total.time_left, loss))), refresh=False)
            bar.n = progress.total.share
            bar.refresh()

        progress = Progress(show)
        yield progress
