"""The nodes of the cluster, and whether this one can work."""

from __future__ import annotations

from everbell.domain.records import Node
from everbell.services.context import Services


async def list_nodes(services: Services) -> list[Node]:
    """Return all nodes that are known, alive or not."""
    return await services.store.list_nodes()


async def check_store(services: Services) -> None:
    """Touch the store. Raises StoreError if it does not answer."""
    await services.store.change_counter()
