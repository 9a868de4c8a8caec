"""What nodes know of each other: the part of the store by which they share the jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from everbell.domain.job import Record
from everbell.domain.records import Node

__all__ = ["UNSEEN_MAX_S", "Assignment", "ClusterStore", "Pulse", "Share", "packed", "unpacked"]

UNSEEN_MAX_S = 0.25
"""Others declare nobody dead whom they missed for less than 0.4 s."""


class Share(Record, frozen=True):
    """Which jobs a node decides first: of its own ``shards`` (domain.placement.shard_of).

    Jobs of all other shards count as due ``behind_us`` later, so that nothing waits for a node
    that does not come.
    """

    shards: tuple[int, ...]
    behind_us: int


class Pulse(Record, frozen=True):
    """The answer to a heartbeat.

    ``accepted`` False = the node was declared dead, or left. ``drained``: why an operator drained
    the nodes of this name, "" = not drained. ``store_us``: the store's own clock at the answer,
    None = it has none. ``schema``: the number of the schema in the database now, None = it has
    none. ``epoch``: that of the assignment in force.
    """

    accepted: bool
    drained: str = ""
    store_us: int | None = None
    schema: int | None = None
    epoch: int = 0


class Assignment(Record, frozen=True):
    """Which node owns which shard: ``owners`` holds a node's id per shard, "" = nobody.

    Epoch 0 without owners = none was ever made.
    """

    epoch: int = 0
    owners: tuple[str, ...] = ()


def packed(owners: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the nodes of an assignment, and for each shard its node's position in them.

    Positions count from 1; 0 = nobody. This is the form in which engines store owners.
    """
    nodes = sorted({owner for owner in owners if owner})
    places = {"": 0} | {node: place for place, node in enumerate(nodes, 1)}
    return nodes, [places[owner] for owner in owners]


def unpacked(nodes: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    """Return owners from their stored form."""
    names = ("", *nodes)
    return tuple(names[place] for place in places)


class ClusterStore(Protocol):
    """The nodes.

    - ``heartbeat`` stores the node (its ``drained`` is not stored: it is the name's); a node that
      is not accepted must drop all it holds.
    - ``list_nodes`` is ordered by (name, started). Nodes gone for a day are forgotten by ``prune``.
    - ``declare_dead``: of nodes whose lease is over and, if the engine ``sees_deaths``, of those
      whose session at the server ended. Their lease is over from then on, so that ``orphans``
      lists what they had. A node that lives but lost its session, or whose session this process
      could not watch all the time, is not declared dead before its lease is over.
    - ``sees_deaths``: ``declare_dead`` is worth a call every quarter of a second, and writes only
      if somebody died.
    - ``unseen_s``: for how many seconds others may have taken this process for dead although it
      lives, because it lost its session and could neither renew it nor say so; 0.0 = surely not.
      A node must not trust its lease while this is ``UNSEEN_MAX_S`` or more.
    - A drain is of a name: it outlasts the node's process, and its being forgotten.
    - ``remove_node`` forgets a node at once, and with the last one of a name its drain.
    - ``set_assignment`` is a compare-and-set: of all that follow one epoch, one is stored.
    - ``change_counter`` is cheap and differs whenever another process may have written, or this
      one called a verb that withdraws claims. It is read after all that was asked for before.
    """

    @property
    def sees_deaths(self) -> bool:
        """Whether deaths are seen before leases are over."""
        ...

    @property
    def unseen_s(self) -> float:
        """For how long (s) this process may count as dead."""
        ...

    async def heartbeat(self, node: Node) -> Pulse:
        """Store what the node is and until when its lease lasts."""
        ...

    async def leave(self, node_id: str, now_us: int) -> None:
        """Say that the node stopped in good order."""
        ...

    async def declare_dead(self, now_us: int) -> list[str]:
        """Mark nodes that are gone as dead; return the ids newly marked, in order."""
        ...

    async def list_nodes(self) -> list[Node]:
        """Return all nodes."""
        ...

    async def prune_nodes(self, before_us: int) -> int:
        """Forget nodes that left or died before; how many."""
        ...

    async def drain(self, name: str, reason: str, now_us: int) -> bool:
        """Drain the nodes of a name, for a ``reason`` that is not empty.

        False = they are drained for this reason already. Raises NotFoundError: no such name.
        """
        ...

    async def resume(self, name: str) -> bool:
        """End a drain; False = there was none. Raises NotFoundError: no such name."""
        ...

    async def remove_node(self, node_id: str, now_us: int) -> None:
        """Forget a node. Raises NotFoundError; ConflictError unless it is dead, left or over."""
        ...

    async def get_assignment(self) -> Assignment:
        """Return the assignment in force."""
        ...

    async def set_assignment(self, new: Assignment) -> bool:
        """Put an assignment in force if its epoch follows the one stored; return whether it is."""
        ...

    async def report_loads(self, loads: Mapping[int, float], now_us: int) -> None:
        """Store the weights of shards; those that are not named keep theirs."""
        ...

    async def shard_loads(self) -> dict[int, float]:
        """Return the weights that were ever stored, by shard."""
        ...

    async def change_counter(self) -> int:
        """Return a number that tells whether claims must be looked at again."""
        ...
