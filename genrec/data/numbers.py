"""Numbers as people write them: grouped digits, decimal commas, currencies, in one manner for a whole column."""

import re
from typing import Literal

import polars as pl

Decimal = Literal["auto", "point", "comma"]
NO_VALUE = (
    "",
    "nan",
    "nat",
    "na",
    "n/a",
    "#n/a",
    "<na>",
    "null",
    "none",
    "\\n",
    "-",
    "--",
    "?",
)  # in a column of numbers or times
HIGHEST = 100  # rating
SAMPLE = 1000  # values that are looked at before all are
CURRENCY = (  # before or after a number
    r"(?:(?:us|ca|a|au|nz|hk|nt|s|mx|r)?\p{Sc}|元|円|원|kr\.?|zł|kč|ft|lei|лв\.?|руб\.?|rs\.?|"
    r"usd|eur|gbp|jpy|cny|rmb|inr|krw|brl|rub|chf|fr\.|sek|nok|dkk|isk|pln|czk|huf|ron|bgn|try|tl|aud|cad|nzd|hkd|sgd|"
    r"twd|mxn|ars|clp|cop|zar|thb|idr|myr|vnd|php|ils|aed|sar|egp|uah|%)"
)
SPLIT = rf"(?i)^([+-]?)\s*({CURRENCY}?)\s*([+-]?)\s*(\d[\d.,'_ ]*\d|\d|[.,]\d+)\s*({CURRENCY}?)$"
DIGITS = {  # the mark of decimals -> how a number is written
    "point": r"^(?:\d+|[1-9]\d{0,2}(?:(?:,\d{3})+|(?:[ '_]\d{3})+)|[1-9]\d?(?:,\d{2})+,\d{3})?(?:\.\d+)?$",
    "comma": r"^(?:\d+|[1-9]\d{0,2}(?:(?:\.\d{3})+|(?:[ '_]\d{3})+))?(?:,\d+)?$",
}
CODES = ("zip", "zipcode", "postcode", "postalcode", "plz", "phone", "telephone", "tel", "mobile", "fax", "version")
CODE_WORDS = (*CODES, *"id ids code codes isbn isbn10 isbn13 issn ean upc gtin sku asin barcode".split())


def is_code(name: str) -> bool:
    """Whether a column's name says that its digits are no number: `zip_code`, `brand_id`, `phone`."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().split("_")
    return words[-1] in CODE_WORDS or "".join(words[-2:]) in CODES


def as_number(values: pl.Series) -> pl.Series:
    """Finite numbers as Float64; null if a value is not one."""
    if not values.dtype.is_numeric():
        values = values.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    values = values.cast(pl.Float64)
    return values if values.is_finite().all() else values.set(~values.is_finite(), None)


def is_no_value(values: pl.Series) -> pl.Series:
    """Which texts say that a number is missing (`n/a`)."""
    return values.cast(pl.String).str.strip_chars().str.to_lowercase().is_in(NO_VALUE)


def parse_numbers(
    values: pl.Series, decimal: Decimal = "auto", *, has_thousands: bool = True
) -> tuple[pl.Series, str | None]:
    """Finite numbers as Float64, null if a value is not one, and a note on marks and currencies that were read.

    decimal: the mark of decimals; `auto` takes the one with which most values are numbers, and of two the one with
    which all marks group thousands (without `has_thousands`: none). Values in several currencies are no numbers.
    """
    plain = as_number(values)
    if values.dtype.is_numeric() or plain.count() == values.count():
        if decimal != "comma" or values.dtype.is_numeric():
            return plain, None
    texts = values.cast(pl.String).str.strip_chars()
    unique = texts.unique(maintain_order=True).drop_nulls()
    unique = unique.filter(~is_no_value(unique))
    fields = _fields(unique)
    read = {m: _read(fields, m) for m in DIGITS if decimal in ("auto", m)}
    if "point" in read:  # 8.8125e8
        read["point"] = read["point"].fill_null(as_number(unique))
    units = fields["unit"].drop_nulls().unique().sort().to_list()
    if len(units) > 1:
        return plain, f"values in several units ({', '.join(units)}) are no numbers"
    fits = {m: int(numbers.count()) for m, numbers in read.items()}
    mark = next(m for m in fits if fits[m] == max(fits.values()))
    other = next((m for m in fits if m != mark and fits[m] == fits[mark]), None)
    if other is not None and _is_grouped(fields, mark) != _is_grouped(fields, other) == has_thousands:
        mark, other = other, mark
    numbers = texts.replace_strict(unique, read[mark], default=None, return_dtype=pl.Float64)
    changed = (read[mark].is_not_null() & as_number(unique).is_null()) | (read[mark] != as_number(unique))
    if not changed.fill_null(False).any():
        return numbers, None
    differs = (read[other] != read[mark]).fill_null(False) if other is not None else None
    index = int((differs if differs is not None and differs.any() else changed.fill_null(False)).arg_max() or 0)
    note = f"{unique[index]!r} is read as {read[mark][index]:.12g}"
    if other is not None and differs is not None and differs.any():
        note += f"; --decimal {other} reads {read[other][index]:.12g}"
    return numbers, note


def _fields(unique: pl.Series) -> pl.DataFrame:
    """The sign, digits and unit of each text, null if it is no number."""
    text = unique.str.normalize("NFKC").str.replace_all("[−–]", "-").str.replace_all("’", "'")
    parts = text.str.extract_groups(SPLIT).struct.unnest()
    before, after = (pl.col(c).str.to_lowercase().replace("", None) for c in ("2", "5"))
    return parts.select(
        pl.when((pl.col("1") == "-") | (pl.col("3") == "-")).then(-1.0).otherwise(1.0).alias("sign"),
        pl.when(before.is_null() | after.is_null()).then("4").alias("digits"),
        pl.coalesce(before, after).alias("unit"),
    )


def _read(fields: pl.DataFrame, mark: str) -> pl.Series:
    """The numbers of texts with a mark of decimals."""
    decimal, others = (".", "[,'_ ]") if mark == "point" else (",", "[.'_ ]")
    digits = pl.when(pl.col("digits").str.contains(DIGITS[mark])).then("digits")
    plain = digits.str.replace_all(others, "").str.replace(decimal, ".", literal=True)
    return fields.select((plain.cast(pl.Float64, strict=False) * pl.col("sign")).alias("number")).to_series()


def _is_grouped(fields: pl.DataFrame, mark: str) -> bool:
    """Whether no value has decimals with this mark."""
    return not fields["digits"].str.contains("." if mark == "point" else ",", literal=True).any()


def are_ratings(values: pl.Series) -> bool:
    """Whether a column holds numbers of a scale: no texts, none beyond 100, and few different ones."""
    if values.dtype.is_nested():
        return False
    values = values.drop_nulls()
    numbers, _ = parse_numbers(values.filter(~is_no_value(values)), has_thousands=False)
    scale = numbers.unique()
    return 1 < len(scale) <= HIGHEST and not scale.has_nulls() and bool((scale.abs() <= HIGHEST).all())
