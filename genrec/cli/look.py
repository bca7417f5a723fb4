"""`genrec tasks`, `doctor` and `completion`: what is there, before anything is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import DataError, UnknownNameError
from ..options import option
from .parser import command


@dataclass(frozen=True)
class Tasks:
    """Options of tasks."""

    what: Literal["list", "show", "check"] = option(
        help="list all, show one, or check a file of yours", positional=True
    )
    name: str | None = option(None, "task name (show) or YAML file (check)", metavar="NAME|FILE", positional=True)

    def __post_init__(self) -> None:
        """Raises DataError for a list with a name."""
        if self.what == "list" and self.name is not None:
            raise DataError(
                f"`genrec tasks list` takes no name ({self.name}); `genrec tasks show {self.name}` shows one"
            )


@command()
def tasks(options: Tasks) -> None:
    """The shipped task files, or a check of your own."""
    from ..tasks.taskfile import load_task, shipped_tasks

    shipped = shipped_tasks()
    if options.what == "list":
        for task in shipped.values():
            print(f"{task.name:10}  {task.description}")
        return
    if options.name is None:
        raise DataError(f"`genrec tasks {options.what}` needs a {'name' if options.what == 'show' else 'file'}")
    if options.what == "check":
        task = load_task(Path(options.name))
        print(
            f"{options.name}: task {task.name}, {len(task.seen)} seen and {len(task.unseen)} unseen templates: correct"
        )
        return
    if options.name not in shipped:
        raise UnknownNameError("task", options.name, shipped)
    print(shipped[options.name].text, end="")


@dataclass(frozen=True)
class Doctor:
    """A command without options."""


@command()
def doctor(options: Doctor) -> None:
    """What this machine has, and what is missing for which feature."""
    from .doctor import report

    for finding in report():
        print(f"{'ok  ' if finding.ok else 'LOOK'} {finding.name:14} {finding.value}")


@dataclass(frozen=True)
class Completion:
    """Options of completion."""

    shell: Literal["bash", "zsh", "fish"] = option(help="the shell that reads the script", positional=True)


@command()
def completion(options: Completion) -> None:
    """Print the script that completes commands and flags in a shell."""
    from .main import COMMANDS, app

    print(app(COMMANDS).generate_completion(shell=options.shell))
