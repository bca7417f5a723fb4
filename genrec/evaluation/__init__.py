"""Held-out cases, metrics, intervals, report."""
