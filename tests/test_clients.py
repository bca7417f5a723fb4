"""Clients that others wrote, at work on a server: SDKs of Python and Node, frameworks, schemathesis, Chromium."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from chromium import chromium, needs_chromium
from filelock import FileLock
from playwright.sync_api import expect
from serving import Server, serving

from genrec.data.fetch import cache_folder

CLIENTS = Path(__file__).parent / "clients"
EXAMPLES = Path(__file__).parents[1] / "examples"
FRAMEWORKS = ("langchain", "llama_index", "litellm", "gradio")

pytestmark = pytest.mark.slow


@contextmanager
def served(toy_run: Path, folder: Path) -> Iterator[Server]:
    """A server on a copy of the run, whose store is its own."""
    copy = folder / "toy"
    shutil.copytree(toy_run, copy)
    with serving(copy, "--record-events") as found:
        yield found


@pytest.fixture(scope="module")
def server(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(toy_run, tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture(scope="module")
def listed(server: Server) -> str:
    """The answer that every client must show."""
    return str(server.chat("recommend 3 items for user u001")["content"])


def built(name: str, text: str, build: Any) -> Path:
    """A folder under the cache that `build` fills once for this text: whole or absent."""
    tag = hashlib.sha256(f"{sys.version_info[:2]} {text}".encode()).hexdigest()[:12]
    folder = cache_folder() / "environments" / f"{name}-{tag}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            build(partial)
            partial.replace(folder)
    return folder


def python_of(requirements: str) -> str:
    """The Python of an environment with a file of requirements."""
    file = CLIENTS / f"requirements-{requirements}.txt"

    def build(folder: Path) -> None:
        venv.create(folder)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q"]
        subprocess.run([*pip, "-r", str(file)], check=True)

    return str(built(f"clients-{requirements}", file.read_text(), build) / "bin" / "python")


def ran(command: list[str], **environment: str) -> str:
    """What a command prints; its errors where it fails."""
    own = {**os.environ, **environment}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=own, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def python_client(server: Server, client: str) -> Any:
    """What one of Python's clients found."""
    own = sys.executable if client == "mcp" else python_of("frameworks" if client in FRAMEWORKS else "openai")
    said = ran([own, str(CLIENTS / "python_clients.py"), server.url, client], GRADIO_ANALYTICS_ENABLED="False")
    return json.loads(said.strip().splitlines()[-1])


def test_openai_python(server: Server, listed: str) -> None:
    found = python_client(server, "openai")
    assert found["models"] == ["toy"]
    texts = ("text", "streamed", "completion", "response", "streamed_response")
    assert {found[name] for name in texts} == {listed}
    assert found["usage"][0] == found["usage"][1] > 20
    assert len(found["structured"]["items"]) == 3
    assert found["embeddings_agree"] < 1e-6
    assert found["error"] == ["model_not_found", "model", True]


def test_langchain(server: Server, listed: str) -> None:
    found = python_client(server, "langchain")
    assert found["text"] == found["streamed"] == listed
    assert found["structured"] == found["called"]
    assert [i["title"] in listed for i in found["structured"]["items"]] == [True] * 3
    assert found["vectors"] == 2


def test_llama_index(server: Server, listed: str) -> None:
    found = python_client(server, "llama_index")
    assert found["text"] == found["chat"] == found["streamed"] == listed


def test_litellm(server: Server, listed: str) -> None:
    found = python_client(server, "litellm")
    assert found["text"] == found["streamed"] == listed
    assert found["health"] and found["reranked"] == [0, 1]


def test_llm(server: Server, listed: str) -> None:
    found = python_client(server, "llm")
    assert found["text"] == listed and len(found["structured"]["items"]) == 3


def test_gradio(server: Server, listed: str) -> None:
    assert python_client(server, "gradio")["text"] == listed


def test_mcp_over_http(server: Server, listed: str) -> None:
    found = python_client(server, "mcp")
    assert {"recommend", "rank_items", "predict", "get_user_history", "record_event"} <= set(found["tools"])
    assert all(i["title"] in listed for i in found["items"]) and len(found["items"]) == 3
    assert found["error"][0] and "nothing" in found["error"][1]
    assert found["item"] == "red 2"
    assert "nothing" in found["missing"]


def node_folder() -> Path:
    """The folder with Node's clients."""
    if not shutil.which("npm"):
        pytest.skip("no npm on this machine")
    wanted = (CLIENTS / "package.json").read_text()

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "package.json").write_text(wanted)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)

    return built("clients-node", wanted, build)


@pytest.mark.parametrize("client", ["openai", "ai_sdk", "ai_sdk_compatible"])
def test_node(server: Server, listed: str, client: str) -> None:
    script = shutil.copy(CLIENTS / "node_clients.mjs", node_folder())
    found = json.loads(ran(["node", str(script), server.url, client]))
    assert found["text"] == found["streamed"] == listed
    if client == "openai":
        assert found["embeddings_agree"] < 1e-6 and found["error"] == [404, "model_not_found"]
    else:
        assert found["reason"] == "stop" and len(found["structured"]["items"]) == 3


def test_continue(server: Server, listed: str, tmp_path: Path) -> None:
    model = {"name": "genrec", "provider": "openai", "model": "toy", "apiBase": f"{server.url}/v1", "apiKey": "none"}
    config = {"name": "genrec", "version": "1.0.0", "schema": "v1", "models": [{**model, "roles": ["chat"]}]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [str(node_folder() / "node_modules" / ".bin" / "cn"), "--config", str(tmp_path / "config.yaml")]
    own = {"HOME": str(tmp_path), "CONTINUE_GLOBAL_DIR": str(tmp_path / "continue"), "CONTINUE_TELEMETRY_ENABLED": "0"}
    first = ran([*command, "-p", "recommend 3 items for user u001"], **own)
    assert first.strip() == listed.strip()
    more = ran([*command, "--resume", "-p", "more"], **own)
    numbered = [line.split(". **")[0] for line in more.splitlines() if ". **" in line]
    assert numbered[0] == "4"


@pytest.mark.parametrize("large", [False, True])
def test_schemathesis(toy_run: Path, tmp_path: Path, large: bool) -> None:
    python = python_of("frameworks")
    tool = [python, str(Path(python).with_name("schemathesis")), "run"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    options = ["--max-examples", "25", "--checks", checks, "--no-color", "--generation-deterministic"]
    with served(toy_run, tmp_path) as own:  # it adds items and users of its own
        command = [*tool, f"{own.url}/openapi.json", *options, *(["--max-examples", "10"] if large else [])]
        hooks = {"SCHEMATHESIS_HOOKS": "large_bodies", "PYTHONPATH": str(CLIENTS)} if large else {}
        environment = {**os.environ, **hooks}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:]


def test_the_examples_run(server: Server, listed: str) -> None:
    said = ran([python_of("openai"), str(EXAMPLES / "openai_sdk.py"), server.url])
    assert "1. **" in said and "4. **" in said  # a list, and more of it
    code = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0])"
    ran([python_of("frameworks"), "-c", code, str(EXAMPLES / "chat_page.py"), server.url, "toy"])


@needs_chromium
def test_the_chainlit_example_answers_in_a_browser(server: Server, listed: str, tmp_path: Path) -> None:
    python = python_of("chainlit")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = shutil.copy(EXAMPLES / "chainlit_app.py", tmp_path)
    command = [python, "-m", "chainlit", "run", str(app), "-h", "--port", str(port)]
    environment = {**os.environ, "GENREC_URL": server.url}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as chainlit:
        try:
            assert chainlit.stdout is not None
            assert any("available at" in line for line in chainlit.stdout)
            with chromium() as browser:
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{port}")
                page.locator("#chat-input").fill("recommend 3 items for user u001")
                page.locator("#chat-submit").click()
                shown = page.locator("ol li")
                titles = [line.split("**")[1] for line in listed.splitlines() if "**" in line]
                whole = [re.compile(rf"^\s*{re.escape(title)}( – .*)?\s+\d+\s*$") for title in titles]
                assert len(titles) == 3
                expect(shown).to_have_text(whole, timeout=60_000)  # once they are written
        finally:
            chainlit.kill()
