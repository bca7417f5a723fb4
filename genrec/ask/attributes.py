"""The attributes of a catalogue by the words that people have for their values, and conditions on them."""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from ..catalogue.titles import key
from .language import Language, Phrases

MAX_VALUES = 300  # different values of an attribute that a sentence may name
SHOWN = "shown"  # stands for the years of the list before: "something older"
OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", ">": "<=", "<=": ">", ">=": "<"}
NO_ATTRIBUTES = ("item_id", "title", "train_count")  # columns of a catalogue beside its attributes


@dataclass(frozen=True)
class Condition:
    """One condition on the catalogue; op: =, !=, <, <=, >, >=, between (value: low, high)."""

    column: str
    op: str
    value: str | float | tuple[float, float]

    def sql(self) -> str:
        """As `Recommender.recommend(where=...)` takes it.

        >>> Condition("genre", "!=", "Children's").sql()
        '"genre" <> \\'Children\\'\\'s\\''
        """
        if isinstance(self.value, tuple):
            return f'"{self.column}" between {self.value[0]:g} and {self.value[1]:g}'
        op = "<>" if self.op == "!=" else self.op
        if isinstance(self.value, str):
            quoted = self.value.replace("'", "''")
            return f"\"{self.column}\" {op} '{quoted}'"
        return f'"{self.column}" {op} {self.value:g}'

    def words(self) -> str:
        """As people read it.

        >>> Condition("year", "between", (1990.0, 1999.0)).words(), Condition("genre", "!=", "War").words()
        ('year 1990 to 1999', 'genre not War')
        """
        if isinstance(self.value, tuple):
            return f"{self.column} {self.value[0]:g} to {self.value[1]:g}"
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{self.column} {self.op.replace('!=', 'not').replace('=', '').strip()} {value}".replace("  ", " ")

    def to_json(self) -> list[object]:
        """Column, op, value."""
        return [self.column, self.op, list(self.value) if isinstance(self.value, tuple) else self.value]

    def opposite(self) -> "Condition":
        """The condition that a negation makes of it; `between` has none and stays."""
        return Condition(self.column, OPPOSITE.get(self.op, self.op), self.value)


class Attributes:
    """The words for a catalogue's attributes.

    values: phrases for one or two conditions. numbers: the words of each numeric column. year: the first column of
    years, or None. value_words: single words of the phrases.
    """

    def __init__(self, items: pl.DataFrame, language: Language) -> None:
        self.year: str | None = None
        self.numbers: dict[str, str] = {}
        by_value: dict[str, Condition] = {}
        for column in (c for c in items.columns if c not in NO_ATTRIBUTES):
            if items.schema[column].is_numeric():
                self.numbers[column_words(column)] = column
                if "year" in column.lower() and self.year is None:
                    self.year = column
            for value in text_values(items, column):
                by_value.setdefault(key(value), Condition(column, "=", value))
        meanings = meanings_of(by_value, language)
        self.values = Phrases(meanings)
        self.value_words = frozenset(w for name in meanings for w in name.split())


def meanings_of(by_value: dict[str, Condition], language: Language) -> dict[str, tuple[Condition, ...]]:
    """Phrases for the values of a catalogue: the values, their plurals, other words for them, and words for two."""
    meanings: dict[str, tuple[Condition, ...]] = {}
    for name, condition in by_value.items():
        if not name or name in language.no_values:
            continue
        for other in (name, *plurals(name, language), *language.values.get(str(condition.value).lower(), ())):
            meanings.setdefault(key(other), (condition,))
    for name, parts in language.pairs.items():
        if all(key(p) in by_value for p in parts):
            meanings[key(name)] = tuple(by_value[key(p)] for p in parts)
    for noun in (p for phrases in language.datasets.values() for p in phrases.spelled):
        if noun not in by_value:
            meanings.pop(noun, None)  # `groceries` are all that the data set has
    return meanings


def column_words(column: str) -> str:
    """The words of a column's name, `release_year`: `release year`."""
    return key(column.replace("_", " "))


def plurals(name: str, language: Language) -> Iterator[str]:
    """The plural of a single word, `comedies`, by the first ending of the tables that fits."""
    if name.isascii() and name.isalpha():
        for ending, plural in language.plurals.items():
            if name.endswith(ending):
                yield name[: len(name) - len(ending)] + plural
                return


def text_values(items: pl.DataFrame, column: str) -> list[str]:
    """The values of a text or list column with at most MAX_VALUES of them; the most frequent first."""
    dtype = items.schema[column]
    if dtype != pl.String and not (isinstance(dtype, pl.List) and dtype.inner == pl.String):
        return []
    values = items.select(column)
    values = (values.explode(column) if isinstance(dtype, pl.List) else values).drop_nulls()
    counts = values.group_by(column).len().sort(["len", column], descending=[True, False])
    return counts[column].to_list() if counts.height <= MAX_VALUES else []
