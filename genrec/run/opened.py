"""Where a run or an adapter is: a run folder, an adapter folder alone, or `hf://OWNER/NAME[@REVISION]` of the hub."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from ..data.source import HUB
from ..errors import RunError, UnavailableError
from ..files import one_line
from .folder import MANIFEST, Run

REPOSITORY = re.compile(r"(?!datasets/)([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
FILE = re.compile(r"(tasks/)?\w[\w.-]*")  # a name that a file of an adapter on the hub may have


def is_hub(where: str | Path) -> bool:
    """Whether a run is named by its address on the hub."""
    return isinstance(where, str) and where.startswith(HUB)


def open_run(where: str | Path) -> Run:
    """A run folder, an adapter folder (`RUN/adapter`, or a copy of it anywhere), or an adapter of the hub, which is
    fetched once; offline the last one that was fetched is taken.

    Raises RunError for anything else, UnavailableError if the hub cannot be reached and nothing is cached.
    """
    if is_hub(where):
        return fetch_adapter(str(where))
    folder = Path(where)
    return Run(folder, is_adapter=(folder / MANIFEST).is_file())


def run_name(where: str | Path) -> str:
    """The name of a run, whether it can be opened or not: that of its folder, or on the hub that of its repository."""
    path = Path(str(where).partition("@")[0]) if is_hub(where) else Path(where).resolve()
    return path.parent.name if path.name == "adapter" else path.name


def repository_of(address: str) -> tuple[str, str | None]:
    """Repository and revision of `hf://OWNER/NAME[@REVISION]`; raises RunError for another form."""
    match = REPOSITORY.fullmatch(address.removeprefix(HUB))
    if match is None:
        raise RunError(f"{address}: an adapter of the hub is hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return match[1], match[2]


def fetch_adapter(address: str) -> Run:
    """The adapter of a repository of the hub: the files that its manifest lists, at one commit, in the hub's cache."""
    from huggingface_hub import hf_hub_download, snapshot_download

    from .manifest import read_manifest

    repository, revision = repository_of(address)
    with hub_errors(address):
        first = Path(hf_hub_download(repository, MANIFEST, revision=revision))
    commit = first.parent.name
    names = [MANIFEST, "README.md", *read_manifest(first.parent).files]
    if strange := [name for name in names if not FILE.fullmatch(name)]:
        raise RunError(f"{address} is refused: its {MANIFEST} lists a file {strange[0][:80]!r}")
    with hub_errors(address):
        folder = Path(snapshot_download(repository, revision=commit, allow_patterns=names))
    return Run(folder, is_adapter=True, source=f"{HUB}{repository}@{commit}")


@contextlib.contextmanager
def hub_errors(address: str) -> Iterator[None]:
    """Errors of the hub's client as RunError (there is no such thing, or it is not for you) or UnavailableError."""
    from huggingface_hub import errors

    login = "`hf auth login`, or the environment variable HF_TOKEN, says who you are"
    try:
        yield
    except errors.HFValidationError as error:
        raise RunError(f"{address}: not a name of the hub: {one_line(error)}") from error
    except errors.GatedRepoError as error:
        raise RunError(f"{address} is gated: ask for access on its page; {login}") from error
    except errors.RepositoryNotFoundError as error:
        raise RunError(f"{address}: the hub has no such repository, or it is private; {login}") from error
    except errors.RevisionNotFoundError as error:
        raise RunError(f"{address}: the repository has no such revision") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise UnavailableError(
            f"{address}: the hub cannot be reached, or HF_HUB_OFFLINE is set, and what is needed is not in the cache "
            f"({one_line(error)})"
        ) from error
    except errors.EntryNotFoundError as error:
        raise RunError(f"{address} is no adapter of genrec: it has no {MANIFEST}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise RunError(f"{address}: the hub refuses ({status}): {one_line(error)}; {login}") from error
        raise UnavailableError(f"{address}: the hub answers {status}: {one_line(error)}") from error
    except Exception as error:  # the client lets its HTTP library's own errors through
        if not type(error).__module__.startswith("httpx"):
            raise
        raise UnavailableError(f"{address}: the hub cannot be reached ({one_line(error)})") from error
