"""Raw files to a checked Dataset."""
