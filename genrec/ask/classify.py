"""Which request a sentence is, by the examples in the task files and under words/."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..data.titles import Word, words_of
from ..tasks.task import Placeholder, pieces
from .language import Language

NONE = "none"  # the request that is none of ours
MARKS = {
    "user_id": "USER",
    "title": "TITLE",
    "titles": "TITLES",
    "item_id": "TITLE",
    "text": "TEXT",
    "k": "COUNT",
    "days": "PERIOD",
    "condition": "CONDITION",
}
LIKE, HISTORY = "next_item like", "next_item history"  # what the titles of a next_item sentence are


def example_words(example: str, language: Language) -> list[str]:
    """An example with its placeholders as marks, as a sentence is marked: of `will user {user_id} buy {title} within
    {days} days`, `will USER buy TITLE within PERIOD`."""
    found: list[Word] = []
    for piece in pieces(example):
        if isinstance(piece, Placeholder):
            mark = MARKS[piece.name]
            while mark == "USER" and found:
                size = language.before_user.before(found, len(found)) or language.users.before(found, len(found))
                if not size:
                    break
                del found[-size:]
            found.append(Word(mark, 0, 0))
        else:
            words = words_of(piece)
            before = found[-1].text if found else ""
            if before == "PERIOD" and words and (unit := language.periods.at(words, 0)):
                words = words[unit[0] :]
            if before == "USER" and words and words[0].text == "号":
                noun = language.users.at(words, 1) if len(words) > 1 else None
                words = words[1 + (noun[0] if noun else 0) :]
            found += words
    return [w.text for w in found]


def features(words: Sequence[str]) -> list[str]:
    """Words, pairs and triples of words, and the letters inside longer words, which forgive inflection and typos."""
    ends = ["<", *words, ">"]
    found = list(words)
    found += [f"{a} {b}" for a, b in zip(ends, ends[1:], strict=False)]
    found += [f"{a} {b} {c}" for a, b, c in zip(ends, ends[1:], ends[2:], strict=False)]
    for word in words:
        if len(word) > 4 and word.islower():
            found += [f"~{word[n : n + 4]}" for n in range(len(word) - 3)]
    return found


class Classifier:
    """Naive Bayes on TF-IDF (scikit-learn), fitted to examples when first used, in a tenth of a second; logistic
    regression is no more accurate here and takes a hundred times as long."""

    def __init__(self, examples: Mapping[str, Iterable[str]], language: Language) -> None:
        self.sentences: list[list[str]] = []
        self.labels: list[str] = []
        for label, texts in examples.items():
            for text in texts:
                words = example_words(text, language)
                for variant in variants(words) if label != "rank" else [words]:
                    self.sentences.append(variant)
                    self.labels.append(kind(label, words))

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Words of the examples of requests that are ours."""
        pairs = zip(self.sentences, self.labels, strict=True)
        return frozenset(w for sentence, label in pairs if label != NONE for w in sentence)

    @cached_property
    def fitted(self) -> Any:
        """The pipeline."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import make_pipeline

        found = make_pipeline(
            TfidfVectorizer(analyzer=features, sublinear_tf=True), MultinomialNB(alpha=0.1, fit_prior=False)
        )
        return found.fit(self.sentences, self.labels)

    def probabilities(self, sentences: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """For each sentence (words and marks), the probability of each label."""
        names = self.fitted.classes_.tolist()
        rows: np.ndarray = self.fitted.predict_proba([list(s) for s in sentences])
        return [dict(zip(names, row.tolist(), strict=True)) for row in rows]


def kind(label: str, words: Sequence[str]) -> str:
    """The label of an example; in next_item, `{titles}` are a history and `{title}` is what the item should be
    like."""
    if label != "next_item" or not {"TITLE", "TITLES"} & set(words):
        return label
    return LIKE if "TITLE" in words else HISTORY


def variants(words: list[str]) -> list[list[str]]:
    """The words, and for a list of titles also a single one."""
    return [words, ["TITLE" if w == "TITLES" else w for w in words]] if "TITLES" in words else [words]
