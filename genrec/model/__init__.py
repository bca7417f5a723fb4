"""Models: frozen backbone, item rows and their forward pass."""
