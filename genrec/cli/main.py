"""One command line to one call: the table of commands, how a call ends."""

import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from .. import __version__
from ..errors import DataError, GenrecError, UnknownNameError
from ..files import refusal
from .output import say

if TYPE_CHECKING:
    from cyclopts import App

    from .parser import Command


class Entry(NamedTuple):
    """Where a command is, the group of the help that it stands in, and its line there."""

    module: str
    group: str
    help: str


class Lines(logging.Handler):
    """Messages as lines on stderr as it is when they come: a progress bar stands in its place for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


HELP = ("--help", "-h")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
COMMANDS = {
    "finetune": Entry("train", "Train", "Train one adapter on your interactions or on named data sets."),
    "align": Entry(
        "train", "Train", "Tune a run to what its users chose and what they passed over; writes another run."
    ),
    "rows": Entry("train", "Train", "Write the training rows, for a look or for another trainer."),
    "evaluate": Entry(
        "evaluate",
        "Evaluate",
        "Measure every task of a run on its held-out part, with intervals; several seeds or folds on request.",
    ),
    "compare": Entry(
        "evaluate", "Evaluate", "Runs side by side on the cases that they share, with intervals of their differences."
    ),
    "report": Entry("evaluate", "Evaluate", "Write RUN/report.html again from the files of an evaluated run."),
    "recommend": Entry("answer", "Answer", "The best items for a user, a history or many users."),
    "predict": Entry("answer", "Answer", "The outcome of a task, with calibrated probabilities."),
    "similar": Entry("answer", "Answer", "Items whose vectors are nearest to an item's."),
    "embed": Entry("answer", "Answer", "The model's vectors of items or users, to a file."),
    "ask": Entry("ask", "Ask in words", "Answer a sentence."),
    "chat": Entry(
        "ask",
        "Ask in words",
        "Talk to a run: each line is a sentence; `more`, `not horror`, `and for user 7?` follow on the one before.",
    ),
    "serve": Entry("serve", "Serve", "Serve a run: OpenAI-compatible, REST, MCP and a web page."),
    "mcp": Entry(
        "serve",
        "Serve",
        "Answer the Model Context Protocol on stdin and stdout: tools to recommend, rank, predict, search and explain.",
    ),
    "push": Entry("share", "Share", "Upload the adapter of a run to the hub; never its users, data or results."),
    "tasks": Entry("look", "Look", "The shipped task files, or a check of your own."),
    "data": Entry("data", "Look", "The named data sets; what a data set or file holds and which tasks it can feed."),
    "doctor": Entry("look", "Look", "What this machine has, and what is missing for which feature."),
    "completion": Entry("look", "Look", "Print the script that completes commands and flags in a shell."),
}


def load(name: str) -> "Command":
    """A command, with its options."""
    command: Command = getattr(import_module(f"{__package__}.{COMMANDS[name].module}"), name)
    return command


def app(loaded: Collection[str] = ()) -> "App":
    """The parser, with the options of the commands `loaded`; the others only show their line of help."""
    from cyclopts import App, Group

    from .help import PlainHelp

    parser = App(
        name="genrec",
        help="A recommender that you can prompt.",
        version=f"genrec {__version__}",
        help_flags=HELP,
        help_format="plaintext",
        help_formatter=PlainHelp(),
    )
    groups = {e.group: Group(e.group, sort_key=place) for place, e in enumerate(COMMANDS.values())}
    for place, (name, line) in enumerate(COMMANDS.items()):
        function, text = (load(name).parser(), None) if name in loaded else (no_options, line.help)
        parser.command(function, name=name, help=text, group=groups[line.group], sort_key=place, version_flags=())
    options = Group("Options", sort_key=len(COMMANDS))
    for name in ("--help", "--version"):
        parser[name].group = options
    return parser


def no_options() -> None:
    """A command that is not called."""


def command_of(words: Sequence[str]) -> str | None:
    """The command that a command line names, whether there is one of that name or not."""
    return next((word for word in words if not word.startswith("-")), None)


def joined(words: Sequence[str]) -> list[str]:
    """`--text "- cheap"` as `--text=- cheap`: a word with a space in it is a value, whatever it begins with."""
    result: list[str] = []
    for word in words:
        is_value = word.startswith("-") and " " in word.partition("=")[0]
        if is_value and result and re.fullmatch("--[a-z-]+", result[-1]):
            result[-1] += f"={word}"
        else:
            result.append(word)
    return result


def parsed(words: Sequence[str]) -> Callable[[], None]:
    """The call that a command line stands for; raises GenrecError for one that stands for none."""
    from cyclopts import CycloptsError

    name = command_of(words)
    if name is not None and name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    if not words:
        raise DataError("a command is needed; `genrec --help` lists them")
    try:
        run, bound, _ = app([name] if name else ()).parse_args(
            words, exit_on_error=False, print_error=False, verbose=False
        )
    except CycloptsError as error:
        from .parser import message

        raise DataError(
            message(error, words, load(name)) if name else f"{words[0]}: a command comes first; see `genrec --help`"
        ) from error
    if name and not set(HELP).intersection(words):
        load(name).check_repeated(words)
    call = run(*bound.args, **bound.kwargs)
    return (lambda: None) if call is None else call  # None: help or version, which are printed


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for the user's mistakes, 130 after Ctrl-C, 143 after SIGTERM."""
    words = joined(sys.argv[1:] if argv is None else argv)
    name = command_of(words)
    title = f"genrec {name}" if name in COMMANDS else "genrec"
    level = os.environ.get("GENREC_LOG_LEVEL", "WARNING").upper()
    if level not in LOG_LEVELS:
        say(f"{title}: GENREC_LOG_LEVEL is {level[:80]!r}; allowed: {', '.join(LOG_LEVELS)}")
        return 2
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[Lines()])
    # imported by peft where it is installed; its fast path is optional, and said so on every start
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        parsed(words)()
        sys.stdout.flush()  # a reader that has gone is noticed here, not on the way out
    except GenrecError as error:
        say(f"{title}: {error}")
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if (reason := refusal(error)) is None:
            raise
        say(f"{title}: {error.filename or 'the output'} cannot be used: {reason}")
        return 2
    except KeyboardInterrupt as stop:
        say("; ".join(["interrupted", *getattr(stop, "__notes__", ())]))
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    return 0


def entry() -> None:
    """The console script."""
    status = main()
    gc.freeze()  # everything goes: no search for garbage on the way out
    raise SystemExit(status)
