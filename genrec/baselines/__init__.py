"""Rivals of a run: strong baselines on the same split and the same cases."""
