"""genrec: a recommender that you can prompt."""

__version__ = "0.1.0"
