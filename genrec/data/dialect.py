"""How a delimited text is written: what its fields are split at, where its table begins, whether columns are named."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..errors import DataError
from .aliases import RECBOLE, known

DELIMITERS = {
    ",": "commas",
    ";": "semicolons",
    "\t": "tabs",
    "|": "bars",
    "::": "'::'",
    " ": "spaces",
    "\x01": "control-A",
}
WORDS = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "bar": "|", "pipe": "|"}
SNIFFED = ",;\t|"  # delimiters that a sniffer decides between
LINES = 200  # that are looked at
NUMBER = re.compile(r"[-+]?[$€£¥]?\d[\d.,' ]*([eE][-+]?\d+)?%?")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")
SEP = re.compile(r"\ufeff?\"?sep=(.|\\t)\"?", re.IGNORECASE)  # Excel's first line
MARK = re.compile(r"[^\w\s\"'.,:/+()\[\]{}-]{1,3}")  # that may be a delimiter if all lines have it, as ^ and ##
SPACED = r'(?:(?<={0})|^) +(")(?=[^"\r\n])(?!{0})'  # a quote behind a space, and not one that ends `"Heat, "`
COMMENT = ("#", "%", "//", "--")


@dataclass(frozen=True)
class Dialect:
    """How a text is written.

    skip: lines before the table, which begins with its header, if it has one. skipped: a text of those lines.
    row_names: the first field of each row is without a name in the header, as R writes tables. spaced: quotes stand
    behind a space, as in `7, "Heat, 1995"`.
    """

    delimiter: str
    header: bool
    skip: int = 0
    skipped: str = ""
    row_names: bool = False
    spaced: bool = False

    @property
    def is_runs(self) -> bool:
        """Whether fields are split at runs of spaces."""
        return self.delimiter == " "


def delimiter_of(word: str) -> str:
    """A delimiter as `--delimiter` takes it."""
    delimiter = WORDS.get(word.lower(), word)
    if not delimiter or len(delimiter) > 8 or any(c in '"\r\n' for c in delimiter):
        raise DataError(f"--delimiter {word!r}: allowed are characters such as ; or ::, and tab and space")
    return delimiter


def dialect_of(
    text: str, own: str | None, delimiter: str | None, header: bool | None, named: Collection[str], quote: str | None
) -> Dialect:
    """The dialect of a text, of which the first lines are given.

    own: the delimiter that the file's name says. delimiter, header: if they are given. named: columns that the caller
    names, so that there is a header with them.
    """
    lines = re.split(r"\r\n|\n|\r", text)[:LINES]
    start, skipped = 0, ""
    while start < len(lines) and not lines[start].strip(" ,;\t|\ufeff"):
        start += 1
    if start < len(lines) and (separator := SEP.fullmatch(lines[start].strip())):
        delimiter = delimiter or WORDS.get(separator[1], separator[1])
        start, skipped = start + 1, lines[start].strip()
    body = [line for line in lines[start:] if line.strip()]
    delimiter = delimiter or _delimiter([line for line in body if not line.startswith(COMMENT)] or body, own, quote)
    more, first = _preamble(lines[start:], delimiter, quote)
    table = [line for line in lines[start + more :] if line.strip()]
    rows = [fields(line, delimiter, quote) for line in table]
    spaced = False
    if quote and any(f'{delimiter} "' in line for line in table):
        without = [fields(re.sub(SPACED.format(re.escape(delimiter)), r"\1", line), delimiter, quote) for line in table]
        spaced = 1 < _width(without) <= (_width(rows) or len(without[0])) and without != rows
        rows = without if spaced else rows
    if header is None:
        header = not rows or has_header(rows, named)
    row_names = (
        header and len(rows) > 1 and 1 < len(rows[0]) == _width(rows[1:]) - 1 and any(row[-1] for row in rows[1:])
    )
    return Dialect(delimiter, header, start + more, skipped or first, row_names, spaced)


def fields(line: str, delimiter: str, quote: str | None = '"') -> list[str]:
    """The fields of one line."""
    if delimiter == " " and '"' not in line:
        return line.split()
    if len(delimiter) > 1:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE))
    except (csv.Error, StopIteration):
        return line.split(delimiter)


def _delimiter(lines: Sequence[str], own: str | None, quote: str | None) -> str:
    """What lines are split at, as often as it is repeated in all of them: `||`."""
    if not lines:
        return own or ","
    found = _single_delimiter(lines, own, quote)
    for mark in (found * 3, found * 2):
        if found != " " and all(mark in line and found not in line.replace(mark, "") for line in lines):
            return mark
    return found


def _single_delimiter(lines: Sequence[str], own: str | None, quote: str | None) -> str:
    """What lines are split at: by names in a header that are known, by a delimiter in all lines, by a sniffer."""
    marks = dict.fromkeys(MARK.findall(lines[0]))
    for candidate in dict.fromkeys((*([own] if own else []), *DELIMITERS, *marks)):
        cells = fields(lines[0], candidate, quote)
        if len(cells) > 1 and (sum(map(known, cells)) > 1 or all(map(RECBOLE.search, cells))):
            return candidate
    widths = {d: _width([fields(line, d, quote) for line in lines]) for d in SNIFFED}
    if own and widths[own] > 1 and widths[own] == max(widths.values()):
        return own
    if all("\x01" in line for line in lines):
        return "\x01"
    if min(line.count("::") for line in lines) > 0 and len({line.count("::") for line in lines}) <= 2:
        return "::"
    if max(widths.values()) < 2:
        for mark in marks:
            if _width([fields(line, mark, quote) for line in lines]) > 1:
                return mark
    import clevercsv

    try:
        sniffed = clevercsv.Sniffer().sniff("\n".join(lines)[:16_000], delimiters=list(SNIFFED))
        found = sniffed.delimiter if sniffed else ""
    except clevercsv.Error:
        found = ""
    if found and sum(found in line for line in lines) > len(lines) / 2:
        return found
    if own and own in lines[0]:
        return own
    return " " if _width([line.split() for line in lines]) > 1 else own or ","


def _width(rows: Sequence[Sequence[str]]) -> int:
    """The number of fields that all rows have; 0 if they differ."""
    widths = {len(row) for row in rows}
    return widths.pop() if len(widths) == 1 else 0


def _preamble(lines: Sequence[str], delimiter: str, quote: str | None) -> tuple[int, str]:
    """How many lines stand before the table, and the first of them: comments, headings without a delimiter, and what
    stands before a row of names that are known and has not as many fields as they."""
    return preamble([[c for c in fields(line, delimiter, quote) if c.strip()] for line in lines], lines)


def preamble(rows: Sequence[Sequence[str]], lines: Sequence[str]) -> tuple[int, str]:
    """As `_preamble`, of lines whose fields that are not empty are known."""
    filled = Counter(len(row) for row in rows if row)
    start = next((n for n, row in enumerate(rows) if sum(map(known, row)) > 1), 0)
    if any(len(row) == len(rows[start]) for row in rows[:start]):
        start = 0
    while start < len(rows) - 1:
        line = lines[start]
        is_comment = line.startswith(COMMENT) and sum(map(known, rows[start])) < 2
        is_heading = len(rows[start]) == 1 and filled[1] * 10 <= sum(filled.values()) and not line.count('"') % 2
        if line.strip() and not is_comment and not is_heading:
            break
        start += 1
    first = next((line.strip()[:60] for line in lines[:start] if line.strip()), "")
    return (start, first) if start < len(rows) - 1 or not first else (0, "")


def has_header(rows: Sequence[Sequence[str]], named: Collection[str] = ()) -> bool:
    """Whether the first row names the columns: it has names that are known, or no number and no value that recurs."""
    first = [cell.strip() for cell in rows[0]]
    if any(cell in named and not cell.isdecimal() for cell in first) or sum(map(known, first)) > 1:
        return True
    filled = [cell for cell in first if cell]
    if len(first) > len(filled) and filled == [str(n) for n in range(len(filled))]:  # a frame without names
        return True
    if any(NUMBER.fullmatch(cell) or DATE.fullmatch(cell) for cell in filled):
        return False
    later = [set(cells) for cells in zip(*(row for row in rows[1:] if len(row) == len(first)), strict=True)]
    return not any(cell in values for cell, values in zip(first, later, strict=False) if cell)
