"""A sentence to a Request: entities first (users, titles, conditions, counts, quoted texts), then which task.

Entities are replaced by marks, `will USER buy TITLE`, and the marked sentence is classified by the tasks' own examples.
Everything here knows catalogues, users and tasks; no model is needed.
"""

import copy
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl

from ..catalogue.titles import Match, TitleIndex, Word, key, words_of
from ..tasks.task import Task
from .classify import HISTORY, LIKE, NONE, Classifier
from .conditions import SHOWN, Attributes, Condition
from .language import Language, language, language_of

CERTAIN = 0.45  # a request less probable than this is not taken for understood
MOST = 1_000  # longest list that a number in a sentence asks for
LONGEST = 2_000  # characters of a sentence that are read
STRETCH = 40  # words without punctuation in which a title is looked for at a time
FOLLOW_UPS = ("more", "seen", "change")  # requests that need an answer before them
SAME = 93  # similarity of names that differ in no more than a plural
TITLE_WORDS = 5  # a longer quote is only a title if it is one to the letter
LISTED = ("next_item", "basket", "change")  # requests that can leave out titles
NEGATED = 4  # words that may stand between a negation and a title
NO_LIST = re.compile(r"[:;.!?：；。！？]|,\s*$")  # what ends the reach of a negation
LISTED_WITH = {"or", "and", "nor", "和", "或", "与", "跟"}
QUOTES = re.compile(
    r"“(?P<a>[^”]+)”|\"(?P<b>[^\"]+)\"|«(?P<c>[^»]+)»|「(?P<d>[^」]+)」|『(?P<e>[^』]+)』|"
    r"(?:(?<=[\s:(,])|^)['‘](?P<f>.+?)['’](?=$|[\s.,;:?!)])|`(?P<g>[^`]+)`|《(?P<h>[^》]+)》|‘(?P<i>[^’]+)’",
    re.DOTALL,
)
SPLIT = re.compile(r"[:?\n。!]+\s*|\s[-–—]+\s|—{2,}|\.\s+|,\s+")
USER_ID = re.compile(r"[#:=\s]*([^\W\u3040-\u30ff\u3400-\u9fff]+(?:[.@-][^\W\u3040-\u30ff\u3400-\u9fff]+)*)")
FOR = (
    "for",
    "to",
    "by",
    "of",
    "does",
    "will",
    "would",
    "is",
    "did",
    "has",
    "about",
    "给",
    "为",
    "对",
    "让",
    "帮",
    "替",
)
JOINED_ID = re.compile(r"(?:user|uid|userid|customer|household|member|client|id)(\d+)")
SPEAKS_OF_USER = ("will", "would", "and", "wants", "likes", "liked")
JOINTS = {
    "and",
    "or",
    "plus",
    "vs",
    "versus",
    "with",
    "和",
    "与",
    "跟",
    "还",
    "有",
    "以",
    "及",
    "或",
    "者",
    "then",
    "&",
    "also",
    "是",
}


@dataclass(frozen=True)
class Known:
    """One data set as a sentence may speak of it; items: item_id, title, attributes, train_count."""

    name: str
    tasks: tuple[str, ...]
    items: pl.DataFrame
    has_user: Callable[[str], bool]


class Said(NamedTuple):
    """A user named by words lo..hi; weight: how sure that makes one of the data set."""

    lo: int
    hi: int
    user: str
    weight: float


@dataclass(frozen=True)
class Mention:
    """An item that a sentence names; others: how many more items the name fits; how: `exact`, `part` or `typo`."""

    item_id: str
    title: str
    said: str
    how: str = "exact"
    others: int = 0


Mentions = tuple[tuple[int, Mention], ...]  # with the words where they begin


@dataclass(frozen=True)
class Request:
    """What a sentence asks.

    task: a task's name, `rank`, `explain`, in a conversation also `more`, `seen`, `change`; None where nothing was
    recognised. like: the items are what the wanted ones should resemble. without: items that a list should leave out.
    k: None where no number was said.
    missed: words that were not understood. language: of what is said about them.
    """

    task: str | None
    dataset: str | None = None
    user_id: str | None = None
    items: tuple[Mention, ...] = ()
    without: tuple[Mention, ...] = ()
    like: bool = False
    k: int | None = None
    conditions: tuple[Condition, ...] = ()
    text: str | None = None
    missed: tuple[str, ...] = ()
    certainty: float = 0.0
    language: str = "en"

    def to_json(self) -> dict[str, Any]:
        """The reading as JSON values."""
        return {
            "user_id": self.user_id,
            "items": [m.item_id for m in self.items],
            "without": [m.item_id for m in self.without],
            "k": self.k,
            "conditions": [c.to_json() for c in self.conditions],
            "text": self.text,
            "missed": list(self.missed),
        }


@dataclass
class Reading:
    """The entities of one sentence against one data set: `marks` has a mark or None for each word."""

    dataset: str
    words: list[Word]
    marks: list[str | None]
    user_id: str | None = None
    mentions: tuple[tuple[int, Mention], ...] = ()
    conditions: tuple[Condition, ...] = ()
    k: int | None = None
    quote: str | None = None
    evidence: float = 0.0

    def free(self) -> list[bool]:
        """Words without a mark."""
        return [m is None for m in self.marks]

    def set(self, lo: int, hi: int, mark: str) -> None:
        """Mark words lo..hi as one thing."""
        for n in range(lo, hi):
            self.marks[n] = mark if n == lo else ""

    def marked(self) -> list[str]:
        """The sentence for the classifier: words, and one mark per entity; titles in a row are TITLES."""
        found: list[str] = []
        pending: list[str] = []
        for word, mark in zip(self.words, self.marks, strict=True):
            if mark == "":
                continue
            if mark == "TITLE" and found and found[-1] in ("TITLE", "TITLES"):
                found[-1], pending = "TITLES", []
                continue
            if mark is None and word.text in JOINTS and found and found[-1] in ("TITLE", "TITLES"):
                pending.append(word.text)
                continue
            found += pending
            pending = []
            if mark == "CONDITION" and found and found[-1] == "CONDITION":
                continue
            found.append(mark or word.text)
        return found + pending


class Reader:
    """Reads sentences about the data sets of a run. speaks: the language of what is said of sentences that were not
    understood; None for that of each sentence."""

    def __init__(self, known: Sequence[Known], tasks: Mapping[str, Task], speaks: str | None = None) -> None:
        self.known = {k.name: k for k in known}
        self.tasks = tasks
        self.speaks = speaks
        self.language: Language = language()
        examples = {name: task.ask for name, task in tasks.items()}
        alone = {n: e for n, e in self.language.requests.items() if n not in FOLLOW_UPS}
        self.single = Classifier(examples | alone, self.language)
        self.following = Classifier(examples | dict(self.language.requests), self.language)
        self.titles = {k.name: TitleIndex.of(k.items) for k in known}
        self.attributes = {k.name: Attributes(k.items, self.language) for k in known}
        self.texts = {n for n, t in tasks.items() if t.unit == "text"}

    def seen_by(self, may_see: Callable[[str], bool]) -> "Reader":
        """The same reader for somebody who may not be told whether a user exists: others' ids are no users for it."""

        def known(own: Known) -> Known:
            return replace(own, has_user=lambda user: may_see(user) and own.has_user(user))

        found = copy.copy(self)
        found.known = {name: known(own) for name, own in self.known.items()}
        return found

    def renew(self, dataset: str, items: pl.DataFrame) -> None:
        """The catalogue of a data set has changed."""
        self.known[dataset] = replace(self.known[dataset], items=items)
        self.titles[dataset] = TitleIndex.of(items)
        self.attributes[dataset] = Attributes(items, self.language)

    # --- a sentence ---------------------------------------------------------------------------------------------------

    def spoken(self, text: str) -> str:
        """The language of what is said of a text that was not understood."""
        return self.speaks or language_of(text)

    def read(
        self, sentence: str, dataset: str | None = None, shown: Sequence[str] = (), follows: bool = False
    ) -> Request:
        """The request of a sentence.

        dataset: the one it is about, where that is settled. shown: item ids of the list before, which `the second one`
        names. follows: whether a request came before, so that `more` and `and for user 7?` can be meant.
        """
        text = re.sub(r"(?i)\btop(?=\d)", "top ", unicodedata.normalize("NFKC", sentence[:LONGEST]).strip())
        classifier = self.following if follows else self.single
        names = [dataset] if dataset else list(self.known)
        readings = {n: self.entities(text, n, shown) for n in names}
        best = max(names, key=lambda n: readings[n].evidence)
        decided = sum(readings[n].evidence == readings[best].evidence for n in names) == 1
        reading = readings[best]
        found: str | None
        near = {t for n in names if readings[n].evidence > reading.evidence - 1 for t in self.known[n].tasks}
        found, certainty = self.task_of(reading, classifier, near)
        offering = [n for n in names if found in self.known[n].tasks]
        if offering and best not in offering and found not in self.texts:  # what goes with `Bananas`, which is a film
            best = max(offering, key=lambda n: (bool(readings[n].mentions), readings[n].evidence))
            reading, decided = readings[best], len(offering) == 1
            found, certainty = self.task_of(reading, classifier, near)
        quote = reading.quote
        if quote is None and found in (*self.texts, NONE) and (split := self.unquoted(text, classifier)):
            found, certainty, quote = split
        is_text = found in self.texts
        like = found == LIKE
        if found in (LIKE, HISTORY):
            found = "next_item"
        if not is_text:
            quote = None
        needs_item = found not in (None, NONE, "churn") and not is_text
        several = found == "rank" or (found in self.tasks and self.tasks[found].unit == "basket")
        if needs_item and (several or not reading.mentions) and (found != "next_item" or like):
            self.lenient_titles(reading, best)
        if found == NONE or certainty < CERTAIN or not reading.words:
            found = None
        wanted, unwanted = self.parted(text, reading)
        if found == "rank" and unwanted and not wanted:
            found = "next_item"
        if found not in LISTED:
            wanted, unwanted = reading.mentions, ()
        request = Request(
            task=found,
            dataset=best if decided or dataset else None,
            user_id=reading.user_id,
            items=tuple(m for _, m in sorted(wanted, key=lambda p: p[0])),
            without=tuple(m for _, m in unwanted),
            like=like and bool(wanted or not unwanted),
            k=reading.k,
            conditions=tuple(c for c in reading.conditions if shown or c.value != SHOWN),
            text=quote,
            missed=() if is_text else self.missed(text, reading),
            certainty=certainty,
            language=self.spoken(text),
        )
        return replace(request, user_id=None, items=(), k=None, conditions=()) if is_text else request

    def parted(self, text: str, reading: "Reading") -> tuple[Mentions, Mentions]:
        """The titles that a sentence about a list wants, and those that a negation keeps out of it: `but not Fargo`,
        `without Fargo or Heat`."""
        wanted: list[tuple[int, Mention]] = []
        unwanted: list[tuple[int, Mention]] = []
        for place, named in reading.mentions:
            (unwanted if self.negated(text, reading, place) else wanted).append((place, named))
        return tuple(wanted), tuple(unwanted)

    def negated(self, text: str, reading: "Reading", place: int) -> bool:
        """Whether a negation stands just before a title, or before the titles that it is listed with."""
        words, marks = reading.words, reading.marks
        for end in range(place, max(place - NEGATED, 0), -1):
            if NO_LIST.search(text[words[end - 1].end : words[end].start]):
                return False
            size = self.language.negations.before(words, end)
            if self.language.negation_ends.before(words, end) > size:
                return False
            if size == 1 and end < place and not words[end - 1].text.isascii():
                continue  # `特别喜欢`: a sign of a longer word
            if size:
                return all(mark is None for mark in marks[end - size : end])
            if marks[end - 1] is not None:
                first = next((n for n in range(end - 1, -1, -1) if marks[n] != ""), 0)
                listed = marks[first] == "TITLE" and all(w.text in LISTED_WITH for w in words[end:place])
                return listed and self.negated(text, reading, first)
        return False

    def wish(self, text: str, dataset: str) -> Request:
        """What a wish for items names: titles that they should be like, conditions, words that were not understood."""
        text = unicodedata.normalize("NFKC", text).strip()
        reading = self.entities(text, dataset, ())
        wanted, unwanted = self.parted(text, reading)
        return Request(
            "next_item",
            dataset,
            items=tuple(m for _, m in wanted),
            without=tuple(m for _, m in unwanted),
            conditions=tuple(c for c in reading.conditions if c.value != SHOWN),
            missed=self.missed(text, reading),
        )

    def task_of(self, reading: "Reading", classifier: Classifier, near: set[str]) -> tuple[str, float]:
        """The likeliest request that the entities allow, and its probability; near: the tasks of data sets that the
        sentence may as well be about."""
        probabilities = classifier.probabilities([reading.marked()])[0]
        offered = self.known[reading.dataset].tasks
        allowed = {}
        for name, p in probabilities.items():
            elsewhere = reading.evidence > 0 and name in self.tasks and name not in offered and name not in self.texts
            foreign = (0.1 if name in near else 0.01) if elsewhere and offered else 1.0
            allowed[name] = p * self.plausible(name, reading) * foreign
        items = (LIKE, HISTORY) if reading.mentions else (LIKE, HISTORY, "next_item")
        main = max(items, key=lambda n: allowed.get(n, 0.0))  # one request with several ways to use its titles
        together = sum(allowed.pop(n, 0.0) for n in (LIKE, HISTORY, "next_item"))
        allowed[main] = together
        found = max(allowed, key=lambda n: allowed[n])
        certainty = allowed[found] / max(sum(allowed.values()), 1e-9)
        if found == HISTORY and "basket" in self.known[reading.dataset].tasks:
            found = "basket"  # where things are bought together
        return found, certainty

    def plausible(self, name: str, reading: Reading) -> float:
        """A factor on a request's probability: small where it lacks what it is asked about."""
        task = self.tasks.get(name)
        items, has_text = len(reading.mentions), reading.quote is not None
        if name in self.texts:
            return 1.0 if has_text else 0.3 if reading.user_id is None else 0.001
        if name == NONE:
            return 0.3 if reading.user_id is not None else 1.0
        if has_text:
            return 0.1
        if reading.conditions and name not in ("next_item", LIKE, HISTORY, *FOLLOW_UPS):
            return 0.3
        if name == "rank":
            return 1.0 if items >= 2 else 0.02
        if name == "explain" and reading.k is not None:
            return 0.05
        if name == "explain" or (task and task.unit == "event" and task.answer.kind != "item"):
            if items == 0 and reading.user_id is None and not self.strange(reading):
                return 0.02
            named = 1.0 if items == 1 else 0.4 if items > 1 else 0.7 if self.strange(reading) else 0.3
            return named * (1.0 if reading.user_id is not None else 0.5)
        if task and task.unit == "user_time":
            of_item = 0.2 if items else 0.5 if self.strange(reading) else 1.0
            return (1.0 if reading.user_id is not None else 0.3) * of_item
        if task and task.unit == "basket":
            return 1.0 if items else 0.3
        return 1.0

    def strange(self, reading: Reading) -> bool:
        """Whether a word has no known part in the sentence: it may be a title with a typo."""
        words = zip(reading.words, reading.marks, strict=True)
        common = self.common[reading.dataset]
        return any(m is None and w.text.isascii() and len(w.text) > 3 and w.text not in common for w, m in words)

    def unquoted(self, text: str, classifier: Classifier) -> tuple[str, float, str] | None:
        """A text task whose text stands without quotes before or after a colon, a question mark or a sentence's end."""
        forms: list[tuple[list[str], str, bool]] = []
        every = words_of(text)
        starts, ends = [w.start for w in every], [w.end for w in every]
        for match in SPLIT.finditer(text):
            before, after = text[: match.start()].strip(), text[match.end() :].strip()
            lo, hi = bisect_right(ends, match.start()), bisect_left(starts, match.end())
            for asked, words, quote, quoted, colon in (
                (before, every[:lo], after, len(every) - hi, match[0].startswith(":")),
                (after, every[hi:], before, lo, False),
            ):
                if 0 < len(words) <= (14 if asked.isascii() else 40) and quoted >= 2:
                    forms.append(([w.text for w in words], quote, colon))
        if not forms:
            return None
        found = []
        certain = classifier.probabilities([spelled for spelled, _, _ in forms])
        for (spelled, quote, colon), probabilities in zip(forms, certain, strict=True):
            known = sum(w in self.vocabulary for w in spelled) / len(spelled)
            for name in self.texts & probabilities.keys():
                if probabilities[name] > 0.4:  # a colon says best where the text is, then the words of what is asked
                    found.append((colon, probabilities[name] * known, probabilities[name], name, quote))
        if not found:
            return None
        *_, probability, name, quote = max(found)
        return name, probability, quote

    # --- entities -----------------------------------------------------------------------------------------------------

    def entities(self, text: str, dataset: str, shown: Sequence[str]) -> Reading:
        """What a sentence names, read against one data set."""
        words = words_of(text)
        reading = Reading(dataset, words, [None] * len(words))
        mentions: list[tuple[int, Mention]] = []
        self.find_quotes(reading, text, dataset, mentions)
        self.find_user(reading, text, dataset, bool(shown))
        conditions = self.find_conditions(reading, text, beside_column=True)
        self.find_ordinals(reading, text, shown, self.known[dataset].items, mentions)
        self.find_titles(reading, text, dataset, mentions)
        self.find_periods(reading)
        conditions += self.find_conditions(reading, text)
        reading.conditions = tuple(dict.fromkeys(conditions))
        self.find_count(reading, text)
        self.find_near_titles(reading, text, dataset, mentions)
        mentions.sort(key=lambda m: m[0])
        reading.mentions = tuple({m.item_id: (n, m) for n, m in reversed(mentions)}.values())[::-1]
        said = self.language.datasets.get(dataset)
        if said and any(said.at(words, n) for n in range(len(words))):
            reading.evidence += 1.5
        if key(dataset) in key(text):
            reading.evidence += 5
        return reading

    def find_conditions(self, reading: Reading, text: str, beside_column: bool = False) -> list[Condition]:
        """What a sentence says of the catalogue's attributes; beside_column: only values that follow their column's
        name, which are no titles (`genre=War`)."""
        found = self.attributes[reading.dataset].find(text, reading.words, reading.free(), beside_column)
        for condition in found:
            reading.set(condition.lo, condition.hi, "CONDITION")
            reading.evidence += 0.6 * (condition.hi - condition.lo)
        return [c for f in found for c in f.conditions]

    def find_quotes(self, reading: Reading, text: str, dataset: str, mentions: list[tuple[int, Mention]]) -> None:
        """What stands in quotes: a title where it is one, else the text that is asked about."""
        index = self.titles[dataset]
        for start, end, quote in quotes(text):
            inside = [n for n, w in enumerate(reading.words) if start <= w.start < end]
            if not inside:
                continue
            match = index.named(key(quote)) or (index.find(quote) if len(inside) <= TITLE_WORDS else None)
            if match:
                mentions.append((inside[0], mention(self.known[dataset].items, match, quote)))
                reading.set(inside[0], inside[-1] + 1, "TITLE")
                reading.evidence += 2
            else:
                reading.set(inside[0], inside[-1] + 1, "TEXT")
                reading.quote = quote if reading.quote is None else reading.quote

    def find_user(self, reading: Reading, text: str, dataset: str, after_list: bool) -> None:
        """`user 42`, `household #7`, `customer A-12`, `用户42`, `42号用户`; a bare `for 42` where 42 is a user, `42号`
        where no list came before whose items it may number. An id with a digit goes before a name."""
        has_user = self.known[dataset].has_user
        named = list(self.users_by_noun(text, reading.words, has_user))
        named.sort(key=lambda u: not (has_user(u.user) or any(c.isdigit() for c in u.user)))
        for said in (*named, *self.bare_users(reading, has_user, after_list)):
            reading.set(said.lo, said.hi, "USER")
            reading.user_id = said.user
            reading.evidence += said.weight + 0.5 * has_user(said.user)
            return

    def users_by_noun(self, text: str, words: Sequence[Word], has_user: Callable[[str], bool]) -> Iterator[Said]:
        """Ids after a word such as `user`, with or without a space, and before one in Chinese."""
        n = 0
        while n < len(words):
            hit = self.language.users.at(words, n)
            if hit is None:
                if joined := JOINED_ID.fullmatch(words[n].text):
                    yield Said(n, n + 1, joined[1], 1.0)
                n += 1
                continue
            at = n + hit[0]
            while at < len(words) and (filler := self.language.before_user.at(words, at)):
                at += filler[0]
            back = n
            while back > 0 and words[back - 1].text in ("号", "的", "编", "为"):
                back -= 1
            before = self.id_before(text, words, back) if not words[n].text.isascii() else None
            if before and back < n:
                yield Said(before[1], n + hit[0], before[0], 1.0)
            elif found := self.id_at(text, words, at, has_user):
                yield Said(n, found[1] + numbered(words, found[1]), found[0], 1.0)
            elif before:
                yield Said(before[1], n + hit[0], before[0], 1.0)
            n = at if at > n else n + 1

    def bare_users(self, reading: Reading, has_user: Callable[[str], bool], after_list: bool) -> Iterator[Said]:
        """`for 42`, `42号`, and `42 would like ...` where 42 is a user."""
        words = reading.words
        for n, (word, following) in enumerate(pairwise(words)):
            if word.text in FOR and following.text.isdecimal() and has_user(following.text):
                after = n + 2
                number = numbered(words, after)
                counted = after < len(words) and (
                    self.counted(words, after) or self.language.periods.at(words, after) is not None
                )
                if number or not counted:
                    yield Said(n + 1, after + number, following.text, 0.5)
            if following.text == "号" and word.text.isdecimal() and not after_list:
                yield Said(n, n + 2, word.text, 0.5)
        starts = len(words) > 1 and words[0].text.isdecimal() and has_user(words[0].text)
        if starts and words[1].text in SPEAKS_OF_USER and not self.counted(words, 1):
            yield Said(0, 1, words[0].text, 0.3)

    def id_at(
        self, text: str, words: Sequence[Word], place: int, has_user: Callable[[str], bool]
    ) -> tuple[str, int] | None:
        """An id that begins at a word, and the place after it."""
        if place >= len(words):
            return None
        between = text[words[place - 1].end : words[place].start] if place else ""
        if re.search(r"[,;.!?、。]", between) and words[place - 1].text not in ("no", "nr"):
            return None
        size, value = self.language.number(words, place)
        if value is not None and not words[place].text.isdecimal() and words[place].text not in ("one", "single"):
            return None if self.counted(words, place + size) else (str(value), place + size)
        matched = USER_ID.match(text, words[place].start)
        if matched is None:
            return None
        user = re.sub(r"'s$", "", matched[1])
        end = matched.end()
        after = next((n for n in range(place, len(words)) if words[n].start >= end), len(words))
        if any(c.isdigit() for c in user) and not re.fullmatch(r"\d+(?:st|nd|rd|th)", user):
            return user, after
        if has_user(user):
            return user, after
        unknown = words[place].text not in self.vocabulary and words[place].text.isascii()
        return (user, after) if unknown and len(user) > 1 else None

    def id_before(self, text: str, words: Sequence[Word], place: int) -> tuple[str, int] | None:
        """An id with digits that ends just before a word, and where it begins: `A42`, `三十六` or `第三十六`."""
        if place and words[place - 1].text.isascii():
            user = text[words[place - 1].start : words[place - 1].end]
            return (user, place - 1) if any(c.isdigit() for c in user) else None
        for lo in range(max(0, place - 7), place):
            size, value = self.language.number(words, lo)
            if value is not None and lo + size == place and not words[lo].text.isascii():
                return str(value), lo - (lo > 0 and words[lo - 1].text == "第")
        return None

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Words with a known part in a sentence."""
        return self.language.plain | self.following.vocabulary

    @cached_property
    def common(self) -> dict[str, frozenset[str]]:
        """By data set, the vocabulary and the words of its attributes' values."""
        return {name: self.vocabulary | own.value_words for name, own in self.attributes.items()}

    def counted(self, words: Sequence[Word], place: int) -> bool:
        """Whether a counted noun stands at a place, after at most two other words: `5 good films`."""
        return any(self.language.items.at(words, n) for n in range(place, min(place + 3, len(words))))

    def find_ordinals(
        self,
        reading: Reading,
        text: str,
        shown: Sequence[str],
        items: pl.DataFrame,
        mentions: list[tuple[int, Mention]],
    ) -> None:
        """`the second one`, `#3`, `1 and 3`, `the first three`, `第二个` name items of the list before."""
        if not shown:
            return
        words = reading.words
        titles = dict(zip(items["item_id"].to_list(), items["title"].to_list(), strict=True))
        speaks_of_known = any(self.language.known.at(words, n) for n in range(len(words)))
        n = 0
        while n < len(words):
            places, size = self.places_at(text, words, n, speaks_of_known) if reading.marks[n] is None else ([], 1)
            places = [p for p in places if abs(p) <= len(shown)]
            if places:
                end = n + size
                if end < len(words) and self.language.items.at(words, end):
                    end += 1
                for place in places:
                    item = shown[place - 1 if place > 0 else place]
                    mentions.append((n, Mention(item, titles.get(item) or item, f"number {place}")))
                lo = n - 1 if n and words[n - 1].text in ("the", "number", "no") and reading.marks[n - 1] is None else n
                reading.set(lo, end, "TITLE" if len(places) == 1 else "TITLES")
                n = end
            else:
                n += 1

    def places_at(self, text: str, words: Sequence[Word], n: int, speaks_of_known: bool) -> tuple[list[int], int]:
        """The places in a list (from 1; -1: the last) that begin to be named at a word, and in how many words."""
        few = self.language.first_few.at(words, n)
        if few and n + few[0] < len(words) and speaks_of_known:
            size, value = self.language.number(words, n + few[0])
            if value and value > 1:
                return list(range(1, min(value, MOST) + 1)), few[0] + size
        hit = self.language.ordinals.at(words, n)
        after = n + hit[0] if hit else n
        if hit and after < len(words) and (self.language.periods.at(words, after) or words[after].text == "night"):
            return [], 1  # `last week`
        if hit and not (words[n].text == "top" and (n + 1 == len(words) or words[n + 1].text != "one")):
            return [int(hit[1])], hit[0]
        if not words[n].text.isdecimal():
            return [], 1
        marked = text[: words[n].start].endswith(("#", "第")) or (
            n and words[n - 1].text in ("number", "no", "nr", "why")
        )
        numbered = n + 1 < len(words) and words[n + 1].text == "号"
        counted = n + 1 < len(words) and self.language.items.at(words, n + 1) is not None
        if marked or numbered or (speaks_of_known and not counted):
            return [int(words[n].text)], 1 + numbered
        return [], 1

    def find_titles(self, reading: Reading, text: str, dataset: str, mentions: list[tuple[int, Mention]]) -> None:
        """Titles written as they are, the longest first."""
        index, words = self.titles[dataset], reading.words
        n = 0
        while n < len(words):
            hit = None
            for size in range(min(index.longest, len(words) - n), 0, -1):
                if any(m is not None for m in reading.marks[n : n + size]):
                    continue
                match = index.named(" ".join(w.text for w in words[n : n + size]))
                if match and self.reads_as_title(text, words, n, size, dataset, match):
                    hit = size, match
                    break
            if hit is None:
                n += 1
                continue
            size, match = hit
            said = text[words[n].start : words[n + size - 1].end]
            mentions.append((n, mention(self.known[dataset].items, match, said)))
            reading.set(n, n + size, "TITLE")
            reading.evidence += size if match.how == "exact" else 0.5 * size
            n += size

    def reads_as_title(
        self, text: str, every: Sequence[Word], place: int, size: int, dataset: str, match: Match
    ) -> bool:
        """Whether words that equal a title are meant as one: common words must be written like a name."""
        words = every[place : place + size]
        spelled = [w.text for w in words]
        common = self.common[dataset]
        title = self.known[dataset].items["title"][match.items[0]] or ""
        written_small = len(words) <= 2 and all(text[w.start].islower() for w in words)
        if written_small and title[:1].isupper() and named_in_capitals(text, every):
            return False  # `my wife adores Emma` is not about The Wife
        if any(w not in common and not w.isdecimal() for w in spelled):
            return True
        if all(w.isdecimal() for w in spelled):
            return False
        if match.how == "exact" and (len(spelled) >= 4 or self.numbered(words)):
            return True
        if match.how == "exact" and len(spelled) == 3 and any(w not in self.language.plain for w in spelled):
            return True
        capital = [text[w.start].isupper() for w in words if len(w.text) > 3 or len(words) == 1]
        others = [w for w in (*every[:place], *every[place + size :]) if w.text.isalpha()]
        shouting = others and all(text[w.start : w.end].isupper() for w in others)
        inside = place > 0 or len(words) > 1 or not text.isascii()  # English writes the first word of any sentence so
        return bool(capital) and all(capital) and not shouting and inside

    def numbered(self, words: Sequence[Word]) -> bool:
        """A name with a number, `Red 4`, and not a count, `top 4`."""
        return words[-1].text.isdecimal() and not self.language.count_cues.before(words, len(words) - 1)

    def find_periods(self, reading: Reading) -> None:
        """`28 days`, `两周`: a stretch of time is no count."""
        words = reading.words
        for n in range(len(words) - 1):
            if reading.marks[n] is not None:
                continue
            size, value = self.language.number(words, n)
            if value is None or value >= 1000 or n + size >= len(words) or reading.marks[n + size] is not None:
                continue
            if n + size + 1 < len(words) and words[n + size + 1].text == "代":
                continue
            period = self.language.periods.at(words, n + size)
            if period:
                reading.set(n, n + size + period[0], "PERIOD")

    def find_count(self, reading: Reading, text: str) -> None:
        """How many items are wanted; `one` and Chinese numbers only where something counted follows."""
        words = reading.words
        found: list[tuple[bool, int, int, int]] = []  # said to be a count, minus its place, the place after it, value
        for n in range(len(words)):
            if reading.marks[n] is not None:
                continue
            size, value = self.language.number(words, n)
            if value is None or not 0 < value <= MOST:
                continue
            after = n + size
            follows = after < len(words) and (
                self.language.items.at(words, after) is not None or reading.marks[after] == "CONDITION"
            )
            cue = self.language.count_cues.before(words, n) > 0
            cue = cue or (after < len(words) and words[after].text in ENOUGH)
            chinese = not words[n].text.isascii()
            loose = words[n].text == "one" or (chinese and value == 1)
            previous = words[n - 1].text if n and not breaks(text, words, n) else ""
            if previous in ("下", "上", "第", "每", "这", "那", "同"):
                continue
            if loose and not (follows or (cue and previous in ("just", "only", "exactly", "前", "me"))):
                if not (words[n].text == "one" and self.counted(words, after) and previous not in PRONOUN_BEFORE):
                    continue
            if chinese and (not (follows or cue) or (value == 1 and after < len(words) and words[after].text in VAGUE)):
                continue
            strange = previous.isascii() and previous.isalpha() and previous not in self.common[reading.dataset]
            if strange and not (follows or cue) and reading.marks[n - 1] is None:  # `Terminater 2`
                continue
            if words[n].text == "one" and previous in PRONOUN_BEFORE:
                continue
            if after < len(words) and reading.marks[after] == "USER":  # `films 4 user 36`
                continue
            lo = n - 1 if previous == "a" and not words[n].text.isdecimal() else n
            of_them = [w.text for w in words[after : after + 2]] in (["of", "them"], ["of", "those"])
            found.append((follows or cue or of_them, -lo, after, value))
        if found:
            _, lo, after, reading.k = max(found)
            reading.set(-lo, after, "COUNT")

    def find_near_titles(self, reading: Reading, text: str, dataset: str, mentions: list[tuple[int, Mention]]) -> None:
        """Titles with a typo, or part of a title: stretches of words around one that nothing else explains."""
        index, words = self.titles[dataset], reading.words
        common = self.common[dataset]
        lo = 0
        while lo < len(words):
            if not self.may_be_title(reading, lo):
                lo += 1
                continue
            hi = lo + 1
            while hi < min(len(words), lo + STRETCH) and not breaks(text, words, hi) and self.may_be_title(reading, hi):
                hi += 1
            while self.may_be_title(reading, lo) and (found := self.best_window(index, text, reading, lo, hi, common)):
                start, end, match = found
                mentions.append(
                    (start, mention(self.known[dataset].items, match, text[words[start].start : words[end - 1].end]))
                )
                reading.set(start, end, "TITLE")
                reading.evidence += 0.5 * (end - start)
                lo = end
                if lo >= hi:
                    break
            lo = hi

    def may_be_title(self, reading: Reading, place: int) -> bool:
        """Whether a word is free and in letters that typos are looked for in."""
        return reading.marks[place] is None and reading.words[place].text.isascii()

    def best_window(
        self, index: TitleIndex, text: str, reading: Reading, lo: int, hi: int, common: frozenset[str]
    ) -> tuple[int, int, Match] | None:
        """The words inside lo..hi, an unexplained one among them, that a title fits best."""
        from ..turns import pause

        words = reading.words
        best: tuple[float, int, int, Match] | None = None
        for a in range(lo, hi):
            pause()  # each step compares words with all titles
            for b in range(min(hi, a + index.longest), a, -1):
                spelled = [w.text for w in words[a:b]]
                strange = [w for w in spelled if w not in common and not w.isdecimal() and len(w) >= 3]
                if not strange:
                    continue
                name = " ".join(spelled)
                if len(spelled) >= 2 and len(strange) >= len(spelled) / 3 and (match := index.containing(name)):
                    score = 100.0 + len(name)
                elif len(spelled) > 1 or (len(name) >= 5 and text[words[a].start].isupper() and a > 0):
                    near = index.near(name)
                    if near is None or not all(index.alike(w, near[1]) for w in strange):
                        continue
                    score, match = near[0] + (1.0 if near[0] >= SAME else 0.1) * len(name), near[1]
                else:
                    continue
                if best is None or score > best[0]:
                    best = score, a, b, match
        return best[1:] if best else None

    def lenient_titles(self, reading: Reading, dataset: str) -> None:
        """Where the request needs an item and none was found: a single word of a title will do."""
        index, words = self.titles[dataset], reading.words
        common = self.common[dataset]
        for n, word in enumerate(words):
            if reading.marks[n] is None and word.text not in common and len(word.text) >= 4:
                near = index.near(word.text)
                match = index.containing(word.text) or (near[1] if near else None)
                if match:
                    reading.mentions += ((n, mention(self.known[dataset].items, match, word.text)),)
                    reading.set(n, n + 1, "TITLE")

    def missed(self, text: str, reading: Reading) -> tuple[str, ...]:
        """Runs of words that have no known part in the sentence; of a Chinese one only words in Latin letters, since
        single signs say little."""
        chinese = language_of(text) == "zh"
        runs: list[tuple[int, int]] = []
        for n, word in enumerate(reading.words):
            told = word.text.isascii() or not chinese
            unknown = reading.marks[n] is None and told and not word.text.isdecimal()
            if unknown and word.text not in self.vocabulary:
                lo = runs.pop()[0] if runs and runs[-1][1] == n else n
                runs.append((lo, n + 1))
        return tuple(text[reading.words[lo].start : reading.words[hi - 1].end] for lo, hi in runs)


ENOUGH = ("就", "够", "足")  # `仨就够`
VAGUE = ("样", "点", "些", "下", "起", "直", "般", "定")  # 一样, 一些: no counts
PRONOUN_BEFORE = frozenset("second first third that this which good another last the next better right".split())


def numbered(words: Sequence[Word], place: int) -> int:
    """1 where `号` follows an id."""
    return int(place < len(words) and words[place].text == "号")


def breaks(text: str, words: Sequence[Word], place: int) -> bool:
    """Whether punctuation parts a word from the one before."""
    return bool(re.search(r"[,;:?!、，。；]|\.\s", text[words[place - 1].end : words[place].start]))


def named_in_capitals(text: str, words: Sequence[Word]) -> bool:
    """Whether a sentence writes names in capitals: one stands after its first word."""
    return any(text[w.start].isupper() and w.text not in ("i", "im", "ive", "id", "ill") for w in words[1:])


def mention(items: pl.DataFrame, match: Match, said: str) -> Mention:
    """The first item of a match."""
    item_id, title = items.row(match.items[0], named=True)["item_id"], items["title"][match.items[0]]
    return Mention(item_id, title or item_id, said.strip(), match.how, len(match.items) - 1)


def quotes(text: str) -> list[tuple[int, int, str]]:
    """What stands in quotes, with its place, in order."""
    found = [(m.start(), m.end(), next(g for g in m.groups() if g).strip()) for m in QUOTES.finditer(text)]
    return [f for f in found if f[2]]
