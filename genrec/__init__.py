"""genrec: a recommender that you can prompt.

    import genrec

    run = genrec.finetune(ratings, items=movies, out="runs/mine")  # frames, files or the names of data sets
    run = genrec.load("runs/mine")                                 # in another session
    run.recommend(42)
    run.predict("rating", users=42, items=[50, 181])
    run.ask("top 5 comedies from the 1990s for user 42")

docs/python.md has the whole interface.
"""

__version__ = "0.1.0"
__all__ = ["GenrecError", "Run", "__version__", "finetune", "load"]

TYPE_CHECKING = False  # type checkers take it for true; nothing is imported for it
if TYPE_CHECKING:
    from .errors import GenrecError
    from .python import Run, finetune, load

_METHODS = ("ask", "embed_items", "embed_users", "evaluate", "explain", "history", "predict", "recommend", "similar")


def __getattr__(name: str) -> object:
    """The public names, each imported at its first use."""
    from importlib import import_module

    if name in __all__:
        value = getattr(import_module(".errors" if name == "GenrecError" else ".python", __name__), name)
        globals()[name] = value
        return value
    hint = ""
    if name in _METHODS:
        hint = f'; a run has it: genrec.load("runs/mine").{name}(...)'
    elif name in ("train", "fit", "tune"):
        hint = "; genrec.finetune trains"
    raise AttributeError(f"module 'genrec' has no attribute {name!r}{hint}. It has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
