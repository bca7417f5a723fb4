"""The reference in docs/python.md from the docstrings of the Python interface."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import genrec
from genrec.recommender.replies import Explanations, Predictions, Recommendations

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
MARK = "<!-- reference, written by scripts/docs.py -->\n"
METHODS = ("recommend", "predict", "similar", "explain", "ask", "evaluate", "history", "embed_items", "embed_users")


def entry(name: str, function: Callable[..., Any]) -> str:
    """A function: its parameters with their defaults, and its docstring."""
    parameters = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]
    return f"### {name}\n\n```python\n{name}{inspect.Signature(parameters)}\n```\n\n{inspect.getdoc(function)}\n"


def reference() -> str:
    """The functions, the methods of a run, and the answers."""
    parts = ["## Reference\n", entry("genrec.finetune", genrec.finetune), entry("genrec.load", genrec.load)]
    parts += [entry(f"run.{name}", getattr(genrec.Run, name)) for name in METHODS]
    for answer in (Recommendations, Predictions, Explanations):
        parts.append(f"### {answer.__name__}\n\n{inspect.getdoc(answer)}\n")
    return "\n".join(parts)


def page() -> str:
    """The whole of docs/python.md, its reference written anew."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0] + MARK + "\n" + reference()
