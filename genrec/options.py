"""One source for options: a dataclass field is the flag, its default, its help and its range."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from .errors import DataError


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    metavar: str | None = None,
    positional: bool = False,
    heading: str | None = None,
    min: float | None = None,
    above: float | None = None,
    below: float | None = None,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """A dataclass field that is also a command-line option.

    heading: opens a group of the help, which holds this field and those after it. min, above, below: what a number must
    be at least, more than and less than; `check_ranges` refuses others. parse: makes the value of the word given.
    """
    metadata: dict[str, Any] = {"help": help, "metavar": metavar, "positional": positional, "heading": heading}
    metadata |= {"min": min, "above": above, "below": below, "parse": parse}
    return field(default=default, metadata=metadata, kw_only=default is MISSING)


def options_of(config: type, only: Collection[str] | None = None) -> Any:
    """A dataclass field whose own fields are options of the command; `only` names the fields wanted."""
    return field(default_factory=config, metadata={"config": config, "only": only})


def flag(name: str) -> str:
    """The flag of an option: `--k-core`, `-k`."""
    return ("--" if len(name) > 1 else "-") + name.replace("_", "-")


class Option(NamedTuple):
    """A field that is an option, its type, and the heading that it stands under in the help."""

    spec: "Field[Any]"
    hint: Any
    heading: str | None

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.spec.name

    @property
    def is_positional(self) -> bool:
        """Whether it is given without a flag."""
        return bool(self.spec.metadata["positional"])

    @property
    def is_tuple(self) -> bool:
        """Whether it may have several values."""
        return any(get_origin(hint) is tuple for hint in (self.hint, *get_args(self.hint)))

    @property
    def is_repeated(self) -> bool:
        """Whether its flag is given once for each of its values."""
        return self.is_tuple and not self.is_positional and self.spec.metadata["parse"] is None

    @property
    def default(self) -> Any:
        """Its value where none is given; MISSING for one that must be given."""
        return self.spec.default if self.spec.default_factory is MISSING else self.spec.default_factory()


def options_in(config: type) -> Iterator[Option]:
    """Every option of a config dataclass, those of its parts too."""
    hints = get_type_hints(config)
    heading = None
    for spec in fields(config):
        if "config" in spec.metadata:
            only = spec.metadata["only"]
            yield from (o for o in options_in(spec.metadata["config"]) if only is None or o.name in only)
        elif spec.metadata:
            heading = spec.metadata["heading"] or heading
            yield Option(spec, hints[spec.name], heading)


def build(config: type, values: Mapping[str, Any]) -> Any:
    """The config with the options that are in `values`, whose parts take theirs."""
    given = {spec.name: values[spec.name] for spec in fields(config) if spec.name in values}
    for spec in fields(config):
        if "config" in spec.metadata:
            part, only = spec.metadata["config"], spec.metadata["only"]
            names = {o.name for o in options_in(part) if only is None or o.name in only}
            given[spec.name] = build(part, {name: values[name] for name in names if name in values})
    return config(**given)


def check_ranges(config: Any) -> None:
    """Raises DataError for a number that is outside the range of its option."""
    for spec in fields(config):
        value = vars(config)[spec.name]
        least, above, below = (spec.metadata.get(key) for key in ("min", "above", "below"))
        if value is None or least is above is below is None:
            continue
        if isinstance(value, float) and below is None:
            below = math.inf
        right = (least is None or value >= least) and (above is None or value > above)
        if right and (below is None or value < below):
            continue
        if below not in (None, math.inf):
            allowed = f"allowed are {least:g} up to, not including, {below:g}"
        elif above is not None:
            allowed = f"a number above {above:g} is needed"
        elif isinstance(value, float):
            allowed = f"a number of at least {least:g} is needed"
        else:
            allowed = f"at least {least} is needed"
        raise DataError(f"{flag(spec.name)} {value}: {allowed}")


def check_applies(config: Any, names: Collection[str], applies: bool, needs: str) -> None:
    """Raises DataError for an option that was given where it changes nothing; needs: where it would, in words."""
    for spec in fields(config):
        if spec.name in names and not applies and vars(config)[spec.name] != spec.default:
            raise DataError(f"{flag(spec.name)} changes nothing here: it goes with {needs}; leave it out")


def arguments(config: Any) -> list[str]:
    """The command line that gives a config: every option with another value than its default."""
    words: list[str] = []
    for spec in fields(config):
        value = vars(config)[spec.name]
        default = spec.default if spec.default_factory is MISSING else spec.default_factory()
        if not spec.metadata or value == default:
            continue
        if "config" in spec.metadata:
            words += arguments(value)
        elif isinstance(value, bool):
            words.append(flag(spec.name) if value else f"--no-{flag(spec.name)[2:]}")
        else:
            for one in value if isinstance(value, tuple) else [value]:
                words += [str(one)] if spec.metadata["positional"] else [flag(spec.name), str(one)]
    return words
