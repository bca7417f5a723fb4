"""docs/api.md from the OpenAPI schema that a server gives at /openapi.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genrec.serving.app import create_app
from genrec.serving.config import Keys, ServeConfig

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
HEAD = """# HTTP API

Written by `python scripts/docs.py` from the schema that a server gives at `/openapi.json` (`/docs` shows it as a page).
Every path also works without `/v1`. Errors have one shape, whatever asks:
`{"error": {"message", "type", "param", "code"}}`; `param` names the field that is wrong. A bold field is required.
How to start a server, keys, clients: [serving.md](serving.md).
"""


def kind_of(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(s) for s in schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {kind_of(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def fields_of(schema: Mapping[str, Any]) -> list[str]:
    """The fields of an object as a table."""
    required = set(schema.get("required", ()))
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for name, own in schema.get("properties", {}).items():
        shown = f"**{name}**" if name in required else name
        default = f"`{own['default']}`" if own.get("default") is not None else ""
        note = own.get("description", next((s["description"] for s in own.get("anyOf", ()) if "description" in s), ""))
        lines.append(f"| {shown} | {kind_of(own)} | {default} | {note} |")
    return lines if len(lines) > 2 else []


def page() -> str:
    """The whole of docs/api.md."""
    schema = create_app(ServeConfig(run="runs/demo"), Keys({})).openapi()
    lines = [HEAD]
    for path, methods in schema["paths"].items():
        for method, own in methods.items():
            lines += [f"## {method.upper()} {path}", "", own.get("description", ""), ""]
            if parameters := own.get("parameters"):
                lines += ["| parameter | in | type | |", "|---|---|---|---|"]
                for one in parameters:
                    name = f"**{one['name']}**" if one.get("required") else one["name"]
                    note = one.get("description", one["schema"].get("description", ""))
                    lines.append(f"| {name} | {one['in']} | {kind_of(one['schema'])} | {note} |")
                lines.append("")
            body = own.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            answer = next((r for code, r in own["responses"].items() if code.startswith("2")), {})
            reply = answer.get("content", {}).get("application/json", {}).get("schema")
            parts = [f"Body: {kind_of(body)}"] if body else []
            parts += [f"Answer: {kind_of(reply)}"] if reply and "$ref" in reply else []
            lines += ["; ".join(parts) + ".", ""] if parts else []
    lines.append("## Objects\n")
    for name, own in sorted(schema["components"]["schemas"].items()):
        table = fields_of(own)
        lines += [f"### {name}", "", own.get("description", ""), "", *table, *([""] if table else [])]
    return "\n".join(lines).rstrip() + "\n"
