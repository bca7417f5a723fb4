"""`genrec recommend`, `predict`, `similar` and `embed`: answers of a run, for one or for many."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..counting import counted
from ..errors import DataError
from ..ids import as_id
from ..options import check_applies, option, options_of
from .ids import read_ids, split_ids
from .loading import Loading, check_knows_users
from .output import (
    check_output,
    list_json,
    prediction_json,
    progress_bar,
    say,
    show_json,
    similar_json,
    warn,
    write_table,
)
from .parser import command

if TYPE_CHECKING:
    from ..recommender import Recommender


@dataclass(frozen=True)
class Asked:
    """The run that answers, and which of its data sets is asked about."""

    run: str = option(help="run folder, adapter folder, or hf://OWNER/NAME[@REVISION]", metavar="RUN", positional=True)
    dataset: str | None = option(None, "data set of the run (default: its first that knows the ids)", metavar="NAME")


@dataclass(frozen=True)
class Answer(Asked):
    """The form of the answer."""

    json: bool = option(False, "the answer as JSON")


@dataclass(frozen=True)
class Recommend(Answer):
    """Options of recommend."""

    user: str | None = option(None, "user id", metavar="ID", parse=as_id, heading="For whom")
    history: tuple[str, ...] | None = option(
        None, "item ids instead of a user, oldest first", metavar="ID,ID", parse=split_ids
    )
    title: tuple[str, ...] | None = option(None, "a title instead of ids as history; may be repeated", metavar="TITLE")
    users: str | None = option(None, "many users: a file with a user_id column, or all", metavar="FILE|all")
    out: Path | None = option(None, "with --users: .parquet, .csv or .jsonl", metavar="FILE")
    k: int = option(10, "length of the list", heading="What may appear")
    exclude: tuple[str, ...] = option((), "an item that must not appear; may be repeated", metavar="ID")
    include_seen: bool = option(False, "items of the history may appear")
    candidates: tuple[str, ...] | None = option(None, "rank these items only", metavar="ID,ID", parse=split_ids)
    where: str | None = option(
        None, "a condition on the catalogue: \"genre = 'Comedy' and year < 2000\"", metavar="SQL"
    )
    items_as: Literal["token", "title"] = option(
        "token", "token: the trained model ranks; title: the pretrained model goes on with titles"
    )
    loading: Loading = options_of(Loading)

    def __post_init__(self) -> None:
        """Raises DataError for none or several of the ways to say for whom."""
        ways = [way for way in ("user", "history", "title", "users") if getattr(self, way) is not None]
        if len(ways) != 1:
            given = ", ".join("--" + way for way in ways) or "none"
            raise DataError(f"give one of --user, --history, --title and --users ({given} given)")
        if (self.users is None) != (self.out is None):
            raise DataError("--users and --out go together")
        check_applies(self, ("json",), self.out is None, "one list, not with --out, whose ending says the form")
        if self.out is not None:
            check_output(self.out)

    @property
    def choice(self) -> dict[str, Any]:
        """What may be in the list, as the recommender takes it."""
        return {
            "k": self.k,
            "exclude": [as_id(item, "--exclude") for item in self.exclude],
            "exclude_seen": not self.include_seen,
            "candidates": None if self.candidates is None else list(self.candidates),
            "where": self.where,
            "items_as": self.items_as,
        }


@command()
def recommend(options: Recommend) -> None:
    """The best items for a user, a history or many users."""
    recommender = options.loading.recommender(options.run)
    if options.user is not None or options.users is not None:
        check_knows_users(recommender, options.run, "--user" if options.users is None else "--users", "give --history")
    if options.users is not None:
        recommend_many(recommender, options)
        return
    if options.user is not None:
        lists = recommender.recommend(options.user, **options.choice, dataset=options.dataset)
    else:
        dataset, history = options.dataset, list(options.history or ())
        if options.title:
            dataset = dataset_of_titles(recommender, options.title, dataset)
            history = [title_id(recommender, title, dataset) for title in options.title]
        lists = recommender.recommend(history=history, **options.choice, dataset=dataset)
    frame = lists.frame
    if options.json:
        show_json(list_json(lists, options.user, options.dataset or recommender.datasets[0]))
        return
    warn(lists.warnings)
    if lists.strategy == "popular":
        say("nothing is known of this user: the most popular items")
    for row in frame.iter_rows(named=True):
        print(
            f"{row['rank']:3}  {row['title'] or row['item_id']}  (item {row['item_id']}, "
            f"score {row['score']:.3f}, probability {row['probability']:.4f})"
        )


def recommend_many(recommender: "Recommender", options: Recommend) -> None:
    """Lists for the users of a file, or for all, to a file."""
    assert options.users is not None and options.out is not None
    dataset = options.dataset
    if options.users == "all":
        users = recommender.all_users(dataset)
    else:
        (users,) = read_ids(Path(options.users), ["user_id"])
    with progress_bar() as progress:
        progress.expect({"users": 1.0})
        lists = recommender.recommend(users, **options.choice, dataset=dataset, progress=progress.stage("users"))
    warn(lists.warnings)
    write_table(lists.frame, options.out)
    say(f"{counted(lists.frame.height, 'rows')} for {counted(len(users), 'users')} in {options.out}")


def dataset_of_titles(recommender: "Recommender", titles: Sequence[str], dataset: str | None) -> str:
    """The data set that was named, else the first that has all titles, else the run's first."""
    fits = (d for d in recommender.datasets if all(recommender.find_items(t, d).height for t in titles))
    return dataset or next(fits, recommender.datasets[0])


def title_id(recommender: "Recommender", title: str, dataset: str) -> str:
    """The item a title names."""
    items = recommender.find_items(title, dataset)
    if not items.height:
        raise DataError(f"no title of the catalogue contains {title!r}")
    if items.height > 1:
        say(f"warning: {title!r} fits {items.height} items; {items['title'][0]!r} is taken, the most frequent")
    return str(items["item_id"][0])


@dataclass(frozen=True)
class Predict(Answer):
    """Options of predict."""

    task: str = option(help="rating, click, purchase, sentiment, ... (what the run was trained on)")
    user: str | None = option(None, "user id", metavar="ID", parse=as_id)
    history: tuple[str, ...] | None = option(
        None, "item ids instead of a user, oldest first", metavar="ID,ID", parse=split_ids
    )
    item: str | None = option(None, "item id", metavar="ID", parse=as_id)
    text: str | None = option(None, "the text a text task is asked about")
    file: Path | None = option(None, "many: a file with user_id and item_id, user_id, or text columns", metavar="FILE")
    out: Path | None = option(None, "with --file: .parquet, .csv or .jsonl", metavar="FILE")
    loading: Loading = options_of(Loading)

    def __post_init__(self) -> None:
        """Raises DataError for a file without the other, and an output that cannot be written."""
        if (self.file is None) != (self.out is None):
            raise DataError("--file and --out go together")
        check_applies(
            self,
            ("user", "history", "item", "text"),
            self.file is None,
            "one answer, not with --file, which names them",
        )
        check_applies(self, ("json",), self.out is None, "one answer, not with --out, whose ending says the form")
        if self.out is not None:
            check_output(self.out)


@command()
def predict(options: Predict) -> None:
    """The outcome of a task, with calibrated probabilities."""
    from ..recommender.replies import likeliest, value_in_words

    users, items, texts = options.user, options.item, options.text
    if options.file is not None:
        users, items, texts = read_ids(options.file, [], ["user_id", "item_id", "review"])
        if users is None and texts is None:
            raise DataError(f"{options.file} has neither a user_id nor a text column")
    recommender = options.loading.recommender(options.run)
    if users is not None:
        check_knows_users(
            recommender, options.run, "--user" if options.file is None else "--file", "give --history, or a --text"
        )
    past = None if options.history is None else list(options.history)
    predictions = recommender.predict(
        options.task, users=users, history=past, items=items, texts=texts, dataset=options.dataset
    )
    warn(predictions.warnings)
    if options.out is not None:
        frame = predictions.frame
        for n, choice in enumerate(predictions.choices):
            frame = frame.with_columns(frame["probabilities"].list.get(n).alias(f"p_{choice}"))
        write_table(frame.drop("probabilities"), options.out)
        say(f"{frame.height:,} predictions in {options.out}")
        return
    if options.json:
        show_json(prediction_json(predictions))
        return
    record = predictions.records()[0]
    probabilities = record["probabilities"]
    named = likeliest(probabilities)
    few = "" if len(named) == len(probabilities) else f"likeliest of {len(probabilities)}: "
    print(f"{record['task']}: {value_in_words(record['value'])}  ({few}{', '.join(f'{c} {p:.3f}' for c, p in named)})")


@dataclass(frozen=True)
class Similar(Answer):
    """Options of similar."""

    item: str = option(help="item id", metavar="ID", parse=as_id)
    k: int = option(10, "length of the list")
    loading: Loading = options_of(Loading)


@command()
def similar(options: Similar) -> None:
    """Items whose vectors are nearest to an item's."""
    neighbours = options.loading.recommender(options.run).similar(options.item, options.k, options.dataset)
    if options.json:
        show_json(similar_json(neighbours, options.item, options.dataset))
        return
    warn(neighbours.warnings)
    for row in neighbours.frame.iter_rows(named=True):
        print(f"{row['rank']:3}  {row['title'] or row['item_id']}  (item {row['item_id']}, cosine {row['score']:.3f})")


@dataclass(frozen=True)
class Embed(Asked):
    """Options of embed."""

    items: bool = option(False, "vectors of the catalogue")
    users: bool = option(False, "vectors of all users")
    out: Path = option(help=".parquet or .jsonl", metavar="FILE")
    loading: Loading = options_of(Loading)

    def __post_init__(self) -> None:
        """Raises DataError unless one of both is asked for, and for an output that cannot be written."""
        if self.items == self.users:
            raise DataError("give one of --items and --users")
        check_output(self.out)


@command()
def embed(options: Embed) -> None:
    """The model's vectors of items or users, to a file."""
    recommender, dataset = options.loading.recommender(options.run), options.dataset
    if options.users:
        check_knows_users(recommender, options.run, "--users", "give --items")
    with progress_bar() as progress:
        progress.expect({"users": 1.0})
        users = progress.stage("users")
        frame = recommender.embed_items(dataset) if options.items else recommender.embed_users(None, dataset, users)
    write_table(frame, options.out)
    say(f"{frame.height:,} vectors in {options.out}")
