"""Projects, credentials, holds and nodes."""

from __future__ import annotations

from typing import Literal

from everbell.domain.job import Record

Scope = Literal["read", "run", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "run", "write", "admin")


class Project(Record, frozen=True):
    """A namespace of jobs."""

    id: int
    uuid: str
    name: str
    description: str
    created_us: int
    updated_us: int


class Credential(Record, frozen=True):
    """An API key. The secret is shown once; only its keyed hash is stored.

    ``project_id`` None = every project. ``old_hash`` stays good until ``old_until_us`` after a
    rotation. ``archived`` = revoked.
    """

    id: int
    uuid: str
    name: str
    api_key: str
    secret_hash: str
    scopes: tuple[Scope, ...]
    project_id: int | None
    created_us: int
    expires_us: int | None = None
    archived: bool = False
    old_hash: str = ""
    old_until_us: int = 0


class Limit(Record, frozen=True):
    """How many runs of the project's jobs that name this limit may be active at once.

    ``active`` and ``jobs`` are counted when the limit is read.
    """

    project_id: int
    name: str
    most: int
    active: int = 0
    jobs: int = 0


class Hold(Record, frozen=True):
    """Nothing new starts in the scope until released. ``target_id`` is 0 for ``all``.

    With ``until_us`` it ends by itself, then: slots before that instant run by the choice ``then``.
    """

    id: int
    scope: Literal["all", "project", "job"]
    target_id: int
    reason: str
    who: str
    created_us: int
    until_us: int | None = None
    then: Literal["skip", "once", "each"] = "skip"


class Node(Record, frozen=True):
    """A process of the cluster. ``id`` is new at every start; ``name`` stays.

    ``reason``: why it takes no new work (``throttled``), with the limit. ``drained``: why an
    operator drained the nodes of its name ("" = not drained); the store joins it. Of its machine:
    ``machine_cpu`` in percent of all ``cores``, memory in all and free. ``tzdata``: the version of
    the time zone rules it plans by; ``schema``: the number of the schema it was made for.
    ``clock_offset_s``: the store's clock minus its own, None = not known.
    """

    id: str
    name: str
    host: str
    pid: int
    version: str
    started_us: int
    heartbeat_us: int
    lease_until_us: int
    state: Literal["up", "draining", "throttled", "left", "dead"]
    workers: int
    running: int
    queued: int
    rss_bytes: int
    cpu_percent: float
    address: str = ""
    reason: str = ""
    drained: str = ""
    roles: tuple[str, ...] = ("scheduler", "worker", "api")
    cores: int = 1
    machine_cpu: float = 0.0
    memory_total_bytes: int = 0
    memory_free_bytes: int = 0
    tzdata: str = ""
    schema: int = 0
    clock_offset_s: float | None = None
