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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The folder of the socket of a server that only its owner reaches; it ends with the tests."""
    psycopg = pytest.importorskip("psycopg")
    initdb, postgres, owner = _program("initdb"), _program("postgres"), _owner()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # the path of a socket must be short
    try:
        if owner:
            os.chown(folder, int(str(owner["user"])), int(str(owner["group"])))
        data = ["-D", str(folder / "data")]
        create = [initdb, *data, "--username=genrec", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(create, check=True, capture_output=True, cwd=folder, **owner)
        serve = [postgres, *data, "-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with (folder / "log").open("w") as log, subprocess.Popen(serve, cwd=folder, stderr=log, **owner) as server:
            try:
                for _ in range(600):
                    try:
                        psycopg.connect(f"host={folder} user=genrec dbname=postgres").close()
                        break
                    except psycopg.OperationalError:
                        assert server.poll() is None, (folder / "log").read_text()
                        time.sleep(0.05)
                yield str(folder)
            finally:
                server.send_signal(signal.SIGINT)  # ends at once, whoever is connected
                server.wait()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database."""
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(f"host={postgres_server} user=genrec dbname=postgres", autocommit=True) as admin:
        admin.execute(f"create database {name}")
        yield f"postgresql+psycopg://genrec@/{name}?host={postgres_server}"
        admin.execute(f"drop database {name} with (force)")
