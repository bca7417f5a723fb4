"""One task: its file, its templates and its labels."""
