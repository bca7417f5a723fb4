"""Ranks, scores and features of every held-out case of a part, by the model of a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from ..data.dataset import Part as SplitPart
from ..evaluation import metrics
from ..progress import Stage
from ..rows.arrays import Events
from ..rows.corpus import Corpus
from ..rows.texts import answered_texts, rows_of_texts
from ..scoring.calibration import TEMPERATURES, Calibration, item_losses
from ..scoring.engine import States
from ..scoring.features import asks_list, features_of
from ..scoring.scorer import PARTS, Part, Scorer
from ..tasks.task import Task
from .cases import Answered
from .held_out import (
    END,
    NEXT_ITEM,
    Case,
    HeldOut,
    Phrasing,
    first_targets,
    held_out,
    in_turn,
    template,
    user_rows,
    writers_of,
)

LONGEST = 20  # items of a list
CASES = 256  # scored at a time


@dataclass(frozen=True)
class Ranked:
    """next_item on one data set: each case's user, targets and ranks under both protocols.

    Seen items removed, a target that was seen is a miss: its rank is the size of the catalogue. lists: (cases,
    LONGEST) the best items, seen ones removed, -1 if there are fewer. seen: the items before each case. histories:
    those that the user wanted, -1 for others. states (cases, width): the hidden states after them.
    """

    users: list[str]
    targets: list[np.ndarray]
    seen_removed: list[np.ndarray]
    seen_kept: list[np.ndarray]
    lists: np.ndarray
    seen: list[np.ndarray]
    histories: list[np.ndarray]
    states: States

    @property
    def cases(self) -> tuple[list[str], list[np.ndarray], list[np.ndarray], list[np.ndarray], States]:
        """What its ranks are made of, as `ranked_states` takes it."""
        return self.users, self.targets, self.seen, self.histories, self.states


@dataclass(frozen=True)
class Outcomes:
    """Scores (n, answers), right answers (n,) and weights (n,) of one task on one data set.

    about: whom each case is about, the user's id or that of a text without one. keys: which case it is, of those about
    the same; equal in every run on the same data. features: (n, features) of counts, if the task has any. truth: (n,)
    the right numbers themselves, if the answers are numbers.
    """

    scores: np.ndarray
    answer: np.ndarray
    weight: np.ndarray
    about: tuple[str, ...]
    keys: tuple[str, ...]
    features: np.ndarray | None = None
    truth: np.ndarray | None = None

    def probabilities(self, calibration: Calibration) -> np.ndarray:
        """Calibrated probabilities (n, answers)."""
        return calibration.probabilities(self.scores, self.features)

    def answered(self, calibration: Calibration) -> Answered:
        """The cases with calibrated probabilities."""
        return Answered(self.probabilities(calibration), self.answer, self.weight, self.truth)


@dataclass(frozen=True)
class Reading:
    """A model's answers to the cases of a part: next_item, the outcome tasks by name, and the ranks of baskets' missing
    items with users and keys as in Outcomes. read: the states that the outcomes about users were scored from."""

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
    """Cases about baskets: states (cases, width), histories with the given items at their end, the given
    items, and the missing one (an array of one)."""

    states: States
    histories: list[np.ndarray]
    given: list[tuple[int, ...]]
    targets: list[np.ndarray]


def read_part(
    scorer: Scorer,
    corpus: Corpus,
    part: SplitPart,
    max_events: int,
    max_users: int | None = None,
    seed: int = 0,
    progress: Stage | None = None,
    phrasing: Phrasing = "served",
) -> Reading:
    """Every task of a data set on a part, one forward pass per user; of the users and texts that have cases,
    `max_users` are drawn by seed.

    progress: called with the rows read and the rows in all.
    """
    outcomes: dict[str, Outcomes] = {}
    for task in corpus.tasks:
        if task.unit == "text":
            templates = [[template(task, phrasing)]]
            texts = answered_texts(corpus, [task], part, templates, seed, most=max_users)
            rows = list(rows_of_texts(corpus, [task], texts, templates, seed))
            if rows:
                names = [f"row {r.source[0]}" if r.source else f"text {n}" for n, r in enumerate(rows)]
                writers = writers_of(corpus, rows)
                cases = [
                    Case(
                        *(task.name, r.target_id[-1], 1.0, writers.get(r.source[0] if r.source else -1, name), name),
                        number=number,
                    )
                    for r, name, number in zip(rows, names, texts.numbers[:, 0].tolist(), strict=True)
                ]
                states = scorer.states(rows, progress)
                outcomes[task.name] = outcomes_of(scorer, corpus, task, states, cases)
    if corpus.events is None:
        return Reading(None, outcomes, None)
    held = held_out(corpus.events, part)
    users = in_turn(list(range(len(held.visible.users))), max_users, seed)
    rows, cases = user_rows(corpus, part, held, users, max_events, seed, phrasing, max_users)
    if not rows:
        return Reading(None, outcomes, None)
    states = scorer.states(rows, progress)
    reads = Read(states, cases, held.visible)
    outcomes |= user_outcomes(scorer, corpus, reads)
    next_item = [n for n, c in enumerate(cases) if c.task == NEXT_ITEM]
    basket = [n for n, c in enumerate(cases) if c.given]
    ranked = None
    if next_item:
        case_users = [cases[n].answer for n in next_item]
        ranked = ranked_of(scorer, corpus, held, states[next_item], case_users)
    basket_ranks = baskets = None
    if basket:
        baskets = baskets_of(held.visible, states[basket], [cases[n] for n in basket])
        basket_ranks = given_ranks(scorer, corpus, baskets)
    basket_users, keys = tuple(cases[n].about for n in basket), tuple(cases[n].key for n in basket)
    return Reading(ranked, outcomes, basket_ranks, basket_users, keys, baskets, reads)


def has_cases(corpus: Corpus, part: SplitPart, max_events: int, seed: int) -> bool:
    """Whether a part holds any case of the tasks of a data set."""
    about_texts = [t for t in corpus.tasks if t.unit == "text"]
    if any(answered_texts(corpus, [t], part, [[template(t, "served")]], seed).frame.height for t in about_texts):
        return True
    if corpus.events is None:
        return False
    held = held_out(corpus.events, part)
    users = list(range(len(held.visible.users)))
    return bool(user_rows(corpus, part, held, users, max_events, seed, most=1)[0])


def outcomes_of(
    scorer: Scorer, corpus: Corpus, task: Task, states: States, cases: list[Case], features: np.ndarray | None = None
) -> Outcomes:
    """Scores of the cases of a task whose answers are choices or numbers."""
    scores = scorer.outcome_scores(states, corpus.dataset.name, task.name).cpu().numpy()
    answer, weight = np.asarray([c.answer for c in cases]), np.asarray([c.weight for c in cases])
    truth = None
    if task.answer.values:
        truth = np.asarray([c.number for c in cases])
        truth = np.where(np.isnan(truth), np.asarray(task.answer.values)[answer], truth)
    about, keys = tuple(c.about for c in cases), tuple(c.key for c in cases)
    return Outcomes(scores, answer, weight, about, keys, features, truth)


def user_outcomes(scorer: Scorer, corpus: Corpus, reads: Read) -> dict[str, Outcomes]:
    """Scores of the cases about users whose answers are choices or numbers, by task, and their features; the cases of
    a user are together."""
    outcomes = {}
    end = {c.user: n for n, c in enumerate(reads.cases) if c.task == END}
    for task in corpus.tasks:
        index = [n for n, c in enumerate(reads.cases) if c.task == task.name]
        if not index or task.unit == "text" or task.answer.kind == "item":
            continue
        cases = [reads.cases[n] for n in index]
        questions = [(user, [c.item for c in group]) for user, group in groupby(cases, key=lambda c: c.user)]
        ends = reads.states[[end[user] for user, _ in questions]] if asks_list(task) else None
        features = features_of(scorer, corpus, reads.visible, task, questions, ends)
        outcomes[task.name] = outcomes_of(scorer, corpus, task, reads.states[index], cases, features)
    return outcomes


def ranked_of(scorer: Scorer, corpus: Corpus, held: HeldOut, states: States, users: list[int]) -> Ranked:
    """Ranks of each user's next item(s) in the whole catalogue."""
    visible = held.visible
    spans = [slice(*visible.span(u)) for u in users]
    seen, histories = ([items[span] for span in spans] for items in (visible.item, visible.wanted))
    names, targets = [visible.users[u] for u in users], [first_targets(held, u) for u in users]
    return ranked_states(scorer, corpus.dataset.name, names, targets, seen, histories, states)


def rescore(scorer: Scorer, corpus: Corpus, reading: Reading) -> Reading:
    """A reading by the scorer's scores as they are now, from the states that were read."""
    ranked, baskets = reading.ranked, reading.baskets
    if ranked is not None:
        ranked = ranked_states(scorer, corpus.dataset.name, *ranked.cases)
    basket_ranks = None if baskets is None else given_ranks(scorer, corpus, baskets)
    return replace(reweigh(scorer, corpus, reading), ranked=ranked, basket_ranks=basket_ranks)


def reweigh(scorer: Scorer, corpus: Corpus, reading: Reading) -> Reading:
    """A reading whose outcomes have the features that the scorer's lists give them now."""
    if reading.read is None:
        return reading
    return replace(reading, outcomes={**reading.outcomes, **user_outcomes(scorer, corpus, reading.read)})


def ranked_states(
    scorer: Scorer,
    dataset: str,
    names: list[str],
    targets: list[np.ndarray],
    seen: list[np.ndarray],
    histories: list[np.ndarray],
    states: States,
    parts: Sequence[Part] = PARTS,
) -> Ranked:
    """Ranks of each case's targets in the whole catalogue, by the scores of some parts."""
    removed, kept, lists = [], [], []
    for scores, case_targets, past in score_cases(scorer, dataset, states, targets, seen, histories, parts):
        kept.append(metrics.target_ranks(scores, case_targets))
        scores[past] = -np.inf
        removed.append(metrics.target_ranks(scores, case_targets))
        lists.append(best_items(scores, LONGEST))
    return Ranked(names, targets, removed, kept, np.stack(lists), seen, histories, states)


def score_cases(
    scorer: Scorer,
    dataset: str,
    states: States,
    targets: list[np.ndarray],
    seen: list[np.ndarray],
    histories: list[np.ndarray],
    parts: Sequence[Part] = PARTS,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Scores (items,), targets and seen items of each case."""
    for start in range(0, len(targets), CASES):
        part = slice(start, start + CASES)
        scores = scorer.item_scores(states[part], dataset, histories[part], parts=parts).cpu().numpy()
        for case_scores, case_targets, past in zip(scores, targets[part], seen[part], strict=True):
            yield case_scores, case_targets, past[past >= 0]


def next_item_losses(scorer: Scorer, dataset: str, ranked: Ranked) -> tuple[np.ndarray, int]:
    """Losses of unseen targets by temperature, seen items removed, summed over the cases that have any, and how many
    they are."""
    losses, cases = np.zeros(len(TEMPERATURES)), 0
    past = ranked.seen, ranked.histories
    for scores, targets, seen in score_cases(scorer, dataset, ranked.states, ranked.targets, *past):
        scores[seen] = -np.inf
        new = targets[np.isfinite(scores[targets])]
        if len(new):
            losses, cases = losses + item_losses(scores, new), cases + 1
    return losses, cases


def best_items(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best of (items,) scores, best first, -1 if fewer are finite."""
    among = np.argpartition(-scores, k)[:k] if len(scores) > k else np.arange(len(scores))
    best = among[np.argsort(-scores[among], kind="stable")]
    best = np.where(np.isfinite(scores[best]), best, -1)
    return np.pad(best, (0, k - len(best)), constant_values=-1).astype(np.int32)


def baskets_of(visible: Events, states: States, cases: list[Case]) -> Baskets:
    """The cases that give some items of a basket."""
    given_items = [case.given for case in cases]
    wanted = visible.wanted
    past = [wanted[visible.offsets[c.user] : visible.offsets[c.user + 1]] for c in cases]
    histories = [np.concatenate([b, np.asarray(g, dtype=b.dtype)]) for b, g in zip(past, given_items, strict=True)]
    return Baskets(states, histories, given_items, [np.asarray([case.answer]) for case in cases])


def given_ranks(scorer: Scorer, corpus: Corpus, baskets: Baskets, parts: Sequence[Part] = PARTS) -> np.ndarray:
    """Ranks of the missing items, the given ones removed, by the scores of some parts."""
    ranks, name = [], corpus.dataset.name
    for start in range(0, len(baskets.given), CASES):
        part = slice(start, start + CASES)
        scores = scorer.item_scores(baskets.states[part], name, baskets.histories[part], "basket", parts)
        for case_scores, given_items, target in zip(
            scores.cpu().numpy(), baskets.given[part], baskets.targets[part], strict=True
        ):
            case_scores[list(given_items)] = -np.inf
            ranks.append(int(metrics.target_ranks(case_scores, target)[0]))
    return np.asarray(ranks)


def next_item_metrics(ranked: Ranked) -> dict[str, float]:
    """Ranking metrics under both protocols; with several targets per case, HR is any hit and NDCG is over the set."""
    result: dict[str, float] = {"n": float(len(ranked.targets))}
    for protocol, ranks in (("seen_removed", ranked.seen_removed), ("seen_kept", ranked.seen_kept)):
        values = metrics.ranking_metrics(ranks) if ranks else {}
        result |= {f"{protocol}/{name}": value for name, value in values.items()}
    return result
