"""Task files: every shipped one renders to its golden text, every mistake is named with file and line."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from genrec.data.dataset import Dataset
from genrec.errors import TaskError
from genrec.tasks.labels import labels, missing_needs, resolve_answer, selected, task_rows
from genrec.tasks.task import Task
from genrec.tasks.taskfile import load_task, load_tasks, shipped_tasks
from genrec.tasks.templates import Placeholder, pieces, placeholders, render
from genrec.tasks.units import DAY, unit_rows

GOLDEN = Path(__file__).parent / "golden"
SHIPPED = shipped_tasks()
VALUES = {
    "item": "<item 302>",
    "items": "<item 302> <item 51> <item 7>",
    "condition": "genre comedy",
    "text": "Fits well, but the colour is off.",
    "user_id": "42",
    "item_id": "302",
    "title": "A Title (1997)",
    "titles": "A Title (1997) and Another",
    "k": "5",
}
GROUPS = ("ask", "seen", "unseen", "conditioned_seen", "conditioned_unseen", "like_seen", "like_unseen")


def golden(task: Task) -> str:
    """Every template rendered, and of the `ask` sentences one for each set of placeholders."""
    lines = [f"{task.name}: {task.description}"]
    one_each = {frozenset(placeholders(sentence)): sentence for sentence in reversed(task.ask)}
    for group in GROUPS:
        if templates := [*one_each.values()][::-1] if group == "ask" else getattr(task, group):
            lines += ["", group, *(f"  {render(template, VALUES)}" for template in templates)]
    return "\n".join(lines) + "\n"


# The shipped tasks


@pytest.mark.parametrize("name", SHIPPED)
def test_every_template_renders_to_its_golden_text(name: str, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden", default=False):
        file.write_text(golden(SHIPPED[name]), encoding="utf-8")
    assert golden(SHIPPED[name]) == file.read_text(encoding="utf-8"), "run pytest --update-golden and review the diff"


def test_no_golden_text_outlives_its_task() -> None:
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(SHIPPED)


def test_the_shipped_tasks_are_the_eight_of_the_readme() -> None:
    assert set(SHIPPED) == {
        "next_item", "rating", "click", "purchase", "sentiment", "category", "basket", "churn",
    }  # fmt: skip


@pytest.mark.parametrize("task", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_task_has_phrasings_enough(task: Task) -> None:
    assert task.path == f"{task.name}.yaml"
    assert len(task.seen) >= 4
    assert len(task.unseen) >= 1
    assert len(task.ask) >= 6
    assert not {"movie", "film"} & set(re.findall(r"\w+", task.text.lower()))
    named = {n for group in GROUPS[1:] for t in getattr(task, group) for n in placeholders(t)}
    assert not named & {"user_id", "item_id"}  # ids are the caller's, never text in a prompt


def test_next_item_is_also_asked_under_conditions_and_by_likeness() -> None:
    task = SHIPPED["next_item"]
    assert all("condition" in placeholders(t) for t in (*task.conditioned_seen, *task.conditioned_unseen))
    assert all("item" in placeholders(t) for t in (*task.like_seen, *task.like_unseen))
    assert min(len(task.conditioned_seen), len(task.like_seen)) >= 4
    assert min(len(task.conditioned_unseen), len(task.like_unseen)) >= 1


def test_what_the_task_fixes_is_filled_in_at_load() -> None:
    assert "Does this user buy {item} within 28 days?" in SHIPPED["purchase"].seen
    assert any("negative, neutral or positive" in t for t in SHIPPED["sentiment"].seen)
    assert "will user {user_id} come back within 28 days?" in SHIPPED["churn"].ask


# Templates


def test_pieces_keep_text_and_placeholders_apart() -> None:
    assert pieces("Will {item} sell?") == ("Will ", Placeholder("item"), " sell?")
    assert pieces("{item}{text}") == (Placeholder("item"), Placeholder("text"))
    assert pieces("plain") == ("plain",)


def test_values_are_not_read_as_templates() -> None:
    assert render("Say {text}!", {"text": "{item} {0} }{"}) == "Say {item} {0} }{!"


@pytest.mark.parametrize(
    ("values", "message"),
    [({}, "{text} is missing"), ({"text": ""}, "{text} is empty"), ({"text": " \n"}, "{text} is empty")],
)
def test_a_value_must_be_there(values: dict[str, str], message: str) -> None:
    with pytest.raises(TaskError, match=re.escape(message)):
        render("Say {text}!", values)


@pytest.mark.parametrize("template", ["{", "}", "{}", "{{item}}", "{Item}", "{item.x}", "{item!r}", "{item:>9}", "{0}"])
def test_nothing_but_names_goes_between_braces(template: str) -> None:
    with pytest.raises(TaskError, match="a stray"):
        pieces(template)


# Mistakes in a file: the good file, one line changed, the line of the message, the message

GOOD = """\
task: size
description: Does it fit?
unit: text
needs: [text, fit]
label: "fit"
answer: {choices: ["small", "right", "large"]}
weight: 0.5
ask:
  - "does it fit? {text}"
templates:
  seen:
    - "Does it fit? {text}"
    - "{text} Is it {choices}?"
  unseen:
    - "{text} How is the size?"
"""

MISTAKES = {
    "unknown key": ("weight: 0.5", "wieght: 0.5", 7, "Unknown key 'wieght' in the task. Did you mean 'weight'"),
    "key twice": ("weight: 0.5", "task: size", 7, "'task' appears twice"),
    "missing key": ("needs: [text, fit]\n", "", 1, "needs missing"),
    "no value": ("description: Does it fit?", "description:", 2, "description: no value"),
    "empty text": ("description: Does it fit?", 'description: ""', 2, "description: the text is empty"),
    "bad name": ("task: size", "task: Size!", 1, "'Size!' is not a name"),
    "trap 1e-5": ("weight: 0.5", "weight: 1e-5", 7, "YAML reads 1e-5 as text: write 0.00001"),
    "trap yes": ("description: Does it fit?", "description: yes", 2, 'yes is true or false in YAML, not text; write'),
    "trap on": ('"small", "right"', "on, off", 6, 'on is true or false in YAML, not text; write "on"'),
    "trap number": ('"small", "right"', "1, 2", 6, '1 is a number in YAML, not text; write "1"'),
    "trap exponent": ('"small", "right"', "1e-5, 2e-5", 6, '1e-5 is a number in YAML, not text; write "1e-5"'),
    "trap date": ('"small", "right"', "2020-01-01, x", 6, '2020-01-01 is a date in YAML, not text'),
    "trap null": ('"small", "right"', "~, x", 6, "~ is no value in YAML, not text"),
    "trap braces": ('    - "Does it fit? {text}"', "    - {text}", 12, "put the text in quotes"),
    "trap colon": ('    - "Does it fit? {text}"', "    - Does it fit: {text}", 12, "put the text in quotes"),
    "unquoted template": ('    - "Does it fit? {text}"', "    - Does {text} fit # it?", 12, '"Does {text} fit"'),
    "python tag": ("description: Does it fit?", "description: !!python/name:os.system x", 2, "not text"),
    "own tag": ("description: Does it fit?", 'description: !run "x"', 2, "the YAML tag '!run' is not allowed"),
    "weight negative": ("weight: 0.5", "weight: -1", 7, "-1 is not a number of at least 0"),
    "weight infinite": ("weight: 0.5", "weight: .inf", 7, ".inf is not a number"),
    "unknown unit": ("unit: text", "unit: txt", 3, "Unknown unit 'txt'. Did you mean 'text'"),
    "needs no list": ("needs: [text, fit]", "needs: text", 4, "needs: expected a list, found text"),
    "needs twice": ("needs: [text, fit]", "needs: [text, fit, fit]", 4, "'fit' appears twice"),
    "label syntax": ('"fit"\n', '"fit ="\n', 5, "cannot read the SQL expression 'fit ='"),
    "label column": ('label: "fit"', 'label: "fat"', 5, "Unknown column 'fat' in label"),
    "label missing": ('label: "fit"\n', "", 5, "label: missing"),
    "look-ahead unit": ('label: "fit"', 'label: "returns_days < 3"', 5, "only for unit: event or user_time"),
    "horizon unused": ("weight: 0.5", "horizon_days: 3", 7, "the label does not look ahead"),
    "negatives unused": ("weight: 0.5", "negatives: {draw: uniform, per_positive: 1}", 7, "for a label that looks"),
    "dense text": ("weight: 0.5", "dense: true", 7, "dense: only for unit: event"),
    "dense word": ("weight: 0.5", "dense: yes", 7, "dense: expected true or false, found 'yes'"),
    "answer unknown": ("{choices:", "{chioces:", 6, "Unknown key 'chioces' in answer. Did you mean 'choices'"),
    "answer two": ("{choices:", "{item: true, choices:", 6, "exactly one of item, choices, number, found"),
    "answer none": ('{choices: ["small", "right", "large"]}', "{}", 6, "found none"),
    "answer false": ('{choices: ["small", "right", "large"]}', "{item: false}", 6, "answer: item: write true"),
    "one choice": ('"small", "right", ', "", 6, "at least two are needed"),
    "choice twice": ('"small", "right"', '"large", "right"', 6, "'large' appears twice"),
    "choice brace": ('"small", "right"', '"{x}", "right"', 6, "'{x}' has a brace"),
    "numbers unordered": ('{choices: ["small", "right", "large"]}', "{number: [2, 1]}", 6, "the smallest first"),
    "number text": ('{choices: ["small", "right", "large"]}', "{number: [1e-5, 1]}", 6, "write 0.00001"),
    "no unseen": ('  unseen:\n    - "{text} How is the size?"\n', "", 11, "templates: unseen missing"),
    "unseen empty": ('\n    - "{text} How is the size?"', " []", 14, "templates: unseen: the list is empty"),
    "group of others": ("  unseen:", "  like:", 14, "Unknown key 'like' in templates"),
    "template empty": ('"Does it fit? {text}"\n    - "{', '""\n    - "{', 12, "the text is empty"),
    "template blank": ('"Does it fit? {text}"\n    - "{', '"  "\n    - "{', 12, "the text is empty"),
    "template ends in space": ('"{text} How is the size?"', '"{text} How? "', 15, "begins or ends in white space"),
    "template constant": ('"{text} How is the size?"', '"How is it?"', 15, "lacks {text}: it would ask the same"),
    "template twice": ('"{text} How is the size?"', '"does it fit? {text}"', 15, "appears twice (first on line 12)"),
    "unknown placeholder": ('"{text} How is the size?"', '"{txt} How?"', 15, "Unknown placeholder 'txt' in templates"),
    "placeholder leaks the label": ('"{text} How is the size?"', '"{text} {fit}?"', 15, "Unknown placeholder 'fit'"),
    "ask placeholder": ('"does it fit? {text}"', '"{userid}?"', 9, "'userid' in ask. Did you mean 'user_id'"),
    "stray brace": ('"{text} How is the size?"', '"{text} {"', 15, "a stray '{'"),
    "broken YAML": ("needs: [text, fit]", "needs: [text, fit", 5, "not valid YAML"),
    "control character": ("Does it fit?\nunit", "Does\x07 it fit?\nunit", 2, "U+0007 is not allowed"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, mistake: str) -> None:
    old, new, line, message = MISTAKES[mistake]
    assert old in GOOD
    file = tmp_path / "size.yaml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(TaskError) as failed:
        load_task(file)
    assert str(failed.value).startswith(f"{file}:{line}: ")
    assert message in str(failed.value)


def test_the_fingerprint_covers_what_training_reads_and_nothing_else(tmp_path: Path) -> None:
    def fingerprint(old: str, new: str) -> str:
        assert old in GOOD
        file = tmp_path / "size.yaml"
        file.write_text(GOOD.replace(old, new, 1))
        return load_task(file).fingerprint

    same = fingerprint("weight: 0.5", "weight: 0.5")
    for old, new in [
        ('"does it fit? {text}"\n', '"does it fit? {text}"\n  - "is {text} my size?"\n'),
        ("weight: 0.5", "weight: 2"),
        ("How is the size?", "Which size is it?"),
        ("description: Does it fit?", "description: Which size?"),
    ]:
        assert fingerprint(old, new) == same, new
    for old, new in [
        ("Is it {choices}?", "{choices}?"),
        ('"right"', '"exact"'),
        ('label: "fit"', 'label: "lower(fit)"'),
        ("task: size", "task: fit"),
    ]:
        assert fingerprint(old, new) != same, new


def test_keys_that_nothing_reads_any_more_are_read_past_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "size.yaml"
    file.write_text(GOOD.replace("description", "version: one\nmetrics: [accuracy]\ndescription", 1))
    task = load_tasks([file])["size"]
    assert task.unread == ("version", "metrics") and task.seen == load_task(file).seen
    assert [r.message for r in caplog.records] == [f"{file}: nothing reads version and metrics any more; delete them"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("horizon_days: 28\n", "", ":5: label: next_purchase_days looks ahead, so the task must state horizon_days"),
        (
            "[user_id, item_id, timestamp, event]",
            "[user_id, event]",
            "computed from timestamp, item_id: add it to needs",
        ),
        ('["no", "yes"]', '["no", "yes", "perhaps"]', ":7: negatives: only for unit: event with two choices"),
        ("draw: uniform", "draw: popular", ":7: Unknown draw 'popular'. Did you mean 'popularity'"),
        ("per_positive: 4", "per_positive: 0", ":7: per_positive: 0 is not a whole number"),
    ],
)
def test_mistakes_of_a_task_that_looks_ahead(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SHIPPED["purchase"].text
    file = tmp_path / "purchase.yaml"
    file.write_text(SHIPPED["purchase"].text.replace(old, new, 1))
    with pytest.raises(TaskError, match=re.escape(message)):
        load_task(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"just text", "the task: expected keys"),
        (b"- a\n- b", "found a list"),
        (b"task: \xff\xfe", "not UTF-8 text"),
        (b"a: 1\n---\nb: 2\n", "not valid YAML"),
        (b"[" * 5000, "nested too deeply"),
        (None, "cannot read the task file: No such file"),
    ],
)
def test_a_file_that_is_no_task(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "odd.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TaskError, match=re.escape(message)) as failed:
        load_task(file)
    assert str(failed.value).startswith(str(file))


def test_the_caller_s_own_tasks_join_and_replace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own, again = tmp_path / "size.yaml", tmp_path / "again.yaml"
    own.write_text(GOOD)
    task = load_tasks([own])["size"]
    assert task.answer.choices == ("small", "right", "large")
    assert task.seen[1] == "{text} Is it small, right or large?"
    assert (task.weight, task.path, task.text) == (0.5, "size.yaml", GOOD)
    again.write_text(GOOD + "# changed\n")
    assert load_tasks([again])["size"] == replace(task, path="again.yaml", text=again.read_text())
    with pytest.raises(TaskError, match="'size' is also in"):
        load_tasks([own, again])
    again.write_text(GOOD.replace("task: size", "task: churn"))
    with caplog.at_level(logging.WARNING, logger="genrec"):
        assert load_tasks([again])["churn"].unit == "text"
    assert "replaces the shipped task 'churn'" in caplog.text


def test_a_saved_task_loads_as_it_was(tmp_path: Path) -> None:
    for name, task in SHIPPED.items():
        file = tmp_path / task.path
        file.write_text(task.text, encoding="utf-8")
        assert load_task(file) == SHIPPED[name]


# A task and a data set


def shop() -> Dataset:
    """Two users; train before day 100, valid before day 110."""
    events = [
        ("u", "a", 0, "view", 1.0), ("u", "a", 10, "purchase", 2.0), ("u", "b", 10, "purchase", 3.0),
        ("u", "a", 60, "purchase", 4.5), ("u", "c", 99, "view", None), ("u", "a", 105, "purchase", 5.0),
        ("v", "c", 5, "skip", None), ("v", "b", 6, "click", None), ("v", "b", 120, "click", 1.0),
    ]  # fmt: skip
    frame = pl.DataFrame(
        {
            "row": range(len(events)),
            "user_id": [e[0] for e in events],
            "item_id": [e[1] for e in events],
            "timestamp": [e[2] * DAY for e in events],
            "event": [e[3] for e in events],
            "rating": [e[4] for e in events],
            "review": ["bad", "poor", " ", "good", None, "fine", None, None, "awful"],
            "part": ["train" if e[2] < 100 else "valid" if e[2] < 110 else "test" for e in events],
        }
    )
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", None], "category": ["x", "y", "x"]})
    cutoffs = (("valid", 100 * DAY), ("test", 110 * DAY))
    users = pl.DataFrame({"user_id": ["u", "v"], "age": [30, 40]})
    return Dataset("shop", frame, items, users, split_method="temporal", cutoffs=cutoffs)


def test_labels_are_the_words_of_the_answer() -> None:
    events = pl.DataFrame({"event": ["click", "skip", None]})
    assert labels(SHIPPED["click"], events).to_list() == ["yes", "no", None]
    days = pl.DataFrame({"next_purchase_days": [0.0, 28.0, 28.5, float("inf")]})
    assert labels(SHIPPED["purchase"], days).to_list() == ["yes", "yes", "no", "no"]
    assert labels(SHIPPED["next_item"], pl.DataFrame({"item_id": ["007"]})).to_list() == ["007"]


def test_labels_of_another_kind_than_the_answer_are_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "size.yaml"
    file.write_text(GOOD)
    size = load_task(file)
    assert labels(size, pl.DataFrame({"fit": ["small", "huge"]})).to_list() == ["small", None]
    with pytest.raises(TaskError, match=r"Unknown column 'fit' in label: 'fit'\. Available: text, width"):
        labels(size, pl.DataFrame({"text": ["a"], "width": [1]}))
    with pytest.raises(TaskError, match="true or false, which needs 2 choices"):
        labels(replace(size, label="fit = 'small'"), pl.DataFrame({"fit": ["small"]}))
    with pytest.raises(TaskError, match="one per row"):
        labels(replace(size, label="max(fit)"), pl.DataFrame({"fit": ["small", "large"]}))
    with pytest.raises(TaskError, match="cannot be computed"):
        labels(replace(size, label="fit <= 3"), pl.DataFrame({"fit": ["small", "large"]}))
    with pytest.raises(TaskError, match="gives String values where the answer is a number"):
        labels(SHIPPED["rating"], pl.DataFrame({"rating": ["good", "bad"]}))


def test_where_takes_a_column_that_the_data_lacks_as_null() -> None:
    rows = pl.DataFrame({"event": ["view", "skip"]})
    some = replace(SHIPPED["next_item"], where="event <> 'skip' or rating is not null")
    assert selected(some, rows).to_list() == [True, False]
    rated = rows.with_columns(rating=pl.Series([None, 2.0]))
    assert selected(some, rated).to_list() == [True, True]
    assert selected(SHIPPED["churn"], rows).to_list() == [True, True]


def test_answers_taken_from_the_data_are_those_of_the_training_part() -> None:
    rating = resolve_answer(SHIPPED["rating"], shop()).answer
    assert rating.choices == ("1", "2", "3", "4.5")
    assert rating.values == (1.0, 2.0, 3.0, 4.5)
    assert resolve_answer(SHIPPED["category"], shop()).answer.choices == ("x",)


def test_look_ahead_sees_nothing_beyond_the_part_s_cut_off() -> None:
    rows = unit_rows(shop(), "event", "train", ["next_purchase_days", "returns_days"])
    mine = rows.filter(pl.col("user_id") == "u")
    inf = float("inf")
    assert mine["next_purchase_days"].to_list() == [10.0, 50.0, inf, inf, inf]
    assert mine["returns_days"].to_list() == [10.0, 50.0, 50.0, 39.0, inf]  # the purchase on day 105 is not seen
    later = unit_rows(shop(), "event", "valid", ["returns_days"])
    assert later["returns_days"].to_list() == [inf]


def test_rows_whose_horizon_passes_the_cut_off_are_dropped() -> None:
    rows = task_rows(SHIPPED["churn"], shop(), "train")
    assert rows.select("user_id", pl.col("timestamp") // DAY, "label").rows() == [
        ("u", 0, "yes"), ("u", 10, "no"), ("u", 60, "no"), ("v", 5, "yes"), ("v", 6, "no"),
    ]  # fmt: skip
    assert task_rows(SHIPPED["churn"], shop(), "valid").height == 0


def test_looking_ahead_needs_a_split_by_time() -> None:
    data = replace(shop(), cutoffs=(), split_method="leave-one-out")
    for name in ("churn", "purchase"):
        assert missing_needs(SHIPPED[name], data) == "looking ahead needs a split by time, not leave-one-out"
    unsplit = replace(data, interactions=data.interactions.drop("part"))
    assert missing_needs(SHIPPED["churn"], unsplit) is None


def test_a_basket_is_what_was_taken_at_one_time() -> None:
    rows = task_rows(SHIPPED["basket"], shop(), "train")
    assert rows["item_ids"].to_list() == [["a"], ["a", "b"], ["a"], ["c"], ["c"], ["b"]]
    baskets = shop().interactions.with_columns(basket=pl.Series(["1", "1", "2", "2", "3", "4", "5", "5", "6"]))
    rows = unit_rows(replace(shop(), interactions=baskets), "basket", "train")
    assert rows["item_ids"].to_list() == [["a", "a"], ["b", "a"], ["c"], ["c", "b"]]


@pytest.mark.parametrize("scale", [(1.0, 5.0), (0.5, 5.0), (0.0, 100.0), (-10.0, 10.0), (0.0, 1.0)])
def test_sentiment_is_by_thirds_of_the_scale(scale: tuple[float, float]) -> None:
    low, high = scale
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    rating = [low + share * (high - low) for share in shares] + [None] * 4
    frame = shop().interactions.with_columns(rating=pl.Series(rating), review=pl.lit("text"), part=pl.lit("train"))
    rows = task_rows(SHIPPED["sentiment"], replace(shop(), interactions=frame), "train")
    assert rows["label"].to_list() == ["negative", "negative", "neutral", "positive", "positive"]


def test_a_text_is_the_review_else_the_title() -> None:
    data = shop()
    rows = task_rows(SHIPPED["category"], data, "train")
    assert rows.select("text", "label").rows() == [("bad", "x"), ("poor", "x"), ("good", "x")]
    bare = replace(data, interactions=data.interactions.drop("review"))
    assert task_rows(SHIPPED["category"], bare, None).select("text", "label").rows() == [("A", "x"), ("B", "y")]
    parts = [task_rows(SHIPPED["category"], bare, part)["item_id"] for part in ("train", "valid", "test")]
    assert sorted(pl.concat(parts)) == ["a", "b"]


@pytest.mark.parametrize(
    ("task", "drop", "reason"),
    [
        ("next_item", "user_id", "no user_id (it needs user_id, item_id)"),
        ("rating", "rating", "no rating (it needs user_id, item_id, rating)"),
        ("sentiment", "review", "no review (it needs review, rating)"),
        ("churn", "timestamp", "no timestamp (it needs user_id, timestamp)"),
        ("click", "part", None),
        ("next_item", "rating", None),
    ],
)
def test_a_data_set_without_what_a_task_needs(task: str, drop: str, reason: str | None) -> None:
    data = shop()
    users = data.users if drop != "user_id" else pl.DataFrame()
    thin = replace(data, interactions=data.interactions.drop(drop), users=users)
    assert missing_needs(SHIPPED[task], thin) == reason


def test_a_constant_answer_is_a_reason() -> None:
    data = shop()
    assert missing_needs(SHIPPED["purchase"], data) is None
    assert missing_needs(SHIPPED["rating"], data) is None
    assert missing_needs(SHIPPED["category"], data) == "every training row has the same answer, 'x'"
    clicks = replace(data, interactions=data.interactions.with_columns(event=pl.lit("click")))
    assert missing_needs(SHIPPED["click"], clicks) == "every training row has the same answer, 'yes'"
    views = replace(data, interactions=data.interactions.with_columns(event=pl.lit("view")))
    asked = "no training row has a label (it is asked where event in ('click', 'skip'))"
    assert missing_needs(SHIPPED["click"], views) == asked
    assert missing_needs(SHIPPED["purchase"], views) == "every training row has the same answer, 'no'"
    one = replace(data, interactions=data.interactions.with_columns(item_id=pl.lit("a")))
    assert missing_needs(SHIPPED["next_item"], one) == "fewer than 2 items"


def test_data_with_only_purchases_can_feed_the_purchase_task() -> None:
    frame = shop().interactions.filter(pl.col("timestamp") < 50 * DAY).with_columns(event=pl.lit("purchase"))
    data = replace(shop(), interactions=frame.with_columns(timestamp=pl.col("timestamp") % (9 * DAY)))
    assert missing_needs(SHIPPED["purchase"], data) is None
