"""Texts that are asked about, `is this review positive: ...`, with quotes and without."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection
from functools import cache

from ..catalogue.titles import key, words_of
from .intent import Classifier
from .language import language
from .sentence import Sentence

TITLE_WORDS = 5  # a longer quote is only a title if it is one to the letter
MAX_QUESTION, MAX_QUESTION_IN_SIGNS = 14, 40  # words of what is asked about a text without quotes
MIN_TEXT = 2  # words of such a text
LIKELY = 0.4  # probability from which a part of a sentence asks something about the rest
APOSTROPHES = r"(?:(?<=[\s:(,])|^)['‘](.+?)['’](?=$|[\s.,;:?!)])"  # no letter outside, which would make it a genitive


def find_quotes(sentence: Sentence) -> None:
    """Quotes: a title if it is one, else the text that is asked about."""
    index = sentence.domain.titles
    for start, end, quote in quotes(sentence.text):
        inside = [n for n, w in enumerate(sentence.words) if start <= w.start < end]
        if not inside:
            continue
        lo, hi = inside[0], inside[-1] + 1
        match = index.named(key(quote)) or (index.find(quote) if len(inside) <= TITLE_WORDS else None)
        if match:
            sentence.mention(lo, hi, match, quote)
            sentence.evidence += 2
        else:
            sentence.mark(lo, hi, "TEXT")
            sentence.quote = quote if sentence.quote is None else sentence.quote


def quotes(text: str) -> list[tuple[int, int, str]]:
    """Texts in quotes, with their places, in order.

    >>> quotes('is "it broke" negative, or \\'fine\\'?')
    [(3, 13, 'it broke'), (27, 33, 'fine')]
    """
    hits = [(m.start(), m.end(), next(g for g in m.groups() if g).strip()) for m in quote_pattern().finditer(text)]
    return [hit for hit in hits if hit[2]]


@cache
def quote_pattern() -> re.Pattern[str]:
    """Any quote of any language."""
    pairs = [rf"{re.escape(pair[0])}([^{re.escape(pair[1])}]+){re.escape(pair[1])}" for pair in language().quotes]
    return re.compile("|".join([APOSTROPHES, *pairs]), re.DOTALL)


@cache
def split_pattern() -> re.Pattern[str]:
    """Where a sentence may be parted into what is asked and the text."""
    return re.compile(rf"[:?\n!{language().full_stops}]+\s*|\s[-–—]+\s|—{{2,}}|\.\s+|,\s+")


def unquoted_text(
    text: str, classifier: Classifier, vocabulary: frozenset[str], tasks: Collection[str]
) -> tuple[str, float, str] | None:
    """A task of a text, its probability, and the text, which stands without quotes before or after a colon, a question
    mark or the end of a sentence; None if no part of the sentence asks such a task."""
    forms = forms_of(text)
    if not forms:
        return None
    hits = []
    certain = classifier.probabilities([asked for asked, _, _ in forms])
    for (asked, quote, colon), probabilities in zip(forms, certain, strict=True):
        explained = sum(w in vocabulary for w in asked) / len(asked)
        for name in probabilities.keys() & tasks:
            if probabilities[name] > LIKELY:  # a colon says best where the text is, then the words of what is asked
                hits.append((colon, probabilities[name] * explained, probabilities[name], name, quote))
    if not hits:
        return None
    *_, probability, name, quote = max(hits)
    return name, probability, quote


def forms_of(text: str) -> list[tuple[list[str], str, bool]]:
    """Every way to part a sentence: the words of what is asked, the text, and whether a colon stands between."""
    forms: list[tuple[list[str], str, bool]] = []
    words = words_of(text)
    starts, ends = [w.start for w in words], [w.end for w in words]
    for match in split_pattern().finditer(text):
        before, after = text[: match.start()].strip(), text[match.end() :].strip()
        lo, hi = bisect_right(ends, match.start()), bisect_left(starts, match.end())
        for asked, question, quote, size, colon in (
            (before, words[:lo], after, len(words) - hi, match[0].startswith(":")),
            (after, words[hi:], before, lo, False),
        ):
            limit = MAX_QUESTION if asked.isascii() else MAX_QUESTION_IN_SIGNS
            if 0 < len(question) <= limit and size >= MIN_TEXT:
                forms.append(([w.text for w in question], quote, colon))
    return forms
