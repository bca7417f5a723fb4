"""The pass for users: `user 42`, `household #7`, `customer A-12`, or a bare `for 42`."""

import re
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import NamedTuple

from .language import is_latin, language
from .numbers import number_at, units_at, word_at
from .sentence import Sentence

ID = r"[^\W\u3040-\u30ff\u3400-\u9fff]+"  # an id ends where a script begins that is written without spaces
USER_ID = re.compile(rf"[#:=\s]*({ID}(?:[.@-]{ID})*)")
NOUN_WEIGHT, BARE_WEIGHT, FIRST_WORD_WEIGHT = 1.0, 0.5, 0.3  # evidence for a data set by how a user is named
KNOWN_WEIGHT = 0.5  # evidence for a data set that has the user
ID_WORDS = 7  # signs of a number that is an id
COUNTED = 3  # words, the last a counted noun, that make a number before them a count: `5 good films`


class User(NamedTuple):
    """A user named by words lo..hi; weight: evidence for the data set."""

    lo: int
    hi: int
    user_id: str
    weight: float


def find_user(sentence: Sentence) -> None:
    """The user of a sentence. An id with a digit or of a user goes before a name, and any with a noun before a bare
    one."""
    users = sorted(users_by_noun(sentence), key=lambda u: not (sentence.has_user(u.user_id) or has_digit(u.user_id)))
    user = next(chain(users, bare_users(sentence)), None)
    if user is not None:
        sentence.mark(user.lo, user.hi, "USER")
        sentence.user_id = user.user_id
        sentence.evidence += user.weight + KNOWN_WEIGHT * sentence.has_user(user.user_id)


def users_by_noun(sentence: Sentence) -> Iterator[User]:
    """Ids after a word such as `user`, with or without a space; in signs also before one."""
    tables, words = language(), sentence.words
    n = 0
    while n < len(words):
        hit = tables.users.at(words, n)
        if hit is None:
            if user := joined_id(words[n].text):
                yield User(n, n + 1, user, NOUN_WEIGHT)
            n += 1
            continue
        if written := known_id_at(sentence, n):
            yield User(n, written[1], written[0], NOUN_WEIGHT)
            n = written[1]
            continue
        end = n + hit[0]
        place = end
        while filler := tables.before_user.at(words, place):
            place += filler[0]
        start = n
        while word_at(words, start - 1) in tables.id_to_user:
            start -= 1
        before = None if is_latin(words[n]) else id_before(sentence, start)
        if before and start < n:
            yield User(before[1], end, before[0], NOUN_WEIGHT)
        elif after := id_at(sentence, place):
            yield User(n, after[1] + has_mark(sentence, after[1]), after[0], NOUN_WEIGHT)
        elif before:
            yield User(before[1], end, before[0], NOUN_WEIGHT)
        n = max(place, n + 1)


def bare_users(sentence: Sentence) -> Iterator[User]:
    """`for 42`, and `42 would like ...`, if 42 is a user; a number with a mark of its own if no list came before, whose
    items it may number."""
    tables, words = language(), sentence.words
    for n, (word, following) in enumerate(pairwise(words)):
        if word.text in tables.for_user and following.text.isdecimal() and sentence.has_user(following.text):
            after = n + 2
            mark = has_mark(sentence, after)
            counted = is_counted(sentence, after) or tables.periods.at(words, after) is not None
            if mark or not counted:
                yield User(n + 1, after + mark, following.text, BARE_WEIGHT)
        if following.text in tables.number_marks and word.text.isdecimal() and not sentence.last_items:
            yield User(n, n + 2, word.text, BARE_WEIGHT)
    starts = len(words) > 1 and words[0].text.isdecimal() and sentence.has_user(words[0].text)
    if starts and words[1].text in tables.user_speaks and not is_counted(sentence, 1):
        yield User(0, 1, words[0].text, FIRST_WORD_WEIGHT)


def known_id_at(sentence: Sentence, place: int) -> tuple[str, int] | None:
    """The longest id of a user that is written at a word as it is, in several words (`user 1`, `u,3`), and the
    place after it."""
    ends = range(min(place + ID_WORDS, len(sentence.words)), place + 1, -1)
    return next(((user, end) for end in ends if sentence.has_user(user := sentence.text_of(place, end))), None)


def id_at(sentence: Sentence, place: int) -> tuple[str, int] | None:
    """An id that begins at a word, and the place after it."""
    tables, words, text = language(), sentence.words, sentence.text
    if place >= len(words):
        return None
    stops = rf"[,;.!?{tables.commas}{tables.full_stops}]"
    if place and re.search(stops, sentence.between(place)) and words[place - 1].text not in tables.id_abbreviations:
        return None
    if known := known_id_at(sentence, place):
        return known
    size, value = number_at(words, place)
    if value is not None and not words[place].text.isdecimal() and units_at(words, place) != 1:  # `one` is a pronoun
        return None if is_counted(sentence, place + size) else (str(value), place + size)
    matched = USER_ID.match(text, words[place].start)
    if matched is None:
        return None
    user, end = matched[1], matched.end()
    after = next((n for n in range(place, len(words)) if words[n].start >= end), len(words))
    if (has_digit(user) and not is_ordinal(user)) or sentence.has_user(user):
        return user, after
    unknown = words[place].text not in sentence.vocabulary and is_latin(words[place])
    return (user, after) if unknown and len(user) > 1 else None


def id_before(sentence: Sentence, place: int) -> tuple[str, int] | None:
    """An id with digits, or a number in signs, that ends just before a word, and where it begins."""
    tables, words = language(), sentence.words
    if place and is_latin(words[place - 1]):
        user = sentence.text_of(place - 1, place)
        return (user, place - 1) if has_digit(user) else None
    for lo in range(max(0, place - ID_WORDS), place):
        size, value = number_at(words, lo)
        if value is not None and lo + size == place and not is_latin(words[lo]):
            return str(value), lo - (word_at(words, lo - 1) in tables.place_marks)
    return None


def joined_id(word: str) -> str | None:
    """The digits after a noun that they are written together with.

    >>> joined_id("user42"), joined_id("users")
    ('42', None)
    """
    noun = word.rstrip("0123456789")
    digits = word[len(noun) :]
    return digits if digits and noun in language().joined_user else None


def is_ordinal(text: str) -> bool:
    """Whether a word is a number with the ending of an ordinal, `1st`."""
    return any(text.endswith(e) and text.removesuffix(e).isdecimal() for e in language().ordinal_endings)


def has_digit(text: str) -> bool:
    """Whether a digit is in a text."""
    return any(c.isdigit() for c in text)


def has_mark(sentence: Sentence, place: int) -> int:
    """1 if the word at a place says that the number before it is a name, else 0."""
    return int(word_at(sentence.words, place) in language().number_marks)


def is_counted(sentence: Sentence, place: int) -> bool:
    """Whether a counted noun stands at a place, after at most two other words."""
    return any(language().items.at(sentence.words, n) for n in range(place, place + COUNTED))
