"""Small worlds with a known right answer."""

from dataclasses import replace

import numpy as np
import polars as pl

from genrec.data.dataset import Dataset

DAY = 86_400


def world(name: str, rows: list[tuple[object, ...]], columns: list[str], **more: object) -> Dataset:
    """A data set of these interactions."""
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_row_index("row")
    items = frame["item_id"].unique().sort()
    catalogue = pl.DataFrame({"item_id": items, "title": items})
    people = pl.DataFrame({"user_id": frame["user_id"].unique(maintain_order=True)})
    return Dataset(name, frame, catalogue, people, fingerprint=name, **more)  # type: ignore[arg-type]


def chain_world(items: int = 12, users: int = 60, length: int = 8, seed: int = 0, name: str = "chain") -> Dataset:
    """Item i is followed by item i + 1 (mod items); items with an even number are rated 5, the others 1.

    Leave-one-out; item titles are `red` for even and `blue` for odd numbers, with a `colour` and a `year`.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        start = int(rng.integers(items))
        for n in range(length):
            item = (start + n) % items
            part = "test" if n == length - 1 else "valid" if n == length - 2 else "train"
            rating = 5.0 if item % 2 == 0 else 1.0
            rows.append((f"u{user:03}", f"{item:03}", 1000 + n, "click" if rating > 3 else "skip", rating, part))
    columns = ["user_id", "item_id", "timestamp", "event", "rating", "part"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_row_index("row")
    catalogue = pl.DataFrame(
        {
            "item_id": [f"{i:03}" for i in range(items)],
            "title": [f"{'red' if i % 2 == 0 else 'blue'} {i}" for i in range(items)],
            "colour": ["red" if i % 2 == 0 else "blue" for i in range(items)],
            "year": [1980 + i for i in range(items)],
        }
    )
    people = pl.DataFrame({"user_id": [f"u{u:03}" for u in range(users)], "age": [20 + u % 5 for u in range(users)]})
    return Dataset(name, frame, catalogue, people, fingerprint=f"{name}-{items}-{users}-{length}-{seed}")


def taste_world(items: int = 16, users: int = 80, length: int = 12, seed: int = 0) -> Dataset:
    """Items come in any order; users click those with an odd number (`blue`) and skip the others (`red`).

    Leave-one-out; an item that was clicked is rated 5, one that was skipped 1, so that the next item may be either.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for n, item in enumerate(rng.permutation(items)[:length]):
            part = "test" if n == length - 1 else "valid" if n == length - 2 else "train"
            event, rating = ("click", 5.0) if item % 2 else ("skip", 1.0)
            rows.append((f"u{user:03}", f"{item:03}", 1000 + n, event, rating, part))
    columns = ["user_id", "item_id", "timestamp", "event", "rating", "part"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_row_index("row")
    titles = [f"{'blue' if i % 2 else 'red'} {i}" for i in range(items)]
    catalogue = pl.DataFrame({"item_id": [f"{i:03}" for i in range(items)], "title": titles})
    people = pl.DataFrame({"user_id": [f"u{u:03}" for u in range(users)]})
    return Dataset("taste", frame, catalogue, people, fingerprint=f"taste-{items}-{users}-{length}-{seed}")


def shop_world(items: int = 16, users: int = 60, weeks: int = 20, seed: int = 0) -> Dataset:
    """Weekly baskets of two items that go together (2 i and 2 i + 1); each user keeps to two pairs. Temporal split."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        pairs = rng.choice(items // 2, 2, replace=False)
        stops = int(rng.integers(weeks // 2, weeks + 1)) if user % 3 == 0 else weeks
        for week in range(stops):
            pair = int(pairs[week % 2])
            for item in (2 * pair, 2 * pair + 1):
                rows.append((f"h{user}", f"p{item}", week * 7 * DAY + user, "purchase", f"b{user}-{week}"))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "event", "basket"], orient="row")
    valid, test = (weeks - 8) * 7 * DAY, (weeks - 4) * 7 * DAY
    part = pl.when(pl.col("timestamp") >= test).then(pl.lit("test"))
    part = part.when(pl.col("timestamp") >= valid).then(pl.lit("valid")).otherwise(pl.lit("train"))
    frame = frame.with_row_index("row").with_columns(part.alias("part"))
    catalogue = pl.DataFrame(
        {
            "item_id": [f"p{i}" for i in range(items)],
            "title": [f"thing {i}" for i in range(items)],
            "category": ["food" if i < items // 2 else "drink" for i in range(items)],
        }
    )
    people = pl.DataFrame({"user_id": [f"h{u}" for u in range(users)]})
    return Dataset(
        "shop",
        frame,
        catalogue,
        people,
        fingerprint=f"shop-{items}-{users}-{weeks}-{seed}",
        split_method="temporal",
        cutoffs=(("valid", valid), ("test", test)),
    )


def view_world(users: int = 40, weeks: int = 20, with_rating: bool = False, seed: int = 0) -> Dataset:
    """The shop world where every item is also viewed at each visit, and only some of the viewed ones are bought."""
    shop = shop_world(users=users, weeks=weeks, seed=seed)
    rng = np.random.default_rng(seed)
    bought = shop.interactions.drop("row")
    other = pl.Series([f"p{i}" for i in rng.integers(16, size=bought.height)])
    viewed = bought.with_columns(pl.lit("view").alias("event"), other.alias("item_id"))
    frame = pl.concat([viewed, bought]).sort("user_id", "timestamp", maintain_order=True)
    if with_rating:
        rating = pl.when(pl.col("event") == "purchase").then(pl.lit(5.0)).otherwise(pl.lit(2.0))
        frame = frame.with_columns(rating.alias("rating"))
    return replace(shop, interactions=frame.with_row_index("row"), fingerprint=f"{shop.fingerprint}-{with_rating}")


def visits_world(users: int = 120, days: int = 300) -> Dataset:
    """Half of the users come each week, the others every 32 days."""
    rows: list[tuple[object, ...]] = []
    for u in range(users):
        for day in range(u % 7, days, 7 if u % 2 else 32):
            part = "test" if day >= days - 60 else "valid" if day >= days - 120 else "train"
            rows.append((f"u{u}", f"i{day % 3}", day * DAY, "purchase", part))
    cutoffs = (("valid", (days - 120) * DAY), ("test", (days - 60) * DAY))
    columns = ["user_id", "item_id", "timestamp", "event", "part"]
    return world("visits", rows, columns, split_method="temporal", cutoffs=cutoffs)


def review_world(n: int = 300, seed: int = 0) -> Dataset:
    """Texts whose first word decides the rating: `good` 5, `fair` 3, `bad` 1. No users, no items."""
    rng = np.random.default_rng(seed)
    word = rng.choice(["good", "fair", "bad"], n)
    rating = [{"good": 5.0, "fair": 3.0, "bad": 1.0}[w] for w in word]
    part = np.where(np.arange(n) % 5 == 3, "valid", np.where(np.arange(n) % 5 == 4, "test", "train"))
    frame = pl.DataFrame(
        {
            "event": ["rating"] * n,
            "rating": rating,
            "review": [f"{w} thing , {rng.choice(['red', 'blue'])} and {rng.choice(['new', 'old'])}" for w in word],
            "category": [str(c) for c in rng.choice(["food", "drink"], n)],
            "part": part,
        }
    ).with_row_index("row")
    items = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})
    users = pl.DataFrame(schema={"user_id": pl.String})
    return Dataset("reviews", frame, items, users, fingerprint=f"reviews-{n}-{seed}", split_method="random")


WORDS = (
    "red blue thing good fair bad new old and age user the What will choose next Recommend item no yes rated positive "
    "negative neutral food drink click skip purchase"
).split()
