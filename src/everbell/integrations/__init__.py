"""Everbell inside of Python programs: jobs declared in code, a node in a program's own loop."""
