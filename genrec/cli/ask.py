"""`genrec ask` and `chat`: a run asked in sentences."""

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..options import option, options_of
from .loading import Loading, latest_run
from .output import say, show_json, warn
from .parser import command

if TYPE_CHECKING:
    from ..recommender import Recommender


@dataclass(frozen=True)
class Chat:
    """Options of chat."""

    run: str | None = option(
        None,
        "run or adapter folder, or hf://OWNER/NAME[@REVISION] (default: the most recent under runs/)",
        metavar="RUN",
    )
    dataset: str | None = option(
        None, "data set of the run (default: the one that the sentence speaks of)", metavar="NAME"
    )
    explain: bool = option(False, "say which items of the history each item is there for")
    loading: Loading = options_of(Loading)

    @property
    def recommender(self) -> "Recommender":
        """The run that is named, else the most recent."""
        run = self.run
        if run is None:
            run = str(latest_run())
            say(f"run: {run}")
        return self.loading.recommender(run)


@dataclass(frozen=True)
class Ask(Chat):
    """Options of ask."""

    sentence: str = option(help='"top 5 comedies from the 1990s for user 7"', metavar="SENTENCE", positional=True)
    json: bool = option(False, "the answer as JSON")


@command()
def ask(options: Ask) -> None:
    """Answer a sentence."""
    from ..ask.answer import answer

    reply = answer(options.recommender, options.sentence, options.dataset, options.explain)
    if options.json:
        show_json(reply.to_json())
        return
    warn(reply.warnings)
    print(reply.answer)


@command()
def chat(options: Chat) -> None:
    """Talk to a run: each line is a sentence; `more`, `not horror`, `and for user 7?` follow on the one before."""
    from ..ask.answer import reader_of, reply
    from ..ask.conversation import Conversation

    recommender = options.recommender
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
            said, conversation = reply(recommender, reader, sentence, conversation, options.dataset, options.explain)
            warn(said.warnings)
            print(said.answer, flush=True)
