"""The pass for attribute conditions: values of the catalogue, years, numbers, and the negations that reach them."""

import re
from collections.abc import Sequence

from .attributes import SHOWN, column_words
from .language import language
from .numbers import word_at
from .sentence import Sentence
from .years import Span, number_condition, signed_year, year_condition

MAX_LISTED = 30  # conditions that are negated together, as a list
MAX_GAP = 3  # words between conditions that are negated together
REACH = 5  # places before a condition where its negation may end
STOP = re.compile(r"[;.!?]")


def find_column_values(sentence: Sentence) -> None:
    """Values after the name of their column, `genre=War`: these are no titles."""
    add_conditions(sentence, find_spans(sentence, beside_column=True))


def find_conditions(sentence: Sentence) -> None:
    """Every other condition in the free words."""
    add_conditions(sentence, find_spans(sentence))


def add_conditions(sentence: Sentence, spans: Sequence[Span]) -> None:
    """Mark the words of conditions."""
    for span in spans:
        sentence.mark(span.lo, span.hi, "CONDITION")
        sentence.evidence += 0.6 * (span.hi - span.lo)
    conditions = (c for span in spans for c in span.conditions)
    sentence.conditions = tuple(dict.fromkeys((*sentence.conditions, *conditions)))


def find_spans(sentence: Sentence, beside_column: bool = False) -> list[Span]:
    """The conditions in the free words, in order, turned round if a negation reaches them."""
    spans: list[Span] = []
    place = 0
    while place < len(sentence.words):
        span = None
        if sentence.is_free(place):
            span = value_of_column(sentence, place) if beside_column else condition_at(sentence, place)
        if span:
            spans.append(span)
        place = span.hi if span else place + 1
    stops = {n for n in range(1, len(sentence.words)) if STOP.search(sentence.between(n))}
    return [negated(sentence, span, spans[:n], stops) for n, span in enumerate(spans)]


def condition_at(sentence: Sentence, place: int) -> Span | None:
    """A condition of any form that begins at a word."""
    words, attributes = sentence.words, sentence.domain.attributes
    return (
        signed_year(sentence.text, words, place, attributes)
        or year_condition(words, place, attributes)
        or value_at(sentence, place)
        or number_condition(words, place, attributes)
    )


def value_at(sentence: Sentence, place: int) -> Span | None:
    """A value of an attribute; `my kids` are people."""
    hit = sentence.domain.attributes.values.at(sentence.words, place)
    if hit is None or not sentence.is_free(place, place + hit[0]):
        return None
    if word_at(sentence.words, place - 1) in language().owners:
        return None
    return Span(place, place + hit[0], hit[1])


def value_of_column(sentence: Sentence, place: int) -> Span | None:
    """A value after the name of its column: `genre War`, `category: meat`."""
    span = value_at(sentence, place + 1)
    if span is None or not all(column_words(c.column) == sentence.words[place].text for c in span.conditions):
        return None
    return span._replace(lo=place)


def negated(sentence: Sentence, span: Span, earlier: Sequence[Span], stops: set[int]) -> Span:
    """The conditions turned round if a negation reaches them: just before, before others that they are listed with, or
    after them."""
    if span.conditions[0].value == SHOWN:
        return span
    lo, hi = negation_start(sentence, span.lo, earlier, stops), span.hi
    if end := negation_end(sentence, span.hi):
        lo, hi = span.lo if lo is None else lo, end
    if lo is None:
        return span
    return Span(lo, hi, tuple(c.opposite() for c in span.conditions))


def negation_start(sentence: Sentence, place: int, earlier: Sequence[Span], stops: set[int]) -> int | None:
    """Where the words begin that a negation takes in: its own first word, or `place` if it reaches it through a list of
    at most MAX_LISTED conditions; None if there is none."""
    joints = language().negation_joints
    at_first = place
    for before in reversed([None, *earlier[-MAX_LISTED:]]):
        if (start := nearest_negation(sentence, place, before, stops)) is not None:
            return start if place == at_first else at_first
        if before is None or before.conditions[0].value == SHOWN or not before.hi <= place <= before.hi + MAX_GAP:
            return None
        if not all(w.text in joints for w in sentence.words[before.hi : place]):
            return None
        place = before.lo
    return None


def nearest_negation(sentence: Sentence, place: int, before: Span | None, stops: set[int]) -> int | None:
    """Where a negation begins that stands between the condition before and the word at `place`."""
    tables = language()
    for end in range(place, place - REACH, -1):
        if end <= 0 or (before is not None and end < before.hi) or end in stops:
            return None
        size = tables.negations.before(sentence.words, end)
        if tables.negation_ends.before(sentence.words, end) > size:
            return None
        if size:
            return end - size
    return None


def negation_end(sentence: Sentence, place: int) -> int | None:
    """The place after a negation that follows, also at the end of a list of conditions; None if it is one of what
    comes after it."""
    tables, values, words = language(), sentence.domain.attributes.values, sentence.words
    for _ in range(MAX_LISTED):
        if hit := tables.negations_after.at(words, place):
            end = place + hit[0]
            return None if values.at(words, end) else end
        value = values.at(words, place)
        if value is None and word_at(words, place) not in tables.negated_joints:
            return None
        place += value[0] if value else 1
    return None
