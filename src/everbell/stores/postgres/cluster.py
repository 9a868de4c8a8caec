"""The nodes."""

from __future__ import annotations

from typing import Any

from everbell.domain.job import US
from everbell.domain.records import Node
from everbell.ports.cluster import Pulse
from everbell.stores.postgres import rows
from everbell.stores.postgres.session import Session, Sql

MIN_PATIENCE_S = 0.5
_NAMES = rows.NODE.split(", ")
_BEAT = (
    f"INSERT INTO nodes ({rows.NODE})"
    f" VALUES ({', '.join(f'${number}' for number in range(1, len(_NAMES) + 1))})"
    " ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])
    + " WHERE nodes.state NOT IN ('dead', 'left') RETURNING 1"
)


async def heartbeat(session: Session, node: Node) -> Pulse:
    """See ClusterStore.heartbeat."""
    values: list[Any] = [getattr(node, name) for name in _NAMES]
    return Pulse(accepted=await session.once(_BEAT, *values) is not None)


async def leave(sql: Sql, node_id: str, now_us: int) -> None:
    """See ClusterStore.leave."""
    await sql.change(
        "UPDATE nodes SET state = 'left', heartbeat_us = $1, lease_until_us = $1, running = 0,"
        " queued = 0 WHERE id = $2",
        now_us,
        node_id,
    )


async def declare_dead(sql: Sql, now_us: int) -> list[str]:
    """See ClusterStore.declare_dead."""
    found = await sql.made(
        "UPDATE nodes SET state = 'dead' WHERE lease_until_us < $1"
        " AND state NOT IN ('dead', 'left') RETURNING id",
        now_us,
    )
    return sorted(row[0] for row in found)


async def list_nodes(sql: Sql) -> list[Node]:
    """See ClusterStore.list_nodes."""
    found = await sql.rows(f"SELECT {rows.NODE} FROM nodes ORDER BY name, started_us, id")
    return [Node(**dict(row)) for row in found]


async def prune_nodes(sql: Sql, before_us: int) -> int:
    """See ClusterStore.prune_nodes."""
    return await sql.change(
        "DELETE FROM nodes WHERE state IN ('dead', 'left') AND heartbeat_us < $1", before_us
    )


async def change_counter(sql: Sql) -> int:
    """See ClusterStore.change_counter."""
    return int(await sql.value("SELECT value FROM counters WHERE name = 'changes'"))
