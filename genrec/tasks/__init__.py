"""One task: its file, its templates, its labels."""
