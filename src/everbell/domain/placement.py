"""Which node decides which jobs.

Jobs are dealt to nodes by shard. Placement only makes the work even: any node may decide any job
that is overdue, so that nothing waits for it.

The formula:

- weight of a job = runs per hour x mean seconds of a run: the seconds of work that it asks for in
  an hour. A mean that is not known counts as ``UNKNOWN_S``, and none counts as less than
  ``LEAST_S``: a run costs something however short it is, so that frequency alone counts too.
- capacity of a node = sqrt(workers x cores x idle) x room. Jobs that wait need workers, jobs that
  compute need cores, hence the mean of both. ``idle`` is the machine's idle CPU and ``room`` its
  free memory, both in a few coarse steps, so that noise moves nothing. Nodes of one host share its
  machine: for each of them counts what they measured on the average.
- a node that is drained, throttled, dead, stopping, or no scheduler, has no capacity.

What ``place`` keeps to:

- It is a pure function: the same input gives the same owners.
- A node that goes gives its own shards away; no others move.
- A node that comes is given at most its fair share of shards; nothing moves between the others.
- Otherwise shards move only if the load per capacity of two nodes differs by more than
  ``UNEVEN`` and moving makes it clearly better. Then it is made as even as single moves can:
  the most loaded of equal nodes has no more than the least loaded plus the lightest loaded shard
  that it owns. One job that is heavier than a fair share can't be divided.
- Shards without load are dealt by number, so that new jobs spread too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from msgspec.structs import replace

from everbell.domain.job import Record
from everbell.domain.records import Node

SHARDS = 1024
"""Jobs are dealt to nodes by shard; so many that each of many nodes gets about its part."""
UNKNOWN_S = 1.0
"""Seconds that a run is taken to last as long as none has ended."""
LEAST_S = 0.05
"""Seconds that a run counts for at least."""
UNEVEN = 1.2
"""Most loaded over least loaded node, per capacity, from which on shards move."""
EVEN = 1.04
"""The same ratio at which it is even enough."""
UNEVEN_COUNT = 1.5
WORTH = 0.05
"""Part of a mean node's load by which moving must narrow the spread."""
SETTLED_US = 1_000_000
"""Age (us) of a node at which the CPU that it read means something."""
_IDLE_STEPS = ((0.5, 1.0), (0.25, 0.7), (0.1, 0.4))
_IDLE_LEAST = 0.2
_ROOM_STEPS = ((0.15, 1.0), (0.05, 0.5))
_ROOM_LEAST = 0.1


def shard_of(job_id: int) -> int:
    """Return the shard of a job."""
    return job_id % SHARDS


def weight(period_s: float, mean_s: float | None) -> float:
    """Return the seconds of work that a job with this period asks for in an hour."""
    seconds = UNKNOWN_S if mean_s is None else max(mean_s, LEAST_S)
    return 3600.0 / max(period_s, 0.001) * seconds


class Place(Record, frozen=True):
    """A node that may own shards: ``capacity`` 0 = none. ``name`` outlives restarts."""

    id: str
    name: str
    capacity: float


def capacity(node: Node) -> float:
    """Return how much of the work a node is to get, in no unit; 0 = none."""
    if node.state != "up" or node.drained or "scheduler" not in node.roles:
        return 0.0
    idle = _step(1.0 - node.machine_cpu / 100.0, _IDLE_STEPS, _IDLE_LEAST)
    room = 1.0
    if node.memory_total_bytes > 0:
        free = node.memory_free_bytes / node.memory_total_bytes
        room = _step(free, _ROOM_STEPS, _ROOM_LEAST)
    return round(math.sqrt(max(node.workers, 1) * max(node.cores, 1) * idle) * room, 2)


def _step(value: float, steps: Iterable[tuple[float, float]], least: float) -> float:
    return next((level for bound, level in steps if value >= bound), least)


def places(nodes: Iterable[Node], now_us: int) -> list[Place]:
    """Return where shards may be: nodes with their capacity, by id.

    The dead are among them, so that a restarted node is known by its name. Of two with one name,
    the earlier has no capacity if it was not heard of since the later started: it was killed.
    """
    nodes = _of_one_machine(list(nodes), now_us)
    born: dict[str, int] = {}
    for node in nodes:
        born[node.name] = max(born.get(node.name, 0), node.started_us)
    return [
        Place(
            id=node.id,
            name=node.name,
            capacity=(
                0.0
                if node.lease_until_us < now_us
                or (node.started_us < born[node.name] and node.heartbeat_us < born[node.name])
                else capacity(node)
            ),
        )
        for node in sorted(nodes, key=attrgetter("id"))
    ]


def _of_one_machine(nodes: list[Node], now_us: int) -> list[Node]:
    """Give nodes of one host the same readings.

    The CPU that a node read right after its start says nothing: what the others of its machine
    read counts, or else the machine counts as idle.
    """
    readings: dict[str, list[Node]] = {}
    for node in nodes:
        alive = node.state not in {"dead", "left"} and node.lease_until_us >= now_us
        if alive and node.heartbeat_us - node.started_us >= SETTLED_US:
            readings.setdefault(node.host, []).append(node)
    shared: list[Node] = []
    for node in nodes:
        cpu, free = 0.0, node.memory_free_bytes
        if found := readings.get(node.host):
            cpu = sum(it.machine_cpu for it in found) / len(found)
            free = sum(it.memory_free_bytes for it in found) // len(found)
        shared.append(replace(node, machine_cpu=cpu, memory_free_bytes=free))
    return shared


def spread(
    nodes: Sequence[Place], loads: Mapping[int, float], owners: Sequence[str]
) -> dict[str, tuple[int, float]]:
    """Return of each node with capacity how many shards it owns, and their load."""
    board = _Board(nodes, loads)
    board.inherit(owners, {})
    counted = zip(board.nodes, board.counts, board.loads, strict=True)
    return {node.id: (count, load) for node, count, load in counted}


def ratio(nodes: Sequence[Place], loads: Mapping[int, float], owners: Sequence[str]) -> float:
    """Return the most loaded over the least loaded node, per capacity; 1 = even.

    Infinite if a node has no load while another has some.
    """
    board = _Board(nodes, loads)
    board.inherit(owners, {})
    return board.ratio(board.loads)


def place(
    nodes: Sequence[Place],
    loads: Mapping[int, float],
    previous: Sequence[str],
    homes: Mapping[int, str] | None = None,
) -> tuple[str, ...]:
    """Return the id of each shard's owner; empty if no node has any capacity.

    ``homes``: the name of the node that had a shard before it went away; it is given back first.
    """
    board = _Board(nodes, loads)
    if not board.nodes:
        return ()
    board.inherit(previous, {node.id: node.name for node in nodes})
    orphans = [shard for shard in range(SHARDS) if board.owner[shard] < 0]
    newcomers = [index for index, count in enumerate(board.counts) if not count]
    board.fill(orphans)
    for index in newcomers:
        board.welcome(index, homes or {})
    if not orphans and not newcomers:
        board.level()
    return board.owners()


SCATTERED = tuple(index * 633 % SHARDS for index in range(SHARDS))
"""All shards, any few that follow one another far apart (633 is 1024 by the golden ratio).

New jobs have ids that follow one another: shards dealt in order would put them on one node.
"""


class _Board:
    """Shards on nodes, while they are dealt. Nodes without capacity are not on it."""

    def __init__(self, nodes: Sequence[Place], loads: Mapping[int, float]) -> None:
        able = [node for node in nodes if node.capacity > 0]
        self.nodes = sorted(able, key=attrgetter("id"))
        self.weights = [max(loads.get(shard, 0.0), 0.0) for shard in range(SHARDS)]
        self.owner = [-1] * SHARDS
        self.loads = [0.0] * len(self.nodes)
        self.counts = [0] * len(self.nodes)
        self._total = sum(node.capacity for node in self.nodes)

    def owners(self) -> tuple[str, ...]:
        return tuple(self.nodes[index].id for index in self.owner)

    def ratio(self, amounts: Sequence[float]) -> float:
        each = [amount / node.capacity for amount, node in zip(amounts, self.nodes, strict=True)]
        if not each or max(each) <= 0:
            return 1.0
        return max(each) / min(each) if min(each) > 0 else math.inf

    def inherit(self, previous: Sequence[str], names: Mapping[str, str]) -> None:
        """Leave shards where they are; what a restarted node had is its successor's."""
        index_of = {node.id: index for index, node in enumerate(self.nodes)}
        had = set(previous)
        heirs: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            if node.id not in had:
                heirs.setdefault(node.name, index)
        for shard, owner in enumerate(previous[:SHARDS]):
            index = index_of.get(owner, -1)
            if index < 0 and owner in names:
                index = heirs.get(names[owner], -1)
            if index >= 0:
                self.give(shard, index)

    def give(self, shard: int, to: int) -> None:
        before = self.owner[shard]
        if before >= 0:
            self.loads[before] -= self.weights[shard]
            self.counts[before] -= 1
        self.owner[shard] = to
        self.loads[to] += self.weights[shard]
        self.counts[to] += 1

    def fill(self, shards: Sequence[int]) -> None:
        """Give shards without an owner to the nodes with the least, the heaviest first."""
        for shard in sorted(shards, key=lambda it: (-self.weights[it], it)):
            load = self.weights[shard]
            amounts: Sequence[float] = self.loads if load > 0 else self.counts
            extra = load if load > 0 else 1
            costs = [
                (amount + extra) / node.capacity
                for amount, node in zip(amounts, self.nodes, strict=True)
            ]
            self.give(shard, costs.index(min(costs)))

    def welcome(self, index: int, homes: Mapping[int, str]) -> None:
        """Give a newcomer its fair share, and no shard more: first what was its own."""
        share = self.nodes[index].capacity / self._total
        most = math.floor(SHARDS * share)
        fair = sum(self.weights) * share
        name = self.nodes[index].name
        own = [shard for shard in range(SHARDS) if homes.get(shard) == name]
        for shard in sorted(own, key=lambda it: (-self.weights[it], it)):
            load = self.weights[shard]
            if load > 0 and self.counts[index] < most and self.loads[index] + load <= fair * EVEN:
                self.give(shard, index)
        while self.counts[index] < most and self._ease(index):
            pass
        for shard in own:
            if self.counts[index] >= most:
                break
            if self.owner[shard] != index and not self.weights[shard]:
                self.give(shard, index)
        while self.counts[index] < most and self._hand_idle(index):
            pass

    def level(self) -> None:
        """Make uneven loads, and then uneven numbers, even; if that is worth the moves."""
        if self.ratio(self.loads) > UNEVEN:
            before, kept = self._width(), list(self.owner)
            for _ in range(4 * SHARDS):
                if self.ratio(self.loads) <= EVEN or not self._ease(self._least(self.loads)):
                    break
            if before - self._width() < WORTH:
                for shard, index in enumerate(kept):
                    self.give(shard, index)
        if self.ratio(self.counts) > UNEVEN_COUNT:
            for _ in range(SHARDS):
                to = self._least(self.counts)
                if self.ratio(self.counts) <= EVEN or not self._hand_idle(to):
                    break

    def _width(self) -> float:
        """Return how far apart the loads are, in parts of a mean one."""
        each = [load / node.capacity for load, node in zip(self.loads, self.nodes, strict=True)]
        mean = sum(self.loads) / self._total
        return (max(each) - min(each)) / mean if mean > 0 else 0.0

    def _least(self, amounts: Sequence[float]) -> int:
        return self._by_amount(amounts)[-1]

    def _by_amount(self, amounts: Sequence[float]) -> list[int]:
        """Return nodes by what they have per capacity, the most first."""
        return sorted(
            range(len(self.nodes)), key=lambda it: (-amounts[it] / self.nodes[it].capacity, it)
        )

    def _ease(self, to: int) -> bool:
        """Move the loaded shard that helps most to a node from one with more; False if none."""
        mean = sum(self.loads) / self._total
        room = self.nodes[to].capacity
        for donor in self._by_amount(self.loads):
            weighs = self.nodes[donor].capacity
            surplus = min(self.loads[donor] - mean * weighs, mean * room - self.loads[to])
            if donor == to or surplus <= 0:
                return False
            top = self.loads[donor] / weighs
            fitting = [
                (abs(load - surplus), shard)
                for shard, load in enumerate(self.weights)
                if load > 0
                and self.owner[shard] == donor
                and (self.loads[to] + load) / room < top * (1 - 1e-9)
            ]
            if fitting:
                self.give(min(fitting)[1], to)
                return True
        return False

    def _hand_idle(self, to: int) -> bool:
        """Move a shard without load to a node from the one with the most; False if none."""
        for donor in self._by_amount(self.counts):
            if donor == to:
                return False
            for shard in SCATTERED:
                if self.owner[shard] == donor and not self.weights[shard]:
                    self.give(shard, to)
                    return True
        return False
