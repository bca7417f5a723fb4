"""A private PostgreSQL server for the tests that need one: `postgres_url` is a fresh database on it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

_numbers = count()


def _program(name: str) -> str:
    """The path of a server program; distributions keep them off the PATH."""
    places = [*os.environ["PATH"].split(os.pathsep), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"PostgreSQL is not installed: no {name}")
    return found


def _owner() -> dict[str, object]:
    """How to start the server, which refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class PostgresServer:
    """A server that only its owner reaches, through a socket in `folder`; it can be ended and started again."""

    def __init__(self) -> None:
        initdb, self.program, self.owner = _program("initdb"), _program("postgres"), _owner()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # the path of a socket must be short
        self.process: subprocess.Popen[bytes] | None = None
        if self.owner:
            os.chown(self.folder, int(str(self.owner["user"])), int(str(self.owner["group"])))
        own = ["-D", str(self.folder / "data"), "--username=genrec", "--auth=trust"]
        create = [initdb, *own, "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(create, check=True, capture_output=True, cwd=self.folder, **self.owner)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        data = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen([self.program, *data], cwd=self.folder, stderr=log, **self.owner)
        for _ in range(600):
            try:
                psycopg.connect(self.socket("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """End it at once, whoever is connected."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """End it for good."""
        self.stop()
        shutil.rmtree(self.folder)

    def socket(self, database: str) -> str:
        """How psycopg connects."""
        return f"host={self.folder} user=genrec dbname={database}"

    def url(self, database: str) -> str:
        """How SQLAlchemy connects."""
        return f"postgresql+psycopg://genrec@/{database}?host={self.folder}"

    def create(self, database: str) -> None:
        """Make an empty database."""
        self._admin(f"create database {database}")

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected."""
        self._admin(f"drop database {database} with (force)")

    def _admin(self, command: str) -> None:
        import psycopg

        with psycopg.connect(self.socket("postgres"), autocommit=True) as admin:
            admin.execute(command)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for all tests."""
    pytest.importorskip("psycopg")
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"test_{next(_numbers)}"
    postgres_server.create(name)
    yield postgres_server.url(name)
    postgres_server.drop(name)
