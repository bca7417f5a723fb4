"""A structured answer in the form of a caller's JSON schema."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Never
from urllib.parse import unquote

from jsonschema_rs import Draft202012Validator, FancyRegexOptions

from ..errors import invalid

NAMES = {  # words in the names of properties, and what of an item or an answer they hold
    "reason": ("reason", "explanation", "why"),
    "title": ("title", "name", "movie", "film", "product", "item"),
    "item_id": ("id", "item_id", "sku", "asin"),
    "score": ("score", "relevance", "confidence", "value", "rating", "prediction", "expected"),
    "probability": ("probability", "prob", "chance"),
    "rank": ("rank", "position", "place", "index"),
    "year": ("year",),
    "text": ("text", "answer", "message", "summary", "response", "content", "description"),
}
DEPTH = 20
PARTS = 20_000  # parts of a schema, once its references are followed, and values of an answer
CHARACTERS = 1_000_000  # of an answer
PATTERNS = FancyRegexOptions(backtrack_limit=100_000)


def filled(schema: object, answer: Mapping[str, Any], text: str, field: str) -> str:
    """JSON that meets a schema: the text if it is such JSON, else filled from an answer (`items`, `value`,
    `probabilities`) and its text.

    Raises ApiError 400 if `field` holds no schema, or one that nothing of the answer meets.
    """
    if not isinstance(schema, dict):
        raise invalid(f"{field}: a JSON schema is an object", field, "invalid_type")
    check_size(schema, field)
    try:
        validator = Draft202012Validator(schema, retriever=not_retrieved, pattern_options=PATTERNS)
    except ValueError as error:
        raise invalid(f"{field} is not a JSON schema: {why(error)}", field) from error
    try:
        if validator.is_valid(json.loads(text)):
            return text
    except ValueError:
        pass  # no JSON
    value = Filler(schema, list(answer.get("items") or []), field).fill(schema, {**answer, "text": text}, "", 0)
    try:
        validator.validate(value)
    except ValueError as error:
        raise invalid(f"the answer cannot be put in the form of {field}: {why(error)}", field) from error
    return json.dumps(value, ensure_ascii=False)


def why(error: ValueError) -> str:
    """The reason of an error, without the schema and the value."""
    return str(getattr(error, "message", error))[:500]


def not_retrieved(uri: str) -> Never:
    """Schemas elsewhere are not asked for."""
    raise ValueError(f"{uri} is not followed")


def check_size(schema: Mapping[str, Any], field: str) -> None:
    """Raises ApiError 400 for a schema that refers to others than its own parts, or is endless to go through."""
    left, waiting = PARTS, [(schema, frozenset[str]())]
    while waiting:
        part, followed = waiting.pop()
        left -= 1
        if left < 0:
            raise invalid(f"{field} has more than {PARTS:,} parts, once its references are followed", field)
        if isinstance(part, list):
            waiting += [(p, followed) for p in part]
        if not isinstance(part, Mapping):
            continue
        waiting += [(p, followed) for p in part.values()]
        for name in ("$ref", "$dynamicRef", "$recursiveRef"):
            reference = part.get(name)
            if not isinstance(reference, str):
                continue
            if reference in followed:  # checking an answer against it could take as long as can be
                raise invalid(f"{field}: {name} {reference!r} refers to itself, which is not supported", field)
            if reference != "#" and not reference.startswith("#/"):
                raise invalid(f"{field}: {name} {reference!r} is not followed, only #/... is", field)
            waiting.append((resolved(schema, reference), followed | {reference}))
        if part is not schema and isinstance(part.get("$id"), str):
            raise invalid(f"{field}: an $id within a schema is not supported (given: {part['$id']!r})", field)


def resolved(root: Mapping[str, Any], reference: str) -> Any:
    """The part of a schema that a reference such as `#/$defs/Item` names."""
    part: Any = root
    for name in unquote(reference).removeprefix("#").strip("/").split("/"):
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(part, list):
            part = part[int(name)] if name.isdecimal() and int(name) < len(part) else {}
        elif name:
            part = part.get(name, {}) if isinstance(part, Mapping) else {}
    return part


class Filler:
    """Values for a schema; a list of the schema becomes the list of the answer."""

    def __init__(self, root: Mapping[str, Any], items: Sequence[Mapping[str, Any]], field: str) -> None:
        self.root, self.items, self.field, self.left, self.room = root, items, field, PARTS, CHARACTERS

    def fill(self, schema: Any, values: Mapping[str, Any], name: str, depth: int) -> Any:
        """A value for a schema. values: those of an item, or of the whole answer; name: the property's."""
        self.left -= 1
        if self.left < 0:
            raise invalid(f"{self.field} asks for more than {PARTS:,} values", self.field)
        if not isinstance(schema, Mapping) or depth > DEPTH:
            return None
        if "$ref" in schema:
            return self.fill(resolved(self.root, schema["$ref"]), values, name, depth + 1)
        if "const" in schema:
            return self.counted(schema["const"])
        for several in ("anyOf", "oneOf"):
            if schema.get(several):
                options = [o for o in schema[several] if not (isinstance(o, Mapping) and o.get("type") == "null")]
                return self.fill((options or schema[several])[0], values, name, depth + 1)
        if schema.get("allOf"):
            merged: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
            for part in schema["allOf"]:
                part = resolved(self.root, part["$ref"]) if isinstance(part, Mapping) and "$ref" in part else part
                if isinstance(part, Mapping):
                    properties = {**merged.get("properties", {}), **part.get("properties", {})}
                    merged |= {**part, **({"properties": properties} if properties else {})}
            return self.fill(merged, values, name, depth + 1)
        kinds = schema.get("type")
        kind = next((k for k in kinds if k != "null"), "null") if isinstance(kinds, list) else kinds
        if "enum" in schema:
            text = str(self.lookup(name, values, "string") or "").casefold()
            return self.counted(
                next((v for v in schema["enum"] if str(v).casefold() == text), next(iter(schema["enum"]), None))
            )
        if kind == "object" or "properties" in schema:
            return {k: self.fill(v, values, k, depth + 1) for k, v in schema.get("properties", {}).items()}
        if kind == "array" or "items" in schema:
            return self.array(schema, name, values, depth)
        return self.scalar(schema, str(kind or "string"), name, values)

    def array(self, schema: Mapping[str, Any], name: str, values: Mapping[str, Any], depth: int) -> list[Any]:
        """The answer's items, as many as the schema takes."""
        texts = values.get(name)
        if "item_id" in values and isinstance(texts, list):
            entries = [v for v in texts if isinstance(v, str)]
        else:
            entries = [
                self.fill(schema.get("items", {}), {**item.get("metadata", {}), **item}, singular(name), depth + 1)
                for item in self.items
            ]
        while len(entries) < int(schema.get("minItems", 0)):
            entries.append(self.fill(schema.get("items", {}), values, singular(name), depth + 1))
        return entries[: int(schema.get("maxItems", len(entries)))]

    def scalar(self, schema: Mapping[str, Any], kind: str, name: str, values: Mapping[str, Any]) -> Any:
        """A string, number or truth value."""
        value = self.lookup(name, values, kind)
        if kind in ("number", "integer"):
            number = float(value) if isinstance(value, (int, float)) else 0.0
            low, high = schema.get("minimum", -1e308), schema.get("maximum", 1e308)
            number = min(max(number, low), high)
            return round(number) if kind == "integer" else number
        if kind == "boolean":
            return bool(value) and value not in ("no", "0")
        if kind == "null":
            return None
        text = value if isinstance(value, str) else "" if value is None else str(value)
        return self.counted(text[: int(schema["maxLength"])] if "maxLength" in schema else text)

    def counted(self, value: Any) -> Any:
        """A value of the answer; raises ApiError if all of them together are too long."""
        self.room -= len(value if isinstance(value, str) else json.dumps(value))
        if self.room < 0:
            raise invalid(f"{self.field} asks for more than {CHARACTERS:,} characters", self.field)
        return value

    def lookup(self, name: str, values: Mapping[str, Any], kind: str) -> Any:
        """The value that a property's name asks for."""
        plain = words_of(name)
        if isinstance(values.get(name), (str, int, float)):
            return values[name]
        for key, words in NAMES.items():
            if any(w in plain for w in words) and values.get(key) is not None:
                return values[key]
        if kind == "string":
            return values.get("title") or values.get("text") or values.get("value")
        return values.get("value")


def words_of(name: str) -> list[str]:
    """`itemId` and `item_id` as item, id, item_id."""
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    return [*snake.replace("-", "_").split("_"), snake]


def singular(name: str) -> str:
    """`titles` as title."""
    return name[:-1] if name.endswith("s") else name
