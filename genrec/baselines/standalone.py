"""Baselines of libraries that genrec's own environment cannot hold: RecTools and Surprise. Never imports genrec.

Usage: python standalone.py FOLDER, with the Python of an environment made from requirements.txt.
FOLDER/job.json says which model, and the parquet files beside it hold integers from 0 for users, items and cases:
    train          user, item, place (oldest first), rating of svd++
    valid, test    case, item, place: what is known before each case is asked about; a case may lack it
    valid_targets  case, item: the right answers, by which settings are chosen
    valid_pairs, test_pairs   case, item of scores; user, item, rating of svd++
The answers are lists.parquet (case, item, rank, removed) or pairs.parquet (scores of test_pairs, by setting those of
valid_pairs) and, last, done.json. Lines of JSON on stdout say how far it is.
"""

import copy
import itertools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

KNN = [
    {"weighting": weighting, "neighbours": k} for weighting in ("cosine", "tf-idf", "bm25") for k in (20, 50, 100, 200)
]
EASE = [{"lambda": value} for value in (20, 50, 100, 200, 500, 1000)]
MANY = 8_000  # items, from which an inverse takes a minute on a CPU
EASE_MANY = [{"lambda": value} for value in (50, 200, 500)]
SASREC = [{"size": 128, "dropout": 0.2}, {"size": 64, "dropout": 0.2}, {"size": 128, "dropout": 0.5}]
LARGE = 2**29  # item scores of one pass over the training part, from which a setting takes tens of minutes on a CPU
SASREC_LARGE = [{"size": 128, "dropout": 0.5}, {"size": 64, "dropout": 0.5}]
LONGEST = 200  # items of a session
STEPS = 60  # between two validations, at least
PATIENCE = 4  # validations without improvement that end a training
MOST = 60  # validations of a training
SVD = [
    {"factors": factors, "epochs": epochs, "regularisation": reg}
    for factors in (20, 50)
    for epochs in (20, 40)
    for reg in (0.05, 0.1)
]


def tell(stage: str, done: int, total: int) -> None:
    """One line of progress."""
    sys.stdout.write(json.dumps({"stage": stage, "done": done, "total": total}) + "\n")
    sys.stdout.flush()


def write(path: Path, frame: pd.DataFrame) -> None:
    """A parquet file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    frame.to_parquet(partial, index=False)
    os.replace(partial, path)


class Histories:
    """Histories as RecTools wants them, over the items that the training part has; others tell these models nothing."""

    def __init__(self, train: pd.DataFrame) -> None:
        self.items = np.unique(train["item"])

    def dataset(self, owner: str, frame: pd.DataFrame, once: bool) -> Any:
        """A RecTools data set with one user per `owner`; once: an item counts once per user.

        Case -1 has had the last item, so that every matrix is as wide as that of the training part.
        """
        from rectools import Columns
        from rectools.dataset import Dataset, IdMap, Interactions

        frame = frame[frame["item"].isin(self.items)]
        if once:
            frame = frame.drop_duplicates([owner, "item"], keep="last")
        if owner == "case":
            last = pd.DataFrame({"case": [-1], "item": self.items[-1:], "place": [0]})
            frame = pd.concat([last, frame[["case", "item", "place"]]])
        table = pd.DataFrame(
            {
                Columns.User: frame[owner].to_numpy(),
                Columns.Item: frame["item"].to_numpy(),
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(frame["place"].to_numpy(), unit="s"),
            }
        )
        users, items = IdMap.from_values(table[Columns.User].to_numpy()), IdMap(self.items)
        return Dataset(users, items, Interactions.from_raw(table, users, items))


def fitted(kind: str, setting: dict[str, Any], data: Any) -> Any:
    """A fitted RecTools model."""
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
    from rectools.models import EASEModel, ImplicitItemKNNWrapperModel, PopularModel

    if kind == "popularity":
        model = PopularModel(popularity="n_interactions")
    elif kind == "EASE":
        model = EASEModel(regularization=setting["lambda"], recommend_n_threads=1)
    else:
        of = {"cosine": CosineRecommender, "tf-idf": TFIDFRecommender, "bm25": BM25Recommender}
        model = ImplicitItemKNNWrapperModel(of[setting["weighting"]](K=setting["neighbours"], num_threads=1))
    return model.fit(data)


def ndcg(lists: pd.DataFrame, targets: pd.DataFrame) -> float:
    """NDCG@10 of lists; a case without a list counts 0."""
    from rectools import Columns
    from rectools.metrics import NDCG

    right = pd.DataFrame({Columns.User: targets["case"], Columns.Item: targets["item"]})
    return float(NDCG(k=10, divide_by_achievable=True).calc(lists, right))


def asked(model: Any, data: Any, k: int, removed: bool) -> pd.DataFrame:
    """A model's lists for every case of a data set."""
    cases = data.user_id_map.external_ids
    cases = cases[cases >= 0]
    return model.recommend(cases, data, k=k, filter_viewed=removed, on_unsupported_targets="ignore")


def known_targets_module() -> Any:
    """RecTools' training step, with scores only where there is a target: padding is most of a batch of short
    histories, and the loss leaves it out anyway."""
    import torch
    from rectools.models.nn.transformers.lightning import TransformerLightningModule

    class KnownTargets(TransformerLightningModule):  # type: ignore[misc]
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
            items = self.torch_model.item_model.get_all_embeddings()
            known = batch["y"] != 0
            states = self.torch_model.encode_sessions(batch, items)[known]
            return torch.nn.functional.cross_entropy(states @ items.T, batch["y"][known])

    return KnownTargets


def quiet_trainer() -> Any:
    """Lightning's trainer without files and bars; RecTools sets the epochs."""
    from pytorch_lightning import Trainer

    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def sasrec(
    data: Any, train: pd.DataFrame, score: Callable[[Any], float], seed: int
) -> Iterator[tuple[dict[str, Any], float, float, Any]]:
    """SASRec with softmax over the catalogue (Kang & McAuley 2018; Klenitskiy & Vasilev 2023): per setting the epochs
    that were best on validation, their score, the seconds of training and the model."""
    import pytorch_lightning as pl
    from rectools.models import SASRecModel

    length = train.groupby("user").size()
    longest = int(min(LONGEST, max(2, math.ceil(length.quantile(0.95)))))
    batch = 128 if len(length) >= 4096 else 32
    every = max(1, math.ceil(STEPS / max(1, len(length) // batch)))
    scores = int(np.minimum(length, longest).sum()) * train["item"].nunique()
    grid = SASREC if scores < LARGE else SASREC_LARGE
    for setting in grid:
        pl.seed_everything(seed, verbose=False)
        model = SASRecModel(
            n_blocks=2,
            n_heads=2,
            n_factors=setting["size"],
            dropout_rate=setting["dropout"],
            session_max_len=longest,
            loss="softmax",
            lr=1e-3,
            batch_size=batch,
            lightning_module_type=known_targets_module(),
            get_trainer_func=quiet_trainer,
        )
        best, at, weights, seconds, taken = -1.0, 0, None, 0.0, 0.0
        for number in range(1, MOST + 1):
            start = time.perf_counter()
            model.fit_partial(data, min_epochs=every, max_epochs=every)
            taken += time.perf_counter() - start
            found = score(model)
            if found > best:
                best, at, seconds = found, number, taken
                weights = copy.deepcopy(model.torch_model.state_dict())
            over = number - at >= PATIENCE
            tell("SASRec, " + ", ".join(f"{k} {v}" for k, v in setting.items()), MOST if over else number, MOST)
            if over:
                break
        model.torch_model.load_state_dict(weights)
        shown = {**setting, "epochs": at * every, "session": longest, "batch": batch, "blocks": 2, "heads": 2}
        yield shown, best, seconds, model


def settings_of(kind: str, train: pd.DataFrame) -> list[dict[str, Any]]:
    """The settings that are searched; where users take items again, whether the times count is one of them."""
    ease = EASE if train["item"].nunique() < MANY else EASE_MANY
    grids: dict[str, list[dict[str, Any]]] = {"popularity": [{}], "ItemKNN": KNN, "EASE": ease}
    grid = grids[kind]
    if not train.duplicated(["user", "item"]).any() or kind == "popularity":
        return grid
    return [{**s, "count": count} for s, count in itertools.product(grid, ("times", "once"))]


def lists(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Lists for every test case under the protocols that the job names, by the settings that are best on validation."""
    import rectools.models  # noqa: F401  its seconds are nobody's training

    kind, k = job["model"], job["k"]
    train = pd.read_parquet(folder / "train.parquet")
    valid, test = (pd.read_parquet(folder / f"{part}.parquet") for part in ("valid", "test"))
    targets = pd.read_parquet(folder / "valid_targets.parquet")
    histories = Histories(train)
    criterion = job["criterion"] == "removed"

    def score(model: Any, data: Any) -> float:
        return ndcg(asked(model, data, 10, criterion), targets)

    best: tuple[float, Any] | None = None
    found: dict[str, Any] = {}
    searched = 0
    if kind == "SASRec":
        data = histories.dataset("case", valid, False)
        every = sasrec(histories.dataset("user", train, False), train, lambda m: score(m, data), job["seed"])
    else:
        every = simple(kind, settings_of(kind, train), histories, train, score, valid)
    for setting, value, seconds, model in every:
        searched += 1
        if best is None or value > best[0]:
            best, found = (value, model), {"settings": setting, "valid": {"ndcg@10": value}, "train_seconds": seconds}
    assert best is not None
    data = histories.dataset("case", test, found["settings"].get("count") == "once")
    start = time.perf_counter()
    parts = []
    for protocol in job["protocols"]:
        own = asked(best[1], data, k, protocol == "removed")
        parts.append(
            pd.DataFrame(
                {"case": own["user_id"], "item": own["item_id"], "rank": own["rank"], "removed": protocol == "removed"}
            )
        )
    seconds = time.perf_counter() - start
    write(folder / "lists.parquet", pd.concat(parts))
    return {**found, "searched": searched, "predict_seconds": seconds / len(job["protocols"])}


def simple(
    kind: str,
    grid: list[dict[str, Any]],
    histories: Histories,
    train: pd.DataFrame,
    score: Callable[[Any, Any], float],
    valid: pd.DataFrame,
) -> Iterator[tuple[dict[str, Any], float, float, Any]]:
    """Every setting with its score on validation, its seconds of training and its model."""
    data = {}
    for once in {s.get("count") == "once" for s in grid}:
        data[once] = histories.dataset("user", train, once), histories.dataset("case", valid, once)
    for number, setting in enumerate(grid):
        tell(f"{kind}: settings", number, len(grid))
        fit_on, ask = data[setting.get("count") == "once"]
        start = time.perf_counter()
        model = fitted(kind, setting, fit_on)
        seconds = time.perf_counter() - start
        yield setting, score(model, ask), seconds, model
    tell(f"{kind}: settings", len(grid), len(grid))


def pairs(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Scores of the pairs of case and item by every setting; the caller chooses among them."""
    import rectools.models  # noqa: F401
    from scipy import sparse

    kind = job["model"]
    train = pd.read_parquet(folder / "train.parquet")
    histories = Histories(train)
    grid = settings_of(kind, train)
    frames = {part: pd.read_parquet(folder / f"{part}.parquet") for part in ("valid", "test")}
    wanted = {part: pd.read_parquet(folder / f"{part}_pairs.parquet") for part in ("valid", "test")}
    found: dict[str, list[np.ndarray]] = {"valid": [], "test": []}
    fits, predictions = [], []
    for number, setting in enumerate(grid):
        tell(f"{kind}: settings", number, len(grid))
        once = setting.get("count") == "once"
        start = time.perf_counter()
        model = fitted(kind, setting, histories.dataset("user", train, once))
        fits.append(time.perf_counter() - start)
        weight = sparse.csr_matrix(model.model.similarity) if kind == "ItemKNN" else model.weight
        for part, frame in frames.items():
            start = time.perf_counter()
            frame = frame[frame["item"].isin(histories.items)]
            if once:
                frame = frame.drop_duplicates(["case", "item"])
            shape = (int(max(wanted[part]["case"].max(), frame["case"].max() if len(frame) else 0)) + 1,)
            column = np.searchsorted(histories.items, frame["item"])
            of = sparse.csr_matrix((np.ones(len(frame)), (frame["case"], column)), shape=(*shape, len(histories.items)))
            found[part].append(pair_scores(of, weight, wanted[part], histories.items))
            seconds = time.perf_counter() - start
        predictions.append(seconds)
    tell(f"{kind}: settings", len(grid), len(grid))
    for part, columns in found.items():
        write(folder / f"{part}_scores.parquet", pd.DataFrame({str(n): c for n, c in enumerate(columns)}))
    return {"grid": grid, "train_seconds": fits, "predict_seconds": predictions}


def pair_scores(of: Any, weight: Any, wanted: pd.DataFrame, items: np.ndarray) -> np.ndarray:
    """Scores of (case, item) pairs: history times weights; an item that training lacks scores lowest."""
    found = np.full(len(wanted), -np.inf)
    case, item = wanted["case"].to_numpy(), wanted["item"].to_numpy()
    known = np.isin(item, items)
    column = np.searchsorted(items, np.where(known, item, items[0]))
    step = max(1, 2**24 // len(items))
    for start in range(0, of.shape[0], step):
        mine = np.nonzero(known & (case >= start) & (case < start + step))[0]
        if not len(mine):
            continue
        scores = of[start : start + step] @ weight
        dense = scores.toarray() if hasattr(scores, "toarray") else np.asarray(scores)
        found[mine] = dense[case[mine] - start, column[mine]]
    lowest = found[np.isfinite(found)].min() if np.isfinite(found).any() else 0.0
    return np.where(np.isfinite(found), found, lowest)


def svd(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """SVD++ (Koren 2008): ratings of the test pairs by the settings with the least RMSE on validation."""
    from surprise import Dataset, Reader, SVDpp

    train, valid, test = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "valid_pairs", "test_pairs")
    )
    scale = (float(train["rating"].min()), float(train["rating"].max()))
    columns = ["user", "item", "rating"]
    data = Dataset.load_from_df(train[columns], Reader(rating_scale=scale)).build_full_trainset()

    def predicted(model: Any, frame: pd.DataFrame) -> np.ndarray:
        return np.asarray([model.predict(u, i).est for u, i in zip(frame["user"], frame["item"], strict=True)])

    best, kept = math.inf, None
    found: dict[str, Any] = {}
    for number, setting in enumerate(SVD):
        tell("SVD++: settings", number, len(SVD))
        start = time.perf_counter()
        model = SVDpp(
            n_factors=setting["factors"],
            n_epochs=setting["epochs"],
            reg_all=setting["regularisation"],
            random_state=job["seed"],
            cache_ratings=True,
        )
        model.fit(data)
        seconds = time.perf_counter() - start
        error = float(np.sqrt(np.mean((predicted(model, valid) - valid["rating"]) ** 2)))
        if error < best:
            best, kept = error, model
            found = {"settings": setting, "valid": {"rmse": error}, "train_seconds": seconds, "searched": len(SVD)}
    tell("SVD++: settings", len(SVD), len(SVD))
    start = time.perf_counter()
    answers = predicted(kept, test)
    seconds = time.perf_counter() - start
    write(folder / "ratings.parquet", pd.DataFrame({"rating": answers}))
    return {**found, "predict_seconds": seconds}


def main(folder: Path) -> None:
    """Do the job of a folder."""
    warnings.simplefilter("ignore")
    job = json.loads((folder / "job.json").read_text())
    found = {"lists": lists, "pairs": pairs, "ratings": svd}[job["kind"]](folder, job)
    (folder / "done.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
