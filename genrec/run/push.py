"""An adapter to the hub: its own files, and nothing else of its run."""

import warnings
from dataclasses import dataclass

from .. import __version__
from ..data.source import HUB
from ..errors import DataError, RunError, UnavailableError
from .card import update_card
from .folder import MANIFEST, Run
from .manifest import CARD, COUNTS, check_files
from .opened import hub_errors, repository_of

STALE = ("tasks/*.yaml", COUNTS)  # files that an earlier adapter may have had, and that this one may not


@dataclass(frozen=True)
class Pushed:
    """Where an adapter is on the hub: its page, its address for genrec, and the commit."""

    url: str
    address: str
    commit: str


def push(run: Run, repository: str, *, private: bool, revision: str | None, licence: str | None) -> Pushed:
    """Upload the adapter of a run into a repository of the hub, which is made if there is none.

    revision: a branch, which is made too. licence: an identifier of the hub for the card. The token is the one of
    HF_TOKEN or of `hf auth login`. Raises RunError if the adapter is damaged or the hub refuses, DataError for a name
    or licence, UnavailableError without token or hub.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    name, at = repository_of(repository)
    if at is not None:
        raise DataError(f"{repository}: give the branch with --revision {at}")
    manifest = run.manifest()
    check_files(run.adapter, manifest)
    if constants.HF_HUB_OFFLINE:
        raise UnavailableError(f"{HUB}{name}: HF_HUB_OFFLINE is set, so that nothing can be uploaded")
    if get_token() is None:
        raise UnavailableError(
            f"{HUB}{name}: no token: `hf auth login` asks for one, or set HF_TOKEN to one that may write"
        )
    address = f"{HUB}{name}" + (f"@{revision}" if revision else "")
    update_card(run.adapter, where=address, licence=licence)
    api = HfApi(library_name="genrec", library_version=__version__)
    with hub_errors(f"{HUB}{name}"):
        page = api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.repo_info(name).private:
            raise RunError(f"{HUB}{name} is there already and public; nothing was uploaded. Make it private on {page}")
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        try:
            with warnings.catch_warnings():  # that a model has a data file: the catalogue belongs to it
                warnings.simplefilter("ignore", UserWarning)
                commit = api.upload_folder(
                    repo_id=name,
                    folder_path=run.adapter,
                    allow_patterns=[MANIFEST, CARD, *manifest.files],
                    delete_patterns=list(STALE),
                    revision=revision,
                    commit_message=f"Adapter of genrec {__version__}",
                )
        except ValueError as error:  # the hub does not take the card's metadata
            if isinstance(error, HfHubHTTPError):
                raise
            raise RunError(f"{run.adapter / CARD}: the hub does not take it: {error}") from error
    return Pushed(str(page), address, commit.oid)
