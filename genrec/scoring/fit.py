"""Fit neighbours and effects of items to the training part, and the neighbours' weights to validation."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize

from ..rows.corpus import Corpus, outcome_group, outcome_values
from .effects import DAMPING, FACTORS, Effects, ridge
from .engine import States
from .neighbours import DECAYS, EASE_MAX_ITEMS, KINDS, QUESTIONS, Links, Neighbours, ease, transitions
from .scorer import Scorer

MIN_CASES = 50  # validation cases below which nothing is fitted
DRAWN = 16_384  # items of a larger catalogue that stand for all others when weights are fitted
SCORES = 2**28  # features held while weights are fitted: 1 GiB
ROUNDS = 10  # of alternating least squares; 20 are no better
RESIDUAL_PENALTY = 200.0  # of 30, 60, 100 and 200 the least error of ratings held out of ML-100K's training part
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


def fit_neighbours(
    scorer: Scorer,
    dataset: str,
    states: States,
    histories: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seed: int,
    question: str = "next_item",
    excluded: Sequence[Sequence[int]] | None = None,
) -> None:
    """Set the weights of a data set's neighbours for a question to those that make the held-out targets (the first of
    each case) likeliest beside the model's scores, over the catalogue or a uniform sample of it.

    states: (cases, width). histories, targets, excluded: catalogue indices per case, of its history oldest first (-1
    for no item), of the held-out items, and of items that cannot be the answer.

    A convex problem: the scores' own scale and the weights, at least 0, by L-BFGS-B. A pull worth one case holds the
    weights near 0, and few cases leave them there.
    """
    neighbours = scorer.counts[dataset].neighbours
    n = len(scorer.item_rows(dataset)[1])
    if neighbours is None or len(states) < MIN_CASES:
        return
    rng = np.random.default_rng([seed, 10])
    drawn = np.sort(rng.choice(n, DRAWN, replace=False)) if n > DRAWN else np.arange(n)
    features = 2 + len(KINDS) * len(DECAYS)
    cases = np.sort(rng.permutation(len(states))[: SCORES // (features * len(drawn))])
    target = np.asarray([targets[c][0] for c in cases])
    value = np.empty((features, len(cases), 1 + len(drawn)), dtype=np.float32)  # the target, then the drawn
    for start in range(0, len(cases), 64):
        part = cases[start : start + 64]
        part_histories = [histories[c] for c in part]
        columns = np.concatenate([target[start : start + 64, None], np.tile(drawn, (len(part), 1))], 1)

        def store(feature: int, scores: torch.Tensor, start: int = start, columns: np.ndarray = columns) -> None:
            value[feature, start : start + len(columns)] = np.take_along_axis(scores.cpu().numpy(), columns, 1)

        store(0, scorer.model_scores(states[part], dataset))
        for kind in range(len(KINDS)):
            for decay, one_hot in enumerate(torch.eye(len(DECAYS), device=states.device)):
                store(1 + kind * len(DECAYS) + decay, neighbours.accumulate(part_histories, kind, one_hot))
        seen = np.zeros((len(part), n), dtype=np.float32)
        for row, history in zip(seen, part_histories, strict=True):
            row[history[history >= 0]] = 1
        store(features - 1, torch.as_tensor(seen))
    masked = drawn[None, :] == target[:, None]  # (cases, drawn): the target has a column of its own
    if excluded is not None:
        masked |= np.stack([np.isin(drawn, excluded[c]) for c in cases])
    log_share = np.full(1 + len(drawn), np.log(n / len(drawn)), dtype=np.float32)
    log_share[0] = 0

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.tensordot(theta.astype(np.float32), value, 1) + log_share
        scores[:, 1:][masked] = -np.inf
        top = scores.max(1, keepdims=True)
        share = np.exp(scores - top)
        total = share.sum(1, keepdims=True)
        losses = (np.log(total) + top)[:, 0] - scores[:, 0]
        share /= total
        share[:, 0] -= 1
        gradient = np.asarray([np.vdot(f, share) for f in value]) / len(cases)
        pull = np.concatenate([[0.0], theta[1:-1], [0.0]]) / len(cases)
        return float(losses.mean() + (pull * theta).sum() / 2), gradient.astype(np.float64) + pull

    start_at = np.zeros(features)
    start_at[0] = 1.0
    # from 0, a slope that fades to nothing if nothing repeats would stop the search early
    repeats = value[-1][:, 0].sum()
    start_at[-1] = np.clip(np.log((repeats + 0.5) / (len(cases) - repeats + 0.5)), -MAX_SEEN_WEIGHT, MAX_SEEN_WEIGHT)
    bounds = [(0.05, None), *[(0.0, None)] * (features - 2), (-MAX_SEEN_WEIGHT, MAX_SEEN_WEIGHT)]
    solution = minimize(loss, start_at, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100}).x
    weights = torch.as_tensor(solution[1:-1] / solution[0], dtype=torch.float32).view(len(KINDS), len(DECAYS))
    number = QUESTIONS.index(question)
    neighbours.weight[number] = weights.to(neighbours.weight.device)
    neighbours.seen[number] = float(solution[-1] / solution[0])
