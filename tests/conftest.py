"""One thread and no model hub. Downloads are shared with the user's own cache; rows of tests are not."""

import os
import shutil
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

USERS = 150  # of the toy world
pytest_plugins = ["golden_option", "postgres_server"]


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the chain world as files and a tiny backbone."""
    from tiny import tiny_backbone
    from worlds import WORDS, chain_world

    folder = tmp_path_factory.mktemp("toy")
    world = chain_world(users=USERS)
    world.interactions.select("user_id", "item_id", "rating", "timestamp").write_csv(folder / "chain.csv")
    world.items.write_csv(folder / "items.csv")
    world.users.write_csv(folder / "users.csv")
    tiny_backbone(folder / "tiny", WORDS, hidden_size=64)
    return folder


def toy_command(files: Path, out: Path, *more: str) -> list[str]:
    """The command that learns the chain world in some seconds."""
    data = [
        "--interactions",
        str(files / "chain.csv"),
        "--items",
        str(files / "items.csv"),
        "--users",
        str(files / "users.csv"),
    ]
    rates = [
        "--lr",
        "5e-3",
        "--row-lr",
        "2e-2",
        "--dropout",
        "0.05",
        "--batch-tokens",
        "512",
        "--epochs",
        "30",
        "--patience",
        "30",
    ]
    return ["finetune", *data, "--model", str(files / "tiny"), "--layers", "2", "--out", str(out), *rates, *more]


@pytest.fixture(scope="session")
def toy_run(toy_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the chain world, trained through the command."""
    from genrec.cli import main

    out = tmp_path_factory.mktemp("runs") / "toy"
    assert main(toy_command(toy_files, out)) == 0
    return out


@pytest.fixture(scope="session")
def evaluated_run(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the toy run, evaluated; tests that change it copy it again."""
    from genrec.cli import main

    copy = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(toy_run, copy)
    assert main(["evaluate", str(copy)]) == 0
    return copy
