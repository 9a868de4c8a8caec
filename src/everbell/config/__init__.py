"""Configuration: schema, sources, secrets file."""
