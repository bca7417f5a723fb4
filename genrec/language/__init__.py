"""The backbone in words."""
