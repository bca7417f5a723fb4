"""A server of a run, as its own process."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

SECRET = "of thirty-two bytes, or of more than that"
START = re.compile(r"at (http://\S+) \(")


def user_token(secret: str = SECRET, **claims: object) -> str:
    """A user's token as Open WebUI makes it; a claim that is None is left out."""
    now = int(time.time())
    own = {"sub": "u003", "email": "a@b.example", "iss": "open-webui", "iat": now, "exp": now + 300, **claims}
    return jwt.encode({k: v for k, v in own.items() if v is not None}, secret, "HS256")


@dataclass
class Server:
    """A running `genrec serve`."""

    process: "subprocess.Popen[str]"
    url: str
    lines: list[str] = field(default_factory=list)

    def call(
        self, path: str, body: object = None, method: str | None = None, timeout: float = 60, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (else text) and headers of a request; header names have _ for -."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        named = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        request = urllib.request.Request(self.url + path, data, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                status, text, own = response.status, response.read().decode(), dict(response.headers.items())
        except urllib.error.HTTPError as error:
            status, text, own = error.code, error.read().decode(), dict(error.headers.items())
        try:
            return status, json.loads(text), {k.lower(): v for k, v in own.items()}
        except ValueError:
            return status, text, {k.lower(): v for k, v in own.items()}

    def get(self, path: str, **more: Any) -> Any:
        """The JSON of a request that succeeds."""
        status, found, _ = self.call(path, **more)
        assert status < 400, found
        return found

    def chat(self, *said: str, **more: Any) -> dict[str, Any]:
        """The message that answers a chat; texts are said by user and assistant in turn."""
        roles = ("user", "assistant")
        messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
        headers = more.pop("headers", {})
        found = self.get("/v1/chat/completions", body={"messages": messages, **more}, **headers)
        return dict(found["choices"][0]["message"])

    def ended(self) -> int:
        """The exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(run: Path, *options: str, ready: bool = True, **environment: str) -> Iterator[Server]:
    """`genrec serve RUN` on a free port, ready to answer."""
    command = [sys.executable, "-m", "genrec", "serve", str(run), "--port", "0", *options]
    own = {**os.environ, **environment}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=own)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        url = None
        for line in process.stderr:
            lines.append(line)
            if match := START.search(line):
                url = match[1]
                break
        assert url is not None, "".join(lines)
        server = Server(process, url, lines)
        threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()
        while ready and server.call("/ready")[0] != 200:
            assert process.poll() is None, "".join(lines)
            time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()
