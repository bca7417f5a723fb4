"""A sentence read against one data set: the passes mark its words and note what they name."""

import re
from collections.abc import Callable, Sequence
from functools import cache

import polars as pl

from ..catalogue.titles import Match, TitleIndex, Word, words_of
from .attributes import Attributes, Condition
from .language import language
from .request import Mention

Mentions = tuple[tuple[int, Mention], ...]  # with the words where they begin


class Domain:
    """A data set as sentences speak of it: its tasks, catalogue (item_id, title, attributes, train_count) and users."""

    def __init__(self, name: str, tasks: Sequence[str], items: pl.DataFrame, has_user: Callable[[str], bool]) -> None:
        self.name, self.tasks, self.items, self.has_user = name, tuple(tasks), items, has_user
        self.titles = TitleIndex.of(items)
        self.attributes = Attributes(items, language())

    def with_items(self, items: pl.DataFrame) -> "Domain":
        """The same data set with another catalogue."""
        return Domain(self.name, self.tasks, items, self.has_user)


class Sentence:
    """A sentence read against one data set: a mark or None for each word, and the entities that the passes find.

    vocabulary: words with a part in sentences. last_items: the list before. has_user: whether an id is a user
    that the speaker may name. evidence: how much speaks for this data set.
    """

    def __init__(
        self,
        text: str,
        domain: Domain,
        vocabulary: frozenset[str] = frozenset(),
        last_items: Sequence[str] = (),
        has_user: Callable[[str], bool] | None = None,
    ) -> None:
        self.text, self.domain, self.vocabulary, self.last_items = text, domain, vocabulary, last_items
        self.has_user = has_user or domain.has_user
        self.words: list[Word] = words_of(text)
        self.marks: list[str | None] = [None] * len(self.words)
        self.user_id: str | None = None
        self.named: list[tuple[int, Mention]] = []
        self.conditions: tuple[Condition, ...] = ()
        self.k: int | None = None
        self.quote: str | None = None
        self.evidence = 0.0

    @property
    def mentions(self) -> Mentions:
        """The items named, each once, in the order of the words where they begin."""
        by_item: dict[str, tuple[int, Mention]] = {}
        for place, named in sorted(self.named, key=lambda m: m[0]):
            by_item.setdefault(named.item_id, (place, named))
        return tuple(by_item.values())

    def is_free(self, lo: int, hi: int | None = None) -> bool:
        """Whether words lo..hi (or the one at lo) have no mark."""
        if hi is None:
            return self.marks[lo] is None
        return all(mark is None for mark in self.marks[lo:hi])

    def mark(self, lo: int, hi: int, mark: str) -> None:
        """Mark words lo..hi as one entity: its mark on the first, empty ones on the others."""
        for n in range(lo, hi):
            self.marks[n] = mark if n == lo else ""

    def mention(self, lo: int, hi: int, match: Match, text: str) -> None:
        """Words lo..hi name the first item of a match."""
        self.named.append((lo, mention(self.domain.items, match, text)))
        self.mark(lo, hi, "TITLE")

    def text_of(self, lo: int, hi: int) -> str:
        """The text of words lo..hi."""
        return self.text[self.words[lo].start : self.words[hi - 1].end]

    def between(self, place: int) -> str:
        """The spaces and punctuation between a word and the one before it."""
        return self.text[self.words[place - 1].end : self.words[place].start]

    def begins_clause(self, place: int) -> bool:
        """Whether punctuation parts a word from the one before."""
        return clause_break().search(self.between(place)) is not None

    def explains(self, word: str) -> bool:
        """Whether a word has a part in sentences, or is one of the values of the catalogue's attributes."""
        return word in self.vocabulary or word in self.domain.attributes.value_words

    def marked(self) -> list[str]:
        """The sentence for the classifier: words, and one mark per entity; titles in a row are TITLES."""
        joints = language().title_joints
        spelled: list[str] = []
        pending: list[str] = []
        for word, mark in zip(self.words, self.marks, strict=True):
            after_title = bool(spelled) and spelled[-1] in ("TITLE", "TITLES")
            if mark == "":
                continue
            if mark == "TITLE" and after_title:
                spelled[-1], pending = "TITLES", []
                continue
            if mark is None and word.text in joints and after_title:
                pending.append(word.text)
                continue
            spelled += pending
            pending = []
            if mark == "CONDITION" and spelled and spelled[-1] == "CONDITION":
                continue
            spelled.append(mark or word.text)
        return spelled + pending


@cache
def clause_break() -> re.Pattern[str]:
    """Punctuation that parts words into clauses."""
    return re.compile(rf"[,;:?!{language().commas}{language().full_stops}]|\.\s")


def mention(items: pl.DataFrame, match: Match, text: str) -> Mention:
    """The first item of a match."""
    item_id, title = items.row(match.items[0], named=True)["item_id"], items["title"][match.items[0]]
    return Mention(item_id, title or item_id, text.strip(), match.how, len(match.items) - 1)
