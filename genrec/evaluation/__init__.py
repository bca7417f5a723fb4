"""Metrics and the protocols that feed them."""
