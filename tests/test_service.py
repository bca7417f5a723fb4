"""A service in this process: whether it is ready, and what a hung model makes of that."""

import ast
import asyncio
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jwt
import pytest
from serving import SECRET, user_token
from waiting import until

import genrec.serving
from genrec.errors import DataError
from genrec.serving import service as services
from genrec.serving.callers import Caller, caller_of
from genrec.serving.config import Keys, ServeConfig, read_keys
from genrec.serving.errors import ApiError
from genrec.serving.service import Done, Service


@pytest.fixture(scope="module")
def service(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    copy = tmp_path_factory.mktemp("service") / "toy"
    shutil.copytree(toy_run, copy)
    found = Service(ServeConfig(run=str(copy), timeout=30))
    assert found.not_ready == "the run is being loaded"
    with pytest.raises(ApiError, match="503"):
        found.recommender  # noqa: B018
    found.load()
    return found


def test_a_hung_model_is_not_ready(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "STUCK", 0.1)
    assert service.not_ready is None
    gate = threading.Event()
    job = service.submit(lambda _: gate.wait())
    until(lambda: service.not_ready is not None)
    assert "has not answered" in service.not_ready
    gate.set()
    job.result(10)
    until(lambda: service.not_ready is None)


def test_a_hung_model_does_not_hang_its_callers(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    service.submit(lambda _: gate.wait())
    monkeypatch.setattr(service, "config", ServeConfig(run=service.config.run, timeout=0.1))

    async def ask() -> None:
        await service.ask(lambda _: None)

    async def stream() -> None:
        async for _ in service.stream(lambda _, hand: hand("x")).pieces:
            pass

    for work in (ask, stream):
        with pytest.raises(ApiError) as error:
            asyncio.run(work())
        assert error.value.status == 504
    gate.set()


def test_a_stream_hands_out_pieces_before_its_end(service: Service) -> None:
    gate = threading.Event()

    def work(_: object, hand: object) -> str:
        hand("first")  # type: ignore[operator]
        gate.wait()
        return "last"

    async def read() -> list[object]:
        found: list[object] = []
        async for piece in service.stream(work).pieces:  # type: ignore[arg-type]
            found.append(piece)
            gate.set()
        return found

    assert asyncio.run(read()) == ["first", Done("last")]


def test_no_endpoint_reaches_through_the_recommender() -> None:
    for file in Path(genrec.serving.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("store", "engine", "adapter"):
                owner = ast.unparse(node.value)
                assert owner in ("config", "self.config"), f"{file}:{node.lineno}: {owner}.{node.attr}"


def test_keys_of_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("one\n# two\n\nthree 42\n")
    monkeypatch.setenv("GENREC_API_KEYS", "four, five")
    keys = read_keys(str(file))
    assert [keys.user_of(k) for k in ("one", "three", "four", "five")] == [None, "42", None, None]
    for wrong in ("two", "", "three 42", "One"):
        with pytest.raises(KeyError):
            keys.user_of(wrong)
    assert not Keys({}) and "three" not in repr(keys)


def test_a_signed_user_is_the_only_one_who_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREC_API_KEYS", "app,own")
    monkeypatch.setenv("GENREC_USER_JWT_SECRET", SECRET)
    keys, config = read_keys(None), ServeConfig()
    app = {"authorization": "Bearer app", "x-openwebui-user-id": "u001", "x-genrec-user": "u001"}
    assert caller_of(app, keys, config) == Caller()  # anybody on the way could have written these
    assert caller_of(app | {"x-openwebui-user-jwt": user_token()}, keys, config) == Caller("u003", True)
    unsigned = jwt.encode({"sub": "u003", "iss": "open-webui", "exp": time.time() + 300}, "", "none")
    late = user_token(exp=int(time.time()) - 120)
    for wrong in (
        user_token("x" * 40),
        late,
        user_token(iss="another"),
        user_token(exp=None),
        user_token(sub=None),
        unsigned,
        "",
        "a.b.c",
    ):
        with pytest.raises(ApiError) as error:
            caller_of(app | {"x-openwebui-user-jwt": wrong}, keys, config)
        assert (error.value.status, error.value.code) == (401, "invalid_user_token")
    assert SECRET not in repr(keys)


@pytest.mark.parametrize(("secret", "keys", "said"), [("short", "app", "at least 32"), (SECRET, "", "no key is")])
def test_a_secret_that_could_not_protect(secret: str, keys: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREC_API_KEYS", keys)
    monkeypatch.setenv("GENREC_USER_JWT_SECRET", secret)
    with pytest.raises(DataError, match=said):
        read_keys(None)


IMPORTS_BESIDE_A_LOAD = """
import sys
from fastapi.testclient import TestClient
from genrec.serving.app import create_app
from genrec.serving.config import Keys, ServeConfig
app = create_app(ServeConfig(run=sys.argv[1]), Keys({}))
client = TestClient(app, base_url="http://127.0.0.1")  # without its lifespan nothing is loaded
question = [{"role": "user", "content": "recommend for user u001"}]
for path, body in (
    ("recommendations", {"user_id": "u001"}),
    ("rank", {"user_id": "u001", "items": ["001"]}),
    ("predictions", {"task": "rating", "user_id": "u001", "item_id": "001"}),
    ("chat/completions", {"model": "toy", "messages": question}),
    ("responses", {"model": "toy", "input": "recommend for user u001"}),
    ("embeddings", {"model": "toy", "input": "red"}),
):
    assert (status := client.post("/v1/" + path, json=body).status_code) == 503, (path, status)
print(sorted({"torch", "transformers"} & set(sys.modules)))
"""


def test_requests_while_the_run_loads_import_nothing_that_its_thread_imports(toy_run: Path) -> None:
    code = [sys.executable, "-c", IMPORTS_BESIDE_A_LOAD, str(toy_run)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
