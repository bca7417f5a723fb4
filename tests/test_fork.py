"""A run that was loaded before a fork says so at once in the fork, and one loaded there answers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genrec.errors import UnavailableError
from genrec.recommender import Recommender

BOUND = 120  # seconds, for a fork that must not hang

SERVER = """
import os, sys, time
from genrec.serving.config import ServeConfig
from genrec.serving.service import Service

service = Service(ServeConfig(run=sys.argv[1]))
service.load()
future = service._scheduler.submit(lambda: service.recommender.recommend("u001").frame.height, time.monotonic() + 600)
assert future.result(600) > 0
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    service._scheduler.submit(lambda: None, time.monotonic() + 600)
except Exception as error:
    print(type(error).__name__, error, flush=True)
    os._exit(7)
os._exit(0)
"""


def ended(child: int) -> int:
    """The exit status of a forked child; it is killed if it hangs."""
    end = time.monotonic() + BOUND
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the fork hangs")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
def test_a_fork_of_a_loaded_run(toy_run: Path) -> None:
    """Each way to ask raises one clear error in the fork; the parent answers as before."""
    recommender = Recommender.load(toy_run)
    first = recommender.recommend("u001").frame
    asks = [
        lambda: recommender.recommend("u001"),
        lambda: recommender.predict("rating", users=["u001"], items=["003"]),
        lambda: recommender.similar("003"),
        lambda: recommender.embed_items(),
        lambda: recommender.has_user("u001"),
        lambda: recommender.history("u001"),
    ]
    child = os.fork()
    if child == 0:
        refused = 0
        for ask in asks:
            try:
                ask()
            except UnavailableError as error:
                refused += f"loaded in process {os.getppid()}" in str(error) and "spawn" in str(error)
        os._exit(refused)
    assert ended(child) == len(asks)
    assert recommender.recommend("u001").frame.equals(first)


def test_a_forked_server(toy_run: Path) -> None:
    """A job given to the model thread, which a fork does not have, is refused instead of waited for."""
    done = subprocess.run(
        [sys.executable, "-c", SERVER, str(toy_run)], capture_output=True, text=True, timeout=5 * BOUND
    )
    assert done.returncode == 7 and done.stdout.startswith("UnavailableError this run was loaded in"), done
