"""Requests that no client should send: each is answered or refused by name, and the server goes on."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from serving import Server, serving


def asking(more: str) -> str:
    """A chat, and another field."""
    return '{"messages": [{"role": "user", "content": "recommend 3 items for user u001"}], ' + more + "}"


HALF = r'"\ud83d"'  # of an emoji that was cut in two; stands for HALF below
CHAT = [
    '{"messages": [{"role": "user", "content": HALF}]}',
    '{"messages": [{"role": "user", "content": "for user \\u0000"}]}',
    '{"messages": [{"role": "user", "content": "recommend"}], "user": "a\\u0000"}',
    '{"messages": [{"role": "user", "content": "recommend"}], "user": HALF}',
    asking('"max_tokens": 1e999'),
    asking('"max_tokens": 1' + "0" * 400),
    asking('"n": NaN'),
    asking('"model": HALF'),
    asking('"stop": [HALF]'),
    asking('"metadata": {"user_id": HALF}'),
    "[" * 100_000,
    '{"messages": [{"role": "user", "content": ' + "[" * 300 + '"a"' + "]" * 300 + "}]}",
]
OTHERS = [
    ("/v1/completions", '{"prompt": [99999999999999999999]}'),
    ("/v1/completions", '{"prompt": [-1]}'),
    ("/v1/embeddings", '{"input": [123456789]}'),
    ("/v1/embeddings", '{"input": HALF}'),
    ("/v1/embeddings", '{"input": "x", "dimensions": 1e999}'),
    ("/v1/responses", '{"input": HALF}'),
    ("/v1/rerank", '{"query": HALF, "documents": ["a"]}'),
    ("/v1/rerank", '{"query": "a", "documents": ["a"], "top_n": 1e999}'),
    ("/v1/recommendations", '{"user_id": "a\\u0000b"}'),
    ("/v1/recommendations", '{"user_id": HALF}'),
    ("/v1/recommendations", '{"query": "a\\u0000b"}'),
    ("/v1/recommendations", '{"history": [{"item_id": "001", "event": "\\u0000"}]}'),
    ("/v1/recommendations", '{"filter": {"year": {"any": ["nan"]}}}'),
    ("/v1/recommendations", '{"filter": {"year": {"any": ["1e999"]}}}'),
    ("/v1/recommendations", '{"filter": {"colour": {"any": ["\\u0000"]}}}'),
    ("/v1/recommendations", '{"filter": {"colour": {"any": ["a\' or 1=1 --"]}}}'),
    ("/v1/recommendations", '{"filter": {"colo\\"ur": {"any": ["a"]}}}'),
    ("/v1/recommendations", '{"num_results": 1e999}'),
    ("/v1/recommendations", '{"seed": 1e30}'),
    ("/v1/recommendations", '{"dataset": "\\u0000"}'),
    ("/v1/recommendations", '{"dataset": HALF}'),
    ("/v1/rank", '{"items": ["\\u0000"], "user_id": "u001"}'),
    ("/v1/predictions", '{"task": "\\u0000", "user_id": "u001", "item_id": "001"}'),
    ("/v1/predictions", '{"task": "rating", "user_id": "\\u0000", "item_id": "001"}'),
    ("/v1/events", '{"events": [{"user_id": "good", "item_id": "001", "timestamp": 4611686018427387904}]}'),
    ("/v1/items", '{"items": [{"item_id": "n\\u0000", "title": "red"}]}'),
    ("/v1/items", '{"items": [{"item_id": "n1", "title": "red\\u0000"}]}'),
    ("/v1/items", '{"items": [{"item_id": "n2", "title": "red", "colour": HALF}]}'),
    ("/v1/items", '{"items": [{"item_id": "n3", "title": "red", "year": 1e999}]}'),
    ("/v1/items", '{"items": [{"item_id": "n4", "title": "red", "\\u0000": 1}]}'),
    ("/v1/items", '{"items": [{"item_id": "n5", "title": "red", "colour": {"a": [1]}}]}'),
    *((f"{how} /v1/users/{name}", None) for how in ("GET", "DELETE") for name in ("%00", "%ff", "%ED%A0%80")),
    *(
        (f"GET /v1/{path}", None)
        for path in ("items/%00", "items/%00/similar", "items?q=%00", "items?q=%ff", "users?q=%00", "models/%00")
    ),
    ("GET /v1/metrics/summary?dataset=%00", None),
]
WIDE = {"type": "object", "properties": {c: {"$ref": "#"} for c in "abcdefgh"}}
DOUBLED = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {"type": "string"}}
KNOT = {c: {"anyOf": [{"$ref": f"#/$defs/{other}"} for other in "abcdefghijkl"]} for c in "abcdefghijkl"}


def nested(depth: int) -> dict[str, object]:
    """An array of arrays of arrays ..."""
    schema: dict[str, object] = {}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


SCHEMAS = [
    nested(400),
    {"type": "array", "maxItems": 2.0, "minItems": 1.0},
    {"type": "array", "minItems": 100_000_000},
    {"enum": []},
    WIDE,
    {"$defs": DOUBLED, "$ref": "#/$defs/d0"},
    {"$defs": KNOT, "$ref": "#/$defs/a"},
    {"$ref": "#"},
    {"$ref": "#/a b/%zz"},
    {"$ref": "#/properties/a/anyOf/7", "properties": {"a": {"anyOf": [{}]}}},
    {"$dynamicRef": "#x"},
    {"properties": {"a": {"$id": "https://example.com/", "$ref": "#/b"}}},
    {"properties": {"answer": {"type": "string", "pattern": "("}}},
    {"properties": {"answer": {"type": "string", "pattern": r"^(([a-z0-9 :*`\n])+.)+[A-Z]([a-z])+#$"}}},
    {"properties": {"a" * 40: {}}, "patternProperties": {"^(a+)+$": {}, "^((a+)+b)+$": False}},
]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_odd_values_are_answered_or_refused(
    toy_run: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    store = ["--store", request.getfixturevalue("postgres_url")] if kind == "postgres" else []
    shutil.copytree(toy_run, tmp_path / "toy")
    with serving(tmp_path / "toy", *store) as server:
        check_values(server)
        check_events(server)


def check_values(server: Server) -> None:
    """Nothing fails, and what is refused is refused with a reason."""
    found = {}
    for path, body in [*(("/v1/chat/completions", b) for b in CHAT), *OTHERS]:
        method, _, name = path.rpartition(" ")
        status, said, _ = server.call(name, body and body.replace("HALF", HALF).encode(), method or "POST")
        if status >= 500 or (status >= 400 and not said["error"]["message"]):
            found[f"{path} {(body or '')[-150:]}"] = (status, said)
    assert found == {}
    assert server.chat("recommend for user u001")["genrec"]["items"]
    assert server.get("/v1/recommendations", body={"user_id": "u001"})["items"]


def check_events(server: Server) -> None:
    """Odd ones are named by their fields, the others are kept."""
    named = {"event_id": "a\0", "review": "\0", "recommendation_id": "\0", "event_type": "\0", "user_id": " "}
    good = {"user_id": "someone", "item_id": "001"}
    body = {"events": [good, *({**good, field: value} for field, value in named.items()), {**good, "item_id": "002"}]}
    reply = server.get("/v1/events", body=body)
    assert reply["recorded"] == 2
    assert [(e["index"], e["param"]) for e in reply["errors"]] == list(enumerate(named, 1))


@pytest.fixture(scope="module")
def server(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    copy = tmp_path_factory.mktemp("served") / "toy"
    shutil.copytree(toy_run, copy)
    with serving(copy, "--timeout", "20") as found:
        yield found


def test_odd_schemas_are_met_or_refused_soon(server: Server) -> None:
    found = {}
    for schema in SCHEMAS:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = asking(f'"response_format": {json.dumps(form)}').encode()
        status, said, _ = server.call("/v1/chat/completions", body)
        if status not in (200, 400):
            found[str(schema)[:200]] = (status, said)
    assert found == {}


def test_long_messages_are_read_in_part(server: Server) -> None:
    for more in ("red 2 blue 3 ", "a, ", "not red 2 ", "'a ", "x"):
        text = "recommend 3 items for user u001: " + more * (100_000 // len(more))
        assert any("2,000 of" in w for w in server.chat(text)["genrec"]["warnings"])
    task = "### Task:\nGenerate 1-3 broad tags categorizing the main themes.\n"
    for more in ("\n", "<chat_history>", " \n1. "):
        assert server.chat(task + more * (100_000 // len(more)))["content"].startswith('{"tags"')


def test_schemas_elsewhere_are_not_fetched(server: Server) -> None:
    asked = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{web.server_port}/x"
        for schema in (
            {"$ref": url},
            {"properties": {"a": {"$ref": url}}},
            {"$schema": url},
            {"$id": url, "$ref": "y"},
        ):
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            body = {"messages": [{"role": "user", "content": "recommend 3 items"}], "response_format": form}
            assert server.call("/v1/chat/completions", body)[0] in (200, 400)
        web.shutdown()
    assert asked == []
