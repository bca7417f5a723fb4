"""Look-up of titles that ignores case, accents, articles and punctuation, and tolerates typos."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

SCRIPTS = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # written without spaces: every character is a word
WORD = re.compile(rf"[{SCRIPTS}]|[^\W_{SCRIPTS}]+(?:['’][^\W_{SCRIPTS}]+)*|&")
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
ARTICLES = "the a an la le les il el das der die los las l i gli lo"
LAST_ARTICLE = re.compile(rf"^(.+), ({ARTICLES.replace(' ', '|')})$", re.IGNORECASE)
LEADING = frozenset(ARTICLES.split()[:3])
PART = re.compile(r"\s*[:(/]\s*|\s+-\s+|,?\s+or[:,]\s+|\)\s*")  # a title's parts can stand for it
WIDE = 50_000  # names in a catalogue above which typos are searched only among names that share a word


@dataclass(frozen=True)
class Word:
    """A word of a text, in lower case and without accents, and its span in the text."""

    text: str
    start: int
    end: int


def one_line(text: str) -> str:
    """A text with spaces for line breaks and control characters."""
    return UNSEEN.sub(" ", text).strip()


def words_of(text: str) -> list[Word]:
    """The words of a text; an apostrophe does not split, `&` is `and`."""
    return [Word(plain(m[0]), m.start(), m.end()) for m in WORD.finditer(text)]


def plain(word: str) -> str:
    """A word in lower case, without accents and apostrophes."""
    if word == "&":
        return "and"
    letters = word if word.isascii() else "".join(c for c in unicodedata.normalize("NFKD", word) if not combining(c))
    return letters.replace("'", "").replace("’", "").casefold()


def combining(character: str) -> bool:
    """Whether a character is an accent."""
    return unicodedata.combining(character) != 0


def key(text: str) -> str:
    """The words of a text, joined by single spaces: the key by which titles are compared."""
    return " ".join(w.text for w in words_of(text))


def names(title: str) -> Iterator[str]:
    """The full names of a title: as it is, and with a trailing article moved to the front."""
    yield key(title)
    if moved := LAST_ARTICLE.match(title):
        yield key(f"{moved[2]} {moved[1]}")


def short_names(title: str) -> Iterator[str]:
    """Short names of a title: without its leading article, after its last colon, one of its parts, its initials."""
    moved = LAST_ARTICLE.match(title)
    full = f"{moved[2]} {moved[1]}" if moved else title
    for name in filter(None, map(key, (full, full.rpartition(":")[2], *PART.split(full)))):
        yield name
        first, _, rest = name.partition(" ")
        if first in LEADING and rest:
            yield rest
        if " " in name and all(len(w) == 1 for w in name.split()):
            yield name.replace(" ", "")


@dataclass(frozen=True)
class Match:
    """Items that match a name, the most frequent first; how: `exact`, `part` of the title, or `typo`."""

    items: tuple[int, ...]
    how: str


class TitleIndex:
    """The titles of a catalogue by name; several items may share one."""

    def __init__(self, titles: Sequence[str | None], counts: Sequence[int]) -> None:
        self.titles = titles
        self.counts = counts
        order = sorted(range(len(titles)), key=lambda i: -counts[i])
        self.full: dict[str, list[int]] = {}
        self.short: dict[str, list[tuple[int, int]]] = {}  # with the name's position among the item's short names
        for item in order:
            title = titles[item]
            if not title:
                continue
            for name in set(names(title)):
                self.full.setdefault(name, []).append(item)
            for position, name in enumerate(dict.fromkeys(short_names(title))):
                self.short.setdefault(name, []).append((position, item))
        self.longest = max((name.count(" ") + 1 for name in self.full), default=0)

    @staticmethod
    def of(items: pl.DataFrame) -> "TitleIndex":
        """The index of a catalogue with `title` and `train_count`."""
        return TitleIndex(items["title"].to_list(), items["train_count"].to_list())

    @cached_property
    def holding(self) -> dict[str, set[str]]:
        """Full names by each word in them."""
        names_by_word: dict[str, set[str]] = {}
        for name in self.full:
            for word in name.split():
                names_by_word.setdefault(word, set()).add(name)
        return names_by_word

    def named(self, name: str) -> Match | None:
        """Items of exactly this name (a `key`), full names before short ones."""
        if name in self.full:
            return Match(tuple(self.full[name]), "exact")
        if name in self.short:
            items = [item for _, item in sorted(self.short[name], key=lambda s: s[0])]
            return Match(tuple(items), "exact" if len(items) == 1 else "part")
        return None

    def containing(self, name: str) -> Match | None:
        """Items whose title contains all words of a name."""
        sets = [self.holding.get(word) for word in dict.fromkeys(name.split())]
        if not sets or any(s is None for s in sets):
            return None
        common = set.intersection(*(s for s in sets if s is not None))
        return Match(self.by_count(common), "part") if common else None

    def near(self, name: str) -> tuple[float, Match] | None:
        """Items whose name differs from this one by a typo or two, and their similarity (0 to 100; rapidfuzz's ratio,
        by insertions and deletions)."""
        from rapidfuzz import fuzz, process

        candidates: Sequence[str] = self.all_names
        if len(candidates) > WIDE:
            candidates = list(set().union(*(self.holding.get(w, set()) for w in name.split())))
        matches = process.extract(name, candidates, scorer=fuzz.ratio, limit=5, score_cutoff=least_similar(name))
        if not matches:
            return None
        similarity = float(matches[0][1])
        return similarity, Match(self.by_count([n for n, score, _ in matches if score == similarity]), "typo")

    def alike(self, word: str, match: Match) -> bool:
        """Whether a word is in the match's title, up to a typo."""
        from rapidfuzz import fuzz

        words = {w for i in match.items[:3] for w in key(self.titles[i] or "").split()}
        return any(fuzz.ratio(word, w) >= least_similar(word) for w in words)

    @cached_property
    def all_names(self) -> list[str]:
        """Full and short names."""
        return list(dict.fromkeys([*self.full, *self.short]))

    def by_count(self, matched_names: Sequence[str] | set[str]) -> tuple[int, ...]:
        """The items of some names, the most frequent first."""
        items = {i for n in matched_names for i in (*self.full.get(n, ()), *(i for _, i in self.short.get(n, ())))}
        return tuple(sorted(items, key=lambda i: (-self.counts[i], i)))

    def find(self, query: str) -> Match | None:
        """Items that a query names: exactly, else by a part of their titles, else up to a typo."""
        name = key(query)
        if not name:
            return None
        if match := self.named(name) or self.containing(name):
            return match
        similar = self.near(name)
        return similar[1] if similar else None


def least_similar(name: str) -> float:
    """The similarity (0 to 100) that a name of this length must reach to count as a typo of another."""
    return 74.0 if len(name) <= 4 else 80.0 if len(name) <= 6 else 82.0
