"""How help looks: headings with two columns, as wide as the terminal, without boxes."""

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

WIDEST = 30  # columns of the names; what is longer stands on a line of its own


class PlainHelp:
    """A help page, as cyclopts asks for its parts."""

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """The line of usage."""
        print(f"Usage: {plain(usage)}\n")

    def render_description(self, console: "Console", options: "ConsoleOptions", description: Any) -> None:
        """What the command does."""
        for paragraph in plain(description).split("\n\n"):
            print(textwrap.fill(paragraph, console.width) + "\n")

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """One group of commands or options."""
        if not panel.entries:
            return
        print(f"{plain(panel.title)}:")
        column = min(WIDEST, max(len(names(entry)) for entry in panel.entries)) + 4
        for entry in panel.entries:
            first = f"  {names(entry)}"
            if len(first) > column - 2:
                print(first)
                first = ""
            for line in textwrap.wrap(text(entry), max(20, console.width - column)) or [""]:
                print(f"{first:{column}}{line}".rstrip())
                first = ""
        print()


def names(entry: "HelpEntry") -> str:
    """`--task TASK`."""
    return ", ".join(entry.display_labels_with_metavar)


def text(entry: "HelpEntry") -> str:
    """What an option is for, and what holds without it."""
    parts = [plain(entry.description)]
    if entry.required:
        parts.append("[required]")
    elif entry.default is not None:
        parts.append(f"(default: {entry.default})")
    return " ".join(part for part in parts if part)


def plain(styled: Any) -> str:
    """A text without its styles."""
    return str(getattr(styled, "primary_renderable", styled) or "").strip()
