"""Years and decades in a sentence, and numbers beside the name of a numeric column, as conditions."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..catalogue.titles import Word
from .attributes import SHOWN, Attributes, Condition
from .language import is_latin, language
from .numbers import number_at, word_at

SIGN = re.compile(r"(<=|>=|<|>|≤|≥)\s*$")
YEAR = re.compile(r"(?:1[89]|20)\d\d")
MAX_DIGITS = 15  # of a number that a column could hold


class Span(NamedTuple):
    """Conditions in words lo..hi of a sentence."""

    lo: int
    hi: int
    conditions: tuple[Condition, ...]


class Years(NamedTuple):
    """A year or a decade: its first and last year, and the place after it."""

    first: int
    last: int
    end: int


def signed_year(text: str, words: Sequence[Word], place: int, attributes: Attributes) -> Span | None:
    """A year after a sign, `<1970`, `>= 1990`."""
    sign = SIGN.search(text[: words[place].start])
    year = year_at(words, place) if sign else None
    if attributes.year is None or sign is None or year is None:
        return None
    op = {"≤": "<=", "≥": ">="}.get(sign[1], sign[1])
    return Span(place, year.end, (Condition(attributes.year, op, float(year.first)),))


def year_condition(words: Sequence[Word], place: int, attributes: Attributes) -> Span | None:
    """`from the 1990s`, `before 1980`, `1990 to 1995`, `something older` that begins at a word."""
    tables, column = language(), attributes.year
    if column is None:
        return None
    if span := older_or_newer(words, place, column):
        return span
    if (hit := tables.between.at(words, place)) and (span := year_range(words, place, place + hit[0], column)):
        return span
    lo, op = place, "="
    if hit := tables.before_number.at(words, place):
        lo, op = place + hit[0], hit[1]
    while word_at(words, lo) in tables.before_year:
        lo += 1
    if span := year_range(words, place, lo, column):
        return span
    if decade := decade_at(words, lo):
        return decade_condition(words, place, decade, op, column)
    if year := year_at(words, lo):
        end = year.end
        after = end - (words[end - 1].text in tables.year_marks)
        if op == "=" and (hit := tables.after_number.at(words, after)):
            op, end = hit[1], after + hit[0]
        return Span(place, end, (Condition(column, op, float(year.first)),))
    return None


def older_or_newer(words: Sequence[Word], place: int, column: str) -> Span | None:
    """`older`, `newer than these`: a comparison with the years of the list before."""
    tables = language()
    for phrases, op in ((tables.older, "<"), (tables.newer, ">")):
        if hit := phrases.at(words, place):
            end = place + hit[0]
            if word_at(words, end) in tables.than:
                if word_at(words, end + 1) not in tables.list_pronouns:
                    return None
                end += 2
            return Span(place, end, (Condition(column, op, SHOWN),))
    return None


def decade_condition(words: Sequence[Word], place: int, decade: Years, op: str, column: str) -> Span:
    """A decade compared by what stands before it (op) or after it; without either, its years."""
    end = decade.end
    if op == "=" and (hit := language().after_number.at(words, end)):
        op, end = hit[1], end + hit[0]
    if op == "=":
        return Span(place, end, (Condition(column, "between", (float(decade.first), float(decade.last))),))
    return Span(place, end, (Condition(column, op, float(decade.first if op in ("<", ">=") else decade.last)),))


def year_range(words: Sequence[Word], place: int, first: int, column: str) -> Span | None:
    """Two years or decades with `to` between them, or `1990-1995`, from word `first` on."""
    low = decade_at(words, first) or year_at(words, first)
    if low is None:
        return None
    high: Years | None = None
    if hit := language().to.at(words, low.end):
        high = decade_at(words, low.end + hit[0]) or year_at(words, low.end + hit[0])
    high = high or year_at(words, low.end)
    if high is None or high.last <= low.first:
        return None
    return Span(place, high.end, (Condition(column, "between", (float(low.first), float(high.last))),))


def year_at(words: Sequence[Word], place: int) -> Years | None:
    """A single year."""
    if place >= len(words):
        return None
    size, year = number_at(words, place)
    if year is None or not YEAR.fullmatch(str(year)):
        return None
    end = place + size
    return Years(year, year, end + (word_at(words, end) in language().year_marks))


def decade_at(words: Sequence[Word], place: int) -> Years | None:
    """`1990s`, `90s`, `90's`, `nineties`, `early 90s`, and numbers of decades before a word for one.

    >>> from genrec.catalogue.titles import words_of
    >>> decade_at(words_of("early 90s"), 0), decade_at(words_of("the nineties"), 1)
    (Years(first=1990, last=1994, end=2), Years(first=1990, last=1999, end=2))
    """
    tables = language()
    part = tables.parts_of_decade.at(words, place)
    start = place + (part[0] if part else 0)
    start += word_at(words, start) in tables.decade_articles
    if start >= len(words):
        return None
    first, end = decade_number(words, start)
    if first is None:
        return None
    low, high = part[1] if part else (0, 9)
    after = tables.parts_of_decade.at(words, end)
    if after and not is_latin(words[end]):  # signs have the part after the decade
        low, high = after[1]
        end += after[0]
    return Years(first + low, first + high, end)


def decade_number(words: Sequence[Word], start: int) -> tuple[int | None, int]:
    """The first year of a decade named at a word, and the place after it."""
    tables = language()
    text, end = words[start].text, start + 1
    for ending in tables.decade_endings:
        if matched := re.fullmatch(rf"((?:1[89]|20)?\d0){re.escape(ending)}", text):
            return full_year(int(matched[1])), end
    if hit := tables.decades.at(words, start):
        after = start + hit[0]
        noun = tables.decade_ends.at(words, after)
        if is_latin(words[start]) or noun:
            return full_year(hit[1]), after + (noun[0] if noun else 0)
    elif re.fullmatch(r"(?:1[89]|20)?\d0", text) and (noun := tables.decade_ends.at(words, end)):
        return full_year(int(text)), end + noun[0]
    return None, end


def number_condition(words: Sequence[Word], place: int, attributes: Attributes) -> Span | None:
    """`price under 20`, `under 20 pages`: a comparison with a number beside the name of a numeric column."""
    before_number = language().before_number
    for name, column in attributes.numbers.items():
        after = place + len(name.split())
        if named_at(words, place, name) and (hit := before_number.at(words, after)):
            number = after + hit[0]
            if is_number(word_at(words, number)):
                return Span(place, number + 1, (Condition(column, hit[1], float(words[number].text)),))
    if hit := before_number.at(words, place):
        number = place + hit[0]
        if is_number(word_at(words, number)):
            for name, column in attributes.numbers.items():
                if named_at(words, number + 1, name):
                    condition = Condition(column, hit[1], float(words[number].text))
                    return Span(place, number + 1 + len(name.split()), (condition,))
    return None


def named_at(words: Sequence[Word], place: int, name: str) -> bool:
    """Whether the words of a name stand at a place."""
    spelled = name.split()
    return bool(spelled) and [w.text for w in words[place : place + len(spelled)]] == spelled


def is_number(text: str) -> bool:
    """Whether a word is a number that a column could hold."""
    return text.isdecimal() and len(text) <= MAX_DIGITS


def full_year(year: int) -> int:
    """The year of two digits.

    >>> [full_year(year) for year in (90, 0, 10, 1990)]
    [1990, 2000, 2010, 1990]
    """
    return year if year >= 100 else (1900 if year >= 20 else 2000) + year
