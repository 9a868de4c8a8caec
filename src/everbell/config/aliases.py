"""Scheduler0's documented names, as Everbell's settings or as known to need a cluster."""

from __future__ import annotations

ALIASES: dict[str, tuple[str, ...]] = {
    "LogLevel": ("log.level",),
    "Protocol": ("server.protocol",),
    "Host": ("server.host",),
    "Port": ("server.port",),
    "MaxMemory": ("node.max_memory",),
    "MaxCPU": ("node.max_cpu",),
    "NodeId": ("node.name",),
    "JobExecutionTimeout": ("execution.http_timeout", "execution.process_timeout"),
    "JobExecutionRetryDelay": ("execution.retry_delay",),
    "JobExecutionRetryMax": ("execution.retry_max",),
    "MaxWorkers": ("engine.max_workers",),
    "MaxQueue": ("engine.max_queue",),
    "HTTPExecutorPayloadMaxSizeMb": ("callbacks.payload_max_mb",),
}

TOP_LEVEL: dict[str, str] = {"drivers": "queues.drivers", "batch_size": "engine.batch_size"}
"""Names of djinn-scheduler that stand outside of any section, and our names of them."""

WITHOUT_EFFECT: dict[str, str] = {
    "interval": "slots start at their instant, not once in an interval",
    "pidfile": "what starts the node keeps its number: systemd, or dist/everbell.init",
}
"""Names of djinn-scheduler that are understood and mean nothing here, and why."""

CLUSTER_KEYS: tuple[str, ...] = (
    "Bootstrap",
    "RaftAddress",
    "RaftTransportMaxPool",
    "RaftTransportTimeout",
    "RaftApplyTimeout",
    "RaftSnapshotInterval",
    "RaftSnapshotThreshold",
    "PeerConnectRetryMax",
    "PeerConnectRetryDelay",
    "PeerAuthRequestTimeoutMs",
    "ExecutionLogFetchFanIn",
    "ExecutionLogFetchIntervalSeconds",
    "Replicas",
)

ENV_PREFIX = "SCHEDULER0_"

_BY_FOLDED = {name.casefold(): name for name in (*ALIASES, *CLUSTER_KEYS)}


def canonical(name: str) -> str | None:
    """Return the documented spelling of a Scheduler0 name; upper and lower case do not matter."""
    return _BY_FOLDED.get(name.casefold())


def translate(name: str, value: object) -> object:
    """Return the value under Everbell's meaning of the name."""
    if name == "NodeId":
        return f"node-{value}"
    return value


def cluster_note(name: str, where: str) -> str:
    """Say that a cluster's key was understood and does nothing on one node."""
    return f"{where}: `{name}` needs a cluster; ignored on one node"
