"""Events have a sign: users wanted an item, did not want it, or were only shown it. One table of words for all."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import yaml

from ..errors import DataError, UnknownNameError, unknown_name

Sign = Literal["positive", "negative", "neutral"]
SIGNS: tuple[Sign, ...] = get_args(Sign)
MEANING: dict[Sign, str] = {"positive": "wanted", "negative": "not wanted", "neutral": "seen"}
VALUE: dict[Sign, int] = {"positive": 1, "negative": -1, "neutral": 0}
FEEDBACK: dict[float, Sign] = {-1.0: "negative", 0.0: "neutral", 1.0: "positive"}  # numbers that are opinions
OPINION = {-1.0: "dislike", 0.0: "neutral", 1.0: "like"}  # the event that such a rating counts as
SHOWN = 12  # events of a line
FEW = 50  # events of a data set, from which on a column of an ambiguous name holds something else
RATED = 0.5  # share of the skips with a rating from which on a skip says nothing of its own


@dataclass(frozen=True)
class Kind:
    """What an event is, whatever it is called: `purchase`, `dislike`; and its sign."""

    name: str
    sign: Sign


def squeezed(event: str) -> str:
    """An event in the form used to compare: `removeFromCart`, `REMOVE-FROM-CART` and `remove_from_cart` are equal."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", event.casefold()) if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", "", plain) or event.strip().replace("\ufe0f", "")  # an emoji stays what it is


@cache
def words() -> tuple[dict[str, Kind], tuple[tuple[str, Kind], ...]]:
    """The table of event_words.yaml: kinds by squeezed word, and by pattern with `*`, in the file's order."""
    text = resources.files(__package__).joinpath("event_words.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    by_word: dict[str, Kind] = {}
    patterns = []
    for name, entry in table.items():
        kind = Kind(name, entry["sign"])
        for word in entry["words"].split():
            if word.strip("*") != word:
                patterns.append((word.replace("_", ""), kind))
            else:
                by_word.setdefault(squeezed(word), kind)
    return by_word, tuple(patterns)


def kind_of(event: str) -> Kind | None:
    """What an event is; None for a word that the table lacks."""
    word = squeezed(event)
    by_word, patterns = words()
    return by_word.get(word) or next((kind for pattern, kind in patterns if fnmatchcase(word, pattern)), None)


def sign_of(event: str) -> Sign:
    """The sign of an event by its word; one that the table lacks is positive."""
    kind = kind_of(event)
    return kind.sign if kind else "positive"


def names_events(values: pl.Series) -> bool:
    """Whether a column holds events: few different values, words of the table among them, or -1 and 1 (and 0)."""
    if values.dtype.is_nested():
        return False
    names = values.cast(pl.String).drop_nulls().unique().to_list()
    numbers = {as_number(name) for name in names}
    return len(names) <= FEW and (any(map(kind_of, names)) or {-1.0, 1.0} <= numbers <= {*FEEDBACK})


def event_options(options: Mapping[str, str]) -> dict[str, Sign]:
    """`--event EVENT=SIGN` by the event in the form used to compare; raises UnknownNameError for an unknown sign."""
    for event, sign in options.items():
        if sign not in SIGNS:
            raise UnknownNameError("sign", sign, SIGNS, f"in --event {event}={sign}")
    return {compared(event): SIGNS[SIGNS.index(sign)] for event, sign in options.items()}


def alike(event: str, names: Sequence[str], signs: Mapping[str, Sign]) -> str | None:
    """The name that says what an event says: itself, one of its kind, or for one that was not wanted any of that sign;
    None if there is none."""
    kind, sign = kind_of(event), signs.get(event, sign_of(event))
    of_kind = [n for n in names if kind is not None and kind_of(n) == kind]
    of_sign = [n for n in names if sign == "negative" == signs.get(n, sign_of(n))]
    return next(iter([event] * (event in names) + of_kind + of_sign), None)


def called(name: str, events: Iterable[str]) -> list[str]:
    """The events of a data set that a task calls `name`: that very word, or without it those of the kind: `buy` and
    `order` are a purchase."""
    names = list(events)
    return [name] if name in names else [e for e in names if (kind := kind_of(e)) is not None and kind.name == name]


def check_events(options: Mapping[str, str], events: Iterable[str]) -> None:
    """Raises DataError for an event of `--event` that the data lacks."""
    names = sorted(set(events))
    for event, sign in options.items():
        if compared(event) not in map(compared, names):
            raise DataError(unknown_name("event", event, names, f"in --event {event}={sign}"))


def as_number(event: str) -> float | None:
    """The number that an event is written as; None for a word."""
    try:
        return float(event)
    except ValueError:
        return None


def compared(event: str) -> str:
    """An event as options name it: a number by its value, a word as `squeezed`."""
    number = as_number(event)
    return squeezed(event) if number is None else f"{number:g}"


def signs_of(interactions: pl.DataFrame, options: Mapping[str, str] | None = None) -> dict[str, Sign]:
    """The sign of each event of the interactions: that of `--event`, else of its word; of -1, 0 and 1 of the number.

    Skips of items that are then rated are positive, since the rating says more. If no event is positive, the neutral
    ones are: what people were shown is then all that is known.
    """
    events = interactions["event"].unique().sort().to_list()
    given = event_options(options or {})
    numbers = [as_number(event) for event in events]
    is_feedback = -1.0 in numbers and all(number in FEEDBACK for number in numbers)
    signs: dict[str, Sign] = {}
    for event, number in zip(events, numbers, strict=True):
        sign = FEEDBACK[number] if is_feedback and number is not None else sign_of(event)
        if sign == "negative" and is_skip(event) and rated_share(interactions, event) >= RATED:
            sign = "positive"
        signs[event] = given.get(compared(event), sign)
    if "positive" not in signs.values():
        shown: list[str] = [e for e, sign in signs.items() if sign == "neutral" and compared(e) not in given]
        signs |= dict.fromkeys(shown, SIGNS[0])
    return signs


def is_skip(event: str) -> bool:
    """Whether an event is a skip, which says less than a rating beside it."""
    kind = kind_of(event)
    return kind is not None and kind.name == "skip"


def rated_share(interactions: pl.DataFrame, event: str) -> float:
    """The share of an event's interactions that have a rating."""
    if "rating" not in interactions.columns:
        return 0.0
    ratings = interactions.filter(pl.col("event") == event)["rating"]
    return ratings.count() / len(ratings)


def signs_note(signs: Mapping[str, Sign], interactions: pl.DataFrame, options: Mapping[str, str]) -> tuple[str, ...]:
    """A line on what the events mean, `events: like (wanted), dislike (not wanted)`, the most frequent first; none if
    there is a single one that nobody named."""
    counts = interactions["event"].value_counts().sort("count", "event", descending=[True, False])["event"].to_list()
    if len(counts) == 1 and signs[counts[0]] == "positive" and not options:
        return ()
    given = event_options(options)
    said = []
    for event in counts:
        meaning = MEANING[signs[event]]
        if compared(event) in given:
            meaning += ", as --event says"
        elif as_number(event) is None and kind_of(event) is None:
            meaning = f"not known, counts as {meaning}"
        elif as_number(event) is not None and signs[event] == "positive" and not as_number(event) == 1:
            meaning = f"a number, counts as {meaning}"
        elif signs[event] == "positive" and sign_of(event) != "positive" and as_number(event) is None:
            meaning = f"rated, so {meaning}" if is_skip(event) else f"{meaning}: there is nothing else"
        said.append(f"{event} ({meaning})")
    more = f", and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    hint = "; --event EVENT=negative, positive or neutral says otherwise" if any("counts as" in s for s in said) else ""
    return (f"events: {', '.join(said[:SHOWN])}{more}{hint}",)


def with_opinions(interactions: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The interactions with `like` and `dislike` as events where they have none and the ratings are -1 and 1 (and 0);
    and a note."""
    if "rating" not in interactions.columns or (interactions["event"] != "rating").any():
        return interactions, ()
    values = {*interactions["rating"].drop_nulls().unique().to_list()}
    if not {-1.0, 1.0} <= values <= {*OPINION}:
        return interactions, ()
    event = pl.col("rating").replace_strict(OPINION, default="rating", return_dtype=pl.String)
    return interactions.with_columns(event.alias("event")), ("ratings are -1 and 1: -1 counts as dislike, 1 as like",)


def row_signs(interactions: pl.DataFrame, signs: Mapping[str, Sign]) -> pl.Series:
    """The sign (interactions,) Int8 of each: 1 wanted, -1 not wanted, 0 seen; interactions are in the order of time.

    An event that `signs` lacks has that of its word. What a user wanted and then, in the same part of the split, took
    out, returned or disliked is only seen.
    """
    names = [name or "" for name in interactions["event"].unique().to_list()]
    value = {name: VALUE[signs.get(name, sign_of(name))] for name in names}
    if all(v > 0 for v in value.values()):  # of most histories, in every answer
        return pl.Series("sign", np.ones(interactions.height, dtype=np.int8))
    sign = pl.col("event").fill_null("").replace_strict(value, default=1, return_dtype=pl.Int8)
    if "rating" in interactions.columns:
        skips = [name for name in names if name not in signs and is_skip(name)]
        sign = pl.when(pl.col("event").is_in(skips) & pl.col("rating").is_not_null()).then(1).otherwise(sign)
    frame = interactions.select(sign.cast(pl.Int8).alias("sign"), pl.col("event"), pl.col("^(user_id|item_id|part)$"))
    cancels = [name for name in names if value[name] < 0 and not is_skip(name)]
    if not cancels or "item_id" not in frame.columns:
        return frame["sign"]
    key = [c for c in ("user_id", "item_id", "part") if c in frame.columns]
    cancelled = pl.col("event").is_in(cancels).fill_null(False).cum_max(reverse=True).over(key)
    return frame.select(pl.when((pl.col("sign") > 0) & cancelled).then(0).otherwise(pl.col("sign")).alias("sign")).cast(
        pl.Int8
    )["sign"]


def is_rejected(interactions: pl.DataFrame, sign: np.ndarray) -> np.ndarray:
    """Mask (interactions,) of those that say as much as the worst rating: not wanted, and not only skipped."""
    if not (sign < 0).any():
        return np.zeros(len(sign), dtype=bool)
    names = interactions["event"].drop_nulls().unique().to_list()
    skips = [name for name in names if is_skip(name)]
    return (sign < 0) & ~interactions["event"].is_in(skips).fill_null(False).to_numpy()
