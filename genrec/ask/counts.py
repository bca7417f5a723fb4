"""The passes for numbers that are no ids: stretches of time, and how many items are wanted."""

from typing import NamedTuple

from .language import is_latin, language
from .numbers import number_at, word_at
from .request import MAX_K
from .sentence import Sentence
from .users import is_counted

MAX_PERIOD = 1_000  # a number from here on is no length of time


class Count(NamedTuple):
    """A number that may be a count; the greatest is taken: one that is said to be a count, then the first."""

    is_sure: bool
    minus_lo: int
    hi: int
    value: int


def find_periods(sentence: Sentence) -> None:
    """`28 days`: a stretch of time is no count; nor is it a decade."""
    tables, words = language(), sentence.words
    for n in range(len(words) - 1):
        if not sentence.is_free(n):
            continue
        size, value = number_at(words, n)
        end = n + size
        if value is None or value >= MAX_PERIOD or end >= len(words) or not sentence.is_free(end):
            continue
        period = tables.periods.at(words, end)
        if period and not tables.decade_ends.at(words, end):
            sentence.mark(n, end + period[0], "PERIOD")


def find_count(sentence: Sentence) -> None:
    """How many items are wanted."""
    counts = [count for n in range(len(sentence.words)) if sentence.is_free(n) and (count := count_at(sentence, n))]
    if counts:
        best = max(counts)
        sentence.k = best.value
        sentence.mark(-best.minus_lo, best.hi, "COUNT")


def count_at(sentence: Sentence, n: int) -> Count | None:
    """A number at a word that may be a count; `one` and numbers in signs only if something counted follows."""
    tables, words = language(), sentence.words
    size, value = number_at(words, n)
    if value is None or not 0 < value <= MAX_K:
        return None
    word, after = words[n].text, n + size
    previous = word_at(words, n - 1) if n and not sentence.begins_clause(n) else ""
    follows = tables.items.at(words, after) is not None or mark_at(sentence, after) == "CONDITION"
    cue = tables.count_cues.before(words, n) > 0 or word_at(words, after) in tables.count_ends
    if previous in tables.uncounted_before or mark_at(sentence, after) == "USER":  # `films 4 user 36`
        return None
    if word in tables.number_pronouns:
        if previous in tables.pronoun_before:
            return None
        if not (follows or (cue and previous in tables.one_cues) or is_counted(sentence, after)):
            return None
    if not is_latin(words[n]):
        if value == 1 and (
            word_at(words, after) in tables.uncounted_after or not (follows or previous in tables.one_cues)
        ):
            return None
        if not (follows or cue):
            return None
    unknown = previous.isascii() and previous.isalpha() and not sentence.explains(previous)
    if unknown and not (follows or cue) and sentence.is_free(n - 1):  # `Terminater 2`
        return None
    lo = n - 1 if previous in tables.count_articles and not word.isdecimal() else n
    of_them = tables.count_of_them.at(words, after) is not None
    return Count(follows or cue or of_them, -lo, after, value)


def mark_at(sentence: Sentence, place: int) -> str | None:
    """The mark at a place; None past the end."""
    return sentence.marks[place] if place < len(sentence.marks) else None
