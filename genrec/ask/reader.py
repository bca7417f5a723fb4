"""A sentence to a Request, by rules: passes mark what it names, then the marked sentence is classified.

`will user 7 buy Fargo` is `will USER buy TITLE` for the classifier. Everything here knows catalogues, users and tasks;
no model is needed.
"""

import copy
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import polars as pl

from ..catalogue.titles import key
from ..tasks.task import Task
from .attributes import SHOWN
from .conditions import find_column_values, find_conditions
from .counts import find_count, find_periods
from .examples import request_examples, task_examples
from .intent import LIKE, Classifier, Tasks
from .language import is_latin, language, language_of
from .places import find_places
from .request import FOLLOW_UPS, MAX_CHARACTERS, Mention, Request
from .sentence import Domain, Mentions, Sentence
from .texts import find_quotes, unquoted_text
from .titles import find_lenient_titles, find_near_titles, find_titles, part_titles
from .users import find_user

CERTAIN = 0.45  # a request less probable than this is not taken for understood
PASSES: tuple[Callable[[Sentence], None], ...] = (
    find_quotes,
    find_user,
    find_column_values,
    find_places,
    find_titles,
    find_periods,
    find_conditions,
    find_count,
    find_near_titles,
)


class Reader:
    """Reads sentences about the data sets of a run. speaks: the language of remarks about sentences that were not
    understood; None for that of each sentence."""

    def __init__(self, domains: Sequence[Domain], tasks: Mapping[str, Task], speaks: str | None = None) -> None:
        self.domains = {domain.name: domain for domain in domains}
        self.tasks = tasks
        self.speaks = speaks
        self.may_see: Callable[[str], bool] = lambda _: True
        self.requests = Tasks(tasks)
        self.examples = {name: task_examples(task) for name, task in tasks.items()}
        others = request_examples()
        single = {name: examples for name, examples in others.items() if name not in FOLLOW_UPS}
        self.single = Classifier(self.examples | single, self.requests.next_task)
        self.following = Classifier(self.examples | others, self.requests.next_task)

    def seen_by(self, may_see: Callable[[str], bool]) -> "Reader":
        """The same reader for somebody who may not be told whether a user exists: others' ids are no users for it."""
        reader = copy.copy(self)
        reader.may_see = may_see
        return reader

    def renew(self, dataset: str, items: pl.DataFrame) -> None:
        """The catalogue of a data set has changed."""
        self.domains[dataset] = self.domains[dataset].with_items(items)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Words with a part in sentences."""
        return language().vocabulary | self.following.vocabulary

    def spoken(self, text: str) -> str:
        """The language of remarks about a text that was not understood."""
        return self.speaks or language_of(text)

    def read(
        self, text: str, dataset: str | None = None, last_items: Sequence[str] = (), follows: bool = False
    ) -> Request:
        """The request of a sentence.

        dataset: the one it is about, if that is settled. last_items: the list before, whose items `the second one`
        and the like name. follows: whether a request came before, so that `more` and `and for user 7?` can be meant.
        """
        text = normalized(text[:MAX_CHARACTERS])
        classifier = self.following if follows else self.single
        sentences = {name: self.entities(text, name, last_items) for name in ([dataset] if dataset else self.domains)}
        best = max(sentences, key=lambda n: sentences[n].evidence)
        evidence = sentences[best].evidence
        decided = sum(s.evidence == evidence for s in sentences.values()) == 1
        near = {t for s in sentences.values() if s.evidence > evidence - 1 for t in s.domain.tasks}
        label, certainty = self.requests.likeliest(sentences[best], classifier, near)
        offering = [name for name, s in sentences.items() if label in s.domain.tasks]
        if offering and best not in offering and label not in self.requests.texts:  # `Bananas`, which is a film
            best = max(offering, key=lambda n: (bool(sentences[n].mentions), sentences[n].evidence))
            decided = len(offering) == 1
            label, certainty = self.requests.likeliest(sentences[best], classifier, near)
        sentence, quote = sentences[best], sentences[best].quote
        if quote is None and self.requests.kind(label) in ("text", None):
            if split := unquoted_text(text, classifier, self.vocabulary, self.requests.texts):
                label, certainty, quote = split
        spoken = self.spoken(text)
        name = self.requests.name(label)
        sure = name is not None and certainty >= CERTAIN and bool(sentence.words)
        request = Request(name if sure else None, best if decided or dataset else None, language=spoken)
        request = replace(request, certainty=certainty, kind=self.requests.kind(label) if sure else None)
        if self.requests.kind(label) == "text":
            return replace(request, text=quote)
        self.fill_in(sentence, label)
        return self.with_entities(request, sentence, label, bool(last_items))

    def fill_in(self, sentence: Sentence, label: str) -> None:
        """Titles by single words, for a request about items that names too few."""
        kind = self.requests.kind(label)
        several = kind in ("rank", "basket")
        of_items = kind not in (None, "user_time", "text") and (kind != "next" or label == LIKE)
        if of_items and (several or not sentence.mentions):
            find_lenient_titles(sentence)

    def with_entities(self, request: Request, sentence: Sentence, label: str, follows_list: bool) -> Request:
        """A request with what its sentence names."""
        wanted, unwanted = part_titles(sentence)
        if request.kind == "rank" and unwanted and not wanted and self.requests.next_task:
            request = replace(request, task=self.requests.next_task, kind="next")
        if request.kind not in ("next", "basket", "change"):
            wanted, unwanted = sentence.mentions, ()
        return replace(
            request,
            user_id=sentence.user_id,
            items=items_of(wanted),
            without=items_of(unwanted),
            like=label == LIKE and bool(wanted or not unwanted),
            k=sentence.k,
            conditions=tuple(c for c in sentence.conditions if follows_list or c.value != SHOWN),
            missed=missed(sentence),
        )

    def wish(self, text: str, dataset: str) -> Request:
        """The request of a wish for items: titles that they should be like, conditions, what was not understood."""
        sentence = self.entities(unicodedata.normalize("NFKC", text).strip(), dataset, ())
        request = Request(self.requests.next_task, dataset, kind="next")
        request = self.with_entities(request, sentence, "", follows_list=False)
        return replace(request, user_id=None, k=None)

    def entities(self, text: str, dataset: str, last_items: Sequence[str]) -> Sentence:
        """A sentence read against one data set: all passes, and the evidence of its nouns and name."""
        domain, may_see = self.domains[dataset], self.may_see
        sentence = Sentence(
            text, domain, self.vocabulary, last_items, lambda user: may_see(user) and domain.has_user(user)
        )
        for find in PASSES:
            find(sentence)
        nouns = language().datasets.get(dataset)
        if nouns and any(nouns.at(sentence.words, n) for n in range(len(sentence.words))):
            sentence.evidence += 1.5
        if key(dataset) in key(text):
            sentence.evidence += 5
        return sentence


def normalized(text: str) -> str:
    """A sentence in one form of each letter, and with a space in `top5`."""
    text = unicodedata.normalize("NFKC", text).strip()
    joined = "|".join(map(re.escape, sorted(language().joined_count)))
    return re.sub(rf"(?i)\b({joined})(?=\d)", r"\1 ", text) if joined else text


def items_of(mentions: Mentions) -> tuple[Mention, ...]:
    """The items of mentions."""
    return tuple(m for _, m in mentions)


def missed(sentence: Sentence) -> tuple[str, ...]:
    """Runs of words that have no part in the sentence; of one in signs only words in Latin letters, since single signs
    say little."""
    in_signs = language_of(sentence.text) in language().scripts
    runs: list[tuple[int, int]] = []
    for n, word in enumerate(sentence.words):
        explained = word.text in sentence.vocabulary or word.text.isdecimal() or (in_signs and not is_latin(word))
        if sentence.is_free(n) and not explained:
            lo = runs.pop()[0] if runs and runs[-1][1] == n else n
            runs.append((lo, n + 1))
    return tuple(sentence.text_of(lo, hi) for lo, hi in runs)
