"""Numbered SQL files; each brings the schema from the version before to its own number."""
