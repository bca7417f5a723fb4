"""Numbers with what they count, in English."""


def number_of(n: int, one: str, more: str | None = None) -> str:
    """`1 case`, `1,200 cases`; more: the plural, where it is not that of most words."""
    return f"{n:,} {one if n == 1 else more or f'{one}s'}"
