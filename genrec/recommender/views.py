"""The data sets of a loaded run: their catalogues, users and vectors, by name."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from .. import store as stores
from ..catalogue.catalogue import Catalogue
from ..catalogue.titles import UNSEEN
from ..data.dataset import Dataset
from ..errors import DataError, GenrecError, UnknownNameError
from ..process import Process
from ..rows.corpus import Corpus, first_token, plain_encoder
from ..tasks.task import Task

if TYPE_CHECKING:
    from ..language.titles import Titles
    from ..model.backbone import Backbone
    from ..run.adapter import Adapter
    from ..run.texts import TextVectors, Vectors
    from ..scoring.scorer import Scorer


@dataclass(frozen=True)
class View:
    """One data set of a loaded run: its catalogue, and the corpus by which its rows are made."""

    corpus: Corpus
    catalogue: Catalogue
    scorer: "Scorer"

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.catalogue.dataset

    def task(self, name: str) -> Task:
        """A task of the data set; raises UnknownNameError for one that it was not trained on."""
        for task in self.corpus.tasks:
            if task.name == name:
                return task
        raise UnknownNameError("task", name, [t.name for t in self.corpus.tasks], f"for data set {self.name}")

    @cached_property
    def directions(self) -> np.ndarray:
        """The vector (catalogue, width) of each item at length 1."""
        rows = self.scorer.item_rows(self.name)[0][: self.catalogue.items.height].double().cpu().numpy()
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    def cosine(self, items: Sequence[str]) -> np.ndarray:
        """Mean cosine (catalogue,) of every item's vector to those of some items."""
        index = [self.catalogue.place(i) for i in items]
        return np.asarray(self.directions @ self.directions[index].mean(0))

    @cached_property
    def _read_titles(self) -> "dict[str, Titles]":
        return {}

    def titles(self, language: "Backbone") -> "Titles":
        """Its titles as the pretrained backbone reads them, made once."""
        from ..language.titles import read_titles

        if self.name not in self._read_titles:
            self._read_titles[self.name] = read_titles(language, self.catalogue.items)
        return self._read_titles[self.name]


class Views:
    """All data sets of a loaded run; items may be added to their catalogues."""

    def __init__(
        self, adapter: "Adapter", scorer: "Scorer", store: stores.Store, text_encoder: str | None = None
    ) -> None:
        self.adapter, self.scorer, self.store, self._text_encoder = adapter, scorer, store, text_encoder
        self.datasets: tuple[str, ...] = adapter.manifest.vocabulary.datasets
        self._process = Process()
        self._items = dict(adapter.catalogues)
        self._views: dict[str, View] = {}
        self._lock = threading.Lock()  # no view is made of a catalogue that is being replaced

    def use(self, scorer: "Scorer") -> None:
        """Replace the scorer by another one of the same model."""
        with self._lock:
            self.scorer = scorer
            self._views.clear()

    def dataset(self, name: str | None) -> str:
        """The data set of this name, the first without one; raises UnknownNameError for one that the run lacks.

        Every answer begins here: raises UnavailableError in a fork of the process that loaded the run.
        """
        self._process.check()
        if name is None:
            return self.datasets[0]
        if name not in self.datasets:
            raise UnknownNameError("data set", name, self.datasets, "in this run")
        return name

    def of(self, name: str | None) -> View:
        """The view of a data set; the first's without a name."""
        name = self.dataset(name)
        with self._lock:
            if name not in self._views:
                self._views[name] = self._made(name)
            return self._views[name]

    def with_catalogue(self, name: str | None) -> View:
        """The view of a data set that has items; raises GenrecError for one of texts only."""
        view = self.of(name)
        if not view.catalogue.items.height:
            raise GenrecError(f"data set {view.name} has texts only: there are no users and items to give vectors of")
        return view

    def knows(self, name: str, user: str | None, item: str | None) -> bool:
        """Whether a data set has this user and this item; None is not checked."""
        has_user = user is None or stores.has_user(self.store, name, user)
        return has_user and (item is None or item in self.of(name).catalogue.index)

    def place(self, user: str | None, item: str | None, name: str | None) -> tuple[View, tuple[str, ...]]:
        """The data set that a user or item belongs to, the one named or the first that has them, and a warning if
        others have, too."""
        if name is not None:
            return self.of(name), ()
        knowing: list[str] = []
        for user_id, item_id in ((user, item), (user, None), (None, item)):  # one unknown does not hide the other
            if knowing or (user_id is None and item_id is None):
                continue
            knowing = [each for each in self.datasets if self.knows(each, user_id, item_id)]
            about = [f"{kind} {value}" for kind, value in (("user", user_id), ("item", item_id)) if value]
        if len(knowing) > 1:
            warning = (
                f"{' and '.join(about)} is known to {', '.join(knowing)}; {knowing[0]} is used, "
                "--dataset selects another"
            )
            return self.of(knowing[0]), (warning,)
        return self.of(knowing[0] if knowing else None), ()

    def _made(self, name: str) -> View:
        tokenizer = self.adapter.tokenizer
        items = self._items.get(
            name, pl.DataFrame(schema={"item_id": pl.String, "title": pl.String, "train_count": pl.Int64})
        )
        items = items.with_columns(pl.col("title").str.replace_all(UNSEEN.pattern, " ").str.strip_chars())
        empty = pl.DataFrame(schema={"row": pl.UInt32, "event": pl.String})
        users = pl.DataFrame(schema={"user_id": pl.String})
        corpus = Corpus(
            dataset=Dataset(name, empty, items.drop("train_count"), users),
            tasks=tuple(self.adapter.tasks_of(name)),
            vocabulary=self.adapter.manifest.vocabulary,
            events=None,
            encode=plain_encoder(tokenizer),
            headers={},
            bos=first_token(tokenizer),
            all_tasks=tuple(self.adapter.tasks),
        )
        index = {i: n for n, i in enumerate(items["item_id"].to_list())}
        return View(corpus, Catalogue(name, items, index), self.scorer)

    # --- items that come later ------------------------------------------------------------------------------------

    @cached_property
    def text_vectors(self) -> "TextVectors":
        """Texts as vectors in the space of the items."""
        from ..run.texts import TextVectors

        return TextVectors(self.adapter, self._text_encoder)

    def text_rows(self, name: str, texts: Sequence[str]) -> np.ndarray:
        """The rows (texts, width) that items with these texts would have."""
        from ..run.texts import rows_of_texts

        return rows_of_texts(self.adapter.model.rows_of(name), self.text_vectors(texts, name))

    def check_items(
        self, items: Sequence[Mapping[str, object]], dataset: str | None
    ) -> tuple[View, pl.DataFrame, "Vectors"]:
        """The data set, its items to add as a frame (`Catalogue.check`), and the vectors (items, width) of their
        texts; raises DataError for an item without any, and RunError as `TextVectors`."""
        from ..model.item_texts import item_texts

        view = self.with_catalogue(dataset)
        frame = view.catalogue.check(items)
        texts = item_texts(frame)
        if "" in texts:
            item_id = frame["item_id"][texts.index("")]
            raise DataError(f"item {item_id!r}: a title or an attribute of text is needed, to rank it by")
        return view, frame, self.text_vectors(texts, view.name)

    def add_items(self, items: Sequence[Mapping[str, object]], dataset: str | None) -> None:
        """Add items to a catalogue, or replace all attributes of items that it has; all or nothing."""
        view, frame, vectors = self.check_items(items, dataset)
        name = view.name
        catalogue = self.of(name).catalogue  # as it is now: the check pauses, and another job may have added items
        index = np.asarray([catalogue.index.get(i, -1) for i in frame["item_id"]], dtype=np.int64)
        new = index < 0
        cold = ~new & ~self.adapter.model.rows_of(name).warm.cpu().numpy()[index]
        items_now = catalogue.grown(frame)
        if cold.any():
            self.scorer.reword(name, index[cold], vectors[cold])
        if new.any():
            self.scorer.extend(name, vectors[new])
        with self._lock:
            self._items[name] = items_now
            self._views.pop(name, None)


def with_headers(view: View, store: stores.Store, users: Sequence[str], columns: Sequence[str]) -> Corpus:
    """The corpus of a data set with the attributes of some users as headers."""
    from ..rows.corpus import user_header

    headers = {}
    for user in {u for u in users if u}:
        if header := user_header(stores.user_attributes(store, view.name, user), columns, view.corpus.encode):
            headers[user] = header
    return replace(view.corpus, headers=headers)
