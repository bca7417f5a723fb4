"""A service in this process: whether it is ready, and what a hung model makes of that."""

import asyncio
import shutil
import threading
import time
from pathlib import Path

import pytest

from genrec.serving import service as services
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
    while service.not_ready is None:
        time.sleep(0.01)
    assert "has not answered" in service.not_ready
    gate.set()
    job.result(10)
    while service.not_ready is not None:
        time.sleep(0.01)


def test_a_hung_model_does_not_hang_its_callers(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    service.submit(lambda _: gate.wait())
    monkeypatch.setattr(service, "config", ServeConfig(run=service.config.run, timeout=0.1))

    async def ask() -> None:
        await service.ask(lambda _: None)

    async def stream() -> None:
        async for _ in service.stream(lambda _, hand: hand("x")):
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
        async for piece in service.stream(work):  # type: ignore[arg-type]
            found.append(piece)
            gate.set()
        return found

    assert asyncio.run(read()) == ["first", Done("last")]


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
