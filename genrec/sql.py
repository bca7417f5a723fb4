"""SQL expressions over the columns of a frame: sqlglot reads them, and each node that is allowed becomes a polars
expression. No text reaches a second parser, so nothing that is not named here can be computed."""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from polars.datatypes import DataTypeClass
from sqlglot import Token, TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError

from genrec.errors import DataError, UnknownNameError

CHARACTERS = 100_000
TOKENS = 50_000
NESTED = 30  # parentheses and cases in each other, and signs or NOTs in a row
NODES = 1_000  # besides the literals of an IN
DEPTH = 60  # of the tree, chains of AND and OR flattened
STEPS = 5_000  # nodes that polars computes, those that it computes twice counted twice
PATTERN = 1_000  # characters of a pattern of LIKE
SHOWN = 200  # characters of an expression in a message

FUNCTIONS = (
    *("abs", "array_contains", "array_length", "cast", "ceil", "ceiling", "char_length", "coalesce", "concat", "exp"),
    *("floor", "greatest", "least", "length", "ln", "lower", "ltrim", "nullif", "replace", "round", "rtrim", "sqrt"),
    *("starts_with", "substr", "substring", "trim", "upper"),
)
ALLOWED = (
    "columns, numbers, 'texts', true, false, null, and, or, not, = <> < <= > >=, + - * / %, ||, in (...), between, "
    "like, ilike, is null, is true, is distinct from, case, and the functions " + ", ".join(FUNCTIONS)
)
TYPES = {
    "integer": (pl.Int64, (exp.DType.INT, exp.DType.BIGINT)),
    "double": (pl.Float64, (exp.DType.DOUBLE, exp.DType.FLOAT)),
    "text": (pl.String, (exp.DType.TEXT, exp.DType.VARCHAR)),
    "boolean": (pl.Boolean, (exp.DType.BOOLEAN,)),
}
Value = str | int | float | bool
DType = pl.DataType | DataTypeClass

_POSTGRES = Dialect.get_or_raise("postgres")
_SIGNS = {
    *(TokenType.EQ, TokenType.NEQ, TokenType.NULLSAFE_EQ, TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE),
    *(TokenType.PLUS, TokenType.DASH, TokenType.STAR, TokenType.SLASH, TokenType.MOD, TokenType.DPIPE),
    *(TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA, TokenType.DCOLON),
    *(TokenType.STRING, TokenType.NUMBER, TokenType.IDENTIFIER),
}
_WORDS = {
    *(TokenType.AND, TokenType.OR, TokenType.NOT, TokenType.IN, TokenType.BETWEEN, TokenType.LIKE, TokenType.ILIKE),
    *(TokenType.IS, TokenType.ISNULL, TokenType.NOTNULL, TokenType.NULL, TokenType.TRUE, TokenType.FALSE),
    *(TokenType.CASE, TokenType.WHEN, TokenType.THEN, TokenType.ELSE, TokenType.END, TokenType.ALIAS),
    *(TokenType.DISTINCT, TokenType.FROM, TokenType.FOR, TokenType.UNKNOWN),
}
_CASTS = {
    *(TokenType.INT, TokenType.BIGINT, TokenType.DOUBLE, TokenType.FLOAT, TokenType.TEXT, TokenType.VARCHAR),
    TokenType.BOOLEAN,
}
_NAMES = {TokenType.IDENTIFIER, TokenType.VAR, *_CASTS}


def shorten(text: str) -> str:
    """An expression as a message quotes it: its first 200 characters."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def columns(text: str) -> list[str]:
    """The columns that an expression reads, each once; raises DataError where it is not allowed or cannot be read."""
    tree = _parse(text)
    _Compiler(None).compile(tree)
    return _column_names(tree)


def expression(text: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """An expression as polars computes it over a frame of this schema.

    On a list column `=`, `<>` and `in` ask what the list holds. Raises DataError where the text is not allowed or
    cannot be read, UnknownNameError for a column that the schema lacks.
    """
    tree = _parse(text)
    for name in _column_names(tree):
        if name not in schema:
            raise UnknownNameError("column", name, schema, f"in {shorten(text)}")
    return _Compiler(schema).compile(tree)


def evaluate(source: str | pl.Expr, frame: pl.DataFrame) -> pl.Series:
    """The value of an expression in each row of a frame; raises as `expression`, and DataError where it cannot be
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
    """The condition that a column of this type is one of some values and none of others, or, if it is a list, that it
    holds one and none of them, and that it lies between two numbers.

    Null meets none of these, save an empty `none_of`. Raises DataError for a value that the column cannot hold.
    """
    name = _column(column)
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    conditions = []
    for values, negated in ((any_of, False), (none_of, True)):
        if values is not None:
            found = _one_of(name, dtype, [_value(v, inner, column) for v in values]) if values else pl.lit(False)
            conditions.append(~found if negated else found)
    if gte is not None or lte is not None:
        if not dtype.is_numeric():
            held = "text" if inner == pl.String else str(dtype)
            raise DataError(f"{column} holds {held}, which is not greater or less: use any or none")
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


# From text to a tree


def _parse(text: str) -> exp.Expr:
    if len(text) > CHARACTERS:
        raise DataError(f"{len(text):,} characters are too many: at most {CHARACTERS:,} are allowed")
    try:
        tokens = _POSTGRES.tokenize(text)
    except (TokenError, ValueError) as error:
        raise DataError("it has a quote, a comment or a number that does not end") from error
    _check_tokens(tokens, text)
    try:
        trees = _POSTGRES.parser().parse_into(exp.Condition, tokens, text)
    except ParseError as error:
        first = error.errors[0]
        at = f"{first.get('highlight') or 'the end'!r} (line {first.get('line')}, column {first.get('col')})"
        raise DataError(f"it is no SQL expression, see {at}") from error
    except ValueError as error:
        raise DataError("it is no SQL expression") from error
    except RecursionError as error:
        raise _too_deep(NESTED) from error
    if len(trees) != 1 or trees[0] is None:
        raise DataError("it is empty; write for example: year between 1990 and 1999")
    _check_tree(trees[0])
    return trees[0]


def _too_deep(most: int) -> DataError:
    return DataError(f"it is nested too deeply: at most {most} levels are allowed")


def _check_tokens(tokens: list[Token], text: str) -> None:
    """Refuse what the parser need not see; a word that is no keyword of an expression becomes the name of a column.

    The parser tries several readings of `array[` and of types such as `decimal(`, in time that doubles with each level.
    """
    if len(tokens) > TOKENS:
        raise DataError(f"{len(tokens):,} words and signs are too many: at most {TOKENS:,} are allowed")
    depth = prefixes = 0
    before: Token | None = None
    for token in tokens:
        kind = token.token_type
        word = text[token.start : token.end + 1]
        is_word = (word[0].isalpha() or word[0] == "_") and word.casefold() == token.text.casefold()
        is_type = kind in _CASTS and before is not None and before.token_type in (TokenType.ALIAS, TokenType.DCOLON)
        if not (kind in _SIGNS or is_word or is_type):
            raise DataError(f"{shorten(word)} is not allowed; allowed are {ALLOWED}")
        if not (kind in _SIGNS or is_type or (kind in _WORDS and is_word)):
            trims = word.lower() in ("leading", "trailing", "both")
            token.token_type = TokenType.VAR if trims else TokenType.IDENTIFIER
        if kind == TokenType.L_PAREN and before is not None and before.token_type in _NAMES:
            if text[before.start] == '"' or before.text.lower() not in FUNCTIONS:
                raise _unknown_function(before.text)
            before.token_type = TokenType.VAR
        if kind in (TokenType.L_PAREN, TokenType.CASE):
            depth += 1
        elif kind in (TokenType.R_PAREN, TokenType.END):
            depth = max(0, depth - 1)
        prefixes = prefixes + 1 if kind in (TokenType.NOT, TokenType.DASH, TokenType.PLUS) else 0
        if depth > NESTED or prefixes > NESTED:
            raise _too_deep(NESTED)
        before = token


def _unknown_function(name: str) -> DataError:
    known = exp.FUNCTION_BY_NAME.get(name.upper())
    if known is not None and issubclass(known, exp.AggFunc):
        return DataError(f"{name.lower()}(...) gives one value for all rows; it must give one per row")
    return DataError(f"the function {name[:SHOWN]} is not allowed; allowed are {', '.join(FUNCTIONS)}")


def _check_tree(tree: exp.Expr) -> None:
    nodes = steps = 0
    stack = [(tree, 1, 1)]
    while stack:
        node, depth, copies = stack.pop()
        nodes, steps = nodes + 1, steps + copies
        if nodes > NODES:
            raise DataError(f"it has more than {NODES:,} parts; ask for many values by in (...)")
        if depth > DEPTH:
            raise _too_deep(DEPTH)
        if steps > STEPS:
            raise DataError(f"it takes more than {STEPS:,} steps for each row: simplify nullif, %, case and replace")
        allowed = _ARGUMENTS.get(type(node))
        wrong = [k for k, v in node.args.items() if v and k not in (*(allowed or ()), *_FLAGS)]
        if allowed is None or wrong:
            form = f" with {wrong[0]}" if allowed is not None else ""
            raise DataError(f"{node.key.upper()}{form} is not allowed; allowed are {ALLOWED}")
        if isinstance(node, exp.Column):
            _column(node.name)
        for child in _children(node):
            deeper = 0 if isinstance(child, exp.Paren | exp.If) or _connects(node, child) else 1
            stack.append((child, depth + deeper, copies * (_repeats(node) if child is node.this else 1)))


def _children(node: exp.Expr) -> Iterator[exp.Expr]:
    """The nodes that are compiled, in the order of the text; not the literals of an IN."""
    if isinstance(node, exp.In):
        yield node.this
    elif not isinstance(node, exp.Column | exp.Cast):
        yield from node.iter_expressions()
    elif isinstance(node, exp.Cast):
        yield node.this


def _connects(node: exp.Expr, child: exp.Expr) -> bool:
    bare = child.unnest()
    return isinstance(node, exp.And | exp.Or | exp.Paren) and (type(bare) is type(node.unnest()))


def _repeats(node: exp.Expr) -> int:
    """How often the first argument of a node is computed, or how many times longer `replace` can make it."""
    if isinstance(node, exp.Mod | exp.Nullif | exp.In):
        return 2
    if isinstance(node, exp.Case):
        return len(node.args.get("ifs") or ())
    if isinstance(node, exp.Replace):
        return 1 + len(_text(node.args.get("replacement"))) // max(1, len(_text(node.expression)))
    return 1


def _column_names(tree: exp.Expr) -> list[str]:
    names: dict[str, None] = {}
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, exp.Column):
            names[node.name] = None
        stack.extend(reversed(list(_children(node))))
    return list(names)


# From a tree to polars


_PLAIN: dict[type[exp.Expr], Callable[..., pl.Expr]] = {
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
    exp.Div: operator.truediv,
    exp.Mod: lambda a, b: (a.abs() % b.abs()) * a.sign(),  # the sign of the dividend, as in SQL
    exp.Neg: operator.neg,
    exp.Not: lambda a: a.cast(pl.Boolean).not_(),
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
    exp.NullSafeEQ: lambda a, b: a.eq_missing(b),
    exp.NullSafeNEQ: lambda a, b: a.ne_missing(b),
    exp.Between: lambda a, low, high: a.is_between(low, high),
    exp.DPipe: lambda a, b: a.cast(pl.String) + b.cast(pl.String),
    exp.Abs: lambda a: a.abs(),
    exp.Floor: lambda a: a.floor(),
    exp.Ceil: lambda a: a.ceil(),
    exp.Sqrt: lambda a: a.sqrt(),
    exp.Ln: lambda a: a.log(),
    exp.Exp: lambda a: a.exp(),
    exp.Lower: lambda a: a.str.to_lowercase(),
    exp.Upper: lambda a: a.str.to_uppercase(),
    exp.Length: lambda a: a.str.len_chars().cast(pl.Int64),  # an unsigned one cannot be subtracted from
    exp.StartsWith: lambda a, b: a.str.starts_with(b),
    exp.Nullif: lambda a, b: pl.when(a == b).then(None).otherwise(a),
    exp.Coalesce: lambda *values: pl.coalesce(values),
    exp.Least: lambda *values: pl.min_horizontal(values),
    exp.Greatest: lambda *values: pl.max_horizontal(values),
    exp.Concat: lambda *values: pl.concat_str(values, ignore_nulls=True),
    exp.ArraySize: lambda a: a.list.len().cast(pl.Int64),
    exp.ArrayContains: lambda a, b: a.list.contains(b),
}  # of the compiled arguments, in the order of _ARGUMENTS

_ONE, _TWO, _SOME = ("this",), ("this", "expression"), ("this", "expressions")
_ARGUMENTS: dict[type[exp.Expr], tuple[str, ...]] = {
    **dict.fromkeys((exp.Neg, exp.Not, exp.Abs, exp.Floor, exp.Ceil, exp.Sqrt, exp.Ln, exp.Exp), _ONE),
    **dict.fromkeys((exp.Lower, exp.Upper, exp.Length, exp.ArraySize, exp.Paren, exp.Column, exp.Boolean), _ONE),
    **dict.fromkeys((exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.DPipe, exp.And, exp.Or, exp.EQ, exp.NEQ), _TWO),
    **dict.fromkeys((exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.StartsWith), _TWO),
    **dict.fromkeys((exp.Nullif, exp.ArrayContains), _TWO),
    **dict.fromkeys((exp.Coalesce, exp.Least, exp.Greatest, exp.In), _SOME),
    **dict.fromkeys((exp.Like, exp.ILike, exp.Is), (*_TWO, "negate")),
    exp.Null: (),
    exp.Literal: ("this", "is_string"),
    exp.Identifier: ("this", "quoted"),
    exp.Between: ("this", "low", "high"),
    exp.Case: ("this", "ifs", "default"),
    exp.If: ("this", "true"),
    exp.Cast: ("this", "to"),
    exp.Concat: ("expressions",),
    exp.Round: ("this", "decimals"),
    exp.Substring: ("this", "start", "length"),
    exp.Replace: ("this", "expression", "replacement"),
    exp.Trim: ("this", "expression", "position"),
}
_FLAGS = ("safe", "coalesce", "typed", "ignore_nulls")  # how dialects differ; the functions above decide


class _Compiler:
    """Polars expressions for the nodes of one tree; without a schema it only checks them."""

    def __init__(self, schema: Mapping[str, pl.DataType] | None) -> None:
        self.schema = schema

    def compile(self, node: exp.Expr) -> pl.Expr:
        if plain := _PLAIN.get(type(node)):
            if isinstance(node, exp.Neg) and _is_number(node.this):
                return pl.lit(_literal(node))
            return plain(*map(self.compile, self.arguments(node)))
        match node:
            case exp.Paren():
                return self.compile(node.this)
            case exp.Literal() | exp.Boolean() | exp.Null():
                return pl.lit(_literal(node))
            case exp.Column():
                return _column(node.name)
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
                found = self.compile(node.this).str.contains(_pattern(node))
                return found.not_() if node.args.get("negate") else found
            case exp.Case():
                return self.case(node)
            case exp.Cast():
                return self.compile(node.this).cast(_type(node))
            case exp.Round():
                decimals = node.args.get("decimals")
                return self.compile(node.this).round(0 if decimals is None else _whole(decimals, "round", 0, 15))
            case exp.Substring():
                return self.substring(node)
            case exp.Replace():
                old, new = _text(node.expression), node.args.get("replacement")
                if not old or new is None:
                    raise DataError(
                        "replace needs a text to replace, and one to put in its place: replace(x, 'a', 'b')"
                    )
                return self.compile(node.this).str.replace_all(old, _text(new), literal=True)
            case exp.Trim():
                return self.trim(node)
        raise DataError(f"{node.key.upper()} is not allowed here; allowed are {ALLOWED}")

    def arguments(self, node: exp.Expr) -> Iterator[Any]:
        for name in _ARGUMENTS[type(node)]:
            value = node.args.get(name)
            yield from value if isinstance(value, list) else [value]

    def dtype(self, node: exp.Expr) -> pl.DataType:
        """The type of what a node gives; Null if it is not known."""
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
        value, asked = self.compile(node.this), node.expression
        if isinstance(asked, exp.Null):
            found = value.is_null()
        elif isinstance(asked, exp.Boolean):
            found = value.eq_missing(pl.lit(asked.this))
        else:
            raise DataError(f"IS {asked.key.upper()} is not allowed; write is null, is true or is false")
        return found.not_() if node.args.get("negate") else found

    def one_of(self, node: exp.In) -> pl.Expr:
        values = [_literal(v) for v in node.expressions]
        if not values:
            raise DataError("in () has no values; write for example: in (1, 2)")
        found = _one_of(self.compile(node.this), self.dtype(node.this), [v for v in values if v is not None])
        return found if None not in values else pl.any_horizontal(found, pl.lit(None, pl.Boolean))

    def case(self, node: exp.Case) -> pl.Expr:
        default = node.args.get("default")
        result = pl.lit(None) if default is None else self.compile(default)
        for branch in reversed(node.args["ifs"]):
            met = self.equal(node.this, branch.this) if node.this else self.compile(branch.this)
            result = pl.when(met).then(self.compile(branch.args["true"])).otherwise(result)
        return result

    def substring(self, node: exp.Substring) -> pl.Expr:
        start, length = node.args.get("start"), node.args.get("length")
        if start is None:
            raise DataError("substring needs a start, such as substring(title, 1, 3)")
        first = _whole(start, "substring", -CHARACTERS, CHARACTERS) - 1  # from 1 on; what lies before the text counts
        count = None if length is None else max(0, _whole(length, "substring", 0, CHARACTERS) + min(first, 0))
        return self.compile(node.this).str.slice(max(first, 0), count)

    def trim(self, node: exp.Trim) -> pl.Expr:
        value = self.compile(node.this).str
        letters = None if node.expression is None else _text(node.expression)
        position = str(node.args.get("position") or "BOTH").upper()
        if position == "LEADING":
            return value.strip_chars_start(letters)
        return value.strip_chars_end(letters) if position == "TRAILING" else value.strip_chars(letters)


def _chain(node: exp.Expr) -> list[exp.Expr]:
    """The operands of a chain of AND, or of OR, in their order."""
    operands, stack = [], [node]
    while stack:
        one = stack.pop()
        if type(one.unnest()) is type(node):
            stack += [one.unnest().expression, one.unnest().this]
        else:
            operands.append(one)
    return operands


def _column(name: str) -> pl.Expr:
    if len(name) > SHOWN:
        raise DataError(f"the name {shorten(name)} is too long: at most {SHOWN} characters are allowed")
    if name == "*" or (name.startswith("^") and name.endswith("$")):  # polars takes these for patterns of names
        raise DataError(f"no column can be called {name!r}")
    return pl.col(name)


def _is_number(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string


def _literal(node: exp.Expr) -> Value | None:
    """The value of a literal, a minus before it included."""
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


def _text(node: object) -> str:
    if node is None:
        return ""
    if not (isinstance(node, exp.Literal) and node.is_string):
        raise DataError("the patterns of like, replace and trim are texts in quotes")
    return str(node.this)


def _whole(node: exp.Expr, what: str, low: int, high: int) -> int:
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
    """LIKE as a regular expression; a backslash is a letter as any other."""
    pattern = _text(node.expression)
    if len(pattern) > PATTERN:
        raise DataError(f"a pattern of {len(pattern):,} characters is too long: at most {PATTERN:,} are allowed")
    parts = ("(?s:.*)" if c == "%" else "(?s:.)" if c == "_" else pl.escape_regex(c) for c in pattern)
    return ("(?i)" if isinstance(node, exp.ILike) else "") + rf"^{''.join(parts)}$"


def _one_of(column: pl.Expr, dtype: DType, values: Sequence[Value]) -> pl.Expr:
    """Whether a column is one of some values or, if it is a list, holds one: one look-up in a set, however many."""
    if isinstance(dtype, pl.List) and dtype.inner != pl.Null:
        return column.list.eval(_one_of(pl.element(), dtype.inner, values)).list.any()
    if dtype in (pl.Null, pl.List(pl.Null)):
        return pl.lit(None, pl.Boolean)
    numbers = [v for v in values if not isinstance(v, str)]
    if dtype == pl.String and not numbers:
        fitting: Sequence[Value] = values
    elif dtype.is_integer() and len(numbers) == len(values):
        fitting = [int(v) for v in numbers if abs(v) < 2**63 and v == int(v)]  # a whole number equals no other
    elif dtype.is_float() and len(numbers) == len(values):
        fitting = [float(v) for v in numbers]
    elif dtype == pl.Boolean and len(numbers) == len(values):
        fitting = [bool(v) for v in numbers if v in (0, 1)]
    else:
        kind = "numbers" if dtype.is_numeric() else "texts" if dtype == pl.String else str(dtype)
        raise DataError(f"the values asked for are not of the column's kind: it holds {kind}")
    return column.is_in(pl.lit(pl.Series(fitting, dtype=dtype, strict=False).drop_nulls()).implode())
