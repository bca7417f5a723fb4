"""`python -m genrec`."""

from .cli import entry

entry()
