"""Texts of a request, which may be given as tokens."""

from ...recommender import Recommender
from ..errors import invalid

INPUTS = 2_048  # texts of a request at most


def texts_of(recommender: Recommender, value: object, field: str) -> list[str]:
    """A text, a list of texts, token ids, or a list of lists of them, as texts; raises ApiError 400 naming `field`."""
    if value is None:
        raise invalid(f"{field} is missing", field, "missing_required_parameter")
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise invalid(f"{field}: a text, a list of texts, or token ids", field, "invalid_type")
    if not value:
        raise invalid(f"{field} is empty", field)
    if len(value) > INPUTS and not isinstance(value[0], int):
        raise invalid(f"{field}: at most {INPUTS} at a time (given: {len(value)})", field)
    if all(is_token(t) for t in value):
        return [recommender.text_of(value)]
    texts = []
    for n, entry in enumerate(value):
        if isinstance(entry, str):
            texts.append(entry)
        elif isinstance(entry, list) and all(is_token(t) for t in entry):
            texts.append(recommender.text_of(entry))
        else:
            raise invalid(f"{field}[{n}]: a text or token ids", f"{field}[{n}]", "invalid_type")
    return texts


def is_token(value: object) -> bool:
    """Whether a value may be a token id."""
    return isinstance(value, int) and not isinstance(value, bool)
