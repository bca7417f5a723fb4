"""A run folder and its adapter."""
