"""The engine for many nodes: PostgreSQL; nodes are stateless around it."""

from everbell.stores.postgres.connection import Tls
from everbell.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore", "Tls"]
