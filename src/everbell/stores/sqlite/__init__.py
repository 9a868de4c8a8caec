"""The default engine: SQLite in WAL mode; a commit is durable before it is acknowledged."""

from everbell.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
