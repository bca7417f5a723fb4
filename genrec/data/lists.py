"""Lists in the texts of a column (`a|b`, `['a', 'b']`, `{a,b}`), decided by all its values."""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from .numbers import NO_VALUE

LISTS = ("genre", "tags", "keywords", "categories")  # lists even if few values have several elements
LIST_WORDS = (  # the last word of a name of which commas and slashes may part a list
    *"genres tag keyword topics subjects themes moods styles labels actors cast ingredients features languages".split(),
    *"countries platforms mechanics companies skills colors colours materials allergens".split(),
)
MARKS = ("|", ";", "；", "、", "\n", "，", ",", "/")  # in this order
RARE = ("::", "^", "~", "#", "·", "•", "・", "<br>", "&", "+", ">", " - ", " ")  # that part only columns of list names
NO_LIST = (*NO_VALUE, "(no genres listed)")
SAMPLE = 20_000  # different values that tell whether parts recur
NAMES = ("name", "title", "label", "value", "text", "tag")  # of what an object is called
LONGEST = 20_000  # characters of a text that is read as a literal
RECURRING = 0.8  # share of the parts that other values have too, from which on a mark parts a list
MIN_SHARE = 0.2  # of the texts with a mark
NUMPY_GAP = re.compile(r"""(['"])\s+(?=['"])""")  # ['a' 'b']


def is_list_name(name: str) -> bool:
    """Whether a column's name tells of several values: `genre`, `production_countries`."""
    return name in LISTS or re.split(r"[\s_.-]+", name.lower())[-1] in LIST_WORDS


def parse_lists(text: pl.Series) -> tuple[pl.Series | None, str | None]:
    """List(String) of a column of texts, None if they are none, and a note on how they were read.

    Brackets and braces are read as JSON, Python's or PostgreSQL's lists, their objects by name. Else one mark parts a
    column: bars from a fifth of the texts on; others too if most parts recur in several values, which titles and
    `Sci-Fi/Fantasy` do not. LISTS are always lists.
    """
    name = text.name
    if is_list_name(name):
        text = text.set(text.str.to_lowercase().is_in(NO_LIST), None)
    counts = text.drop_nulls().to_frame("text").group_by("text", maintain_order=True).len("n")
    unique = counts["text"]
    literals = unique.filter(unique.str.contains(r"^\s*[\[{(<].*[\]})>]\s*$"))
    unquoted = is_list_name(name) or bool(literals.str.starts_with("{").all())
    read = {value: elements for value in literals if (elements := _literal(value, unquoted)) is not None}
    is_literal = len(read) >= max(1, MIN_SHARE * len(unique))
    if is_literal:
        rest = unique.filter(~unique.is_in(list(read)))
        if len(rest) and not (name in LISTS or len(rest) <= len(read) / 10):
            return None, None
        example, listed = max(read.items(), key=lambda pair: min(len(pair[1]), 2))
        note = f"{_short(example)} is read as {_listed(listed)}"
        return _mapped(text, unique, [read.get(v, [v]) for v in unique]), note
    objects = literals.str.contains(r"""^\s*\[?\s*\{\s*["']""").sum()  # without a name; their marks part no list
    mark = None if objects > len(unique) / 2 else _mark(counts, name)
    if mark is None:
        lists = text.str.split("\0") if name in LISTS else None
        return lists, _left_whole(unique) if name in LISTS else None
    parts = unique.str.split(mark).list.eval(_stripped())
    example = unique.filter(unique.str.contains(mark, literal=True))[0]
    note = f"split at {mark!r}: {_short(example)} is {_listed(_split(example, mark))}"
    return _mapped(text, unique, parts), note


def _stripped() -> pl.Expr:
    part = pl.element().str.strip_chars()
    return part.filter(part != "")


def _split(text: str, mark: str) -> list[str]:
    return [part.strip() for part in text.split(mark) if part.strip()]


def _mapped(text: pl.Series, unique: pl.Series, elements: Any) -> pl.Series:
    table = pl.DataFrame({"text": unique, "list": pl.Series(elements, dtype=pl.List(pl.String))})
    table = table.with_columns(pl.when(pl.col("list").list.len() > 0).then("list"))
    joined = text.to_frame("text").join(table, on="text", how="left", maintain_order="left")
    return joined["list"].alias(text.name)


def _mark(counts: pl.DataFrame, name: str) -> str | None:
    """The mark that parts the values of a column (text, n), or None."""
    for mark in (*MARKS, *(RARE if is_list_name(name) else ())):
        with_mark = counts.filter(pl.col("text").str.contains(mark, literal=True))
        share = int(with_mark["n"].sum()) / max(int(counts["n"].sum()), 1)
        if not share:
            continue
        if mark == "|":
            if name in LISTS or share >= MIN_SHARE:
                return mark
            continue
        if name in LISTS and share >= MIN_SHARE and mark not in ("/", *RARE):
            return mark
        recurring, moving = _recurring(counts["text"].head(SAMPLE), mark)
        if share < MIN_SHARE / 4 or recurring < RECURRING:
            continue
        if mark == " " and moving < RECURRING:  # Dark Comedy
            continue
        if is_list_name(name) or mark in ";；" or (mark in "、，," and moving >= RECURRING):
            return mark
    return None


def _recurring(unique: pl.Series, mark: str) -> tuple[float, float]:
    """Shares of the parts of texts with a mark: those that another value has, or is, too; of these, those that are
    also alone or in another place, as `Last, First` names are not."""
    parts = pl.DataFrame({"value": range(len(unique)), "part": unique.str.split(mark).list.eval(_stripped())})
    parts = parts.with_columns(pl.int_ranges(pl.col("part").list.len()).alias("place")).explode("part", "place")
    parts = parts.drop_nulls().unique(("value", "part"), keep="first", maintain_order=True)
    is_alone = pl.len().over("value") == 1
    parts = parts.with_columns(pl.when(is_alone).then(-1).otherwise("place").alias("place"))
    recurs, moves = pl.len().over("part") > 1, pl.col("place").n_unique().over("part") > 1
    several = parts.with_columns(recurs.alias("recurs"), moves.alias("moves")).filter(pl.col("place") >= 0)
    n_recurring = int(several["recurs"].sum())
    return n_recurring / max(several.height, 1), int(several["moves"].sum()) / max(n_recurring, 1)


def _left_whole(unique: pl.Series) -> str | None:
    """A note on marks that might part a list and are left in the values."""
    for mark in (*MARKS, *RARE[:-1]):
        with_mark = unique.filter(unique.str.contains(mark, literal=True))
        if len(with_mark):
            return f"{_short(with_mark[0])} is one value: most parts around {mark!r} are in no other"
    return None


def _literal(text: str, unquoted: bool) -> list[str] | None:
    """The elements of a list, set, tuple or object that is written as JSON, Python or PostgreSQL, or as `<a><b>`; None
    if it is none.

    unquoted: whether texts in braces or brackets may lack quotes.
    """
    if len(text) > LONGEST:
        return None
    try:
        return _elements(json.loads(text))
    except (ValueError, RecursionError):
        pass
    try:
        return _elements(ast.literal_eval(NUMPY_GAP.sub(r"\1, ", text.strip())))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    inner = text.strip()[1:-1]
    if unquoted and re.fullmatch(r"\s*(<[^<>]+>)+\s*", text):
        return re.findall(r"<([^<>]+)>", text)
    if not unquoted or text.strip()[0] == "<" or re.search(r"""[\[\]{}()'":]""", re.sub(r'"[^"]*"', "", inner)):
        return None
    quoted = re.findall(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*?))\s*(?:,|$)', inner)
    return [q.replace('\\"', '"') or p for q, p in quoted if q or (p and p.lower() != "null")]


def _elements(value: Any) -> list[str] | None:
    """The texts in nested lists, objects by their name; None for what is no list."""
    if isinstance(value, dict):
        called = _called(value)
        return None if called is None else [called]
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    elements: list[str] = []
    for element in sorted(value, key=str) if isinstance(value, set | frozenset) else value:
        if isinstance(element, dict | list | tuple | set):
            inner = _elements(element)
            if inner is None:
                return None
            elements += inner
        elif element is not None and str(element).strip():
            elements.append(str(element).strip())
    return elements


def named_elements(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """A frame with lists of objects as lists of their names, and a note on each."""
    notes = []
    for column, dtype in frame.schema.items():
        if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
            texts = [f.name for f in dtype.inner.fields if f.dtype == pl.String]
            name = _name_of(texts)
            if name is not None:
                frame = frame.with_columns(pl.col(column).list.eval(pl.element().struct.field(name).drop_nulls()))
                notes.append(f"{column} is read as the lists of their {name}")
    return frame, notes


def _called(value: dict[Any, Any]) -> str | None:
    """What an object is called: `Comedy` of {'id': 35, 'name': 'Comedy'}."""
    name = _name_of([key for key in value if isinstance(value[key], str)])
    return None if name is None else str(value[name])


def _name_of(texts: Sequence[str]) -> str | None:
    """The field that says what an object is called, of those that are texts: a usual one, or the only one."""
    return next((n for n in NAMES if n in texts), texts[0] if len(texts) == 1 else None)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _listed(elements: list[str]) -> str:
    return ", ".join(repr(e) for e in elements[:3]) + (", ..." if len(elements) > 3 else "")
