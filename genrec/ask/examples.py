"""Examples of requests: the `ask` sentences of task files, and the lines of examples/LANGUAGE/REQUEST.txt."""

from collections.abc import Mapping
from functools import cache

from ..tasks.task import Task
from ..tasks.taskfile import shipped_tasks
from .language import languages, package_folder
from .request import NONE, WITHOUT_TASK


@cache
def package_examples(name: str) -> tuple[str, ...]:
    """The sentences of all languages for a shipped task, or for a request that is no task."""
    folder = package_folder().joinpath("examples")
    files = [folder.joinpath(language, f"{name}.txt") for language in languages()]
    return tuple(line for f in files if f.is_file() for line in f.read_text("utf-8").splitlines() if line.strip())


@cache
def shipped() -> Mapping[str, Task]:
    """The tasks that come with genrec, read once."""
    return shipped_tasks()


def asks_the_same(task: Task, other: Task) -> bool:
    """Whether sentences for one task ask the other too: of the same name, unit and kind of answer."""
    return (task.name, task.unit, task.answer.kind) == (other.name, other.unit, other.answer.kind)


def task_examples(task: Task) -> tuple[str, ...]:
    """All sentences that ask a task: the package's, if it is the shipped task of its name or asks the same, then those
    of its own file that are not among them."""
    ours = shipped().get(task.name)
    if ours is None or not asks_the_same(task, ours):
        return task.ask
    days = "{days}" if task.horizon_days is None else str(task.horizon_days)  # as the loader fills it in
    more = (example.replace("{days}", days) for example in package_examples(task.name))
    return tuple(dict.fromkeys((*more, *task.ask)))


def request_examples() -> dict[str, tuple[str, ...]]:
    """The sentences of requests that are no task, and of what is no request."""
    return {name: package_examples(name) for name in (*WITHOUT_TASK, NONE)}
