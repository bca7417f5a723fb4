"""Answers that are numbers or words: which the data gives, what stands for a number, which of two is for true."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from worlds import chain_world

from genrec.cli import main
from genrec.data.dataset import Dataset
from genrec.errors import TaskError
from genrec.rows.corpus import offered_tasks
from genrec.tasks.labels import labels
from genrec.tasks.numbers import MOST_NUMBERS, Levels, levels_of, nearest_level
from genrec.tasks.taskfile import load_task, load_tasks
from genrec.tasks.vocabulary import Vocabulary

RNG = np.random.default_rng(0)
ONE_STEP = 1 + 2.0**-52 * np.arange(25)  # neighbours among the floating-point numbers


def task_file(folder: Path, answer: str, label: str | None = None, needs: str = "rating") -> Path:
    """A task about events with this answer."""
    file = folder / "asked.yaml"
    label_line = f"label: {label!r}\n" if label else ""
    file.write_text(
        f"task: asked\ndescription: test\nunit: event\nneeds: [user_id, item_id, {needs}]\n{label_line}"
        f'answer: {answer}\ndense: true\nask: ["{{title}}?"]\n'
        'templates: {seen: ["{item}?"], unseen: ["And {item}?"]}\n'
    )
    return file


@pytest.mark.parametrize(
    "numbers",
    [
        RNG.uniform(-10, 10, 2_000).round(2),
        RNG.integers(0, 101, 300).astype(float),
        np.append(np.zeros(600), RNG.uniform(0, 100, 400)),
        RNG.lognormal(3, 2, 1_000),
        np.append(np.full(980, 5.0), np.arange(22.0)),
        ONE_STEP,
        -np.arange(21.0),
    ],
)
def test_bins_keep_the_mean_and_know_where_each_number_belongs(numbers: np.ndarray) -> None:
    levels = levels_of(numbers)
    index = nearest_level(numbers, levels.values, levels.edges)
    assert 15 <= len(levels.values) <= MOST_NUMBERS and len(set(levels.words)) == len(levels.values)
    assert sorted(set(index.tolist())) == list(range(len(levels.values)))
    for n, value in enumerate(levels.values):
        inside = numbers[index == n]
        assert value == pytest.approx(inside.mean(), rel=1e-12)
        assert levels.edges[n] <= inside.min() and inside.max() <= levels.edges[n + 1]
    assert np.asarray(levels.values)[index].mean() == pytest.approx(numbers.mean(), rel=1e-12)
    many = np.bincount(index)
    frequent = np.unique(numbers, return_counts=True)[1].max()
    assert many.max() <= max(frequent + len(numbers) / 100, 2 * len(numbers) / MOST_NUMBERS)


def test_few_numbers_are_an_answer_each_and_the_nearest_stands_for_others() -> None:
    levels = levels_of(np.asarray([2.0, 3.5, 3.5, 5.0]))
    assert levels == Levels(("2", "3.5", "5"), (2.0, 3.5, 5.0))
    asked = np.asarray([1.0, 2.75, 2.76, 9.0, np.nan, np.inf])
    assert nearest_level(asked, levels.values, ()).tolist() == [0, 0, 1, 2, -1, -1]


def data(values: list[float], held_out: float | None = None) -> Dataset:
    """The chain world with these ratings in turn, and one more in its test part."""
    world = chain_world()
    n = world.interactions.height
    rating = pl.Series("rating", [values[i % len(values)] for i in range(n)])
    frame = world.interactions.with_columns(rating)
    if held_out is not None:
        last = frame.filter(pl.col("part") == "test")["row"].max()
        frame = frame.with_columns(
            pl.when(pl.col("row") == last).then(held_out).otherwise(pl.col("rating")).alias("rating")
        )
    return replace(world, interactions=frame)


def test_a_number_that_only_held_out_rows_have_is_told() -> None:
    tasks, notes = offered_tasks(data([2.0, 3.0, 4.0, 5.0], held_out=1.0), list(load_tasks().values()))
    (rating,) = [t for t in tasks if t.name == "rating"]
    assert rating.answer.values == (2.0, 3.0, 4.0, 5.0)
    (note,) = [n for n in notes if "task rating" in n]
    assert "of 1 held-out rows the number is none of its answers (1): the nearest answer counts as right" in note


def test_many_numbers_are_told_to_be_binned() -> None:
    tasks, notes = offered_tasks(data([i / 7 for i in range(30)]), list(load_tasks().values()))
    (rating,) = [t for t in tasks if t.name == "rating"]
    assert len(rating.answer.values) == MOST_NUMBERS == len(rating.answer.edges) - 1
    (note,) = [n for n in notes if "task rating" in n]
    assert "its numbers go from 0 to 4.14" in note and "in 20 bins" in note


def test_the_vocabulary_keeps_bins_and_reads_one_without() -> None:
    tasks, _ = offered_tasks(data([i / 7 for i in range(30)]), list(load_tasks().values()))
    (answer,) = [t.answer for t in tasks if t.name == "rating"]
    group = {"dataset": "chain", "name": "rating", "size": 20, **answer.to_json()}
    vocabulary = Vocabulary.from_json({"n_words": 10, "groups": [group]})
    assert vocabulary.groups[0].edges == answer.edges
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert vocabulary.groups[0].short_words[-1] == f"{answer.values[-1]:.3g}"
    with pytest.raises(ValueError, match="20 tokens, 20 words, 20 values and 3 edges"):
        Vocabulary.from_json({"n_words": 10, "groups": [group | {"edges": [0, 1, 2]}]})
    with pytest.raises(ValueError, match="not in order"):
        Vocabulary.from_json({"n_words": 10, "groups": [group | {"values": group["values"][::-1]}]})


# --- words of true and false --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "yes"),
    [
        ('["yes", "no"]', "yes"),
        ('["no", "yes"]', "yes"),
        ('["True", "False"]', "True"),
        ('["1", "0"]', "1"),
        ('["是", "否"]', "是"),
        ('["like", "dislike"]', "like"),
        ('["dislike", "like"]', "like"),
        ('["喜欢", "不喜欢"]', "喜欢"),
        ('["happy", "not happy"]', "happy"),
        ('["click", "no_click"]', "click"),
        ('["relevant", "irrelevant"]', "relevant"),
        ('["ja", "nein"]', "ja"),
        ('["いいえ", "はい"]', "はい"),
    ],
)
def test_true_is_yes_in_whichever_order_the_choices_are(tmp_path: Path, choices: str, yes: str) -> None:
    task = load_task(task_file(tmp_path, f"{{choices: {choices}}}", "rating >= 4"))
    rows = pl.DataFrame({"rating": [1.0, 5.0, None]})
    assert task.answer.choices[1] == yes and task.is_yes_no
    assert labels(task, rows).to_list() == [task.answer.choices[0], yes, None]
    _, notes = offered_tasks(data([1.0, 5.0]), [task])
    assert bool(notes) == (task.answer.choices[1].casefold() not in ("yes", "true", "1", "是", "ja", "はい"))
    assert all(f"the answer is {yes!r} where 'rating >= 4' is true" in note for note in notes)


@pytest.mark.parametrize("label", ["rating >= 4", "not (rating < 4)", "rating in (4, 5) and item_id is not null"])
def test_words_that_do_not_tell_which_is_for_true_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str
) -> None:
    file = task_file(tmp_path, '{choices: ["stays", "leaves"]}', label)
    assert main(["tasks", "check", str(file)]) == 2
    error = capsys.readouterr().err
    assert "asked.yaml:6" in error and "do not tell which choice is for true" in error
    how = error.split('label: "')[1].split('" with both')[0]
    assert "stays" not in how and "leaves" not in how  # which is for true is not for genrec to say
    how = how.replace("WORD", "'leaves'").replace("OTHER", "'stays'")
    fixed = load_task(task_file(tmp_path, '{choices: ["stays", "leaves"]}', how))
    assert labels(fixed, pl.DataFrame({"rating": [1.0, 5.0], "item_id": ["a", "b"]})).to_list() == ["stays", "leaves"]


def test_a_column_of_truths_is_told_when_the_data_is_read(tmp_path: Path) -> None:
    world = chain_world()
    frame = world.interactions.with_columns(back=pl.col("row") % 3 == 0)
    task = load_task(task_file(tmp_path, '{choices: ["stays", "leaves"]}', "back", needs="back"))
    tasks, notes = offered_tasks(replace(world, interactions=frame), [task])
    assert not tasks and "do not tell which choice is for true" in notes[0]


# --- numbers as words and as they are ----------------------------------------------------------------------------


@pytest.mark.parametrize("choices", ['["1", "2", "5"]', '["1.0", "2.0", "5.0"]'])
def test_numbers_are_the_choices_that_write_them(tmp_path: Path, choices: str) -> None:
    task = load_task(task_file(tmp_path, f"{{choices: {choices}}}", "rating"))
    found = labels(task, pl.DataFrame({"rating": [1.0, 2.0, 5.0, 3.0, None]}))
    assert [None if w is None else float(w) for w in found.to_list()] == [1.0, 2.0, 5.0, None, None]
    whole = labels(load_task(task_file(tmp_path, '{choices: ["1", "2"]}', "n", "n")), pl.DataFrame({"n": [1, 2]}))
    assert whole.to_list() == ["1", "2"]


def test_any_number_can_be_the_answer(tmp_path: Path) -> None:
    task = load_task(task_file(tmp_path, "{number: true}", "rating * 10"))
    (offered,), notes = offered_tasks(data([i / 7 for i in range(30)]), [task])
    assert offered.answer.edges[-1] == pytest.approx(290 / 7) and "in 20 bins" in notes[0]
    column = load_task(task_file(tmp_path, "{number: {column: rating}}"))
    (offered,), notes = offered_tasks(data([1.0, 2.0]), [column])
    assert offered.answer.choices == ("1", "2") and not notes
    below = load_task(task_file(tmp_path, "{number: [-1, 0, 1]}", "rating"))
    assert below.answer.values == (-1.0, 0.0, 1.0)
    with pytest.raises(TaskError, match="the label|label: missing"):
        load_task(task_file(tmp_path, "{number: true}"))
    with pytest.raises(TaskError, match="write true, a list of numbers"):
        load_task(task_file(tmp_path, "{number: false}", "rating"))


@pytest.mark.parametrize(("answer", "told"), [("{number: [1, 2]}", "gives 7"), ('{choices: ["1", "2"]}', "gives '7'")])
def test_listed_answers_that_training_does_not_keep_to_switch_the_task_off(
    tmp_path: Path, answer: str, told: str
) -> None:
    task = load_task(task_file(tmp_path, answer, "rating"))
    tasks, notes = offered_tasks(data([1.0, 2.0, 7.0]), [task])
    assert not tasks and told in notes[0] and "in row 3 of the interactions; allowed: 1, 2" in notes[0]
    tasks, notes = offered_tasks(data([1.0, 2.0], held_out=7.0), [task])
    assert tasks and "of 1 held-out rows" in notes[0]


def test_numbers_that_are_not_finite_are_no_answers(tmp_path: Path) -> None:
    task = load_task(task_file(tmp_path, "{number: true}", "rating / (rating - 2)"))
    (offered,), _ = offered_tasks(data([1.0, 2.0, 3.0, 4.0]), [task])
    assert offered.answer.values == (-1.0, 2.0, 3.0)
