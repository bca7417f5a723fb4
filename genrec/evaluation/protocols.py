"""What is held out, as rows to read, and what the model makes of it.

Every case sees only interactions of earlier parts. next_item: a user's first held-out event (or basket), ranked in the
whole catalogue. Event outcomes: each held-out event as a candidate after the visible history. Look-ahead tasks: asked
after the user's last visible event. Texts: each held-out text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

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
    select,
    shown_from,
)
from ..tasks.task import Task
from . import metrics
from .calibration import TEMPERATURES, item_losses

Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Ranked:
    """next_item on one data set: each case's user, targets and ranks under both protocols.

    Seen items removed, a target that was seen is a miss: its rank is the size of the catalogue. losses: summed over the
    cases with unseen targets, by temperature, and how many they are; None where they were not asked for.
    """

    users: list[str]
    targets: list[np.ndarray]
    seen_removed: list[np.ndarray]
    seen_kept: list[np.ndarray]
    losses: tuple[np.ndarray, int] | None


@dataclass(frozen=True)
class Outcomes:
    """Scores (n, answers), right answers (n,) and weights (n,) of one task on one data set."""

    scores: np.ndarray
    answer: np.ndarray
    weight: np.ndarray


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


def history_row(
    corpus: Corpus, events: Events, user: int, max_events: int, branches: list[Branch], read_last: bool
) -> Row:
    """A user's visible history; reads the last history token, then the last token of each branch."""
    lo, hi = last_window(events, user, max_events)
    row = assemble(corpus, events.users[user], lo, hi, branches, False, False, events)
    if not read_last:
        return row
    n_history = row.segment.count(0)
    return replace(
        row,
        target_from=[n_history - 1, *row.target_from],
        target_at=[n_history - 1, *row.target_at],
        target_task=[0, *row.target_task],
        target_id=[0, *row.target_id],
        target_weight=[1.0, *row.target_weight],
        target_allowed=[-1, *row.target_allowed],
    )


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
    """What a model makes of a part: next_item, the outcome tasks by name, and the ranks of baskets' missing items."""

    ranked: Ranked | None
    outcomes: Mapping[str, Outcomes]
    basket_ranks: np.ndarray | None


def read_part(
    engine: Engine,
    corpus: Corpus,
    part: Part,
    max_events: int,
    max_users: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    with_losses: bool = False,
) -> Reading:
    """Every task of a data set on a part, one forward pass per user; `max_users` users and texts are drawn by seed.

    progress: called with the rows read and the rows in all. with_losses: next_item's losses by temperature, too.
    """
    outcomes: dict[str, Outcomes] = {}
    for task in corpus.tasks:
        if task.unit == "text":
            rows = list(text_rows(corpus, task, part, task.seen[:1], seed, most=max_users))
            if rows:
                cases = [Case(task.name, r.target_id[-1], 1.0) for r in rows]
                outcomes |= outcomes_of(engine, corpus, engine.states(rows, progress), cases)
    if corpus.events is None:
        return Reading(None, outcomes, None)
    held = held_out(corpus.events, part)
    users = sampled(list(range(len(held.visible.users))), max_users, seed)
    rows, cases = user_rows(corpus, part, held, users, max_events, seed)
    if not rows:
        return Reading(None, outcomes, None)
    states = engine.states(rows, progress)
    outcomes |= outcomes_of(engine, corpus, states, cases)
    next_item = [n for n, c in enumerate(cases) if c.task == NEXT_ITEM]
    basket = [n for n, c in enumerate(cases) if c.given]
    ranked = None
    if next_item:
        asked = [cases[n].answer for n in next_item]
        ranked = ranked_of(engine, corpus, held, states[next_item], asked, with_losses)
    basket_ranks = None
    if basket:
        basket_ranks = given_ranks(engine, corpus, states[basket], [cases[n] for n in basket])
    return Reading(ranked, outcomes, basket_ranks)


def sampled(values: list[T], most: int | None, seed: int) -> list[T]:
    """At most `most` of the values, drawn by seed, in their order."""
    if most is None or len(values) <= most:
        return values
    chosen = np.random.default_rng([seed, 5]).choice(len(values), most, replace=False)
    return [values[n] for n in np.sort(chosen)]


@dataclass(frozen=True)
class Case:
    """One read of a row: task, right answer (for next_item the user), weight, and the items a basket question gives."""

    task: str
    answer: int
    weight: float
    given: tuple[int, ...] = ()


NEXT_ITEM = "next_item"


def user_rows(
    corpus: Corpus, part: Part, held: HeldOut, users: list[int], max_events: int, seed: int
) -> tuple[list[Row], list[Case]]:
    """One row per user with everything that is asked of the user, and the cases in the order of the reads."""
    assert corpus.events is not None
    rows: list[Row] = []
    cases: list[Case] = []
    ahead = any(t.horizon_days is not None for t in corpus.tasks)
    up_to = select(corpus.events, corpus.events.part <= PARTS.index(part)) if ahead else None
    sampler = ItemSampler(held.visible, corpus.items.size)
    for user in users:
        lo, hi = last_window(held.visible, user, max_events)
        branches: list[Branch] = []
        own: list[Case] = []
        for task in corpus.tasks:
            if task.unit == "basket":
                question = held_basket(corpus, task, held, user, hi - lo, seed)
                if question is not None:
                    given = tuple(t - corpus.items.first for t in question.tokens if t >= corpus.items.first)
                    branches.append(question)
                    own.append(Case(task.name, question.targets[0][1], 1.0, given))
            elif task.unit != "text" and task.answer.kind != "item":
                more, right, weight = user_cases(corpus, task, part, held, up_to, user, sampler, max_events, seed)
                branches += more
                own += [Case(task.name, a, w) for a, w in zip(right, weight, strict=True)]
        asks_next = any(t.name == NEXT_ITEM for t in corpus.tasks) and len(first_targets(held, user)) > 0
        if branches or asks_next:
            rows.append(history_row(corpus, held.visible, user, max_events, branches, asks_next))
            cases += [Case(NEXT_ITEM, user, 1.0)] * asks_next + own
    return rows, cases


def outcomes_of(engine: Engine, corpus: Corpus, states: States, cases: list[Case]) -> dict[str, Outcomes]:
    """Scores of the cases whose answers are choices or numbers, by task."""
    found = {}
    for task in corpus.tasks:
        own = [n for n, c in enumerate(cases) if c.task == task.name]
        if own and task.answer.kind != "item":
            scores = engine.outcome_scores(states[own], corpus.dataset.name, task.name).cpu().numpy()
            answer = np.asarray([cases[n].answer for n in own])
            found[task.name] = Outcomes(scores, answer, np.asarray([cases[n].weight for n in own]))
    return found


def ranked_of(
    engine: Engine, corpus: Corpus, held: HeldOut, states: States, users: list[int], with_losses: bool
) -> Ranked:
    """Ranks of each user's next item(s) in the whole catalogue."""
    targets, removed, kept = [], [], []
    losses, cases = np.zeros(len(TEMPERATURES)), 0
    for start in range(0, len(users), 256):
        scores = engine.item_scores(states[start : start + 256], corpus.dataset.name).cpu().numpy()
        for own, user in zip(scores, users[start : start + 256], strict=True):
            wanted = first_targets(held, user)
            seen = held.visible.item[held.visible.offsets[user] : held.visible.offsets[user + 1]]
            kept.append(metrics.target_ranks(own, wanted))
            own[seen[seen >= 0]] = -np.inf
            removed.append(metrics.target_ranks(own, wanted))
            targets.append(wanted)
            new = wanted[np.isfinite(own[wanted])]
            if with_losses and len(new):
                losses, cases = losses + item_losses(own, new), cases + 1
    names = [held.visible.users[u] for u in users]
    return Ranked(names, targets, removed, kept, (losses, cases) if with_losses else None)


def held_basket(corpus: Corpus, task: Task, held: HeldOut, user: int, sees: int, seed: int) -> Branch | None:
    """A question about one of the user's held-out baskets: some of its items are given, another is missing."""
    lo, hi = int(held.later.offsets[user]), int(held.later.offsets[user + 1])
    if lo == hi:
        return None
    rng = np.random.default_rng([seed, 8, user])
    question = basket_question(corpus, replace(task, seen=task.seen[:1]), Window(held.later, user, lo, hi), rng)
    return None if question is None else replace(question, sees=sees)


def given_ranks(engine: Engine, corpus: Corpus, states: States, cases: list[Case]) -> np.ndarray:
    """Ranks of the missing items, the given ones removed."""
    ranks = []
    for state, case in zip(states, cases, strict=True):
        scores = engine.item_scores(state[None], corpus.dataset.name)[0].cpu().numpy()
        scores[list(case.given)] = -np.inf
        ranks.append(int(metrics.target_ranks(scores, np.asarray([case.answer]))[0]))
    return np.asarray(ranks)


def next_item_metrics(ranked: Ranked) -> dict[str, float]:
    """Ranking metrics under both protocols; with several targets per case, HR is any hit and NDCG is over the set."""
    found: dict[str, float] = {"n": float(len(ranked.targets))}
    for protocol, ranks in (("seen_removed", ranked.seen_removed), ("seen_kept", ranked.seen_kept)):
        best = np.asarray([r.min() for r in ranks])
        values = metrics.ranking_metrics(best) if len(best) else {}
        if any(len(r) > 1 for r in ranks):
            values |= {f"ndcg@{k}": metrics.set_ndcg(ranks, k) for k in metrics.KS}
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
) -> tuple[list[Branch], list[int], list[float]]:
    """One user's held-out cases of a task, as branches after the visible history."""
    lo, hi = last_window(held.visible, user, max_events)
    sees = hi - lo
    if task.horizon_days is None:
        index = held.later.labels[task.name]
        places = [
            n
            for n in range(int(held.later.offsets[user]), int(held.later.offsets[user + 1]))
            if index[n] >= 0 and held.later.item[n] >= 0
        ]
        tokens = [[corpus.items.first + int(held.later.item[n])] for n in places]
        if not task.dense:
            tokens = [question_tokens(task.seen[0], {}, {"item": t}, corpus.encode) for t in tokens]
        branches = [Branch(t, sees, [(task.name, int(index[n]), 1.0, -1)]) for t, n in zip(tokens, places, strict=True)]
        return branches, [int(index[n]) for n in places], [1.0] * len(places)
    assert up_to is not None
    if hi == lo:
        return [], [], []
    until = cutoff(corpus, "test" if part == "valid" else "")
    now = int(held.visible.time[hi - 1])
    end = until if part == "valid" else int(up_to.time.max()) + 1
    asked = held.visible.where.get(task.name)
    if now == UNDATED or now + task.horizon_days * DAY > end or not (asked is None or asked[hi - 1]):
        return [], [], []
    place = int(up_to.offsets[user]) + int(held.visible.offsets[user + 1] - held.visible.offsets[user]) - 1
    if task.unit == "user_time":
        days = days_until_next(up_to, user, place, until, look_ahead_event(task))
        answer = int(look_ahead_answers(corpus, task, [days])[0])
        question = question_tokens(task.seen[0], {}, {}, corpus.encode)
        return [Branch(question, sees, [(task.name, answer, 1.0, -1)])], [answer], [1.0]
    rng = np.random.default_rng([seed, 7, user])
    found = candidate_items(corpus, task, up_to, user, place, until, sampler, rng, most=10)
    branches = [
        Branch([corpus.items.first + int(i)], sees, [(task.name, int(a), 1.0, -1)])
        for i, a in zip(found.items, found.answers, strict=True)
    ]
    return branches, [int(a) for a in found.answers], found.weight.tolist()
