"""The words that sentences are read by, and what is said of those that were not understood: one YAML file per language
under words/, all read together."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from ..catalogue.titles import Word, words_of

Phrase = tuple[str, ...]  # words as `data.titles` splits them


class Phrases:
    """Phrases with what they stand for, found at a place of a text, the longest first."""

    def __init__(self, meanings: Mapping[str, Any]) -> None:
        self.spelled = [" ".join(w.text for w in words_of(p)) for p in meanings]
        self.by_first: dict[str, list[tuple[Phrase, Any]]] = {}
        for phrase, meaning in meanings.items():
            words = tuple(w.text for w in words_of(phrase))
            self.by_first.setdefault(words[0], []).append((words, meaning))
        for found in self.by_first.values():
            found.sort(key=lambda f: -len(f[0]))

    @staticmethod
    def of(phrases: Iterable[str]) -> "Phrases":
        """Phrases that only need to be found."""
        return Phrases({p: True for p in phrases})

    def at(self, words: Sequence[Word], place: int) -> tuple[int, Any] | None:
        """Length in words and meaning of the longest phrase that begins at a place."""
        for phrase, meaning in self.by_first.get(words[place].text, ()):
            if tuple(w.text for w in words[place : place + len(phrase)]) == phrase:
                return len(phrase), meaning
        return None

    def before(self, words: Sequence[Word], place: int) -> int:
        """Length of the longest phrase that ends just before a place; 0 for none."""
        for size in range(min(4, place), 0, -1):
            found = self.at(words, place - size)
            if found and found[0] == size:
                return size
        return 0


HAN = re.compile(r"[\u4e00-\u9fff]")
LATIN_WORD = re.compile(r"[A-Za-z]+")


def language_of(text: str) -> str:
    """`zh` for a text with more than two Chinese characters to each Latin word, so that a title of the other language
    does not decide; else `en`."""
    return "zh" if len(HAN.findall(text)) > 2 * len(LATIN_WORD.findall(text)) else "en"


CHINESE_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
CHINESE_UNITS = {"十": 10, "百": 100, "千": 1_000}


def chinese_number(text: str) -> int | None:
    """`三十六` is 36, `七百二十` 720, `一九九四` 1994; None for two or three digits in a row, which are vague
    (`三五部`)."""
    if not text or any(c not in CHINESE_DIGITS and c not in CHINESE_UNITS for c in text):
        return None
    if not any(c in CHINESE_UNITS for c in text):
        digits = [CHINESE_DIGITS[c] for c in text]
        return int("".join(str(d) for d in digits)) if len(digits) == 1 or len(digits) >= 4 else None
    total, digit = 0, None
    for c in text:
        if c in CHINESE_DIGITS:
            digit = CHINESE_DIGITS[c]
        else:
            total += (1 if digit is None else digit) * CHINESE_UNITS[c]
            digit = None
    return total + (digit or 0)


@dataclass(frozen=True)
class Language:
    """All languages together: phrases by what they do, other words for values, and examples of requests.

    says: by language, what is said where a sentence was not understood.
    """

    users: Phrases
    before_user: Phrases
    items: Phrases
    count_cues: Phrases
    numbers: Phrases
    ordinals: Phrases
    known: Phrases
    first_few: Phrases
    periods: Phrases
    negations: Phrases
    negations_after: Phrases
    negation_ends: Phrases
    older: Phrases
    newer: Phrases
    decades: Phrases
    before_number: Phrases
    after_number: Phrases
    between: Phrases
    to: Phrases
    decade_ends: Phrases
    parts_of_decade: Phrases
    datasets: Mapping[str, Phrases]
    values: Mapping[str, tuple[str, ...]]
    pairs: Mapping[str, tuple[str, ...]]
    plain: frozenset[str]
    requests: Mapping[str, tuple[str, ...]]
    says: Mapping[str, Mapping[str, str]]

    def number(self, words: Sequence[Word], place: int) -> tuple[int, int | None]:
        """Words and value of a number that begins at a place: `20`, `half a dozen`, `twenty five`, `三十六`; value None
        for none."""
        if words[place].text.isdecimal():
            return 1, int(words[place].text)
        end = place
        while end < len(words) and (words[end].text in CHINESE_DIGITS or words[end].text in CHINESE_UNITS):
            end += 1
        value = chinese_number("".join(w.text for w in words[place:end]))
        hit = self.numbers.at(words, place)
        if value is not None and not (hit and hit[0] > end - place):
            return end - place, value
        if hit is None or end - place > hit[0]:
            return 1, None
        size, value = hit[0], int(hit[1])
        if not words[place].text.isascii():
            return size, value
        if value % 10 == 0 and 20 <= value < 100 and (units := self.units_at(words, place + size)):
            return size + 1, value + units
        if 0 < value < 10 and [w.text for w in words[place + size : place + size + 1]] == ["hundred"]:
            size, value = size + 1, 100 * value
            joint = int([w.text for w in words[place + size : place + size + 1]] == ["and"])
            rest = place + size + joint
            if rest < len(words) and self.numbers.at(words, rest):
                more, below = self.number(words, rest)
                if below is not None and below < 100:
                    return size + joint + more, value + below
        return size, value

    def units_at(self, words: Sequence[Word], place: int) -> int | None:
        """The value of a single word from `one` to `nine` at a place."""
        hit = self.numbers.at(words, place) if place < len(words) else None
        return int(hit[1]) if hit and hit[0] == 1 and 0 < int(hit[1]) < 10 else None


OTHER = ("between", "to", "decade_ends", "known", "first_few")
PHRASES = (
    "users",
    "before_user",
    "items",
    "count_cues",
    "periods",
    "negations",
    "negations_after",
    "negation_ends",
    "older",
    "newer",
)
NUMBERS = ("numbers", "ordinals", "decades")
COMPARISONS = ("before_number", "after_number")


@cache
def language() -> Language:
    """What the files under words/ hold."""
    folder = resources.files(__package__).joinpath("words")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    loaded = [yaml.safe_load(f.read_text(encoding="utf-8")) for f in files]

    def listed(name: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for words in loaded:
            for key, value in words[name].items():
                found.setdefault(key, []).extend(value)
        return found

    plain = {w.text for words in loaded for w in words_of(words["plain"])}
    for words in loaded:
        for name in (*PHRASES, *NUMBERS):
            plain |= {w.text for phrase in words[name] for w in words_of(phrase)}
    every: dict[str, Any] = {n: Phrases.of(p for words in loaded for p in words[n]) for n in (*PHRASES, *OTHER)}
    every |= {
        n: Phrases({k: v for words in loaded for k, v in words[n].items()}) for n in (*NUMBERS, "parts_of_decade")
    }
    every |= {n: Phrases({p: op for op, found in listed(n).items() for p in found}) for n in COMPARISONS}
    return Language(
        **every,
        datasets={name: Phrases.of(phrases) for name, phrases in listed("datasets").items()},
        values={name: tuple(other) for name, other in listed("values").items()},
        pairs={name: tuple(values) for words in loaded for name, values in words["pairs"].items()},
        plain=frozenset(plain),
        requests={name: tuple(examples) for name, examples in listed("requests").items()},
        says={file.name.removesuffix(".yaml"): words["says"] for file, words in zip(files, loaded, strict=True)},
    )
