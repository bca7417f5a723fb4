"""Numbers with what they count, in English."""

SINGULAR = {"are": "is", "were": "was", "have": "has", "take": "takes", "differ": "differs", "equal": "equals"}
SINGULAR |= {"occur": "occurs", "stay": "stays"}


def counted(number: int, what: str) -> str:
    """A number of things, `2 rows are`; of one `1 row is`."""
    noun, *rest = what.split(" ")
    if number == 1:
        noun, rest = noun.removesuffix("s"), [SINGULAR.get(word, word) for word in rest]
    return " ".join((f"{number:,}", noun, *rest))
