"""Scores and their parts: language model, counts, calibration."""
