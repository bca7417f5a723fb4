"""Whole numbers as ids, and users whom nobody knows, on every way that leads to a run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Server, serving

from genrec.cli import main


@pytest.fixture(scope="module")
def server(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows the user 1 and the item 42, with keys for everybody and for one user."""
    folder = tmp_path_factory.mktemp("callers")
    shutil.copytree(toy_run, folder / "run")
    (folder / "keys").write_text("all\nown u002\nnew nobody-yet\n")
    with serving(folder / "run", "--keys", str(folder / "keys"), "--record-events") as found:
        item = {"items": [{"item_id": 42, "title": "red 42"}]}
        assert found.call("/v1/items", item, x_api_key="all")[:2] == (
            201,
            {"dataset": "chain", "added": 1, "updated": 0},
        )
        events = [{"user_id": 1, "item_id": "003", "event": "like"}, {"user_id": 1.0, "item_id": 42, "event": "like"}]
        answer = found.call("/v1/events", {"events": events}, x_api_key="all")[1]
        assert answer == {"recorded": 2, "duplicates": 0, "errors": []}
        yield found


def tool(server: Server, name: str, **arguments: object) -> tuple[bool, str]:
    """Whether a tool fails, and what it says."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    headers = {"accept": "application/json, text/event-stream", "x_api_key": "all"}
    found = server.get("/mcp", body=body, **headers)["result"]
    return bool(found.get("isError")), found["content"][0]["text"]


@pytest.mark.parametrize(
    ("path", "body", "same"),
    [
        ("recommendations", {"user_id": 1}, {"user_id": "1"}),
        ("recommendations", {"user_id": 1.0, "exclude": [42]}, {"user_id": "1", "exclude": ["42"]}),
        ("recommendations", {"history": [42, "003"]}, {"history": ["42", "003"]}),
        ("recommendations", {"history": [{"item_id": 42}]}, {"history": [{"item_id": "42"}]}),
        ("recommendations", {"item_id": 42}, {"item_id": "42"}),
        ("recommendations", {"query": 2}, {"query": "2"}),
        ("rank", {"user_id": 1, "items": [42, "001"]}, {"user_id": "1", "items": ["42", "001"]}),
        ("predictions", {"user_id": 1, "item_id": 42}, {"user_id": "1", "item_id": "42"}),
    ],
)
def test_whole_numbers_are_ids_in_rest(server: Server, path: str, body: Any, same: Any) -> None:
    first, second = (server.get(f"/v1/{path}", body=b, x_api_key="all") for b in (body, same))
    for reply in (first, second):
        reply.pop("recommendation_id", None)
    assert first == second and (first.get("items") or first.get("predictions"))


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("recommendations", {"user_id": True}, "user_id"),
        ("recommendations", {"user_id": 1.5}, "user_id"),
        ("recommendations", {"history": [True]}, "history[0]"),
        ("recommendations", {"history": ["003", [1]]}, "history[1]"),
        ("recommendations", {"history": [{"item_id": None}]}, "history[0].item_id"),
        ("rank", {"items": [None]}, "items[0]"),
        ("predictions", {"user_id": {}}, "user_id"),
    ],
)
def test_what_is_no_id_is_named_in_plain_words(server: Server, path: str, body: Any, param: str) -> None:
    status, answer, _ = server.call(f"/v1/{path}", body, x_api_key="all")
    assert (status, answer["error"]["param"]) == (400, param)
    assert answer["error"]["message"].startswith(f"{param}: a text or a whole number is needed")
    event = {"events": [{"user_id": 1, "item_id": True}]}
    (error,) = server.get("/v1/events", body=event, x_api_key="all")["errors"]
    assert error["message"] == "item_id: a text or a whole number is needed"


def test_schemas_allow_whole_numbers(server: Server) -> None:
    schema = server.get("/openapi.json")["components"]["schemas"]
    kinds = [kind.get("type") for kind in schema["RecommendationsRequest"]["properties"]["user_id"]["anyOf"]]
    assert kinds == ["string", "integer", "null"]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"accept": "application/json, text/event-stream", "x_api_key": "all"}
    (recommend,) = [t for t in server.get("/mcp", body=body, **headers)["result"]["tools"] if t["name"] == "recommend"]
    assert recommend["inputSchema"]["properties"]["history"]["anyOf"][0]["items"]["anyOf"] == [
        {"type": "string"},
        {"type": "integer"},
    ]


def test_whole_numbers_are_ids_in_tools(server: Server) -> None:
    for history in ([42, "003"], "42,003", "42, 003"):
        failed, text = tool(server, "recommend", history=history, n=2)
        assert not failed and len(json.loads(text)["items"]) == 2 and not json.loads(text)["unknown_ids"]
    assert json.loads(tool(server, "recommend", user_id=1, query=2, exclude=42)[1])["strategy"] == "model"
    assert "value" in json.loads(tool(server, "predict", user_id=1, item_id=42)[1])
    assert not tool(server, "explain_recommendation", user_id=1, item_id=42)[0]
    assert not tool(server, "rank_items", user_id=1, items=[42, "001"])[0]
    assert json.loads(tool(server, "get_user_history", user_id=1)[1])["events"] == 2
    assert tool(server, "recommend", user_id=True) == (True, "user_id: a text or a whole number is needed")
    assert tool(server, "recommend", history=[None]) == (True, "history[0]: a text or a whole number is needed")


def test_an_unknown_user_is_named_everywhere(server: Server) -> None:
    found = server.get("/v1/recommendations", body={"user_id": 999, "num_results": 2}, x_api_key="all")
    assert (found["strategy"], found["user_id"], len(found["items"])) == ("popular", "999", 2)
    assert found["warnings"][0].startswith("user 999 is unknown") and "nearest ids" in found["warnings"][0]
    like = server.get("/v1/recommendations", body={"user_id": 999, "item_id": "003"}, x_api_key="all")
    assert like["strategy"] == "similar" and "user 999 is unknown" in like["warnings"][0]
    reply = json.loads(tool(server, "recommend", user_id=999)[1])
    assert reply["strategy"] == "popular" and reply["warnings"] == found["warnings"]
    for asked, named in (("recommend for user 999", {}), ("recommend something", {"user": "999"})):
        chat = server.chat(asked, headers={"x_api_key": "all"}, **named)
        assert chat["genrec"]["strategy"] == "popular" and chat["genrec"]["warnings"] == found["warnings"]
    ranked = server.get("/v1/rerank", body={"query": "red", "documents": ["red 2"], "user": "999"}, x_api_key="all")
    assert ranked["warnings"] == found["warnings"]
    assert server.call("/v1/predictions", {"user_id": 999, "item_id": "003"}, x_api_key="all")[0] == 404
    assert server.call("/v1/users/999", x_api_key="all")[0] == 404
    assert tool(server, "predict", user_id=999, item_id="003")[0]
    assert tool(server, "explain_recommendation", user_id=999, item_id="003")[0]


def test_a_bound_key_is_told_of_no_other_user(server: Server) -> None:
    found = server.get("/v1/recommendations", body={"num_results": 2}, x_api_key="new")
    assert found["strategy"] == "popular"
    assert found["warnings"] == ["user nobody-yet is unknown, so the list is not personal"]
    chat = server.chat("recommend something", headers={"x_api_key": "new"})
    assert "u0" not in chat["content"] and chat["genrec"]["warnings"] == found["warnings"]
    error = server.call("/v1/predictions", {"item_id": "003"}, x_api_key="new")[1]["error"]
    assert error["message"] == "Unknown user 'nobody-yet'."


def test_an_unknown_user_on_the_command_line(toy_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(toy_run), "--user", "u01", "-k", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["strategy"], found["user_id"], len(found["items"])) == ("popular", "u01", 2)
    assert found["warnings"] == ["user u01 is unknown, so the list is not personal; nearest ids: u001, u010, u011"]
    (tmp_path / "users.csv").write_text("user_id\nu001\nu01\n")
    out = tmp_path / "lists.csv"
    assert main(["recommend", str(toy_run), "--users", str(tmp_path / "users.csv"), "--out", str(out), "-k", "1"]) == 0
    assert "warning: user u01 is unknown" in capsys.readouterr().err and len(out.read_text().splitlines()) == 3
    assert main(["ask", "recommend for user 999", "--run", str(toy_run)]) == 0
    assert "User 999 is unknown." in capsys.readouterr().out
    assert main(["ask", "what would user 999 rate red 2?", "--run", str(toy_run)]) == 2
    assert "Unknown user '999'" in capsys.readouterr().err
    assert main(["predict", str(toy_run), "--task", "rating", "--user", "u01", "--item", "003"]) == 2
    assert main(["recommend", str(toy_run), "--user", " "]) == 2
    assert "--user: id is ' ': an empty text is no id" in capsys.readouterr().err
