"""What the server answers about nodes, as frozen records."""

from __future__ import annotations

from datetime import datetime

from everbell.client.records import Record


class Node(Record, frozen=True):
    """A process of the cluster.

    ``drained``: why an operator drained the nodes of its name; ``reason``: why it takes no new work
    now. ``load`` is the work in its ``shards``, in seconds of work an hour. ``clock_offset_s``: the
    database's clock minus its own. ``notes``: what people should know.
    """

    id: str
    name: str
    host: str
    pid: int
    version: str
    state: str
    started_at: datetime
    heartbeat_at: datetime
    lease_until: datetime
    workers: int
    running: int
    queued: int
    rss_bytes: int
    cpu_percent: float
    address: str
    reason: str = ""
    drained: str = ""
    roles: tuple[str, ...] = ()
    shards: int = 0
    load: float = 0.0
    cores: int = 0
    machine_cpu: float = 0.0
    memory_total_bytes: int = 0
    memory_free_bytes: int = 0
    clock_offset_s: float | None = None
    tzdata: str = ""
    schema: int = 0
    notes: tuple[str, ...] = ()


class Cluster(Record, frozen=True):
    """How the work is spread: ``load_ratio`` is most over least loaded scheduler, 1 = even.

    ``dealt`` of the ``shards`` have a living owner; all others are anybody's.
    """

    epoch: int
    nodes_alive: int
    shards: int
    dealt: int
    load: float
    load_ratio: float | None
