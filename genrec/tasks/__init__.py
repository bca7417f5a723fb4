"""Dataset to rows."""
