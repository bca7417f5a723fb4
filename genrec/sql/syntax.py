"""SQL expressions as checked syntax trees: only columns, literals, operators and a short list of functions pass."""

import operator
from collections.abc import Callable, Iterator

import polars as pl
from sqlglot import Token, TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError

from ..errors import DataError

CHARACTERS = 100_000
TOKENS = 50_000
NESTED = 30  # nested parentheses and cases, and signs or NOTs in a row
NODES = 1_000  # without the literals of IN lists
DEPTH = 60  # of the tree; a chain of AND or OR is one level
STEPS = 5_000  # evaluations of nodes by polars; a node that is evaluated twice counts twice
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
    """An expression as messages quote it: its first 200 characters."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def parse(text: str) -> exp.Expr:
    """The checked syntax tree of an expression; raises DataError if it cannot be parsed or is not allowed."""
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
        position = f"{first.get('highlight') or 'the end'!r} (line {first.get('line')}, column {first.get('col')})"
        raise DataError(f"it is no SQL expression, see {position}") from error
    except ValueError as error:
        raise DataError("it is no SQL expression") from error
    except RecursionError as error:
        raise _too_deep(NESTED) from error
    if len(trees) != 1 or trees[0] is None:
        raise DataError("it is empty; write for example: year between 1990 and 1999")
    _check_tree(trees[0])
    return trees[0]


def _too_deep(limit: int) -> DataError:
    return DataError(f"it is nested too deeply: at most {limit} levels are allowed")


def _check_tokens(tokens: list[Token], text: str) -> None:
    """Refuse forbidden tokens before parsing; a word that is not a keyword of an expression becomes a column name.

    The parser backtracks on `array[` and on types such as `decimal(`, in time that doubles with each level.
    """
    if len(tokens) > TOKENS:
        raise DataError(f"{len(tokens):,} words and signs are too many: at most {TOKENS:,} are allowed")
    depth = prefixes = 0
    previous: Token | None = None
    for token in tokens:
        kind = token.token_type
        word = text[token.start : token.end + 1]
        is_word = (word[0].isalpha() or word[0] == "_") and word.casefold() == token.text.casefold()
        is_type = kind in _CASTS and previous is not None and previous.token_type in (TokenType.ALIAS, TokenType.DCOLON)
        if not (kind in _SIGNS or is_word or is_type):
            raise DataError(f"{shorten(word)} is not allowed; allowed are {ALLOWED}")
        if not (kind in _SIGNS or is_type or (kind in _WORDS and is_word)):
            trims = word.lower() in ("leading", "trailing", "both")
            token.token_type = TokenType.VAR if trims else TokenType.IDENTIFIER
        if kind == TokenType.L_PAREN and previous is not None and previous.token_type in _NAMES:
            if text[previous.start] == '"' or previous.text.lower() not in FUNCTIONS:
                raise _unknown_function(previous.text)
            previous.token_type = TokenType.VAR
        if kind in (TokenType.L_PAREN, TokenType.CASE):
            depth += 1
        elif kind in (TokenType.R_PAREN, TokenType.END):
            depth = max(0, depth - 1)
        prefixes = prefixes + 1 if kind in (TokenType.NOT, TokenType.DASH, TokenType.PLUS) else 0
        if depth > NESTED or prefixes > NESTED:
            raise _too_deep(NESTED)
        previous = token


def _unknown_function(name: str) -> DataError:
    function = exp.FUNCTION_BY_NAME.get(name.upper())
    if function is not None and issubclass(function, exp.AggFunc):
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
        allowed = NODE_ARGUMENTS.get(type(node))
        wrong = [k for k, v in node.args.items() if v and k not in (*(allowed or ()), *_FLAGS)]
        if allowed is None or wrong:
            form = f" with {wrong[0]}" if allowed is not None else ""
            raise DataError(f"{node.key.upper()}{form} is not allowed; allowed are {ALLOWED}")
        if isinstance(node, exp.Column):
            column_expression(node.name)
        for child in _children(node):
            deeper = 0 if isinstance(child, exp.Paren | exp.If) or _connects(node, child) else 1
            stack.append((child, depth + deeper, copies * (_repeats(node) if child is node.this else 1)))


def _children(node: exp.Expr) -> Iterator[exp.Expr]:
    """The child nodes to compile, in the order of the text, without the literals of an IN."""
    if isinstance(node, exp.In):
        yield node.this
    elif not isinstance(node, exp.Column | exp.Cast):
        yield from node.iter_expressions()
    elif isinstance(node, exp.Cast):
        yield node.this


def _connects(node: exp.Expr, child: exp.Expr) -> bool:
    inner = child.unnest()
    return isinstance(node, exp.And | exp.Or | exp.Paren) and (type(inner) is type(node.unnest()))


def _repeats(node: exp.Expr) -> int:
    """How often a node evaluates its first argument, or by which factor `replace` can lengthen it."""
    if isinstance(node, exp.Mod | exp.Nullif | exp.In):
        return 2
    if isinstance(node, exp.Case):
        return len(node.args.get("ifs") or ())
    if isinstance(node, exp.Replace):
        return 1 + len(text(node.args.get("replacement"))) // max(1, len(text(node.expression)))
    return 1


def column_names(tree: exp.Expr) -> list[str]:
    """The columns that a tree reads, each once, in the order of the text."""
    names: dict[str, None] = {}
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, exp.Column):
            names[node.name] = None
        stack.extend(reversed(list(_children(node))))
    return list(names)


PLAIN_NODES: dict[type[exp.Expr], Callable[..., pl.Expr]] = {
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
}  # functions of the compiled arguments, in the order of NODE_ARGUMENTS
_ONE, _TWO, _SOME = ("this",), ("this", "expression"), ("this", "expressions")
NODE_ARGUMENTS: dict[type[exp.Expr], tuple[str, ...]] = {
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
_FLAGS = ("safe", "coalesce", "typed", "ignore_nulls")  # dialect flags, which PLAIN_NODES ignore


def column_expression(name: str) -> pl.Expr:
    """A column by its exact name; raises DataError for a name that polars would expand as a pattern."""
    if len(name) > SHOWN:
        raise DataError(f"the name {shorten(name)} is too long: at most {SHOWN} characters are allowed")
    if name == "*" or (name.startswith("^") and name.endswith("$")):  # polars takes these for patterns of names
        raise DataError(f"no column can be called {name!r}")
    return pl.col(name)


def text(node: object) -> str:
    """The value of a text literal, empty for None; raises DataError for any other node."""
    if node is None:
        return ""
    if not (isinstance(node, exp.Literal) and node.is_string):
        raise DataError("the patterns of like, replace and trim are texts in quotes")
    return str(node.this)
