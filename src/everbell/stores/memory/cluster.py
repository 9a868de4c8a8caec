"""The nodes in memory."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from everbell.domain.errors import no_such, node_alive
from everbell.domain.records import Node
from everbell.ports.cluster import Assignment, Pulse
from everbell.stores.memory.data import Data

_GONE = frozenset({"dead", "left"})


class MemoryCluster:
    """Implements ClusterStore; the obligations are written there."""

    _data: Data
    sees_deaths = False
    unseen_s = 0.0

    async def heartbeat(self, node: Node) -> Pulse:
        """See ClusterStore."""
        data = self._data
        known = data.nodes.get(node.id)
        accepted = known is None or known.state not in _GONE
        if accepted:
            data.nodes[node.id] = replace(node, drained="")
        drained = data.drains.get(node.name, "")
        return Pulse(accepted=accepted, drained=drained, epoch=data.assignment.epoch)

    async def leave(self, node_id: str, now_us: int) -> None:
        """See ClusterStore."""
        node = self._data.nodes.get(node_id)
        if node is not None:
            self._data.nodes[node_id] = replace(
                node,
                state="left",
                heartbeat_us=now_us,
                lease_until_us=now_us,
                running=0,
                queued=0,
            )

    async def declare_dead(self, now_us: int) -> list[str]:
        """See ClusterStore."""
        nodes = self._data.nodes
        over = sorted(
            node.id
            for node in nodes.values()
            if node.lease_until_us < now_us and node.state not in _GONE
        )
        for node_id in over:
            nodes[node_id] = replace(nodes[node_id], state="dead")
        return over

    async def list_nodes(self) -> list[Node]:
        """See ClusterStore."""
        drains = self._data.drains
        nodes = [
            replace(node, drained=drains.get(node.name, "")) for node in self._data.nodes.values()
        ]
        return sorted(nodes, key=lambda node: (node.name, node.started_us, node.id))

    async def prune_nodes(self, before_us: int) -> int:
        """See ClusterStore."""
        nodes = self._data.nodes
        gone = [
            node.id
            for node in nodes.values()
            if node.state in _GONE and node.heartbeat_us < before_us
        ]
        for node_id in gone:
            del nodes[node_id]
        return len(gone)

    async def drain(self, name: str, reason: str, now_us: int) -> bool:  # noqa: ARG002
        """See ClusterStore."""
        drains = self._data.drains
        if name not in drains and not self._named(name):
            raise no_such("node", name)
        if drains.get(name) == reason:
            return False
        drains[name] = reason
        return True

    async def resume(self, name: str) -> bool:
        """See ClusterStore."""
        if self._data.drains.pop(name, None) is not None:
            return True
        if not self._named(name):
            raise no_such("node", name)
        return False

    async def remove_node(self, node_id: str, now_us: int) -> None:
        """See ClusterStore."""
        data = self._data
        node = data.nodes.get(node_id)
        if node is None:
            raise no_such("node", node_id)
        if node.state not in _GONE and node.lease_until_us >= now_us:
            raise node_alive(node.name, node_id)
        del data.nodes[node_id]
        if not self._named(node.name):
            data.drains.pop(node.name, None)

    def _named(self, name: str) -> bool:
        return any(node.name == name for node in self._data.nodes.values())

    async def get_assignment(self) -> Assignment:
        """See ClusterStore."""
        return self._data.assignment

    async def set_assignment(self, new: Assignment) -> bool:
        """See ClusterStore."""
        if new.epoch != self._data.assignment.epoch + 1:
            return False
        self._data.assignment = new
        return True

    async def report_loads(self, loads: Mapping[int, float], now_us: int) -> None:  # noqa: ARG002
        """See ClusterStore."""
        self._data.loads.update(loads)

    async def shard_loads(self) -> dict[int, float]:
        """See ClusterStore."""
        return dict(sorted(self._data.loads.items()))

    async def change_counter(self) -> int:
        """See ClusterStore: nobody else can write."""
        return self._data.withdrawals
