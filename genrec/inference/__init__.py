"""Batched scoring with a trained adapter."""
