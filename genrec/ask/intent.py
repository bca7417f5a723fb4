"""Which request a sentence is, by examples: those of the task files and those under examples/."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..catalogue.titles import Word, words_of
from ..tasks.task import Task
from ..tasks.templates import Placeholder, pieces
from .language import is_latin, language
from .request import FOLLOW_UPS, NONE, WITHOUT_TASK, Kind, kind_of
from .sentence import Domain, Sentence

MIN_STRANGE = 4  # letters of a word that may be a title with a typo
SHARPNESS = 7.0  # of probabilities from margins: the least log loss on the examples of other writers
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
LIKE, HISTORY = "next item like", "next item history"  # labels by the use of titles; no task's name has a space


def example_words(example: str) -> list[str]:
    """An example with its placeholders as marks, as a sentence is marked.

    >>> " ".join(example_words("will user {user_id} buy {title} within {days} days"))
    'will USER buy TITLE within PERIOD'
    """
    tables = language()
    spelled: list[Word] = []
    for piece in pieces(example):
        if isinstance(piece, Placeholder):
            mark = MARKS[piece.name]
            while mark == "USER" and spelled:
                size = tables.before_user.before(spelled, len(spelled)) or tables.users.before(spelled, len(spelled))
                if not size:
                    break
                del spelled[-size:]
            spelled.append(Word(mark, 0, 0))
            continue
        words = words_of(piece)
        before = spelled[-1].text if spelled else ""
        if before == "PERIOD" and (unit := tables.periods.at(words, 0)):
            words = words[unit[0] :]
        if before == "USER" and words and words[0].text in tables.number_marks:
            noun = tables.users.at(words, 1)
            words = words[1 + (noun[0] if noun else 0) :]
        spelled += words
    return [w.text for w in spelled]


def features(words: Sequence[str]) -> list[str]:
    """Words, pairs and triples of words, and stretches of 2 to 5 letters, which forgive inflection and typos."""
    ends = ["<", *words, ">"]
    pairs = [f"{a} {b}" for a, b in zip(ends, ends[1:], strict=False)]
    triples = [f"{a} {b} {c}" for a, b, c in zip(ends, ends[1:], ends[2:], strict=False)]
    text = f" {' '.join(words)} "
    letters = [f"#{text[n : n + size]}" for size in (2, 3, 4, 5) for n in range(len(text) - size + 1)]
    return [*words, *pairs, *triples, *letters]


class Classifier:
    """A linear support vector machine on TF-IDF (scikit-learn), fitted to examples when first used, in half a second.

    examples: by label. next_task: the label whose examples with titles have the labels LIKE and HISTORY.

    Trained on the examples of some writers and tested on 1,490 of others it finds .87 of the labels, naive Bayes .78;
    logistic regression takes a hundred times as long.
    """

    def __init__(self, examples: Mapping[str, Iterable[str]], next_task: str | None) -> None:
        self.sentences: list[list[str]] = []
        self.labels: list[str] = []
        for label, texts in examples.items():
            for text in texts:
                words = example_words(text)
                for variant in variants(words) if label != "rank" else [words]:
                    self.sentences.append(variant)
                    self.labels.append((use_of_titles(words) or label) if label == next_task else label)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Words of the examples of requests that are ours."""
        pairs = zip(self.sentences, self.labels, strict=True)
        return frozenset(w for sentence, label in pairs if label != NONE for w in sentence)

    @cached_property
    def fitted(self) -> Any:
        """The pipeline."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import LinearSVC

        words = TfidfVectorizer(analyzer=features, sublinear_tf=True)
        pipeline = make_pipeline(words, LinearSVC(C=0.5, class_weight="balanced", random_state=0))
        return pipeline.fit(self.sentences, self.labels)

    def probabilities(self, sentences: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """For each sentence (words and marks), the probability of each label."""
        names = self.fitted.classes_.tolist()
        margins = SHARPNESS * self.fitted.decision_function([list(s) for s in sentences])
        rows: np.ndarray = np.exp(margins - np.logaddexp.reduce(margins, axis=1, keepdims=True))
        return [dict(zip(names, row.tolist(), strict=True)) for row in rows]


def use_of_titles(words: Sequence[str]) -> str | None:
    """The label of an example for the next item with titles: `{titles}` are a history, and `{title}` is what the item
    should be like; None without any."""
    if "TITLE" in words:
        return LIKE
    return HISTORY if "TITLES" in words else None


def variants(words: list[str]) -> list[list[str]]:
    """The words, for a list of titles also a single one, and what is asked about a text also without the text."""
    forms = [words]
    if "TITLES" in words:
        forms.append(["TITLE" if w == "TITLES" else w for w in words])
    if "TEXT" in words and len(words) > 1:
        forms.append([w for w in words if w != "TEXT"])
    return forms


class Tasks:
    """The tasks and other requests that a sentence may be, by label."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self.tasks = tasks
        self.kinds: dict[str, Kind] = {name: kind_of(task) for name, task in tasks.items()}
        self.next_task = next((name for name, kind in self.kinds.items() if kind == "next"), None)
        self.texts = {name for name, kind in self.kinds.items() if kind == "text"}
        self.kinds.update({LIKE: "next", HISTORY: "next"})
        for request in WITHOUT_TASK:
            self.kinds[request] = request

    def kind(self, label: str) -> Kind | None:
        """How a label is answered; None for what is no request."""
        return self.kinds.get(label)

    def name(self, label: str) -> str | None:
        """The name of a label's request; None for what is no request."""
        if label in (LIKE, HISTORY):
            return self.next_task
        return None if label == NONE else label

    def offered(self, domain: Domain, kind: Kind) -> str | None:
        """The first task of this kind that a data set has."""
        return next((name for name in domain.tasks if self.kind(name) == kind), None)

    def likeliest(self, sentence: Sentence, classifier: Classifier, near: Collection[str]) -> tuple[str, float]:
        """The likeliest label that the entities allow, and its probability; near: the tasks of data sets that the
        sentence may as well be about."""
        probabilities = classifier.probabilities([sentence.marked()])[0]
        plausible = {kind: plausibility(kind, sentence) for kind in {self.kind(label) for label in probabilities}}
        allowed = {
            label: p * plausible[self.kind(label)] * self.nearness(label, sentence, near)
            for label, p in probabilities.items()
        }
        uses = [LIKE, HISTORY, *((self.next_task,) if self.next_task else ())]  # one request, its titles used in ways
        best_use = max(uses[:2] if sentence.mentions else uses, key=lambda label: allowed.get(label, 0.0))
        allowed[best_use] = sum(allowed.pop(label, 0.0) for label in uses)
        label = max(allowed, key=lambda name: allowed[name])
        certainty = allowed[label] / max(sum(allowed.values()), 1e-9)
        if label == HISTORY and (basket := self.offered(sentence.domain, "basket")):
            label = basket  # where things are bought together
        return label, certainty

    def nearness(self, label: str, sentence: Sentence, near: Collection[str]) -> float:
        """A factor on a task's probability: small if the data set that the sentence is about does not have it."""
        offered = sentence.domain.tasks
        if not offered or sentence.evidence <= 0 or label in offered:
            return 1.0
        if label not in self.tasks or label in self.texts:
            return 1.0
        return 0.1 if label in near else 0.01


def plausibility(kind: Kind | None, sentence: Sentence) -> float:
    """A factor on a request's probability: small if it lacks what it is asked about. None: no request at all."""
    count, has_text, has_user = len(sentence.mentions), sentence.quote is not None, sentence.user_id is not None
    if kind == "text":
        return 1.0 if has_text else 0.001 if has_user else 0.3
    if kind is None:
        return 0.3 if has_user else 1.0
    if has_text:
        return 0.1
    if sentence.conditions and kind not in ("next", *FOLLOW_UPS):
        return 0.3
    if kind == "rank":
        return 1.0 if count >= 2 else 0.02
    if kind == "explain" and sentence.k is not None:
        return 0.05
    if kind in ("explain", "event"):
        return of_item(sentence, count) * (1.0 if has_user else 0.5)
    if kind == "user_time":
        return (1.0 if has_user else 0.3) * (0.2 if count else 0.5 if has_strange_word(sentence) else 1.0)
    if kind == "basket":
        return 1.0 if count else 0.3
    return 1.0


def of_item(sentence: Sentence, count: int) -> float:
    """How well a sentence with so many items suits a request about one; a word that nothing explains may be one."""
    if count:
        return 1.0 if count == 1 else 0.4
    if has_strange_word(sentence):
        return 0.7
    return 0.3 if sentence.user_id is not None else 0.04


def has_strange_word(sentence: Sentence) -> bool:
    """Whether a word has no part in the sentence: it may be a title with a typo."""
    words = (w for n, w in enumerate(sentence.words) if sentence.is_free(n))
    return any(is_latin(w) and len(w.text) >= MIN_STRANGE and not sentence.explains(w.text) for w in words)
