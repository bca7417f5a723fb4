"""The command line itself: how options are given, what help says, completion, settings of a server, how a call ends."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from genrec.cli import main, train
from genrec.cli.main import COMMANDS, joined, load, parsed
from genrec.cli.output import resumable
from genrec.cli.parser import Command
from genrec.errors import DataError, GenrecError
from genrec.options import arguments, check_ranges, option, options_in
from genrec.run.config import AlignConfig, FinetuneConfig

Captured = pytest.CaptureFixture[str]
GENREC = [sys.executable, "-m", "genrec"]


def options(*words: str) -> Any:
    """What a command line gives its command."""
    call = parsed(joined(words))
    assert isinstance(call, partial)
    return call.args[0]


def refused(capsys: Captured, *words: str) -> str:
    """The one line that a command line ends with."""
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err.strip()


# --- options ------------------------------------------------------------------------------------------------------


def test_an_option_with_several_values_is_repeated_and_eats_no_positional() -> None:
    for words in (
        ("ml-100k", "--task", "rating", "--task", "click"),
        ("--task", "rating", "ml-100k", "--task", "click"),
        ("--task=rating", "--task=click", "ml-100k"),
    ):
        training = options("finetune", *words).training
        assert training.task == ("rating", "click") and training.names == ("ml-100k",)
    assert options("evaluate", "--phrasing", "seen", "runs/x").phrasing == ("seen",)
    assert options("evaluate", "runs/x").phrasing == ("served", "seen", "unseen")
    assert options("serve", "--origin", "https://a", "--origin", "https://b", "runs/x").server.origin[1] == "https://b"


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ("finetune --interactions d.csv --task rating click", "--task rating --task click"),
        ("finetune ml-100k --task rating click --seed 1", "--task rating --task click"),
        ("rows ml-100k --out x --tasks a.yaml b.yaml", "--tasks a.yaml --tasks b.yaml"),
        ("finetune --interactions d.csv --column user_id=a item_id=b", "--column user_id=a --column item_id=b"),
        ("data show d.csv --missing rating=mean age=drop", "--missing rating=mean --missing age=drop"),
        ("align runs/x --dataset a b c", "--dataset a --dataset b --dataset c"),
        ("evaluate runs/x --phrasing served seen", "--phrasing served --phrasing seen"),
        ("serve runs/x --allowed-host a b", "--allowed-host a --allowed-host b"),
    ],
)
def test_several_values_after_one_flag_end_with_the_form_to_give(capsys: Captured, words: str, form: str) -> None:
    assert refused(capsys, *words.split()).endswith(f"takes one value and is repeated for more: {form}")


def test_a_single_value_that_is_given_again_counts_last() -> None:
    assert options("finetune", "ml-100k", "--epochs", "3", "--epochs", "4").training.epochs == 4
    assert options("recommend", "r", "--history", "1,2", "--history", "3").history == ("3",)


def test_words_are_taken_as_they_are() -> None:
    """Nothing is read as JSON, as a file of arguments or as no value."""
    given = options("recommend", "r", "--title", "[REC] (2007)", "--title", '["a", "b"]', "--where", "none")
    assert given.title == ("[REC] (2007)", '["a", "b"]') and given.where == "none"
    assert options("ask", "@home").sentence == "@home" and options("ask", "--", "-5 stars").sentence == "-5 stars"
    text = ("--text", "- cheap = bad fabric", "--json")
    assert options("predict", "r", "--task", "rating", *text).text == text[1]
    assert options("recommend", "r", "--user", "1", "--quantize", "none").loading.quantize == "none"


def test_ids_are_trimmed_composed_and_may_be_numbers_below_zero() -> None:
    given = options("recommend", "r", "--user", " Zoe\u0308 ")
    assert given.user == "Zoë" and given.history is None
    assert options("recommend", "r", "--user", "-5").user == "-5"
    assert options("recommend", "r", "--history=-1, 2,").history == ("-1", "2")
    assert options("recommend", "r", "--history", "").history == ()  # of a user of whom nothing is known
    assert options("recommend", "r", "--user=--odd", "--exclude", "a", "--exclude", "b").choice["exclude"] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "genrec: a command is needed; `genrec --help` lists them"),
        ("--json", "genrec: --json: a command comes first; see `genrec --help`"),
        ("recomend r", "genrec: Unknown command 'recomend'. Did you mean 'recommend'"),
        ("finetune --tsk rating", "genrec finetune: Unknown option: --tsk. Did you mean --task?"),
        ("tasks --json", "Unknown option: --json. `genrec tasks --help` lists the options"),
        ("finetune --no-dry-run", "Unknown option: --no-dry-run. Did you mean --dry-run?"),
        ("finetune --epochs many", "genrec finetune: --epochs many: a whole number is needed"),
        ("finetune --epochs 5.5", "genrec finetune: --epochs 5.5: a whole number is needed"),
        ("finetune --layers none", "genrec finetune: --layers none: a whole number is needed"),
        ("finetune --dry-run=perhaps", "--dry-run perhaps: true or false is needed"),
        ("finetune --lr=fast", "--lr fast: a number is needed"),
        ("finetune --split rndom", "--split rndom: allowed are auto, leave_one_out, temporal, k_fold, random, given."),
        ("finetune --split rndom", "Did you mean random?"),
        ("finetune --epochs", "--epochs needs a value: passes over the rows at most"),
        ("recommend r --user --json", "--user needs a value: user id; one that begins with - is given as --user=-..."),
        ("evaluate", "genrec evaluate: RUN is needed: folder of a finished run"),
        ("compare", "genrec compare: RUN is needed"),
        ("predict r --user 3", "--task is needed: rating, click"),
        ("similar r", "--item ID is needed"),
        ("embed r --items", "--out FILE is needed"),
        ("embed r --out x.jsonl", "give one of --items and --users"),
        ("recommend r x --user 3", "x: more than the command takes"),
        ("recommend r", "give one of --user, --history, --title and --users (none given)"),
        ("tasks lst", "allowed are list, show, check. Did you mean list?"),
        ("ask", "SENTENCE is needed"),
        ("completion tcsh", "allowed are bash, zsh, fish"),
    ],
)
def test_mistakes_end_in_one_line_that_says_what_is_allowed(capsys: Captured, words: str, line: str) -> None:
    assert line in refused(capsys, *words.split())


def test_arguments_are_the_command_line_that_gives_the_options_again() -> None:
    config = FinetuneConfig(("demo",), task=("rating", "click"), collaborative=False, minutes=1.5, title="{a} b")
    words = arguments(config)
    assert words[words.index("--task") :][:4] == ["--task", "rating", "--task", "click"]
    assert options("finetune", *words).training == config
    align = AlignConfig(run="runs/x", dataset=("a", "b"), beta=2)
    assert options("align", *arguments(align)) == align
    asked = options("recommend", "r", "--user", "3", "-k", "4", "--quantize", "nf4")
    assert arguments(asked) == ["r", "--user", "3", "-k", "4", "--quantize", "nf4"]


@dataclass(frozen=True)
class Ranges:
    """One option of each kind of range."""

    count: int = option(3, min=2)
    rate: float = option(1.0, min=0)
    share: float = option(0.5, min=0, below=1)
    hours: float | None = option(None, above=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1}, "--count 1: at least 2 is needed"),
        ({"rate": -0.5}, "--rate -0.5: a number of at least 0 is needed"),
        ({"rate": float("inf")}, "--rate inf: a number of at least 0 is needed"),
        ({"rate": float("nan")}, "--rate nan: a number of at least 0 is needed"),
        ({"share": 1.0}, "--share 1.0: allowed are 0 up to, not including, 1"),
        ({"hours": 0.0}, "--hours 0.0: a number above 0 is needed"),
    ],
)
def test_ranges_name_flag_value_and_what_is_allowed(values: dict[str, float], message: str) -> None:
    check_ranges(Ranges())
    check_ranges(Ranges(count=2, rate=0, share=0, hours=0.1))
    with pytest.raises(DataError, match=f"^{message}$"):
        check_ranges(Ranges(**values))  # type: ignore[arg-type]


# --- help and completion ------------------------------------------------------------------------------------------


def test_every_command_has_the_line_that_the_list_of_commands_shows() -> None:
    for name, entry in COMMANDS.items():
        command = load(name)
        assert isinstance(command, Command)
        assert (inspect.getdoc(command.function) or "").splitlines()[0] == entry.help, name
        assert all(o.spec.metadata["help"] for o in options_in(command.options)), name


def test_help_is_grouped(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"\n{group}:\n") for group in ("Train", "Evaluate", "Answer", "Serve", "Look", "Options")]
    assert places == sorted(places) and text.index("  finetune ") < places[1] < text.index("  evaluate ")
    assert main(["finetune", "--help"]) == 0
    text = capsys.readouterr().out
    headings = ("Arguments", "Options", "Data", "Tasks", "Model", "Training")
    places = [text.index(f"\n{heading}:\n") for heading in headings]
    assert places == sorted(places)
    assert places[2] < text.index("--interactions FILE|URL") < places[3] < text.index("--task TASK") < places[4]
    assert "\x1b" not in text and main(["-h"]) == main(["--version"]) == main(["tasks", "-h"]) == 0


def test_help_answers_at_once() -> None:
    """It imports no library that takes longer than the rest of the command."""
    code = "import sys; from genrec.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "finetune" in found.stdout
    slow = {"numpy", "polars", "pyarrow", "pydantic", "scipy", "sklearn", "sqlalchemy", "torch", "transformers", "yaml"}
    assert not slow & {*found.stderr.split()}


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_genrec genrec "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        (["reco"], ["recommend"]),
        (["finetune", "--resu"], ["--resume-from"]),
        (["evaluate", "runs/x", "--part", ""], ["valid", "test"]),
        (["tasks", "s"], ["show"]),
        (["finetune", "--no-"], ["--no-collaborative"]),
        (["finetune", "--interactions", "gen"], ["genrec"]),
        (["evaluate", "gen"], ["genrec"]),
        (["compare", "x", "gen"], ["genrec"]),
    ],
)
def test_bash_completes_commands_flags_and_values(tmp_path: Path, words: list[str], completions: list[str]) -> None:
    script = subprocess.run([*GENREC, "completion", "bash"], check=True, capture_output=True, text=True).stdout
    (tmp_path / "genrec").write_text(script)
    command = ["bash", "--norc", "-c", COMPLETE, "bash", str(tmp_path / "genrec"), "genrec", *words]
    completed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert completed.stdout.split() == completions
    assert "complete -F _genrec genrec" in script


@pytest.mark.parametrize(("shell", "word"), [("zsh", "#compdef genrec"), ("fish", "complete -c genrec")])
def test_other_shells_have_scripts(capsys: Captured, shell: str, word: str) -> None:
    assert main(["completion", shell]) == 0
    assert word in capsys.readouterr().out


# --- settings of a server -----------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], list[str]]:
    """`--config` and a file of that text."""

    def write(text: str) -> list[str]:
        (tmp_path / "serve.yaml").write_text(text)
        return ["--config", str(tmp_path / "serve.yaml")]

    return write


def test_a_flag_comes_before_a_variable_before_the_file_before_the_default(
    settings: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settings("run: runs/file\nport: 1\nhost: file\nqueue: 7\norigin: [https://a, https://b]\nlog: true\n")
    monkeypatch.setenv("GENREC_SERVE_PORT", "2")
    monkeypatch.setenv("GENREC_SERVE_HOST", "variable")
    monkeypatch.setenv("GENREC_SERVE_ALLOWED_HOST", "one, two")
    monkeypatch.setenv("GENREC_SERVE_INSECURE", "true")
    given = options("serve", *file, "--port", "3")
    server = given.server
    assert (server.port, server.host, server.queue, server.max_history) == (3, "variable", 7, 10_000)
    assert server.origin == ("https://a", "https://b") and server.allowed_host == ("one", "two")
    assert server.run == "runs/file" and given.log and server.insecure
    assert options("serve", "runs/flag", *file).server.run == "runs/flag"
    monkeypatch.setenv("GENREC_SERVE_CONFIG", file[1])
    assert options("serve").server.queue == 7
    assert options("mcp", "runs/x").server.timeout == 60  # variables and files are those of serve


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 8000", "Unknown option 'prot' in --config"),
        ("prot: 8000", "Did you mean 'port'"),
        ("api_keys: [a]", "Unknown option 'api_keys'"),
        ("port: many", "port: 'many' is not a value of --port"),
        ("port: true", "port: True is not a value of --port"),
        ("origin: https://a", "origin: 'https://a' is not a value of --origin"),
        ("quantize: int3", "quantize: 'int3' is not a value of --quantize"),
        ("- port", "option names with values are expected"),
        ("port: [", "--config"),
    ],
)
def test_what_a_settings_file_may_not_hold(
    settings: Callable[[str], list[str]], capsys: Captured, text: str, message: str
) -> None:
    assert message in " ".join(refused_lines(capsys, "serve", *settings(text)))


def refused_lines(capsys: Captured, *words: str) -> list[str]:
    assert main(words) == 2
    return capsys.readouterr().err.splitlines()


def test_variables_are_checked_as_flags_are(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREC_SERVE_PORT", "many")
    assert refused(capsys, "serve", "r") == "genrec serve: GENREC_SERVE_PORT many: a whole number is needed"
    monkeypatch.delenv("GENREC_SERVE_PORT")
    monkeypatch.setenv("GENREC_SERVE_PROT", "1")
    assert "Unknown variable 'GENREC_SERVE_PROT'. Did you mean 'GENREC_SERVE_PORT'" in refused(capsys, "serve", "r")
    assert options("mcp", "r").server.port == 8000


def test_a_server_needs_a_run(capsys: Captured) -> None:
    what = "the folder of a finished run, an adapter, or hf://OWNER/NAME"
    assert refused(capsys, "serve") == f"genrec serve: RUN is needed: {what}"
    assert refused(capsys, "mcp") == f"genrec mcp: RUN is needed: {what}"


# --- how a call ends ----------------------------------------------------------------------------------------------


def replaced(monkeypatch: pytest.MonkeyPatch, function: Callable[[Any], None]) -> None:
    """finetune with another function."""
    monkeypatch.setattr(train, "finetune", Command(function, train.finetune.options, train.values_of_run))


@pytest.mark.parametrize("trains", [False, True])
def test_ctrl_c(trains: bool, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(options: train.Finetune) -> None:
        raise KeyboardInterrupt

    replaced(monkeypatch, resumable()(interrupt) if trains else interrupt)
    assert main(["finetune", "ml-100k"]) == 130
    more = "; the same command resumes from the last checkpoint" if trains else ""
    assert capsys.readouterr().err == f"interrupted{more}\n"


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def fail(options: train.Finetune) -> None:
        raise ZeroDivisionError

    replaced(monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        main(["finetune", "ml-100k"])

    def mistake(options: train.Finetune) -> None:
        raise GenrecError("what is wrong")

    replaced(monkeypatch, mistake)
    assert refused(capsys, "finetune", "ml-100k") == "genrec finetune: what is wrong"


@pytest.mark.parametrize("words", ["tasks list", "completion bash", "finetune --help"])
def test_a_reader_that_goes_away_ends_the_command_quietly(words: str) -> None:
    command = f"set -o pipefail; '{sys.executable}' -m genrec {words} | :"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 141 and done.stderr == ""


def test_a_log_level_or_a_language_that_is_none_is_named(
    toy_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    message = refused(capsys, "serve", str(toy_run), "--language", "eng")
    assert "Unknown language 'eng' in --language. Did you mean 'en'" in message and "zh" in message
    monkeypatch.setenv("GENREC_LOG_LEVEL", "loud")
    allowed = "DEBUG, INFO, WARNING, ERROR"
    assert refused(capsys, "tasks", "list") == f"genrec tasks: GENREC_LOG_LEVEL is 'LOUD'; allowed: {allowed}"
