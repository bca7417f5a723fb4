"""Fit neighbours and effects of items to the training part, and weights of neighbours and texts to validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize

from ..rows.corpus import Corpus, outcome_group, outcome_values
from .effects import DAMPING, FACTORS, Effects, ridge
from .engine import States
from .neighbours import DECAYS, EASE_MAX_ITEMS, QUESTIONS, Links, Neighbours, ease, taken, transitions
from .scorer import PARTS, Counts, Part, Scorer
from .texts import Texts, likeness

MIN_CASES = 50  # validation cases below which nothing is fitted
MIN_SPARED = 20  # different spared items among them, below which cold items' weights stay unfitted
DRAWN = 16_384  # items of a larger catalogue that stand for all others when weights are fitted
SCORES = 2**28  # features held while weights are fitted: 1 GiB
ROUNDS = 10  # of alternating least squares; 20 are no better
RESIDUAL_PENALTY = 200.0  # of 30, 60, 100 and 200 the least error of ratings held out of ML-100K's training part
SHARES = (1.0, 0.6, 0.35)  # of the scale of the model's scores that is likeliest
LIKENESS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)  # weights of the likeness in cold items' scores, of which the best is taken
MAX_SEEN_WEIGHT = 10.0  # bound of the weight of seen items, which nothing else bounds if no item ever repeats


def find_neighbours(corpus: Corpus) -> Neighbours:
    """Neighbours of one data set's items, with weights of 0."""
    assert corpus.events is not None
    train = corpus.training
    n = corpus.items.size
    user = np.repeat(np.arange(len(train.users)), np.diff(train.offsets))
    item = train.wanted
    has_item = item >= 0
    histories = sparse.csr_matrix(
        (np.ones(int(has_item.sum()), dtype=np.float32), (user[has_item], item[has_item])),
        shape=(len(train.users), n),
    )
    histories.data[:] = 1  # an item taken twice is one item
    ease_weights = ease(histories) if n <= EASE_MAX_ITEMS else sparse.csr_matrix((n, n), dtype=np.float32)
    identity = sparse.eye_array(n, dtype=np.float32, format="csr")
    return Neighbours([Links(ease_weights), Links(transitions(item, user, n)), Links(sparse.csr_matrix(identity))])


def find_effects(corpus: Corpus) -> Effects | None:
    """Effects of users and items on the outcomes that histories show: ratings, or two kinds of events; None if
    there are no such outcomes."""
    assert corpus.events is not None
    values = outcome_values(corpus)
    train = corpus.training
    mask = (train.outcome >= 0) & (train.item >= 0)
    if values is None or not mask.any():
        return None
    n = corpus.items.size
    outcome = train.outcome - outcome_group(corpus).first
    deviation = values[outcome[mask]].std()
    if deviation == 0:
        return None
    value = (values - values[outcome[mask]].mean()) / deviation
    user = np.repeat(np.arange(len(train.users)), np.diff(train.offsets))
    item, factors = factorised(user[mask], train.item[mask], value[outcome[mask]], len(train.users), n)
    parts = [torch.as_tensor(part).float() for part in (value, item, factors)]
    effects = Effects(parts[0], parts[1], parts[2], Links(sparse.csr_matrix((n, n), dtype=np.float32)))
    if n > EASE_MAX_ITEMS:
        return effects
    residuals = [
        effects.user(train.item[lo:hi], np.where(mask[lo:hi], outcome[lo:hi], -1))[2]
        for lo, hi in pairwise(train.offsets)
    ]
    residual = np.concatenate(residuals).astype(np.float32)
    by_user = sparse.csr_matrix((residual[mask], (user[mask], train.item[mask])), shape=(len(train.users), n))
    effects.links = Links(ease(by_user, RESIDUAL_PENALTY))
    return effects


def factorised(
    user: np.ndarray, item: np.ndarray, value: np.ndarray, users: int, items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Effects (items,) and factors (items, FACTORS) of items by alternating least squares: a value is about the sum of
    a user effect, an item effect and the product of the factors of both. user, item, value: (events,)."""
    of_user, of_item = (
        np.split(np.argsort(by, kind="stable"), np.cumsum(np.bincount(by, minlength=n))[:-1])
        for by, n in ((user, users), (item, items))
    )
    effect, factors = np.zeros(items), np.random.default_rng(0).normal(0, 0.1, (items, FACTORS))
    for _ in range(ROUNDS):
        weights = np.stack([ridge(factors[item[rows]], value[rows] - effect[item[rows]], DAMPING) for rows in of_user])
        weights = np.stack([ridge(weights[user[rows], :-1], value[rows] - weights[user[rows], -1]) for rows in of_item])
        factors, effect = weights[:, :-1], weights[:, -1]
    return effect, factors


Feature = Callable[[States, Sequence[np.ndarray]], torch.Tensor]  # scores (cases, items) of states and histories


@dataclass(frozen=True)
class Cases:
    """Held-out cases of a question, from which weights are fitted.

    states: (cases, width). histories, targets, excluded: catalogue indices per case, of its history oldest first (-1
    for no item), of the held-out items, of which the first counts, and of items that cannot be the answer.
    """

    states: States
    histories: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    excluded: Sequence[Sequence[int]] | None = None
    question: str = "next_item"


def fit_lists(
    scorer: Scorer, dataset: str, counts: Counts, cases: Cases, seed: int, parts: Sequence[Part] = PARTS
) -> None:
    """Set the weights of neighbours and texts for a question, in `counts`, to those that make the held-out targets
    likeliest beside the model's scores, or without them, if the language model is not among the parts; and those of
    cold items' scores (`fit_cold`).

    The scores' own scale and the weights, at least 0, by `fitted`. A pull worth one case holds the weights near 0, and
    few cases leave them there. The likelihood is mostly one of places far down, where the model knows more than counts
    and texts do; so the weights beside smaller SHARES of that scale are fitted as well, and taken if they rank the
    targets better: NDCG@10 by more than a standard error of the paired difference.
    """
    if len(cases.states) < MIN_CASES:
        return
    neighbours, texts = counts.neighbours, counts.texts
    number, decays = QUESTIONS.index(cases.question), len(DECAYS)
    one_hot = torch.eye(decays, device=cases.states.device)
    names: list[str] = []
    features: list[Feature] = []
    if by_model := "language model" in parts:
        names, features = ["model"], [lambda states, _: scorer.model_scores(states, dataset)]
    if neighbours is not None and "neighbours" in parts:
        for kind in range(len(neighbours.kinds)):
            names += ["neighbours"] * decays
            features += [partial(_accumulated, neighbours, kind, w) for w in one_hot]
    if texts is not None and "texts" in parts:
        names += ["texts"] * decays
        features += [partial(_likeness, scorer, dataset, w) for w in one_hot]
    if neighbours is not None and "neighbours" in parts:
        names, features = [*names, "seen"], [*features, partial(_seen, scorer, dataset)]
    if len(names) == int(by_model):
        return
    data = gathered(features, cases, seed, len(scorer.model.rows_of(dataset).warm))
    solution = fitted(names, data)
    shares = SHARES if by_model else SHARES[:1]
    solutions = [solution] + [fitted(names, data, solution, share) for share in shares[1:]]
    quality = []
    for weights in solutions:
        set_weights(counts, number, names, weights / weights[0] if by_model else weights)
        quality.append(gains(scorer, dataset, counts, cases, by_model) if len(shares) > 1 else np.zeros(1))
    over = np.stack(quality) - quality[0]
    clear = over.mean(1) > over.std(1) / np.sqrt(over.shape[1])
    best = solutions[int(np.argmax(np.where(clear, over.mean(1), 0.0)))]
    set_weights(counts, number, names, best / best[0] if by_model else best)
    if texts is not None and "texts" in parts:
        fit_cold(scorer, dataset, texts, cases, by_model)


def set_weights(counts: Counts, question: int, names: Sequence[str], weights: np.ndarray) -> None:
    """Put weights, by the names of their features, into counts."""

    def of(name: str, like: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(weights[[n == name for n in names]]).to(like).view_as(like)

    if (neighbours := counts.neighbours) is not None and "neighbours" in names:
        neighbours.weight[question] = of("neighbours", neighbours.weight[question])
        neighbours.seen[question] = of("seen", neighbours.seen[question])
    if (texts := counts.texts) is not None and "texts" in names:
        texts.weight[question] = of("texts", texts.weight[question])


def gains(scorer: Scorer, dataset: str, counts: Counts, cases: Cases, by_model: bool) -> np.ndarray:
    """The gain 1 / log2(1 + rank) of each case's target (cases,), 0 beyond rank 10, by the scores with these counts."""
    gained = np.zeros(len(cases.states))
    for start in range(0, len(gained), 64):
        part = slice(start, start + 64)
        scores = scorer.added(counts, dataset, cases.histories[part], cases.question)
        if by_model:
            scores = torch.add(scores, scorer.model_scores(cases.states[part], dataset))
        target = torch.as_tensor([int(t[0]) for t in cases.targets[part]], device=scores.device)[:, None]
        rank = (scores >= scores.gather(1, target)).sum(1).cpu().numpy()  # ties count against it
        gained[part] = np.where(rank <= 10, 1 / np.log2(rank + 1), 0)
    return gained


def fit_cold(scorer: Scorer, dataset: str, texts: Texts, cases: Cases, by_model: bool) -> None:
    """Set the weights of cold items' scores to those of a grid, the model's share and one decay of the likeness, that
    rank the held-out targets best among all warm items that are not in the history: by NDCG of the whole ranking.

    The targets are spared items, whose texts the model has not learned to score, as it has not those of cold items.
    """
    catalogue = scorer.model.rows_of(dataset)
    eligible, spared = catalogue.warm & catalogue.worded, (catalogue.spared & catalogue.worded).cpu().numpy()
    chosen = [n for n, t in enumerate(cases.targets) if spared[t[0]] and t[0] not in cases.histories[n]]
    if len(chosen) < MIN_CASES or len({int(cases.targets[n][0]) for n in chosen}) < MIN_SPARED:
        return
    decays = range(len(DECAYS) - 1)  # the last forgets nothing
    grid = [(1.0, d, w) for d in decays for w in LIKENESS] if by_model else [(0.0, d, 1.0) for d in decays]
    gained = np.zeros(len(grid))
    for start in range(0, len(chosen), 64):
        part = chosen[start : start + 64]
        histories, states = [cases.histories[n] for n in part], cases.states[part]
        by_text = scorer.model_scores(states, dataset, text_alone=True) if by_model else torch.zeros(())
        alike = [likeness(catalogue, histories, w) for w in torch.eye(len(DECAYS), device=states.device)[list(decays)]]
        target = torch.as_tensor([int(cases.targets[n][0]) for n in part], device=states.device)[:, None]
        others = eligible & ~taken(histories, len(eligible), eligible.device)
        for number, (share, decay, weight) in enumerate(grid):
            scores = share * by_text + weight * alike[decay]
            rank = ((scores >= scores.gather(1, target)) & others).sum(1).cpu().numpy()  # ties count against it
            gained[number] += (1 / np.log2(rank + 1)).sum()
    share, decay, weight = grid[int(gained.argmax())]
    weights = torch.zeros(1 + len(DECAYS))
    weights[0], weights[1 + decay] = share, weight
    texts.cold[QUESTIONS.index(cases.question)] = weights.to(texts.cold)


def _accumulated(
    neighbours: Neighbours, kind: int, weight: torch.Tensor, states: States, histories: Sequence[np.ndarray]
) -> torch.Tensor:
    return neighbours.accumulate(histories, kind, weight)


def _likeness(
    scorer: Scorer, dataset: str, weight: torch.Tensor, states: States, histories: Sequence[np.ndarray]
) -> torch.Tensor:
    return likeness(scorer.model.rows_of(dataset), histories, weight)


def _seen(scorer: Scorer, dataset: str, states: States, histories: Sequence[np.ndarray]) -> torch.Tensor:
    return taken(histories, len(scorer.model.rows_of(dataset).warm), states.device).float()


@dataclass(frozen=True)
class Gathered:
    """Features (features, cases, 1 + drawn) of the target of each case, and then of items drawn from the catalogue.

    log_share: (1 + drawn,) of how many items each stands for, log. masked: (cases, drawn) bool, of what cannot be the
    answer.
    """

    value: np.ndarray
    log_share: np.ndarray
    masked: np.ndarray


def gathered(features: Sequence[Feature], cases: Cases, seed: int, items: int) -> Gathered:
    """The features of as many cases as SCORES allows, over the catalogue or a uniform sample of it."""
    rng = np.random.default_rng([seed, 10])
    drawn = np.sort(rng.choice(items, DRAWN, replace=False)) if items > DRAWN else np.arange(items)
    chosen = np.sort(rng.permutation(len(cases.states))[: SCORES // (len(features) * len(drawn))])
    target = np.asarray([cases.targets[c][0] for c in chosen])
    value = np.empty((len(features), len(chosen), 1 + len(drawn)), dtype=np.float32)
    for start in range(0, len(chosen), 64):
        part = chosen[start : start + 64]
        states, histories = cases.states[part], [cases.histories[c] for c in part]
        columns = np.concatenate([target[start : start + 64, None], np.tile(drawn, (len(part), 1))], 1)
        for number, feature in enumerate(features):
            scores = feature(states, histories).cpu().numpy()
            value[number, start : start + len(part)] = np.take_along_axis(scores, columns, 1)
    masked = drawn[None, :] == target[:, None]  # (cases, drawn): the target has a column of its own
    if cases.excluded is not None:
        masked |= np.stack([np.isin(drawn, cases.excluded[c]) for c in chosen])
    log_share = np.full(1 + len(drawn), np.log(items / len(drawn)), dtype=np.float32)
    log_share[0] = 0
    return Gathered(value, log_share, masked)


def fitted(
    names: Sequence[str], data: Gathered, before: np.ndarray | None = None, share: float | None = None
) -> np.ndarray:
    """The weights (features,) that make the targets likeliest: a convex problem, by L-BFGS-B.

    share: of the first weight of a solution `before` that the first weight is held at; None: it is free.

    names: of the features. `model` and `seen` are free of the pull to 0, `seen` is bounded on both sides, all others
    are at least 0.
    """
    value, cases = data.value, data.value.shape[1]
    free = np.asarray([name in ("model", "seen") for name in names])

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.tensordot(theta.astype(np.float32), value, 1) + data.log_share
        scores[:, 1:][data.masked] = -np.inf
        top = scores.max(1, keepdims=True)
        share = np.exp(scores - top)
        total = share.sum(1, keepdims=True)
        losses = (np.log(total) + top)[:, 0] - scores[:, 0]
        share /= total
        share[:, 0] -= 1
        gradient = np.asarray([np.vdot(f, share) for f in value]) / cases
        pull = np.where(free, 0.0, theta) / cases
        return float(losses.mean() + (pull * theta).sum() / 2), gradient.astype(np.float64) + pull

    start_at = np.asarray([float(name == "model") for name in names])
    bounds: list[tuple[float | None, float | None]] = [(0.05 if name == "model" else 0.0, None) for name in names]
    if "seen" in names:
        at = names.index("seen")
        # from 0, a slope that fades to nothing if nothing repeats would stop the search early
        repeats = value[at][:, 0].sum()
        odds = np.log((repeats + 0.5) / (cases - repeats + 0.5))
        start_at[at] = np.clip(odds, -MAX_SEEN_WEIGHT, MAX_SEEN_WEIGHT)
        bounds[at] = (-MAX_SEEN_WEIGHT, MAX_SEEN_WEIGHT)
    if before is not None and share is not None:
        start_at, fixed = before.copy(), share * float(before[0])
        start_at[0], bounds[0] = fixed, (fixed, fixed)
    solution: np.ndarray = minimize(
        loss, start_at, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100}
    ).x
    return solution
