"""Rows to a trained adapter."""
