"""Rows to a run."""
