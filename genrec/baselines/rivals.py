"""The baselines of every task of a data set, each computed once: predictions are cached in the cache folder."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from ..baselines import environment, models
from ..data.dataset import Part
from ..data.fetch import cache_folder
from ..evaluation.held_out import NEXT_ITEM
from ..evaluation.reading import LONGEST
from ..progress import Progress
from ..rows.arrays import PARTS, select
from ..rows.corpus import Corpus
from ..rows.texts import answered_texts
from ..tasks.task import Task
from .cases import (
    MOST,
    Lists,
    Pairs,
    answered_pairs,
    basket_cases,
    interaction_table,
    items_by_user,
    list_cases,
    pair_cases,
    target_mask,
    training,
    training_baskets,
)
from .content import has_texts, text_lists
from .models import PairSplits, Predicted

VERSION = 1  # of the predictions of this module; that of standalone.py is its text
EASE_ITEMS = 25_000  # above, its inverse takes too much memory
Make = Callable[[], Predicted]


def baselines_of(
    corpus: Corpus, part: Part, max_events: int, seed: int, progress: Progress
) -> tuple[dict[str, dict[str, Predicted]], list[str]]:
    """By task and name each baseline's predictions of the part's cases, and a line for each that is left out."""
    predictions: dict[str, dict[str, Predicted]] = {}
    skipped: list[str] = []
    for task in corpus.tasks:
        makers: dict[str, Make] = {}
        drawn = 0 if task.name == NEXT_ITEM else seed  # its cases are not drawn: one search serves every run
        if task.name == NEXT_ITEM and corpus.events is not None:
            makers = next_item_makers(corpus, part, drawn, progress)
        elif task.unit == "basket" and corpus.events is not None:
            makers = basket_makers(corpus, task, part, seed, progress)
        elif task.unit == "text":
            makers = text_makers(corpus, task, part, seed, progress)
        elif task.unit == "user_time" and task.answer.choices and not task.answer.values:
            makers = visit_makers(corpus, task, part, max_events, seed, progress)
        elif task.unit == "event" and (task.answer.values or len(task.answer.choices) == 2):
            makers = pair_makers(corpus, task, part, max_events, seed, progress)
        else:
            skipped.append(f"{task.name}: no baseline for this kind of answer")
        if "EASE" in makers and corpus.items.size > EASE_ITEMS:
            makers.pop("EASE")
            skipped.append(f"{task.name}: no EASE, {corpus.items.size:,} items are more than {EASE_ITEMS:,}")
        for name, make in makers.items():
            predictions.setdefault(task.name, {})[name] = cached_predictions(
                identity(corpus, task, part, drawn, name), make
            )
    return predictions, skipped


def identity(corpus: Corpus, task: Task, part: Part, seed: int, name: str) -> str:
    """A name for predictions of a baseline, hashed from everything that they depend on."""
    dataset = corpus.dataset
    codes = {p: n for n, p in enumerate(PARTS)}
    split = dataset.interactions["part"].replace_strict(codes, return_dtype=pl.Int8).to_numpy().tobytes()
    files = (environment.SCRIPT, environment.REQUIREMENTS)
    says = [
        VERSION,
        [hashlib.sha256(f.read_bytes()).hexdigest() for f in files],
        dataset.fingerprint,
        hashlib.sha256(split).hexdigest(),
        dataset.cutoffs,
        part,
        seed,
        [task.name, task.fingerprint, task.answer.choices],
        [t.fingerprint for t in corpus.tasks if t.name == NEXT_ITEM],
        name,
    ]
    digest = hashlib.sha256(json.dumps(says).encode()).hexdigest()[:16]
    return "-".join([*(w.replace(" ", "_").replace("/", "_") for w in (dataset.name, task.name, name)), digest])


def cached_predictions(key: str, make: Make) -> Predicted:
    """Predictions from the cache; else made, and cached whole or not at all."""
    folder = cache_folder() / "baselines" / key
    if not folder.is_dir():
        made = make()
        partial_folder = folder.with_name(f".{key}.{os.getpid()}.partial")
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir(parents=True)
        np.savez(partial_folder / "arrays.npz", **made.arrays)  # type: ignore[arg-type]
        about = {f.name: getattr(made, f.name) for f in fields(made) if f.name != "arrays"}
        (partial_folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
        try:
            os.replace(partial_folder, folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(partial_folder)  # another process was first, with the same
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    with np.load(folder / "arrays.npz") as arrays:
        return Predicted(**about, arrays=dict(arrays))


def next_item_makers(corpus: Corpus, part: Part, seed: int, progress: Progress) -> dict[str, Make]:
    """Baselines that rank the catalogue after a history; if users take items again, their own most frequent too."""
    baskets = "basket" in corpus.dataset.interactions.columns
    valid = list_cases(corpus, "valid", seed, MOST)
    cases = list_cases(corpus, part, seed)
    if not cases.users or not valid.users:
        return {}
    criterion, protocols = "kept" if baskets else "removed", ("removed", "kept")
    train = training(corpus)
    model = partial(model_lists, corpus, train, valid, cases, criterion, protocols, seed, progress)
    makers: dict[str, Make] = {"popularity": partial(model, "popularity")}
    if baskets:
        makers["own most frequent"] = partial(own_items, corpus, train, cases, cases)
    if has_texts(corpus.dataset.items):
        popular = by_popularity(corpus, train)
        makers["TF-IDF"] = partial(text_lists, corpus.dataset.items, popular, valid, cases, criterion, protocols)
    return makers | {name: partial(model, name) for name in ("ItemKNN", "EASE", "SASRec")}


def basket_makers(corpus: Corpus, task: Task, part: Part, seed: int, progress: Progress) -> dict[str, Make]:
    """Baselines that complete a basket: learned from baskets, asked with the given items of one."""
    valid, _ = basket_cases(corpus, task, "valid", seed, MOST)
    cases, past = basket_cases(corpus, task, part, seed)
    if not cases.users or not valid.users:
        return {}
    train, targets = training_baskets(corpus, task), np.concatenate(cases.targets)

    def made(name: str) -> Predicted:
        if name == "own most frequent":
            predicted = own_items(corpus, train, cases, past)
        else:
            predicted = model_lists(corpus, train, valid, cases, "removed", ("removed",), seed, progress, name)
        return replace(predicted, arrays={**predicted.arrays, "targets": targets})

    return {name: partial(made, name) for name in ("popularity", "own most frequent", "ItemKNN", "EASE")}


def model_lists(
    corpus: Corpus,
    train: pl.DataFrame,
    valid: Lists,
    cases: Lists,
    criterion: str,
    protocols: tuple[str, ...],
    seed: int,
    progress: Progress,
    name: str,
) -> Predicted:
    """Lists of a RecTools model."""
    extra = max(len(s) for s in cases.seen) if has_hidden_items(cases) else 0
    job = {
        "kind": "lists",
        "model": name,
        "k": LONGEST + extra,
        "criterion": criterion,
        "protocols": protocols,
        "seed": seed,
    }
    tables = {"train": train, "valid": valid.known, "test": cases.known, "valid_targets": valid.target_table()}
    about, written = environment.run(job, tables, progress)
    popular = by_popularity(corpus, train)
    arrays = {}
    for protocol in protocols:
        removed = protocol == "removed"
        frame = written["lists"].filter(pl.col("removed") == removed).sort("case", "rank")
        listed = dict(frame.group_by("case").agg("item").iter_rows())
        arrays[protocol] = filled([listed.get(n, []) for n in range(len(cases.users))], cases, popular, removed)
    return Predicted(**about, arrays=arrays)


def has_hidden_items(cases: Lists) -> bool:
    """Whether a case has seen items that the models' histories lack: they must be taken out of lists."""
    item_counts = dict(cases.known.group_by("case").agg(pl.col("item").n_unique()).iter_rows())
    return any(len(s) > item_counts.get(n, 0) for n, s in enumerate(cases.seen))


def by_popularity(corpus: Corpus, train: pl.DataFrame) -> np.ndarray:
    """The catalogue, the most frequent item of the training part first."""
    return np.argsort(-np.bincount(train["item"].to_numpy(), minlength=corpus.items.size), kind="stable")


def filled(lists: list[list[int]], cases: Lists, popular: np.ndarray, removed: bool) -> np.ndarray:
    """Lists (cases, LONGEST) without seen items if they are removed; the most popular items follow if a model's list is
    too short, as of a case without a history. -1 after the catalogue's end."""
    rows = np.full((len(lists), LONGEST), -1, dtype=np.int64)
    for row, ranked_items, seen in zip(rows, lists, cases.seen, strict=True):
        out = set(seen.tolist()) if removed else set()
        items = [i for i in ranked_items if i not in out][:LONGEST]
        if len(items) < LONGEST:
            out |= set(items)
            popular_items = (int(i) for i in popular[: LONGEST + len(out)] if int(i) not in out)
            items += [i for _, i in zip(range(LONGEST - len(items)), popular_items, strict=False)]
        row[: len(items)] = items
    return rows


def own_items(corpus: Corpus, train: pl.DataFrame, cases: Lists, past: Lists) -> Predicted:
    """The items that each user has had most often, the latest first among equals."""
    start = time.perf_counter()
    counted = past.known.group_by("case", "item").agg(pl.len().alias("n"), pl.col("place").max())
    counted = counted.sort(["case", "n", "place"], descending=[False, True, True])
    listed = dict(counted.group_by("case", maintain_order=True).agg("item").iter_rows())
    lists = [listed.get(n, []) for n in range(len(cases.users))]
    popular = by_popularity(corpus, train)
    arrays = {p: filled(lists, cases, popular, p == "removed") for p in ("removed", "kept")}
    return Predicted({}, 1, 0.0, (time.perf_counter() - start) / 2, arrays=arrays)


def pair_makers(
    corpus: Corpus, task: Task, part: Part, max_events: int, seed: int, progress: Progress
) -> dict[str, Make]:
    """Baselines of a task about a user and an item."""
    ahead = task.horizon_days is not None
    train = answered_pairs(corpus, task, None, seed)
    pairs = PairSplits(
        train,
        train if ahead else answered_pairs(corpus, task, part, seed),
        pair_cases(corpus, task, "valid", max_events, seed),
        pair_cases(corpus, task, part, max_events, seed),
    )
    if not len(pairs.train.user) or not len(pairs.valid.user) or not len(pairs.cases.user):
        return {}
    makers: dict[str, Make] = {"user and item means": partial(mean_answers, corpus, task, pairs)}
    if task.answer.values and not ahead:
        makers["SVD++"] = partial(svd_ratings, pairs, seed, progress)
    elif ahead and not task.answer.values:
        makers["popularity"] = partial(popularity_answers, corpus, part, pairs, False)
        makers["own most frequent"] = partial(popularity_answers, corpus, part, pairs, True)
        for name in ("ItemKNN", "EASE"):
            makers[name] = partial(scored_answers, name, corpus, part, pairs, progress)
    return makers


def mean_answers(corpus: Corpus, task: Task, pairs: PairSplits) -> Predicted:
    """Smoothed means of the answer, a number or yes."""
    assert corpus.events is not None
    quality = models.error(pairs.valid) if task.answer.values else models.area(pairs.valid)
    metric = "rmse" if task.answer.values else "auc"
    users, items = len(corpus.events.users), corpus.items.size
    predicted, on_valid, predictions = models.smoothed_means(pairs, users, items, metric, quality)
    if task.answer.values:
        low, high = pairs.train.number.min(), pairs.train.number.max()
        return replace(predicted, arrays={"values": np.clip(predictions, low, high)})
    return replace(predicted, arrays=models.calibrated(on_valid, pairs.valid, predictions))


def svd_ratings(pairs: PairSplits, seed: int, progress: Progress) -> Predicted:
    """Numbers of SVD++."""

    def table(cases: Pairs) -> pl.DataFrame:
        return pl.DataFrame({"user": cases.user, "item": cases.item, "rating": cases.number})

    tables = {"train": table(pairs.train), "valid_pairs": table(pairs.valid)}
    tables["test_pairs"] = table(pairs.cases).drop("rating")
    about, written = environment.run({"kind": "ratings", "model": "SVD++", "seed": seed}, tables, progress)
    arrays = {"values": written["ratings"]["rating"].to_numpy()}
    return Predicted(**about, arrays=arrays)


def histories(corpus: Corpus, part: Part) -> pl.DataFrame:
    """case (the user's number), item and place of the events before a part."""
    assert corpus.events is not None
    visible = select(corpus.events, corpus.events.part < PARTS.index(part))
    return interaction_table(items_by_user(visible, target_mask(corpus, visible)), "case")


def popularity_answers(corpus: Corpus, part: Part, pairs: PairSplits, by_user: bool) -> Predicted:
    """Yes by how often the item was taken in the training part, or by the user before."""

    def scores(cases: Pairs, before: Part) -> np.ndarray:
        popular = training(corpus).group_by("item").len()
        table = pl.DataFrame({"case": cases.user, "item": cases.item})
        counts = table.join(popular, on="item", how="left", maintain_order="left")["len"].fill_null(0).to_numpy()
        if not by_user:
            return np.log1p(counts)
        times = histories(corpus, before).group_by("case", "item").len()
        often = table.join(times, on=["case", "item"], how="left", maintain_order="left")["len"].fill_null(0)
        return np.log1p(often.to_numpy()) + 1e-3 * np.log1p(counts)  # popularity decides among equals

    on_valid = scores(pairs.valid, "valid")
    start = time.perf_counter()
    test_scores = scores(pairs.cases, part)
    seconds = time.perf_counter() - start
    return Predicted({}, 1, 0.0, seconds, arrays=models.calibrated(on_valid, pairs.valid, test_scores))


def scored_answers(name: str, corpus: Corpus, part: Part, pairs: PairSplits, progress: Progress) -> Predicted:
    """Yes by the score of a RecTools model for the item after the user's history."""
    tables = {"train": training(corpus), "valid": histories(corpus, "valid"), "test": histories(corpus, part)}
    for which, cases in (("valid_pairs", pairs.valid), ("test_pairs", pairs.cases)):
        tables[which] = pl.DataFrame({"case": cases.user, "item": cases.item})
    about, written = environment.run({"kind": "pairs", "model": name}, tables, progress)
    quality = models.area(pairs.valid)
    qualities = [quality(column.to_numpy()) for column in written["valid_scores"]]
    best = int(np.argmax(qualities))
    on_valid, test_scores = (written[f"{which}_scores"][str(best)].to_numpy() for which in ("valid", "test"))
    arrays = models.calibrated(on_valid, pairs.valid, test_scores)
    seconds = about["train_seconds"][best], about["predict_seconds"][best]
    return Predicted(about["grid"][best], len(qualities), *seconds, {"auc": qualities[best]}, arrays)


def visit_makers(
    corpus: Corpus, task: Task, part: Part, max_events: int, seed: int, progress: Progress
) -> dict[str, Make]:
    """Baselines of a task about a user alone."""
    valid = pair_cases(corpus, task, "valid", max_events, seed)
    cases = pair_cases(corpus, task, part, max_events, seed)
    if not len(valid.user) or not len(cases.user):
        return {}
    tell = progress.stage(f"{task.name}: recency and frequency")
    return {"recency and frequency": partial(models.visit_regression, corpus, task, part, valid, cases, seed, tell)}


def text_makers(corpus: Corpus, task: Task, part: Part, seed: int, progress: Progress) -> dict[str, Make]:
    """Baselines of a task over texts."""
    by_part: dict[str, tuple[list[str], np.ndarray]] = {}
    for which in PARTS:
        texts = answered_texts(corpus, [task], which, [task.seen[:1]], seed)
        answers = texts.numbers[:, 0] if task.answer.values else texts.answers[:, 0].astype(np.int64)
        by_part[which] = models.shown_text(task, texts.frame), answers
    if not all(texts for texts, _ in by_part.values()):
        return {}
    name = "TF-IDF + ridge regression" if task.answer.values else "TF-IDF + logistic regression"
    tell = progress.stage(f"{task.name}: {name}")
    make: Mapping[str, Any] = {
        "train": by_part["train"],
        "valid": by_part["valid"],
        "texts": by_part[part][0],
        "tell": tell,
    }
    return {name: partial(models.text_regression, task, **make)}
