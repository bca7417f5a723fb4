"""Lists: the best items of a catalogue for users or histories, or those most alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from .. import store as stores
from ..errors import DataError, GenrecError, UnknownNameError
from ..progress import Stage
from ..rows.row import Branch, question_tokens
from .diversity import diversify
from .given import no_history
from .histories import given_history, length_warnings, prompts_of, stored_history
from .replies import RECOMMENDATION_SCHEMA, Recommendations
from .users import unknown_users
from .views import View, Views

if TYPE_CHECKING:
    from ..scoring.scorer import Ranking
    from .language import Language

CHUNK = 512  # users scored at a time
NEAREST = 50  # items that `like` leaves
WIDER = 5  # times as many items are ranked if a list is diversified


@dataclass(frozen=True)
class ListRequest:
    """Request for lists; the fields are the arguments of `Recommender.recommend`, ids as text, a history as a frame."""

    users: Sequence[str] | None = None
    history: pl.DataFrame | None = None
    k: int = 10
    exclude: Sequence[str] = ()
    exclude_seen: bool = True
    candidates: Sequence[str] | None = None
    where: str | pl.Expr | None = None
    like: Sequence[str] = ()
    basket: Sequence[str] = ()
    items_as: Literal["token", "title"] = "token"
    diversity: float = 0.0
    dataset: str | None = None
    show_users: bool = True

    @property
    def for_history(self) -> bool:
        """Whether it asks about a history that is given, and not about users."""
        return self.users is None

    @property
    def user_ids(self) -> list[str]:
        """Its users; `""` for one whose history is given."""
        return [""] if self.users is None else list(self.users)

    @property
    def given_items(self) -> list[str]:
        """The items that it names: of a history, to be like, of a basket."""
        items = [] if self.history is None else self.history["item_id"].to_list()
        return [*items, *self.like, *self.basket]

    def check(self) -> None:
        """Raises UnknownNameError or DataError for a request that no list can answer."""
        if self.items_as not in ("token", "title"):
            raise UnknownNameError("form of items", self.items_as, ("token", "title"))
        if self.basket and self.items_as == "title":
            raise DataError("what goes with a basket is asked of the trained model: leave items_as out")
        if (self.users is None) == (self.history is None) and not (self.basket and self.users is None):
            raise DataError("give either users or a history")
        if self.k < 1:
            raise DataError(f"k is {self.k}; at least 1 is needed")


def recommend(
    views: Views, language: "Language", request: ListRequest, progress: Stage | None = None
) -> Recommendations:
    """The best items for each user of a request, or for its history; see `Recommender.recommend`."""
    request.check()
    users = request.user_ids
    view, warnings = views.place(known_user(views, users), next(iter(request.given_items), None), request.dataset)
    check_view(view, request)
    allowed = allowed_items(view, request)
    if not allowed.any():
        warnings += ("no item of the catalogue meets the conditions",)
    question = basket_question(view, request.basket) if request.basket else None
    frames, short, longer = [], 0, list[pl.DataFrame]()
    known: set[str] = set()
    for start in range(0, len(users), CHUNK):
        part = users[start : start + CHUNK]
        if request.for_history:
            readers, histories = part, [given_history(view, no_history() if (h := request.history) is None else h)]
        else:
            known |= (of_part := stores.known_users(views.store, view.name, part))
            readers = [user if user in of_part else "" for user in part]
            histories = [stored_history(views, view, user) if user else no_history() for user in readers]
        if request.items_as == "token":
            lists = ranked_lists(views, view, request, part, readers, histories, allowed, question)
            longer += [h for h in histories if h.height > views.adapter.manifest.max_events]
        else:
            lists = title_lists(view, language, request, part, histories, allowed)
        if progress is not None:
            progress(start + len(part), len(users))
        short += len(part) - sum(n >= request.k for n in list_lengths(lists, part))
        frames.append(lists)
    if not request.for_history:
        warnings += unknown_users(views.store, view.name, users, known, request.show_users)
    if short and allowed.any():
        whose = f", for {short} users" if len(users) > 1 else ""
        warnings += (f"fewer than {request.k} items are left after what was seen or excluded{whose}",)
    frame = pl.concat(frames or [pl.DataFrame(schema=RECOMMENDATION_SCHEMA)])
    return Recommendations(frame, warnings + length_warnings(longer, views.adapter.manifest.max_events))


def known_user(views: Views, users: Sequence[str]) -> str | None:
    """The user who decides on the data set: the first that one of them has, else the first; None for a history."""
    if len(views.datasets) > 1:
        for start in range(0, len(users), CHUNK):
            part = users[start : start + CHUNK]
            known = set().union(*(stores.known_users(views.store, name, part) for name in views.datasets))
            if known:
                return next(user for user in part if user in known)
    return next(iter(users), None) or None


def check_view(view: View, request: ListRequest) -> None:
    """Raises GenrecError for a data set whose items this run does not rank."""
    tasks = ", ".join(t.name for t in view.corpus.tasks)
    if not view.catalogue.items.height:
        raise GenrecError(f"data set {view.name} has no catalogue to recommend from; it feeds the tasks {tasks}")
    if request.items_as == "token" and all(t.name != "next_item" for t in view.corpus.tasks):
        raise GenrecError(
            f"data set {view.name} was not trained on next_item in this run, so nothing ranks its items; "
            f"it has the tasks {tasks}"
        )


def allowed_items(view: View, request: ListRequest) -> np.ndarray:
    """Which items (items,) may be listed, seen ones aside."""
    exclude = (*request.exclude, *request.like, *request.basket)
    allowed = view.catalogue.allowed(exclude, request.candidates, request.where)
    if request.like:
        near = view.cosine(request.like)
        near[~allowed] = -np.inf
        allowed[np.argsort(-near, kind="stable")[NEAREST:]] = False
    return allowed


def list_lengths(lists: pl.DataFrame, users: Sequence[str]) -> list[int]:
    """How long the list of each user is; users: those of the lists, in order."""
    starts = np.flatnonzero(lists["rank"].to_numpy() == 1) if lists.height else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, lists.height)).tolist()
    return [*lengths, *[0] * (len(users) - len(lengths))]


def ranked_lists(
    views: Views,
    view: View,
    request: ListRequest,
    users: Sequence[str],
    readers: Sequence[str],
    frames: Sequence[pl.DataFrame],
    allowed: np.ndarray,
    question: Branch | None,
) -> pl.DataFrame:
    """The lists of some users by the scores of the whole catalogue. readers: the users, `""` for one who is unknown or
    whose history is given; question: after the history."""
    prompts = prompts_of(views, view, readers, frames)
    seen = [items[items >= 0] for items in map(prompts.items, range(len(users)))]
    rows = [n for n, user in enumerate(readers) if question or len(seen[n]) or user in prompts.corpus.headers]
    states = views.scorer.states([prompts.row(n, [question] if question else []) for n in rows])
    first = view.corpus.items.first
    given_items = np.asarray([t - first for t in question.tokens if t >= first] if question else [], dtype=np.int32)
    exclude_seen = request.exclude_seen and not request.basket
    fitted = views.adapter.manifest.calibration.get(f"{view.name}/next_item", {})
    rankings = views.scorer.rank(
        states,
        view.name,
        request.k * WIDER if request.diversity else request.k,
        [seen[n] if exclude_seen else seen[n][:0] for n in rows],
        [np.concatenate([prompts.wanted(n), given_items]) for n in rows],
        allowed=None if allowed.all() else allowed,
        temperature=float(fitted.get("temperature", 1.0)),
        question="basket" if question else "next_item",
        items=view.catalogue.items.height,
    )
    limit = request.k * WIDER if request.diversity else request.k
    lists = list_frame(view, users, dict(zip(rows, rankings, strict=True)), "model", limit, allowed)
    return diverse_lists(view, lists, request.k, request.diversity) if request.diversity else lists


def title_lists(
    view: View,
    language: "Language",
    request: ListRequest,
    users: Sequence[str],
    frames: Sequence[pl.DataFrame],
    allowed: np.ndarray,
) -> pl.DataFrame:
    """The lists of some users by the titles that the pretrained backbone continues with."""
    from ..language.titles import rank_titles

    histories: dict[int, list[int]] = {}
    for n, frame in enumerate(frames):
        if items := [view.catalogue.index[i] for i in frame["item_id"].to_list() if i in view.catalogue.index]:
            histories[n] = items
    masks = [allowed.copy() for _ in histories]
    for mask, items in zip(masks, histories.values(), strict=True):
        mask[items] &= not request.exclude_seen
    if not histories:
        return list_frame(view, users, {}, "title", request.k, allowed)
    rankings = rank_titles(view.titles(language.backbone), list(histories.values()), masks, request.k)
    return list_frame(view, users, dict(zip(histories, rankings, strict=True)), "title", request.k, allowed)


def list_frame(
    view: View,
    users: Sequence[str],
    rankings: "Mapping[int, Ranking]",
    strategy: Literal["model", "title"],
    k: int,
    allowed: np.ndarray,
) -> pl.DataFrame:
    """The lists as a frame, by the index of their users; the most popular items for users that have none."""
    ranked = [rankings[n] if n in rankings else popular(view, k, allowed) for n in range(len(users))]
    lengths = [len(r.index) for r in ranked]
    top = np.concatenate([r.index for r in ranked]).tolist()
    of_list = np.repeat(np.arange(len(users)), lengths).tolist()
    return pl.DataFrame(
        {
            "dataset": [view.name] * len(top),
            "user_id": [users[n] or None for n in of_list],
            "strategy": [strategy if n in rankings else "popular" for n in of_list],
            "rank": np.concatenate([np.arange(1, n + 1) for n in lengths]),
            "item_id": [view.catalogue.ids[n] for n in top],
            "title": [view.catalogue.titles[n] for n in top],
            "score": np.concatenate([r.score for r in ranked]),
            "probability": np.concatenate([r.probability for r in ranked]),
        },
        schema=RECOMMENDATION_SCHEMA,
    )


def popular(view: View, k: int, allowed: np.ndarray) -> "Ranking":
    """The most popular items, with their share of the training interactions as score."""
    from ..scoring.scorer import Ranking

    counts = view.catalogue.items["train_count"].to_numpy().astype(np.float64)
    eligible = np.nonzero(allowed)[0]
    top = eligible[np.lexsort((eligible, -counts[eligible]))][:k]
    return Ranking(top, counts[top] / max(counts.sum(), 1), (counts[top] + 1) / (counts + 1).sum())


def diverse_lists(view: View, lists: pl.DataFrame, k: int, diversity: float) -> pl.DataFrame:
    """The k of each list that are good and unlike each other."""
    chosen = []
    for items in lists.partition_by("user_id", maintain_order=True):
        vectors = view.directions[[view.catalogue.index[i] for i in items["item_id"].to_list()]]
        some = items[diversify(items["score"].to_numpy(), vectors, k, diversity)]
        chosen.append(some.with_columns(pl.Series("rank", range(1, some.height + 1), dtype=pl.Int64)))
    return pl.concat(chosen or [lists])


def basket_question(view: View, basket: Sequence[str]) -> Branch:
    """`What goes with these?`; raises GenrecError if the run was not trained on baskets."""
    task = next((t for t in view.corpus.tasks if t.unit == "basket"), None)
    if task is None:
        tasks = ", ".join(t.name for t in view.corpus.tasks)
        raise GenrecError(f"data set {view.name} was not trained on baskets in this run; its tasks: {tasks}")
    tokens = [view.corpus.items.first + view.catalogue.place(i) for i in basket]
    words = question_tokens(task.seen[0], {}, {"items": tokens}, view.corpus.encode)
    return Branch(words, 0, [(task.name, 0, 1.0, -1)])


def similar(
    view: View, items: Sequence[str], k: int, where: str | pl.Expr | None, exclude: Sequence[str]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The k items whose vectors point most nearly the way of some (dataset, rank, item_id, title, score), and
    warnings."""
    cosine = view.cosine(items)
    allowed = view.catalogue.allowed((*exclude, *items), None, where)
    warnings = () if allowed.any() else ("no item of the catalogue meets the conditions",)
    top = [int(i) for i in np.lexsort((np.arange(len(cosine)), -cosine)) if allowed[i]][:k]
    frame = view.catalogue.items[top].select(
        pl.lit(view.name).alias("dataset"),
        pl.Series("rank", range(1, len(top) + 1), dtype=pl.Int64),
        "item_id",
        "title",
        pl.Series("score", cosine[top]),
    )
    return frame, warnings
