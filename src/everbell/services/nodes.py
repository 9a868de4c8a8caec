"""The nodes of the cluster, and whether this one can work."""

from __future__ import annotations

from msgspec.structs import replace

from everbell.domain.records import Node
from everbell.services.context import Services


async def list_nodes(services: Services) -> list[Node]:
    """Return all nodes that are known, alive or not.

    A node whose lease is over is shown as dead, also where no other node is there to declare it.
    """
    now = services.clock.now_us()
    return [_as_seen(node, now) for node in await services.store.list_nodes()]


def _as_seen(node: Node, now_us: int) -> Node:
    if node.state == "throttled" and node.lease_until_us >= now_us:
        return node
    node = replace(node, reason="")
    if node.state in {"left", "dead"} or node.lease_until_us >= now_us:
        return node
    return replace(node, state="dead", running=0, queued=0)


async def check_store(services: Services) -> None:
    """Touch the store. Raises StoreError if it does not answer."""
    await services.store.change_counter()
