"""Numbers in digits, in words and in signs."""

from collections.abc import Sequence

from ..catalogue.titles import Word
from .language import is_latin, language


def number_at(words: Sequence[Word], place: int) -> tuple[int, int | None]:
    """Words and value of a number that begins at a place; value None if there is none.

    >>> from genrec.catalogue.titles import words_of
    >>> [number_at(words_of(text), 0) for text in ("20 films", "half a dozen", "twenty five", "films")]
    [(1, 20), (3, 6), (2, 25), (1, None)]
    >>> number_at(words_of("two hundred and five"), 0)
    (4, 205)
    """
    tables = language()
    if words[place].text.isdecimal():
        return 1, int(words[place].text)
    end = place
    while end < len(words) and (words[end].text in tables.digits or words[end].text in tables.digit_units):
        end += 1
    value = number_in_signs("".join(w.text for w in words[place:end]))
    hit = tables.numbers.at(words, place)
    if value is not None and not (hit and hit[0] > end - place):
        return end - place, value
    if hit is None or end - place > hit[0]:
        return 1, None
    size, value = hit[0], int(hit[1])
    if not is_latin(words[place]):
        return size, value
    if value % 10 == 0 and 20 <= value < 100 and (units := units_at(words, place + size)):
        return size + 1, value + units
    if 0 < value < 10 and word_at(words, place + size) in tables.hundreds:
        return hundreds_at(words, place, size + 1, 100 * value)
    return size, value


def hundreds_at(words: Sequence[Word], place: int, size: int, value: int) -> tuple[int, int]:
    """Words and value of hundreds in `size` words with what follows them below a hundred: `and five`."""
    tables = language()
    rest = place + size + (word_at(words, place + size) in tables.number_joints)
    if rest < len(words) and tables.numbers.at(words, rest):
        more, below = number_at(words, rest)
        if below is not None and below < 100:
            return rest - place + more, value + below
    return size, value


def units_at(words: Sequence[Word], place: int) -> int | None:
    """The value of a single word from `one` to `nine` at a place."""
    hit = language().numbers.at(words, place)
    return int(hit[1]) if hit and hit[0] == 1 and 0 < int(hit[1]) < 10 else None


def word_at(words: Sequence[Word], place: int) -> str:
    """The word at a place; empty before the first and past the last."""
    return words[place].text if 0 <= place < len(words) else ""


def number_in_signs(text: str) -> int | None:
    """The value of a number in signs for digits and for tens, `3 10 6` for 36; None for two or three digits in a row,
    which are vague."""
    digits, units = language().digits, language().digit_units
    if not text or any(c not in digits and c not in units for c in text):
        return None
    if not any(c in units for c in text):
        values = [digits[c] for c in text]
        return int("".join(map(str, values))) if len(values) == 1 or len(values) >= 4 else None
    total, digit = 0, None
    for c in text:
        if c in digits:
            digit = digits[c]
        else:
            total += (1 if digit is None else digit) * units[c]
            digit = None
    return total + (digit or 0)
