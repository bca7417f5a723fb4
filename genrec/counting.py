"""Numbers with what they count, in English."""


def number_of(n: int, one: str) -> str:
    """`1 case`, `1,200 cases`."""
    return f"{n:,} {one if n == 1 else f'{one}s'}"
