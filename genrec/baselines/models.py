"""Baselines that our own environment holds: smoothed means, counts, and linear models of scikit-learn.

Settings are chosen on validation; yes/no scores and probabilities are calibrated on validation, as ours are.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from ..data.cuts import DAY
from ..data.dataset import Part
from ..evaluation import metrics
from ..rows.corpus import Corpus
from ..scoring.calibration import fit_outcome
from ..tasks.labels import task_rows
from ..tasks.task import Task
from ..tasks.templates import pieces
from .cases import Pairs

DAMPING = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
STRENGTH = (0.1, 0.3, 1.0, 3.0, 10.0)  # C of a logistic regression, 1 / alpha of a ridge regression
WORDS = 2  # the longest n-grams of TF-IDF
MOMENTS = 20  # of each user at most, sampled, from which answers about later events are learned


@dataclass(frozen=True)
class Predicted:
    """A baseline's predictions of every case.

    arrays: `removed` and `kept`, lists of items (cases, LONGEST), -1 after their end, with the `targets` of baskets; or
    `probabilities` (cases, answers), with the `threshold` of yes; or `values` (cases,). settings: the chosen ones, of
    `searched`, by their value on validation in `valid`. Seconds: of training with them, and of all cases' predictions.
    """

    settings: dict[str, Any]
    searched: int
    train_seconds: float
    predict_seconds: float
    valid: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def means(
    pairs: Pairs, visible: Pairs, value: Callable[[Pairs], np.ndarray], users: int, items: int, damping: Sequence[float]
) -> Callable[[Pairs], np.ndarray]:
    """value = mean + offset of the item + offset of the user (Koren 2010), both damped.

    pairs: the training part, for mean and items. visible: the events of the users before they are asked about.
    """
    of_items, of_users = damping
    weight = pairs.weight / pairs.weight.mean()
    mean = float(np.average(value(pairs), weights=weight))
    left = np.bincount(pairs.item, weight * (value(pairs) - mean), items)
    item = left / (np.bincount(pairs.item, weight, items) + of_items)
    weight = visible.weight / visible.weight.mean()
    left = np.bincount(visible.user, weight * (value(visible) - mean - item[visible.item]), users)
    user = left / (np.bincount(visible.user, weight, users) + of_users)
    return lambda cases: mean + item[cases.item] + user[cases.user]


@dataclass(frozen=True)
class PairSplits:
    """Pairs of a task about users and items: those before validation (train), those before the measured part (visible),
    and the cases of both (valid, cases)."""

    train: Pairs
    visible: Pairs
    valid: Pairs
    cases: Pairs


def smoothed_means(
    pairs: PairSplits,
    users: int,
    items: int,
    metric: str,
    quality: Callable[[np.ndarray], float],
) -> tuple[Predicted, np.ndarray, np.ndarray]:
    """Smoothed user and item means with the damping that is best on validation; the predictions of validation and of
    the cases. quality: of the predictions of validation, the metric or, of an error, minus it."""

    def value(cases: Pairs) -> np.ndarray:
        return cases.number

    grid = list(itertools.product(DAMPING, DAMPING))
    qualities = [
        quality(means(pairs.train, pairs.train, value, users, items, damping)(pairs.valid)) for damping in grid
    ]
    best = grid[int(np.argmax(qualities))]
    start = time.perf_counter()
    on_valid = means(pairs.train, pairs.train, value, users, items, best)
    seconds = time.perf_counter() - start
    model = means(pairs.train, pairs.visible, value, users, items, best)
    start = time.perf_counter()
    predictions = model(pairs.cases)
    taken = time.perf_counter() - start
    chosen = {"item damping": best[0], "user damping": best[1]}
    return (
        Predicted(chosen, len(grid), seconds, taken, {metric: abs(max(qualities))}),
        on_valid(pairs.valid),
        predictions,
    )


def calibrated(on_valid: np.ndarray, valid: Pairs, test_scores: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities (cases, 2) of scores (cases,) of yes and the threshold of yes, fitted on validation."""
    spread = float(on_valid.std()) or 1.0
    shift = float(on_valid.mean())

    def both(scores: np.ndarray) -> np.ndarray:
        scaled = (scores - shift) / spread
        return np.stack([np.zeros(len(scaled)), scaled], axis=1)

    fitted = fit_outcome(both(on_valid), valid.answer, valid.weight)
    yes = fitted.probabilities(both(on_valid))[:, 1]
    threshold = metrics.best_threshold(yes, valid.answer == 1, valid.weight)
    return {"probabilities": fitted.probabilities(both(test_scores)), "threshold": np.asarray(threshold)}


def area(valid: Pairs) -> Callable[[np.ndarray], float]:
    """AUC of scores of the validation cases; 0.5 if one answer is missing."""

    def quality(scores: np.ndarray) -> float:
        value = metrics.auc(scores, valid.answer == 1, valid.weight)
        return value if np.isfinite(value) else 0.5

    return quality


def error(valid: Pairs) -> Callable[[np.ndarray], float]:
    """Minus the root of the mean squared error of numbers predicted for the validation cases."""
    return lambda numbers: -float(np.sqrt(np.average((numbers - valid.number) ** 2, weights=valid.weight)))


VISITS = ("recency", "frequency", "events", "span")


def visits(corpus: Corpus) -> pl.DataFrame:
    """Each moment of each user: days since the one before (recency; the span of the data for the first), moments so
    far, events so far and days since the first, as logarithms."""
    frame = corpus.dataset.interactions
    timed = frame.filter(pl.col("timestamp").is_not_null())
    whole = max(1, int(timed["timestamp"].max() or 0) - int(timed["timestamp"].min() or 0)) / DAY  # type: ignore[arg-type]
    moments = timed.group_by("user_id", "timestamp").len().sort("user_id", "timestamp")
    time_of, days = pl.col("timestamp"), float(DAY)
    features = (
        ((time_of - time_of.shift(1)) / days).over("user_id").fill_null(whole).alias("recency"),
        pl.int_range(1, pl.len() + 1).over("user_id").cast(pl.Float64).alias("frequency"),
        pl.col("len").cum_sum().over("user_id").cast(pl.Float64).alias("events"),
        ((time_of - time_of.first()) / days).over("user_id").alias("span"),
    )
    return moments.with_columns(*features).with_columns(pl.col(*VISITS).log1p())


def moments_of(corpus: Corpus, task: Task, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training data of a task about a user alone: features (moments, 4) and answers (moments,)."""
    rows = task_rows(task, corpus.dataset, "train").sample(fraction=1.0, shuffle=True, seed=seed)
    rows = rows.filter(pl.int_range(pl.len()).over("user_id") < MOMENTS)
    rows = rows.join(visits(corpus), on=["user_id", "timestamp"], maintain_order="left")
    words = {word: n for n, word in enumerate(task.answer.choices)}
    return rows.select(VISITS).to_numpy(), np.asarray([words[a] for a in rows["label"].to_list()])


def last_moments(corpus: Corpus, part: Part, about: Sequence[str]) -> np.ndarray:
    """Features (cases, 4) of the users' last moments before a part."""
    earlier_parts = {"valid": ["train"], "test": ["train", "valid"]}[part]
    frame = corpus.dataset.interactions.filter(pl.col("part").is_in(earlier_parts))
    last = frame.group_by("user_id").agg(pl.col("timestamp").max())
    moments = pl.DataFrame({"user_id": list(about)}).join(last, on="user_id", how="left", maintain_order="left")
    features = moments.join(visits(corpus), on=["user_id", "timestamp"], how="left", maintain_order="left")
    return features.select(VISITS).to_numpy()


def linear_choices(
    make: Callable[[Any], Any],
    grid: Sequence[dict[str, Any]],
    train: tuple[Any, np.ndarray],
    valid: tuple[Any, np.ndarray, np.ndarray],
    cases: Any,
    choices: int,
    tell: Callable[[int, int], None],
) -> Predicted:
    """Calibrated probabilities of a scikit-learn classifier, its settings chosen on validation: by AUC for two
    answers, else by macro F1.

    make: a classifier from settings. train: inputs and answers. valid: inputs, answers and weights.
    """
    inputs, answers = train
    best, best_model = -np.inf, None
    chosen: dict[str, Any] = {}
    seconds = 0.0
    for number, setting in enumerate(grid):
        tell(number, len(grid))
        start = time.perf_counter()
        model = make(setting).fit(inputs, answers)
        taken = time.perf_counter() - start
        probabilities = class_probabilities(model, valid[0], choices)
        if choices == 2:
            quality = metrics.auc(probabilities[:, 1], valid[1] == 1, valid[2])
        else:
            quality = metrics.macro(probabilities.argmax(1), valid[1], choices, valid[2])["macro_f1"]
        if best_model is None or quality > best:
            best, best_model, chosen, seconds = quality, model, setting, taken
    tell(len(grid), len(grid))
    start = time.perf_counter()
    scores = np.log(class_probabilities(best_model, cases, choices))
    taken = time.perf_counter() - start
    on_valid = np.log(class_probabilities(best_model, valid[0], choices))
    fitted = fit_outcome(on_valid, valid[1], valid[2])
    arrays = {"probabilities": fitted.probabilities(scores)}
    if choices == 2:
        yes = fitted.probabilities(on_valid)[:, 1]
        arrays["threshold"] = np.asarray(metrics.best_threshold(yes, valid[1] == 1, valid[2]))
    return Predicted(chosen, len(grid), seconds, taken, {"auc" if choices == 2 else "macro_f1": float(best)}, arrays)


def class_probabilities(model: Any, inputs: Any, choices: int) -> np.ndarray:
    """Probabilities (n, choices); near 0 for an answer that training lacks."""
    probabilities = np.full((len(inputs), choices), 1e-9)
    probabilities[:, model.classes_] = np.maximum(model.predict_proba(inputs), 1e-9)
    return probabilities / probabilities.sum(1, keepdims=True)


def visit_regression(
    corpus: Corpus, task: Task, part: Part, valid: Pairs, cases: Pairs, seed: int, tell: Callable[[int, int], None]
) -> Predicted:
    """Logistic regression on recency, frequency and span of the history at the moment of the question."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def make(setting: dict[str, Any]) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=setting["C"], max_iter=1_000))

    return linear_choices(
        make,
        [{"C": c} for c in (0.01, *STRENGTH)],
        moments_of(corpus, task, seed),
        (last_moments(corpus, "valid", valid.about), valid.answer, valid.weight),
        last_moments(corpus, part, cases.about),
        len(task.answer.choices),
        tell,
    )


def text_regression(
    task: Task,
    train: tuple[list[str], np.ndarray],
    valid: tuple[list[str], np.ndarray],
    texts: list[str],
    tell: Callable[[int, int], None],
) -> Predicted:
    """TF-IDF of words and pairs of words with a logistic regression, or a ridge regression if the answer is a
    number."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    def words() -> Any:
        return TfidfVectorizer(ngram_range=(1, WORDS), sublinear_tf=True, min_df=min_df)

    min_df = 2 if len(train[0]) > 1_000 else 1  # texts that have a word
    ones = np.ones(len(valid[1]))
    if task.answer.values:
        grid = [{"alpha": 1 / c} for c in STRENGTH]
        return linear_values(
            lambda s: make_pipeline(words(), Ridge(alpha=s["alpha"])),
            grid,
            train,
            valid,
            texts,
            (float(train[1].min()), float(train[1].max())),
            tell,
        )
    choose = [{"C": c, "classes": k} for c in STRENGTH[2:] for k in ("as they are", "even")]

    def make(setting: dict[str, Any]) -> Any:
        weight = "balanced" if setting["classes"] == "even" else None
        return make_pipeline(words(), LogisticRegression(C=setting["C"], class_weight=weight, max_iter=1_000))

    return linear_choices(make, choose, train, (*valid, ones), texts, len(task.answer.choices), tell)


def linear_values(
    make: Callable[[Any], Any],
    grid: Sequence[dict[str, Any]],
    train: tuple[Any, np.ndarray],
    valid: tuple[Any, np.ndarray],
    cases: Any,
    span: tuple[float, float],
    tell: Callable[[int, int], None],
) -> Predicted:
    """Numbers of a scikit-learn regressor, its settings chosen by the squared error on validation, cut to a span."""
    best, best_model = np.inf, None
    chosen: dict[str, Any] = {}
    seconds = 0.0
    for number, setting in enumerate(grid):
        tell(number, len(grid))
        start = time.perf_counter()
        model = make(setting).fit(*train)
        taken = time.perf_counter() - start
        rmse = float(np.sqrt(np.mean((np.clip(model.predict(valid[0]), *span) - valid[1]) ** 2)))
        if best_model is None or rmse < best:
            best, best_model, chosen, seconds = rmse, model, setting, taken
    tell(len(grid), len(grid))
    assert best_model is not None
    start = time.perf_counter()
    values = np.clip(best_model.predict(cases), *span)
    taken = time.perf_counter() - start
    return Predicted(chosen, len(grid), seconds, taken, {"rmse": best}, {"values": values})


def shown_text(task: Task, frame: pl.DataFrame) -> list[str]:
    """The text that the first template shows of each row, without its own words."""
    names = list(dict.fromkeys(p.name for p in pieces(task.seen[0]) if not isinstance(p, str)))
    return [" ".join(str(v) for v in row) for row in frame.select(names).iter_rows()]
