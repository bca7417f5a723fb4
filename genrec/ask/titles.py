"""The passes for titles: written as they are, with a typo, as a part, or, if an item is needed, by a single word."""

import re
from collections.abc import Sequence
from functools import cache

from ..catalogue.titles import Match, Word
from .language import is_latin, language
from .sentence import Mentions, Sentence

STRETCH = 40  # words without punctuation in which a title is looked for at a time
SAME = 93  # similarity of names that differ in no more than a plural
MIN_STRANGE = 3  # letters of a word that only a title explains
MIN_NEAR = 5  # letters of a single word that may be a title with a typo
MIN_LENIENT = 4  # letters of a word that names a title by itself
NEGATED = 4  # words that may stand between a negation and a title


def find_titles(sentence: Sentence) -> None:
    """Titles written as they are, the longest first."""
    n = 0
    while n < len(sentence.words):
        hit = title_at(sentence, n)
        if hit is None:
            n += 1
            continue
        size, match = hit
        sentence.mention(n, n + size, match, sentence.text_of(n, n + size))
        sentence.evidence += size if match.how == "exact" else 0.5 * size
        n += size


def title_at(sentence: Sentence, n: int) -> tuple[int, Match] | None:
    """The longest title that begins at a word: its words and its items."""
    index, words = sentence.domain.titles, sentence.words
    for size in range(min(index.longest, len(words) - n), 0, -1):
        if sentence.is_free(n, n + size):
            match = index.named(" ".join(w.text for w in words[n : n + size]))
            if match and reads_as_title(sentence, n, size, match):
                return size, match
    return None


def reads_as_title(sentence: Sentence, place: int, size: int, match: Match) -> bool:
    """Whether words that equal a title are meant as one: common words must be written like a name."""
    words = sentence.words[place : place + size]
    spelled = [w.text for w in words]
    exact, plain = match.how == "exact", language().vocabulary
    if written_small(sentence, words, match):
        return False
    if any(not sentence.explains(w) and not w.isdecimal() for w in spelled):
        return True
    if all(w.isdecimal() for w in spelled):
        return False
    if exact and (size >= 4 or is_numbered(words) or (size == 3 and any(w not in plain for w in spelled))):
        return True
    return written_as_name(sentence, place, size)


def written_small(sentence: Sentence, words: Sequence[Word], match: Match) -> bool:
    """Whether short words stand in small letters where the sentence writes names in capitals, as the title is: `my wife
    adores Emma` is not about The Wife."""
    if len(words) > 2 or not all(sentence.text[w.start].islower() for w in words):
        return False
    title = sentence.domain.items["title"][match.items[0]] or ""
    return title[:1].isupper() and names_in_capitals(sentence)


def names_in_capitals(sentence: Sentence) -> bool:
    """Whether a sentence writes names in capitals: one stands after its first word."""
    always = language().always_capital
    return any(sentence.text[w.start].isupper() and w.text not in always for w in sentence.words[1:])


def written_as_name(sentence: Sentence, place: int, size: int) -> bool:
    """Whether common words have the capitals of a name, which all words of a sentence may have, or its first one."""
    text, words = sentence.text, sentence.words[place : place + size]
    capitals = [text[w.start].isupper() for w in words if len(w.text) > 3 or size == 1]
    others = [w for w in (*sentence.words[:place], *sentence.words[place + size :]) if w.text.isalpha()]
    shouting = bool(others) and all(text[w.start : w.end].isupper() for w in others)
    inside = place > 0 or size > 1 or not text.isascii()
    return bool(capitals) and all(capitals) and not shouting and inside


def is_numbered(words: Sequence[Word]) -> bool:
    """A name with a number, `Red 4`, and not a count, `top 4`."""
    return words[-1].text.isdecimal() and not language().count_cues.before(words, len(words) - 1)


def find_near_titles(sentence: Sentence) -> None:
    """Titles with a typo, or part of a title: stretches of words around one that nothing else explains."""
    count, lo = len(sentence.words), 0
    while lo < count:
        if not may_be_title(sentence, lo):
            lo += 1
            continue
        hi = lo + 1
        while hi < min(count, lo + STRETCH) and not sentence.begins_clause(hi) and may_be_title(sentence, hi):
            hi += 1
        while lo < hi and may_be_title(sentence, lo) and (window := best_window(sentence, lo, hi)):
            start, end, match = window
            sentence.mention(start, end, match, sentence.text_of(start, end))
            sentence.evidence += 0.5 * (end - start)
            lo = end
        lo = hi


def may_be_title(sentence: Sentence, place: int) -> bool:
    """Whether a word is free and in letters that typos are looked for in."""
    return sentence.is_free(place) and is_latin(sentence.words[place])


def best_window(sentence: Sentence, lo: int, hi: int) -> tuple[int, int, Match] | None:
    """The words inside lo..hi, an unexplained one among them, that a title fits best."""
    from ..turns import pause

    index = sentence.domain.titles
    strange = {n for n in range(lo, hi) if is_strange(sentence, sentence.words[n].text)}
    best: tuple[float, int, int, Match] | None = None
    for start in range(lo, hi):
        pause()  # each step compares words with all titles
        for end in range(min(hi, start + index.longest), start, -1):
            inside = [sentence.words[n].text for n in range(start, end) if n in strange]
            scored = near_match(sentence, start, end, inside) if inside else None
            if scored and (best is None or scored[0] > best[0]):
                best = scored[0], start, end, scored[1]
    return best[1:] if best else None


def near_match(sentence: Sentence, start: int, end: int, strange: Sequence[str]) -> tuple[float, Match] | None:
    """The title that words start..end are a part of, or have a typo of, and how well it fits; longer names fit better,
    and parts better than typos. strange: those of the words that nothing else explains."""
    index, spelled = sentence.domain.titles, [w.text for w in sentence.words[start:end]]
    name = " ".join(spelled)
    if len(spelled) >= 2 and len(strange) >= len(spelled) / 3 and (match := index.containing(name)):
        return 100.0 + len(name), match
    as_name = len(name) >= MIN_NEAR and sentence.text[sentence.words[start].start].isupper() and start > 0
    near = index.near(name) if len(spelled) > 1 or as_name else None
    if near is None or not all(index.alike(w, near[1]) for w in strange):
        return None
    similarity, match = near
    return similarity + (1.0 if similarity >= SAME else 0.1) * len(name), match


def is_strange(sentence: Sentence, word: str) -> bool:
    """Whether only a title can explain a word."""
    return not sentence.explains(word) and not word.isdecimal() and len(word) >= MIN_STRANGE


def find_lenient_titles(sentence: Sentence) -> None:
    """For a request that lacks its item: a single word of a title will do."""
    index = sentence.domain.titles
    for n, word in enumerate(sentence.words):
        if sentence.is_free(n) and not sentence.explains(word.text) and len(word.text) >= MIN_LENIENT:
            near = index.near(word.text)
            match = index.containing(word.text) or (near[1] if near else None)
            if match:
                sentence.mention(n, n + 1, match, word.text)


def part_titles(sentence: Sentence) -> tuple[Mentions, Mentions]:
    """The titles that a sentence about a list wants, and those that a negation keeps out of it: `but not Fargo`,
    `without Fargo or Heat`."""
    wanted = tuple(m for m in sentence.mentions if not is_negated(sentence, m[0]))
    return wanted, tuple(m for m in sentence.mentions if m not in wanted)


@cache
def reach_end() -> re.Pattern[str]:
    """Punctuation that ends the reach of a negation."""
    return re.compile(rf"[:;.!?{language().full_stops}]|,\s*$")


def is_negated(sentence: Sentence, place: int) -> bool:
    """Whether a negation stands just before a title, or before the titles that it is listed with."""
    tables, words, marks = language(), sentence.words, sentence.marks
    for end in range(place, max(place - NEGATED, 0), -1):
        if reach_end().search(sentence.between(end)):
            return False
        size = tables.negations.before(words, end)
        if tables.negation_ends.before(words, end) > size:
            return False
        if size == 1 and end < place and not is_latin(words[end - 1]):
            continue  # a sign of a longer word
        if size:
            return sentence.is_free(end - size, end)
        if marks[end - 1] is not None:
            first = next((n for n in range(end - 1, -1, -1) if marks[n] != ""), 0)
            listed = marks[first] == "TITLE" and all(w.text in tables.list_joints for w in words[end:place])
            return listed and is_negated(sentence, first)
    return False
