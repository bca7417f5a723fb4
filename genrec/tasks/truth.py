"""Pairs of words of which one says that something is so and the other that it is not."""

import re
from collections.abc import Sequence

_TRUTH = (
    ("yes", "no"),
    ("true", "false"),
    ("1", "0"),
    ("y", "n"),
    ("t", "f"),
    ("是", "否"),
    ("真", "假"),
    ("对", "错"),
    *(("はい", "いいえ"), ("예", "아니오"), ("ja", "nein"), ("oui", "non"), ("sí", "no"), ("si", "no"), ("sim", "não")),
    *(("да", "нет"), ("wahr", "falsch"), ("vrai", "faux")),
)
_OPINION = (
    *(("positive", "negative"), ("good", "bad"), ("love", "hate"), ("like", "hate"), ("up", "down"), ("on", "off")),
    *(("好", "坏"), ("好评", "差评"), ("正面", "负面"), ("赞", "踩"), ("有", "无")),
)
_NEGATIONS = (
    *("not ", "no ", "non ", "do not ", "does not ", "did not ", "non", "un", "dis", "ir", "in", "im"),
    *("不", "没有", "没", "未", "非", "无"),
)


def no_and_yes(choices: Sequence[str]) -> tuple[str, str] | None:
    """Two choices as no and yes, whichever comes first: `yes` and `no`, `like` and `dislike`, `是` and `否`; None if
    the words do not tell.

    >>> no_and_yes(["yes", "no"]), no_and_yes(["Dislike", "Like"]), no_and_yes(["left", "stayed"])
    (('no', 'yes'), ('Dislike', 'Like'), None)
    """
    if len(choices) != 2:
        return None
    for no, yes in (choices, choices[::-1]):
        lower_no, lower_yes = (re.sub(r"[\s_-]+", " ", word.casefold()) for word in (no, yes))
        if (lower_yes, lower_no) in (*_TRUTH, *_OPINION) or lower_no in {n + lower_yes for n in _NEGATIONS}:
            return no, yes
    return None


def says_truth(choices: Sequence[str]) -> bool:
    """Whether two choices are words for true and false themselves, as `yes` and `no`, and not for an opinion."""
    lower = tuple(c.casefold() for c in choices)
    return lower in _TRUTH or lower[::-1] in _TRUTH
