"""Options of a training as they are given, and as a run's config.yaml holds them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ..data.cuts import shares_of
from ..data.events import event_options
from ..data.load import DataOptions
from ..data.named import NAMES
from ..data.numbers import Decimal
from ..data.source import check_url, display_name, is_url, part_of, source_name, unpacked_name
from ..data.times import DateOrder
from ..errors import DataError, UnknownNameError
from ..files import read_options
from ..options import check_applies, check_ranges, flag, option

LOCAL = (
    "interactions",
    "items",
    "users",
    "tasks",
    "model",
    "item_text_model",
    "resume_from",
)  # options that name local files or data bases: they stay out of the adapter
DATA_OPTIONS = (
    *("items", "users", "column", "event", "title", "date_order", "decimal"),
    *("bad_rows", "delimiter", "encoding", "header"),
    *("missing", "duplicates", "k_core"),
    *("split", "folds", "fold", "days", "shares", "valid_from", "test_from", "seed", "task", "tasks"),
)  # options that decide how data is read, and which tasks it feeds
ROWS_OPTIONS = (
    *("names", "out", "resume_from", "store", "interactions", *DATA_OPTIONS),
    *("task_weights", "model", "max_events", "stride", "question_share"),
)  # options that decide which rows there are
OF_FILES = (
    *("items", "users", "column", "title", "date_order", "decimal", "bad_rows"),
    *("delimiter", "encoding", "header"),
)  # options for files of the caller's own
UNWRITTEN = ("out", "dry_run", "store")  # options that config.yaml does not hold
GONE = ("row_dropout",)  # options of older runs, which mean nothing any more
BLOCKS = 6  # of the backbone at most, unless --layers says otherwise


@dataclass(frozen=True)
class FinetuneConfig:
    """Every option of `genrec finetune`; the run's config.yaml holds the same names."""

    names: tuple[str, ...] = option(
        (),
        "named data sets (see `genrec data list`); or your own interactions, as --interactions takes them",
        metavar="NAME|FILE|URL",
        positional=True,
    )
    out: str | None = option(None, "run folder to write (default: runs/NAME)", metavar="DIR")
    resume_from: str | None = option(
        None, "a finished run: train on with the events and items that its store took since", metavar="RUN"
    )
    store: str | None = option(
        None,
        "with --resume-from: the PostgreSQL database that its servers share (default: the run's own store.db)",
        metavar="URL",
    )
    interactions: str | None = option(
        None,
        "your own interactions: delimited text (CSV, ...), JSON lines, Parquet, RecBole .inter, FILE.xlsx, a folder; "
        "also compressed. SQL as sqlite:///FILE#TABLE "
        "or postgresql://USER:${PASSWORD}@HOST/DB#SELECT ...; hf://datasets/OWNER/NAME/FILE or hf://OWNER/NAME?split=...",
        metavar="FILE|URL",
        heading="Data",
    )
    items: str | None = option(None, "your own catalogue", metavar="FILE|URL")
    users: str | None = option(None, "your own users' attributes", metavar="FILE|URL")
    column: tuple[str, ...] = option(
        (), "what a column means, as user_id=customer; may be repeated", metavar="NAME=COLUMN"
    )
    event: tuple[str, ...] = option(
        (),
        "what an event says of its item, as dislike=negative, share=positive, shown=neutral; may be repeated "
        "(default: by its word)",
        metavar="EVENT=SIGN",
    )
    title: str | None = option(None, 'compose titles from columns, as "{brand} {size}"', metavar="TEMPLATE")
    date_order: DateOrder = option(
        "auto",
        "day, month and year of dates such as 01/03/2024 (default: what fits the whole column, and a line says so)",
    )
    decimal: Decimal = option(
        "auto",
        "the mark of decimals in numbers such as 1,299 (default: what fits the whole column, and a line says so)",
    )
    bad_rows: Literal["error", "skip"] = option("error", "rows that cannot be parsed: stop, or drop and count them")
    delimiter: tuple[str, ...] = option(
        (),
        "what fields of a text are split at: ; or :: or tab, for one file items=tab (default: told from the content)",
        metavar="[FILE=]TEXT",
    )
    encoding: tuple[str, ...] = option(
        (), "of texts, as gbk, for one file as items=gbk (default: told from the content)", metavar="[FILE=]NAME"
    )
    header: tuple[str, ...] = option(
        (),
        "whether the first row names the columns, for one file as items=no; without one they are 1, 2, ... in --column "
        "(default: told from the content)",
        metavar="[FILE=]yes|no",
    )
    missing: tuple[str, ...] = option(
        (),
        "missing values of a column: COLUMN=drop|mean|median|nearest|interpolate; may be repeated",
        metavar="COLUMN=HOW",
    )
    duplicates: Literal["keep", "drop"] = option("keep", "equal interactions")
    k_core: int = option(0, "drop users and items with fewer interactions, repeatedly", min=0)
    split: Literal["auto", "leave_one_out", "temporal", "k_fold", "random", "given"] = option(
        "auto", "how interactions are held out"
    )
    folds: int = option(5, "folds of --split k_fold", min=2)
    fold: int = option(0, "the fold held out by --split k_fold", min=0)
    days: int = option(28, "days of each held-out part of --split temporal", min=1)
    shares: str | None = option(
        None, "split by time into these shares of train, valid and test, as 70,20,10", metavar="TRAIN,VALID,TEST"
    )
    valid_from: str | None = option(None, "split by time: validation begins at this date", metavar="DATE")
    test_from: str | None = option(None, "split by time: the test begins at this date", metavar="DATE")
    task: tuple[str, ...] = option(
        (),
        "train only this task; may be repeated (default: all that the data can feed)",
        metavar="TASK",
        heading="Tasks",
    )
    tasks: tuple[str, ...] = option((), "a task file of your own; may be repeated", metavar="FILE")
    task_weights: str = option("fixed", "fixed (each task's own), learned, or rating=2,click=0.5")
    model: str = option("smollm2-135m", "hub id, local folder, GGUF file or short name", heading="Model")
    layers: int | None = option(
        None, f"keep the first n blocks of the backbone (default: {BLOCKS}, or all of a smaller one)", min=1
    )
    quantize: Literal["none", "nf4"] = option("none", "quantize the frozen backbone")
    item_text_model: str | None = option(
        None,
        "encoder of the items' texts: minilm, hub id or local folder (default: the backbone's own word embeddings)",
        metavar="MODEL",
    )
    lora_r: int = option(16, "LoRA rank", min=1)
    lora_alpha: int = option(32, "LoRA alpha", min=1)
    epochs: int = option(5, "passes over the rows at most; validation may stop earlier", min=1, heading="Training")
    minutes: float | None = option(
        None, "fit blocks and steps so that the whole command takes no more minutes", above=0
    )
    lr: float = option(1e-3, "learning rate of LoRA", min=0)
    row_lr: float = option(2e-3, "learning rate of item and outcome rows", min=0)
    weight_decay: float = option(0.01, "weight decay (lambda)", min=0)
    warmup: float = option(0.05, "share of the steps in which the learning rate rises", min=0, below=1)
    dropout: float = option(0.3, "dropout of rows and last hidden states", min=0, below=1)
    label_smoothing: float = option(0.1, "share of a next item that is spread over the catalogue", min=0, below=1)
    batch_tokens: int = option(1024, "padded tokens per batch", min=16)
    max_events: int = option(150, "longest history of a row, in events", min=2)
    stride: int = option(150, "events between the windows of a longer history", min=1)
    question_share: float = option(0.1, "question tokens per history token", min=0)
    collaborative: bool = option(
        True, "start item rows from co-occurrence as well as from text, and let neighbours add to scores"
    )
    valid_tokens: int = option(80_000, "tokens that each validation reads at most", min=1)
    patience: int = option(2, "validations without improvement before stopping", min=1)
    seed: int = option(0, "of every random draw", min=0)
    report_to: str = option("none", "logger of the transformers Trainer: tensorboard, wandb, mlflow, trackio")
    dry_run: bool = option(False, "print what would be trained, and train nothing")

    def __post_init__(self) -> None:
        """Raises DataError for a value that an option cannot take."""
        check_ranges(self)
        if self.task_weights not in ("fixed", "learned"):
            task_weights(self.task_weights)
        if self.store is not None and self.resume_from is None:
            raise DataError("--store: the store of the run that --resume-from names; give both")
        for source in (*self.names, self.interactions, self.items, self.users):  # a URL may stand in a name's place
            check_url(source or "")
        event_options(pairs(self.event, "event"))
        if self.shares is not None:
            shares_of(self.shares)

    def check_used(self) -> None:
        """Raises DataError for an option that changes nothing beside the others.

        It is no part of `__post_init__`, since the options of older runs are read again as they are.
        """
        if self.resume_from is not None:  # the options of that run
            return
        check_applies(self, OF_FILES, not self.names, "--interactions, and named data sets have their own files")
        check_applies(self, ("folds", "fold"), self.split == "k_fold", "--split k_fold")
        check_applies(self, ("days",), self.split in ("auto", "temporal"), "--split temporal")

    def data_options(self) -> DataOptions:
        """The part of the config that reading data depends on."""
        return DataOptions(
            items=self.items or None,
            users=self.users or None,
            columns=pairs(self.column, "column"),
            events=pairs(self.event, "event"),
            title=self.title,
            date_order=self.date_order,
            decimal=self.decimal,
            bad_rows=self.bad_rows,
            delimiter=self.delimiter,
            encoding=self.encoding,
            header=self.header,
            missing=pairs(self.missing, "missing"),
            duplicates=self.duplicates,
            k_core=self.k_core,
            split=self.split,
            folds=self.folds,
            fold=self.fold,
            days=self.days,
            shares=self.shares,
            valid_from=self.valid_from,
            test_from=self.test_from,
            seed=self.seed,
        )


@dataclass(frozen=True)
class AlignConfig:
    """Every option of `genrec align`."""

    run: str = option(help="folder of a finished run", metavar="RUN", positional=True)
    out: str | None = option(
        None, "run folder to write (default: RUN-aligned, and only where it is better than RUN)", metavar="DIR"
    )
    dataset: tuple[str, ...] = option(
        (), "a data set whose preferences are learned; may be repeated (default: all of the run)", metavar="NAME"
    )
    beta: float = option(1.0, "how firmly the model is held to what it was: higher is firmer", above=0)
    rejected: int = option(3, "rejected items per chosen one, at most", min=1)
    epochs: int = option(2, "passes over the preferences at most; validation may stop earlier", min=1)
    lr: float = option(1e-4, "learning rate of LoRA; that of rows is twice as high", above=0)
    seed: int = option(0, "of every random draw", min=0)

    def __post_init__(self) -> None:
        """Raises DataError for a value that an option cannot take."""
        check_ranges(self)

    @property
    def folder(self) -> Path:
        """Where the aligned run goes."""
        return Path(self.out or f"{Path(self.run)}-aligned")


def source_options(words: Sequence[str]) -> dict[str, Any]:
    """What a command line names as the options that hold it: `names` of data sets, or `interactions` of one's own.

    Raises UnknownNameError for a word that is neither a data set nor a file, a folder or a URL, DataError for several
    of one's own.
    """
    own = [word for word in words if word not in NAMES]
    for word in own:
        check_url(word)  # a message must not show a password
        if not is_url(word) and not part_of(word)[0].exists():
            raise UnknownNameError("data set", word, NAMES, "(there is no file or folder of that name either)")
    if own and len(words) > 1:
        raise DataError(
            f"{' '.join(map(display_name, words))}: either named data sets or one file, folder or URL of interactions; "
            "a catalogue is given as --items, users as --users"
        )
    return {"interactions": own[0]} if own else {"names": tuple(words)}


def task_weights(value: str) -> dict[str, float]:
    """`rating=2,click=0.5` as weights by task name."""
    weights = {}
    for name, weight in pairs(value.split(","), "task-weights").items():
        try:
            weights[name] = float(weight)
        except ValueError:
            weights[name] = -1.0
        if not 0 <= weights[name] < float("inf"):
            raise DataError(f"--task-weights {name}={weight}: a number of at least 0 is needed")
    return weights


def run_folder(config: FinetuneConfig) -> Path:
    """Where the run goes."""
    if config.out:
        return Path(config.out)
    if config.names:
        return Path("runs") / "-".join(config.names)
    source = config.interactions or "run"
    return Path("runs") / (source_name(source) if is_url(source) else unpacked_name(source))


def pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping."""
    mapping = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name or not rest:
            raise DataError(f"--{flag} {value!r}: NAME=VALUE is expected")
        mapping[name] = rest
    return mapping


def read_config(path: Path) -> dict[str, object]:
    """The options of a run's config.yaml, as they can be given again; raises DataError for anything else."""
    return read_options(path, FinetuneConfig, "--config", GONE)


def config_yaml(config: FinetuneConfig) -> str:
    """Every option as YAML, as it can be passed back in, but for the store, whose URL may hold a password."""
    value = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items() if k not in UNWRITTEN}
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def changed_options(before: FinetuneConfig, now: FinetuneConfig) -> list[str]:
    """The options of a config.yaml that differ: `--epochs 3 then, 5 now`."""

    def shown(value: object) -> str:
        words = value if isinstance(value, tuple) else [value]
        return " ".join(str(word) for word in words if word is not None) or "not given"

    pairs_of_values = {name: (getattr(before, name), value) for name, value in vars(now).items()}
    return [
        f"{'data sets' if name == 'names' else flag(name)} {shown(old)} then, {shown(new)} now"
        for name, (old, new) in pairs_of_values.items()
        if old != new and name not in UNWRITTEN
    ]
