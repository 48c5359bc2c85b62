"""Training loops that read top to bottom."""
