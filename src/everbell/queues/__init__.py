"""Adapters of the ports that hand work and hints between processes."""
