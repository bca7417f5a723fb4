"""Untrusted SQL expressions, compiled to polars expressions."""

from .compiler import columns, evaluate, expression, is_condition, meets
from .syntax import shorten

__all__ = ["columns", "evaluate", "expression", "is_condition", "meets", "shorten"]
