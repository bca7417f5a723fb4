"""What is held out, as rows to read, and what the model makes of it.

Every case sees only interactions of earlier parts. next_item: a user's first held-out event (or basket), ranked in the
whole catalogue. Event outcomes: each held-out event as a candidate after the visible history. Look-ahead tasks: asked
after the user's last visible event. Texts: each held-out text.

Phrasings: `served` is how `recommend` and `predict` read (the history's end, a candidate item, else the first
template), `seen` and `unseen` ask in words, by a template that training had or had not.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, TypeVar

import numpy as np
import polars as pl

from ..data.dataset import Part
from ..inference.engine import Engine, States
from ..tasks.questions import (
    ItemSampler,
    Window,
    basket_question,
    candidate_items,
    cutoff,
    days_until_next,
    look_ahead_answers,
    look_ahead_event,
    text_rows,
)
from ..tasks.rows import (
    DAY,
    PARTS,
    UNDATED,
    Branch,
    Corpus,
    Events,
    Row,
    assemble,
    question_tokens,
    read_at,
    select,
    shown_from,
)
from ..tasks.task import Task
from . import metrics
from .calibration import TEMPERATURES, Calibration, item_losses
from .features import asks_list, features_of

Progress = Callable[[int, int], None]
Phrasing = Literal["served", "seen", "unseen"]
LONGEST = 20  # items of a list that are kept
CASES = 256  # scored at a time
T = TypeVar("T")


@dataclass(frozen=True)
class Ranked:
    """next_item on one data set: each case's user, targets and ranks under both protocols.

    Seen items removed, a target that was seen is a miss: its rank is the size of the catalogue. lists: (cases,
    LONGEST) the best items, seen ones removed, -1 where there are fewer. histories: the items that each case saw, and
    states (cases, width): what the model made of them.
    """

    users: list[str]
    targets: list[np.ndarray]
    seen_removed: list[np.ndarray]
    seen_kept: list[np.ndarray]
    lists: np.ndarray
    histories: list[np.ndarray]
    states: States


@dataclass(frozen=True)
class Outcomes:
    """Scores (n, answers), right answers (n,) and weights (n,) of one task on one data set.

    about: whom each case is about, the user's id or that of a text without one. keys: which case it is, of those about
    the same; equal in every run on the same data. features: (n, features) of what is known besides, if anything.
    """

    scores: np.ndarray
    answer: np.ndarray
    weight: np.ndarray
    about: tuple[str, ...]
    keys: tuple[str, ...]
    features: np.ndarray | None = None

    def probabilities(self, calibration: Calibration) -> np.ndarray:
        """Calibrated probabilities (n, answers)."""
        return calibration.probabilities(self.scores, self.features)


@dataclass(frozen=True)
class HeldOut:
    """Rows that stop before a part, and what they are asked."""

    visible: Events
    later: Events


def held_out(events: Events, part: Part) -> HeldOut:
    """The events of earlier parts, and those of the part."""
    code = PARTS.index(part)
    return HeldOut(select(events, events.part < code), select(events, events.part == code))


def last_window(events: Events, user: int, max_events: int) -> tuple[int, int]:
    """The user's latest events, at most `max_events`, as the recommender shows them."""
    lo, hi = int(events.offsets[user]), int(events.offsets[user + 1])
    return lo + shown_from(hi - lo, max_events), hi


def history_row(corpus: Corpus, events: Events, user: int, max_events: int, branches: list[Branch], ends: int) -> Row:
    """A user's visible history; reads the last history token, `ends` times, then the last token of each branch."""
    lo, hi = last_window(events, user, max_events)
    row = assemble(corpus, events.users[user], lo, hi, branches, False, False, events)
    return read_at(row, [row.segment.count(0) - 1] * ends + row.target_at)


def first_targets(held: HeldOut, user: int) -> np.ndarray:
    """Items of the user's first held-out basket, or of the first held-out event; only what next_item asks for."""
    later = held.later
    lo, hi = int(later.offsets[user]), int(later.offsets[user + 1])
    wanted = np.arange(lo, hi)[later.target[lo:hi] & (later.item[lo:hi] >= 0)]
    if not len(wanted):
        return wanted
    basket = later.basket[wanted[0]]
    if basket >= 0:
        return np.unique(later.item[wanted[later.basket[wanted] == basket]])
    return later.item[wanted[:1]]


@dataclass(frozen=True)
class Reading:
    """What a model makes of a part: next_item, the outcome tasks by name, and the ranks of baskets' missing items with
    users and keys as in Outcomes. read: what the outcomes about users were made of."""

    ranked: Ranked | None
    outcomes: Mapping[str, Outcomes]
    basket_ranks: np.ndarray | None
    basket_users: tuple[str, ...] = ()
    basket_keys: tuple[str, ...] = ()
    baskets: "Baskets | None" = None
    read: "Read | None" = None


@dataclass(frozen=True)
class Read:
    """The states (cases, width) of a part's cases, in their order, and the histories that they follow."""

    states: States
    cases: "list[Case]"
    visible: Events


@dataclass(frozen=True)
class Baskets:
    """What was asked about baskets: states (cases, width), histories with the given items at their end, the given
    items, and the missing one (an array of one)."""

    states: States
    histories: list[np.ndarray]
    given: list[tuple[int, ...]]
    targets: list[np.ndarray]


def read_part(
    engine: Engine,
    corpus: Corpus,
    part: Part,
    max_events: int,
    max_users: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    phrasing: Phrasing = "served",
) -> Reading:
    """Every task of a data set on a part, one forward pass per user; `max_users` users and texts are drawn by seed.

    progress: called with the rows read and the rows in all.
    """
    outcomes: dict[str, Outcomes] = {}
    for task in corpus.tasks:
        if task.unit == "text":
            rows = list(text_rows(corpus, [task], part, [[template(task, phrasing)]], seed, most=max_users))
            if rows:
                names = [f"row {r.source[0]}" if r.source else f"text {n}" for n, r in enumerate(rows)]
                writers = writers_of(corpus, rows)
                cases = [
                    Case(task.name, r.target_id[-1], 1.0, writers.get(r.source[0] if r.source else -1, name), name)
                    for r, name in zip(rows, names, strict=True)
                ]
                states = engine.states(rows, progress)
                outcomes[task.name] = outcomes_of(engine, corpus, task, states, cases)
    if corpus.events is None:
        return Reading(None, outcomes, None)
    held = held_out(corpus.events, part)
    users = sampled(list(range(len(held.visible.users))), max_users, seed)
    rows, cases = user_rows(corpus, part, held, users, max_events, seed, phrasing)
    if not rows:
        return Reading(None, outcomes, None)
    states = engine.states(rows, progress)
    read = Read(states, cases, held.visible)
    outcomes |= user_outcomes(engine, corpus, read)
    next_item = [n for n, c in enumerate(cases) if c.task == NEXT_ITEM]
    basket = [n for n, c in enumerate(cases) if c.given]
    ranked = None
    if next_item:
        asked = [cases[n].answer for n in next_item]
        ranked = ranked_of(engine, corpus, held, states[next_item], asked)
    basket_ranks = baskets = None
    if basket:
        baskets = baskets_of(held.visible, states[basket], [cases[n] for n in basket])
        basket_ranks = given_ranks(engine, corpus, baskets)
    own, keys = tuple(cases[n].about for n in basket), tuple(cases[n].key for n in basket)
    return Reading(ranked, outcomes, basket_ranks, own, keys, baskets, read)


def writers_of(corpus: Corpus, rows: list[Row]) -> dict[int, str]:
    """Who wrote the texts of rows, by the row of the data, where it is known."""
    frame = corpus.dataset.interactions
    if not {"row", "user_id"} <= set(frame.columns):
        return {}
    wanted = [r.source[0] for r in rows if r.source]
    known = frame.select("row", "user_id").drop_nulls().filter(pl.col("row").is_in(wanted))
    return dict(known.iter_rows())


def template(task: Task, phrasing: Phrasing) -> str:
    """The words a task is asked in."""
    return task.unseen[0] if phrasing == "unseen" else task.seen[0]


def sampled(values: list[T], most: int | None, seed: int) -> list[T]:
    """At most `most` of the values, drawn by seed, in their order."""
    if most is None or len(values) <= most:
        return values
    chosen = np.random.default_rng([seed, 5]).choice(len(values), most, replace=False)
    return [values[n] for n in np.sort(chosen)]


@dataclass(frozen=True)
class Case:
    """One read of a row: task, right answer (for next_item the user), weight, whom it is about, which case of theirs it
    is, which item it is about, the items a basket question gives, and the user's place among the visible histories."""

    task: str
    answer: int
    weight: float
    about: str = ""
    key: str = ""
    item: int = -1
    given: tuple[int, ...] = ()
    user: int = -1


NEXT_ITEM = "next_item"
END = "end"  # of a history, where it is read for the tasks that are weighed with the user's list


def user_rows(
    corpus: Corpus,
    part: Part,
    held: HeldOut,
    users: list[int],
    max_events: int,
    seed: int,
    phrasing: Phrasing = "served",
) -> tuple[list[Row], list[Case]]:
    """One row per user with everything that is asked of the user, and the cases in the order of the reads."""
    assert corpus.events is not None
    rows: list[Row] = []
    cases: list[Case] = []
    ahead = any(t.horizon_days is not None for t in corpus.tasks)
    up_to = select(corpus.events, corpus.events.part <= PARTS.index(part)) if ahead else None
    sampler = ItemSampler(held.visible, corpus.items.size)
    weighed = {t.name for t in corpus.tasks if asks_list(t)}
    for user in users:
        lo, hi = last_window(held.visible, user, max_events)
        name = held.visible.users[user]
        branches: list[Branch] = []
        own: list[Case] = []
        next_item = next((t for t in corpus.tasks if t.name == NEXT_ITEM), None)
        asks_next = next_item is not None and len(first_targets(held, user)) > 0
        if next_item is not None and asks_next and phrasing != "served":
            words = question_tokens(template(next_item, phrasing), {}, {}, corpus.encode)
            branches.append(Branch(words, hi - lo, [(NEXT_ITEM, 0, 1.0, -1)]))
        for task in corpus.tasks:
            if task.unit == "basket":
                question = held_basket(corpus, task, held, user, hi - lo, seed, phrasing)
                if question is not None:
                    given = tuple(t - corpus.items.first for t in question.tokens if t >= corpus.items.first)
                    branches.append(question)
                    ids = corpus.dataset.items["item_id"]
                    key = f"items {', '.join(ids[n] for n in given)} and {ids[question.targets[0][1]]}"
                    own.append(Case(task.name, question.targets[0][1], 1.0, name, key, given=given, user=user))
            elif task.unit != "text" and task.answer.kind != "item":
                more, found = user_cases(corpus, task, part, held, up_to, user, sampler, max_events, seed, phrasing)
                branches += more
                own += found
        if branches or asks_next:
            first = [Case(END, user, 1.0, name, END, user=user)] * any(c.task in weighed for c in own)
            ends = len(first) + (asks_next and phrasing == "served")
            rows.append(history_row(corpus, held.visible, user, max_events, branches, ends))
            cases += first + [Case(NEXT_ITEM, user, 1.0, name, "next")] * asks_next + own
    return rows, cases


def outcomes_of(
    engine: Engine, corpus: Corpus, task: Task, states: States, cases: list[Case], features: np.ndarray | None = None
) -> Outcomes:
    """Scores of the cases of a task whose answers are choices or numbers."""
    scores = engine.outcome_scores(states, corpus.dataset.name, task.name).cpu().numpy()
    answer, weight = np.asarray([c.answer for c in cases]), np.asarray([c.weight for c in cases])
    return Outcomes(scores, answer, weight, tuple(c.about for c in cases), tuple(c.key for c in cases), features)


def user_outcomes(engine: Engine, corpus: Corpus, read: Read) -> dict[str, Outcomes]:
    """Scores of the cases about users whose answers are choices or numbers, by task, and their features; the cases of
    a user are together."""
    found = {}
    end = {c.user: n for n, c in enumerate(read.cases) if c.task == END}
    for task in corpus.tasks:
        places = [n for n, c in enumerate(read.cases) if c.task == task.name]
        if not places or task.unit == "text" or task.answer.kind == "item":
            continue
        cases = [read.cases[n] for n in places]
        asked = [(user, [c.item for c in own]) for user, own in groupby(cases, key=lambda c: c.user)]
        ends = read.states[[end[user] for user, _ in asked]] if asks_list(task) else None
        features = features_of(engine, corpus, read.visible, task, asked, ends)
        found[task.name] = outcomes_of(engine, corpus, task, read.states[places], cases, features)
    return found


def ranked_of(engine: Engine, corpus: Corpus, held: HeldOut, states: States, users: list[int]) -> Ranked:
    """Ranks of each user's next item(s) in the whole catalogue."""
    visible = held.visible
    histories = [visible.item[visible.offsets[u] : visible.offsets[u + 1]] for u in users]
    names = [visible.users[u] for u in users]
    return ranked_states(engine, corpus.dataset.name, names, [first_targets(held, u) for u in users], histories, states)


def scored_again(engine: Engine, corpus: Corpus, reading: Reading) -> Reading:
    """A reading by the engine's scores as they are now, from the states that were read."""
    ranked, baskets = reading.ranked, reading.baskets
    if ranked is not None:
        own = (ranked.users, ranked.targets, ranked.histories, ranked.states)
        ranked = ranked_states(engine, corpus.dataset.name, *own)
    basket_ranks = None if baskets is None else given_ranks(engine, corpus, baskets)
    return replace(weighed_again(engine, corpus, reading), ranked=ranked, basket_ranks=basket_ranks)


def weighed_again(engine: Engine, corpus: Corpus, reading: Reading) -> Reading:
    """A reading whose outcomes have the features that the engine's lists give them now."""
    if reading.read is None:
        return reading
    return replace(reading, outcomes={**reading.outcomes, **user_outcomes(engine, corpus, reading.read)})


def ranked_states(
    engine: Engine,
    dataset: str,
    names: list[str],
    targets: list[np.ndarray],
    histories: list[np.ndarray],
    states: States,
) -> Ranked:
    """Ranks of each case's targets in the whole catalogue."""
    removed, kept, lists = [], [], []
    for own, wanted, seen in scored(engine, dataset, states, targets, histories):
        kept.append(metrics.target_ranks(own, wanted))
        own[seen] = -np.inf
        removed.append(metrics.target_ranks(own, wanted))
        lists.append(best_items(own, LONGEST))
    return Ranked(names, targets, removed, kept, np.stack(lists), histories, states)


def scored(
    engine: Engine, dataset: str, states: States, targets: list[np.ndarray], histories: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Scores (items,), targets and seen items of each case."""
    for start in range(0, len(targets), CASES):
        part = slice(start, start + CASES)
        scores = engine.item_scores(states[part], dataset, histories[part]).cpu().numpy()
        for own, wanted, history in zip(scores, targets[part], histories[part], strict=True):
            yield own, wanted, history[history >= 0]


def next_item_losses(engine: Engine, dataset: str, ranked: Ranked) -> tuple[np.ndarray, int]:
    """Losses of unseen targets by temperature, seen items removed, summed over the cases that have any, and how many
    they are."""
    losses, cases = np.zeros(len(TEMPERATURES)), 0
    for own, wanted, seen in scored(engine, dataset, ranked.states, ranked.targets, ranked.histories):
        own[seen] = -np.inf
        new = wanted[np.isfinite(own[wanted])]
        if len(new):
            losses, cases = losses + item_losses(own, new), cases + 1
    return losses, cases


def best_items(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best of (items,) scores, best first, -1 where fewer are finite."""
    among = np.argpartition(-scores, k)[:k] if len(scores) > k else np.arange(len(scores))
    best = among[np.argsort(-scores[among], kind="stable")]
    best = np.where(np.isfinite(scores[best]), best, -1)
    return np.pad(best, (0, k - len(best)), constant_values=-1).astype(np.int32)


def held_basket(
    corpus: Corpus, task: Task, held: HeldOut, user: int, sees: int, seed: int, phrasing: Phrasing
) -> Branch | None:
    """A question about one of the user's held-out baskets: some of its items are given, another is missing."""
    lo, hi = int(held.later.offsets[user]), int(held.later.offsets[user + 1])
    if lo == hi:
        return None
    rng = np.random.default_rng([seed, 8, user])
    asked = replace(task, seen=(template(task, phrasing),))
    question = basket_question(corpus, asked, Window(held.later, user, lo, hi), rng)
    return None if question is None else replace(question, sees=sees)


def baskets_of(visible: Events, states: States, cases: list[Case]) -> Baskets:
    """The cases that give some items of a basket."""
    given = [case.given for case in cases]
    before = [visible.item[visible.offsets[c.user] : visible.offsets[c.user + 1]] for c in cases]
    histories = [np.concatenate([b, np.asarray(g, dtype=b.dtype)]) for b, g in zip(before, given, strict=True)]
    return Baskets(states, histories, given, [np.asarray([case.answer]) for case in cases])


def given_ranks(engine: Engine, corpus: Corpus, baskets: Baskets) -> np.ndarray:
    """Ranks of the missing items, the given ones removed."""
    ranks = []
    for start in range(0, len(baskets.given), CASES):
        part = slice(start, start + CASES)
        scores = engine.item_scores(baskets.states[part], corpus.dataset.name, baskets.histories[part], "basket")
        for own, given, target in zip(scores.cpu().numpy(), baskets.given[part], baskets.targets[part], strict=True):
            own[list(given)] = -np.inf
            ranks.append(int(metrics.target_ranks(own, target)[0]))
    return np.asarray(ranks)


def next_item_metrics(ranked: Ranked) -> dict[str, float]:
    """Ranking metrics under both protocols; with several targets per case, HR is any hit and NDCG is over the set."""
    found: dict[str, float] = {"n": float(len(ranked.targets))}
    for protocol, ranks in (("seen_removed", ranked.seen_removed), ("seen_kept", ranked.seen_kept)):
        values = metrics.ranking_metrics(ranks) if ranks else {}
        found |= {f"{protocol}/{name}": value for name, value in values.items()}
    return found


def user_cases(
    corpus: Corpus,
    task: Task,
    part: Part,
    held: HeldOut,
    up_to: Events | None,
    user: int,
    sampler: ItemSampler,
    max_events: int,
    seed: int,
    phrasing: Phrasing,
) -> tuple[list[Branch], list[Case]]:
    """One user's held-out cases of a task, as branches after the visible history."""
    lo, hi = last_window(held.visible, user, max_events)
    sees, name = hi - lo, held.visible.users[user]
    words = template(task, phrasing)

    def tokens_of(item: int) -> list[int]:
        token = corpus.items.first + item
        if phrasing == "served" and (task.dense or task.horizon_days is not None):
            return [token]
        return question_tokens(words, {}, {"item": [token]}, corpus.encode)

    if task.horizon_days is None:
        index = held.later.labels[task.name]
        places = [
            n
            for n in range(int(held.later.offsets[user]), int(held.later.offsets[user + 1]))
            if index[n] >= 0 and held.later.item[n] >= 0
        ]
        cases = [
            Case(task.name, int(index[n]), 1.0, name, f"row {held.later.source[n]}", int(held.later.item[n]), user=user)
            for n in places
        ]
        return [Branch(tokens_of(c.item), sees, [(task.name, c.answer, 1.0, -1)]) for c in cases], cases
    assert up_to is not None
    if hi == lo:
        return [], []
    until = cutoff(corpus, "test" if part == "valid" else "")
    now = int(held.visible.time[hi - 1])
    end = until if part == "valid" else int(up_to.time.max()) + 1
    asked = held.visible.where.get(task.name)
    begins = dict(corpus.dataset.cutoffs).get(part, UNDATED)
    ahead = now + task.horizon_days * DAY
    known = ahead <= begins  # all that is asked about happened before the part, where histories end
    if now == UNDATED or known or ahead > end or not (asked is None or asked[hi - 1]):
        return [], []
    place = int(up_to.offsets[user]) + int(held.visible.offsets[user + 1] - held.visible.offsets[user]) - 1
    if task.unit == "user_time":
        days = days_until_next(up_to, user, place, until, look_ahead_event(task))
        answer = int(look_ahead_answers(corpus, task, [days])[0])
        question = Branch(question_tokens(words, {}, {}, corpus.encode), sees, [(task.name, answer, 1.0, -1)])
        return [question], [Case(task.name, answer, 1.0, name, "next", user=user)]
    rng = np.random.default_rng([seed, 7, user])
    found = candidate_items(corpus, task, up_to, user, place, until, sampler, rng, most=10)
    every = zip(found.items.tolist(), found.answers.tolist(), found.weight.tolist(), strict=True)
    ids = corpus.dataset.items["item_id"]
    cases = [
        Case(task.name, answer, weight, name, f"item {ids[item]}", item, user=user) for item, answer, weight in every
    ]
    return [Branch(tokens_of(c.item), sees, [(task.name, c.answer, 1.0, -1)]) for c in cases], cases
