"""The recommender over REST, a file per resource."""
