"""What is told of nodes and of the cluster, and what is asked of them."""

from __future__ import annotations

from everbell.api.schemas import In, Out, Time


class DrainIn(In, frozen=True, kw_only=True):
    """Why a node is to take no new work."""

    reason: str = ""


class NodeOut(Out, frozen=True, kw_only=True):
    """A process of the cluster.

    ``drained``: why an operator drained the nodes of its name; ``reason``: why it takes no new work
    now. ``shards`` of the cluster's are its own, and ``load`` is the work in them: seconds of work
    an hour. ``machine_cpu`` (percent, smoothed), ``cores`` and memory are its machine's.
    ``clock_offset_s``: the database's clock minus its own, null = not known. ``notes``: what people
    should know, such as that its time zone rules are not those of another node.
    """

    id: str
    name: str
    host: str
    pid: int
    version: str
    state: str
    started_at: Time
    heartbeat_at: Time
    lease_until: Time
    workers: int
    running: int
    queued: int
    rss_bytes: int
    cpu_percent: float
    address: str
    reason: str
    drained: str
    roles: tuple[str, ...]
    shards: int
    load: float
    cores: int
    machine_cpu: float
    memory_total_bytes: int
    memory_free_bytes: int
    clock_offset_s: float | None
    tzdata: str
    schema: int
    notes: tuple[str, ...]


class ClusterOut(Out, frozen=True, kw_only=True):
    """How the work is spread. Jobs are dealt to nodes by shard; ``epoch`` counts the deals.

    ``dealt`` of the ``shards`` have a living owner; all others, and all of a cluster of one node,
    are anybody's. ``load`` is the work in all of them: seconds of work an hour. ``load_ratio``:
    most over least loaded scheduler, per capacity; 1 = even, null = not known or one has nothing.
    """

    epoch: int
    nodes_alive: int
    shards: int
    dealt: int
    load: float
    load_ratio: float | None
