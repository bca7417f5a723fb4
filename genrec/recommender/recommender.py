"""Recommender, the interface of every front end: users, items and texts in, data frames out."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import polars as pl

from .. import store as stores
from ..frames import Table
from ..ids import Id, Ids, as_id, as_ids, as_texts
from ..progress import Stage
from ..rows.corpus import plain_encoder
from ..tasks.task import Task
from ..turns import encoded
from . import explanations, lists, predictions, vectors
from .given import as_history
from .histories import outcome_of
from .language import Language, decoded, first_tokens
from .records import Records, store_of
from .replies import Explanations, Predictions, Recommendations
from .users import close_users, unknown_users
from .views import Views

if TYPE_CHECKING:
    from ..model.backbone import Backbone
    from ..run.adapter import Adapter
    from ..run.folder import Run
    from ..scoring.scheduler import Scheduler
    from ..scoring.scorer import Scorer


class Recommender:
    """A run, loaded."""

    def __init__(
        self,
        adapter: "Adapter",
        scorer: "Scorer",
        store: stores.Store,
        load_language: "Callable[[], Backbone] | None" = None,
        text_encoder: str | None = None,
        run: "Run | None" = None,
    ) -> None:
        self.adapter, self.store = adapter, store
        self.views = Views(adapter, scorer, store, text_encoder)
        self._language = Language(load_language, bool(adapter.tokenizer.chat_template))
        self.records = Records(store, run)
        self.datasets = self.views.datasets

    @classmethod
    def load(
        cls,
        run: "str | Path | Run",
        *,
        quantize: Literal["none", "nf4"] | None = None,
        device: str | None = None,
        allow_mismatch: bool = False,
        model: str | None = None,
        store: str | None = None,
    ) -> Self:
        """Load a run folder, an adapter folder alone, or an adapter of the hub (see `open_run`).

        quantize: None as trained. model: where the backbone is, if it has moved. store: URL of one that servers share.
        """
        from ..run.opened import open_run

        folder = open_run(run) if isinstance(run, str | Path) else run
        folder.check()  # before what takes seconds to import
        from ..model.backbone import load_language
        from ..run.adapter import load_adapter
        from ..run.loaded import PREFIX_BYTES
        from ..scoring.scorer import Scorer

        manifest = folder.manifest()
        location = model or folder.local_model("model")
        if quantize is None:
            quantize = manifest.options.get("quantize", "none")
        adapter = load_adapter(
            folder.adapter, quantize=quantize, device=device, allow_mismatch=allow_mismatch, place=location
        )
        encoder = folder.local_model("item_text_model")
        scorer = Scorer(adapter.model, adapter.counts, prefix_bytes=PREFIX_BYTES)
        source = adapter.manifest.backbone
        language = partial(
            load_language, location or source.model, device=device, expected=source, allow_mismatch=allow_mismatch
        )
        return cls(adapter, scorer, store_of(folder, adapter.manifest, store), language, encoder, folder)

    @property
    def scorer(self) -> "Scorer":
        """The scorer of the model."""
        return self.views.scorer

    def scheduler(self, limit: int, prefix_bytes: int) -> "Scheduler":
        """A thread that runs jobs on this run, whose reads go through the model together; not started yet.

        limit: jobs waiting or under way at most. prefix_bytes: memory for the histories read last.
        """
        from ..scoring.scheduler import Scheduler, SharedScorer

        scorer = SharedScorer(self.scorer.model, self.scorer.counts, prefix_bytes=prefix_bytes)
        self.views.use(scorer)
        return Scheduler(scorer, limit)

    def prefix_counts(self) -> dict[str, int]:
        """Histories that were in memory (hits), those that were not (misses), and the bytes in use."""
        prefixes = self.scorer.prefixes
        return {"hits": prefixes.hits, "misses": prefixes.misses, "bytes": prefixes.size}

    def forget_histories(self) -> None:
        """Drop the histories that are in memory, such as those of a deleted user."""
        self.scorer.prefixes.clear()

    def tasks(self, dataset: str | None = None) -> list[str]:
        """Tasks trained on a data set."""
        return list(self.adapter.manifest.tasks[self.views.dataset(dataset)])

    def task_definitions(self) -> dict[str, Task]:
        """The tasks of the run by name, each as its file defines it."""
        return dict(self.adapter.tasks)

    def answers(self, dataset: str | None = None) -> dict[str, list[str]]:
        """The answers of each task of a data set; none for tasks whose answers are items."""
        return {t.name: list(t.answer.choices) for t in self.views.of(dataset).corpus.tasks}

    def unit(self, task: str, dataset: str | None = None) -> str:
        """The unit of a task: `event` (a user and an item), `user_time` (a user), `basket` or `text`."""
        return self.views.of(dataset).task(task).unit

    def all_users(self, dataset: str | None = None) -> list[str]:
        """Users of a data set."""
        return stores.users(self.store, self.views.dataset(dataset))

    def has_user(self, user: str, dataset: str | None = None) -> bool:
        """Whether a data set has this user."""
        return stores.has_user(self.store, self.views.dataset(dataset), user)

    def known_users(self, users: Sequence[str], dataset: str | None = None) -> set[str]:
        """Those of some users whom a data set has."""
        return stores.known_users(self.store, self.views.dataset(dataset), users)

    def some_user(self, dataset: str | None = None) -> str | None:
        """A user of a data set, for examples; None if it has none."""
        return next(iter(stores.some_users(self.store, self.views.dataset(dataset), 1)), None)

    def close_users(self, user: str, dataset: str | None = None, k: int = 3) -> list[str]:
        """The k ids of a data set that are most like one that it does not have."""
        return close_users(self.store, self.views.dataset(dataset), user, k)

    def unknown_users(self, users: Ids, dataset: str | None = None, show_users: bool = True) -> tuple[str, ...]:
        """A warning for each of some users whom a data set does not know, as `recommend` gives it."""
        name, ids = self.views.dataset(dataset), as_ids(users, "users")
        return unknown_users(self.store, name, ids, stores.known_users(self.store, name, ids), show_users)

    def history(self, user: Id, dataset: str | None = None) -> pl.DataFrame:
        """A user's interactions, oldest first: item_id, event, rating. Raises UnknownNameError for an unknown user."""
        return stores.history(self.store, self.views.dataset(dataset), as_id(user, "user"))

    def favoured(self, user: str, dataset: str | None = None) -> pl.DataFrame:
        """A user's history without the items that were rated below the user's mean or, without a rating, not wanted."""
        return vectors.favoured(self.views, self.views.dataset(dataset), self.history(user, dataset))

    def outcome_of(self, dataset: str, event: str | None, value: float | None) -> dict[str, str | float]:
        """The `event` and the `rating` of an interaction of a kind and with a value in this data set.

        If items are rated, `like` is the best rating and `dislike` the worst. Raises DataError for a rating beyond
        those of the data.
        """
        return outcome_of(self.views, self.views.dataset(dataset), event, value)

    def catalogue(self, dataset: str | None = None) -> pl.DataFrame:
        """The items of a data set: item_id, title, attributes, train_count (interactions in the training part)."""
        return self.views.of(dataset).catalogue.items

    def has_catalogue(self, dataset: str) -> bool:
        """Whether a data set has items that can be recommended."""
        return self.catalogue(dataset).height > 0 and "next_item" in self.tasks(dataset)

    def has_item(self, item: str, dataset: str | None = None) -> bool:
        """Whether the catalogue of a data set has this item."""
        return item in self.views.of(dataset).catalogue.index

    def titles(self, items: Sequence[str], dataset: str | None = None) -> list[str | None]:
        """The titles of some items; None for one that the catalogue lacks or has no title for."""
        catalogue = self.views.of(dataset).catalogue
        return [catalogue.titles[catalogue.index[i]] if i in catalogue.index else None for i in items]

    def attributes(self, items: Sequence[str], dataset: str | None = None) -> dict[str, dict[str, object]]:
        """Attributes of some items besides their titles; nothing of those that the catalogue lacks."""
        catalogue = self.views.of(dataset).catalogue
        return {item: catalogue.attributes(item) for item in items if item in catalogue.index}

    def search_items(self, text: str, k: int = 10, dataset: str | None = None) -> list[str]:
        """Ids of the k items at most that an id or a title names, then of those whose titles are most like the text."""
        return self.views.of(dataset).catalogue.search(text, k)

    def find_items(self, title: str, dataset: str | None = None) -> pl.DataFrame:
        """Items (item_id, title) that a title names, the most frequent first: to the letter (case, accents and articles
        aside), else those that hold all its words, else those that differ by a typo."""
        return self.views.of(dataset).catalogue.find(title)

    def check_items(self, items: Sequence[Mapping[str, object]], dataset: str | None = None) -> pl.DataFrame:
        """Items to add as a frame with the catalogue's columns; attributes that an item lacks are null, and of one
        that is given twice the last counts.

        items: item_id, title, and any attributes of the catalogue. Raises DataError for an item that cannot be added,
        naming it and the column, and RunError as `TextVectors`.
        """
        return self.views.check_items(items, dataset)[1]

    def add_items(self, items: Sequence[Mapping[str, object]], dataset: str | None = None) -> None:
        """Add items to the catalogue, or replace all attributes of items that it has; they can be ranked at once.

        An added item is ranked by its text, as items without training interactions are. The trained vector of an item
        with interactions stays. All or nothing; raises as `check_items`.
        """
        self.views.add_items(items, dataset)

    def recommend(
        self,
        users: Ids | None = None,
        *,
        history: Ids | Table | None = None,
        k: int = 10,
        exclude: Ids = (),
        exclude_seen: bool = True,
        candidates: Ids | None = None,
        where: str | pl.Expr | None = None,
        like: Ids = (),
        basket: Ids = (),
        items_as: Literal["token", "title"] = "token",
        diversity: float = 0.0,
        dataset: str | None = None,
        show_users: bool = True,
        progress: Stage | None = None,
    ) -> Recommendations:
        """The k best items for each user, or for a history of item ids (oldest first), of `(id, rating)` pairs, or of a
        table with item_id and any of event, rating and timestamp; exact over the whole catalogue.

        Items of the history are left out if `exclude_seen`; `exclude`, `candidates` and `where` (SQL over the
        catalogue's columns; `genre = 'Comedy'` asks whether a list holds it) narrow the list, and so does `like`: the
        NEAREST items whose vectors are nearest to these, among those that the other conditions leave. basket: what goes
        with these items, for the user or for anyone; seen items may appear. probability: softmax over the catalogue
        after seen-removal and before these filters. If nothing is known of a user the list is the most popular
        items, strategy `popular`, with their share of the training interactions as score; a warning names each user who
        is unknown, beside the nearest ids if `show_users`. diversity: from 0 to 1, how much the list avoids items that
        are like those above them (`diversify`). progress: called with the users done and in all. items_as: `title` asks
        the backbone as it was pretrained, which reads the most recent titles of the history and goes on with titles of
        the catalogue: strategy `title`, the score is the title's log-probability.
        Raises UnknownNameError for unknown items, DataError for what is no id.
        """
        request = lists.ListRequest(
            users=None if users is None else as_ids(users, "users"),
            history=None if history is None else as_history(history),
            k=k,
            exclude=as_ids(exclude, "exclude"),
            exclude_seen=exclude_seen,
            candidates=None if candidates is None else as_ids(candidates, "candidates"),
            where=where,
            like=as_ids(like, "like"),
            basket=as_ids(basket, "basket"),
            items_as=items_as,
            diversity=diversity,
            dataset=dataset,
            show_users=show_users,
        )
        return lists.recommend(self.views, self._language, request, progress)

    def similar(
        self,
        items: Ids,
        k: int = 10,
        dataset: str | None = None,
        *,
        where: str | pl.Expr | None = None,
        exclude: Ids = (),
    ) -> Recommendations:
        """The k items with the highest (mean) cosine to one or several; score is that cosine.

        where, exclude: as in `recommend`. frame: dataset, rank, item_id, title, score.
        """
        named = as_ids(items, "items")
        view, warnings = self.views.place(None, next(iter(named), None), dataset)
        frame, list_warnings = lists.similar(view, named, k, where, as_ids(exclude, "exclude"))
        return Recommendations(frame, warnings + list_warnings)

    def explain(
        self,
        items: Ids,
        *,
        user: Id | None = None,
        history: Ids | Table | None = None,
        reasons: int = 3,
        dataset: str | None = None,
    ) -> Explanations:
        """The items of a history that raise given items' scores most, measured by leaving them out; raises
        UnknownNameError for unknown ids."""
        user_id = None if user is None else as_id(user, "user")
        past = None if history is None else as_history(history)
        return explanations.explanations_of(self.views, as_ids(items, "items"), user_id, past, reasons, dataset)

    def predict(
        self,
        task: str,
        *,
        users: Ids | None = None,
        history: Ids | Table | None = None,
        items: Ids | None = None,
        texts: str | Sequence[str] | None = None,
        dataset: str | None = None,
    ) -> Predictions:
        """The outcome of a task for pairs of users and items, for users, or for texts. One user, or a history as
        `recommend` takes it, stands for as many as there are items, and one item for as many as there are users.

        value: the expected value for numbers, else the likeliest answer (as text). probabilities: calibrated, in the
        order of `choices`, summing to 1.
        """
        request = predictions.PredictionRequest(
            task,
            None if users is None else as_ids(users, "users"),
            None if items is None else as_ids(items, "items"),
            as_texts(texts),
            dataset,
            None if history is None else as_history(history),
        )
        return predictions.predict(self.views, request)

    def relatives(self, items: Sequence[str], history: Sequence[str], dataset: str | None = None) -> list[str | None]:
        """For each item that of a history with the highest cosine to it; None if that is below vectors.RELATED."""
        return vectors.relatives(self.views.of(dataset), items, history)

    def relevance(
        self, query: str, texts: Sequence[str], user: str | None = None, dataset: str | None = None
    ) -> list[float]:
        """How well texts meet a query, 0 to 1: half the cosine of their vectors, and a half. With a user the query's
        vector is the state after the user's history. If a document is an item's id or title, it has the item's
        vector: without a user that of all its text."""
        return vectors.relevance(self.views, self.views.with_catalogue(dataset), query, texts, user)

    def embed_texts(self, texts: Sequence[str], dataset: str | None = None) -> list[list[float]]:
        """The vectors that items with these texts would have: the nearer two are, the more alike the texts."""
        return self.views.text_rows(self.views.with_catalogue(dataset).name, texts).tolist()

    def embed_items(self, dataset: str | None = None) -> pl.DataFrame:
        """item_id and vector (the item row) of a whole catalogue."""
        view = self.views.with_catalogue(dataset)
        rows = self.scorer.item_rows(view.name)[0].float().cpu().numpy()
        return view.catalogue.items.select("item_id").with_columns(pl.Series("vector", rows))

    def embed_users(
        self, users: Ids | None = None, dataset: str | None = None, progress: Stage | None = None
    ) -> pl.DataFrame:
        """user_id and vector (state after the whole history); all users by default. progress: users done, in all."""
        view = self.views.with_catalogue(dataset)
        names = self.all_users(view.name) if users is None else as_ids(users, "users")
        return pl.DataFrame({"user_id": names, "vector": vectors.user_vectors(self.views, view, names, progress)})

    @property
    def backbone_name(self) -> str:
        """The backbone that the run was trained on."""
        return self.adapter.manifest.backbone.model

    @cached_property
    def fingerprint(self) -> str:
        """A hash over the adapter's files, which answers depend on."""
        return hashlib.sha256(repr(sorted(self.adapter.manifest.files.items())).encode()).hexdigest()

    @property
    def context_length(self) -> int:
        """Tokens of a text that the backbone reads at most."""
        return int(getattr(self.adapter.model.backbone.config, "max_position_embeddings", None) or 512)

    def count_tokens(self, *texts: str) -> int:
        """Tokens of some texts together, as the backbone counts them."""
        return sum(map(len, encoded(plain_encoder(self.adapter.tokenizer), texts)))

    def cut(self, text: str, most: int) -> tuple[str, bool]:
        """The first tokens of a text, at most `most`, and whether any are left out."""
        return first_tokens(self.adapter.tokenizer, text, most)

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of token ids; raises DataError for one that the backbone does not have."""
        return decoded(self.adapter.tokenizer, tokens)

    @property
    def can_talk(self) -> bool:
        """Whether the backbone was pretrained to hold a conversation."""
        return self._language.can_talk

    def talk(self, messages: Sequence[Mapping[str, str]], most: int, hand: Callable[[str], None]) -> tuple[str, bool]:
        """The answer of the pretrained backbone, without the adapter, to messages (role, content), and whether it
        came to an end within `most` tokens.

        hand: called with each piece of text as it comes. Loads the whole backbone at first; raises UnavailableError
        if it cannot talk.
        """
        return self._language.talker.talk(messages, most, hand)
