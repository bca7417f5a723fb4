"""A server as its callers meet it: a real process, real HTTP."""

import concurrent.futures
import http.client
import json
import math
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from serving import SECRET, Server, serving, user_token
from waiting import until

import genrec

LISTED = re.compile(r"^(\d+)\. \*\*(.+?)\*\*.* `(\S+)`$", re.M)


@pytest.fixture(scope="module")
def run(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("served") / "toy"
    shutil.copytree(toy_run, copy)
    return copy


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Server]:
    with serving(run, "--timeout", "20") as found:
        yield found


def ids_of(text: str) -> list[str]:
    return [m[3] for m in LISTED.finditer(text)]


# --- recommendations ----------------------------------------------------------------------------------------------


def test_lists_are_those_of_the_command_line(server: Server, run: Path) -> None:
    options = ["--user", "u001", "-k", "5", "--json"]
    said = subprocess.run([sys.executable, "-m", "genrec", "recommend", str(run), *options], capture_output=True)
    expected = json.loads(said.stdout)["items"]
    found = server.get("/v1/recommendations", body={"user_id": "u001", "num_results": 5})
    assert [i["item_id"] for i in found["items"]] == [i["item_id"] for i in expected]
    assert [i["score"] for i in found["items"]] == pytest.approx([i["score"] for i in expected], abs=1e-4)
    assert found["strategy"] == "model"
    assert found["items"][0]["metadata"].keys() == {"colour", "year"}
    again = server.get("/recommendations", body={"user_id": "u001", "n": 5})  # without /v1, and n for num_results
    assert [i["item_id"] for i in again["items"]] == [i["item_id"] for i in expected]


def test_a_history_a_wish_and_filters_narrow_a_list(server: Server) -> None:
    red = server.get("/v1/recommendations", body={"history": ["001", "002"], "query": "red ones", "num_results": 3})
    assert {i["metadata"]["colour"] for i in red["items"]} == {"red"}
    filters = {"colour": {"none": ["red"]}, "year": {"gte": 1984, "lte": 1990}}
    blue = server.get("/v1/recommendations", body={"history": ["001"], "filter": filters, "num_results": 10})
    assert sorted(i["item_id"] for i in blue["items"]) == ["005", "007", "009"]
    rated = [{"item_id": "004", "rating": 5, "timestamp": 3}, {"item_id": "nothing"}]
    after = server.get("/v1/recommendations", body={"history": rated, "num_results": 1, "explain": True})
    assert after["items"][0]["item_id"] == "005"
    assert after["unknown_ids"] == ["nothing"]
    unlike = server.get("/v1/recommendations", body={"history": ["001"], "diversity": 1, "num_results": 6})
    assert len({i["item_id"] for i in unlike["items"]}) == 6


def test_nobody_knows_this_user(server: Server) -> None:
    found = server.get("/v1/recommendations", body={"user_id": "someone new", "num_results": 3})
    assert found["strategy"] == "popular" and "user someone new is unknown" in found["warnings"][0]
    assert len(found["items"]) == 3


def test_events_count_from_the_next_request_on(server: Server) -> None:
    user = "visitor"
    event = {"event_id": "e-1", "session_id": user, "item_id": "006", "event_type": "like"}
    status, found, _ = server.call("/v1/events", {"events": [event, {"session_id": user, "item_id": "none"}, {}]})
    assert status == 202
    assert (found["recorded"], found["duplicates"]) == (1, 0)
    assert [(e["index"], e["param"]) for e in found["errors"]] == [(1, "item_id"), (2, "item_id")]
    assert server.get("/v1/events", body={"events": [event]})["duplicates"] == 1
    assert server.get(f"/v1/users/{user}")["history"][0]["rating"] == 5  # the best there is
    listed = server.get("/v1/recommendations", body={"session_id": user, "num_results": 3})
    assert listed["items"][0]["item_id"] == "007"  # each item is followed by the next one
    followed = {"user_id": user, "item_id": "007", "recommendation_id": listed["recommendation_id"], "value": 1}
    server.get("/v1/events", body={"events": [followed]})
    assert server.get("/v1/recommendations", body={"user_id": user, "num_results": 1})["items"][0]["item_id"] == "008"
    summary = server.get("/v1/metrics/summary")["summary"]
    assert summary["recommendations_followed"] == 1
    assert server.get(f"/v1/users/{user}", method="DELETE")["deleted"]["events"] == 2
    assert server.call(f"/v1/users/{user}")[0] == 404
    assert server.get("/v1/recommendations", body={"user_id": user})["strategy"] == "popular"


def test_what_was_deleted_is_in_no_file(server: Server, run: Path) -> None:
    secret = "a-very-private-name"
    server.get("/v1/events", body={"events": [{"user_id": secret, "item_id": "001"}]})
    server.get("/v1/recommendations", body={"user_id": secret})
    server.get(f"/v1/users/{secret}", method="DELETE")
    files = [f for f in run.rglob("*") if f.is_file()]
    assert files and not [f for f in files if secret.encode() in f.read_bytes()]


def test_an_added_item_is_ranked_at_once_and_after_a_restart(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    item = {"item_id": "new", "title": "red 40", "colour": "red", "year": 2020}
    for restart in (False, True):
        with serving(copy) as server:
            if not restart:
                assert server.call("/v1/items", {"items": [item]})[:2][0] == 201
            found = server.get("/v1/rank", body={"user_id": "u001", "items": ["001", "new", "002"]})
            assert {i["item_id"] for i in found["items"]} == {"001", "new", "002"}
            assert server.get("/v1/items?q=red%2040")["items"][0]["item_id"] == "new"
            assert "red 40" in server.chat("recommend 13 items after 2015 for user u001")["content"]
            status, wrong, _ = server.call("/v1/items", {"items": [{"item_id": "x", "title": "y", "taste": "z"}]})
            assert (status, wrong["error"]["code"]) == (400, "invalid_value")
            assert "taste" in wrong["error"]["message"] and "colour" in wrong["error"]["message"]


def test_predictions_are_those_of_the_command_line(server: Server, run: Path) -> None:
    options = ["--task", "rating", "--user", "u001", "--item", "004", "--json"]
    said = subprocess.run([sys.executable, "-m", "genrec", "predict", str(run), *options], capture_output=True)
    found = server.get("/v1/predictions", body={"task": "rating", "user_id": "u001", "items": ["004", "005"]})
    assert found["predictions"][0]["value"] == pytest.approx(json.loads(said.stdout)["value"], abs=1e-4)
    assert found["predictions"][0]["value"] > 3 > found["predictions"][1]["value"]  # even ones are liked
    assert sum(found["predictions"][0]["probabilities"].values()) == pytest.approx(1)


def test_predictions_for_a_history_are_those_of_python(server: Server, run: Path) -> None:
    expected = genrec.load(run).predict("rating", history=[("002", 5), ("003", 1)], items="004")
    history = [{"item_id": "002", "rating": 5}, {"item_id": 3, "rating": 1}]
    status, wrong, _ = server.call("/v1/predictions", {"history": history, "item_id": "004"})
    assert (status, wrong["error"]["code"]) == (404, "unknown_item")  # ids that are digits are texts: 3 is not 003
    history[1]["item_id"] = "003"
    found = server.get("/v1/predictions", body={"history": history, "item_id": "004"})["predictions"]
    assert found[0]["value"] == pytest.approx(expected.frame["value"][0], abs=1e-4)
    assert found[0]["user_id"] is None
    status, wrong, _ = server.call("/v1/predictions", {"history": [], "items": []})
    assert (status, wrong["error"]["message"]) == (400, "items is an empty list: give one at least")
    status, wrong, _ = server.call("/v1/predictions", {"history": [{"item_id": "002", "rating": 9}], "item_id": "004"})
    assert status == 400 and "a rating of 9" in wrong["error"]["message"]


# --- chats --------------------------------------------------------------------------------------------------------


def test_a_conversation_is_in_its_messages(server: Server) -> None:
    first = server.chat("recommend 3 items for user u001")
    listed = ids_of(first["content"])
    assert len(listed) == 3
    assert [i["item_id"] for i in first["genrec"]["items"]] == listed
    more = server.chat("recommend 3 items for user u001", first["content"], "more")
    assert not set(ids_of(more["content"])) & set(listed)
    assert more["content"].splitlines()[2].startswith("4. ")
    red = server.chat("recommend 3 items for user u001", first["content"], "only red ones")
    assert all("red" in m[2] for m in LISTED.finditer(red["content"]))
    seen = server.chat("recommend 3 items for user u001", first["content"], "I have seen the second one")
    assert listed[1] not in ids_of(seen["content"])
    other = server.chat("recommend 3 items for user u001", first["content"], "and for user u002?")
    assert other["genrec"]["understood"]["user_id"] == "u002"
    rating = server.chat("recommend 3 items for user u001", first["content"], "what would u001 rate the first one?")
    assert rating["genrec"]["task"] == "rating"


def test_whoever_asks_is_the_user(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": "recommend something"}]}
    for more in ({"user": "u003"}, {"user": {"id": "u003", "name": "x"}}, {"metadata": {"user_id": "u003"}}):
        found = server.get("/v1/chat/completions", body=body | more)["choices"][0]["message"]
        assert found["genrec"]["understood"]["user_id"] == "u003"
    assert server.chat("recommend something", user="a hash")["genrec"]["strategy"] == "popular"
    header = server.chat("recommend something", headers={"x_genrec_user": "u003"})
    assert header["genrec"]["understood"]["user_id"] is None  # nobody vouches for it without a key


def stream_of(server: Server, path: str, body: dict[str, object]) -> list[str]:
    status, text, headers = server.call(path, body | {"stream": True})
    assert status == 200 and headers["content-type"].startswith("text/event-stream"), text
    return [line[6:] for line in text.splitlines() if line.startswith("data: ")]


def test_streams_say_what_whole_answers_say(server: Server) -> None:
    messages = [{"role": "user", "content": "recommend 3 items for user u001"}]
    whole = server.get("/v1/chat/completions", body={"messages": messages})
    *events, done = stream_of(
        server, "/v1/chat/completions", {"messages": messages, "stream_options": {"include_usage": True}}
    )
    assert done == "[DONE]"
    chunks = [json.loads(e) for e in events]
    assert len({(c["id"], c["model"], c["created"]) for c in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    reasons = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]]
    assert reasons[-1] == "stop" and not any(reasons[:-1])
    assert chunks[-1] == {**chunks[-1], "choices": [], "usage": whole["usage"]}
    assert all(c["usage"] is None for c in chunks[:-1])
    short = server.get("/v1/chat/completions", body={"messages": messages, "max_tokens": 4})
    assert short["choices"][0]["finish_reason"] == "length" and short["usage"]["completion_tokens"] == 4
    stopped = server.get("/v1/chat/completions", body={"messages": messages, "stop": ["\n2."]})
    assert len(ids_of(stopped["choices"][0]["message"]["content"])) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "top 2"}, {"type": "image_url"}]}]},
        {"messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "top 2"}]},
        {"messages": [{"role": "user", "content": "top 2"}, {"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": [{"role": "user", "content": "top 2"}, {"role": "tool", "content": "x", "tool_call_id": "1"}]},
        {"messages": [{"role": "system", "content": "be brief"}]},
        {"messages": [{"role": "user", "content": "top 2"}, {"role": "assistant", "content": "1. "}]},
        {"temperature": 0, "top_k": 3, "seed": 1, "logit_bias": {}, "logprobs": True, "presence_penalty": 1},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto", "store": True},
        {"n": 2, "stop": None, "response_format": {"type": "text"}, "service_tier": "auto", "reasoning_effort": "low"},
        {"model": None, "anything": {"at": ["all"]}, "stream": None, "stream_options": None, "user": None},
    ],
)
def test_what_breaks_naive_servers(server: Server, more: dict[str, object]) -> None:
    body = {"messages": [{"role": "user", "content": "top 2"}]} | more
    found = server.get("/v1/chat/completions", body=body)
    assert len(found["choices"]) == more.get("n", 1)
    assert found["choices"][0]["message"]["content"]


def test_a_schema_is_met_or_refused(server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {
            "picks": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/pick"}},
            "mood": {"enum": ["glad", "sad"]},
        },
        "required": ["picks", "mood"],
        "$defs": {"pick": {"type": "object", "properties": {"name": {"type": "string"}, "year": {"type": "integer"}}}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    found = json.loads(server.chat("recommend 3 items for user u001", response_format=form)["content"])
    assert len(found["picks"]) == 2 and found["mood"] == "glad"
    number = {pick["name"].split()[1]: pick["year"] for pick in found["picks"]}
    assert all(year == 1980 + int(n) for n, year in number.items())
    for wrong in ({"type": "string", "pattern": "^\\d+$"}, {"type": "no such type"}, {"$ref": "http://x.invalid/"}):
        form["json_schema"]["schema"] = wrong  # type: ignore[index]
        body = {"messages": [{"role": "user", "content": "top 2"}], "response_format": form}
        status, error, _ = server.call("/v1/chat/completions", body)
        assert (status, error["error"]["param"]) == (400, "response_format.json_schema.schema")


def test_small_talk_without_a_model_that_talks_says_what_can_be_asked(server: Server) -> None:
    assert server.chat("hello, how are you?")["content"].startswith("You can ask, for example: ")
    said = server.chat("你好，今天过得怎么样？")["content"]
    assert said.startswith("您可以这样问：给用户") and "recommend" not in said


def test_a_server_that_is_told_its_language(run: Path) -> None:
    with serving(run, "--language", "zh") as server:
        assert server.chat("hello, how are you?")["content"].startswith("您可以这样问：")
        assert server.chat("recommend 3 items for user u001")["content"].startswith("For user u001:")


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "code"),
    [
        ("/v1/chat/completions", {}, 400, "messages", "missing_required_parameter"),
        ("/v1/chat/completions", {"messages": "x"}, 400, "messages", "invalid_type"),
        ("/v1/chat/completions", {"messages": [{"content": 1}]}, 400, "messages[0].content", "invalid_type"),
        ("/v1/chat/completions", {"messages": [1], "model": "x"}, 404, "model", "model_not_found"),
        ("/v1/chat/completions", b"{", 400, None, "invalid_json"),
        ("/v1/chat/completions", [], 400, None, "invalid_type"),
        ("/v1/completions", {"prompt": [1, "x"]}, 400, "prompt[0]", "invalid_type"),
        ("/v1/completions", {"prompt": [10**9]}, 400, None, "invalid_value"),
        ("/v1/responses", {"input": "x", "previous_response_id": "y"}, 404, "previous_response_id", None),
        ("/v1/embeddings", {"input": ["x", ""]}, 400, "input", "invalid_value"),
        ("/v1/embeddings", {"input": "x", "dimensions": 3}, 400, "dimensions", "invalid_value"),
        ("/v1/rerank", {"query": "x", "documents": [1]}, 400, "documents[0]", "invalid_type"),
        ("/v1/recommendations", {"num_results": 0}, 400, "num_results", "invalid_value"),
        ("/v1/recommendations", {"history": [{"rating": 3}]}, 400, None, None),
        ("/v1/recommendations", {"filter": {"taste": {"any": ["x"]}}}, 400, "filter.taste", "invalid_value"),
        ("/v1/recommendations", {"dataset": "x"}, 404, "dataset", "unknown_data_set"),
        ("/v1/predictions", {"task": "taste", "user_id": "u001"}, 404, None, "unknown_task"),
        ("/v1/predictions", {"user_id": "u001", "item_id": "x"}, 404, None, "unknown_item"),
        ("/v1/items/x/similar", None, 404, "item_id", "unknown_item"),
        ("/v1/users/x", None, 404, "user_id", "unknown_user"),
        ("/v1/nothing", None, 404, None, "unknown_path"),
        ("/v1/embeddings", None, 405, None, "method_not_allowed"),
    ],
)
def test_errors_name_the_field(
    server: Server, path: str, body: object, status: int, param: str | None, code: str | None
) -> None:
    found, error, headers = server.call(path, body)
    assert found == status, error
    assert set(error) == {"error"} and set(error["error"]) == {"message", "type", "param", "code"}
    assert headers["x-request-id"]
    if code is not None:
        assert (error["error"]["param"], error["error"]["code"]) == (param, code)


def test_fields_that_nothing_reads(server: Server) -> None:
    status, error, _ = server.call("/v1/recommendations", {"user_id": "u001", "context": {"hour": 9}})
    assert (status, error["error"]["param"]) == (400, "context") and "nothing reads it yet" in error["error"]["message"]
    assert server.get("/v1/recommendations", body={"user_id": "u001", "context": None, "seed": "any"})["items"]


def test_what_is_too_large_is_refused(run: Path) -> None:
    with serving(run, "--max-body", "2000", "--max-history", "5") as server:
        assert server.call("/v1/recommendations", {"history": ["001"] * 6})[0] == 413
        assert server.call("/v1/recommendations", {"query": "x" * 3000})[0] == 413
        address = urlsplit(server.url).netloc
        connection = http.client.HTTPConnection(address)
        connection.request("POST", "/v1/events", iter([b"[" * 1000] * 3), {"content-type": "application/json"})
        assert connection.getresponse().status == 413  # without a length that is told before


def test_any_model_is_answered_where_that_is_wanted(run: Path) -> None:
    with serving(run, "--any-model") as server:
        assert ids_of(server.chat("recommend for user u001", model="gpt-5-mini")["content"])
        assert server.get("/v1/models/gpt-5-mini")["id"] == server.get("/v1/models")["data"][0]["id"]


# --- who may ----------------------------------------------------------------------------------------------------


def test_keys(run: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# who: what\napp-key\nown-key u002\n")
    with serving(run, "--keys", str(keys), GENREC_API_KEYS="other-key") as server:
        for path in ("/health", "/ready", "/version", "/openapi.json", "/"):
            assert server.call(path)[0] == 200
        for path in ("/v1/models", "/metrics", "/report", "/v1/users/u001", "/mcp"):
            status, error, headers = server.call(path)
            assert (status, error["error"]["code"]) == (401, "invalid_api_key")
            assert headers["www-authenticate"] == "Bearer"
        assert server.call("/v1/models", authorization="Bearer ")[0] == 401
        assert server.call("/v1/models", authorization="Bearer app-kez")[0] == 401
        for headers in ({"authorization": "Bearer app-key"}, {"x_api_key": "other-key"}, {"api_key": "own-key"}):
            assert server.call("/v1/models", **headers)[0] == 200
        own = {"authorization": "Bearer own-key"}
        app = {"authorization": "Bearer app-key"}
        assert server.get("/v1/users/u002", **own)["events"]
        for path in ("/v1/users/u001", "/v1/metrics/summary"):
            assert server.call(path, **own)[0] == 403
        assert server.get("/v1/users", **own)["users"] == ["u002"]
        assert server.call("/v1/recommendations", {"user_id": "u001"}, **own)[0] == 403
        assert server.call("/v1/users/u001", method="DELETE", **own)[0] == 403
        assert server.get("/v1/recommendations", body={}, **own)["user_id"] == "u002"
        found = server.get("/v1/events", body={"events": [{"user_id": "u001", "item_id": "001"}]}, **own)
        assert found["recorded"] == 0 and "may not" in found["errors"][0]["message"]
        said = server.chat("recommend something for user u001", headers=own)
        assert "may not" in said["content"] and not ids_of(said["content"])
        assert server.chat("recommend something", headers=own)["genrec"]["understood"]["user_id"] == "u002"
        named = app | {"x_openwebui_user_id": "u003"}  # the frontend's own user, vouched for by its key
        assert server.chat("recommend something", headers=named)["genrec"]["understood"]["user_id"] == "u003"
        assert "may not" in server.chat("what did user u001 like?", headers=named)["content"] or not ids_of(
            server.chat("recommend for user u001", headers=named)["content"]
        )
        assert server.call("/v1/users/u001", **named)[0] == 403
        assert server.get("/v1/users/u001", **app)["events"]


def test_users_that_a_frontend_signs(run: Path) -> None:
    app = {"authorization": "Bearer app-key"}
    with serving(run, GENREC_API_KEYS="app-key", GENREC_USER_JWT_SECRET=SECRET) as server:
        signed = app | {"x_openwebui_user_jwt": user_token()}
        said = server.chat("recommend something", headers=signed)
        assert said["genrec"]["understood"]["user_id"] == "u003"
        assert server.call("/v1/users/u001", **signed)[0] == 403
        forged = app | {"x_openwebui_user_jwt": user_token("another secret of thirty-two bytes")}
        status, error, _ = server.call("/v1/users/u003", **forged)
        assert (status, error["error"]["code"]) == (401, "invalid_user_token")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "no key is set"),
        (["--port", "70000"], "0 to 65535"),
        (["--queue", "0"], "--queue"),
        (["--keys", "nowhere"], "nowhere"),
        (["--store", "nonsense"], "URL"),
    ],
)
def test_what_cannot_be_served_with(run: Path, options: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "genrec", "serve", str(run), "--port", "0", *options], capture_output=True, text=True
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_other_hosts_and_origins(server: Server) -> None:
    assert server.call("/v1/models", host="evil.example")[0] == 421
    assert server.call("/mcp", {}, host="evil.example")[0] == 421
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,x-stainless-os"}
    status, _, headers = server.call("/v1/chat/completions", method="OPTIONS", origin="tauri://localhost", **asked)
    assert status == 200 and headers["access-control-allow-origin"] == "tauri://localhost"
    assert "authorization" in headers["access-control-allow-headers"].lower()
    assert "access-control-allow-origin" not in server.call("/v1/models", origin="https://evil.example")[2]


def test_logs_hold_nothing_private(run: Path) -> None:
    with serving(run, "--log") as server:
        server.chat("recommend something like red 2 for user u007", user="u007")
        server.get("/v1/users/u007")
        server.call("/v1/users/no-such-user")
        assert server.ended() == 0
        time.sleep(0.2)
        text = "".join(server.lines)
    logged = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    found = [(line["method"], line["endpoint"], line["status"]) for line in logged]
    assert ("POST", "/chat/completions", 200) in found and ("GET", "/users/{user_id}", 404) in found
    assert all(line["request_id"].startswith("req") and line["ms"] >= 0 for line in logged)
    assert not [word for word in ("u007", "red 2", "no-such-user", "something") if word in text]


# --- under load ---------------------------------------------------------------------------------------------------


def test_many_at_once_get_what_each_gets_alone(server: Server) -> None:
    users = [f"u{n:03}" for n in range(60)]

    def ask(user: str) -> list[str]:
        found = server.get("/v1/recommendations", body={"user_id": user, "num_results": 5, "exclude_seen": False})
        return [i["item_id"] for i in found["items"]]

    alone = [ask(user) for user in users]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, users)) == alone
    metrics = server.get("/metrics")
    passes, rows = (float(re.search(rf"^{n} (\S+)", metrics, re.M)[1]) for n in ("genrec_passes", "genrec_rows_read"))  # type: ignore[index]
    assert 0 < passes <= rows


def test_callers_who_leave_are_forgotten(server: Server) -> None:
    address = urlsplit(server.url)
    body = json.dumps({"messages": [{"role": "user", "content": "recommend for user u001"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + b"Content-Type: application/json\r\n\r\n" + body
    for n in range(200):
        with socket.create_connection((address.hostname, address.port)) as one:
            one.sendall(request if n % 2 else request.replace(b'{"messages"', b'{"stream": true, "messages"'))
    assert ids_of(server.chat("recommend for user u001")["content"])
    assert float(re.search(r"^genrec_queue_depth (\S+)", server.get("/metrics"), re.M)[1]) == 0  # type: ignore[index]


def test_a_full_queue_is_429_and_sigterm_drains(run: Path) -> None:
    with serving(run, "--queue", "2") as server:
        found: list[tuple[int, dict[str, str]]] = []

        def ask() -> None:
            status, _, headers = server.call("/v1/recommendations", {"user_id": "u001", "explain": "measured"})
            found.append((status, headers))

        threads = [threading.Thread(target=ask) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {status for status, _ in found} == {200, 429}
        assert all(headers["retry-after"] == "1" for status, headers in found if status == 429)
        last = threading.Thread(target=ask)
        last.start()
        time.sleep(0.05)
        assert server.ended() == 0
        last.join()
        assert found[-1][0] in (200, 503)


def test_a_deadline_is_504(run: Path) -> None:
    with serving(run, "--timeout", "0.000001") as server:
        status, error, headers = server.call("/v1/recommendations", {"user_id": "u001"})
        assert (status, error["error"]["code"]) == (504, "timeout") and headers["retry-after"]
        assert server.call("/ready")[0] == 200


def test_until_the_run_is_there_it_is_503(run: Path) -> None:
    with serving(run, ready=False) as server:
        seen = set()
        while (status := server.call("/ready")[0]) != 200:
            seen.add((status, server.call("/v1/models")[0], server.call("/health")[0]))
        assert (503, 503, 200) in seen


def test_an_acknowledged_event_survives_kill_9(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    kept: list[str] = []
    stop = threading.Event()
    with serving(copy) as server:

        def write(writer: int) -> None:
            n = 0
            while not stop.is_set():
                ids = [f"{writer}-{n}-{m}" for m in range(3)]
                events = [{"event_id": i, "user_id": f"w{writer}", "item_id": f"{n % 12:03}"} for i in ids]
                try:
                    status, found, _ = server.call("/v1/events", {"events": events})
                except (OSError, http.client.HTTPException):
                    return
                if status == 202 and found["recorded"] == 3:
                    kept.extend(ids)
                n += 1

        threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(kept) >= 150)
        server.process.kill()
        stop.set()
        for thread in threads:
            thread.join()
    with sqlite3.connect(copy / "store.db") as raw:
        found = {i for (i,) in raw.execute("select event_id from events where event_id is not null")}
    assert len(kept) >= 150 and set(kept) <= found
    with serving(copy) as server:
        assert server.get("/v1/users/w0")["events"] == sum(i.startswith("0-") for i in found)


# --- MCP --------------------------------------------------------------------------------------------------------


def test_reasons_name_what_the_user_favoured(server: Server) -> None:
    history = server.get("/v1/users/u001")["history"]
    mean = sum(h["rating"] for h in history) / len(history)
    favoured = {h["item_id"] for h in history if h["rating"] >= mean}
    assert 0 < len(favoured) < len(history)
    body = {"user_id": "u001", "num_results": 12, "exclude_seen": False, "explain": True}
    items = server.get("/v1/recommendations", body=body)["items"]
    named = {r["item_id"] for i in items for r in i["reasons"]}
    assert named and named <= favoured
    said = server.chat("recommend 12 items for user u001")["content"]
    assert "rated 5" in said and "rated 1" not in said


def test_mcp_over_stdio(run: Path) -> None:
    import asyncio

    from mcp import Client, StdioServerParameters, stdio_client

    printed = subprocess.run(
        [sys.executable, "-m", "genrec", "mcp", str(run), "--record-events", "--print-config"], capture_output=True
    )
    own = json.loads(printed.stdout)["mcpServers"]["genrec"]

    async def work() -> None:
        parameters = StdioServerParameters(command=own["command"], args=own["args"], env=dict(os.environ))
        # The library's own default is sys.stderr of its first import, which under pytest may be no file.
        async with Client(stdio_client(parameters, errlog=sys.__stderr__)) as client:
            names = {t.name for t in (await client.list_tools()).tools}
            assert names >= {"recommend", "rank_items", "predict", "similar_items", "search_items", "record_event"}
            found = await client.call_tool("recommend", {"user_id": "u001", "n": 3})
            items = json.loads(found.content[0].text)["items"]  # type: ignore[union-attr]
            assert len(items) == 3
            explained = await client.call_tool(
                "explain_recommendation", {"user_id": "u001", "item_id": items[0]["item_id"]}
            )
            assert json.loads(explained.content[0].text)["reasons"]  # type: ignore[union-attr]
            recorded = await client.call_tool("record_event", {"user_id": "m", "item_id": "004", "event_type": "like"})
            assert json.loads(recorded.content[0].text)["recorded"] == 1  # type: ignore[union-attr]
            after = await client.call_tool("recommend", {"user_id": "m", "n": 1})
            assert json.loads(after.content[0].text)["items"][0]["item_id"] == "005"  # type: ignore[union-attr]
            wrong = await client.call_tool("recommend", {"filters": {"taste": {"any": ["x"]}}})
            assert wrong.is_error and "taste" in wrong.content[0].text  # type: ignore[union-attr]
            unread = await client.call_tool("recommend", {"user_id": "u001", "context": {"hour": 9}})
            assert unread.is_error and "nothing reads it yet" in unread.content[0].text  # type: ignore[union-attr]

    asyncio.run(work())


def test_embeddings_point_to_what_is_alike(server: Server) -> None:
    texts = ["red 2 (1982) red", "red 4 (1984) red", "blue 3 (1983) blue"]
    found = server.get("/v1/embeddings", body={"input": texts})
    a, b, c = (d["embedding"] for d in found["data"])

    def cosine(x: list[float], y: list[float]) -> float:
        return sum(p * q for p, q in zip(x, y, strict=True)) / math.dist(x, [0] * len(x)) / math.dist(y, [0] * len(y))

    assert cosine(a, b) > cosine(a, c)
    ranked = server.get("/v1/rerank", body={"query": "red", "documents": ["blue 3", "red 4"], "top_n": 1})
    assert [r["index"] for r in ranked["results"]] == [1]
    own = {"query": "for user u001", "documents": [f"{'red' if i % 2 == 0 else 'blue'} {i}" for i in range(12)]}
    lists = server.get("/v1/recommendations", body={"user_id": "u001", "exclude_seen": False, "num_results": 1})
    best = server.get("/v1/rerank", body=own)["results"][0]["index"]
    assert f"{best:03}" == lists["items"][0]["item_id"]
