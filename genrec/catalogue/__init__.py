"""Items as people and filters name them."""
