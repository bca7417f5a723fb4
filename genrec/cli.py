"""The command line: parse, call one function, print. Results go to stdout, everything else to stderr.

Heavy imports happen inside the commands, so that `genrec --help` answers at once.
"""

import argparse
import contextlib
import errno
import functools
import gc
import json
import logging
import os
import shlex
import signal
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import DataError, GenrecError, RunError, UnknownNameError
from .files import whole
from .progress import Progress

if TYPE_CHECKING:
    import polars as pl

    from .recommender import Recommender
    from .run.config import FinetuneConfig

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
    from .run.config import FinetuneConfig

    add_options(parser, FinetuneConfig)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="options from a run's config.yaml; those given beside it come first"
    )


def finetune_config(args: argparse.Namespace) -> "FinetuneConfig":
    """The options given, over those of --config."""
    from .options import from_namespace
    from .run.config import FinetuneConfig, read_config

    values = read_config(args.config) if args.config else None
    if args.__dict__.get("resume_from"):
        from .training.resume import options_of

        values = options_of(args.resume_from, vars(args))
    found: FinetuneConfig = from_namespace(FinetuneConfig, args, values)
    return found


def finetune(args: argparse.Namespace) -> None:
    """Train one adapter on your interactions or on named data sets."""
    config = finetune_config(args)
    from .training.finetune import finetune as train
    from .training.look import dry_run

    if config.dry_run:
        for line in dry_run(config, say):
            print(line)
        return
    with progress_bar() as progress:
        finished = train(config, say, progress)
    print("\n  ".join((f"Done: {finished.folder}. Next:", *finished.commands)))


def align_options(parser: Parser) -> None:
    """Options of align: the fields of AlignConfig."""
    from .options import add_options
    from .run.config import AlignConfig

    add_options(parser, AlignConfig)


def align(args: argparse.Namespace) -> None:
    """Tune a run to what its users chose and what they passed over; writes another run."""
    from .options import from_namespace
    from .run.config import AlignConfig

    config = from_namespace(AlignConfig, args)
    from .training.align import align as tune
    from .training.align import summary

    with progress_bar() as progress:
        found = tune(config, say, progress)
    print(summary(found))


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar with an ETA on stderr for each stage; a line every half minute where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[loss]}"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *left)
    with Bars(*columns, console=console, disable=not console.is_terminal) as bar:
        bars: dict[str, Any] = {}  # the bar, first step and start of each stage that is under way
        began: dict[str, tuple[int, float]] = {}
        shown = time.monotonic()

        def report(stage: str, done: int, total: int, latest: Mapping[str, float]) -> None:
            nonlocal shown
            loss = f"loss {latest['loss']:.3f}" if "loss" in latest else ""
            now = time.monotonic()
            if stage not in bars:
                bars[stage], began[stage] = bar.add_task(stage, total=total, loss=""), (done, now)
            bar.update(bars[stage], completed=done, total=total, loss=loss)
            first, start = began[stage]
            if not console.is_terminal and now - shown > 30 and done > first:
                shown = now
                minutes = (now - start) / (done - first) * (total - done) / 60
                say(f"{stage}: {done:,} of {total:,}, about {minutes:.1f} minutes left {loss}")
            if done >= total:
                bar.remove_task(bars.pop(stage))

        yield Progress(report)


def evaluate_options(parser: Parser) -> None:
    """Options of evaluate."""
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    part_option(parser)
    parser.add_argument(
        "--phrasing",
        nargs="+",
        choices=("served", "seen", "unseen"),
        default=["served", "seen", "unseen"],
        help="as recommend and predict read, in words that training had, in words that it had not (default: all)",
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train again with N - 1 other seeds: mean and standard deviation"
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="train on each of K folds: every interaction is held out once"
    )
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="measure strong baselines of each task beside it, on the same cases; they are trained on first use",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def part_option(parser: Parser) -> None:
    """Which held-out part is meant."""
    parser.add_argument("--part", choices=("valid", "test"), default="test", help="what is measured (default: test)")


def evaluate(args: argparse.Namespace) -> None:
    """Measure every task of a run on its held-out part, with intervals; several seeds or folds on request."""
    from .baselines.compare import rivals_of
    from .evaluation.evaluate import Evaluation
    from .evaluation.evaluate import evaluate as measure
    from .evaluation.record import measured_once, write
    from .evaluation.summary import summary
    from .recommender.latency import latency_of
    from .run.loaded import load_run
    from .training.repeat import repeated, runs_of, train
    from .training.repeat import summary as summary_of_runs

    run = Path(args.run)
    again = runs_of(run, args.seeds, args.folds) if repeats(args) else []
    if again:
        say(f"{len(again)} runs, of which {sum(not r.finished for r in again)} are to be trained")
    with progress_bar() as progress:

        def measured(folder: Path, baselines: bool = False) -> Evaluation:
            loaded = load_run(folder)
            return measure(
                loaded,
                part=args.part,
                phrasings=args.phrasing,
                progress=progress,
                rivals=rivals_of if baselines else None,
                latency=latency_of(loaded),
            )

        found = measured(run, args.baselines)
        found.results["commands"].append(args.command_line)
        train(again, say, progress)
        once = functools.partial(measured_once, part=args.part, phrasings=args.phrasing, measure=measured)
        found.results.update(repeated(again, found, args.phrasing, once))
    paths = write(run, args.part, found)
    if args.json:
        show_json(found.results)
        return
    print("\n".join([summary(found.results), *summary_of_runs(found.results)]))
    say(f"written: {', '.join(map(str, paths))}")


def repeats(args: argparse.Namespace) -> bool:
    """Whether an evaluation trains more runs."""
    return args.seeds is not None or args.folds is not None


def compare_options(parser: Parser) -> None:
    """Options of compare."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="evaluated runs; the first is what others are held to")
    part_option(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def compare(args: argparse.Namespace) -> None:
    """Runs side by side on the cases that they share, with intervals of their differences."""
    from .evaluation.compare import compare as compared
    from .evaluation.compare import table

    found = compared([Path(run) for run in args.runs], args.part)
    if args.json:
        show_json(found)
        return
    print(table(found))


def report_options(parser: Parser) -> None:
    """Options of report."""
    parser.add_argument("run", metavar="RUN", help="folder of an evaluated run")


def report(args: argparse.Namespace) -> None:
    """Write RUN/report.html again from the files of an evaluated run."""
    from .evaluation.report import write_report

    say(f"written: {write_report(Path(args.run))}")


def rows_options(parser: Parser) -> None:
    """Options of rows: those of finetune, and the form of the output."""
    finetune_options(parser)
    parser.add_argument(
        "--text", action="store_true", help="prompt and completion as text (JSON lines), as TRL reads it"
    )


def rows(args: argparse.Namespace) -> None:
    """Write the training rows, for a look or for another trainer."""
    config = finetune_config(args)
    from .training.look import export_rows

    if config.out is None:
        raise DataError("--out DIR is needed: where the rows go")
    print(export_rows(config, Path(config.out), args.text, say))


# --- recommend, predict, similar, embed ---------------------------------------------------------------------------


def run_options(parser: Parser) -> None:
    """The run, and how to load it."""
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--dataset", help="data set of the run (default: its first that knows the ids)")
    load_options(parser)
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


def load_options(parser: Parser) -> None:
    """How to load a run, and how to answer."""
    parser.add_argument(
        "--quantize", choices=("none", "nf4"), help="quantize the backbone (default: as the run was trained)"
    )
    parser.add_argument(
        "--allow-backbone-mismatch", action="store_true", help="load on other weights of the same architecture"
    )
    parser.add_argument("--model", help="where the backbone is, if it is a folder or file that has moved")


def load_run(args: argparse.Namespace) -> "Recommender":
    """The run of the arguments."""
    with no_collection():
        from .recommender import Recommender

        return Recommender.load(
            args.run, quantize=args.quantize, allow_mismatch=args.allow_backbone_mismatch, model=args.model
        )


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """What is imported and loaded inside stays: Python's search for garbage in it takes a quarter of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def one_id(value: str) -> str:
    """An id as the data room writes it: trimmed, in Unicode's composed form."""
    return unicodedata.normalize("NFC", value.strip())


def split_ids(value: str) -> list[str]:
    """`1,2,3` as ids."""
    return [one_id(i) for i in value.split(",") if i.strip()]


def recommend_options(parser: Parser) -> None:
    """Options of recommend."""
    run_options(parser)
    parser.add_argument("--user", type=one_id, help="user id")
    parser.add_argument("--history", type=split_ids, metavar="ID,ID", help="item ids instead of a user, oldest first")
    parser.add_argument(
        "--title", action="append", metavar="TITLE", help="a title instead of ids as history; may be repeated"
    )
    parser.add_argument("-k", type=int, default=10, help="length of the list (default: 10)")
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        type=one_id,
        metavar="ID",
        help="an item that must not appear; may be repeated",
    )
    parser.add_argument("--include-seen", action="store_true", help="items of the history may appear")
    parser.add_argument("--candidates", type=split_ids, metavar="ID,ID", help="rank these items only")
    parser.add_argument(
        "--where", metavar="SQL", help="a condition on the catalogue: \"genre = 'Comedy' and year < 2000\""
    )
    parser.add_argument(
        "--items-as",
        choices=("token", "title"),
        default="token",
        help="token: the trained model ranks; title: the pretrained model goes on with titles (default: token)",
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
        "items_as": args.items_as,
        "dataset": args.dataset,
    }
    if args.users is not None:
        users = (
            recommender.all_users(args.dataset) if args.users == "all" else read_ids(Path(args.users), ["user_id"])[0]
        )
        with progress_bar() as progress:
            found = recommender.recommend(users, **common, progress=progress.stage("users"))
        warn(found.warnings)
        write_table(found.frame, args.out)
        say(f"{found.frame.height:,} rows for {len(users):,} users in {args.out}")
        return
    if args.user is not None:
        found = recommender.recommend(args.user, **common)
    else:
        history = args.history
        if args.title is not None:
            common["dataset"] = dataset_of_titles(recommender, args.title, args.dataset)
            history = [title_id(recommender, t, common["dataset"]) for t in args.title]
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


def dataset_of_titles(recommender: "Recommender", titles: Sequence[str], dataset: str | None) -> str:
    """The data set that was named, else the first that has all titles, else the run's first."""
    fits = (d for d in recommender.datasets if all(recommender.find_items(t, d).height for t in titles))
    return dataset or next(fits, recommender.datasets[0])


def title_id(recommender: "Recommender", title: str, dataset: str) -> str:
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
    parser.add_argument("--user", type=one_id, help="user id")
    parser.add_argument("--item", type=one_id, help="item id")
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
        users, items, texts = read_ids(args.file, [], ["user_id", "item_id", "review"])
        if users is None and texts is None:
            raise DataError(f"{args.file} has neither a user_id nor a text column")
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
    warn(found.warnings)
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
    value = f"{row['value']:.2f}" if isinstance(row["value"], float) else row["value"]
    print(f"{row['task']}: {value}  ({', '.join(f'{c} {p:.3f}' for c, p in probabilities.items())})")


def similar_options(parser: Parser) -> None:
    """Options of similar."""
    run_options(parser)
    parser.add_argument("--item", required=True, type=one_id, help="item id")
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


# --- ask, chat ----------------------------------------------------------------------------------------------------


def ask_options(parser: Parser) -> None:
    """Options of ask."""
    parser.add_argument("sentence", metavar="SENTENCE", help='"top 5 comedies from the 1990s for user 7"')
    chat_options(parser)
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


def chat_options(parser: Parser) -> None:
    """Options of chat."""
    parser.add_argument("--run", help="run folder (default: the most recent under runs/)")
    parser.add_argument("--dataset", help="data set of the run (default: the one that the sentence speaks of)")
    parser.add_argument("--explain", action="store_true", help="say which items of the history each item is there for")
    load_options(parser)


def ask(args: argparse.Namespace) -> None:
    """Answer a sentence."""
    from .ask.answer import answer

    found = answer(run_to_ask(args), args.sentence, args.dataset, args.explain)
    if args.json:
        show_json(found.to_json())
        return
    warn(found.warnings)
    print(found.answer)


def chat(args: argparse.Namespace) -> None:
    """Talk to a run: each line is a sentence; `more`, `not horror`, `and for user 7?` follow on the one before."""
    from .ask.answer import reader_of, reply
    from .ask.conversation import Conversation

    recommender = run_to_ask(args)
    reader, conversation = reader_of(recommender), Conversation()
    if sys.stdin.isatty():
        say("Ask, for example: recommend for user 42. End with Ctrl-D.")
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (lines can be edited and called back)
    while True:
        try:
            sentence = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if sentence.lower() in ("exit", "quit", "bye"):
            return
        if sentence:
            found, conversation = reply(recommender, reader, sentence, conversation, args.dataset, args.explain)
            warn(found.warnings)
            print(found.answer, flush=True)


def run_to_ask(args: argparse.Namespace) -> "Recommender":
    """The run that is named, else the most recent."""
    if args.run is None:
        args.run = latest_run()
        say(f"run: {args.run}")
    return load_run(args)


def latest_run(root: Path = Path("runs")) -> Path:
    """The most recently finished run under runs/."""
    found = sorted(root.glob("*/adapter/genrec.json"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise RunError("there is no finished run under runs/: train one with `genrec finetune`, or name it with --run")
    return found[-1].parent.parent


# --- serve, mcp ---------------------------------------------------------------------------------------------------


def serve_options(parser: Parser) -> None:
    """Options of serve: the fields of ServeConfig."""
    from .options import add_options
    from .serving.config import ServeConfig

    add_options(parser, ServeConfig)
    parser.add_argument(
        "--log", action="store_true", help="a line of JSON for each request; never what was asked or of whom"
    )


def serve(args: argparse.Namespace) -> None:
    """Serve a run: OpenAI-compatible, REST, MCP and a web page."""
    from .options import from_namespace
    from .run.folder import Run
    from .serving.config import ServeConfig

    config = from_namespace(ServeConfig, args)
    Run(Path(config.run)).check()
    if args.log:
        log_requests()
    with no_collection():
        from .serving.app import serve as run
    run(config, say)


def log_requests() -> None:
    """Write a line of JSON for each request to stderr."""
    from .serving.config import REQUEST_LOG

    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(message)s"))
    requests = logging.getLogger(REQUEST_LOG)
    requests.addHandler(lines)
    requests.setLevel(logging.INFO)
    requests.propagate = False


def mcp_options(parser: Parser) -> None:
    """Options of mcp."""
    from .options import add_options
    from .serving.config import ServeConfig

    add_options(parser, ServeConfig, MCP_OPTIONS)
    parser.add_argument("--print-config", action="store_true", help="what MCP clients have in their configuration")


def mcp(args: argparse.Namespace) -> None:
    """Answer the Model Context Protocol on stdin and stdout: tools to recommend, rank, predict, search and explain."""
    from .options import from_namespace
    from .serving.config import ServeConfig

    config = from_namespace(ServeConfig, args)
    check_run(config.run)
    from .serving.mcp import client_config, run_stdio

    if args.print_config:
        show_json(client_config(config))
        return
    run_stdio(config)


MCP_OPTIONS = ("run", "record_events", "store", "quantize", "allow_backbone_mismatch", "model", "timeout", "prefix_mib")


def check_run(run: str) -> None:
    """Say at once what is no finished run."""
    from .run.folder import Run

    Run(Path(run)).check()


# --- tasks, data, doctor ------------------------------------------------------------------------------------------


def tasks_options(parser: Parser) -> None:
    """Options of tasks."""
    parser.add_argument("what", choices=("list", "show", "check"), help="list all, show one, or check a file of yours")
    parser.add_argument("name", nargs="?", help="task name (show) or YAML file (check)")


def tasks(args: argparse.Namespace) -> None:
    """The shipped task files, or a check of your own."""
    from .tasks.taskfile import load_task, shipped_tasks

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
    from .options import add_options
    from .run.config import DATA_OPTIONS, FinetuneConfig

    parser.add_argument("name", nargs="?", metavar="NAME|FILE|URL", help="data set name, interactions file or URL")
    add_options(parser, FinetuneConfig, DATA_OPTIONS)
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
    from .data.source import is_url
    from .options import from_namespace
    from .rows.corpus import offered_tasks
    from .run.config import FinetuneConfig
    from .run.data import load_data
    from .tasks.taskfile import load_tasks

    path = Path(args.name)
    own = is_url(args.name) or (path.suffix and (path.exists() or args.name not in NAMES))
    what: dict[str, object] = {"interactions": args.name} if own else {"names": (args.name,)}
    found = []
    for dataset in load_data(from_namespace(FinetuneConfig, args, what)):
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


def read_ids(path: Path, needed: Sequence[str], wanted: Sequence[str] | None = None) -> list[Any]:
    """Columns of a file (default: those needed) by their usual names; None for one that it lacks.

    Ids are read as in the data room. Raises DataError for a needed column that is not there, and a row without an id.
    """
    from .data.columns import ALIASES, missing_column, squeezed
    from .data.files import read_table
    from .data.values import IDS, as_id

    table, _ = read_table(path)
    by_name = {squeezed(c): c for c in reversed(table.columns)}
    found: list[Any] = []
    for column in wanted or needed:
        named = next((by_name[a] for a in ALIASES[column] if a in by_name), None)
        if named is None:
            if column in needed:
                raise DataError(missing_column(column, table.columns, {}, str(path)))
            found.append(None)
            continue
        values = as_id(table[named]) if column in IDS else table[named]
        if values.null_count():
            row = int(values.is_null().arg_max() or 0) + 1
            raise DataError(f"{path}: row {row} has no {named}; every row needs one")
        found.append([str(v) for v in values.to_list()])
    return found


def check_output(path: Path) -> None:
    """An output file whose kind is known and whose folder exists."""
    if path.suffix not in (".parquet", ".csv", ".jsonl"):
        raise DataError(f"--out {path}: allowed are .parquet, .csv and .jsonl")
    if not path.parent.is_dir():
        raise DataError(f"--out {path}: there is no folder {path.parent}")


def write_table(frame: "pl.DataFrame", path: Path) -> None:
    """Write a table whole or not at all."""
    import polars as pl

    with whole(path) as partial:
        if path.suffix == ".parquet":
            frame.write_parquet(partial)
        elif path.suffix == ".csv":
            lists = [c for c, t in frame.schema.items() if t.is_nested()]
            frame.with_columns(pl.col(c).cast(pl.List(pl.String)).list.join(" ") for c in lists).write_csv(partial)
        else:
            frame.write_ndjson(partial)


# --- main ---------------------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], None], Callable[[Parser], None]]] = {
    "finetune": (finetune, finetune_options),
    "align": (align, align_options),
    "evaluate": (evaluate, evaluate_options),
    "report": (report, report_options),
    "compare": (compare, compare_options),
    "recommend": (recommend, recommend_options),
    "predict": (predict, predict_options),
    "similar": (similar, similar_options),
    "embed": (embed, embed_options),
    "ask": (ask, ask_options),
    "chat": (chat, chat_options),
    "serve": (serve, serve_options),
    "mcp": (mcp, mcp_options),
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
    args = parser_for(command).parse_args(
        arguments, argparse.Namespace(command_line=shlex.join(["genrec", *arguments]))
    )
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
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        say(f"genrec {args.command}: no space left on the device{f' for {error.filename}' if error.filename else ''}")
        return 2
    except KeyboardInterrupt:
        trains = args.command in ("finetune", "align") or (args.command == "evaluate" and repeats(args))
        again = "; the same command resumes from the last checkpoint" if trains else ""
        say(f"interrupted{again}")
        return 130
    return 0


def entry() -> None:
    """The console script."""
    status = main()
    gc.freeze()  # everything goes: no search for garbage on the way out
    raise SystemExit(status)
