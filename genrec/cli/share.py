"""`genrec push`: the adapter of a run to the hub."""

from dataclasses import dataclass

from ..options import option
from .loading import opened_run
from .output import say
from .parser import command


@dataclass(frozen=True)
class Push:
    """Options of push."""

    run: str = option(help="folder of a finished run, or of an adapter", metavar="RUN", positional=True)
    repository: str = option(help="repository of the hub, made if there is none", metavar="OWNER/NAME", positional=True)
    private: bool = option(False, "only you and your organisation may see it")
    revision: str | None = option(None, "branch to upload to, made if there is none (default: main)", metavar="BRANCH")
    license: str | None = option(
        None,
        "licence for the card, as the hub names it: apache-2.0, cc-by-nc-4.0, ... (default: none is stated; "
        "that of the data may forbid to publish)",
        metavar="ID",
    )


@command()
def push(options: Push) -> None:
    """Upload the adapter of a run to the hub; never its users, data or results."""
    from ..run.push import push as upload

    pushed = upload(
        opened_run(options.run),
        options.repository,
        private=options.private,
        revision=options.revision,
        licence=options.license,
    )
    say(f"commit {pushed.commit}; whoever may read it can ask it: `genrec recommend {pushed.address} --history ...`")
    print(pushed.url)
