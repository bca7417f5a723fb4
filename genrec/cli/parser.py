"""A dataclass as a command: its fields become the flags of a cyclopts parser, the function takes it filled in."""

import difflib
import inspect
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cyclopts import Group, Parameter

from ..errors import DataError
from ..options import Option, build, flag, options_in

if TYPE_CHECKING:
    from cyclopts import CycloptsError

Run = Callable[[Any], None]


def no_values(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """No values below those that were given."""
    return {}


def as_given(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options as they were given."""
    return given


def any_word(word: str) -> bool:
    """Every word may be a positional."""
    return True


@dataclass(frozen=True)
class Command:
    """A function of one dataclass of options.

    below: values for options that were not given, by what was given. environment: prefix of the variables that stand in
    for flags. takes: whether a word is a positional, where it could also be a further value of the option before it.
    reads: the options as they are meant, by what was given.
    """

    function: Run
    options: type
    below: Callable[[Mapping[str, Any]], Mapping[str, Any]] = no_values
    environment: str | None = None
    takes: Callable[[str], bool] = any_word
    reads: Callable[[Mapping[str, Any]], Mapping[str, Any]] = as_given

    def signature(self) -> inspect.Signature:
        """The options as parameters, those without a flag first."""
        groups: dict[str | None, Group] = {None: Group("Options", sort_key=0)}
        parameters = []
        for option in options_in(self.options):
            group = groups.setdefault(option.heading, Group(option.heading or "", sort_key=len(groups)))
            kind = inspect.Parameter.POSITIONAL_ONLY if option.is_positional else inspect.Parameter.KEYWORD_ONLY
            default = inspect.Parameter.empty if option.default is MISSING else option.default
            annotation: Any = Annotated[parsed_type(option), Parameter(**self.settings(option, group))]
            parameters.append(inspect.Parameter(option.name, kind, annotation=annotation, default=default))
        return inspect.Signature(sorted(parameters, key=lambda p: (p.kind, p.default is not p.empty and not p.kind)))

    def settings(self, option: Option, group: Group) -> dict[str, Any]:
        """One option as cyclopts reads it."""
        metadata, default = option.spec.metadata, option.default
        settings: dict[str, Any] = {"help": metadata["help"], "show_choices": False}
        settings["metavar"] = metadata["metavar"] or "|".join(choices(option.hint)) or None
        settings["show_default"] = default not in (None, False, "", ()) and "(default" not in metadata["help"]
        if not option.is_positional:
            settings |= {"name": flag(option.name), "group": group}
            settings["negative"] = f"--no-{flag(option.name)[2:]}" if default is True else ()
        if not option.is_repeated:
            settings["allow_repeating"] = True  # the last one counts
        if parse := metadata["parse"] or number(option.hint):
            settings |= {"converter": partial(last_word, parse), "n_tokens": 1}
        elif is_path(option):
            settings["converter"] = every_word if option.is_tuple else partial(last_word, str)
        if self.environment:
            settings |= {"env_var": self.environment + option.name.upper(), "show_env_var": False}
            settings["env_var_split"] = partial(split_variable, option.is_tuple)
        return settings

    def parser(self) -> Callable[..., Callable[[], None]]:
        """What cyclopts calls with the options that were given: makes the call of the command's function."""
        signature = self.signature()

        def call(*args: Any, **kwargs: Any) -> Callable[[], None]:
            given = self.reads(signature.bind(*args, **kwargs).arguments)
            return partial(self.function, build(self.options, {**self.below(given), **given}))

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__doc__ = self.function.__doc__
        return call

    def repeated_flags(self) -> list[str]:
        """The flags that are given once for each value."""
        return [flag(o.name) for o in options_in(self.options) if o.is_repeated]

    def check_repeated(self, words: Sequence[str]) -> None:
        """Raises DataError for several values after one flag, if the others are no positionals of the command."""
        for option, values in several_values(words, self.repeated_flags()):
            if not all(map(self.takes, values[1:])):
                raise DataError(as_repeated(option, values))


def command(
    below: Callable[[Mapping[str, Any]], Mapping[str, Any]] = no_values,
    environment: str | None = None,
    takes: Callable[[str], bool] = any_word,
    reads: Callable[[Mapping[str, Any]], Mapping[str, Any]] = as_given,
) -> Callable[[Run], Command]:
    """A function as a command: its parameter's type holds the options."""

    def made(function: Any) -> Command:
        hints = get_type_hints(function)
        (options,) = (hint for name, hint in hints.items() if name != "return")
        return Command(function, options, below, environment, takes, reads)

    return made


def choices(hint: Any) -> tuple[str, ...]:
    """The words that a type allows; none where any may be given."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next(filter(None, map(choices, get_args(hint))), ())


def is_path(option: Option) -> bool:
    """Whether a text is, or may be, the name of a file or folder: shells then complete it."""
    is_text = Path not in (option.hint, *get_args(option.hint))
    return is_text and any(word in (option.spec.metadata["metavar"] or "") for word in ("FILE", "DIR", "RUN"))


def parsed_type(option: Option) -> Any:
    """The type that cyclopts sees."""
    if not is_path(option):
        return option.hint
    return tuple[Path, ...] if option.is_tuple else Path | None if option.default is None else Path


def number(hint: Any) -> type[int | float] | None:
    """The kind of number that an option is; cyclopts itself would take 5.5 for 5, and `none` for no number."""
    return next((kind for kind in (int, float) if kind in (hint, *get_args(hint))), None)


def last_word(parse: Callable[[str], Any], hint: Any, tokens: Sequence[Any]) -> Any:
    """The value of a word, by the option's own function; of an option that is given again, the last one counts. Raises
    DataError naming the flag of a word that the function refuses."""
    try:
        return parse(tokens[-1].value)
    except DataError as error:
        raise DataError(f"{tokens[-1].keyword}: {error}") from error


def every_word(hint: Any, tokens: Sequence[Any]) -> tuple[str, ...]:
    """The words, in their order."""
    return tuple(token.value for token in tokens)


def split_variable(several: bool, hint: Any, value: str, *, delimiter: str | None = None) -> list[str]:
    """The value of a variable; several are separated by commas."""
    return [v.strip() for v in value.split(",") if v.strip()] if several else [value]


def several_values(words: Sequence[str], flags: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag that several plain words follow, and the words."""
    for place, word in enumerate(words):
        if word == "--":
            return
        if word in flags:
            values = list(takewhile(lambda w: not w.startswith("-"), words[place + 1 :]))
            if len(values) > 1:
                yield word, values


def as_repeated(option: str, values: Sequence[str]) -> str:
    """How an option with several values is given."""
    form = shlex.join(chain.from_iterable((option, value) for value in values))
    return f"{option} takes one value and is repeated for more: {form}"


def message(error: "CycloptsError", words: Sequence[str], command: Command) -> str:
    """What was wrong with the words of a command, in one line."""
    from cyclopts import CoercionError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

    if isinstance(error, UnusedCliTokensError):
        for option, values in several_values(words, command.repeated_flags()):
            return as_repeated(option, values)
        return f"{shlex.join(error.unused_tokens or [])}: more than the command takes"
    if isinstance(error, UnknownOptionError) and "Did you mean" not in str(error):
        return f"{error} `genrec {command.function.__name__} --help` lists the options"
    if error.argument is None:
        return str(error).strip()
    settings = error.argument.parameter
    name = error.argument.name
    if isinstance(error, MissingArgumentError):
        if name in words:
            return f"{name} needs a value: {settings.help}; one that begins with - is given as {name}=-..."
        shown = f"{name} {settings.metavar or ''}".strip() if name.startswith("-") else settings.metavar or name
        return f"{shown} is needed: {settings.help}"
    if isinstance(error, CoercionError) and error.token is not None:
        place = error.token.keyword or settings.metavar or name
        return f"{place} {error.token.value}: {allowed(error.argument.hint, error.token.value)}"
    return str(error).strip()


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """` Did you mean --task?`, or nothing."""
    close = difflib.get_close_matches(word, words, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def allowed(hint: Any, word: str) -> str:
    """What a value of a type may be."""
    if words := choices(hint):
        return f"allowed are {', '.join(words)}.{did_you_mean(word, words)}".rstrip(".")
    kinds = {int: "a whole number", float: "a number", None: "true or false"}
    return f"{kinds[number(hint)]} is needed"
