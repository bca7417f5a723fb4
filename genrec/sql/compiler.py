"""Checked syntax trees compiled to polars expressions; no SQL engine ever reads the text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from polars.datatypes import DataTypeClass
from sqlglot import exp

from ..errors import DataError, UnknownNameError
from .syntax import (
    ALLOWED,
    CHARACTERS,
    NODE_ARGUMENTS,
    PLAIN_NODES,
    SHOWN,
    column_expression,
    column_names,
    parse,
    shorten,
    text,
)

PATTERN = 1_000  # characters of a LIKE pattern
TYPES = {
    "integer": (pl.Int64, (exp.DType.INT, exp.DType.BIGINT)),
    "double": (pl.Float64, (exp.DType.DOUBLE, exp.DType.FLOAT)),
    "text": (pl.String, (exp.DType.TEXT, exp.DType.VARCHAR)),
    "boolean": (pl.Boolean, (exp.DType.BOOLEAN,)),
}
Value = str | int | float | bool
DType = pl.DataType | DataTypeClass


def columns(text: str) -> list[str]:
    """The columns that an expression reads, each once; raises DataError if it cannot be parsed or is not allowed."""
    tree = parse(text)
    _Compiler(None).compile(tree)
    return column_names(tree)


def is_condition(text: str) -> bool:
    """Whether an expression is true or false whatever its columns hold, as a comparison is; raises as `columns`."""
    node = parse(text).unnest()
    is_cast = isinstance(node, exp.Cast) and _type(node) == pl.Boolean
    return is_cast or isinstance(node, (exp.Predicate, exp.Connector, exp.Not, exp.Boolean))


def expression(text: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """The polars expression of a SQL expression, over a frame of this schema.

    On a list column `=`, `<>` and `in` test for elements of the list. Raises DataError if the text cannot be parsed or
    is not allowed, UnknownNameError for a column that the schema lacks.
    """
    tree = parse(text)
    for name in column_names(tree):
        if name not in schema:
            raise UnknownNameError("column", name, schema, f"in {shorten(text)}")
    return _Compiler(schema).compile(tree)


def evaluate(source: str | pl.Expr, frame: pl.DataFrame) -> pl.Series:
    """The value of an expression in each row of a frame; raises as `expression`, and DataError if it cannot be
    computed."""
    computed = expression(source, frame.schema) if isinstance(source, str) else source
    try:
        series = frame.select(computed).to_series()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"it cannot be computed: {str(error).splitlines()[0]}") from error
    return series.new_from_index(0, frame.height) if len(series) != frame.height else series


def meets(
    column: str,
    dtype: pl.DataType,
    *,
    any_of: Sequence[Value] | None = None,
    none_of: Sequence[Value] | None = None,
    gte: float | None = None,
    lte: float | None = None,
) -> pl.Expr:
    """The condition that a column of this type equals one of `any_of` and none of `none_of` (a list column: contains
    them), and lies between two numbers.

    Null meets none of these except an empty `none_of`. Raises DataError for a value that the column cannot hold.
    """
    name = column_expression(column)
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    conditions = []
    for values, negated in ((any_of, False), (none_of, True)):
        if values is not None:
            condition = _one_of(name, dtype, [_value(v, inner, column) for v in values]) if values else pl.lit(False)
            conditions.append(~condition if negated else condition)
    if gte is not None or lte is not None:
        if not dtype.is_numeric():
            kind = "text" if inner == pl.String else str(dtype)
            raise DataError(f"{column} holds {kind}, which is not greater or less: use any or none")
        conditions += [name >= gte] if gte is not None else []
        conditions += [name <= lte] if lte is not None else []
    return pl.all_horizontal(pl.lit(True), *conditions)


def _value(value: Value, dtype: DType, column: str) -> Value:
    if dtype == pl.String:
        return value if isinstance(value, str) else f"{value:g}"
    try:
        number = float(value)
    except ValueError as error:
        raise DataError(f"{shorten(str(value))} is no number, as {column} holds") from error
    if not math.isfinite(number):
        raise DataError(f"{column}: {number} is no number to ask for")
    return number


class _Compiler:
    """Compiles the nodes of one tree to polars expressions; without a schema it only checks them."""

    def __init__(self, schema: Mapping[str, pl.DataType] | None) -> None:
        self.schema = schema

    def compile(self, node: exp.Expr) -> pl.Expr:
        if plain := PLAIN_NODES.get(type(node)):
            if isinstance(node, exp.Neg) and _is_number(node.this):
                return pl.lit(_literal(node))
            return plain(*map(self.compile, self.arguments(node)))
        match node:
            case exp.Paren():
                return self.compile(node.this)
            case exp.Literal() | exp.Boolean() | exp.Null():
                return pl.lit(_literal(node))
            case exp.Column():
                return column_expression(node.name)
            case exp.And():
                return pl.all_horizontal(list(map(self.compile, _chain(node))))
            case exp.Or():
                return pl.any_horizontal(list(map(self.compile, _chain(node))))
            case exp.EQ():
                return self.equal(node.this, node.expression)
            case exp.NEQ():
                return self.equal(node.this, node.expression).not_()
            case exp.Is():
                return self.is_(node)
            case exp.In():
                return self.one_of(node)
            case exp.Like() | exp.ILike():
                condition = self.compile(node.this).str.contains(_pattern(node))
                return condition.not_() if node.args.get("negate") else condition
            case exp.Case():
                return self.case(node)
            case exp.Cast():
                return self.compile(node.this).cast(_type(node))
            case exp.Round():
                decimals = node.args.get("decimals")
                return self.compile(node.this).round(0 if decimals is None else _integer(decimals, "round", 0, 15))
            case exp.Substring():
                return self.substring(node)
            case exp.Replace():
                old, new = text(node.expression), node.args.get("replacement")
                if not old or new is None:
                    raise DataError(
                        "replace needs a text to replace, and one to put in its place: replace(x, 'a', 'b')"
                    )
                return self.compile(node.this).str.replace_all(old, text(new), literal=True)
            case exp.Trim():
                return self.trim(node)
        raise DataError(f"{node.key.upper()} is not allowed here; allowed are {ALLOWED}")

    def arguments(self, node: exp.Expr) -> Iterator[Any]:
        for name in NODE_ARGUMENTS[type(node)]:
            value = node.args.get(name)
            yield from value if isinstance(value, list) else [value]

    def dtype(self, node: exp.Expr) -> pl.DataType:
        """The type of a node's value; Null without a schema."""
        if self.schema is None:
            return pl.Null()
        node = node.unnest()
        if isinstance(node, exp.Column):
            return self.schema[node.name]
        try:
            (dtype,) = pl.LazyFrame(schema=self.schema).select(self.compile(node)).collect_schema().dtypes()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise DataError(f"it cannot be computed: {str(error).splitlines()[0]}") from error
        return dtype

    def holds_lists(self, node: exp.Expr) -> bool:
        return isinstance(node.unnest(), exp.Column) and isinstance(self.dtype(node), pl.List)

    def equal(self, left: exp.Expr, right: exp.Expr) -> pl.Expr:
        if self.holds_lists(right) and not self.holds_lists(left):
            left, right = right, left
        if not self.holds_lists(left) or self.holds_lists(right):
            return self.compile(left) == self.compile(right)
        if isinstance(right.unnest(), exp.Null):
            return pl.lit(None, pl.Boolean)
        return self.compile(left).list.contains(self.compile(right))

    def is_(self, node: exp.Is) -> pl.Expr:
        value, truth = self.compile(node.this), node.expression
        if isinstance(truth, exp.Null):
            condition = value.is_null()
        elif isinstance(truth, exp.Boolean):
            condition = value.eq_missing(pl.lit(truth.this))
        else:
            raise DataError(f"IS {truth.key.upper()} is not allowed; write is null, is true or is false")
        return condition.not_() if node.args.get("negate") else condition

    def one_of(self, node: exp.In) -> pl.Expr:
        values = [_literal(v) for v in node.expressions]
        if not values:
            raise DataError("in () has no values; write for example: in (1, 2)")
        condition = _one_of(self.compile(node.this), self.dtype(node.this), [v for v in values if v is not None])
        return condition if None not in values else pl.any_horizontal(condition, pl.lit(None, pl.Boolean))

    def case(self, node: exp.Case) -> pl.Expr:
        default = node.args.get("default")
        result = pl.lit(None) if default is None else self.compile(default)
        for branch in reversed(node.args["ifs"]):
            condition = self.equal(node.this, branch.this) if node.this else self.compile(branch.this)
            result = pl.when(condition).then(self.compile(branch.args["true"])).otherwise(result)
        return result

    def substring(self, node: exp.Substring) -> pl.Expr:
        start, length = node.args.get("start"), node.args.get("length")
        if start is None:
            raise DataError("substring needs a start, such as substring(title, 1, 3)")
        # SQL counts from 1, and positions before the text count too.
        first = _integer(start, "substring", -CHARACTERS, CHARACTERS) - 1
        count = None if length is None else max(0, _integer(length, "substring", 0, CHARACTERS) + min(first, 0))
        return self.compile(node.this).str.slice(max(first, 0), count)

    def trim(self, node: exp.Trim) -> pl.Expr:
        value = self.compile(node.this).str
        letters = None if node.expression is None else text(node.expression)
        position = str(node.args.get("position") or "BOTH").upper()
        if position == "LEADING":
            return value.strip_chars_start(letters)
        return value.strip_chars_end(letters) if position == "TRAILING" else value.strip_chars(letters)


def _chain(node: exp.Expr) -> list[exp.Expr]:
    """The operands of a chain of AND, or of OR, in order."""
    operands, stack = [], [node]
    while stack:
        operand = stack.pop()
        if type(operand.unnest()) is type(node):
            stack += [operand.unnest().expression, operand.unnest().this]
        else:
            operands.append(operand)
    return operands


def _is_number(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string


def _literal(node: exp.Expr) -> Value | None:
    """The value of a literal, with its minus sign if there is one."""
    node = node.unnest()
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.this)
    number = node.this if isinstance(node, exp.Neg) else node
    if not _is_number(number):
        raise DataError(f"a number, a 'text', true, false or null is needed here, not {node.key.upper()}")
    text = ("-" if number is not node else "") + number.name
    try:
        value = int(text) if number.name.isdecimal() else float(text)
    except ValueError as error:
        raise DataError(f"{shorten(text)} is no number") from error
    if abs(value) == float("inf") or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        raise DataError(f"the number {text[:SHOWN]} does not fit 64 bits")
    return value


def _integer(node: exp.Expr, what: str, low: int, high: int) -> int:
    value = _literal(node) if _is_number(node) or isinstance(node, exp.Neg) else None
    if not isinstance(value, int) or not low <= value <= high:
        raise DataError(f"{what} takes whole numbers from {low} to {high}")
    return value


def _type(node: exp.Cast) -> type[pl.DataType]:
    for dtype, kinds in TYPES.values():
        if node.to.this in kinds and not node.to.expressions:
            return dtype
    raise DataError(f"a cast to {node.to.sql()} is not allowed; allowed are {', '.join(TYPES)}")


def _pattern(node: exp.Expr) -> str:
    """A LIKE pattern as a regular expression; a backslash has no special meaning."""
    pattern = text(node.expression)
    if len(pattern) > PATTERN:
        raise DataError(f"a pattern of {len(pattern):,} characters is too long: at most {PATTERN:,} are allowed")
    parts = ("(?s:.*)" if c == "%" else "(?s:.)" if c == "_" else pl.escape_regex(c) for c in pattern)
    return ("(?i)" if isinstance(node, exp.ILike) else "") + rf"^{''.join(parts)}$"


def _one_of(column: pl.Expr, dtype: DType, values: Sequence[Value]) -> pl.Expr:
    """Whether a column is (a list column: contains) one of some values, as one look-up in a set."""
    if isinstance(dtype, pl.List) and dtype.inner != pl.Null:
        return column.list.eval(_one_of(pl.element(), dtype.inner, values)).list.any()
    if dtype in (pl.Null, pl.List(pl.Null)):
        return pl.lit(None, pl.Boolean)
    numbers = [v for v in values if not isinstance(v, str)]
    if dtype == pl.String and not numbers:
        fitting: Sequence[Value] = values
    elif dtype.is_integer() and len(numbers) == len(values):
        fitting = [int(v) for v in numbers if abs(v) < 2**63 and v == int(v)]  # an integer column equals no fraction
    elif dtype.is_float() and len(numbers) == len(values):
        fitting = [float(v) for v in numbers]
    elif dtype == pl.Boolean and len(numbers) == len(values):
        fitting = [bool(v) for v in numbers if v in (0, 1)]
    else:
        kind = "numbers" if dtype.is_numeric() else "texts" if dtype == pl.String else str(dtype)
        raise DataError(f"the values asked for are not of the column's kind: it holds {kind}")
    return column.is_in(pl.lit(pl.Series(fitting, dtype=dtype, strict=False).drop_nulls()).implode())
