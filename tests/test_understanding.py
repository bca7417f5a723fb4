"""The parts that sentences are understood by: passes, examples, files of languages; no task is known by its name."""

import doctest
import importlib
import json
import pkgutil
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml

import genrec.ask
from genrec.ask import examples, language, sentence, texts, titles
from genrec.ask.examples import package_examples, task_examples
from genrec.ask.language import Language, language_of, languages
from genrec.ask.numbers import number_at, number_in_signs
from genrec.ask.reader import PASSES, Reader
from genrec.ask.request import NONE, WITHOUT_TASK
from genrec.ask.sentence import Domain, Sentence
from genrec.catalogue.titles import words_of
from genrec.tasks.task import Task
from genrec.tasks.taskfile import load_task, shipped_tasks
from genrec.tasks.templates import placeholders

ASK = Path(genrec.ask.__file__).parent
SHIPPED = shipped_tasks()
ITEMS = pl.DataFrame(
    {"item_id": ["1", "2", "3"], "title": ["Jaws", "Fargo", "Come Back, Little Sheba"], "train_count": [5, 4, 3]}
)
SENTENCES = (
    "recommend for user 7",
    "something like Fargo",
    "I liked Jaws and Fargo. What next?",
    "will user 7 be back next week?",
    "what would user 7 rate Fargo?",
    "will user 7 click Jaws?",
    "给用户7推荐三部电影",
    "用户7还会回来吗？",
    "is this positive: it broke after a day",
)
BACK = """\
task: back
description: Will the user be back within 14 days?
unit: user_time
needs: [user_id, timestamp]
label: "returns_days <= 14"
horizon_days: 14
answer: {choices: ["no", "yes"]}
ask:
SENTENCES
templates:
  seen: ["Is the user back within {days} days?"]
  unseen: ["Do we see the user again within {days} days?"]
"""


def domain(*tasks: str) -> Domain:
    return Domain("shop", tasks, ITEMS, {"7", "8"}.__contains__)


def written(folder: Path, text: str) -> Task:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return load_task(path)


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules([str(ASK)])])
def test_the_examples_in_docstrings_hold(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"genrec.ask.{module}"))
    assert result.failed == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [("三十六", 36), ("七百二十", 720), ("一九九四", 1994), ("一百零五", 105), ("两", 2), ("三五", None), ("", None)],
)
def test_numbers_in_signs(text: str, value: int | None) -> None:
    assert number_in_signs(text) == value
    if value is not None:
        assert number_at(words_of(text + "部"), 0) == (len(text), value)


def test_passes_mark_what_a_sentence_names() -> None:
    vocabulary = Reader([domain("next_item")], SHIPPED).vocabulary
    read = Sentence("give user 7 three films like Frago or Jaws in 28 days", domain("next_item"), vocabulary)
    for find in PASSES:
        find(read)
    assert read.marked() == ["give", "USER", "COUNT", "films", "like", "TITLES", "in", "PERIOD"]
    assert (read.user_id, read.k) == ("7", 3)
    assert [(m.item_id, m.how) for _, m in read.mentions] == [("2", "typo"), ("1", "exact")]


# Examples


def test_an_adapter_with_all_sentences_and_one_with_six_are_understood_equally() -> None:
    """Adapters carry the task files that they were trained with: earlier ones all sentences, later ones about six."""
    full = {name: replace(task, ask=(*task.ask, *task_examples(task))) for name, task in SHIPPED.items()}
    short = Reader([domain(*SHIPPED)], SHIPPED)
    long = Reader([domain(*SHIPPED)], full)
    assert long.following.sentences == short.following.sentences and long.following.labels == short.following.labels
    assert all(len(task.ask) <= 6 < len(short.examples[name]) for name, task in SHIPPED.items())
    assert [long.read(s) for s in SENTENCES] == [short.read(s) for s in SENTENCES]


def test_an_own_task_of_a_shipped_name_has_the_package_s_sentences_if_it_asks_the_same() -> None:
    churn = SHIPPED["churn"]
    sooner = replace(churn, ask=("is user {user_id} back?",), horizon_days=7)
    assert "is user {user_id} back?" in task_examples(sooner)
    assert len(task_examples(sooner)) == len(package_examples("churn")) + 1
    assert any("7 days" in e for e in task_examples(sooner)) and not any("28" in e for e in task_examples(sooner))
    of_text = replace(churn, unit="text", ask=("does this person leave? {text}",))
    number = replace(SHIPPED["click"], ask=("clicks of {title}",), answer=SHIPPED["rating"].answer)
    assert task_examples(of_text) == of_text.ask and task_examples(number) == number.ask


@pytest.mark.parametrize("name", languages())
def test_every_example_can_be_marked(name: str) -> None:
    """One file for each request, with placeholders that the classifier has marks for."""
    from genrec.ask.intent import MARKS

    files = {f.stem: f for f in (ASK / "examples" / name).iterdir()}
    assert set(files) <= {*SHIPPED, *WITHOUT_TASK, NONE}
    for file in files.values():
        lines = file.read_text(encoding="utf-8").splitlines()
        assert all(line == line.strip() != "" for line in lines)
        assert {p for line in lines for p in placeholders(line)} <= set(MARKS)


# No task is known by its name


def test_an_own_task_about_a_user_is_read_as_churn_is(tmp_path: Path) -> None:
    """The same sentences under another name and with another horizon: words of theirs are no titles either."""
    sentences = [e.replace("28", "{days}") for e in task_examples(SHIPPED["churn"])]
    back = written(tmp_path, BACK.replace("SENTENCES", "\n".join(f"  - {json.dumps(s)}" for s in sentences)))
    others = {name: task for name, task in SHIPPED.items() if name != "churn"}
    churn, own = (
        Reader([domain("next_item", "churn")], SHIPPED),
        Reader([domain("next_item", "back")], others | {"back": back}),
    )
    for text in (
        "will user 7 be back within 14 days?",
        "will user 7 come back, little by little?",
        "is user 8 about to leave sheba?",
        "will we see user 7 again",
        "用户7还会回来吗？",
    ):
        expected, request = churn.read(text), own.read(text)
        assert (expected.task, request.task) == ("churn", "back"), text
        assert replace(request, task="churn", certainty=0) == replace(expected, certainty=0)


def test_an_own_choice_about_an_event_is_told_by_a_number(tmp_path: Path) -> None:
    """As a click is by a rating, if a data set has only the number."""
    from genrec.ask.answers import offered_task

    keeper = replace(SHIPPED["click"], name="keeper", ask=("is {title} a keeper for user {user_id}?",))
    score = replace(SHIPPED["rating"], name="score", ask=("score of {title} by user {user_id}",))
    reader = Reader(
        [domain("next_item", "score")], {"next_item": SHIPPED["next_item"], "keeper": keeper, "score": score}
    )
    request = reader.read("is Fargo a keeper for user 7?")
    assert request.task == "keeper" and request.items[0].item_id == "2"
    task, warnings = offered_task(reader, replace(request, dataset="shop"))
    assert task == "score" and "keeper was not trained on" in warnings[0]


def test_the_code_names_no_task_and_no_language() -> None:
    """But columns, `["rating"]`, and `basket`, which is a unit."""
    names = re.compile("|".join(rf"[\"']{name}[\"'](?!\])" for name in {*SHIPPED, "zh"} - {"basket"}))
    signs = re.compile("[\u2e80-\u9fff\uff00-\uffef]")
    for file in ASK.glob("*.py"):
        for n, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            assert not names.search(line) and not signs.search(line), f"{file.name}:{n}: {line}"


# The files of a language


@pytest.mark.parametrize("name", languages())
def test_a_language_s_file_has_tables_that_are_read(name: str) -> None:
    tables = yaml.safe_load((ASK / "words" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert set(tables) <= {*Language.__dataclass_fields__, "script"}
    assert set(language.remarks(name)) == set(language.remarks("en"))


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files of one more language, beside the others."""
    for folder in ("words", "examples"):
        shutil.copytree(ASK / folder, tmp_path / folder)
    tables = {
        "users": ["nutzer", "kunde"],
        "items": ["filme"],
        "numbers": {"drei": 3},
        "plain": "empfiehl was sollte sehen bitte für",
        "texts": {**language.remarks("en"), "task_missed": "Das habe ich nicht verstanden."},
    }
    (tmp_path / "words" / "de.yaml").write_text(yaml.safe_dump(tables, allow_unicode=True), encoding="utf-8")
    folder = tmp_path / "examples" / "de"
    folder.mkdir()
    lines = [
        "empfiehl etwas für nutzer {user_id}",
        "was sollte nutzer {user_id} sehen?",
        "bitte {k} filme für nutzer {user_id}",
    ]
    (folder / "next_item.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    patterns = (texts.quote_pattern, texts.split_pattern, sentence.clause_break, titles.reach_end)
    caches = (language.language, language.languages, examples.package_examples, *patterns)
    monkeypatch.setattr(language, "package_folder", lambda: tmp_path)
    monkeypatch.setattr(examples, "package_folder", lambda: tmp_path)
    for cache in caches:
        cache.cache_clear()
    yield
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("german")
def test_a_language_is_its_files() -> None:
    assert languages() == ("de", "en", "zh")
    reader = Reader([domain("next_item")], SHIPPED)
    request = reader.read("empfiehl drei Filme für Nutzer 7, bitte")
    assert (request.task, request.user_id, request.k, request.language) == ("next_item", "7", 3, "de")
    assert language_of("recommend for user 7") == "en" and language_of("给用户7推荐") == "zh"
    assert language.remarks("de")["task_missed"].startswith("Das")
