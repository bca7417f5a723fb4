"""Task files: YAML to a checked Task; every error names file and line."""

import logging
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

import genrec

from ..errors import DataError, TaskError, unknown_name
from .nodes import NodeReader
from .numbers import number_word
from .task import Answer, Negatives, Task, sql_columns
from .templates import pieces, placeholders
from .truth import no_and_yes
from .units import RETURNS, SCHEMA, Unit, is_lookahead

log = logging.getLogger(__name__)
KINDS = ("item", "choices", "number")
DRAWS: tuple[Literal["popularity"], Literal["uniform"]] = ("popularity", "uniform")
UNITS: tuple[Unit, ...] = ("event", "user_time", "basket", "text")
ASK_PLACEHOLDERS = ("user_id", "item_id", "title", "titles", "k", "condition", "text")
_KEYS = (
    "task", "description", "unit", "needs", "label", "where", "dense", "horizon_days",
    "negatives", "answer", "weight", "ask", "templates",
)  # fmt: skip
_OPTIONAL = ("label", "where", "dense", "horizon_days", "negatives", "weight")
_UNREAD = ("version", "metrics")  # obsolete keys, which nothing reads
_PLACEHOLDERS: dict[Unit, tuple[str, ...]] = {
    "event": ("item",),
    "user_time": (),
    "basket": ("items",),
    "text": ("text",),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def shipped_tasks() -> dict[str, Task]:
    """The tasks that come with genrec, by name."""
    package = Path(genrec.__file__).parent
    folder = next((f for f in (package / "prompts", package.parent / "prompts") if f.is_dir()), None)
    if folder is None:
        raise TaskError(f"the shipped tasks are missing: no prompts folder in {package} or beside it; reinstall genrec")
    tasks = [load_task(path) for path in sorted(folder.glob("*.yaml"))]
    return {task.name: task for task in tasks}


def load_tasks(extra: Sequence[Path] = ()) -> dict[str, Task]:
    """The shipped tasks and the caller's, by name; a caller's task replaces a shipped one of the same name."""
    tasks = shipped_tasks()
    path_of: dict[str, Path] = {}
    for path in extra:
        task = load_task(path)
        if task.name in path_of:
            raise TaskError(f"{path}: the task '{task.name}' is also in {path_of[task.name]}; rename one of them")
        if task.name in tasks:
            log.warning("%s replaces the shipped task '%s'", path, task.name)
        if task.unread:
            log.warning("%s: nothing reads %s any more; delete them", path, " and ".join(task.unread))
        path_of[task.name] = path
        tasks[task.name] = task
    return tasks


def load_task(path: Path, trained: bool = False) -> Task:
    """Read and check one task file; every error is a TaskError that names file and line.

    trained: it is an adapter's, whose answers are settled.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise TaskError(f"{path}: cannot read the task file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise TaskError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        at = text.count("\n", 0, error.position) + 1
        raise TaskError(f"{path}:{at}: not valid YAML: the character U+{error.character:04X} is not allowed") from error
    except RecursionError as error:
        raise TaskError(f"{path}: nested too deeply") from error
    if root is None:
        raise TaskError(f"{path}:1: the file is empty; a task has the keys {', '.join(_KEYS)}")
    return _Reader(path, trained).task(root, text)


class _Reader(NodeReader):
    """Checks one file."""

    def __init__(self, path: Path, trained: bool) -> None:
        super().__init__(path)
        self.trained = trained

    def task(self, root: Node, text: str) -> Task:
        keys = self.mapping(root, "the task", (*_KEYS, *_UNREAD), (*_OPTIONAL, *_UNREAD))
        name = self.text(keys["task"], "task")
        if not _NAME.fullmatch(name):
            raise self.fail(keys["task"], f"task: {name!r} is not a name; use lower-case letters, digits and '_'")
        unit = self.one_of(keys["unit"], "unit", UNITS)
        answer, column = self.answer(keys["answer"])
        needs = self.texts(keys["needs"], "needs", quoted=False)
        horizon = self.integer(keys["horizon_days"], "horizon_days") if "horizon_days" in keys else None
        label = self.sql(keys["label"], "label", unit, needs, horizon) if "label" in keys else column
        if answer.kind == "item" and "label" in keys:
            raise self.fail(keys["label"], "label: not used where the answer is an item")
        if answer.kind != "item" and label is None:
            raise self.fail(keys["answer"], "label: missing; it is needed for this answer")
        self.unit_and_answer(keys["answer"], name, unit, answer)
        ahead = [c for c in (sql_columns(label) if label else ()) if is_lookahead(c)]
        if label and ahead and len(sql_columns(label)) > 1:
            raise self.fail(keys["label"], f"label: {ahead[0]} looks ahead and must be the only column of the label")
        if label and ahead and unit == "event" and ahead[0] == RETURNS:
            raise self.fail(keys["label"], f"label: {RETURNS} is for unit: user_time; an event has next_<event>_days")
        if unit == "user_time" and not ahead:
            raise self.fail(keys["unit"], "unit: user_time asks what comes later: the label must look ahead")
        if horizon and not ahead:
            raise self.fail(keys["horizon_days"], "horizon_days: the label does not look ahead, so it has no horizon")
        if "negatives" in keys and not ahead:
            raise self.fail(keys["negatives"], "negatives: only for a label that looks ahead (next_<event>_days)")
        negatives = self.negatives(keys["negatives"], unit, answer) if "negatives" in keys else None
        dense = self.truth(keys["dense"], "dense") if "dense" in keys else False
        if dense and (unit != "event" or answer.kind not in ("choices", "number")):
            raise self.fail(keys["dense"], "dense: only for unit: event with choices or a number as the answer")
        if label and answer.choices and not answer.values and not self.trained:
            self.truth_and_choices(keys["answer"], label, answer)
        fixed = {"days": str(horizon)} if horizon else {}
        if answer.choices:
            fixed["choices"] = " or ".join(filter(None, (", ".join(answer.choices[:-1]), answer.choices[-1])))
        return Task(
            name=name,
            description=self.text(keys["description"], "description"),
            unit=unit,
            needs=needs,
            label=label,
            answer=replace(answer, choices=no_and_yes(answer.choices) or answer.choices),
            weight=self.number(keys["weight"], "weight") if "weight" in keys else 1.0,
            negatives=negatives,
            where=self.sql(keys["where"], "where", unit, needs, horizon) if "where" in keys else None,
            dense=dense,
            ask=self.templates(keys["ask"], "ask", (*ASK_PLACEHOLDERS, *fixed), set(), fixed),
            **self.groups(keys["templates"], unit, answer, needs, label, fixed),
            horizon_days=horizon,
            path=self.path.name,
            text=text,
            unread=tuple(key for key in _UNREAD if key in keys),
        )

    def unit_and_answer(self, node: Node, name: str, unit: Unit, answer: Answer) -> None:
        """Raises TaskError if this kind of answer does not go with the unit."""
        if (unit == "basket") != (answer.kind == "item") and not (unit == "event" and name == "next_item"):
            allowed = "item" if unit == "basket" else "choices, number"
            raise self.fail(node, f"answer: {answer.kind} does not go with unit: {unit} here; allowed: {allowed}")

    def truth_and_choices(self, node: Node, label: str, answer: Answer) -> None:
        """Raises TaskError if the label is true or false and the choices do not tell which is which."""
        from .. import sql

        if sql.is_condition(label) and no_and_yes(answer.choices) is None:
            how = f"case when {label} then WORD else OTHER end".replace('"', '\\"')
            raise self.fail(
                node,
                f"answer: the label is true or false, and {', '.join(answer.choices)} do not tell which choice is for "
                f'true: write ["no", "yes"], or which word is for which in the label, as label: "{how}" with both '
                "words in single quotes",
            )

    def answer(self, node: Node) -> tuple[Answer, str | None]:
        """The answer, and the column that it is read from if it names one."""
        keys = self.mapping(node, "answer", KINDS, KINDS)
        if len(keys) != 1:
            raise self.fail(
                node, f"answer: expected exactly one of {', '.join(KINDS)}, found {', '.join(keys) or 'none'}"
            )
        ((kind, value),) = keys.items()
        if kind == "item":
            if not self.truth(value, "answer: item"):
                raise self.fail(value, "answer: item: write true")
            return Answer("item"), None
        if kind == "number" and isinstance(value, ScalarNode):
            if not self.truth(value, "answer: number"):
                raise self.fail(value, "answer: number: write true, a list of numbers, or {column: NAME}")
            return Answer("number", from_data=True), None
        if isinstance(value, MappingNode):
            column = self.text(self.mapping(value, f"answer: {kind}", ("column",))["column"], "column")
            return Answer("choices" if kind == "choices" else "number", from_data=True), column
        if len(self.items(value, f"answer: {kind}")) < 2:
            raise self.fail(value, f"answer: {kind}: at least two are needed")
        if kind == "choices":
            choices = self.texts(value, "answer: choices", quoted=False)
            if braced := next((c for c in choices if set("{}") & set(c)), None):
                raise self.fail(value, f"answer: choices: {braced!r} has a brace; choices are plain words")
            return Answer("choices", choices=choices), None
        values = tuple(self.number(n, "answer: number", least=-math.inf) for n in value.value)
        if list(values) != sorted(set(values)):
            raise self.fail(value, "answer: number: write every number once, the smallest first")
        return Answer("number", choices=tuple(number_word(v) for v in values), values=values), None

    def negatives(self, node: Node, unit: Unit, answer: Answer) -> Negatives:
        keys = self.mapping(node, "negatives", ("per_positive", "draw"))
        if unit != "event" or answer.kind != "choices" or len(answer.choices) != 2:
            raise self.fail(node, "negatives: only for unit: event with two choices as the answer")
        return Negatives(self.integer(keys["per_positive"], "per_positive"), self.one_of(keys["draw"], "draw", DRAWS))

    def sql(self, node: Node, what: str, unit: Unit, needs: Sequence[str], horizon: int | None) -> str:
        from .. import sql

        text = self.text(node, what)
        try:
            used = sql.columns(text)
        except DataError as error:
            raise self.fail(node, f"{what}: cannot read the SQL expression {sql.shorten(text)}: {error}") from error
        columns = {
            *SCHEMA,
            *needs,
            *(("item_ids",) if unit == "basket" else ()),
            *(("text",) if unit == "text" else ()),
        }
        for column in used:
            if is_lookahead(column):
                required = ["user_id", "timestamp"] + (
                    ["item_id"] if unit == "event" and column != "returns_days" else []
                )
                if unit not in ("event", "user_time"):
                    raise self.fail(node, f"{what}: {column} exists only for unit: event or user_time")
                if horizon is None:
                    raise self.fail(node, f"{what}: {column} looks ahead, so the task must state horizon_days")
                if missing := [c for c in required if c not in needs]:
                    raise self.fail(node, f"{what}: {column} is computed from {', '.join(missing)}: add it to needs")
            elif column not in columns:
                names = [*sorted(columns), "next_<event>_days", "returns_days"]
                raise self.fail(
                    node, unknown_name("column", column, names, f"in {what}; add it to needs if the data has it")
                )
        return text

    def templates(
        self,
        node: Node,
        what: str,
        allowed: Sequence[str],
        required: Collection[str],
        fixed: Mapping[str, str],
        line_of: dict[str, int] | None = None,
    ) -> tuple[str, ...]:
        """Checked templates, `fixed` values filled in; `line_of`: the line of each text so far, across lists."""
        texts = self.texts(node, what, quoted=True)
        for item, text in zip(self.items(node, what), texts, strict=True):
            try:
                names = placeholders(text)
            except TaskError as error:
                raise self.fail(item, f"{what}: {error}") from error
            for name in names:
                if name not in allowed:
                    raise self.fail(item, unknown_name("placeholder", name, allowed, f"in {what}"))
            if text != text.strip():
                raise self.fail(item, f"{what}: {text!r} begins or ends in white space")
            if required and not set(required) & set(names):
                placeholder = " or ".join(f"{{{r}}}" for r in required)
                raise self.fail(item, f"{what}: {text!r} lacks {placeholder}: it would ask the same of everything")
            if line_of is not None:
                if text.casefold() in line_of:
                    first = line_of[text.casefold()]
                    raise self.fail(item, f"{what}: {text!r} appears twice (first on line {first})")
                line_of[text.casefold()] = item.start_mark.line + 1
        return tuple(_fill(text, fixed) for text in texts)

    def groups(
        self,
        node: Node,
        unit: Unit,
        answer: Answer,
        needs: Sequence[str],
        label: str | None,
        fixed: Mapping[str, str],
    ) -> dict[str, tuple[str, ...]]:
        next_item = unit == "event" and answer.kind == "item"  # which can also be asked under a condition
        conditions = ("conditioned", "like") if next_item else ()
        keys = self.mapping(node, "templates", ("seen", "unseen", *conditions), conditions)
        names = [] if next_item else [*_PLACEHOLDERS[unit]]  # the next item is the target
        if unit == "text":  # hide the columns that determine the answer
            hidden = {"user_id", "item_id", "timestamp", "basket", *(sql_columns(label) if label else ())}
            names += [n for n in needs if n not in hidden and n not in names]
        line_of: dict[str, int] = {}
        groups = {
            k: self.templates(keys[k], f"templates: {k}", [*names, *fixed], names, fixed, line_of)
            for k in ("seen", "unseen")
        }
        for group, name in (("conditioned", "condition"), ("like", "item")):
            inner = self.mapping(keys[group], f"templates: {group}", ("seen", "unseen")) if group in keys else {}
            for k in ("seen", "unseen"):
                what = f"templates: {group}: {k}"
                groups[f"{group}_{k}"] = (
                    self.templates(inner[k], what, [name, *fixed], [name], fixed, line_of) if k in inner else ()
                )
        return groups


def _fill(template: str, fixed: Mapping[str, str]) -> str:
    parts = (p if isinstance(p, str) else fixed.get(p.name, f"{{{p.name}}}") for p in pieces(template))
    return "".join(parts)
