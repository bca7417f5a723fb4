"""Times as people write them, as seconds since 1970: one form, and one order of day and month, for a whole column."""

import zoneinfo
from datetime import date, time, timedelta
from typing import Literal, get_args

import numpy as np
import polars as pl

from .numbers import SAMPLE, Decimal, as_number, is_no_value, parse_numbers

DateOrder = Literal["auto", "dmy", "mdy", "ymd", "ydm"]
ORDERS = get_args(DateOrder)[1:]
WORDS = {"dmy": "day first", "mdy": "month first", "ymd": "year, month, day", "ydm": "year, day, month"}
YEARS = (-2_208_988_800, 4_133_980_799)  # 1900 to 2100 in seconds since 1970
DIGITS = (  # numbers that may be dates: pattern, lowest, highest
    ("%Y%m%d", 19_000_101, 21_001_231),
    ("%Y%m%d%H%M", 190_001_010_000, 210_012_312_359),
    ("%Y%m%d%H%M%S", 19_000_101_000_000, 21_001_231_235_959),
)
SPREADSHEET_DAYS = (32_874, 54_789)  # 1990 to 2050, counted from 30 December 1899
YEAR_NUMBERS = (1900, 2100)
SPREADSHEET_1970 = 25_569
EARLIEST_AMONG_DATES = 100_000_000  # 1973: a smaller number among dates is hardly a time in seconds
EPOCH = date(1970, 1, 1)
SINCE_2000 = 946_684_800
CLOSER = 4  # times shorter is the span of the dates in the likelier order of day and month
MONTHS = (  # in English, German, French, Spanish, Italian, Portuguese and Dutch
    "january jan januar jänner janvier janv enero ene gennaio gen janeiro januari",
    "february feb februar février févr fév febrero febbraio fevereiro fev februari",
    "march mar märz mär mrz mars marzo março maart mrt",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag maio mei",
    "june jun juni juin junio giugno giu junho",
    "july jul juli juillet juil julio luglio lug julho",
    "august aug août agosto ago augustus",
    "september sep sept septembre septiembre settembre set setembro",
    "october oct oktober okt octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre déc diciembre dic dicembre dezembro",
)
OFFSETS = {  # hours east of UTC, of abbreviations that mean one zone
    **{"z": 0, "utc": 0, "gmt": 0, "wet": 0, "west": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3, "msk": 3},
    **{"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "jst": 9, "kst": 9},
}
CLOCK = r"(^|[^\d+-])(\d{1,2}:\d{2}(?::\d{2})?)(?:[.,]\d{1,9})?"
MIDNIGHT = r"[ T]0?0:00(:00(\.0+)?)?$"
CLOCK_ALONE = r"^\D{0,6}\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:[+-]\d{2}:?\d{2}|\D{0,6})$"  # 10:15:00, 下午 3:05
WORDS_TO_MARKS = (  # in turn, of text in lower case
    (r"\s*(?:\([^)]*\)|\[[^\]]*\])$", ""),  # 10:00 GMT+0100 (CET)
    (r"(?:星期|周|週)[一二三四五六日天]|\([月火水木金土日]\)", " "),
    (r"\b(?:mon|tue(?:s)?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\b[.,]?\s*", ""),
    (r"\s*[年月년월]\s*", "-"),
    (r"\s*[日号號일]\s*", " "),
    (r"[时時点點시]\s*$", ":00"),
    (r"\s*[时時点點시分분]\s*", ":"),
    (r"[秒초]|:\s*$", ""),
    (r"上午|午前|오전|凌晨|\ba\.\s?m\.", " am "),
    (r"下午|午後|오후|晚上|\bp\.\s?m\.", " pm "),
    (r"\b(am|pm)\s+(\d{1,2}(?::\d+)*)\s*$", "${2} ${1}"),
    (r"(^|[\s,])(\d{1,2})\s*(am|pm)\b", "${1}${2}:00 ${3}"),
    (r"\b(?:of|de|del)\b", " "),
    (r"(\d)(?:st|nd|rd|th)\b", "${1}"),
    *((rf"(^|[^\pL])(?:{'|'.join(n.split())})\.?([^\pL]|$)", rf"${{1}} m{m} ${{2}}") for m, n in enumerate(MONTHS, 1)),
)
DATE_FIRST = (  # in turn, once a month in words is m3
    (r"^(\d{4})(\d{2})(\d{2})(?:$|[t ])", "${1}-${2}-${3} "),  # 20240301
    (r"^(\d{4}-\d{2}-\d{2} )(\d{2})(\d{2})(\d{2})", "${1}${2}:${3}:${4}"),  # 20240301T101500
    (r"^(\d{4}-\d{2}-\d{2} )(\d{2})(\d{2})", "${1}${2}:${3}"),
    (r"^(\d{4})[-/.](\d{1,2})-?\s*$", "${1}-${2}-1"),  # a month
    (r"^(\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]m)?)[\s,]+(.*\d)$", "${2} ${1}"),  # 10:00 01/03/2024
    (
        r"^\s*(m\d+\s+\d{1,2})\s+(\d{1,2}:\d{2}(?::\d{2})?)\s*(.*?)\s*\b(\d{4})$",
        "${1} ${4} ${2} ${3}",
    ),  # Mar 1 10:00:00 2024
)
FIELDS = (
    r"^\s*(?P<a>\d{4}|\d{1,2}|m\d+)(?P<mark>[\s./,-]+)(?P<b>\d{1,2}|m\d+)(?P<mark_2>[\s./,-]+)(?P<c>\d{4}|\d{1,2})\.?"
    r"(?:(?:\s*t|[\s,:]+|\s*-\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})"
    r"(?::(?P<second>\d{2})(?:[.,]\d{1,9})?)?\s*(?:(?P<half>[ap]m)\b)?\s*"
    r"(?:(?:utc|gmt)?(?P<offset>[+-]\d{1,2}(?::?\d{2})?)|(?P<zone>[a-z][a-z_]*(?:/[a-z0-9_/+-]+)?))?)?\s*$"
)


def parse_times(
    values: pl.Series, order: DateOrder = "auto", decimal: Decimal = "auto", *, day_first: bool = False
) -> tuple[pl.Series, str | None]:
    """Seconds since 1970 (Int64; UTC unless a zone is stated), null if a value is no time of 1900 to 2100, and a note.

    The note says what was assumed of the whole column. order: of day, month and year; `auto` takes the one that fits
    most values, and of several the likeliest. day_first: what else is known of the file tells of such a country.
    """
    seconds, note = _parse(values, order, decimal, day_first)
    return seconds.set(~seconds.is_between(*YEARS), None), note


def looks_like_times(values: pl.Series) -> bool:
    """Whether the first values of a column are dates, or numbers of seconds (or milliseconds, ...) since 2000."""
    if values.dtype in (pl.Date, pl.Datetime):
        return True
    sample = values.drop_nulls().head(100)
    if not len(sample) or not (values.dtype == pl.String or values.dtype.is_numeric()):
        return False
    seconds, _ = parse_times(sample)
    return bool((seconds > SINCE_2000).fill_null(False).all())


def looks_like_clocks(values: pl.Series) -> bool:
    """Whether the first values of a column are times of the day without a date."""
    if values.dtype == pl.Time:
        return True
    sample = values.drop_nulls().head(SAMPLE)
    return values.dtype == pl.String and len(sample) > 0 and bool(sample.str.contains(CLOCK_ALONE).all())


def has_dates_alone(values: pl.Series) -> bool:
    """Whether the first values of a column are dates without a time of the day, or with midnight as such."""
    if isinstance(values.dtype, pl.Datetime):
        return bool((values.dt.time() == time()).all())
    if values.dtype.is_integer():
        _, first, last = DIGITS[0]
        return bool(values.is_between(first, last).all())
    days = values.cast(pl.String).head(SAMPLE).str.replace(MIDNIGHT, "")
    return values.dtype in (pl.Date, pl.String) and not days.str.contains(":").any()


def date_and_clock(dates: pl.Series, clocks: pl.Series) -> pl.Series:
    """Dates of one column with the times of the day of another, as text; without a time the date alone."""
    days = dates.dt.date() if isinstance(dates.dtype, pl.Datetime) else dates
    day, clock = pl.lit(days.cast(pl.String).str.replace(MIDNIGHT, "")), pl.lit(clocks.cast(pl.String).fill_null(""))
    return pl.select(pl.concat_str(day, clock, separator=" ").str.strip_chars()).to_series()


def _parse(values: pl.Series, order: DateOrder, decimal: Decimal, day_first: bool) -> tuple[pl.Series, str | None]:
    if values.dtype in (pl.Date, pl.Datetime):
        return values.dt.epoch("s"), None
    if values.dtype.is_numeric():
        return to_seconds(as_number(values))
    if values.dtype != pl.String:
        return _nulls(values), None
    number = as_number(values)
    if number.count() == values.count():
        return to_seconds(number)
    text = values.str.strip_chars().set(number.is_not_null(), None)
    sample = values.drop_nulls().head(SAMPLE)
    seconds = _iso(text) if _iso(sample.str.strip_chars()).count() else _nulls(text)
    if seconds.count() < text.count():
        sample = sample.filter(~is_no_value(sample))
        if 0 < parse_numbers(sample, decimal)[0].count() == len(sample):  # 1,500,000,000
            grouped, grouping = parse_numbers(values, decimal)
            seconds, unit = to_seconds(grouped)
            return seconds, "; ".join(n for n in (grouping, unit) if n) or None
        seconds, note = _dates(text, order, day_first)
    else:
        note = None
    if not number.count():
        return seconds, note
    if not seconds.is_between(*YEARS).any():  # numbers, and some texts that are no times
        return to_seconds(number)
    instants = number.set(number < EARLIEST_AMONG_DATES, None)
    mixed = f"{instants.count():,} numbers among the dates are read as seconds since 1970"
    return seconds.fill_null(to_seconds(instants)[0]), "; ".join(n for n in (mixed, note) if n)


def _iso(text: pl.Series) -> pl.Series:
    """Seconds since 1970 of ISO texts, null if they are none."""
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)T", "$1 ").str.replace("Z$", "+00:00")
    seconds = _nulls(text)
    for pattern in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f%z"):
        if seconds.null_count() > text.null_count():
            seconds = seconds.fill_null(text.str.to_datetime(pattern, strict=False, time_unit="us").dt.epoch("s"))
    return seconds


def to_seconds(number: pl.Series) -> tuple[pl.Series, str | None]:
    """Seconds since 1970, and a note on numbers that are read as a spreadsheet's days.

    The median tells milli-, micro- and nanoseconds; 8, 12 and 14 digits are dates where all are valid ones.
    """
    low, high = number.min(), number.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return number.cast(pl.Int64), None
    for pattern, first, last in DIGITS:
        if first <= low and high <= last:
            dates = number.cast(pl.Int64).cast(pl.String).str.strptime(pl.Datetime, pattern, strict=False)
            if dates.count() == number.count():
                return dates.dt.epoch("s"), None
    if YEAR_NUMBERS[0] <= low and high <= YEAR_NUMBERS[1] and bool((number % 1 == 0).all()):
        dates = number.cast(pl.Int64).cast(pl.String).str.strptime(pl.Datetime, "%Y", strict=False)
        return dates.dt.epoch("s"), f"{low:.0f} is read as a year"
    if SPREADSHEET_DAYS[0] <= low and high <= SPREADSHEET_DAYS[1]:
        seconds = ((number - SPREADSHEET_1970) * 86_400).round().cast(pl.Int64)
        return seconds, f"{low:.10g} is read as {_spoken(int(low) - SPREADSHEET_1970)}, a spreadsheet's number of days"
    median = number.abs().median()
    assert isinstance(median, float)
    unit = next((unit for unit, threshold in ((1e9, 1e17), (1e6, 1e14), (1e3, 1e11)) if median > threshold), 1.0)
    return (number / unit).floor().cast(pl.Int64, strict=False), None


def _dates(text: pl.Series, order: DateOrder, day_first: bool) -> tuple[pl.Series, str | None]:
    """Seconds of dates in the commonest form of a column, in the order of day and month that fits most."""
    rows = pl.DataFrame({"text": text.str.replace(CLOCK, "${1}0:00"), "clock": text.str.extract(CLOCK, 2)})
    values = rows.drop_nulls("text").group_by("text").len("count").sort("text")  # few: times of the day are apart
    values = values.with_columns(_marked(values["text"]).str.extract_groups(FIELDS).alias("fields")).unnest("fields")
    numbers = pl.col("hour", "minute", "second").cast(pl.Int64)
    values = values.with_columns(_form().alias("form"), numbers).drop_nulls("form")
    if not values.height:
        return _nulls(text), None
    forms = values.group_by("form").agg(pl.col("count").sum()).sort("count", "form", descending=[True, False])
    form = str(forms["form"][0])
    values = values.filter(pl.col("form") == form)
    days = {o: _days(values, o) for o in (ORDERS if order == "auto" else (order,))}
    fits = {o: int((d.is_not_null() * values["count"]).sum()) for o, d in days.items()}
    if not any(fits.values()):
        return _nulls(text), None
    likely = [o for o in fits if fits[o] == max(fits.values())]
    if "ymd" in likely and form.startswith("4"):
        likely = ["ymd"]  # 2024-01-02 is never 1 February
    values = values.with_columns(days[o].alias(o) for o in likely)
    rows = rows.join(values.drop("count", "form"), on="text", how="left", maintain_order="left")
    reason = f"--date-order {order}" if order != "auto" else "no other order fits"
    if len(likely) > 1:
        has_halves = bool(values["half"].count())
        likely, reason = _likeliest(likely, {o: rows[o] for o in likely}, form, has_halves, day_first)
    seconds = _in_utc(rows.select(pl.col(likely[0]).alias("days"), _time_of_day(rows), "offset", "zone"))
    is_plain = "4" in form and ("m" in form or likely[0] == "ymd")  # nothing was assumed
    return seconds.alias(text.name), None if is_plain else _note(text, rows, likely, reason)


def _nulls(values: pl.Series) -> pl.Series:
    return pl.Series(values.name, [None], dtype=pl.Int64).new_from_index(0, len(values))


def _marked(text: pl.Series) -> pl.Series:
    """Texts with months as m3, words of other languages as marks, and the date before the time."""
    text = text.str.normalize("NFKC").str.to_lowercase()
    if text.str.contains(r"\pL").any():
        for pattern, replacement in WORDS_TO_MARKS:
            text = text.str.replace_all(pattern, replacement)
    for pattern, replacement in DATE_FIRST:
        text = text.str.replace(pattern, replacement)
    return text


def _form() -> pl.Expr:
    """How a date is written: 4 for a year, m for a month in words, 2 for other numbers, the mark; null if no date."""
    kinds = []
    for field in "abc":
        is_month = pl.col(field).str.starts_with("m")
        is_year = pl.col(field).str.len_chars() == 4
        kinds.append(pl.when(is_month).then(pl.lit("m")).when(is_year).then(pl.lit("4")).otherwise(pl.lit("2")))
    has_month = pl.any_horizontal(pl.col(f).str.starts_with("m") for f in "ab")
    mark = pl.when(pl.col("mark_2").str.contains(",")).then(pl.lit(",")).otherwise("mark")
    mark = pl.when(has_month).then(pl.lit("")).otherwise(mark.str.replace(r"^\s*([/.,-]|\s)\s*$", "${1}"))
    return pl.when(pl.col("a").is_not_null()).then(pl.concat_str(*kinds, mark))


def _time_of_day(rows: pl.DataFrame) -> pl.Series:
    """Seconds since midnight of `clock`, else of hour, minute and second, 0 without either; null if there is none."""
    clocks = rows.select(pl.col("clock").unique()).drop_nulls()
    parts = pl.col("clock").str.split(":").list
    units = [parts.get(n, null_on_oob=True).cast(pl.Int64).alias(unit) for n, unit in enumerate(("h", "m", "s"))]
    rows = rows.join(clocks.with_columns(units), on="clock", how="left", maintain_order="left")
    hour, minute, second = (
        pl.coalesce(short, long).fill_null(0) for short, long in (("h", "hour"), ("m", "minute"), ("s", "second"))
    )
    half = pl.col("half")
    hour_of_day = pl.when(half.is_null()).then(hour).otherwise(hour % 12 + pl.when(half == "pm").then(12).otherwise(0))
    is_valid = (hour <= pl.when(half.is_null()).then(23).otherwise(12)) & (minute <= 59) & (second <= 59)
    return rows.select(pl.when(is_valid).then(hour_of_day * 3600 + minute * 60 + second).alias("time")).to_series()


def _days(values: pl.DataFrame, order: str) -> pl.Series:
    """Days since 1970 of dates whose fields are in an order; null if it does not fit."""
    day, month, year = (pl.col("abc"[order.index(letter)]) for letter in "dmy")
    short = year.cast(pl.Int64, strict=False)
    century = pl.when(year.str.len_chars() == 4).then(0).when(short < 69).then(2000).otherwise(1900)
    text = pl.concat_str(
        (short + century).cast(pl.String), month.str.strip_prefix("m").str.zfill(2), day.str.zfill(2), separator="-"
    )
    is_fitting = (day.str.len_chars() < 3) & ~day.str.starts_with("m") & (year.str.len_chars() != 1)
    for field in "abc":  # a month in words must be in the month's place
        if order["abc".index(field)] != "m":
            is_fitting &= ~pl.col(field).str.starts_with("m")
    date = pl.when(is_fitting).then(text).str.to_date("%Y-%m-%d", strict=False)
    return values.select(date.cast(pl.Int32).cast(pl.Int64).alias("days")).to_series()


def _likeliest(
    orders: list[str], by_row: dict[str, pl.Series], form: str, has_halves: bool, day_first: bool
) -> tuple[list[str], str]:
    """Orders that fit a column equally, the likeliest first, and why it is."""
    if form.endswith("."):
        return _preferred("dmy", orders), "dates with dots have the day first"
    if form.endswith(","):
        return _preferred("mdy", orders), "a comma before the year"
    is_sorted = {o: d.drop_nulls().is_sorted() or d.drop_nulls().is_sorted(descending=True) for o, d in by_row.items()}
    in_file_order = [o for o in orders if is_sorted[o]]
    if len(in_file_order) == 1:
        return _preferred(in_file_order[0], orders), "so read the rows are in order"
    span = {o: int(np.ptp(d.drop_nulls().to_numpy())) for o, d in by_row.items()}
    first, second = sorted(orders, key=lambda o: span[o])[:2]
    if span[second] > CLOSER * max(span[first], 1):
        return _preferred(first, orders), f"so read they lie within {span[first] + 1:,} days, not {span[second] + 1:,}"
    if day_first:
        return _preferred("dmy", orders), "assumed, as decimals have a comma"
    if has_halves:
        return _preferred("mdy", orders), "assumed, as the hours end at 12"
    return _preferred("dmy", orders), "assumed, as nothing in the column tells"


def _preferred(order: str, orders: list[str]) -> list[str]:
    return [order, *(o for o in orders if o != order)] if order in orders else orders


def _in_utc(values: pl.DataFrame) -> pl.Series:
    """Seconds since 1970 of days, times of the day and zones; null for an unknown zone and for an hour it skipped."""
    offset = pl.col("offset")
    if not values["offset"].count() and not values["zone"].count():
        return values.select((pl.col("days") * 86_400 + pl.col("time")).alias("seconds")).to_series()
    digits = offset.str.slice(1).str.replace(":", "", literal=True)
    minutes = digits.str.slice(0, 2).cast(pl.Int64) * 60 + digits.str.slice(2).replace("", "0").cast(pl.Int64)
    east = pl.when(offset.str.starts_with("-")).then(-minutes).otherwise(minutes).fill_null(0) * 60
    local = values.select((pl.col("days") * 86_400 + pl.col("time") - east).alias("seconds"), "zone")
    zones = local["zone"].unique().drop_nulls().to_list()
    if not zones:
        return local["seconds"]
    names = {name.lower(): name for name in zoneinfo.available_timezones()}
    instants = [pl.when(pl.col("zone").is_null()).then("seconds")]
    for zone in zones:
        if zone in OFFSETS:
            instant = pl.col("seconds") - OFFSETS[zone] * 3600
        elif zone in names:
            wall = pl.from_epoch(pl.when(pl.col("zone") == zone).then("seconds"), time_unit="s")
            instant = wall.dt.replace_time_zone(names[zone], ambiguous="earliest", non_existent="null").dt.epoch("s")
        else:
            continue
        instants.append(pl.when(pl.col("zone") == zone).then(instant))
    return local.select(pl.coalesce(instants).alias("seconds")).to_series()


def _note(text: pl.Series, rows: pl.DataFrame, orders: list[str], reason: str) -> str:
    """`01/03/2024 is read as 1 March 2024 (day first: ...); --date-order mdy reads 3 January 2024`."""
    order, *others = orders
    shown = rows[order].is_not_null()
    for other in others:  # an example that the orders read differently
        differs = shown & (rows[other] != rows[order]).fill_null(False)
        shown = differs if differs.any() else shown
    index = int(shown.arg_max() or 0)
    line = f"{text[index]} is read as {_spoken(rows[order][index])} ({WORDS[order]}: {reason})"
    readings = [f"--date-order {o} reads {_spoken(rows[o][index])}" for o in others if rows[o][index] is not None]
    return "; ".join((line, *readings))


def _spoken(days: int) -> str:
    """Days since 1970 as `1 March 2024`."""
    day = EPOCH + timedelta(days=days)
    return f"{day.day} {day:%B %Y}"
