"""How long small requests wait beside the largest legal request of each endpoint, for `scripts/bench serve`."""

import concurrent.futures
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

MIB = 1_000_000  # a little below --max-body
LISTED = 10_000  # --max-history
PAUSE = 0.05  # seconds between small requests of a kind
RARE = "𓀀𝔘ꙮ𒐫"  # each takes several tokens


def text_of(size: int) -> str:
    """A text of this many bytes, of words that nobody wrote."""
    words = (f"word{n * 7919 % 1_000_003}" for n in range(size // 10))
    return " ".join(words)[:size]


def largest(items: Sequence[str], titles: Sequence[str], users: Sequence[str], dataset: str) -> dict[str, Any]:
    """For each endpoint its largest legal requests: method and path, and a body."""
    many = [items[n % len(items)] for n in range(LISTED)]
    others = [f"{n:09}" for n in range(LISTED)]
    user, base = users[0], {"dataset": dataset}

    def chat(*said: str, **more: Any) -> dict[str, Any]:
        roles = ("user", "assistant")
        return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)], **more}

    turns = [f"recommend 5 films like {titles[n % len(titles)]} but {text_of(1_900)}" for n in range(30)]
    answered = [text for turn in turns for text in (turn, f"1. **x** `{items[0]}`\n")]
    schema = {
        "type": "object",
        "properties": {f"p{n}": {"type": "string", "description": text_of(40)} for n in range(6_000)},
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    tags = "### Task:\nGenerate 1-3 broad tags categorizing the main themes.\n<chat_history>\n"
    recommendations = {**base, "num_results": 500}
    return {
        "recommendations, history": ("/v1/recommendations", {**recommendations, "history": many}),
        "recommendations, excluded": ("/v1/recommendations", {**recommendations, "user_id": user, "exclude": others}),
        "recommendations, candidates": (
            "/v1/recommendations",
            {**recommendations, "user_id": user, "candidates": many},
        ),
        "recommendations, filter": (
            "/v1/recommendations",
            {**recommendations, "user_id": user, "filter": {"title": {"none": [text_of(60)[:50] + o for o in others]}}},
        ),
        "recommendations, measured": (
            "/v1/recommendations",
            {**recommendations, "user_id": user, "explain": "measured"},
        ),
        "recommendations, diverse": ("/v1/recommendations", {**recommendations, "user_id": user, "diversity": 1}),
        "recommendations, query": ("/v1/recommendations", {**recommendations, "query": text_of(2_000)}),
        "rank": ("/v1/rank", {**base, "user_id": user, "items": many, "explain": "measured"}),
        "predictions, items": ("/v1/predictions", {**base, "task": "rating", "user_id": user, "items": many}),
        "predictions, texts": ("/v1/predictions", {"task": "sentiment", "texts": [text_of(3_800)] * 256}),
        "predictions, rare characters": ("/v1/predictions", {"task": "sentiment", "texts": [RARE * 60] * 256}),
        "chat, one message": ("/v1/chat/completions", chat(text_of(MIB))),
        "chat, rare characters": ("/v1/chat/completions", chat(*[RARE * 490] * 31)),
        "chat, turns": ("/v1/chat/completions", chat(*answered, "more")),
        "chat, messages": ("/v1/chat/completions", chat(*["hi there"] * (LISTED - 1))),
        "chat, schema": ("/v1/chat/completions", chat(f"recommend for user {user}", response_format=form)),
        "chat, tags": ("/v1/chat/completions", chat(tags + text_of(MIB))),
        "completions": ("/v1/completions", {"prompt": [text_of(MIB // 40)] * 32}),
        "responses": ("/v1/responses", {"input": text_of(MIB)}),
        "embeddings": ("/v1/embeddings", {"input": [text_of(450)] * 2_048}),
        "embeddings, one text": ("/v1/embeddings", {"input": text_of(MIB)}),
        "rerank": ("/v1/rerank", {"query": text_of(500), "documents": [f"{o} {text_of(60)}" for o in others]}),
        "events": (
            "/v1/events",
            {"events": [{"user_id": f"w{n % 997}", "item_id": i, "event_id": f"{n}"} for n, i in enumerate(many)]},
        ),
        "items": ("/v1/items", {**base, "items": [{"item_id": f"new {o}", "title": f"New {o}"} for o in others]}),
        "items, search": (f"GET /v1/items?n=500&dataset={dataset}&q={'a+b+c+d+' * 62}", None),
        "similar": (f"GET /v1/items/{items[0]}/similar?n=500&dataset={dataset}", None),
        "users, search": (f"GET /v1/users?n=500&dataset={dataset}&q={'a' * 500}", None),
        "user": (f"GET /v1/users/{user}?n=10000&dataset={dataset}", None),
        "datasets": ("GET /v1/datasets", None),
        "metrics, summary": ("GET /v1/metrics/summary", None),
        "mcp": (
            "/mcp",
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": "rank_items", "arguments": {"items": many, "user_id": user}},
            },
        ),
    }


def send(url: str, path: str, body: object) -> tuple[int, float]:
    """The status of a request, and the seconds that it took."""
    method, _, place = path.rpartition(" ")
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + place, data, headers, method=method or "POST")
    start = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            response.read()
            status = response.status
    except urllib.error.HTTPError as error:
        status = error.code
    return status, time.perf_counter() - start


def beside(url: str, path: str, body: object, small: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """A large request, and the longest that each kind of small request took from its start until its end."""
    done = threading.Event()

    def ask(own: tuple[str, object]) -> float:
        longest = 0.0
        while True:
            longest = max(longest, send(url, *own)[1])
            if done.wait(PAUSE):
                return longest

    with concurrent.futures.ThreadPoolExecutor(len(small)) as pool:
        asking = [pool.submit(ask, own) for own in small]
        time.sleep(0.05)
        try:
            status, seconds = send(url, path, body)
        finally:
            done.set()
        waits = [one.result() for one in asking]
    return {"status": status, "seconds": seconds, "list": waits[0], "health": waits[1]}


def waits(url: str, requests: dict[str, Any], dataset: str, items: Sequence[str]) -> dict[str, Any]:
    """What `beside` finds for each of the largest requests."""
    small = [("/v1/recommendations", {"dataset": dataset, "history": list(items[:5])}), ("GET /health", None)]
    for own in small * 3:
        send(url, *own)
    return {name: beside(url, path, body, small) for name, (path, body) in requests.items()}
