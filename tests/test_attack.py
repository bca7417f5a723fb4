"""What a caller may do to a server: every request is answered or refused, and the others are answered meanwhile."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer
from serving import Server, serving
from waiting import until

OTHERS = re.compile(r"\bu\d{3}\b")  # users of the toy world


@pytest.fixture(scope="module")
def run(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("attacked") / "toy"
    shutil.copytree(toy_run, copy)
    return copy


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Server]:
    with serving(run, "--timeout", "60", "--patience", "3") as found:
        yield found


def mcp(server: Server, tool: str, headers: dict[str, str] | None = None, **arguments: object) -> dict[str, Any]:
    """The result of a tool's call over HTTP."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    found = server.get("/mcp", body=body, accept="application/json, text/event-stream", **(headers or {}))
    return dict(found["result"])


# --- filters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1_000, 6_000, 10_000])
def test_a_filter_of_many_values_is_a_set(server: Server, size: int) -> None:
    values = ["red", *(f"v{n}" for n in range(size - 1))]
    body = {"history": ["001"], "num_results": 12, "exclude_seen": False, "return_metadata": True}
    kept = server.get("/v1/recommendations", body=body | {"filter": {"colour": {"any": values}}})
    assert {i["metadata"]["colour"] for i in kept["items"]} == {"red"}
    left = server.get("/v1/recommendations", body=body | {"filter": {"colour": {"none": values}}})
    assert {i["metadata"]["colour"] for i in left["items"]} == {"blue"}
    years = [1984.0, *range(3000, 3000 + size - 1)]
    one = server.get("/v1/recommendations", body=body | {"filter": {"year": {"any": years}}})
    assert [i["item_id"] for i in one["items"]] == ["004"]
    found = mcp(server, "recommend", history=["001"], filters={"colour": {"any": values}})
    assert not found.get("isError") and "red" in found["content"][0]["text"]


def test_longer_lists_than_are_allowed_are_refused(server: Server) -> None:
    values = [f"v{n}" for n in range(10_001)]
    for more in ({"filter": {"colour": {"any": values}}}, {"exclude": values}, {"candidates": values}):
        assert server.call("/v1/recommendations", {"history": ["001"], **more})[0] == 413
    for tool, arguments in (
        ("recommend", {"filters": {"colour": {"none": values}}}),
        ("recommend", {"history": values}),
        ("rank_items", {"items": values}),
    ):
        found = mcp(server, tool, **arguments)
        assert found["isError"] and "at most 10,000" in found["content"][0]["text"]


# --- the model thread -----------------------------------------------------------------------------------------------


def test_small_requests_are_answered_beside_large_ones(server: Server) -> None:
    """Not how fast, which no test can say: in what order. A list that is asked for after is answered before."""
    many = [f"{n % 12:03}" for n in range(10_000)]
    large: list[tuple[str, object]] = [
        ("/v1/predictions", {"task": "rating", "user_id": "u001", "items": many}),
        ("/v1/rank", {"user_id": "u001", "items": many[:12], "explain": "measured"}),
        ("/v1/rerank", {"query": "red", "documents": [f"blue {n}" for n in range(10_000)]}),
        ("/v1/embeddings", {"input": [f"red {n} " * 20 for n in range(2_048)]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "𓀀" * 80_000}]}),
    ]
    ended: list[tuple[int, float]] = []

    def ask(path: str, body: object) -> None:
        status = server.call(path, body, timeout=120)[0]
        ended.append((status, time.monotonic()))

    threads = [threading.Thread(target=ask, args=one) for one in large]
    for thread in threads:
        thread.start()
    answered = 0
    while any(thread.is_alive() for thread in threads):
        assert server.get("/v1/recommendations", body={"history": ["001"], "num_results": 1})["items"]
        assert server.get("/health")["status"] == "ok"
        answered += 1
    assert {status for status, _ in ended} == {200}
    assert answered > len(large)


def test_who_left_a_large_request_is_forgotten(server: Server) -> None:
    many = [f"{n % 12:03}" for n in range(10_000)]
    body = json.dumps({"task": "rating", "user_id": "u001", "items": many}).encode()
    address = urllib.parse.urlsplit(server.url)
    head = f"POST /v1/predictions HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n"
    for _ in range(20):
        with socket.create_connection((address.hostname, address.port)) as one:
            one.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    end = time.monotonic() + 60
    while float(re.search(r"^genrec_queue_depth (\S+)", server.get("/metrics"), re.M)[1]):  # type: ignore[index]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_long_text_is_read_in_part_and_says_so(server: Server) -> None:
    for text in ("word " * 4_000, "𓀀" * 20_000, "a" * 20_000):
        found = server.get("/v1/embeddings", body={"input": text})
        assert len(found["data"]) == 1


TREE = {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"a": {"allOf": [{"$ref": "#/$defs/n"}] * 10}}}}}


@pytest.mark.parametrize(
    "schema",
    [
        TREE,
        {"properties": {"a": {"$ref": "#"}}},
        {"type": "array", "minItems": 19_000, "items": {"const": "x" * 100_000}},
        {"type": "array", "minItems": 19_000, "items": {"enum": ["y" * 100_000]}},
        {"type": "array", "minItems": 19_000, "items": {"type": "string"}},
    ],
)
def test_schemas_that_would_take_for_ever_or_all_memory_are_refused(server: Server, schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": [{"role": "user", "content": "recommend 12 items for user u001"}], "response_format": form}
    status, said, _ = server.call("/v1/chat/completions", body)
    assert status == 400 and said["error"]["param"] == "response_format.json_schema.schema"


def test_numbers_of_a_sentence_are_bounded(server: Server) -> None:
    listed = "For user u001:\n\n1. **red 2** `002`\n2. **blue 3** `003`"
    found = server.chat("recommend 3 items for user u001", listed, "I have seen the first 3000000000")
    assert found["content"]
    said = server.chat(f"recommend items with year under 1{'0' * 320} for user u001")
    assert said["content"] and "Infinity" not in json.dumps(said)


@pytest.mark.parametrize("words", ["red " * 500, "not red, " * 200, "红" * 2_000, "no red or " * 200, "a b c d " * 250])
def test_sentences_that_repeat_themselves_are_read(server: Server, words: str) -> None:
    assert server.chat(f"recommend {words} for user u001")["content"]
    assert server.call("/v1/recommendations", {"query": words[:2_000], "history": ["001"]})[0] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommendations", {"history": [None] * 150_000}),
        ("/v1/recommendations", {"exclude": [None] * 150_000}),
        ("/v1/recommendations", {"filter": {"colour": {"any": [[]] * 200_000}}}),
        ("/v1/rank", {"items": [None] * 150_000}),
        ("/v1/predictions", {"items": [None] * 150_000, "user_id": "u001"}),
        ("/v1/predictions", {"task": "sentiment", "texts": [None] * 150_000}),
        ("/v1/items", {"items": [None] * 150_000}),
    ],
)
def test_one_fault_of_a_long_list_is_told(server: Server, path: str, body: dict[str, Any]) -> None:
    status, said, _ = server.call(path, body)
    assert status == 400 and len(json.dumps(said)) < 1_000


def test_texts_of_tools_are_bounded(server: Server) -> None:
    for tool, arguments in (
        ("search_items", {"query": "the " * 1_000}),
        ("recommend", {"query": "the " * 1_000}),
        ("predict", {"task": "rating", "text": "a " * 20_000}),
        ("similar_items", {"item_id": "x" * 1_000}),
    ):
        assert mcp(server, tool, **arguments)["isError"]


def test_a_stream_that_nobody_reads_is_dropped(server: Server) -> None:
    address = urllib.parse.urlsplit(server.url)
    many = [{"role": "user", "content": f"recommend 5 items like red {n} " * 40} for n in range(200)]
    body = json.dumps({"messages": many, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n"
    for _ in range(40):
        with socket.create_connection((address.hostname, address.port)) as one:
            one.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    end = time.monotonic() + 60
    while float(re.search(r"^genrec_queue_depth (\S+)", server.get("/metrics"), re.M)[1]):  # type: ignore[index]
        assert time.monotonic() < end
        time.sleep(0.05)


# --- events ---------------------------------------------------------------------------------------------------------


def test_ten_thousand_events_are_one_write(server: Server) -> None:
    good = [{"user_id": f"w{n % 500}", "item_id": f"{n % 12:03}", "event_id": f"e{n}"} for n in range(9_998)]
    events = [*good[:5_000], {"user_id": "w1", "item_id": "nothing"}, *good[5_000:], "no event"]
    found = server.get("/v1/events", body={"events": events})
    assert found["recorded"] == 9_998
    assert [e["index"] for e in found["errors"]] == [5_000, 9_999]
    assert server.get("/v1/events", body={"events": events})["duplicates"] == 9_998
    assert server.get("/v1/users/w3")["events"] == 20


BAD: list[object] = ["", " ", "\0", "\n", "a\nb", "\u2028", "\u0085", ".", "..", "x" * 501, None, {}, [], True]


def test_a_bad_id_refuses_its_event_alone(server: Server) -> None:
    good = {"user_id": "someone", "item_id": "001"}
    for field in ("user_id", "event_id", "recommendation_id", "session_id", "item_id"):
        wrong = [{**good, field: value} for value in BAD if value is not None or field == "item_id"]
        reply = server.get("/v1/events", body={"events": [good, *wrong, good]})
        assert reply["recorded"] == 2
        assert [e["index"] for e in reply["errors"]] == list(range(1, 1 + len(wrong)))
        assert {e["param"].split(".")[0] for e in reply["errors"]} == {field}
    half = b'{"events": [{"user_id": "someone", "item_id": "001"}, {"user_id": "\\ud83d", "item_id": "001"}]}'
    reply = server.get("/v1/events", body=half)
    assert (reply["recorded"], [e["param"] for e in reply["errors"]]) == (1, ["user_id"])


def test_an_event_id_is_of_its_user(server: Server) -> None:
    events = [{"user_id": user, "item_id": "001", "event_id": "first"} for user in ("a", "b", "a")]
    found = server.get("/v1/events", body={"events": [*events, {"session_id": "c", **events[0], "user_id": None}]})
    assert (found["recorded"], found["duplicates"]) == (3, 1)
    again = server.get("/v1/events", body={"events": events})
    assert (again["recorded"], again["duplicates"]) == (0, 3)


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "a%2Fb",
        "100%",
        "?x=1#y",
        "a b",
        "用户 2",
        "%00",
        "a\\b",
        "..a",
        "a/",
        "/",
        "//",
        "%",
        "+",
        "a`b",
        "`",
        "é",
    ],
)
def test_what_was_accepted_can_be_read_and_deleted(server: Server, name: str) -> None:
    path = f"/v1/users/{urllib.parse.quote(name, safe='')}"
    assert server.get("/v1/events", body={"events": [{"user_id": name, "item_id": "001"}]})["recorded"] == 1
    assert server.get(path)["user_id"] == name
    assert server.get(path, method="DELETE")["deleted"]["events"] == 1
    assert server.call(path)[0] == 404


def test_lists_of_a_session_can_be_deleted(server: Server) -> None:
    assert server.get("/v1/recommendations", body={"session_id": "only lists", "history": ["001"]})["items"]
    assert server.get("/v1/users/only%20lists", method="DELETE")["deleted"] == {
        "users": 0,
        "events": 0,
        "recommendations": 1,
    }
    assert server.call("/v1/users/only%20lists", method="DELETE")[0] == 404


def test_items_of_odd_ids_and_titles_stay_on_their_line(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    names = {"a`b": "red 50", "``": "red 51", "a/similar": "red 52", "x": "red 53\n# Buy at evil.example\n\n- now"}
    names |= {"y": "red 54\r1. **fake** `001`", "z": "\u2028red 55 `code` <b>"}
    items = [{"item_id": i, "title": t, "colour": "red", "year": 2020} for i, t in names.items()]
    with serving(copy) as server:
        assert server.call("/v1/items", {"items": items})[0] == 201
        for name in names:
            path = f"/v1/items/{urllib.parse.quote(name, safe='')}"
            assert server.get(path)["item_id"] == name
            assert server.get(f"{path}/similar?n=3")["items"]
        said = server.chat("recommend 10 items after 2015 for user u001")
        lines = [line for line in said["content"].splitlines() if line]
        assert len(lines) == 1 + len(said["genrec"]["items"]) + len(said["genrec"]["warnings"])
        assert all(re.match(r"\d+\. \*\*", line) for line in lines[1 : 1 + len(names)])
        more = server.chat("recommend 3 items after 2015 for user u001", said["content"], "more")
        shown = {i["item_id"] for i in said["genrec"]["items"]}
        assert shown == set(names) and not shown & {i["item_id"] for i in more["genrec"].get("items", [])}


# --- who may see whom -----------------------------------------------------------------------------------------------


def test_a_bound_key_is_never_told_of_others(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    keys = tmp_path / "keys"
    keys.write_text("app\nown u002\nstranger nobody-yet\n")
    with serving(copy, "--keys", str(keys), "--record-events", GENREC_METRICS_KEY="scrape") as server:
        check_metrics(server)
        for name, key in (("u002", "own"), ("nobody-yet", "stranger")):
            own = {"authorization": f"Bearer {key}"}
            sentences = [
                "hello there",
                "what can you do?",
                "",
                "recommend for user u001",
                "recommend for user u0",
                "what would user 1 rate red 2?",
                "why was red 2 recommended to me?",
                "who is user u003?",
                "what would I rate red 2?",
                "recommend something for u003",
                "recommend something for u999",
                "recommend something",
                "more",
                "你好",
                "### Task:\nSuggest 3-5 relevant follow-ups\n<chat_history>\nUSER: hi\n</chat_history>",
                "### Task:\nYou are an autocompletion system\n<text>recommend</text>",
                "### Task:\nGenerate 1-3 broad tags\n",
            ]
            said = [server.chat(s, headers=own) for s in sentences]
            said += [server.chat("recommend something", "For you:", s, headers=own) for s in sentences]
            calls: list[tuple[str, object]] = [
                ("/v1/users", None),
                ("/v1/users?q=u00", None),
                (f"/v1/users/{name}", None),
                ("/v1/users/u001", None),
                ("/v1/recommendations", {}),
                ("/v1/recommendations", {"user_id": "u001"}),
                ("/v1/recommendations", {"query": "red ones for user u003"}),
                ("/v1/rank", {"items": ["001", "002"]}),
                ("/v1/predictions", {"task": "rating", "item_id": "001"}),
                ("/v1/predictions", {"task": "rating", "item_id": "nothing"}),
                ("/v1/rerank", {"query": "for user 1", "documents": ["red 2"]}),
                ("/v1/events", {"events": [{"user_id": "u001", "item_id": "001"}, {"item_id": "x"}]}),
                ("/v1/datasets", None),
                ("/v1/models", None),
                ("/v1/metrics/summary", None),
                ("/metrics", None),
                ("/report", None),
            ]
            found = [server.call(path, body, **own)[1] for path, body in calls]
            found += [mcp(server, tool, own) for tool in ("recommend", "get_user_history")]
            found += [
                mcp(server, "predict", own, item_id="001"),
                mcp(server, "explain_recommendation", own, item_id="001"),
            ]
            found += [mcp(server, "record_event", own, item_id="nothing"), mcp(server, "predict", own, user_id="u001")]
            known, unknown = (server.chat(f"recommend something for {u}", headers=own) for u in ("u003", "u999"))
            assert json.dumps(known).replace("u003", "u999") == json.dumps(unknown)  # nor that there is one
            text = json.dumps([said, found], ensure_ascii=False)
            named = set(OTHERS.findall(text)) - {
                name,
                "u001",
                "u003",
                "u999",
            }  # what was asked for is named in the refusal
            assert not named
            told = [line for line in re.findall(r'"[^"]*u00[13][^"]*"', text) if "may not" not in line]
            assert not [t for t in told if t.strip('"') not in ("u001", "u003") and "understood" not in t]
        near = server.chat("recommend for user u0011", headers={"authorization": "Bearer app"})
        assert OTHERS.search(near["content"])  # who may see all is told


def check_metrics(server: Server) -> None:
    """They have a key of their own."""
    status = {k: server.call("/metrics", authorization=f"Bearer {k}")[0] for k in ("", "x", "own", "app", "scrape")}
    assert status == {"": 401, "x": 401, "own": 403, "app": 200, "scrape": 200}
    for path in ("/v1/models", "/v1/users", "/report", "/mcp"):
        assert server.call(path, authorization="Bearer scrape")[0] == 403
    assert server.call("/health", authorization="Bearer scrape")[0] == 200


# --- connections ----------------------------------------------------------------------------------------------------


def opened(server: Server, sent: bytes) -> socket.socket:
    address = urllib.parse.urlsplit(server.url)
    one = socket.create_connection((address.hostname, address.port), timeout=30)
    one.sendall(sent.replace(b"HOST", address.netloc.encode()))
    return one


def all_of(one: socket.socket) -> bytes:
    found = b""
    while part := one.recv(65_536):
        found += part
    return found


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/events HTTP/1.1\r\nHost: HOST\r\n",
        b"GET /hea",
        b"POST /v1/events HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        b"POST /mcp HTTP/1.1\r\nHost: HOST\r\nAccept: application/json, text/event-stream\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/events HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
        b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n',
        b"GET /health HTTP/1.1\r\nHost: HOST\r\n\r\nGET /health HTTP/1.1\r\nHos",
    ],
)
def test_headers_and_bodies_have_a_time_limit(server: Server, sent: bytes) -> None:
    with opened(server, sent) as slow:
        found = all_of(slow)  # ends since the server closes
    assert b" 408 " in found or found.startswith(b"HTTP/1.1 200")


def test_a_connection_that_says_nothing_is_closed_without_a_word(server: Server) -> None:
    with opened(server, b"") as silent:
        assert all_of(silent) == b""


def test_a_connection_is_kept_between_requests(server: Server) -> None:
    ask = b"GET /health HTTP/1.1\r\nHost: HOST\r\n\r\n"
    address = urllib.parse.urlsplit(server.url)
    with opened(server, ask) as one:
        for again in (True, True, False):
            found = b""
            while not found.endswith(b'{"status":"ok"}'):
                assert (part := one.recv(65_536)), found
                found += part
            if again:
                time.sleep(3.5)  # longer than headers may take
                one.sendall(ask.replace(b"HOST", address.netloc.encode()))


def test_an_unfinished_body_does_not_hold_the_end(run: Path) -> None:
    head = b"Host: HOST\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with serving(run, "--drain", "60", "--patience", "60") as server:
        with opened(server, b"POST /v1/events HTTP/1.1\r\n" + head) as slow, opened(server, b"GET /he") as slower:
            time.sleep(0.3)
            start = time.monotonic()
            assert server.ended() == 0
            assert time.monotonic() - start < 50  # neither --drain nor --patience was waited for
            assert b" 503 " in all_of(slow)
            all_of(slower)


def test_no_more_connections_than_files(run: Path) -> None:
    command = [sys.executable, "-m", "genrec", "serve", str(run), "--port", "0", "--patience", "600"]

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=few)
    assert process.stderr is not None
    lines: list[bytes] = []
    try:
        url = None
        while url is None and (line := process.stderr.readline()):
            match = re.search(rb"at (http://\S+) \(", line)
            url = match and match[1].decode()
        threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()
        server = Server(process, url)  # type: ignore[arg-type]
        until(lambda: server.call("/ready")[0] == 200, pause=0.1)
        held = [opened(server, b"") for _ in range(400)]
        refused = sum(one.recv(100).startswith(b"HTTP/1.1 503") for one in held[-200:])
        assert refused == 200
        for one in held:
            one.close()
        end = time.monotonic() + 30
        while True:
            try:
                assert server.get("/v1/recommendations", body={"history": ["001"]})["items"]
                break
            except OSError:
                assert time.monotonic() < end
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert len(lines) < 20, lines[:20]
    finally:
        process.kill()
        process.wait()


def test_a_full_queue_refuses_streams_with_429(run: Path) -> None:
    with serving(run, "--queue", "1") as server:
        found: list[tuple[int, str]] = []
        messages = [{"role": "user", "content": "recommend 12 items for user u001"}]
        bodies = {
            "/v1/chat/completions": {"messages": messages},
            "/v1/completions": {"prompt": ["recommend for user u001"] * 3},
            "/v1/responses": {"input": "recommend for user u001"},
        }

        def ask(path: str) -> None:
            status, said, headers = server.call(path, {**bodies[path], "stream": True})
            found.append((status, headers["content-type"].split(";")[0]))

        threads = [threading.Thread(target=ask, args=(path,)) for path in list(bodies) * 20]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(found) <= {(200, "text/event-stream"), (429, "application/json")} and len(set(found)) == 2


# --- the store ------------------------------------------------------------------------------------------------------


def test_a_database_that_is_away(run: Path) -> None:
    pytest.importorskip("psycopg")
    server_of_data = PostgresServer()
    try:
        server_of_data.start()
        server_of_data.create("shop")
        url = server_of_data.url("shop") + "&password=top-secret-word"
        with serving(run, "--store", url) as server:
            assert server.get("/v1/recommendations", body={"user_id": "u001"})["items"]
            server_of_data.stop()
            end = time.monotonic() + 60
            while server.call("/ready")[0] == 200:
                assert time.monotonic() < end
                time.sleep(0.1)
            for path, body in (
                ("/ready", None),
                ("/v1/recommendations", {"user_id": "u001"}),
                ("/v1/events", {"events": [{"user_id": "u001", "item_id": "001"}]}),
                ("/v1/users/u001", None),
                ("/v1/metrics/summary", None),
            ):
                status, said, _ = server.call(path, body)
                assert status == 503
                text = json.dumps(said)
                assert not re.search(r"/tmp|postgres|top-secret|127\.0\.0\.1|localhost|port", text)
            assert server.get("/health")["status"] == "ok"
            server_of_data.start()
            end = time.monotonic() + 60
            while server.call("/ready")[0] != 200:
                assert time.monotonic() < end
                time.sleep(0.1)
            assert server.get("/v1/recommendations", body={"user_id": "u001"})["items"]
            assert server.get("/v1/metrics/summary")["summary"]["recommendations"] >= 2
            assert "top-secret" not in "".join(server.lines)
    finally:
        server_of_data.close()


def test_after_a_failed_write_of_lists_nothing_stays_503(server: Server, run: Path) -> None:
    server.get("/v1/events", body={"events": [{"user_id": "short-lived", "item_id": "001"}]})

    def renamed(old: str, new: str) -> None:
        with sqlite3.connect(run / "store.db", timeout=30) as raw:
            raw.execute(f"alter table {old} rename to {new}")
        raw.close()

    renamed("recommendations", "away")
    assert server.get("/v1/recommendations", body={"user_id": "short-lived"})["items"]
    time.sleep(0.5)
    renamed("away", "recommendations")
    end = time.monotonic() + 30
    while server.call("/v1/metrics/summary")[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert server.get("/v1/users/short-lived", method="DELETE")["deleted"]["users"] == 1
    assert server.call("/v1/metrics/summary")[0] == 200


# --- requests that were 500, and the report -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rank", {"items": [""]}),
        ("/v1/rank", {"items": [" ", "001"]}),
        ("/v1/rank", {"items": [None]}),
        ("/v1/chat/completions", {"tool_choice": {"function": None}}),
        ("/v1/chat/completions", {"tool_choice": {"function": {"name": None}}}),
        ("/v1/chat/completions", {"tool_choice": {"function": []}}),
        ("/v1/chat/completions", {"tool_choice": {"name": 1}}),
        ("/v1/chat/completions", {"tool_choice": {}}),
    ],
)
def test_what_was_a_fault_of_the_server_is_one_of_the_caller(server: Server, path: str, body: dict[str, Any]) -> None:
    if "chat" in path:
        tools = [{"type": "function", "function": {"name": "f"}}, None, {"function": None}, 1]
        body = {"messages": [{"role": "user", "content": "top 2"}], "tools": tools, **body}
    status, said, _ = server.call(path, body)
    assert status == 400 and said["error"]["message"]


def test_the_report_is_the_runs_own_and_has_its_policy(server: Server, run: Path, tmp_path: Path) -> None:
    secret, report = tmp_path / "secret", run / "report.html"
    secret.write_text("nobody's business")
    assert server.call("/report")[0] == 404
    report.symlink_to(secret)
    assert server.call("/report")[0] == 404
    report.unlink()
    os.mkfifo(report)
    assert server.call("/report", timeout=20)[0] == 404
    report.unlink()
    report.write_text("<p>mine</p>")
    status, text, headers = server.call("/report")
    assert (status, text) == (200, "<p>mine</p>")
    assert "default-src 'none'" in headers["content-security-policy"]


def test_a_run_that_cannot_be_loaded_is_named_to_nobody(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a-private-place"
    shutil.copytree(run, copy)
    (copy / "adapter" / "item_rows.safetensors").write_bytes(b"0" * 100)
    with serving(copy, ready=False) as server:
        seen = set()
        while server.process.poll() is None:
            try:
                seen.add(json.dumps(server.call("/ready")[1]))
            except OSError:
                break
        assert seen and not [s for s in seen if "private" in s or "safetensors" in s]
        assert server.process.wait(60) == 2
