"""The pass for places in the list before: `the second one`, `#3`, `1 and 3`, `the first three`."""

from .language import language
from .numbers import number_at, word_at
from .request import MAX_K, Mention
from .sentence import Sentence


def find_places(sentence: Sentence) -> None:
    """Items of the list before that a sentence names by their places."""
    if not sentence.last_items:
        return
    tables, words, items = language(), sentence.words, sentence.domain.items
    titles = dict(zip(items["item_id"].to_list(), items["title"].to_list(), strict=True))
    familiar = any(tables.familiar.at(words, n) for n in range(len(words)))
    n = 0
    while n < len(words):
        places, size = places_at(sentence, n, familiar) if sentence.is_free(n) else ([], 1)
        places = [p for p in places if abs(p) <= len(sentence.last_items)]
        if not places:
            n += 1
            continue
        end = n + size
        end += tables.items.at(words, end) is not None
        for place in places:
            item = sentence.last_items[place - 1 if place > 0 else place]
            sentence.named.append((n, Mention(item, titles.get(item) or item, f"number {place}")))
        article = n > 0 and words[n - 1].text in tables.before_place and sentence.is_free(n - 1)
        sentence.mark(n - article, end, "TITLE" if len(places) == 1 else "TITLES")
        n = end


def places_at(sentence: Sentence, n: int, familiar: bool) -> tuple[list[int], int]:
    """The places in a list (from 1; -1: the last) that begin to be named at a word, and in how many words.

    familiar: the sentence is about what somebody has seen or owns, so that a bare number is a place.
    """
    tables, words = language(), sentence.words
    word, before, following = words[n].text, word_at(words, n - 1), word_at(words, n + 1)
    if familiar and (few := tables.first_few.at(words, n)) and n + few[0] < len(words):
        size, value = number_at(words, n + few[0])
        if value and value > 1:
            return list(range(1, min(value, MAX_K) + 1)), few[0] + size
    if hit := tables.ordinals.at(words, n):
        after = n + hit[0]
        if tables.periods.at(words, after) or word_at(words, after) in tables.ordinal_times:
            return [], 1  # `last week`
        if word not in tables.ordinals_of_one or following in tables.number_pronouns:
            return [int(hit[1])], hit[0]
    if not word.isdecimal():
        return [], 1
    marked = sentence.text[: words[n].start].endswith(("#", *tables.place_marks)) or before in tables.place_cues
    has_mark = following in tables.number_marks
    counted = tables.items.at(words, n + 1) is not None
    if marked or has_mark or (familiar and not counted):
        return [int(word)], 1 + has_mark
    return [], 1
