"""Untrusted SQL expressions, compiled to polars expressions."""

from .compiler import columns, evaluate, expression, meets
from .syntax import shorten

__all__ = ["columns", "evaluate", "expression", "meets", "shorten"]
