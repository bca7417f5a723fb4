"""Raw benchmark files to files that `genrec finetune` reads: interactions, items and users as Parquet.

Every converter gives the same files for the same input. Cases that have a protocol of their own (`cases.parquet`) hold
`case`, `user_id` (whom it is about), `item_id` (what is asked) and, where the history is not the training data's,
`history` and `events`: item ids and what happened to them, oldest first.
"""

import gzip
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from genrec.data.load import DataOptions, load_dataset
from genrec.errors import DataError

FOLDS = 5


def write(frame: pl.DataFrame, path: Path) -> None:
    """A Parquet file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    frame.write_parquet(partial)
    os.replace(partial, path)


def lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number (from 1) and tab-separated fields of every line that is not empty; `.gz` is unpacked."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; see the README.md of the benchmark data")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\n").split("\t")


def table(path: Path) -> bytes:
    """The content of a compressed table."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; see the README.md of the benchmark data")
    return gzip.decompress(path.read_bytes())


def records(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(fields[0]) for _, fields in lines(path)]


def with_years(frame: pl.DataFrame) -> pl.DataFrame:
    """`Heat (1995)` in `title` as title and year."""
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64)
    return frame.with_columns(year.alias("year"), pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", ""))


def drawn_parts(test: np.ndarray, valid_share: float, rng: np.random.Generator) -> np.ndarray:
    """train, valid or test per row: of the rows that are not `test`, a share drawn for validation."""
    rest = np.nonzero(~test)[0]
    part = np.where(test, "test", "train").astype(object)
    part[rng.choice(rest, round(len(rest) * valid_share), replace=False)] = "valid"
    return part


def last_parts(frame: pl.DataFrame) -> pl.DataFrame:
    """Each user's last row as test, the one before it as valid; users with fewer than 3 rows train only."""
    size, place = pl.len().over("user_id"), pl.int_range(pl.len()).over("user_id")
    left = pl.when(size >= 3).then(size - place).otherwise(3)
    part = pl.when(left == 1).then(pl.lit("test")).when(left == 2).then(pl.lit("valid")).otherwise(pl.lit("train"))
    return frame.with_columns(part.alias("part"))


# --- next item ----------------------------------------------------------------------------------------------------


def beauty(raw: Path, out: Path) -> None:
    """Amazon Beauty as S3-Rec published it; a user's order becomes the timestamp."""
    interactions, items = beauty_frames(raw)
    write(interactions, out / "interactions.parquet")
    write(items, out / "items.parquet")


def beauty_frames(raw: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Interactions in each user's order, and items titled and with their narrowest category."""
    rows: list[tuple[str, str, int]] = []
    for _, (line,) in lines(raw / "amazon-beauty" / "sequential_data.txt"):
        user, *bought = line.split()
        rows += [(user, item, n) for n, item in enumerate(bought)]
    items = [
        (str(r["item_id"]), r["title"], (r["categories"] or [[None]])[0][-1])
        for r in records(raw / "amazon-beauty" / "items.jsonl")
    ]
    return (
        pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"),
        pl.DataFrame(items, schema=["item_id", "title", "category"], orient="row"),
    )


def sports(raw: Path, out: Path) -> None:
    """Amazon Sports as S3-Rec published it, with IDGenRec's words for want of titles; a user's order becomes the
    timestamp."""
    rows: list[tuple[str, str, int]] = []
    for _, (line,) in lines(raw / "amazon-sports" / "sequential_data.txt.gz"):
        user, *bought = line.split()
        rows += [(user, item, n) for n, item in enumerate(bought)]
    items = [(str(r["item_id"]), r["keywords"]) for r in records(raw / "amazon-sports" / "items.jsonl.gz")]
    write(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"), out / "interactions.parquet")
    write(pl.DataFrame(items, schema=["item_id", "title"], orient="row"), out / "items.parquet")


def ml_latest(raw: Path, out: Path) -> None:
    """MovieLens latest-small with plots."""
    interactions, items = ml_latest_frames(raw)
    write(interactions, out / "interactions.parquet")
    write(items, out / "items.parquet")


def ml_latest_frames(raw: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ratings in time order, and films with year, genres and plot."""
    folder = raw / "ml-latest-small"
    ratings = pl.read_csv(table(folder / "ratings.csv.gz")).sort("userId", "timestamp", maintain_order=True)
    interactions = ratings.select(
        pl.col("userId").cast(pl.String).alias("user_id"),
        pl.col("movieId").cast(pl.String).alias("item_id"),
        "timestamp",
    )
    films = pl.read_csv(table(folder / "movies.csv.gz"), infer_schema=False)
    genres = pl.col("genres").replace("(no genres listed)", None).str.split("|").alias("genre")
    items = films.select(pl.col("movieId").alias("item_id"), "title", genres, pl.col("overview").alias("plot"))
    return interactions, with_years(items)


def tmall(raw: Path, out: Path, *, passes: int, seed: int) -> None:
    """Views, then carts, then what was bought among what was not, each set in drawn order and without times.

    `pass`: an item that the user viewed or carted and did not buy, up to `passes` of them drawn per purchase. The last
    purchase and as many passes validate. A case of buy.test shows the user's views, carts and purchases, no passes:
    the item that it asks for may be among these.
    """
    rng = np.random.default_rng([seed, 31])
    sets = tmall_sets(raw)
    rows: list[tuple[str, str, str, str]] = []
    cases = []
    wanted = sets_of(raw / "tmall" / "buy.test.txt")
    for user, bought in sets["purchase"].items():
        seen = [(i, kind) for kind in ("view", "cart") for i in rng.permutation(sets[kind].get(user, [])).tolist()]
        rows += [(user, item, kind, "train") for item, kind in seen]
        bought = rng.permutation(bought).tolist()
        left = rng.permutation(open_items(sets, user))[: passes * len(bought)].tolist()
        asked = [(i, "purchase") for i in bought] + [(i, "pass") for i in left]
        held = {*bought[-1:], *left[-passes:]} if len(bought) > 1 else set()
        asked = [asked[n] for n in rng.permutation(len(asked))]
        rows += [(user, item, kind, "valid" if item in held else "train") for item, kind in asked]
        shown = seen + [(i, "purchase") for i in bought]
        for item in wanted.get(user, []):
            cases.append((f"test {user}", user, item, None, [i for i, _ in shown], [kind for _, kind in shown]))
    columns = ["user_id", "item_id", "event", "part"]
    write(pl.DataFrame(rows, schema=columns, orient="row"), out / "interactions.parquet")
    write(pl.DataFrame(cases, schema=CASES, orient="row"), out / "cases.parquet")


TMALL = {"view": "view.train.txt.gz", "cart": "cart.train.txt", "purchase": "buy.train.txt"}


def tmall_sets(raw: Path) -> dict[str, dict[str, list[str]]]:
    """The training lists of each kind, by user."""
    return {kind: sets_of(raw / "tmall" / file) for kind, file in TMALL.items()}


def open_items(sets: Mapping[str, Mapping[str, Sequence[str]]], user: str) -> list[str]:
    """What a user carted, then what the user only viewed, each in the order of the file, nothing that was bought."""
    bought = {*sets["purchase"].get(user, ())}
    every = dict.fromkeys((*sets["cart"].get(user, ()), *sets["view"].get(user, ())))
    return [item for item in every if item not in bought]


def sets_of(path: Path) -> dict[str, list[str]]:
    """Each user's items, in the order of the file."""
    found: dict[str, list[str]] = {}
    for number, (user, *items) in lines(path):
        if user in found:
            raise DataError(f"{path}: user {user} in line {number} has a line already; one line per user is expected")
        found[user] = [i for i in items if i]
    return found


def online_retail(raw: Path, out: Path) -> None:
    """Purchases of known customers: no cancellations, no postage and fees, an invoice is one basket of one time."""
    path = raw / "online-retail" / "online_retail_until_2011-10.parquet"
    if not path.is_file():
        raise DataError(f"{path} does not exist; see the README.md of the benchmark data")
    code, invoice = pl.col("StockCode").str.strip_chars().str.to_uppercase(), pl.col("InvoiceNo").cast(pl.String)
    kept = pl.read_parquet(path).filter(
        pl.col("CustomerID").is_not_null(),
        ~invoice.str.starts_with("C"),
        pl.col("Quantity") > 0,
        pl.col("UnitPrice") > 0,
        code.str.contains(r"^\d{5}"),
    )
    title = pl.col("Description").str.strip_chars().str.replace_all(r"\s+", " ")
    kept = kept.select(
        pl.col("CustomerID").cast(pl.Int64).cast(pl.String).alias("user_id"),
        code.alias("item_id"),
        pl.col("InvoiceDate").dt.epoch("s").min().over("InvoiceNo").alias("timestamp"),
        invoice.alias("basket"),
        title.alias("title"),
    )
    bought = kept.unique(["user_id", "basket", "item_id"], keep="first", maintain_order=True)
    write(bought.drop("title"), out / "interactions.parquet")
    names = kept.drop_nulls("title").group_by("item_id", "title").len()
    named = names.sort("len", "title", descending=[True, False]).unique("item_id", keep="first", maintain_order=True)
    write(named.select("item_id", "title").sort("item_id"), out / "items.parquet")


# --- ratings ------------------------------------------------------------------------------------------------------


def ml_100k_rating(raw: Path, out: Path, *, valid_share: float, seed: int) -> None:
    """ML-100K with each of the test parts u1..u5 held out, and a share of the rest for validation."""
    data = load_dataset("ml-100k", DataOptions(split="random"))
    every = data.interactions.sort("row").select("user_id", "item_id", "rating", "timestamp")
    for fold in range(1, FOLDS + 1):
        path = raw / "ml-100k-splits" / f"u{fold}.test"
        held = pl.DataFrame(
            [(f[0], f[1], float(f[2])) for _, f in lines(path)], schema=["user_id", "item_id", "held"], orient="row"
        )
        joined = every.join(held, on=["user_id", "item_id"], how="left", maintain_order="left")
        test = joined["held"].is_not_null()
        if int(test.sum()) != held.height or (joined["held"] != joined["rating"]).any():
            raise DataError(f"{path}: {held.height:,} ratings, of which {int(test.sum()):,} are among ML-100K's")
        part = drawn_parts(test.to_numpy(), valid_share, np.random.default_rng([seed, 32, fold]))
        write(every.with_columns(pl.Series("part", part, dtype=pl.String)), out / f"u{fold}.parquet")
    write(data.items, out / "items.parquet")
    write(data.users, out / "users.parquet")


OCCUPATIONS = (
    "other,academic or educator,artist,clerical or admin,college or grad student,customer service,"
    "doctor or health care,executive or managerial,farmer,homemaker,K-12 student,lawyer,programmer,retired,"
    "sales or marketing,scientist,self-employed,technician or engineer,tradesman or craftsman,unemployed,writer"
).split(",")  # by their codes, as the data's own README has them


def ml_1m(raw: Path, out: Path, *, fold: int, valid_share: float, seed: int) -> None:
    """ML-1M without times: one fold is test, the other ratings stand in random order."""
    folder = raw / "ml-1m"
    path = folder / "ratings_5fold.csv.gz"
    if not path.is_file():
        raise DataError(f"{path} does not exist; see the README.md of the benchmark data")
    ratings = pl.read_csv(path, schema_overrides={"user_id": pl.String, "item_id": pl.String})
    rng = np.random.default_rng([seed, 33])
    ratings = ratings[rng.permutation(ratings.height)]
    part = drawn_parts((ratings["fold"] == fold).to_numpy(), valid_share, rng)
    ratings = ratings.select(
        "user_id", "item_id", pl.col("rating").cast(pl.Float64), pl.Series("part", part, dtype=pl.String)
    )
    write(ratings, out / "interactions.parquet")
    films = [(f[0], f[1], f[2].split("|")) for _, f in lines(folder / "ml1m_items.dat")]
    write(with_years(pl.DataFrame(films, schema=["item_id", "title", "genre"], orient="row")), out / "items.parquet")
    people = [(f[0], f[1], int(f[2]), OCCUPATIONS[int(f[3])]) for _, f in lines(folder / "ml1m_users.dat")]
    columns = ["user_id", "gender", "age", "occupation"]
    write(pl.DataFrame(people, schema=columns, orient="row"), out / "users.parquet")


# --- yes or no ----------------------------------------------------------------------------------------------------


def collm(raw: Path, out: Path) -> None:
    """CoLLM's ML-1M: a rating above 3 is a click, any other a skip; each test row is a case of its own.

    A case shows the user's training and validation rows, which are all earlier.
    """
    parts = {}
    for part in ("train", "valid", "test"):
        path = raw / "collm-ml1m" / f"{part}.parquet"
        if not path.is_file():
            raise DataError(f"{path} does not exist; see the README.md of the benchmark data")
        parts[part] = pl.read_parquet(path).with_columns(
            pl.col("uid", "iid").cast(pl.String),
            pl.col("his_iid").cast(pl.List(pl.String)),
            event=pl.when(pl.col("label") == 1).then(pl.lit("click")).otherwise(pl.lit("skip")),
            part=pl.lit(part),
        )
    if parts["test"]["timestamp"].min() < max(parts[p]["timestamp"].max() for p in ("train", "valid")):  # type: ignore
        raise DataError(f"{path}: a test row is earlier than a training or validation row; a split by time is expected")
    known = pl.concat([parts["train"], parts["valid"]])
    names = {"uid": "user_id", "iid": "item_id"}
    write(known.rename(names).select("user_id", "item_id", "timestamp", "event", "part"), out / "interactions.parquet")
    films = pl.concat(parts.values()).select(pl.col("iid").alias("item_id"), "title").unique("item_id", keep="first")
    write(with_years(films.sort("item_id")), out / "items.parquet")
    by_user = known.sort("timestamp", maintain_order=True).group_by("uid").agg("iid", "event")
    before = {user: (items, events) for user, items, events in by_user.iter_rows()}
    cases = []
    for number, (user, item, label) in enumerate(parts["test"].select("uid", "iid", "label").iter_rows()):
        items, events = before.get(user, ([], []))
        cases.append((f"test {number}", user, item, label, items, events))
    write(pl.DataFrame(cases, schema=CASES, orient="row"), out / "cases.parquet")


CASES: dict[str, pl.DataType | type[pl.DataType]] = {
    "case": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "label": pl.Int64,
    "history": pl.List(pl.String),
    "events": pl.List(pl.String),
}
PROMPT = re.compile(
    r"User Preference: ?(?P<like>.*)\nUser Unpreference: ?(?P<dislike>.*)\n"
    r'Whether the user will like the target movie "(?P<target>.*)"\?'
)
YES_NO = {"Yes.": 1, "No.": 0}


def tallrec(raw: Path, out: Path, *, shots: int, valid_share: float, draws: int, seed: int) -> None:
    """TALLRec's prompts: every one is a user with liked and disliked films, in drawn order, and one film asked about.

    Per draw, `shots` prompts of valid.json are given. Prompts of one person are one history, oldest first: a film that
    several of them show is one event. The last `valid_share` of a person's films validate, everything else trains.
    Those of test.json are cases of their own, none of which sees another.
    """
    rng = np.random.default_rng([seed, 34])
    pool, asked = (prompts(raw / "tallrec-movie" / f"{part}.json", rng) for part in ("valid", "test"))
    if not 0 < shots <= len(pool):
        raise DataError(f"{shots} shots of {len(pool)} prompts: at least 1 and at most all of them are needed")
    titles = sorted({t for _, _, item, _, history, _ in pool + asked for t in (item, *history)})
    write(with_years(pl.DataFrame({"item_id": titles, "title": titles})), out / "items.parquet")
    persons = persons_of([dict(zip(history, events, strict=True)) for *_, history, events in pool])
    for draw in range(draws):
        drawn = np.sort(rng.choice(len(pool), shots, replace=False))
        rows = []
        for person in np.unique(persons[drawn]).tolist():
            own: dict[str, str] = {}
            for _, _, item, label, history, events in (pool[n] for n in drawn[persons[drawn] == person].tolist()):
                own |= dict(zip(history, events, strict=True)) | {item: ("dislike", "like")[label]}
            train = len(own) - int(len(own) * valid_share)
            rows += [
                (f"person {person}", *event, "train" if n < train else "valid") for n, event in enumerate(own.items())
            ]
        columns = ["user_id", "item_id", "event", "part"]
        write(pl.DataFrame(rows, schema=columns, orient="row"), out / f"draw-{draw}.parquet")
    write(pl.DataFrame(asked, schema=CASES, orient="row"), out / "cases.parquet")


def persons_of(prompts: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Which person each prompt is of (prompts,), by its films and what came of them: the file goes through a person's
    films, so that two prompts in a row share at least half of theirs where they are of one person."""
    alike = [len(a.items() & b.items()) * 2 >= min(len(a), len(b)) for a, b in pairwise(prompts)]
    return np.concatenate([[0], np.cumsum(~np.asarray(alike, dtype=bool))])


def prompts(path: Path, rng: np.random.Generator) -> list[tuple[str, str, str, int, list[str], list[str]]]:
    """The prompts of a file as cases; their films in drawn order, since likes all come before dislikes."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; see the README.md of the benchmark data")
    found = []
    for number, record in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        match = PROMPT.fullmatch(record["input"].strip())
        if match is None or record["output"] not in YES_NO:
            raise DataError(f"{path}: prompt {number + 1} is not of TALLRec's form: {record['input'][:80]!r}")
        films = [(title, kind) for kind in ("like", "dislike") for title in quoted(match[kind])]
        films = [films[n] for n in rng.permutation(len(films))]
        name = f"{path.stem} {number}"
        history, events = [title for title, _ in films], [kind for _, kind in films]
        found.append((name, name, match["target"], YES_NO[record["output"]], history, events))
    return found


def quoted(text: str) -> list[str]:
    """The titles of `"Heat (1995)", "Kids (1995)"`; a title may hold a comma, and quotes."""
    text = text.strip()
    return text[1:-1].split('", "') if text else []


# --- texts --------------------------------------------------------------------------------------------------------


def amazon2023(raw: Path, out: Path, *, seed: int) -> None:
    """All reviews of the three files, texts only, in five folds by user; a tenth of the other users validates."""
    rows = []
    for file in ("ucsd_train.jsonl", "ucsd_val.jsonl", "ucsd_test.jsonl"):
        for record in records(raw / "amazon2023-reviews" / file):
            for review in (*record["history"], record["heldout"]):
                text = ". ".join(t.strip() for t in (review["review_title"], review["review_full"]) if t and t.strip())
                category = record["category"].replace("_", " ")
                rows.append((record["user_id"], float(review["rating"]), without_tags(text), category))
    every = pl.DataFrame(rows, schema=["user", "rating", "review", "category"], orient="row")
    users = every["user"].unique().sort()
    rng = np.random.default_rng([seed, 35])
    place = rng.permutation(len(users))
    for fold in range(FOLDS):
        rest = rng.permutation(np.nonzero(place % FOLDS != fold)[0])
        part = np.where(place % FOLDS == fold, "test", "train").astype(object)
        part[rest[: len(rest) // 10]] = "valid"
        of_user = pl.DataFrame({"user": users, "part": pl.Series(part, dtype=pl.String)})
        texts = every.join(of_user, on="user", how="left", maintain_order="left").drop("user")
        write(texts, out / f"fold-{fold}.parquet")


def without_tags(text: str) -> str:
    """Text without HTML tags and with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^<>]+>", " ", text)).strip()


# --- news -----------------------------------------------------------------------------------------------------------


def mind_sample(raw: Path, out: Path) -> None:
    """Impressions of MIND, each with a history of its own, as they are (all.parquet) and without the events that the
    training part has with any news shown in validation and test (cold.parquet)."""
    folder = raw / "mind-sample"
    news = pl.DataFrame(records(folder / "news.jsonl.gz"), infer_schema_length=None).rename({"news": "item_id"})
    write(news, out / "items.parquet")
    files = {"train": "train", "valid": "recprompt_valid", "test": "recprompt_test"}
    parts = {part: records(folder / f"{name}.jsonl.gz") for part, name in files.items()}
    asked = {item for part in ("valid", "test") for own in parts[part] for item in own["candidates"]}
    for name, left_out in (("all", set[str]()), ("cold", asked)):
        rows = [
            {
                "user_id": str(own["impression_id"]),
                "history": [i for i in own["history"] if i not in left_out],
                "shown": [i for i in own["candidates"] if part != "train" or i not in left_out],
                "clicked": [i for i in own["clicked"] if part != "train" or i not in left_out],
                "part": part,
            }
            for part, every in parts.items()
            for own in every
        ]
        write(pl.DataFrame(rows, infer_schema_length=None), out / f"{name}.parquet")


# --- cold items ---------------------------------------------------------------------------------------------------


def cold(raw: Path, out: Path, *, share: float, seed: int) -> None:
    """ML-100K, Amazon Beauty and MovieLens latest-small with plots, of each a drawn share of the items withheld, in a
    folder each; see `withheld`."""
    data = load_dataset("ml-100k", DataOptions(split="random"))
    films = data.interactions.select("user_id", "item_id", "timestamp")
    frames = {
        "ml-100k": (films, data.items),
        "beauty": beauty_frames(raw),
        "ml-latest-small": ml_latest_frames(raw),
    }
    for name, (interactions, items) in frames.items():
        withheld(interactions, items, out / name, share, np.random.default_rng([seed, 36]))


def withheld(
    interactions: pl.DataFrame, items: pl.DataFrame, out: Path, share: float, rng: np.random.Generator
) -> None:
    """interactions.parquet: leave-one-out without the withheld items; all.parquet: with them in the training part,
    those after a user's validation row left out; cases.parquet: each interaction with a withheld item, whose history
    are the user's earlier interactions with the other items; after.parquet: each user's last other item after a history
    with withheld ones."""
    chosen = rng.choice(items.height, round(items.height * share), replace=False)
    is_cold = interactions["item_id"].is_in(items["item_id"][np.sort(chosen).tolist()].implode())
    interactions = interactions.with_columns(is_cold.alias("cold"), pl.lit("interaction").alias("event"))
    warm = last_parts(interactions.filter(~pl.col("cold")))
    write(warm.drop("cold"), out / "interactions.parquet")
    last = warm.filter(pl.col("part") == "valid").select("user_id", pl.col("timestamp").alias("until"))
    extra = interactions.filter(pl.col("cold")).join(last, on="user_id", how="left", maintain_order="left")
    extra = extra.filter((pl.col("timestamp") < pl.col("until")).fill_null(True)).with_columns(part=pl.lit("train"))
    write(pl.concat([warm, extra.drop("until").select(warm.columns)]).drop("cold"), out / "all.parquet")
    write(items, out / "items.parquet")
    cases: list[tuple[str, str, str, None, Sequence[str], list[str]]] = []
    after: list[tuple[str, str, str, None, Sequence[str], list[str]]] = []
    for (user,), own in interactions.group_by("user_id", maintain_order=True):
        known: list[str] = []
        every = own["item_id"].to_list()
        for item, of_cold in own.select("item_id", "cold").iter_rows():
            if not of_cold:
                known.append(item)
            elif known:
                cases.append((f"cold {len(cases)}", str(user), item, None, tuple(known), ["interaction"] * len(known)))
        if len(known) >= 3:  # those whose last other item is tested
            place = len(every) - 1 - every[::-1].index(known[-1])
            if own["cold"][:place].any():
                history = tuple(every[:place])
                after.append((f"after {len(after)}", str(user), every[place], None, history, ["interaction"] * place))
    write(pl.DataFrame(cases, schema=CASES, orient="row"), out / "cases.parquet")
    write(pl.DataFrame(after, schema=CASES, orient="row"), out / "after.parquet")
