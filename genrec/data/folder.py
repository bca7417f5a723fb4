"""A folder of several tables, such as MovieLens' own: which file is what, by their names and their columns."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError, GenrecError
from .aliases import ALIASES, squeezed
from .columns import KEY, role_by_columns
from .files import different_tables, files_of, first_rows
from .source import Reading, Role, unpacked_name

NAMES: dict[Role, str] = {
    "interactions": "interactions|ratings|events|clicks|views|purchases|orders|transactions|reviews|logs|u.data",
    "items": "items|movies|films|products|books|songs|tracks|articles|catalogue|catalog|u.item",
    "users": "users|customers|members|u.user",
}
ENDINGS: dict[str, Role] = {".inter": "interactions", ".item": "items", ".user": "users"}  # of RecBole


@dataclass(frozen=True)
class Head:
    """A file of a folder: its columns, what its name says that it holds, what its columns say, and the error if it
    cannot be read."""

    file: Path
    named: Role | None
    told: Role | None = None
    columns: tuple[str, ...] = ()
    error: GenrecError | None = None


def roles_in(
    folder: Path, given: Mapping[Role, Path], reading: Reading
) -> tuple[dict[Role, tuple[Path, ...]], str | None]:
    """The files of each role in a folder of several tables, and a note that names them and those that are not read;
    neither for a folder whose files are parts of one table.

    given: the files of roles that the caller named, inside the folder or not. Names of files go before their columns.
    Raises DataError if no file may be the interactions, or several tables may be of one role.
    """
    files = files_of(folder)
    others = [f for f in files if all(f.resolve() != path.resolve() for path in given.values())]
    if len(files) < 2 or not others:
        return {}, None
    heads = _alike([_head(file, reading) for file in others])
    chosen: dict[Role, list[Head]] = {"interactions": _interactions(heads)}
    if not chosen["interactions"] and all(_same(h, heads[0]) or h.error for h in heads):
        chosen["interactions"] = heads
    if not chosen["interactions"]:
        other = next(h for h in heads if not (_same(h, heads[0]) or h.error))
        raise different_tables(folder, (heads[0].file, heads[0].columns), (other.file, other.columns))
    rest = [h for h in heads if h not in chosen["interactions"]]
    if all(h.named != "interactions" for h in chosen["interactions"]) and (errors := _errors(rest)):
        raise errors[0]
    for role in KEY:
        candidates = [h for h in rest if h.named == role] or [h for h in rest if (h.named, h.told) == (None, role)]
        if role not in given and candidates:
            chosen[role] = _one_table(candidates) or _titled(candidates)
            if not chosen[role]:
                raise _several(folder, role, candidates)
    if chosen["interactions"] == heads and len(others) == len(files):
        return {}, None
    if not _one_table(chosen["interactions"]) and all(h.named == "interactions" for h in chosen["interactions"]):
        raise _several(folder, "interactions", chosen["interactions"])
    taken = ", ".join(f"{role} of {_names(role, found)}" for role, found in chosen.items())
    unread = ", ".join(h.file.name for h in rest if all(h not in found for found in chosen.values()))
    note = f"{folder.resolve().name}: {taken}{f'; not read: {unread}' if unread else ''}"
    return {role: tuple(h.file for h in found) for role, found in chosen.items()}, note


def _head(file: Path, reading: Reading) -> Head:
    named = role_of(file)
    try:
        table = first_rows(file, reading)
    except GenrecError as error:
        return Head(file, named, error=error)
    told = role_by_columns(table.frame, reading.columns) if table.named else named
    return Head(file, named, told, tuple(table.frame.columns))


def _alike(heads: Sequence[Head]) -> list[Head]:
    """The files, those of the same columns told alike: a part may be too short to tell that its ids recur."""
    told: dict[frozenset[str], Role | None] = {}
    for head in sorted(heads, key=lambda h: h.told != "interactions"):
        told.setdefault(frozenset(head.columns), head.told)
    return [replace(h, told=told[frozenset(h.columns)]) if h.named is None else h for h in heads]


def _interactions(heads: Sequence[Head]) -> list[Head]:
    """The files of interactions: those of that name, unless only others have a user and an item."""
    told = [h for h in heads if h.told == "interactions"]
    named = [h for h in heads if h.named == "interactions"]
    return [h for h in told if h in named] or [h for h in told if h.named is None] or named or told


def _errors(heads: Sequence[Head]) -> list[GenrecError]:
    return [h.error for h in heads if h.error is not None]


def _same(one: Head, other: Head) -> bool:
    return {*one.columns} == {*other.columns}


def _one_table(heads: list[Head]) -> list[Head]:
    """The files if they have the same columns, else none."""
    return heads if all(_same(h, heads[0]) for h in heads) else []


def _titled(heads: list[Head]) -> list[Head]:
    """The files with titles if they are one table, else none."""
    titled = [h for h in heads if any(squeezed(c) in ALIASES["title"] for c in h.columns)]
    return _one_table(titled) if titled else []


def _names(role: Role, heads: Sequence[Head]) -> str:
    """`a.csv and b.csv, told by their columns`, if their names do not tell."""
    names = " and ".join(h.file.name for h in heads)
    told = all(h.named == role for h in heads)
    return names if told else f"{names} (told by {'its' if len(heads) == 1 else 'their'} columns)"


def _several(folder: Path, role: Role, heads: Sequence[Head]) -> DataError:
    names = ", ".join(str(h.file.relative_to(folder)) for h in heads)
    return DataError(f"{folder}: {names} may all be the {role}; name one: --{role} {heads[0].file}")


def role_of(file: Path) -> Role | None:
    """What a file holds, as its name says: `ratings.csv`, `Movies.dat`, `shop_orders.parquet`, `x.inter`."""
    name = file.name.lower()
    for role, names in NAMES.items():
        if re.fullmatch(rf"(.*[_\W])?({names})", unpacked_name(file).lower()) or name in names.split("|"):
            return role
    return ENDINGS.get(file.suffix.lower())
