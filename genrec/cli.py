"""The command line: parse, call one function, print. Results go to stdout, everything else to stderr.

Heavy imports happen inside the commands, so that `genrec --help` answers at once.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import DataError, GenrecError, RunError, UnknownNameError

if TYPE_CHECKING:
    import polars as pl

    from .recommender import Recommender

Parser = argparse.ArgumentParser


def say(line: str) -> None:
    """A line for the user, beside the results."""
    print(line, file=sys.stderr, flush=True)


def warn(warnings: Sequence[str]) -> None:
    """Warnings of an answer."""
    for line in warnings:
        say(f"warning: {line}")


def show_json(value: object) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


# --- finetune, rows -----------------------------------------------------------------------------------------------


def finetune_options(parser: Parser) -> None:
    """Options of finetune: the fields of FinetuneConfig."""
    from .options import add_options
    from .training.config import FinetuneConfig

    add_options(parser, FinetuneConfig)


def finetune(args: argparse.Namespace) -> None:
    """Train one adapter on your interactions or on named data sets."""
    from .options import from_namespace
    from .training.config import FinetuneConfig
    from .training.finetune import dry_run
    from .training.finetune import finetune as train

    config: FinetuneConfig = from_namespace(FinetuneConfig, args)
    if config.dry_run:
        for line in dry_run(config, say):
            print(line)
        return
    with training_bar() as progress:
        out = train(config, say, progress)
    print(
        f"Done. Next:\n  genrec recommend {out} --user USER\n  genrec predict {out} --task TASK ...\n"
        f'  genrec ask "recommend for user USER" --run {out}'
    )


@contextlib.contextmanager
def training_bar() -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """A progress bar with an ETA on stderr; a line every half minute where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[loss]}"))
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *left)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task: Any = None
        start = shown = 0.0
        first = 0

        def progress(step: int, steps: int, latest: Mapping[str, float]) -> None:
            nonlocal task, start, shown, first
            loss = f"loss {latest['loss']:.3f}" if "loss" in latest else ""
            now = time.monotonic()
            if task is None:
                task, first, start, shown = bar.add_task("training", total=steps, loss=""), step, now, now
            bar.update(task, completed=step, loss=loss)
            if not console.is_terminal and now - shown > 30:
                shown = now
                minutes = (now - start) / (step - first) * (steps - step) / 60
                say(f"step {step:,} of {steps:,}, about {minutes:.0f} minutes left {loss}")

        yield progress


def rows_options(parser: Parser) -> None:
    """Options of rows: those of finetune, and the form of the output."""
    finetune_options(parser)
    parser.add_argument(
        "--text", action="store_true", help="prompt and completion as text (JSON lines), as TRL reads it"
    )


def rows(args: argparse.Namespace) -> None:
    """Write the training rows, for a look or for another trainer."""
    from .options import from_namespace
    from .training.config import FinetuneConfig
    from .training.finetune import export_rows

    config: FinetuneConfig = from_namespace(FinetuneConfig, args)
    if config.out is None:
        raise DataError("--out DIR is needed: where the rows go")
    print(export_rows(config, Path(config.out), args.text, say))


# --- recommend, predict, similar, embed ---------------------------------------------------------------------------


def run_options(parser: Parser) -> None:
    """The run, and how to load it."""
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--dataset", help="data set of the run (default: its first that knows the ids)")
    parser.add_argument(
        "--quantize", choices=("none", "nf4"), default="none", help="quantize the backbone (default: none)"
    )
    parser.add_argument(
        "--allow-backbone-mismatch", action="store_true", help="load on other weights of the same architecture"
    )
    parser.add_argument("--model", help="where the backbone is, if it is a folder or file that has moved")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


def load_run(args: argparse.Namespace) -> "Recommender":
    """The run of the arguments."""
    from .recommender import Recommender

    return Recommender.load(
        args.run, quantize=args.quantize, allow_mismatch=args.allow_backbone_mismatch, model=args.model
    )


def split_ids(value: str) -> list[str]:
    """`1,2,3` as ids."""
    return [i.strip() for i in value.split(",") if i.strip()]


def recommend_options(parser: Parser) -> None:
    """Options of recommend."""
    run_options(parser)
    parser.add_argument("--user", help="user id")
    parser.add_argument("--history", type=split_ids, metavar="ID,ID", help="item ids instead of a user, oldest first")
    parser.add_argument(
        "--title", action="append", metavar="TITLE", help="a title instead of ids as history; may be repeated"
    )
    parser.add_argument("-k", type=int, default=10, help="length of the list (default: 10)")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="ID", help="an item that must not appear; may be repeated"
    )
    parser.add_argument("--include-seen", action="store_true", help="items of the history may appear")
    parser.add_argument("--candidates", type=split_ids, metavar="ID,ID", help="rank these items only")
    parser.add_argument(
        "--where", metavar="SQL", help="a condition on the catalogue: \"genre = 'Comedy' and year < 2000\""
    )
    parser.add_argument("--users", metavar="FILE|all", help="many users: a file with a user_id column, or all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --users: .parquet, .csv or .jsonl")


def recommend(args: argparse.Namespace) -> None:
    """The best items for a user, a history or many users."""
    ways = [w for w in ("user", "history", "title", "users") if getattr(args, w) is not None]
    if len(ways) != 1:
        given = ", ".join("--" + w for w in ways) or "none"
        raise DataError(f"give one of --user, --history, --title and --users ({given} given)")
    if (args.users is None) != (args.out is None):
        raise DataError("--users and --out go together")
    if args.out is not None:
        check_output(args.out)
    recommender = load_run(args)
    common = {
        "k": args.k,
        "exclude": args.exclude,
        "include_seen": args.include_seen,
        "candidates": args.candidates,
        "where": args.where,
        "dataset": args.dataset,
    }
    if args.users is not None:
        users = recommender.all_users(args.dataset) if args.users == "all" else read_column(Path(args.users), "user_id")
        found = recommender.recommend(users, **common)
        warn(found.warnings)
        write_table(found.frame, args.out)
        say(f"{found.frame.height:,} rows for {len(users):,} users in {args.out}")
        return
    if args.user is not None:
        found = recommender.recommend(args.user, **common)
    else:
        history = (
            args.history if args.history is not None else [title_id(recommender, t, args.dataset) for t in args.title]
        )
        found = recommender.recommend(history=history, **common)
    frame = found.frame
    if args.json:
        dataset = frame["dataset"][0] if frame.height else args.dataset or recommender.datasets[0]
        strategy = frame["strategy"][0] if frame.height else "model"
        items = frame.select("rank", "item_id", "title", "score", "probability").to_dicts()
        show_json(
            {
                "dataset": dataset,
                "user_id": args.user,
                "strategy": strategy,
                "items": items,
                "warnings": list(found.warnings),
            }
        )
        return
    warn(found.warnings)
    if frame.height and frame["strategy"][0] == "popular":
        say("nothing is known of this user: the most popular items")
    for row in frame.iter_rows(named=True):
        print(
            f"{row['rank']:3}  {row['title'] or row['item_id']}  (item {row['item_id']}, "
            f"score {row['score']:.3f}, probability {row['probability']:.4f})"
        )


def title_id(recommender: "Recommender", title: str, dataset: str | None) -> str:
    """The item a title names."""
    found = recommender.find_items(title, dataset)
    if not found.height:
        raise DataError(f"no title of the catalogue contains {title!r}")
    if found.height > 1:
        say(f"warning: {title!r} fits {found.height} items; {found['title'][0]!r} is taken, the most frequent")
    return str(found["item_id"][0])


def predict_options(parser: Parser) -> None:
    """Options of predict."""
    run_options(parser)
    parser.add_argument(
        "--task", required=True, help="rating, click, purchase, sentiment, ... (what the run was trained on)"
    )
    parser.add_argument("--user", help="user id")
    parser.add_argument("--item", help="item id")
    parser.add_argument("--text", help="the text a text task is asked about")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="many: a file with user_id and item_id, user_id, or text columns"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --file: .parquet, .csv or .jsonl")


def predict(args: argparse.Namespace) -> None:
    """The outcome of a task, with calibrated probabilities."""
    if (args.file is None) != (args.out is None):
        raise DataError("--file and --out go together")
    if args.out is not None:
        check_output(args.out)
    users, items, texts = args.user, args.item, args.text
    if args.file is not None:
        from .data.sources import read_table

        table, _ = read_table(args.file)
        users, items, texts = (
            table[c].cast(str_type()).to_list() if c in table.columns else None for c in ("user_id", "item_id", "text")
        )
        if users is None and texts is None:
            raise DataError(f"{args.file} has neither a user_id nor a text column; it has: {', '.join(table.columns)}")
    recommender = load_run(args)
    found = recommender.predict(args.task, users=users, items=items, texts=texts, dataset=args.dataset)
    if args.out is not None:
        warn(found.warnings)
        frame = found.frame
        for n, choice in enumerate(found.choices):
            frame = frame.with_columns(frame["probabilities"].list.get(n).alias(f"p_{choice}"))
        write_table(frame.drop("probabilities"), args.out)
        say(f"{frame.height:,} predictions in {args.out}")
        return
    row = found.frame.row(0, named=True)
    probabilities = dict(zip(found.choices, row["probabilities"], strict=True))
    if args.json:
        show_json(
            {
                "dataset": row["dataset"],
                "task": row["task"],
                "value": row["value"],
                "probabilities": probabilities,
                "user_id": row["user_id"],
                "item_id": row["item_id"],
            }
        )
        return
    warn(found.warnings)
    value = f"{row['value']:.2f}" if isinstance(row["value"], float) else row["value"]
    print(f"{row['task']}: {value}  ({', '.join(f'{c} {p:.3f}' for c, p in probabilities.items())})")


def similar_options(parser: Parser) -> None:
    """Options of similar."""
    run_options(parser)
    parser.add_argument("--item", required=True, help="item id")
    parser.add_argument("-k", type=int, default=10, help="length of the list (default: 10)")


def similar(args: argparse.Namespace) -> None:
    """Items whose vectors are nearest to an item's."""
    found = load_run(args).similar(args.item, args.k, args.dataset)
    if args.json:
        items = found.frame.drop("dataset").to_dicts()
        dataset = found.frame["dataset"][0] if found.frame.height else args.dataset
        show_json({"dataset": dataset, "item_id": args.item, "items": items, "warnings": list(found.warnings)})
        return
    warn(found.warnings)
    for row in found.frame.iter_rows(named=True):
        print(f"{row['rank']:3}  {row['title'] or row['item_id']}  (item {row['item_id']}, cosine {row['score']:.3f})")


def embed_options(parser: Parser) -> None:
    """Options of embed."""
    run_options(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--items", action="store_true", help="vectors of the catalogue")
    which.add_argument("--users", action="store_true", help="vectors of all users")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".parquet or .jsonl")


def embed(args: argparse.Namespace) -> None:
    """The model's vectors of items or users, to a file."""
    check_output(args.out)
    recommender = load_run(args)
    frame = recommender.embed_items(args.dataset) if args.items else recommender.embed_users(None, args.dataset)
    write_table(frame, args.out)
    say(f"{frame.height:,} vectors in {args.out}")


# --- ask ----------------------------------------------------------------------------------------------------------


def ask_options(parser: Parser) -> None:
    """Options of ask."""
    parser.add_argument("sentence", metavar="SENTENCE", help='"recommend for user 42"')
    parser.add_argument("--run", help="run folder (default: the most recent under runs/)")
    parser.add_argument("--dataset", help="data set of the run")
    parser.add_argument(
        "--quantize", choices=("none", "nf4"), default="none", help="quantize the backbone (default: none)"
    )
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


def ask(args: argparse.Namespace) -> None:
    """Answer a sentence."""
    from .ask.answer import answer
    from .recommender import Recommender

    run = Path(args.run) if args.run else latest_run()
    if args.run is None:
        say(f"run: {run}")
    found = answer(Recommender.load(run, quantize=args.quantize), args.sentence, args.dataset)
    if args.json:
        show_json(found.to_json())
        return
    warn(found.warnings)
    print(found.answer)


def latest_run(root: Path = Path("runs")) -> Path:
    """The most recently finished run under runs/."""
    found = sorted(root.glob("*/adapter/genrec.json"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise RunError("there is no finished run under runs/: train one with `genrec finetune`, or name it with --run")
    return found[-1].parent.parent


# --- tasks, data, doctor ------------------------------------------------------------------------------------------


def tasks_options(parser: Parser) -> None:
    """Options of tasks."""
    parser.add_argument("what", choices=("list", "show", "check"), help="list all, show one, or check a file of yours")
    parser.add_argument("name", nargs="?", help="task name (show) or YAML file (check)")


def tasks(args: argparse.Namespace) -> None:
    """The shipped task files, or a check of your own."""
    from .tasks.task import load_task, shipped_tasks

    shipped = shipped_tasks()
    if args.what == "list":
        for task in shipped.values():
            print(f"{task.name:10}  {task.description}")
        return
    if args.name is None:
        raise DataError(f"`genrec tasks {args.what}` needs a {'name' if args.what == 'show' else 'file'}")
    if args.what == "check":
        task = load_task(Path(args.name))
        print(f"{args.name}: task {task.name}, {len(task.seen)} seen and {len(task.unseen)} unseen templates: correct")
        return
    if args.name not in shipped:
        raise UnknownNameError("task", args.name, shipped)
    print(shipped[args.name].text, end="")


def data_options(parser: Parser) -> None:
    """Options of data."""
    parser.add_argument(
        "what", choices=("list", "show"), help="list the named data sets, or show one or a file of yours"
    )
    parser.add_argument("name", nargs="?", metavar="NAME|FILE", help="data set name or interactions file")
    parser.add_argument("--items", type=Path, metavar="FILE", help="catalogue of your own file")
    parser.add_argument("--column", nargs="+", default=[], metavar="NAME=COLUMN", help="what a column means")
    parser.add_argument("--json", action="store_true", help="as JSON")


def data(args: argparse.Namespace) -> None:
    """The named data sets; what a data set or file holds and which tasks it can feed."""
    from .data.named import DATASETS, NAMES

    if args.what == "list":
        for named in DATASETS.values():
            print(
                f"{named.name:17} {named.what}\n{'':17} {named.licence}\n{'':17} from {', else '.join(named.sources)}"
            )
        print(f"{'demo':17} the three above in one adapter, the last two cut down")
        return
    if args.name is None:
        raise DataError("`genrec data show` needs a NAME or FILE")
    from .data.describe import describe
    from .data.load import DataOptions, load_dataset
    from .data.named import expand
    from .tasks.rows import offered_tasks
    from .tasks.task import load_tasks
    from .training.config import pairs

    path = Path(args.name)
    if path.suffix and (path.exists() or args.name not in NAMES):
        loaded = [
            load_dataset(None, DataOptions(interactions=path, items=args.items, columns=pairs(args.column, "column")))
        ]
    else:
        loaded = [load_dataset(name, DataOptions(cut=cut)) for name, cut in expand([args.name])]
    found = []
    for dataset in loaded:
        offered, why = offered_tasks(dataset, list(load_tasks().values()))
        found.append(describe(dataset) | {"tasks": [t.name for t in offered], "tasks_off": why})
    if args.json:
        show_json(found if len(found) > 1 else found[0])
        return
    for value in found:
        print(
            f"{value['name']}: {value['interactions']:,} interactions, "
            f"{value['users']:,} users, {value['items']:,} items"
        )
        if value["density"] is not None:
            print(
                f"  density {value['density']:.4%}, "
                f"{value['tied_timestamps']:.1%} of the interactions share a user's timestamp"
            )
        for where, columns in value["columns"].items():
            print(
                f"  {where}: "
                + ", ".join(
                    f"{c} ({s['type']}" + (f", {s['missing']:,} missing" if s["missing"] else "") + ")"
                    for c, s in columns.items()
                )
            )
        for note in value["notes"]:
            print(f"  {note}")
        print(f"  tasks: {', '.join(value['tasks'])}")
        for line in value["tasks_off"]:
            print(f"  {line}")
        if value["licence"]:
            print(f"  licence: {value['licence']}")


def no_options(parser: Parser) -> None:
    """A command without options."""


def doctor(args: argparse.Namespace) -> None:
    """What this machine has, and what is missing for which feature."""
    from .doctor import report

    for finding in report():
        print(f"{'ok  ' if finding.ok else 'LOOK'} {finding.name:14} {finding.value}")


# --- files --------------------------------------------------------------------------------------------------------


def str_type() -> Any:
    """polars' String, imported late."""
    import polars as pl

    return pl.String


def read_column(path: Path, column: str) -> list[str]:
    """One column of a file as text."""
    from .data.sources import read_table

    table, _ = read_table(path)
    if column not in table.columns:
        raise DataError(f"{path} has no {column} column; it has: {', '.join(table.columns)}")
    return [str(v) for v in table[column].to_list()]


def check_output(path: Path) -> None:
    """An output file whose kind is known and whose folder exists."""
    if path.suffix not in (".parquet", ".csv", ".jsonl"):
        raise DataError(f"--out {path}: allowed are .parquet, .csv and .jsonl")
    if not path.parent.is_dir():
        raise DataError(f"--out {path}: there is no folder {path.parent}")


def write_table(frame: "pl.DataFrame", path: Path) -> None:
    """Write a table whole or not at all."""
    import polars as pl

    partial = path.with_name(f".{path.name}.partial")
    if path.suffix == ".parquet":
        frame.write_parquet(partial)
    elif path.suffix == ".csv":
        lists = [c for c, t in frame.schema.items() if t.is_nested()]
        frame.with_columns(pl.col(c).cast(pl.List(pl.String)).list.join(" ") for c in lists).write_csv(partial)
    else:
        frame.write_ndjson(partial)
    os.replace(partial, path)


# --- main ---------------------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], None], Callable[[Parser], None]]] = {
    "finetune": (finetune, finetune_options),
    "recommend": (recommend, recommend_options),
    "predict": (predict, predict_options),
    "similar": (similar, similar_options),
    "embed": (embed, embed_options),
    "ask": (ask, ask_options),
    "rows": (rows, rows_options),
    "tasks": (tasks, tasks_options),
    "data": (data, data_options),
    "doctor": (doctor, no_options),
}


def parser_for(command: str | None) -> Parser:
    """The parser, with the options of the command that is called; the others only show their line of help."""
    parser = Parser(prog="genrec", description="A recommender that you can prompt.")
    parser.add_argument("--version", action="version", version=f"genrec {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (function, options) in COMMANDS.items():
        line = (function.__doc__ or "").strip().splitlines()[0]
        sub = commands.add_parser(name, help=line, description=line)
        if name == command:
            options(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for the user's mistakes, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in arguments if a in COMMANDS), None)
    args = parser_for(command).parse_args(arguments)
    logging.basicConfig(
        level=os.environ.get("GENREC_LOG_LEVEL", "WARNING"), format="%(levelname)s %(name)s: %(message)s"
    )
    # imported by peft where it is installed; its fast path is optional, and said so on every start
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        COMMANDS[args.command][0](args)
    except GenrecError as error:
        say(f"genrec {args.command}: {error}")
        return 2
    except KeyboardInterrupt:
        again = "; the same command resumes from the last checkpoint" if args.command == "finetune" else ""
        say(f"interrupted{again}")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0


def entry() -> None:
    """The console script."""
    raise SystemExit(main())
