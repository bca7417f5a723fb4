"""A sentence to a request to an answer."""
