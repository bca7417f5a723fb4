"""Items of a data set: look-up by id, title or condition."""
