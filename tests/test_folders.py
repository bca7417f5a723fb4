"""Folders and disks that cannot be written, and folders that two processes want to write."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import toy_command
from waiting import until

from genrec.cli import main
from genrec.errors import RunError
from genrec.files import atomic_write, sole_writer, write_text

READ_ONLY, NO_SPACE = "the file system is read-only", "no space left on the device"


def commands(run: Path, out: Path, evaluated: Path, files: Path) -> dict[str, list[str]]:
    """Every command that writes, into the folder `out` or into the run `evaluated`."""
    return {
        "finetune": toy_command(files, out / "run", "--epochs", "1"),
        "align": ["align", str(run), "--out", str(out / "aligned")],
        "rows": [
            "rows",
            *toy_command(files, out / "rows")[1:7],
            "--model",
            str(files / "tiny"),
            "--out",
            str(out / "rows"),
        ],
        "recommend": ["recommend", str(run), "--users", "all", "--out", str(out / "lists.parquet")],
        "embed": ["embed", str(run), "--items", "--out", str(out / "vectors.parquet")],
        "evaluate": ["evaluate", str(evaluated)],
        "report": ["report", str(evaluated)],
    }


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("/proc", "/proc"),
        ("{tmp}/file", "a part of the path is a file"),
        ("{tmp}/" + "x" * 300, "the name is too long"),
    ],
)
def test_a_place_that_takes_no_files(
    tmp_path: Path, toy_run: Path, toy_files: Path, capsys: pytest.CaptureFixture[str], out: str, reason: str
) -> None:
    """Exit 2 and one line with the path and the reason, before any work; never a word of space."""
    (tmp_path / "file").write_text("")
    folder = Path(out.format(tmp=tmp_path))
    for name, command in commands(toy_run, folder, toy_run, toy_files).items():
        if name in ("evaluate", "report"):
            continue
        capsys.readouterr()
        assert main(command) == 2, name
        said = capsys.readouterr().err
        assert str(folder) in said and "space" not in said and "Traceback" not in said, (name, said)
        if name not in ("recommend", "embed") or "file" in reason or "long" in reason:
            assert reason in said or "there is no folder" in said, (name, said)
        assert "split" not in said, (name, said)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def in_namespace(script: str, *commands: list[str]) -> list[tuple[int, str, list[str]]]:
    """Exit status, messages and the files of the working folder after each command, all in one process with mounts of
    its own, which a shell script makes."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount in a namespace")
    program = (
        "import contextlib, io, json, os\n"
        "from genrec.cli import main\n"
        f"for words in {commands!r}:\n"
        "    err = io.StringIO()\n"
        "    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):\n"
        "        status = main(words)\n"
        "    print(json.dumps([status, err.getvalue(), sorted(os.listdir())]))\n"
    )
    shell = ["unshare", "-rm", "sh", "-ec", f'{script}\nexec "$@"', "sh", sys.executable, "-c", program]
    done = subprocess.run(shell, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_read_only_file_system(tmp_path: Path, evaluated_run: Path, toy_files: Path) -> None:
    """Commands that write say so before they work; those that only read answer, from a store without a log beside it
    too, as a run has that nobody reads."""
    shutil.copytree(evaluated_run, tmp_path / "run", ignore=shutil.ignore_patterns("store.db-*"))
    run = tmp_path / "run"
    (tmp_path / "out").mkdir()
    named = commands(run, tmp_path / "out", run, toy_files)
    reading = [["recommend", str(run), "--user", "u001"], ["finetune", *toy_command(toy_files, run)[1:]]]
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    results = in_namespace(mount, *named.values(), *reading)
    for name, (status, said, _) in zip(named, results, strict=False):
        assert status == 2 and READ_ONLY in said and str(tmp_path) in said, (name, status, said)
        assert "split" not in said, (name, said)
    assert [status for status, _, _ in results[len(named) :]] == [0, 0]
    assert "is finished already" in results[-1][1]  # which writes nothing


def test_a_read_only_cache(tmp_path: Path, toy_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("GENREC_CACHE", str(tmp_path / "cache"))
    mount = f"mount -t tmpfs -o ro none {tmp_path / 'cache'}"
    ((status, said, _),) = in_namespace(mount, toy_command(toy_files, tmp_path / "run", "--epochs", "1"))
    assert status == 2 and READ_ONLY in said and "GENREC_CACHE" in said, said
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_while_lists_are_written(tmp_path: Path, toy_run: Path) -> None:
    """Exit 2, the path and the reason; neither a part of the file nor a temporary one is left, and an old one stays."""
    small = tmp_path / "small"
    small.mkdir()
    outs = [small / f"lists{suffix}" for suffix in (".jsonl", ".csv")]
    many = [["recommend", str(toy_run), "--users", "all", "--out", str(out)] for out in outs]
    embed = ["embed", str(toy_run), "--users", "--out", str(small / "vectors.parquet")]
    results = in_namespace(f"mount -t tmpfs -o size=8k none {small}; cd {small}; echo old > lists.csv", *many, embed)
    for command, (status, said, files) in zip([*many, embed], results, strict=True):
        assert status == 2 and NO_SPACE in said and command[-1] in said, (command, said)
        assert files == ["lists.csv"], (command, files)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that fails leaves the file as it was and no temporary one."""
    write_text(tmp_path / "old.txt", "old")
    with pytest.raises(RunError, match=r"old\.txt cannot be written: no space left"):
        with atomic_write(tmp_path / "old.txt") as partial:
            partial.write_text("half")
            with open("/dev/full", "w") as full:
                full.write("x" * 10_000)
    assert (tmp_path / "old.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["old.txt"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    """A second writer is refused, in one process too; a folder that nobody filled goes again."""
    run = tmp_path / "runs" / "a"
    with sole_writer(run):
        with pytest.raises(RunError, match=r"another process is writing .*runs/a"), sole_writer(run):
            pass
        with sole_writer(tmp_path / "runs" / "b"):
            pass
        assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]
    assert not (tmp_path / "runs").exists()
    with sole_writer(run):
        (run / "file").write_text("x")
    assert run.is_dir()


def test_two_trainings_into_one_folder(
    tmp_path: Path, toy_files: Path, toy_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While one process writes a run, finetune, align and evaluate refuse it; killed, it leaves no lock behind."""
    run = tmp_path / "run"
    shutil.copytree(toy_run, run)
    out = tmp_path / "out"
    holder = (
        "import sys, time\nfrom pathlib import Path\nfrom genrec.files import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])), sole_writer(Path(sys.argv[2])):\n"
        "    Path(sys.argv[1], 'begun').touch()\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(out), str(run)])
    try:
        until((out / "begun").exists)
        writers = {
            out: [toy_command(toy_files, out), ["align", str(toy_run), "--out", str(out)]],
            run: [["evaluate", str(run)]],
        }
        for folder, refused in writers.items():
            for command in refused:
                capsys.readouterr()
                assert main(command) == 2
                assert f"another process is writing {folder}" in capsys.readouterr().err
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        (out / "begun").unlink()
        assert main(toy_command(toy_files, out, "--epochs", "1")) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("line", "number"), [("split leave_one_out", signal.SIGINT), ("step ", signal.SIGTERM)])
def test_a_signal_in_any_stage(tmp_path: Path, toy_files: Path, line: str, number: signal.Signals) -> None:
    """While reading and while training: exit status of the signal, a line that says how to go on; then it goes on."""
    command = toy_command(toy_files, tmp_path / "run", "--epochs", "60", "--patience", "60")
    process = subprocess.Popen(
        [sys.executable, "-m", "genrec", *command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background of a shell
    )
    assert process.stderr is not None
    seen = ""
    while line not in seen:
        assert (text := process.stderr.readline()), seen
        seen = text
    process.send_signal(number)
    _, rest = process.communicate(timeout=300)
    assert process.returncode == 128 + number and "interrupted; the same command resumes" in rest, rest
    assert "Traceback" not in rest and not (tmp_path / "run" / "adapter").exists()
    assert (tmp_path / "run" / "checkpoints").exists() == (line == "step ")
    if line == "step ":
        assert main(command) == 0
