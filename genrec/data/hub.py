"""A data set of the Hugging Face hub as a frame of raw columns."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from ..errors import DataError, UnavailableError, UnknownNameError
from .files import read_table
from .source import HUB, Reading, Table, error_line

HUB_FILE = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")
HUB_OPTIONS = ("config", "split", "revision")


def read_hub(source: str, reading: Reading) -> Table:
    """One file of a data set of the hub, or one split of a data set or folder as the `datasets` library reads it."""
    address, _, query = source.partition("?")
    file = HUB_FILE.fullmatch(source)
    repository = file[1] if file else address.removeprefix(HUB)
    folder = Path(repository) if repository.startswith(("/", ".")) else None
    if not file and folder is None and not re.fullmatch(r"[^/]+/[^/]+", repository):
        raise DataError(
            f"{source}: write hf://datasets/OWNER/NAME/FILE, hf://OWNER/NAME?config=...&split=... or hf://./FOLDER"
        )
    if folder is not None and not folder.is_dir():
        raise DataError(f"{source}: there is no folder {folder}")
    try:
        if file:
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(file[1], file[3], repo_type="dataset", revision=file[2])
        else:
            return Table(_load_split(source, repository, query))
    except OSError as error:
        if folder is not None:
            raise DataError(f"{source} cannot be read: {error_line(error)}") from error
        raise UnavailableError(
            f"{source} cannot be fetched ({error_line(error)}). Check the name and the connection (`hf auth login` for "
            f"what is not public), or on a machine with access run `hf download --repo-type dataset {repository}"
            f"{' ' + file[3] if file else ''} --local-dir FOLDER` and give {'the file' if file else 'hf://./FOLDER'}"
        ) from error
    except ValueError as error:
        raise DataError(f"{source}: {error_line(error)}") from error
    return read_table(Path(path), reading)


def _load_split(source: str, repository: str, query: str) -> pl.DataFrame:
    """One split, which the query names unless there is only one; columns of CSV files as text."""
    import datasets
    from datasets.exceptions import DatasetGenerationError

    options = {k: unquote(v) for k, _, v in (part.partition("=") for part in query.split("&") if part)}
    for key in options:
        if key not in HUB_OPTIONS:
            raise UnknownNameError("option", key, HUB_OPTIONS, f"in {source}")
    arguments: dict[str, Any] = {"name": options.get("config"), "revision": options.get("revision")}
    try:
        data = datasets.load_dataset(repository, **arguments, split=options.get("split"))
        if isinstance(data, dict):
            if len(data) > 1:
                raise DataError(f"{source}: say which split with ?split=; there are {', '.join(data)}")
            (data,) = data.values()
        builder = datasets.load_dataset_builder(repository, **arguments)
        if hasattr(builder.config, "delimiter"):  # CSV: its types were guessed
            texts = datasets.Features(dict.fromkeys(data.column_names, datasets.Value("string")))
            data = datasets.load_dataset(repository, **arguments, split=data.split, features=texts)
    except DatasetGenerationError as error:
        raise DataError(f"{source} cannot be read: {error_line(error.__cause__ or error)}") from error
    if not len(data):
        raise DataError(f"{source} has no rows")
    return data.to_polars()
