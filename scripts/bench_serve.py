"""A server under load: requests a second and latency at 1, 8 and 32 callers at a time, by wrk over loopback.

Usage: scripts/bench serve RUN [--seconds N] [--dataset NAME] [--only PART ...] [--out FILE]

Needs wrk (Debian and Homebrew have it). Servers are started one after another, on one processor core each where the
machine has two, wrk on the other. Parts:

cold        recommendations for histories of 200 events that nobody sent before, with batching and without
returning   recommendations for histories that grow by 1 to 8 tokens with each request, with batching and without
chat        `recommend 5 items for user N` by users whose histories are known, with batching and without
plain       transformers' generate with prefix_allowed_tokens_fn behind the same route: cold and returning, 1 caller
overhead    what HTTP adds to a call of Recommender, at 1 caller
memory      resident memory after 1,000 and after 10,000 more requests
waits       the longest that a small request waits beside the largest legal request of each endpoint (both cores)
"""

import argparse
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from waits import largest
from waits import waits as waits_beside

from genrec.recommender.histories import given_history, prompts_of
from genrec.recommender.recommender import Recommender

CALLERS = (1, 8, 32)
EVENTS = 200
USERS = 64  # that return
START = 60  # events of a returning user at first
PARTS = ("cold", "returning", "chat", "plain", "overhead", "memory", "waits")
STARTED = re.compile(r"at (http://\S+) \(")
SCRIPT = """
local bodies, at, bad, n = {}, 0, 0, 0
function init(args)
  for line in io.lines(args[1]) do bodies[#bodies + 1] = line end
end
function request()
  at = at % #bodies + 1
  return wrk.format("POST", nil, {["content-type"] = "application/json"}, bodies[at])
end
function done(summary, latency, requests)
  local errors = summary.errors.status + summary.errors.timeout + summary.errors.read
  io.write(string.format('RESULT {"requests": %d, "seconds": %f, "p50": %f, "p95": %f, "errors": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, errors))
end
"""
Found = dict[str, Any]


def cores() -> tuple[list[str], list[str]]:
    """What pins a server and the load tool to cores of their own."""
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        return [], []
    return ["taskset", "-c", "0"], ["taskset", "-c", "1"]


def echoed(process: "subprocess.Popen[str]") -> Iterator[str]:
    """What a process says on stderr, line by line; it is shown, too."""
    for line in process.stderr or ():
        print(line, end="", file=sys.stderr)
        yield line


@contextmanager
def server(command: Sequence[str], pinned: bool = True) -> Iterator[tuple[str, psutil.Process]]:
    """A server that is ready: its address and its process; pinned: on a core of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"} if pinned else dict(os.environ)
    command = [*(cores()[0] if pinned else ()), *command]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    said = echoed(process)
    try:
        url = next((m[1] for line in said if (m := STARTED.search(line))), None)
        if url is None:
            raise SystemExit(f"the server ended with {process.wait()}")
        threading.Thread(target=lambda: list(said), daemon=True).start()
        while True:
            try:
                urllib.request.urlopen(f"{url}/ready").close()
                break
            except urllib.error.HTTPError:
                time.sleep(0.2)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def genrec(run: Path, *options: str) -> list[str]:
    """The command that serves a run."""
    return [sys.executable, "-m", "genrec", "serve", str(run), "--port", "0", *options]


def one_at_a_time(run: Path) -> list[str]:
    """The same with a pass for each job alone."""
    return [sys.executable, str(Path(__file__).with_name("serve_alone.py")), *genrec(run)[3:]]


def post(url: str, path: str, body: object) -> Any:
    """The JSON that answers a request."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def load(url: str, path: str, bodies: Sequence[object], callers: int, seconds: float, folder: Path) -> Found:
    """What wrk measures: requests, requests a second, p50 and p95 in milliseconds, errors."""
    file, script = folder / "bodies.jsonl", folder / "script.lua"
    file.write_text("\n".join(json.dumps(b) for b in bodies))
    script.write_text(SCRIPT)
    options = ["-t", "1", "-c", str(callers), "-d", f"{max(1, round(seconds))}s", "--timeout", "60s", "-s", str(script)]
    command = [*cores()[1], "wrk", *options, url + path, "--", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(next(line for line in said.splitlines() if line.startswith("RESULT"))[7:])
    return {**found, "per_second": found["requests"] / found["seconds"]}


def prefixes(url: str) -> tuple[float, float]:
    """Histories that were known, and that were not, so far."""
    text = urllib.request.urlopen(f"{url}/metrics").read().decode()
    hits, misses = (float(re.search(rf"^genrec_prefix_{n} (\S+)", text, re.M)[1]) for n in ("hits", "misses"))  # type: ignore[index]
    return hits, misses


# --- who asks -----------------------------------------------------------------------------------------------------


class Bodies:
    """Requests over a catalogue, none of them twice."""

    def __init__(self, items: Sequence[str], users: Sequence[str], dataset: str) -> None:
        self.items, self.users, self.dataset = list(items), list(users), dataset
        self.draw = np.random.default_rng(0)

    def cold(self, n: int) -> list[object]:
        """Histories that nobody sent before."""
        return [{"dataset": self.dataset, "history": self.history(EVENTS)} for _ in range(n)]

    def history(self, events: int) -> list[str]:
        """Some items, in any order."""
        return self.draw.choice(self.items, min(events, len(self.items)), replace=False).tolist()

    def returning(self, steps: int) -> tuple[list[object], list[object]]:
        """The histories of USERS as they are at first, and the requests in which each grows by 1 to 4 events."""
        first = [self.history(START) for _ in range(USERS)]
        now, found = [list(h) for h in first], []
        for _ in range(steps):
            for own in now:
                own += self.draw.choice(self.items, int(self.draw.integers(1, 5))).tolist()
                found.append({"dataset": self.dataset, "history": list(own)})
        return [{"dataset": self.dataset, "history": h} for h in first], found

    def chats(self) -> list[object]:
        """Users of the run who ask for a list."""
        said = (f"recommend 5 items for user {user}" for user in self.users[:USERS])
        return [{"messages": [{"role": "user", "content": text}]} for text in said]


# --- parts --------------------------------------------------------------------------------------------------------


def measured(run: Path, part: str, bodies: Bodies, seconds: float, folder: Path) -> Found:
    """One workload at every number of callers, with batching and without, in turn."""
    found: Found = {}
    with server(genrec(run)) as (together, _), server(one_at_a_time(run)) as (alone, _):
        for callers in CALLERS:
            for name, url in (("batching", together), ("one at a time", alone)):
                before = prefixes(url)
                if part == "cold":
                    got = load(
                        url, "/v1/recommendations", bodies.cold(100 + int(seconds * 60)), callers, seconds, folder
                    )
                elif part == "returning":
                    first, then = bodies.returning(20)
                    for body in first:
                        post(url, "/v1/recommendations", body)
                    before = prefixes(url)
                    got = load(url, "/v1/recommendations", then, callers, min(seconds, 5), folder)
                    got["asked_twice"] = got["requests"] > len(then)
                else:
                    for body in bodies.chats():
                        post(url, "/v1/chat/completions", body)
                    before = prefixes(url)
                    got = load(url, "/v1/chat/completions", bodies.chats(), callers, seconds, folder)
                after = prefixes(url)
                asked = sum(after) - sum(before)
                found[f"{callers} callers, {name}"] = got | {"prefix_hits": (after[0] - before[0]) / max(asked, 1)}
    for callers in CALLERS:
        one, other = (found[f"{callers} callers, {n}"]["per_second"] for n in ("batching", "one at a time"))
        found[f"{callers} callers, batching is"] = one / other
    return found


def overhead(run: Path, bodies: Bodies, folder: Path) -> Found:
    """Median milliseconds of a list for a user whose history is known: over HTTP, and in the process."""
    recommender = Recommender.load(run)
    users = bodies.users[:USERS]
    seconds = []
    for user in [*users, *users, *users]:
        start = time.perf_counter()
        recommender.recommend(user, dataset=bodies.dataset)
        seconds.append(time.perf_counter() - start)
    inside = statistics.median(seconds[USERS:]) * 1e3
    with server(genrec(run)) as (url, _):
        asked = [{"user_id": user, "dataset": bodies.dataset} for user in users]
        for body in asked:
            post(url, "/v1/recommendations", body)
        got = load(url, "/v1/recommendations", asked, 1, 5, folder)
    return {"http_p50": got["p50"], "recommender_p50": inside, "overhead_ms": got["p50"] - inside}


def memory(run: Path, bodies: Bodies, folder: Path) -> Found:
    """Resident MiB of a server after 1,000 requests and after 10,000 more, of many kinds."""
    with server(genrec(run, "--prefix-mib", "64")) as (url, process):
        asked = [{"user_id": u, "dataset": bodies.dataset} for u in bodies.users]
        sizes, done = [], 0
        for goal in (1_000, 6_000, 11_000):
            while done < goal:
                done += load(url, "/v1/recommendations", asked, 8, 4, folder)["requests"]
                done += load(url, "/v1/chat/completions", bodies.chats(), 8, 2, folder)["requests"]
            sizes.append((done, round(process.memory_info().rss / 2**20)))
    return {"requests": [n for n, _ in sizes], "MiB": [m for _, m in sizes]}


def waits(run: Path, bodies: Bodies, titles: Sequence[str]) -> Found:
    """What small requests wait for beside the largest ones, in seconds."""
    with server(genrec(run, "--timeout", "300"), pinned=False) as (url, process):
        requests = largest(bodies.items, titles, bodies.users, bodies.dataset)
        found: Found = waits_beside(url, requests, bodies.dataset, bodies.items)
        found["MiB"] = round(process.memory_info().rss / 2**20)
    worst = max((f["list"], n) for n, f in found.items() if n != "MiB")
    return {**found, "longest": f"{worst[0]:.2f} s, beside {worst[1]}"}


def plain(run: Path, bodies: Bodies, seconds: float, folder: Path) -> Found:
    """The same route answered by beams of transformers' generate over the titles."""
    found: Found = {}
    with server([sys.executable, __file__, str(run), "--plain"]) as (url, _):
        found["cold"] = load(url, "/v1/recommendations", bodies.cold(200), 1, max(seconds, 20), folder)
        found["returning"] = load(url, "/v1/recommendations", bodies.returning(2)[1], 1, max(seconds, 20), folder)
    return found


def serve_plain(run: Path) -> None:
    """A server as one would write it: no caches, no batches, beams that stay in a trie of titles."""
    import socket

    import uvicorn
    from bench_decode import Titles
    from fastapi import FastAPI

    recommender = Recommender.load(run)
    titles = Titles(recommender)
    app = FastAPI()
    lock = threading.Lock()

    @app.get("/ready")
    def ready() -> str:
        return "ok"

    @app.post("/v1/recommendations")
    def recommend(body: dict[str, Any]) -> dict[str, Any]:
        with lock:
            view = recommender.views.of(body["dataset"])
            row = prompts_of(recommender.views, view, [""], [given_history(view, body["history"])]).row(0, [])
            model, dataset = recommender.adapter.model, body["dataset"]
            items = recommender.scorer.item_rows(dataset)[0]
            prompt = model.embed(torch.as_tensor([row.tokens]), dataset, items).to(model.compute_dtype)
            return {"items": titles.tokenizer.batch_decode(titles.best(prompt), skip_special_tokens=True)}

    own = socket.socket()
    own.bind(("127.0.0.1", 0))
    own.listen()
    print(f"plain serves at http://127.0.0.1:{own.getsockname()[1]} (bench)", file=sys.stderr, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[own])


def show(part: str, found: Found) -> None:
    """A part as lines."""
    print(f"\n{part}")
    for name, value in found.items():
        if isinstance(value, dict) and "health" in value:
            waited = f"a list waits {value['list']:5.2f} s   /health {value['health']:5.2f} s"
            print(f"  {name:30} {value['status']} after {value['seconds']:6.2f} s   {waited}")
        elif isinstance(value, dict):
            hits = f", prefixes known {value['prefix_hits']:.0%}" if "prefix_hits" in value else ""
            print(
                f"  {name:28} {value['per_second']:8.1f} requests/s   p50 {value['p50']:8.1f} ms   "
                f"p95 {value['p95']:8.1f} ms   {value['errors']} errors{hits}"
            )
        else:
            print(f"  {name:28} {value:.2f}" if isinstance(value, float) else f"  {name:28} {value}")


def main() -> None:
    """Measure the parts that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (default: 10)")
    parser.add_argument("--dataset", help="data set of the run (default: its first)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        serve_plain(args.run)
        return
    if not shutil.which("wrk"):
        parser.error("wrk is needed: apt-get install wrk, or brew install wrk")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = Path(shutil.copytree(args.run, folder / "run"))  # lists that are given are remembered there
        recommender = Recommender.load(run)
        dataset = args.dataset or recommender.datasets[0]
        items = recommender.catalogue(dataset)
        titles = items["title"].drop_nulls().to_list()
        bodies = Bodies(items["item_id"].to_list(), recommender.all_users(dataset), dataset)
        del recommender
        found: Found = {}
        for part in args.only:
            if part in ("cold", "returning", "chat"):
                found[part] = measured(run, part, bodies, args.seconds, folder)
            elif part == "plain":
                found[part] = plain(run, bodies, args.seconds, folder)
            elif part == "waits":
                found[part] = waits(run, bodies, titles)
            else:
                found[part] = (overhead if part == "overhead" else memory)(run, bodies, folder)
            show(part, found[part])
        for ours, theirs in itertools.product(("cold", "returning"), ("plain",)):
            if ours in found and theirs in found:
                name = f"{ours}: batching at 32 callers over plain generate at 1"
                found[name] = found[ours]["32 callers, batching"]["per_second"] / found[theirs][ours]["per_second"]
                print(f"\n{name}: {found[name]:.1f} times")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
