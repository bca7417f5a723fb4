"""Where a split by time is cut: by days from the end, by shares of the interactions, or from dates."""

from datetime import UTC, datetime

import polars as pl

from ..counting import counted
from ..errors import DataError
from .times import ORDERS, parse_times

DAY = 86_400
MANY_TIED = 0.01  # share of the interactions at the time of a cut from which on a note says so
DATES = "a date (2020-12-31, 2020-12-31 18:00) or seconds since 1970"
Cutoffs = tuple[tuple[str, int], ...]  # part and its first timestamp


def cutoffs_by_days(times: pl.Series, days: int, name: str) -> Cutoffs:
    """The last `days` days are test, as many before them valid."""
    if days < 1:
        raise DataError(f"--days {days}: the test part of a temporal split lasts at least 1 day")
    _, last = span(times, name)
    return ("valid", last + 1 - 2 * days * DAY), ("test", last + 1 - days * DAY)


def shares_of(text: str) -> tuple[float, float, float]:
    """`70,20,10` or `0.7,0.2,0.1` as shares of train, valid and test; raises DataError for anything else."""
    refusal = (
        f"--shares {text}: three numbers above 0 that sum to 100 (or 1) are allowed, of train,valid,test, as 70,20,10"
    )
    try:
        numbers = [float(n) for n in text.replace("%", "").split(",")]
    except ValueError:
        raise DataError(refusal) from None
    total = sum(numbers)
    if len(numbers) != 3 or not all(n > 0 for n in numbers) or min(abs(total - 100), abs(total - 1)) > 1e-6:
        raise DataError(refusal)
    train, valid, test = (n / total for n in numbers)
    return train, valid, test


def cutoffs_by_shares(times: pl.Series, text: str, name: str) -> Cutoffs:
    """The first of the dated interactions are train, the next valid, the last test, as `--shares` says; interactions of
    one time are in one part, the later one at a cut."""
    train, valid, _ = shares_of(text)
    span(times, name)
    ordered = times.drop_nulls().sort()
    first = [ordered[min(round(share * len(ordered)), len(ordered) - 1)] for share in (train, train + valid)]
    if not ordered[0] < first[0] < first[1]:
        raise DataError(
            f"{name}: --shares {text} leaves a part empty: the {len(ordered):,} interactions have "
            f"{ordered.n_unique():,} different times, and those of one time are in one part"
        )
    return ("valid", first[0]), ("test", first[1])


def cutoffs_from_dates(times: pl.Series, valid_from: str | None, test_from: str | None, name: str) -> Cutoffs:
    """Validation and test begin at dates. Without a first date of validation, it is the last tenth before the test."""
    given = {"valid": valid_from, "test": test_from}
    dates = {part: seconds_of(text, f"--{part}-from") for part, text in given.items() if text is not None}
    first, last = span(times, name)
    for part, date in dates.items():
        if not first < date <= last:
            raise DataError(
                f"{name}: --{part}-from {given[part]} is outside of the data, whose times go from {day(first)} to "
                f"{day(last)} ({first} to {last}): a part would be empty"
            )
    if len(dates) == 2 and dates["valid"] >= dates["test"]:
        raise DataError(f"--valid-from {valid_from} --test-from {test_from}: validation comes before the test")
    if "valid" not in dates:
        earlier = times.filter(times < dates["test"]).drop_nulls().sort()
        dates["valid"] = earlier[len(earlier) * 9 // 10]
        if dates["valid"] == earlier[0]:
            raise DataError(
                f"{name}: --test-from {test_from} leaves one time before it, nothing to validate on: give --valid-from"
            )
    if not times.is_between(dates["valid"], dates.get("test", last + 1), closed="left").any():
        raise DataError(f"{name}: no interaction lies between --valid-from {valid_from} and --test-from {test_from}")
    return tuple((part, dates[part]) for part in ("valid", "test") if part in dates)


def seconds_of(text: str, flag: str) -> int:
    """A date or a time as seconds since 1970; raises DataError for a text that is neither."""
    readings = {parse_times(pl.Series([text]), order)[0][0] for order in ORDERS} - {None}
    if not readings:
        raise DataError(f"{flag} {text}: {DATES} is allowed, of the years 1900 to 2100")
    if len(readings) > 1:
        days = " or ".join(day(seconds) for seconds in sorted(readings))
        raise DataError(f"{flag} {text}: this may be {days}; write it so")
    return int(readings.pop())


def span(times: pl.Series, name: str) -> tuple[int, int]:
    """The first and the last of the times; raises DataError if there are none."""
    first, last = times.min(), times.max()
    if not isinstance(first, int) or not isinstance(last, int):
        raise DataError(f"{name}: --split temporal needs times and every timestamp is missing")
    return first, last


def day(seconds: int) -> str:
    """A time as its date in UTC."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def tied(times: pl.Series, cutoffs: Cutoffs) -> list[str]:
    """A note for each cut at whose very time there are many interactions."""
    notes = []
    for part, first in cutoffs:
        n = int((times == first).sum())
        if n > 1 and n >= MANY_TIED * len(times):
            notes.append(
                f"{counted(n, 'interactions have')} the very time at which {part} begins; all of them are in it"
            )
    return notes


def dates_of(interactions: pl.DataFrame) -> list[str]:
    """A note on the first and the last day of each part, if there are times."""
    if "timestamp" not in interactions.columns or not interactions["timestamp"].count():
        return []
    found = interactions.group_by("part").agg(
        pl.col("timestamp").min().alias("a"), pl.col("timestamp").max().alias("b")
    )
    days = {part: f"{day(a)} to {day(b)}" for part, a, b in found.drop_nulls().iter_rows()}
    return ["dates: " + ", ".join(f"{part} {days[part]}" for part in ("train", "valid", "test") if part in days)]
