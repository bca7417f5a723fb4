"""The words that sentences are read by: one YAML file per language under words/, all languages read together.

A language is its files, words/LANGUAGE.yaml and examples/LANGUAGE/*.txt; a table that it does not need may be missing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from ..catalogue.titles import Word, words_of

DEFAULT = "en"  # the language of answers
LATIN_WORD = re.compile(r"[A-Za-z]+")
LONGEST_PHRASE = 4  # words of a phrase that is looked for before a place

Phrase = tuple[str, ...]  # words as `data.titles` splits them


class Phrases:
    """Phrases with their meanings, found at a place of a text, the longest first.

    >>> Phrases({"half a dozen": 6, "half": 2}).at(words_of("half a dozen films"), 0)
    (3, 6)
    """

    def __init__(self, meanings: Mapping[str, Any]) -> None:
        self.spelled = [" ".join(w.text for w in words_of(p)) for p in meanings]
        self.by_first: dict[str, list[tuple[Phrase, Any]]] = {}
        for phrase, meaning in meanings.items():
            words = tuple(w.text for w in words_of(phrase))
            self.by_first.setdefault(words[0], []).append((words, meaning))
        for phrases in self.by_first.values():
            phrases.sort(key=lambda p: -len(p[0]))

    @staticmethod
    def of(phrases: Iterable[str]) -> "Phrases":
        """Phrases without a meaning of their own."""
        return Phrases({p: True for p in phrases})

    def at(self, words: Sequence[Word], place: int) -> tuple[int, Any] | None:
        """Length in words and meaning of the longest phrase that begins at a place; None also past the end."""
        if place >= len(words):
            return None
        for phrase, meaning in self.by_first.get(words[place].text, ()):
            if tuple(w.text for w in words[place : place + len(phrase)]) == phrase:
                return len(phrase), meaning
        return None

    def before(self, words: Sequence[Word], place: int) -> int:
        """Length of the longest phrase that ends just before a place; 0 for none."""
        for size in range(min(LONGEST_PHRASE, place), 0, -1):
            hit = self.at(words, place - size)
            if hit and hit[0] == size:
                return size
        return 0


@dataclass(frozen=True)
class Language:
    """All languages together, by the tables of their files; en.yaml says what each is for.

    texts: by language, the sentences about what was not understood. scripts: by language, the signs of those that are
    written without spaces. plain: by language, words that have a part in any sentence.
    """

    # phrases that are found at a place, the first ones also words with a part in any sentence
    users: Phrases
    before_user: Phrases
    items: Phrases
    count_cues: Phrases
    periods: Phrases
    negations: Phrases
    negations_after: Phrases
    negation_ends: Phrases
    older: Phrases
    newer: Phrases
    numbers: Phrases
    ordinals: Phrases
    decades: Phrases
    parts_of_decade: Phrases
    before_number: Phrases
    after_number: Phrases
    between: Phrases
    to: Phrases
    decade_ends: Phrases
    familiar: Phrases
    first_few: Phrases
    count_of_them: Phrases
    # single words
    always_capital: frozenset[str]
    joined_count: frozenset[str]
    hundreds: frozenset[str]
    number_joints: frozenset[str]
    for_user: frozenset[str]
    user_speaks: frozenset[str]
    joined_user: frozenset[str]
    id_abbreviations: frozenset[str]
    ordinal_endings: frozenset[str]
    number_marks: frozenset[str]
    id_to_user: frozenset[str]
    place_cues: frozenset[str]
    place_marks: frozenset[str]
    before_place: frozenset[str]
    ordinals_of_one: frozenset[str]
    ordinal_times: frozenset[str]
    number_pronouns: frozenset[str]
    pronoun_before: frozenset[str]
    one_cues: frozenset[str]
    count_ends: frozenset[str]
    count_articles: frozenset[str]
    uncounted_before: frozenset[str]
    uncounted_after: frozenset[str]
    title_joints: frozenset[str]
    list_joints: frozenset[str]
    owners: frozenset[str]
    no_values: frozenset[str]
    than: frozenset[str]
    list_pronouns: frozenset[str]
    before_year: frozenset[str]
    year_marks: frozenset[str]
    decade_articles: frozenset[str]
    decade_endings: frozenset[str]
    negation_joints: frozenset[str]
    negated_joints: frozenset[str]
    # other tables; full stops and commas of other scripts are joined, as a class of a regular expression takes them
    full_stops: str
    commas: str
    quotes: tuple[str, ...]
    digits: Mapping[str, int]
    digit_units: Mapping[str, int]
    plurals: Mapping[str, str]
    datasets: Mapping[str, Phrases]
    values: Mapping[str, tuple[str, ...]]
    pairs: Mapping[str, tuple[str, ...]]
    plain: Mapping[str, frozenset[str]]
    scripts: Mapping[str, str]
    texts: Mapping[str, Mapping[str, str]]

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Words of any language that have a part in any sentence."""
        return frozenset().union(*self.plain.values())


_PLAIN = (
    *("users", "before_user", "items", "count_cues", "periods", "negations", "negations_after", "negation_ends"),
    *("older", "newer", "numbers", "ordinals", "decades"),
)
_PHRASES = (*_PLAIN[:10], "between", "to", "decade_ends", "familiar", "first_few", "count_of_them")
_MEANINGS = ("numbers", "ordinals", "decades", "parts_of_decade")
_COMPARISONS = ("before_number", "after_number")
_OTHER = (
    "full_stops",
    "commas",
    "quotes",
    "digits",
    "digit_units",
    "plurals",
    "datasets",
    "values",
    "pairs",
    "plain",
    "scripts",
    "texts",
)


def files_of(folder: Traversable, ending: str) -> list[Traversable]:
    """The files of a folder with this ending, by name."""
    return sorted((f for f in folder.iterdir() if f.name.endswith(ending)), key=lambda f: f.name)


def package_folder() -> Traversable:
    """Where words/ and examples/ lie."""
    return resources.files(__package__)


@cache
def languages() -> tuple[str, ...]:
    """The languages that there are files for, by name."""
    return tuple(f.name.removesuffix(".yaml") for f in files_of(package_folder().joinpath("words"), ".yaml"))


@cache
def language() -> Language:
    """The tables of all files under words/."""
    folder = package_folder().joinpath("words")
    files = {name: yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text("utf-8")) for name in languages()}
    tables = list(files.values())

    def joined(name: str) -> dict[str, Any]:
        return {k: v for table in tables for k, v in table.get(name, {}).items()}

    def lists(name: str) -> dict[str, list[str]]:
        merged: dict[str, list[str]] = {}
        for table in tables:
            for k, words in table.get(name, {}).items():
                merged.setdefault(k, []).extend(words)
        return merged

    def every(name: str) -> list[str]:
        return [word for table in tables for word in table.get(name, ())]

    fields: dict[str, Any] = {name: Phrases.of(every(name)) for name in _PHRASES}
    fields |= {name: Phrases(joined(name)) for name in _MEANINGS}
    fields |= {name: Phrases({p: op for op, phrases in lists(name).items() for p in phrases}) for name in _COMPARISONS}
    words = [name for name in Language.__dataclass_fields__ if name not in (*fields, *_OTHER)]
    fields |= {name: frozenset(every(name)) for name in words}
    return Language(
        **fields,
        full_stops=re.escape("".join(every("full_stops"))),
        commas=re.escape("".join(every("commas"))),
        quotes=tuple(every("quotes")),
        digits=joined("digits"),
        digit_units=joined("digit_units"),
        plurals=joined("plurals"),
        datasets={name: Phrases.of(phrases) for name, phrases in lists("datasets").items()},
        values={name: tuple(words) for name, words in lists("values").items()},
        pairs={name: tuple(values) for name, values in joined("pairs").items()},
        plain={name: plain_words(table) for name, table in files.items()},
        scripts={name: table["script"] for name, table in files.items() if "script" in table},
        texts={name: table["texts"] for name, table in files.items() if "texts" in table},
    )


def remarks(name: str) -> Mapping[str, str]:
    """The remarks of a language on what was not understood; the default's if its file has none."""
    texts = language().texts
    return texts.get(name, texts[DEFAULT])


def plain_words(table: Mapping[str, Any]) -> frozenset[str]:
    """The words of a language's file that have a part in any sentence."""
    phrases = [table.get("plain", ""), *(phrase for name in _PLAIN for phrase in table.get(name, ()))]
    return frozenset(w.text for phrase in phrases for w in words_of(phrase))


def language_of(text: str) -> str:
    """The language of a text.

    One with its own script if it has more than two of its signs to each Latin word, so that a title of another language
    does not decide; else the one in Latin letters that explains most words.

    >>> language_of("recommend for user 42")
    'en'
    """
    tables = language()
    latin = len(LATIN_WORD.findall(text))
    for name, script in tables.scripts.items():
        if len(re.findall(f"[{script}]", text)) > 2 * latin:
            return name
    words = {w.text for w in words_of(text)}
    others = [name for name in tables.plain if name not in tables.scripts and name != DEFAULT]
    return max((DEFAULT, *others), key=lambda name: len(words & tables.plain.get(name, frozenset())))


def is_latin(word: Word) -> bool:
    """Whether a word is in Latin letters (`data.titles` strips their accents); else it is a sign of another script."""
    return word.text.isascii()
