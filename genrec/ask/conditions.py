"""Attribute conditions in a sentence: values of the catalogue, years and decades, numbers beside a column's name."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from ..catalogue.titles import Word, key
from .language import Language, Phrases

LONGEST = 30  # conditions that are negated together, as a list
MOST_VALUES = 300  # different values of an attribute that a sentence may name
SHOWN = "shown"  # stands for the years of the list before: "something older"
SIGN = re.compile(r"(<=|>=|<|>|≤|≥)\s*$")
YEAR = re.compile(r"(?:1[89]|20)\d\d")
NOT = {"=": "!=", "!=": "=", "<": ">=", ">": "<=", "<=": ">", ">=": "<"}


@dataclass(frozen=True)
class Condition:
    """One condition on the catalogue; op: =, !=, <, <=, >, >=, between (value: low, high)."""

    column: str
    op: str
    value: str | float | tuple[float, float]

    def sql(self) -> str:
        """As `Recommender.recommend(where=...)` takes it."""
        if isinstance(self.value, tuple):
            return f'"{self.column}" between {self.value[0]:g} and {self.value[1]:g}'
        if isinstance(self.value, str):
            quoted = self.value.replace("'", "''")
            return f"\"{self.column}\" {'<>' if self.op == '!=' else self.op} '{quoted}'"
        return f'"{self.column}" {"<>" if self.op == "!=" else self.op} {self.value:g}'

    def words(self) -> str:
        """As people read it."""
        if isinstance(self.value, tuple):
            return f"{self.column} {self.value[0]:g} to {self.value[1]:g}"
        shown = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{self.column} {self.op.replace('!=', 'not').replace('=', '').strip()} {shown}".replace("  ", " ")

    def to_json(self) -> list[object]:
        """Column, op, value."""
        return [self.column, self.op, list(self.value) if isinstance(self.value, tuple) else self.value]


class Found(NamedTuple):
    """Conditions in words lo..hi of a sentence."""

    lo: int
    hi: int
    conditions: tuple[Condition, ...]


class Attributes:
    """What a catalogue's attributes are called in a sentence."""

    def __init__(self, items: pl.DataFrame, language: Language) -> None:
        self.language = language
        self.year: str | None = None
        self.numbers: dict[str, str] = {}  # words of a numeric column -> column
        meanings: dict[str, tuple[Condition, ...]] = {}
        by_value: dict[str, Condition] = {}
        for column in items.columns:
            if column in ("item_id", "title", "train_count"):
                continue
            dtype = items.schema[column]
            if dtype.is_numeric():
                self.numbers[key(column.replace("_", " "))] = column
                if "year" in column.lower() and self.year is None:
                    self.year = column
            for value in text_values(items, column):
                by_value.setdefault(key(value), Condition(column, "=", value))
        for name, condition in by_value.items():
            if not name or name == "unknown":
                continue
            for other in (name, *inflected(name), *language.values.get(str(condition.value).lower(), ())):
                meanings.setdefault(key(other), (condition,))
        for name, parts in language.pairs.items():
            known = tuple(by_value[key(p)] for p in parts if key(p) in by_value)
            if len(known) == len(parts):
                meanings[key(name)] = known
        for noun in (p for phrases in language.datasets.values() for p in phrases.spelled):
            if noun not in by_value:
                meanings.pop(noun, None)  # `groceries` are all that the data set has
        self.values = Phrases(meanings)
        self.value_words = frozenset(w for name in meanings for w in name.split())

    def find(self, text: str, words: Sequence[Word], free: Sequence[bool], beside_column: bool = False) -> list[Found]:
        """Every condition in the free words, in order; a negation before it is part of it. beside_column: only values
        that follow the name of their column."""
        found: list[Found] = []
        place = 0
        while place < len(words):
            hit: Found | None = None
            if free[place] and beside_column:
                hit = self.value_of_column(words, place, free)
            elif free[place]:
                hit = self.compared(text, words, place) or self.years(words, place, free)
                hit = hit or self.value_at(words, place, free) or self.number(words, place, free)
            if hit:
                found.append(hit)
                place = hit.hi
            else:
                place += 1
        stops = {n for n in range(1, len(words)) if STOP.search(text[words[n - 1].end : words[n].start])}
        return [self.negated(words, f, found[:n], stops) for n, f in enumerate(found)]

    def value_at(self, words: Sequence[Word], place: int, free: Sequence[bool]) -> Found | None:
        """A value of an attribute."""
        hit = self.values.at(words, place)
        if hit is None or not all(free[place : place + hit[0]]):
            return None
        if place and words[place - 1].text in OWNERS:  # `my kids` are people
            return None
        return Found(place, place + hit[0], hit[1])

    def value_of_column(self, words: Sequence[Word], place: int, free: Sequence[bool]) -> Found | None:
        """A value after the name of its column: `genre War`, `category: meat`."""
        found = self.value_at(words, place + 1, free) if place + 1 < len(words) else None
        if found is None or not all(key(c.column.replace("_", " ")) == words[place].text for c in found.conditions):
            return None
        return found._replace(lo=place)

    def compared(self, text: str, words: Sequence[Word], place: int) -> Found | None:
        """A year after a sign, `<1970`, `>= 1990`."""
        sign = SIGN.search(text[: words[place].start])
        single = self.single_year(words, place) if sign else None
        if self.year is None or sign is None or single is None:
            return None
        op = {"≤": "<=", "≥": ">="}.get(sign[1], sign[1])
        return Found(place, single[2], (Condition(self.year, op, float(single[0])),))

    def years(self, words: Sequence[Word], place: int, free: Sequence[bool]) -> Found | None:
        """`from the 1990s`, `before 1980`, `1990 to 1995`, `90年代`, `something older`."""
        if self.year is None:
            return None
        for table, op in ((self.language.older, "<"), (self.language.newer, ">")):
            if hit := table.at(words, place):
                after = place + hit[0]
                if after < len(words) and words[after].text in ("than", "then"):
                    if after + 1 == len(words) or words[after + 1].text not in SHOWN_ITEMS:
                        break
                    after += 2
                return Found(place, after, (Condition(self.year, op, SHOWN),))
        lo, op = place, "="
        if hit := self.language.between.at(words, place):
            first = place + hit[0]
            if found := self.year_range(words, place, first):
                return found
        if hit := self.language.before_number.at(words, place):
            lo, op = place + hit[0], hit[1]
        while lo < len(words) and words[lo].text in ("the", "year", "在", "公元"):
            lo += 1
        if found := self.year_range(words, place, lo):
            return found
        if decade := self.decade(words, lo):
            first, last, end = decade
            if op in ("<", ">", ">=", "<="):
                value = float(first if op in ("<", ">=") else last)
                return Found(place, end, (Condition(self.year, op, value),))
            if hit := at(self.language.after_number, words, end):
                value = float(first if hit[1] in ("<", ">=") else last)
                return Found(place, end + hit[0], (Condition(self.year, hit[1], value),))
            return Found(place, end, (Condition(self.year, "between", (float(first), float(last))),))
        if single := self.single_year(words, lo):
            year, _, end = single
            number_end = end - (words[end - 1].text == "年")
            if op == "=" and (hit := at(self.language.after_number, words, number_end)):
                op, end = hit[1], number_end + hit[0]
            return Found(place, end, (Condition(self.year, op, float(year)),))
        return None

    def year_range(self, words: Sequence[Word], place: int, first: int) -> Found | None:
        """Two years or decades with `to` between them, from word `first` on."""
        assert self.year is not None
        bounds = []
        low = self.decade(words, first) or self.single_year(words, first)
        if low:
            bounds.append(low[0])
            middle = low[2]
            hit = at(self.language.to, words, middle)
            high = hit and (self.decade(words, middle + hit[0]) or self.single_year(words, middle + hit[0]))
            high = high or self.single_year(words, middle)  # 1990-1995
            if high and high[1] > low[0]:
                end = high[2]
                condition = Condition(self.year, "between", (float(low[0]), float(high[1])))
                return Found(place, end, (condition,))
        return None

    def single_year(self, words: Sequence[Word], place: int) -> tuple[int, int, int] | None:
        """A year as first, last and the place after it."""
        if place >= len(words):
            return None
        size, year = self.language.number(words, place)
        if year is None or not YEAR.fullmatch(str(year)):
            return None
        end = place + size
        return year, year, end + (end < len(words) and words[end].text == "年")

    def decade(self, words: Sequence[Word], place: int) -> tuple[int, int, int] | None:
        """`1990s`, `90s`, `90's`, `nineties`, `early 90s`, `90年代`: first and last year, place after it."""
        part = at(self.language.parts_of_decade, words, place)
        start = place + (part[0] if part else 0)
        if start < len(words) and words[start].text in ("the", "世纪"):
            start += 1
        if start >= len(words):
            return None
        text, end = words[start].text, start + 1
        first: int | None = None
        if matched := re.fullmatch(r"((?:1[89]|20)?\d0)s", text):
            first = full_year(int(matched[1]))
        elif hit := self.language.decades.at(words, start):
            after = start + hit[0]
            chinese = at(self.language.decade_ends, words, after)
            if text.isascii() or chinese:
                first, end = full_year(hit[1]), after + (chinese[0] if chinese else 0)
        elif re.fullmatch(r"(?:1[89]|20)?\d0", text) and (hit := at(self.language.decade_ends, words, end)):
            first, end = full_year(int(text)), end + hit[0]
        if first is None:
            return None
        low, high = part[1] if part else (0, 9)
        after_part = at(self.language.parts_of_decade, words, end)
        if after_part and not words[end].text.isascii():
            low, high = after_part[1]
            end += after_part[0]
        return first + low, first + high, end

    def number(self, words: Sequence[Word], place: int, free: Sequence[bool]) -> Found | None:
        """`price under 20`, `under 20 pages`: a comparison with a number beside the name of a numeric column."""
        for name, column in self.numbers.items():
            size = name.count(" ") + 1
            names = name.split()
            if [w.text for w in words[place : place + size]] == names:
                hit = at(self.language.before_number, words, place + size)
                at_number = place + size + (hit[0] if hit else 0)
                if hit and at_number < len(words) and is_number(words[at_number].text):
                    condition = Condition(column, hit[1], float(words[at_number].text))
                    return Found(place, at_number + 1, (condition,))
        if hit := self.language.before_number.at(words, place):
            at_number = place + hit[0]
            if at_number < len(words) and is_number(words[at_number].text):
                for name, column in self.numbers.items():
                    after = [w.text for w in words[at_number + 1 : at_number + 2 + name.count(" ")]]
                    if after == name.split():
                        condition = Condition(column, hit[1], float(words[at_number].text))
                        return Found(place, at_number + 1 + len(after), (condition,))
        return None

    def negated(self, words: Sequence[Word], found: Found, earlier: Sequence[Found], stops: set[int]) -> Found:
        """The condition turned round where a negation reaches it: just before, or before the one that it is listed
        with."""
        if found.conditions[0].value == SHOWN:
            return found
        lo, hi = self.negation(words, found.lo, earlier, stops), found.hi
        if after := self.negated_after(words, found.hi):
            lo, hi = found.lo if lo is None else lo, after
        if lo is None:
            return found
        return Found(lo, hi, tuple(Condition(c.column, NOT.get(c.op, c.op), c.value) for c in found.conditions))

    def negation(self, words: Sequence[Word], place: int, earlier: Sequence[Found], stops: set[int]) -> int | None:
        """Where the negation begins that reaches the word at `place`, by itself or as one of a list of at most LONGEST
        conditions; None if there is none."""
        at_first = place
        for before in reversed([None, *earlier[-LONGEST:]]):
            if (own := self.own_negation(words, place, before, stops)) is not None:
                return own if place == at_first else at_first
            if before is None or before.conditions[0].value == SHOWN or not before.hi <= place <= before.hi + 3:
                return None
            if not all(w.text in LISTED for w in words[before.hi : place]):
                return None
            place = before.lo
        return None

    def own_negation(self, words: Sequence[Word], place: int, before: Found | None, stops: set[int]) -> int | None:
        """Where a negation begins that stands between the condition before and the word at `place`."""
        for back in range(0, 5):
            end = place - back
            if end <= 0 or (before is not None and end < before.hi):
                return None
            if end in stops:
                return None
            size = self.language.negations.before(words, end)
            if self.language.negation_ends.before(words, end) > size:
                return None
            if size:
                return end - size
        return None

    def negated_after(self, words: Sequence[Word], place: int) -> int | None:
        """The place after a negation that follows, also at the end of a list: `剧情和爱情就免了`."""
        for _ in range(LONGEST):
            if place >= len(words):
                return None
            if hit := self.language.negations_after.at(words, place):
                end = place + hit[0]
                return None if at(self.values, words, end) else end  # `动作片,不要惊悚的`: it is of what follows
            value = self.values.at(words, place)
            if value is None and words[place].text not in JOINED:
                return None
            place += value[0] if value else 1
        return None


SHOWN_ITEMS = ("these", "those", "them", "that", "this")
STOP = re.compile(r"[;.!?]")
JOINED = ("和", "或", "跟", "与", "片", "的", "都", "也", "or", "and")
OWNERS = ("my", "our", "your")
LISTED = {
    "or",
    "and",
    "nor",
    "和",
    "或",
    "或者",
    "者",
    "与",
    "跟",
    "片",
    "的",
    "以",
    "及",
    "也",
    "不",
    "要",
    "any",
    "no",
}


def at(table: Phrases, words: Sequence[Word], place: int) -> tuple[int, Any] | None:
    """`Phrases.at`, also past the end."""
    return table.at(words, place) if place < len(words) else None


def is_number(text: str) -> bool:
    """Whether a word is a number that a column could hold."""
    return text.isdecimal() and len(text) <= 15


def full_year(year: int) -> int:
    """1990 for 90, 2000 for 0 and 2010 for 10."""
    return year if year >= 100 else (1900 if year >= 20 else 2000) + year


def inflected(name: str) -> Iterator[str]:
    """`comedies` and `dramas`."""
    if name.isascii() and name.isalpha():
        yield name[:-1] + "ies" if name.endswith("y") else name + ("es" if name.endswith(("s", "x", "ch")) else "s")


def text_values(items: pl.DataFrame, column: str) -> list[str]:
    """The values of a text or list column with at most MOST_VALUES of them; the most frequent first."""
    dtype = items.schema[column]
    if dtype != pl.String and not (isinstance(dtype, pl.List) and dtype.inner == pl.String):
        return []
    values = items.select(column)
    values = (values.explode(column) if isinstance(dtype, pl.List) else values).drop_nulls()
    counts = values.group_by(column).len().sort(["len", column], descending=[True, False])
    return counts[column].to_list() if counts.height <= MOST_VALUES else []
