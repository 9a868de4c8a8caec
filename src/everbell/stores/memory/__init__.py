"""The oracle: everything in dictionaries, nothing durable, no threads, one answer."""

from everbell.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
