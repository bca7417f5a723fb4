"""An adapter alone answers as its run does: from a folder, from a hub; and what it must not do."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import polars as pl
import pytest
import yaml
from hub_server import Hub, Repository, hub_server
from polars.testing import assert_frame_equal

from genrec.cli import main
from genrec.errors import DataError, RunError, UnavailableError
from genrec.recommender import Recommender
from genrec.run.card import update_card
from genrec.run.manifest import file_hash
from genrec.run.opened import open_run, run_name

Said = pytest.CaptureFixture[str]
HISTORY = ["003", "004", "005"]
ASKED = ["--history", ",".join(HISTORY), "-k", "5", "--json"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with nobody logged in and nothing in the cache."""
    with hub_server() as server:
        constants = huggingface_hub.constants
        for name, value in (("ENDPOINT", server.url), ("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_XET", True)):
            monkeypatch.setattr(constants, name, value)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()


@pytest.fixture
def adapter(toy_run: Path, toy_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toy run's adapter, alone in a folder; its backbone is a folder of the working directory."""
    folder = tmp_path / "received"
    shutil.copytree(toy_run / "adapter", folder)
    monkeypatch.chdir(toy_files)
    return folder


def rewritten(folder: Path, **keys: object) -> None:
    """Change keys of an adapter's manifest."""
    path = folder / "genrec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


# --- a folder -----------------------------------------------------------------------------------------------------


def test_it_answers_as_the_run(adapter: Path, toy_run: Path, capsys: Said) -> None:
    run, alone = Recommender.load(toy_run), Recommender.load(adapter)
    assert_frame_equal(alone.recommend(history=HISTORY, k=8).frame, run.recommend(history=HISTORY, k=8).frame)
    assert_frame_equal(alone.similar("004").frame, run.similar("004").frame)
    assert_frame_equal(alone.embed_items(), run.embed_items())
    rated, items = [(item, 5.0) for item in HISTORY], ["004", "005"]
    found = alone.predict("rating", history=rated, items=items).frame
    assert_frame_equal(found, run.predict("rating", history=rated, items=items).frame)
    assert found["item_id"].to_list() == items and found["user_id"].null_count() == 2
    assert alone.all_users() == []
    capsys.readouterr()
    answers = []
    for where in (adapter, toy_run / "adapter", toy_run):
        assert main(["recommend", str(where), *ASKED]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == answers[2] and len(answers[0]["items"]) == 5
    assert main(["predict", str(adapter), "--task", "rating", "--history", "001,002", "--item", "004"]) == 0
    assert main(["ask", "like 004", "--run", str(adapter)]) == 0
    assert main(["similar", str(adapter), "--item", "004"]) == 0
    assert main(["embed", str(adapter), "--items", "--out", str(adapter.parent / "items.parquet")]) == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ["recommend", "RUN", "--user", "u001"],
            "--user: RUN is an adapter alone, which knows no users: give --history",
        ),
        (["recommend", "RUN", "--users", "all", "--out", "x.csv"], "--users: RUN is an adapter alone"),
        (["predict", "RUN", "--task", "rating", "--user", "u001", "--item", "004"], "--user: RUN is an adapter alone"),
        (["predict", "RUN", "--task", "rating", "--item", "004"], "give --user or --history"),
        (["predict", "RUN", "--task", "rating", "--item", "004", "--history", "zz"], "Unknown item 'zz'"),
        (["embed", "RUN", "--users", "--out", "x.parquet"], "--users: RUN is an adapter alone"),
        (["evaluate", "RUN"], "RUN is an adapter alone, without the users and the data of its run"),
        (["report", "RUN"], "RUN is an adapter alone"),
        (["align", "RUN"], "RUN is an adapter alone"),
        (["finetune", "--resume-from", "RUN"], "--resume-from RUN is an adapter alone"),
    ],
)
def test_what_needs_the_run_says_so(adapter: Path, command: list[str], said: str, capsys: Said) -> None:
    assert main([str(adapter) if word == "RUN" else word for word in command]) == 2
    assert said.replace("RUN", str(adapter)) in capsys.readouterr().err


def test_nothing_is_recorded_for_nobody(adapter: Path) -> None:
    recommender = Recommender.load(adapter)
    store = Path(str(recommender.store.engine.url.database))
    assert store.stat().st_mode & 0o077 == 0 and store.parent.stat().st_mode & 0o077 == 0
    with pytest.raises(DataError, match="events are not recorded: an adapter alone has no store"):
        recommender.records.add_events([{"user_id": "u1", "item_id": "004"}], "chain")
    with pytest.raises(DataError, match="items are not recorded"):
        recommender.records.add_items([{"item_id": "new", "title": "x"}], "chain")
    del recommender


def test_files_that_it_does_not_list_are_not_read(adapter: Path, capsys: Said) -> None:
    (adapter / "config.yaml").write_text("model: /etc\n")
    (adapter / "data").mkdir()
    (adapter / "data" / "data.json").write_text("{")
    (adapter / "notes.txt").write_text("mine")
    (adapter / "README.md").write_text("# My own words\n")
    assert main(["recommend", str(adapter), *ASKED]) == 0
    manifest = json.loads((adapter / "genrec.json").read_text())
    assert "counts.safetensors" in manifest["files"] and "README.md" not in manifest["files"]
    del manifest["files"]["counts.safetensors"]
    rewritten(adapter, files=manifest["files"])
    capsys.readouterr()
    assert main(["recommend", str(adapter), *ASKED]) == 2
    assert "counts.safetensors is refused: genrec.json does not list it" in capsys.readouterr().err


def test_a_backbone_of_another_machine_is_asked_for(
    adapter: Path, toy_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recommend", str(adapter), *ASKED]) == 2
    assert "'tiny' on its trainer's machine: say with --model where a copy of it is" in capsys.readouterr().err
    assert main(["recommend", str(adapter), *ASKED, "--model", str(toy_files / "tiny")]) == 0


# --- the card -----------------------------------------------------------------------------------------------------


def test_the_card(adapter: Path, evaluated_run: Path, toy_run: Path, tmp_path: Path) -> None:
    card = huggingface_hub.ModelCard.load(adapter / "README.md")
    assert card.data.library_name == "genrec" and {"peft", "recommender-system"} <= set(card.data.tags)
    assert card.data.license is None and "No licence is stated" in card.text
    text = str(card)
    assert "interactions of 150 users" in text and "u001" not in text and str(tmp_path.parent) not in text
    measured = huggingface_hub.ModelCard.load(evaluated_run / "adapter" / "README.md").data
    results = json.loads((evaluated_run / "results.json").read_text())["datasets"]["chain"]["tasks"]
    by_key = {(r.task_name, r.metric_type): r.metric_value for r in measured.eval_results}
    ndcg = results["next_item"]["served"]["metrics"]
    (name,) = [n for n in ndcg if n.endswith("ndcg@10")][:1]
    assert by_key["next_item", name] == pytest.approx(ndcg[name]["value"], abs=1e-6)
    assert main(["recommend", str(evaluated_run), "--history", "003"]) == 0  # the card may change
    update_card(adapter, where="hf://ann/films", licence="cc-by-nc-4.0")
    again = huggingface_hub.ModelCard.load(adapter / "README.md")
    assert again.data.license == "cc-by-nc-4.0" and "Licence of the adapter: cc-by-nc-4.0." in again.text
    assert "genrec recommend hf://ann/films --history=" in again.text and "genrec.load('hf://ann/films')" in again.text
    assert again.data.eval_results == card.data.eval_results
    with pytest.raises(DataError, match="--license 'My Own!'"):
        update_card(adapter, licence="My Own!")


def test_what_people_wrote_into_a_card_stays(adapter: Path) -> None:
    path = adapter / "README.md"
    path.write_text(path.read_text().replace("# A genrec adapter", "# Films for everybody") + "\nMy words.\n")
    update_card(adapter, where="hf://ann/films")
    text = path.read_text()
    assert "# Films for everybody" in text and text.endswith("My words.\n") and "hf://ann/films" in text
    path.write_text("---\nlicense: [\n---\n")
    with pytest.raises(RunError, match="its metadata cannot be read"):
        update_card(adapter, where="hf://ann/films")
    path.unlink()
    update_card(adapter, licence="mit")
    assert yaml.safe_load(path.read_text().split("---")[1])["license"] == "mit"


# --- the hub ------------------------------------------------------------------------------------------------------


def test_pushed_and_asked(hub: Hub, toy_run: Path, toy_files: Path, tmp_path: Path, capsys: Said) -> None:
    """The commands as people run them, in processes of their own."""
    run = tmp_path / "mine"
    shutil.copytree(toy_run, run)
    (run / "adapter" / "notes.txt").write_text("private")
    environment = os.environ | {
        **{"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"},
        **{"HF_TOKEN": "hf_writer", "HF_HUB_DISABLE_XET": "1"},
    }

    def genrec(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "genrec", *words]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment | more, cwd=toy_files, check=False
        )

    pushed = genrec("push", str(run), "ann/films", "--private", "--license", "mit")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.strip() == f"{hub.url}/ann/films"
    files = hub.files("ann/films")
    listed = json.loads(files["genrec.json"])["files"]
    assert set(files) == {".gitattributes", "genrec.json", "README.md", *listed}
    assert hub.repositories["ann/films"].private and b"license: mit" in files["README.md"]
    assert any(request.startswith("PUT /lfs/") for request in hub.requests)
    asked = genrec("recommend", "hf://ann/films", *ASKED)
    assert asked.returncode == 0, asked.stderr
    commit = hub.repositories["ann/films"].branches["main"]
    assert f"hf://ann/films@{commit} is the latest that could be had" in asked.stderr
    capsys.readouterr()
    assert main(["recommend", str(run), *ASKED]) == 0
    assert json.loads(asked.stdout)["items"] == json.loads(capsys.readouterr().out)["items"]
    offline = genrec("recommend", "hf://ann/films", *ASKED, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0 and offline.stdout == asked.stdout


def test_a_branch_and_what_is_left_of_an_earlier_adapter(
    hub: Hub, adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    hub.repositories["ann/films"] = Repository()
    hub.repositories["ann/films"].commit("main", {"tasks/old.yaml": b"task: old\n", "LICENSE": b"mine"})
    assert main(["push", str(adapter), "ann/films", "--revision", "second"]) == 0
    assert "hf://ann/films@second" in capsys.readouterr().err
    assert set(hub.files("ann/films")) == {"tasks/old.yaml", "LICENSE"}
    pushed = hub.files("ann/films", "second")
    assert "tasks/old.yaml" not in pushed and pushed["LICENSE"] == b"mine"
    run = open_run("hf://ann/films@second")
    commit = hub.repositories["ann/films"].branches["second"]
    assert run.source == f"hf://ann/films@{commit}" and file_hash(run.folder / "genrec.json")
    assert Recommender.load(run).recommend(history=HISTORY, k=3).frame.height == 3
    n_requests = len(hub.requests)
    hub.is_down = True
    assert open_run(run.source).folder == run.folder  # cached, at its commit
    assert open_run("hf://ann/films@second").source == run.source
    assert len(hub.requests) > n_requests
    assert main(["evaluate", "hf://ann/films"]) == 2
    assert "hf:/ann/films is an adapter alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://ann/none", "the hub has no such repository, or it is private; `hf auth login`"),
        ("hf://ann/films@never", "the repository has no such revision"),
        ("hf://ann/gated", "is gated: ask for access on its page"),
        ("hf://ann/other", "is no adapter of genrec: it has no genrec.json"),
        ("hf://films", "an adapter of the hub is hf://OWNER/NAME or hf://OWNER/NAME@REVISION"),
        ("hf://datasets/ann/films", "an adapter of the hub is hf://OWNER/NAME"),
        ("hf://ann/a..b", "not a name of the hub"),
        ("hf://ann/strange", "lists a file '../../etc/passwd'"),
    ],
)
def test_what_cannot_be_had_says_why(hub: Hub, adapter: Path, address: str, said: str, capsys: Said) -> None:
    files = {str(p.relative_to(adapter)): p.read_bytes() for p in adapter.rglob("*") if p.is_file()}
    strange = json.loads(files["genrec.json"])
    strange["files"]["../../etc/passwd"] = "0" * 64
    contents = {
        "films": files,
        "gated": files,
        "other": {"model.safetensors": b"x"},
        "strange": files | {"genrec.json": json.dumps(strange).encode()},
    }
    for name, content in contents.items():
        hub.repositories[f"ann/{name}"] = Repository(gated=name == "gated")
        hub.repositories[f"ann/{name}"].commit("main", content)
    assert main(["recommend", address, *ASKED]) == 2
    assert said in capsys.readouterr().err


def test_what_cannot_be_uploaded_says_why(hub: Hub, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genrec.run.push import push

    def said(name: str = "ann/films", private: bool = False, licence: str | None = None) -> str:
        with pytest.raises((RunError, UnavailableError, DataError)) as error:
            push(open_run(adapter), name, private=private, revision=None, licence=licence)
        return str(error.value)

    assert "no token: `hf auth login` asks for one" in said()
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert "the hub" in said() and "401" in said()
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    assert "the hub refuses (403)" in said("bob/films")
    assert "an adapter of the hub is hf://OWNER/NAME" in said("films")
    assert "the hub does not take it" in said(licence="wtf-0")
    update_card(adapter, licence="mit")
    hub.repositories["ann/open"] = Repository()
    hub.repositories["ann/open"].commit("main", {})
    assert "is there already and public; nothing was uploaded" in said("ann/open", private=True)
    assert hub.files("ann/open") == {}
    hub.is_down = True
    assert "the hub answers 500" in said()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in said()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in said()
    (adapter / "item_rows.safetensors").write_bytes(b"")
    assert "is damaged" in said()


def test_names() -> None:
    places = {
        "hf://ann/films@main": "films",
        "hf://ann/films": "films",
        "runs/mine/adapter": "mine",
        "runs/mine": "mine",
    }
    assert {where: run_name(where) for where in places} == places


def test_the_catalogue_is_all_that_it_says_of_users(adapter: Path) -> None:
    content = b"".join(p.read_bytes() for p in adapter.rglob("*") if p.is_file() and p.suffix != ".parquet")
    assert b"u001" not in content and b"u149" not in content
    frame = pl.read_parquet(adapter / "catalogue.parquet")
    assert set(frame.columns) == {"item_id", "title", "colour", "year", "train_count", "dataset"}
    with contextlib.suppress(StopIteration):
        assert not next(p for p in adapter.rglob("*") if "store" in p.name)
