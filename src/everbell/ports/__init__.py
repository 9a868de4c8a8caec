"""Protocols between the core and the world; each docstring bullet is an obligation."""
