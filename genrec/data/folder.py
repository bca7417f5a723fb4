"""A folder of several tables, such as MovieLens' own: which file is what, by their names."""

import re
from pathlib import Path

from ..errors import DataError
from .files import files_of
from .source import unpacked_name
from .values import Role

NAMES: dict[Role, str] = {
    "interactions": "interactions|ratings|events|clicks|views|purchases|orders|transactions|reviews|logs|u.data",
    "items": "items|movies|films|products|books|songs|tracks|articles|catalogue|catalog|u.item",
    "users": "users|customers|members|u.user",
}
ENDINGS: dict[str, Role] = {".inter": "interactions", ".item": "items", ".user": "users"}  # of RecBole


def roles_in(folder: Path) -> dict[Role, Path]:
    """The file of each role in a folder of several tables; none for a folder whose files are parts of one table.

    Raises DataError if several files may be the interactions, or the catalogue.
    """
    files = files_of(folder)
    roles: dict[Role, list[Path]] = {}
    for file in files:
        if role := role_of(file):
            roles.setdefault(role, []).append(file)
    if len(files) < 2 or "interactions" not in roles or roles["interactions"] == files:
        return {}
    for role, candidates in roles.items():
        if len(candidates) > 1:
            names = ", ".join(str(file.relative_to(folder)) for file in candidates)
            raise DataError(f"{folder}: {names} may all be the {role}; name one: --{role} {candidates[0]}")
    return {role: candidates[0] for role, candidates in roles.items()}


def role_of(file: Path) -> Role | None:
    """What a file holds, as its name says: `ratings.csv`, `Movies.dat`, `shop_orders.parquet`, `x.inter`."""
    name = file.name.lower()
    for role, names in NAMES.items():
        if re.fullmatch(rf"(.*[_\W])?({names})", unpacked_name(file).lower()) or name in names.split("|"):
            return role
    return ENDINGS.get(file.suffix.lower())
