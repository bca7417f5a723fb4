"""Recommender: what every front end knows. Users, items and texts in, data frames out."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from .. import store as stores
from ..catalogue.catalogue import LIKE, NAMED, Shelf, as_column, checked_id, most_alike
from ..catalogue.titles import UNSEEN, key
from ..catalogue.where import where_mask
from ..data.dataset import Dataset
from ..errors import DataError, GenrecError, UnavailableError, UnknownNameError
from ..rows.arrays import UNDATED, Events, shown_from
from ..rows.corpus import Corpus, first_token, plain_encoder, user_header
from ..rows.row import Branch, Row, assemble, question_tokens, read_at
from ..rows.texts import REVIEW_TOKENS, shorten, text_branch
from ..tasks.task import Task
from ..tasks.templates import placeholders
from ..tasks.vocabulary import EVENT
from .diversity import spread_out
from .replies import EXPLANATION_SCHEMA, RECOMMENDATION_SCHEMA, Explanations, Predictions, Recommendations

if TYPE_CHECKING:
    from ..language.talk import Talker
    from ..language.titles import Titles
    from ..model.backbone import Backbone
    from ..run.adapter import Adapter
    from ..run.texts import TextVectors, Vectors
    from ..scoring.scorer import Ranking, Scorer

CHUNK = 512  # users scored at a time
ITEMS_AT_A_TIME = 200  # of long lists, before others have their turn
NOT_READ = "are not read, and only count as taken"  # how a warning of long histories ends


class Recommender:
    """A run, loaded."""

    def __init__(
        self,
        adapter: "Adapter",
        scorer: "Scorer",
        store: stores.Store,
        load_language: Callable[[], "Backbone"] | None = None,
        text_encoder: str | None = None,
    ) -> None:
        self.adapter, self.scorer, self.store, self._load_language = adapter, scorer, store, load_language
        self._text_encoder = text_encoder
        self._made_talker: Talker | None = None
        self._loaded_language: Backbone | None = None
        self._loading_language = False
        self.catalogues = dict(adapter.catalogues)
        self._lock = threading.Lock()  # no shelf is made of a catalogue that is being replaced
        self.datasets: tuple[str, ...] = adapter.manifest.vocabulary.datasets

    @staticmethod
    def load(
        run: str | Path,
        *,
        quantize: Literal["none", "nf4"] | None = None,
        device: str | None = None,
        allow_mismatch: bool = False,
        model: str | None = None,
        store: stores.Store | None = None,
    ) -> "Recommender":
        """Load a run folder.

        quantize: `none` or `nf4` for the backbone; None: as the run was trained. model: where the backbone is, if it is
        a folder or file that has moved. store: users and events, if not the run's own. Raises RunError where the run is
        incomplete, damaged, newer, or its backbone differs and `allow_mismatch` is not set.
        """
        from ..model.backbone import load_language
        from ..run.adapter import load_adapter
        from ..run.folder import Run
        from ..run.loaded import PREFIX_BYTES
        from ..scoring.scorer import Scorer

        source_run = Run(Path(run))
        manifest = source_run.manifest()
        place = model or source_run.local_model("model")
        if quantize is None:
            quantize = manifest.options.get("quantize", "none")
        adapter = load_adapter(
            source_run.adapter, quantize=quantize, device=device, allow_mismatch=allow_mismatch, place=place
        )
        encoder = source_run.local_model("item_text_model")
        scorer = Scorer(adapter.model, adapter.counts, prefix_bytes=PREFIX_BYTES)
        source = adapter.manifest.backbone
        language = partial(
            load_language, place or source.model, device=device, expected=source, allow_mismatch=allow_mismatch
        )
        return Recommender(adapter, scorer, store or stores.open_store(source_run.store), language, encoder)

    # --- what the run holds ---------------------------------------------------------------------------------------

    def tasks(self, dataset: str | None = None) -> list[str]:
        """Tasks trained on a data set."""
        return list(self.adapter.manifest.tasks[self._dataset(dataset)])

    def answers(self, dataset: str | None = None) -> dict[str, list[str]]:
        """The answers of each task of a data set; none for tasks whose answers are items."""
        name = self._dataset(dataset)
        return {t.name: list(t.answer.choices) for t in self._shelf(name).corpus.tasks}

    def unit(self, task: str, dataset: str | None = None) -> str:
        """What a task is asked about: `event` (a user and an item), `user_time` (a user), `basket` or `text`."""
        return self._task(self._dataset(dataset), task).unit

    def all_users(self, dataset: str | None = None) -> list[str]:
        """Users of a data set."""
        return stores.users(self.store, self._dataset(dataset))

    def has_user(self, user: str, dataset: str | None = None) -> bool:
        """Whether a data set has this user."""
        return stores.has_user(self.store, self._dataset(dataset), user)

    def known_users(self, users: Sequence[str], dataset: str | None = None) -> set[str]:
        """Those of some users whom a data set has."""
        return stores.known_users(self.store, self._dataset(dataset), users)

    def some_user(self, dataset: str | None = None) -> str | None:
        """A user of a data set, for examples; None where it has none."""
        return stores.first_user(self.store, self._dataset(dataset))

    def close_users(self, user: str, dataset: str | None = None, k: int = 3) -> list[str]:
        """The k ids of a data set that are most like one that it does not have."""
        from rapidfuzz import fuzz

        users = self.all_users(dataset)
        return [users[n] for n in most_alike(user, users, fuzz.ratio, k)]

    def history(self, user: str, dataset: str | None = None) -> pl.DataFrame:
        """A user's interactions, oldest first: item_id, event, rating. Raises UnknownNameError for an unknown user."""
        return stores.history(self.store, self._dataset(dataset), user)

    def catalogue(self, dataset: str | None = None) -> pl.DataFrame:
        """The items of a data set: item_id, title, attributes, train_count (interactions in the training part)."""
        return self._shelf(self._dataset(dataset)).items

    def has_catalogue(self, dataset: str) -> bool:
        """Whether a data set has items that can be recommended."""
        return self._shelf(self._dataset(dataset)).items.height > 0 and "next_item" in self.tasks(dataset)

    def has_item(self, item: str, dataset: str | None = None) -> bool:
        """Whether the catalogue of a data set has this item."""
        return item in self._shelf(self._dataset(dataset)).index

    def titles(self, items: Sequence[str], dataset: str | None = None) -> list[str | None]:
        """The titles of some items; None for one that the catalogue lacks or has no title for."""
        shelf = self._shelf(self._dataset(dataset))
        return [shelf.names[shelf.index[i]] if i in shelf.index else None for i in items]

    def attributes(self, items: Sequence[str], dataset: str | None = None) -> dict[str, dict[str, object]]:
        """What the catalogue says of some items besides their titles; nothing of those that it lacks."""
        shelf = self._shelf(self._dataset(dataset))
        found = {}
        for item in items:
            if item in shelf.index:  # row by row: a query of polars takes longer than some rows
                own = shelf.items.row(shelf.index[item], named=True)
                found[item] = {k: v for k, v in own.items() if k not in NAMED and v is not None and v != []}
        return found

    def search_items(self, text: str, k: int = 10, dataset: str | None = None) -> list[str]:
        """Ids of the k items at most that an id or a title names, then of those whose titles are most like the text."""
        from rapidfuzz import fuzz

        shelf = self._shelf(self._dataset(dataset))
        named = self.find_items(text, dataset)["item_id"].to_list()
        near = most_alike(text, shelf.names, fuzz.WRatio, k, LIKE)
        ids = [text] if text in shelf.index else []
        return list(dict.fromkeys([*ids, *named, *(shelf.ids[n] for n in near)]))[:k]

    def outcome_of(self, dataset: str, event: str | None, value: float | None) -> dict[str, str | float]:
        """What an interaction of a kind and with a value is in this data set: its `event` and its `rating`.

        Where items are rated, `like` is the best rating and `dislike` the worst. Raises DataError for a rating beyond
        those of the data.
        """
        group = self.adapter.manifest.vocabulary.by_key.get((self._dataset(dataset), "rating"))
        found: dict[str, str | float] = {} if event is None else {"event": event}
        if group is None:
            if value is not None and event in (None, "rating"):
                raise DataError(f"{dataset} has no ratings, so a value of {value:g} says nothing: leave it out")
            return found
        low, high = min(group.values), max(group.values)
        if value is None and event in ("like", "dislike"):
            value = high if event == "like" else low
        if value is not None and event in (None, "rating", "like", "dislike"):
            if not low <= value <= high:
                raise DataError(f"a rating of {value:g}: those of {dataset} go from {low:g} to {high:g}")
            found["rating"] = min(group.values, key=lambda v: abs(v - value))
        return found

    def find_items(self, title: str, dataset: str | None = None) -> pl.DataFrame:
        """Items (item_id, title) that a title names, the most frequent first: to the letter (case, accents and articles
        aside), else those that hold all its words, else those that differ by a typo."""
        shelf = self._shelf(self._dataset(dataset))
        match = shelf.titles.find(title)
        return shelf.items[list(match.items) if match else []].select("item_id", "title")

    # --- items that come later ------------------------------------------------------------------------------------

    def check_items(self, items: Sequence[Mapping[str, object]], dataset: str | None = None) -> pl.DataFrame:
        """Items to add as a frame with the catalogue's columns; what an item lacks is null, and of one that is given
        twice the last counts.

        items: item_id, title, and any attributes of the catalogue. Raises DataError for what cannot be added, naming
        the item and the column, and RunError as `TextVectors`.
        """
        return self._checked(items, dataset)[0]

    def _checked(self, items: Sequence[Mapping[str, object]], dataset: str | None) -> tuple[pl.DataFrame, "Vectors"]:
        """As `check_items`, and the vectors (items, width) of the items' texts."""
        from ..model.item_rows import item_texts
        from ..turns import in_turns

        name = self._with_catalogue(dataset)
        schema = dict(self._shelf(name).items.drop("train_count").schema)
        rows: dict[str, dict[str, object]] = {}
        for part in in_turns(range(len(items)), ITEMS_AT_A_TIME):
            for n in part:
                item, where = items[n], f"items[{n}]"
                if unknown := [c for c in item if c not in schema]:
                    raise DataError(
                        f"{where}.{unknown[0]}: the catalogue of {name} has no such column; it has {', '.join(schema)}"
                    )
                item_id = checked_id(item.get("item_id"), f"{where}.item_id")
                others = {c: kind for c, kind in schema.items() if c != "item_id"}
                values = {c: as_column(item.get(c), kind, f"{where}.{c}") for c, kind in others.items()}
                rows.pop(item_id, None)
                rows[item_id] = {"item_id": item_id, **values}
        frame = pl.DataFrame(list(rows.values()), schema=schema)
        texts = item_texts(frame)
        if "" in texts:
            item_id = frame["item_id"][texts.index("")]
            raise DataError(f"item {item_id!r}: a title or an attribute of text is needed, to rank it by")
        return frame, self._text_vectors(texts)

    def add_items(self, items: Sequence[Mapping[str, object]], dataset: str | None = None) -> None:
        """Add items to the catalogue, or say anew all that is said of items that it has; they can be ranked at once.

        An added item is ranked as one is that nobody took in training: by its text. What was learned of an item that
        was trained stays. All or nothing; raises as `check_items`.
        """
        frame, vectors = self._checked(items, dataset)
        name = self._dataset(dataset)
        shelf, rows = self._shelf(name), self.adapter.model.rows_of(name)
        place = np.asarray([shelf.index.get(i, -1) for i in frame["item_id"]], dtype=np.int64)
        new = place < 0
        cold = ~new & ~rows.warm.cpu().numpy()[place]
        kept = shelf.items.update(frame, on="item_id", include_nulls=True)
        added = (
            frame.filter(new)
            .with_columns(pl.lit(0, kept.schema["train_count"]).alias("train_count"))
            .select(kept.columns)
        )
        catalogue = pl.concat([kept, added])
        if cold.any():
            self.scorer.reword(name, place[cold], vectors[cold])
        if new.any():
            self.scorer.extend(name, vectors[new])
        with self._lock:
            self.catalogues[name] = catalogue
            for kept_of in (self._shelves, self._titles_of, self._directions_of):
                kept_of.pop(name, None)

    def _dataset(self, name: str | None) -> str:
        if name is None:
            return self.datasets[0]
        if name not in self.datasets:
            raise UnknownNameError("data set", name, self.datasets, "in this run")
        return name

    @cached_property
    def _text_vectors(self) -> "TextVectors":
        from ..run.texts import TextVectors

        return TextVectors(self.adapter, self._text_encoder)

    @cached_property
    def _shelves(self) -> dict[str, Shelf]:
        return {}

    def _shelf(self, name: str) -> Shelf:
        with self._lock:
            if name not in self._shelves:
                self._shelves[name] = self._made_shelf(name)
            return self._shelves[name]

    def _made_shelf(self, name: str) -> Shelf:
        manifest, tokenizer = self.adapter.manifest, self.adapter.tokenizer
        items = self.catalogues.get(
            name, pl.DataFrame(schema={"item_id": pl.String, "title": pl.String, "train_count": pl.Int64})
        )
        items = items.with_columns(pl.col("title").str.replace_all(UNSEEN.pattern, " ").str.strip_chars())
        empty = pl.DataFrame(schema={"row": pl.UInt32, "event": pl.String})
        users = pl.DataFrame(schema={"user_id": pl.String})
        corpus = Corpus(
            dataset=Dataset(name, empty, items.drop("train_count"), users),
            tasks=tuple(self.adapter.tasks_of(name)),
            vocabulary=manifest.vocabulary,
            events=None,
            encode=plain_encoder(tokenizer),
            headers={},
            bos=first_token(tokenizer),
            all_tasks=tuple(self.adapter.tasks),
        )
        return Shelf(corpus, items, {i: n for n, i in enumerate(items["item_id"].to_list())})

    def _task(self, dataset: str, name: str) -> Task:
        for task in self._shelf(dataset).corpus.tasks:
            if task.name == name:
                return task
        raise UnknownNameError("task", name, self.tasks(dataset), f"for data set {dataset}")

    def _place(self, user: str | None, item: str | None, dataset: str | None) -> tuple[str, tuple[str, ...]]:
        """The data set a user or item belongs to: the one named, or the first that knows it."""
        if dataset is not None:
            return self._dataset(dataset), ()
        knowing = [
            name
            for name in self.datasets
            if (user is None or stores.has_user(self.store, name, user))
            and (item is None or item in self._shelf(name).index)
        ]
        if not knowing:
            return self.datasets[0], ()
        known = [what for what in (f"user {user}" if user else "", f"item {item}" if item else "") if what]
        if len(knowing) > 1 and known:
            return knowing[0], (
                f"{' and '.join(known)} is known to {', '.join(knowing)}; "
                f"{knowing[0]} is used, --dataset selects another",
            )
        return knowing[0], ()

    def _item(self, shelf: Shelf, item: str) -> int:
        if item not in shelf.index:
            raise UnknownNameError("item", item, shelf.index, f"in the catalogue of {shelf.corpus.dataset.name}")
        return shelf.index[item]

    # --- histories ------------------------------------------------------------------------------------------------

    def _history(self, shelf: Shelf, users: Sequence[str], histories: Sequence[pl.DataFrame]) -> Corpus:
        """The corpus with these users' histories as its events and their attributes as headers."""
        name, vocabulary = shelf.corpus.dataset.name, shelf.corpus.vocabulary
        item, outcome, time = [], [], []
        rating = vocabulary.by_key.get((name, "rating"))
        event = vocabulary.by_key.get((name, EVENT))
        for frame in histories:
            item.append(np.asarray([shelf.index.get(i, -1) for i in frame["item_id"].to_list()], dtype=np.int32))
            own = np.full(frame.height, -1, dtype=np.int32)
            if rating is not None:
                places = {v: rating.first + n for n, v in enumerate(rating.values)}
                own = np.asarray([places.get(v, -1) for v in frame["rating"].to_list()], dtype=np.int32)
            elif event is not None:
                words = {w: event.first + n for n, w in enumerate(event.words)}
                own = np.asarray([words.get(e, -1) for e in frame["event"].to_list()], dtype=np.int32)
            outcome.append(own)
            time.append(frame["timestamp"].fill_null(UNDATED).to_numpy())
        lengths = [len(i) for i in item]
        empty = np.zeros(0, dtype=np.int32)
        zeros = np.zeros(sum(lengths), dtype=np.int64)
        events = Events(
            users=tuple(users),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            item=np.concatenate([empty, *item]),
            outcome=np.concatenate([empty, *outcome]),
            kind=zeros,
            time=np.concatenate([zeros[:0], *time]),
            basket=zeros - 1,
            part=zeros.astype(np.int8),
            source=zeros,
            target=zeros.astype(bool),
            labels={},
            where={},
            kinds=(),
        )
        columns = self.adapter.manifest.header_columns.get(name, [])
        headers = {}
        for user in {u for u in users if u}:
            if header := user_header(stores.user_attributes(self.store, name, user), columns, shelf.corpus.encode):
                headers[user] = header
        return replace(shelf.corpus, events=events, headers=headers)

    def _row(self, corpus: Corpus, n: int, branches: Sequence[Branch]) -> Row:
        """History n of the corpus cut to what the model was trained on, with branches that see all of it."""
        assert corpus.events is not None
        lo, hi = int(corpus.events.offsets[n]), int(corpus.events.offsets[n + 1])
        lo += shown_from(hi - lo, self.adapter.manifest.max_events)
        row = assemble(
            corpus,
            corpus.events.users[n] or None,
            lo,
            hi,
            [replace(b, sees=hi - lo) for b in branches],
            False,
            False,
            corpus.events,
        )
        if branches:
            return row
        return read_at(row, [len(row.tokens) - 1])

    def _own_history(self, shelf: Shelf, user: str) -> pl.DataFrame:
        return stores.history(self.store, shelf.corpus.dataset.name, user)

    def _cut(self, histories: Sequence[pl.DataFrame]) -> tuple[str, ...]:
        """A warning where histories are longer than what the model reads."""
        most = self.adapter.manifest.max_events
        dropped = [shown_from(h.height, most) for h in histories]
        longer = sum(1 for d in dropped if d)
        if not longer:
            return ()
        if len(histories) == 1:
            return (f"the history has {histories[0].height:,} events; the oldest {dropped[0]:,} {NOT_READ}",)
        return (f"{longer:,} histories have more than {most:,} events; their oldest {NOT_READ}",)

    def _given_history(self, shelf: Shelf, items: Sequence[str] | pl.DataFrame) -> pl.DataFrame:
        given = items if isinstance(items, pl.DataFrame) else pl.DataFrame({"item_id": list(items)})
        for item in given["item_id"].to_list():
            self._item(shelf, item)
        if all(given.schema.get(c) == kind for c, kind in GIVEN_SCHEMA.items()):
            return given
        known = {c: given[c].to_list() if c in given.columns else [None] * given.height for c in GIVEN_SCHEMA}
        return pl.DataFrame(known, schema=GIVEN_SCHEMA)

    # --- recommend ------------------------------------------------------------------------------------------------

    def recommend(
        self,
        users: str | Sequence[str] | None = None,
        *,
        history: Sequence[str] | pl.DataFrame | None = None,
        k: int = 10,
        exclude: Sequence[str] = (),
        include_seen: bool = False,
        candidates: Sequence[str] | None = None,
        where: str | pl.Expr | None = None,
        like: Sequence[str] = (),
        basket: Sequence[str] = (),
        items_as: Literal["token", "title"] = "token",
        diversity: float = 0.0,
        dataset: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Recommendations:
        """The k best items for each user, or for a history of item ids (oldest first; as a frame also with event,
        rating and timestamp); exact over the whole catalogue.

        Items of the history are left out unless `include_seen`; `exclude`, `candidates` and `where` (SQL over the
        catalogue's columns; `genre = 'Comedy'` asks whether a list holds it) narrow the list, and so does `like`: the
        NEAREST items whose vectors are nearest to these, among those that the other conditions leave. basket: what goes
        with these items, for the user or for anyone; seen items may appear. probability: softmax over the catalogue
        after seen-removal and before these filters. Where nothing is known of a user the list is the most popular
        items, strategy `popular`, with their share of the training interactions as score. diversity: from 0 to 1, how
        much the list avoids items that are like those above them (`spread_out`). progress: called with the
        users done and in all. items_as: `title` asks the backbone as it was pretrained, which reads the most recent
        titles of the history and goes on with titles of the catalogue: strategy `title`, the score is the title's
        log-probability. Raises UnknownNameError for unknown ids.
        """
        if items_as not in ("token", "title"):
            raise UnknownNameError("form of items", items_as, ("token", "title"))
        if basket and items_as == "title":
            raise DataError("what goes with a basket is asked of the trained model: leave items_as out")
        if basket and users is None and history is None:
            history = ()
        if (users is None) == (history is None):
            raise DataError("give either users or a history")
        if k < 1:
            raise DataError(f"k is {k}; at least 1 is needed")
        names = [""] if users is None else [users] if isinstance(users, str) else list(users)
        given = history["item_id"].to_list() if isinstance(history, pl.DataFrame) else list(history or ())
        name, warnings = self._place(
            names[0] or None if names else None, next(iter((*given, *like, *basket)), None), dataset
        )
        shelf = self._shelf(name)
        if not shelf.items.height:
            raise GenrecError(
                f"data set {name} has no catalogue to recommend from; it feeds the tasks {', '.join(self.tasks(name))}"
            )
        if items_as == "token" and "next_item" not in self.tasks(name):
            raise GenrecError(
                f"data set {name} was not trained on next_item in this run, so nothing ranks its items; "
                f"it has the tasks {', '.join(self.tasks(name))}"
            )
        allowed = self._allowed(shelf, (*exclude, *like, *basket), candidates, where)
        if like:
            near = self._cosine(shelf, like)
            near[~allowed] = -np.inf
            allowed[np.argsort(-near, kind="stable")[NEAREST:]] = False
        question = self._basket_question(shelf, basket) if basket else None
        if not allowed.any():
            warnings += ("no item of the catalogue meets the conditions",)
        frames = []
        short = 0
        longer: list[pl.DataFrame] = []
        for start in range(0, len(names), CHUNK):
            part = names[start : start + CHUNK]
            histories = (
                [self._given_history(shelf, history)]
                if history is not None
                else [self._own_history(shelf, u) for u in part]
            )
            if items_as == "token":
                seen_too = include_seen or bool(basket)
                most = k if not diversity else k * WIDER
                found, fewer = self._rank(shelf, part, histories, most, allowed, seen_too, question)
                if diversity:
                    found, fewer = self._spread_out(shelf, found, k, diversity, len(part))
                longer += [n for n in histories if n.height > self.adapter.manifest.max_events]
            else:
                found, fewer = self._rank_titles(shelf, part, histories, k, allowed, include_seen)
            if progress is not None:
                progress(start + len(part), len(names))
            short += fewer
            frames.append(found)
        if short and allowed.any():
            warnings += (
                f"fewer than {k} items are left after what was seen or excluded"
                + (f", for {short} users" if len(names) > 1 else ""),
            )
        frame = pl.concat(frames or [pl.DataFrame(schema=RECOMMENDATION_SCHEMA)])
        return Recommendations(frame, warnings + self._cut(longer))

    def _spread_out(
        self, shelf: Shelf, frame: pl.DataFrame, k: int, diversity: float, users: int
    ) -> tuple[pl.DataFrame, int]:
        """The k of each list that are good and unlike each other, and how many lists are shorter than k."""
        lists = []
        for own in frame.partition_by("user_id", maintain_order=True):
            vectors = self._directions(shelf)[[shelf.index[i] for i in own["item_id"].to_list()]]
            chosen = own[spread_out(own["score"].to_numpy(), vectors, k, diversity)]
            lists.append(chosen.with_columns(pl.Series("rank", range(1, chosen.height + 1), dtype=pl.Int64)))
        fewer = users - sum(one.height >= k for one in lists)
        return pl.concat(lists or [frame]), fewer

    def _allowed(
        self, shelf: Shelf, exclude: Sequence[str], candidates: Sequence[str] | None, where: str | pl.Expr | None
    ) -> np.ndarray:
        allowed = np.ones(shelf.items.height, dtype=bool)
        if candidates is not None:
            allowed[:] = False
            allowed[[self._item(shelf, i) for i in candidates]] = True
        allowed[[self._item(shelf, i) for i in exclude]] = False
        if where is not None:
            allowed &= where_mask(shelf.items.drop("train_count"), where)
        return allowed

    def _rank(
        self,
        shelf: Shelf,
        users: Sequence[str],
        histories: Sequence[pl.DataFrame],
        k: int,
        allowed: np.ndarray,
        include_seen: bool,
        question: Branch | None = None,
    ) -> tuple[pl.DataFrame, int]:
        """The lists of a chunk of users, and how many are shorter than k."""
        corpus = self._history(shelf, users, histories)
        assert corpus.events is not None
        name, events = corpus.dataset.name, corpus.events
        whole = [events.item[lo:hi] for lo, hi in pairwise(events.offsets)]
        seen = [own[own >= 0] for own in whole]
        known = [n for n, user in enumerate(users) if question or len(seen[n]) or user in corpus.headers]
        states = self.scorer.states([self._row(corpus, n, [question] if question else []) for n in known])
        temperature = float(self.adapter.manifest.calibration.get(f"{name}/next_item", {}).get("temperature", 1.0))
        closed = [seen[n][:0] if include_seen else seen[n] for n in known]
        limits = None if allowed.all() else allowed
        given = np.asarray(
            [t - corpus.items.first for t in question.tokens if t >= corpus.items.first] if question else []
        )
        before = [np.concatenate([whole[n], given.astype(np.int32)]) for n in known]
        asked = "basket" if question else "next_item"
        ranked = self.scorer.rank(
            states,
            name,
            k,
            closed,
            before,
            allowed=limits,
            temperature=temperature,
            question=asked,
            items=shelf.items.height,
        )
        best = dict(zip(known, ranked, strict=True))
        return self._listed(shelf, users, best, "model", k, allowed)

    def _rank_titles(
        self,
        shelf: Shelf,
        users: Sequence[str],
        histories: Sequence[pl.DataFrame],
        k: int,
        allowed: np.ndarray,
        include_seen: bool,
    ) -> tuple[pl.DataFrame, int]:
        """As _rank, by the titles that the pretrained backbone goes on with."""
        from ..language.titles import rank_titles

        known: dict[int, list[int]] = {}
        for n, frame in enumerate(histories):
            if own := [shelf.index[i] for i in frame["item_id"].to_list() if i in shelf.index]:
                known[n] = own
        limits = [allowed.copy() for _ in known]
        for limit, own in zip(limits, known.values(), strict=True):
            limit[own] &= include_seen
        found = rank_titles(self._titles(shelf), list(known.values()), limits, k) if known else []
        return self._listed(shelf, users, dict(zip(known, found, strict=True)), "title", k, allowed)

    @property
    def _language(self) -> "Backbone":
        """The whole backbone, loaded at first: once, however many jobs ask for it meanwhile."""
        from ..turns import beside, pause

        assert self._load_language is not None
        while self._loaded_language is None:
            if self._loading_language:
                pause()
                continue
            self._loading_language = True
            try:
                self._loaded_language = beside(self._load_language)
            finally:
                self._loading_language = False
        return self._loaded_language

    @property
    def _talker(self) -> "Talker":
        from ..language.talk import Talker

        language = self._language  # others may have made it meanwhile
        if self._made_talker is None:
            self._made_talker = Talker(language)
        return self._made_talker

    @cached_property
    def _titles_of(self) -> dict[str, "Titles"]:
        return {}

    def _titles(self, shelf: Shelf) -> "Titles":
        from ..language.titles import read_titles

        name = shelf.corpus.dataset.name
        if name not in self._titles_of:
            self._titles_of[name] = read_titles(self._language, shelf.items)
        return self._titles_of[name]

    def _listed(
        self,
        shelf: Shelf,
        users: Sequence[str],
        best: Mapping[int, "Ranking"],
        strategy: str,
        k: int,
        allowed: np.ndarray,
    ) -> tuple[pl.DataFrame, int]:
        """The lists as a frame, the most popular items for users that have none, and how many are shorter than k."""
        ranked = [best[n] if n in best else self._popular(shelf, k, allowed) for n in range(len(users))]
        lengths = [len(r.index) for r in ranked]
        top = np.concatenate([r.index for r in ranked])
        of_list = np.repeat(np.arange(len(users)), lengths).tolist()
        frame = pl.DataFrame(
            {
                "dataset": [shelf.corpus.dataset.name] * len(top),
                "user_id": [users[n] or None for n in of_list],
                "strategy": [strategy if n in best else "popular" for n in of_list],
                "rank": np.concatenate([np.arange(1, n + 1) for n in lengths]),
                "item_id": [shelf.ids[n] for n in top.tolist()],
                "title": [shelf.names[n] for n in top.tolist()],
                "score": np.concatenate([r.score for r in ranked]),
                "probability": np.concatenate([r.probability for r in ranked]),
            },
            schema=RECOMMENDATION_SCHEMA,
        )
        return frame, sum(1 for n in lengths if n < k)

    def _popular(self, shelf: Shelf, k: int, allowed: np.ndarray) -> "Ranking":
        """The most popular items, with their share of the training interactions as score."""
        from ..scoring.scorer import Ranking

        counts = shelf.items["train_count"].to_numpy().astype(np.float64)
        eligible = np.nonzero(allowed)[0]
        top = eligible[np.lexsort((eligible, -counts[eligible]))][:k]
        return Ranking(top, counts[top] / max(counts.sum(), 1), (counts[top] + 1) / (counts + 1).sum())

    def _basket_question(self, shelf: Shelf, basket: Sequence[str]) -> Branch:
        """`What goes with these?`"""
        name = shelf.corpus.dataset.name
        task = next((t for t in shelf.corpus.tasks if t.unit == "basket"), None)
        if task is None:
            raise GenrecError(
                f"data set {name} was not trained on baskets in this run; its tasks: {', '.join(self.tasks(name))}"
            )
        tokens = [shelf.corpus.items.first + self._item(shelf, i) for i in basket]
        words = question_tokens(task.seen[0], {}, {"items": tokens}, shelf.corpus.encode)
        return Branch(words, 0, [(task.name, 0, 1.0, -1)])

    # --- explain --------------------------------------------------------------------------------------------------

    def explain(
        self,
        items: str | Sequence[str],
        *,
        user: str | None = None,
        history: Sequence[str] | None = None,
        reasons: int = 3,
        dataset: str | None = None,
    ) -> Explanations:
        """The items of a history that raise given items' scores most, measured by leaving them out.

        A history of at most EVENTS_AT_ONCE items is left out item by item; of a longer one, stretches first and then
        the items of the stretches that count most. Raises UnknownNameError for unknown ids.
        """
        if (user is None) == (history is None):
            raise DataError("give either a user or a history")
        from ..scoring.occlusion import occlusion
        from ..turns import in_turns

        wanted = as_list(items) or []
        name, warnings = self._place(user, first(wanted), dataset)
        shelf = self._shelf(name)
        index = [self._item(shelf, i) for i in wanted]
        frame = self._own_history(shelf, user) if user is not None else self._given_history(shelf, history or ())
        older = [shelf.index.get(i, -1) for i in frame["item_id"].to_list()]
        frame = frame[shown_from(frame.height, self.adapter.manifest.max_events) :]
        older = older[: len(older) - frame.height]

        def scores(left_out: Sequence[Sequence[int]]) -> np.ndarray:
            kept = [frame[[n for n in range(frame.height) if n not in set(without)]] for without in left_out]
            corpus = self._history(shelf, [user or ""] * len(kept), kept)
            assert corpus.events is not None
            states = self.scorer.states([self._row(corpus, n, []) for n in range(len(kept))])
            shown = [corpus.events.item[lo:hi] for lo, hi in pairwise(corpus.events.offsets)]
            whole = [np.concatenate([np.asarray(older, dtype=np.int32), own]) for own in shown]
            return self.scorer.item_scores(states, name, whole).double().cpu().numpy()[:, index]

        effects = occlusion(frame.height, scores)
        left_out = np.asarray(list(effects), dtype=np.int64)
        falls = np.stack(list(effects.values())) if effects else np.zeros((0, len(wanted)))
        rows = []
        for part in in_turns(range(len(wanted)), ITEMS_AT_A_TIME):
            for place in part:
                own = falls[:, place]
                best = np.lexsort((-left_out, -own))  # of equal ones the latest event
                for n in best[own[best] > 0][:reasons].tolist():
                    reason = frame["item_id"][int(left_out[n])]
                    title = shelf.names[shelf.index[reason]] if reason in shelf.index else None
                    rows.append((name, wanted[place], reason, title, float(own[n])))
        if not frame.height:
            warnings += ("there is no history to explain anything by",)
        return Explanations(pl.DataFrame(rows, schema=EXPLANATION_SCHEMA, orient="row"), warnings)

    # --- predict --------------------------------------------------------------------------------------------------

    def predict(
        self,
        task: str,
        *,
        users: str | Sequence[str] | None = None,
        items: str | Sequence[str] | None = None,
        texts: str | Sequence[str] | None = None,
        dataset: str | None = None,
    ) -> Predictions:
        """The outcome of a task for pairs of users and items, for users, or for texts (sequences of equal length).

        value: the expected value for numbers, else the likeliest answer (as text). probabilities: calibrated, in the
        order of
        `choices`, summing to 1.
        """
        from ..turns import in_turns

        user_list, item_list, text_list = as_list(users), as_list(items), as_list(texts)
        if dataset is None and task not in self.tasks():
            dataset = next(
                (d for d in self.datasets if task in self.tasks(d) and self._knows(d, user_list, item_list)), None
            )
            dataset = dataset or next((d for d in self.datasets if task in self.tasks(d)), None)
        if dataset is None and all(task not in self.tasks(d) for d in self.datasets):
            raise UnknownNameError(
                "task", task, dict.fromkeys(t for d in self.datasets for t in self.tasks(d)), "in this run"
            )
        name, warnings = self._place(first(user_list), first(item_list), dataset)
        shelf, own = self._shelf(name), self._task(name, task)
        if own.answer.kind == "item":
            raise DataError(f"task {task} gives items: use recommend")
        if own.unit == "text":
            if text_list is None:
                raise DataError(f"task {task} is asked about a text: give --text")
            template = next((t for t in own.seen if set(placeholders(t)) <= {"text", "review"}), None)
            if template is None:
                raise DataError(f"task {task} shows more than a text ({own.seen[0]!r}), which cannot be given here")
            for number, text in enumerate(text_list):
                if not (text or "").strip():
                    raise DataError(f"the text in row {number + 1} is empty; task {task} is asked about a text")
            rows, long = [], 0
            for (text,) in in_turns(text_list, 1):
                short = shorten(shelf.corpus, text)
                long += short != text
                branch = text_branch(shelf.corpus, template, {"text": short, "review": short}, [(own.name, 0)])
                rows.append(assemble(shelf.corpus, None, 0, 0, [branch], False, False, None))
            if long:
                whose = "the text" if len(text_list) == 1 else f"{long:,} texts"
                warnings += (f"of {whose} only the beginning and the end are read, {REVIEW_TOKENS} tokens",)
            order, user_list, item_list, known = list(range(len(text_list))), None, None, None
        else:
            if user_list is None:
                raise DataError(f"task {task} is asked about a user: give --user")
            if own.unit == "event" and item_list is None:
                raise DataError(f"task {task} is asked about a user and an item: give --item")
            if own.unit != "event":
                item_list = None
            text_list = None
            if item_list is not None and len(item_list) != len(user_list):
                raise DataError(f"{len(user_list)} users and {len(item_list)} items: give as many of each")
            rows, order, cut, known = self._prediction_rows(shelf, own, user_list, item_list)
            warnings += cut
        found = self.scorer.outcome_scores(self.scorer.states(rows), name, task).double().cpu().numpy()
        scores = np.empty_like(found)
        scores[order] = found
        features = None
        if known is not None:
            features = np.empty_like(known)
            features[order] = known
        frame = self._predicted(name, own, scores, features, user_list, item_list, text_list)
        return Predictions(frame, own.answer.choices, warnings)

    def _knows(self, dataset: str, users: Sequence[str] | None, items: Sequence[str] | None) -> bool:
        index = self._shelf(dataset).index
        return (not users or stores.has_user(self.store, dataset, users[0])) and (not items or items[0] in index)

    def _prediction_rows(
        self, shelf: Shelf, task: Task, users: Sequence[str], items: Sequence[str] | None
    ) -> tuple[list[Row], list[int], tuple[str, ...], np.ndarray | None]:
        """One row per user with a branch per question, the place in the request of each answer read, warnings, and what
        is known of the users and items besides."""
        from ..turns import in_turns

        of_user: dict[str, list[int]] = {}
        for n, user in enumerate(users):
            of_user.setdefault(user, []).append(n)
        histories = [self._own_history(shelf, u) for u in of_user]
        corpus = self._history(shelf, list(of_user), histories)
        rows, order = [], []
        for n, places in enumerate(of_user.values()):
            branches: list[Branch] = []
            for part in in_turns(places, ITEMS_AT_A_TIME):
                for p in part:
                    branch = self._question(shelf, task, items[p] if items is not None else None)
                    if branches and sum(len(b.tokens) for b in branches) + len(branch.tokens) > BRANCH_TOKENS:
                        rows.append(self._row(corpus, n, branches))
                        branches = []
                    branches.append(branch)
                    order.append(p)
            rows.append(self._row(corpus, n, branches))
        from ..scoring.features import asks_list, features_of

        assert corpus.events is not None
        asked = [
            (n, [self._item(shelf, items[p]) if items is not None else -1 for p in places])
            for n, places in enumerate(of_user.values())
        ]
        ends = None
        if asks_list(task):
            ends = self.scorer.states([self._row(corpus, n, []) for n in range(len(of_user))])
        return rows, order, self._cut(histories), features_of(self.scorer, corpus, corpus.events, task, asked, ends)

    def _question(self, shelf: Shelf, task: Task, item: str | None) -> Branch:
        """The dense reading is the candidate item itself; other tasks ask in words."""
        if item is None:
            tokens = question_tokens(task.seen[0], {}, {}, shelf.corpus.encode)
        else:
            token = shelf.corpus.items.first + self._item(shelf, item)
            tokens = (
                [token] if task.dense else question_tokens(task.seen[0], {}, {"item": [token]}, shelf.corpus.encode)
            )
        return Branch(tokens, 0, [(task.name, 0, 1.0, -1)])

    def _predicted(
        self,
        dataset: str,
        task: Task,
        scores: np.ndarray,
        features: np.ndarray | None,
        users: Sequence[str] | None,
        items: Sequence[str] | None,
        texts: Sequence[str] | None,
    ) -> pl.DataFrame:
        from ..scoring.calibration import Calibration

        fitted = self.adapter.manifest.calibration.get(f"{dataset}/{task.name}", {})
        probabilities = Calibration.from_json(fitted).probabilities(scores, features)
        n = len(scores)
        if task.answer.values:
            value = pl.Series("value", probabilities @ np.asarray(task.answer.values))
        else:
            value = pl.Series("value", [task.answer.choices[c] for c in probabilities.argmax(1)], dtype=pl.String)
        return pl.DataFrame(
            {
                "dataset": [dataset] * n,
                "task": [task.name] * n,
                "user_id": pl.Series(users if users is not None else [None] * n, dtype=pl.String),
                "item_id": pl.Series(items if items is not None else [None] * n, dtype=pl.String),
                "text": pl.Series(texts if texts is not None else [None] * n, dtype=pl.String),
                "value": value,
                "probabilities": pl.Series(probabilities.tolist(), dtype=pl.List(pl.Float64)),
            }
        )

    # --- vectors --------------------------------------------------------------------------------------------------

    def _cosine(self, shelf: Shelf, items: Sequence[str]) -> np.ndarray:
        """Mean cosine (catalogue,) of every item's vector to those of some items."""
        places = [self._item(shelf, i) for i in items]
        rows = self._directions(shelf)
        return np.asarray(rows @ rows[places].mean(0))

    def _directions(self, shelf: Shelf) -> np.ndarray:
        """The vector (catalogue, width) of each item at length 1."""
        name = shelf.corpus.dataset.name
        if name not in self._directions_of:
            rows = self.scorer.item_rows(name)[0].double().cpu().numpy()
            self._directions_of[name] = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        return self._directions_of[name][: shelf.items.height]

    @cached_property
    def _directions_of(self) -> dict[str, np.ndarray]:
        return {}

    def favoured(self, user: str, dataset: str | None = None) -> pl.DataFrame:
        """A user's history without what was rated below the user's mean, disliked or passed over."""
        rated = pl.col("rating") >= pl.col("rating").mean()
        return self.history(user, dataset).filter(
            rated.fill_null(~pl.col("event").is_in(["dislike", "skip"]).fill_null(False))
        )

    def relatives(self, items: Sequence[str], history: Sequence[str], dataset: str | None = None) -> list[str | None]:
        """For each item the one of a history whose vector points most nearly the same way; None where that is nowhere
        near (cosine below RELATED)."""
        shelf = self._shelf(self._dataset(dataset))
        own = [i for i in dict.fromkeys(history) if i in shelf.index]
        if not own:
            return [None] * len(items)
        from ..turns import in_turns

        vectors, found = self._directions(shelf), list[str | None]()
        past = vectors[[shelf.index[i] for i in own]].T
        for part in in_turns(items, ITEMS_AT_A_TIME):
            cosine = vectors[[self._item(shelf, i) for i in part]] @ past
            best = cosine.argmax(1).tolist()
            found += [own[b] if row[b] >= RELATED else None for b, row in zip(best, cosine, strict=True)]
        return found

    # --- text -----------------------------------------------------------------------------------------------------

    @property
    def backbone_name(self) -> str:
        """The backbone that the run was trained on."""
        return self.adapter.manifest.backbone.model

    @cached_property
    def fingerprint(self) -> str:
        """A hash over the adapter's files, which answers depend on."""
        import hashlib

        files = sorted(self.adapter.manifest.files.items())
        return hashlib.sha256(repr(files).encode()).hexdigest()

    @property
    def context_length(self) -> int:
        """Tokens of a text that the backbone reads at most."""
        config = self.adapter.model.backbone.config
        return int(getattr(config, "max_position_embeddings", None) or 512)

    def embed_texts(self, texts: Sequence[str], dataset: str | None = None) -> list[list[float]]:
        """The vectors that items with these texts would have: the nearer two are, the more alike the texts."""
        name = self._with_catalogue(dataset)
        return self._text_rows(name, texts).tolist()

    def _text_rows(self, name: str, texts: Sequence[str]) -> np.ndarray:
        from ..run.texts import rows_of_texts

        return rows_of_texts(self.adapter.model.rows_of(name), self._text_vectors(texts))

    def relevance(
        self, query: str, texts: Sequence[str], user: str | None = None, dataset: str | None = None
    ) -> list[float]:
        """How well texts meet a query, 0 to 1: half the cosine of their vectors, and a half. With a user the query's
        vector is what the user's history leads to. Where a document is an item's id or title, it has the item's
        vector: without a user that of all its text."""
        from ..turns import in_turns

        name = self._with_catalogue(dataset)
        shelf = self._shelf(name)
        rows = self._text_rows(name, [*texts, query])
        asks_user = user is not None and self.has_user(user, name)
        known = self.scorer.item_rows(name, text_alone=not asks_user)[0].float().cpu().numpy()
        for part in in_turns(range(len(texts)), ITEMS_AT_A_TIME):
            for n in part:
                match = None  # a text longer than any title, and an article, is none
                if texts[n] not in shelf.index and len(texts[n]) <= shelf.longest + 20:
                    match = shelf.titles.named(key(texts[n]))
                if texts[n] in shelf.index:
                    rows[n] = known[shelf.index[texts[n]]]
                elif match is not None and match.how == "exact":
                    rows[n] = known[match.items[0]]
        wanted = rows[-1]
        if user is not None and asks_user:
            wanted = np.asarray(self.embed_users([user], name)["vector"][0].to_list())
        cosine = rows[:-1] @ wanted / (np.linalg.norm(rows[:-1], axis=1) * np.linalg.norm(wanted) + 1e-12)
        return [float(c) for c in 0.5 + cosine / 2]

    def count_tokens(self, *texts: str) -> int:
        """Tokens of some texts together, as the backbone counts them."""
        from ..turns import encoded

        return sum(map(len, encoded(plain_encoder(self.adapter.tokenizer), texts)))

    def cut(self, text: str, most: int) -> tuple[str, bool]:
        """The first tokens of a text, and whether that leaves anything out."""
        coded = self.adapter.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = coded["offset_mapping"]
        return (text, False) if len(offsets) <= most else (text[: offsets[most - 1][1] if most else 0], True)

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of token ids; raises DataError for one that the backbone does not have."""
        size = len(self.adapter.tokenizer)
        for token in tokens:
            if not 0 <= token < size:
                raise DataError(f"token {token}: the backbone has tokens 0 to {size - 1}")
        return str(self.adapter.tokenizer.decode(list(tokens)))

    @property
    def can_talk(self) -> bool:
        """Whether the backbone was pretrained to hold a conversation."""
        return self._load_language is not None and bool(self.adapter.tokenizer.chat_template)

    def talk(self, messages: Sequence[Mapping[str, str]], most: int, hand: Callable[[str], None]) -> tuple[str, bool]:
        """What the backbone as it was pretrained, without the adapter, answers to messages (role, content), and whether
        it came to an end within `most` tokens.

        hand: called with each piece of text as it comes. Loads the whole backbone at first; raises UnavailableError
        where it cannot talk.
        """
        if not self.can_talk:
            raise UnavailableError("this backbone was not pretrained to hold a conversation")
        return self._talker.talk(messages, most, hand)

    def similar(
        self,
        items: str | Sequence[str],
        k: int = 10,
        dataset: str | None = None,
        *,
        where: str | pl.Expr | None = None,
        exclude: Sequence[str] = (),
    ) -> Recommendations:
        """The k items whose vectors point most nearly the way of one or several; score is the (mean) cosine.

        where, exclude: as in `recommend`. frame: dataset, rank, item_id, title, score.
        """
        own = as_list(items) or []
        name, warnings = self._place(None, first(own), dataset)
        shelf = self._shelf(name)
        cosine = self._cosine(shelf, own)
        allowed = self._allowed(shelf, (*exclude, *own), None, where)
        if not allowed.any():
            warnings += ("no item of the catalogue meets the conditions",)
        top = [int(i) for i in np.lexsort((np.arange(len(cosine)), -cosine)) if allowed[i]][:k]
        frame = shelf.items[top].select(
            pl.lit(name).alias("dataset"),
            pl.Series("rank", range(1, len(top) + 1), dtype=pl.Int64),
            "item_id",
            "title",
            pl.Series("score", cosine[top]),
        )
        return Recommendations(frame, warnings)

    def _with_catalogue(self, dataset: str | None) -> str:
        name = self._dataset(dataset)
        if not self._shelf(name).items.height:
            raise GenrecError(f"data set {name} has texts only: there are no users and items to give vectors of")
        return name

    def embed_items(self, dataset: str | None = None) -> pl.DataFrame:
        """item_id and vector (the item row) of a whole catalogue."""
        name = self._with_catalogue(dataset)
        vectors = self.scorer.item_rows(name)[0].float().cpu().numpy()
        return self._shelf(name).items.select("item_id").with_columns(pl.Series("vector", vectors))

    def embed_users(self, users: Sequence[str] | None = None, dataset: str | None = None) -> pl.DataFrame:
        """user_id and vector (the hidden state after the whole history); all users by default."""
        name = self._with_catalogue(dataset)
        shelf = self._shelf(name)
        names = self.all_users(name) if users is None else list(users)
        parts = []
        for start in range(0, len(names), CHUNK):
            part = names[start : start + CHUNK]
            corpus = self._history(shelf, part, [self._own_history(shelf, u) for u in part])
            parts.append(self.scorer.states([self._row(corpus, n, []) for n in range(len(part))]).cpu().numpy())
        return pl.DataFrame({"user_id": names, "vector": np.concatenate(parts)})


GIVEN_SCHEMA = {"item_id": pl.String, "event": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
BRANCH_TOKENS = 256  # of the questions on one row
NEAREST = 50  # items that `like` leaves
WIDER = 5  # times as many items are looked at where a list is spread out
RELATED = 0.2  # cosine from which items count as alike


def as_list(value: str | Sequence[str] | None) -> list[str] | None:
    """A single value as a list of one."""
    return None if value is None else [value] if isinstance(value, str) else list(value)


def first(values: Sequence[str] | None) -> str | None:
    """The first value, if any."""
    return values[0] if values else None
