"""The nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everbell.domain.errors import no_such, node_alive
from everbell.domain.job import US
from everbell.domain.records import Node
from everbell.ports.cluster import Assignment, Pulse, packed, unpacked
from everbell.stores.postgres import rows
from everbell.stores.postgres.session import Session, Sql

MIN_PATIENCE_S = 0.5
_NAMES = rows.NODE.split(", ")
_BEAT = (
    f"WITH beat AS (INSERT INTO nodes ({rows.NODE}, presence)"
    f" VALUES ({', '.join(f'${number}' for number in range(1, len(_NAMES) + 2))})"
    " ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*_NAMES[1:], "presence"))
    + " WHERE nodes.state NOT IN ('dead', 'left') RETURNING 1)"
    " SELECT EXISTS (SELECT FROM beat), coalesce((SELECT reason FROM drains WHERE name = $2), ''),"
    " (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,"
    " (SELECT max(number) FROM schema_version),"
    " coalesce((SELECT epoch FROM assignment), 0)"
)
_LIST = (
    f"SELECT {rows.NODE}, coalesce((SELECT d.reason FROM drains d WHERE d.name = nodes.name), '')"
    " AS drained FROM nodes ORDER BY name, started_us, id"
)
_OVER = "SELECT 1 FROM nodes WHERE lease_until_us < $1 AND state NOT IN ('dead', 'left') LIMIT 1"
# That a session is gone is looked at once more: it may have come back.
_DECLARE = (
    "UPDATE nodes SET state = 'dead', lease_until_us = least(lease_until_us, $1)"
    " WHERE state NOT IN ('dead', 'left') AND (lease_until_us < $1"
    " OR CASE WHEN id = ANY ($2::text[]) THEN pg_try_advisory_xact_lock_shared(presence) END)"
    " RETURNING id"
)
_ASSIGN = (
    "INSERT INTO assignment (epoch, nodes, owners) SELECT $1::bigint, $2::text[], $3::smallint[]"
    " WHERE $1 = 1 OR EXISTS (SELECT FROM assignment)"
    " ON CONFLICT (one) DO UPDATE SET epoch = excluded.epoch, nodes = excluded.nodes,"
    " owners = excluded.owners WHERE assignment.epoch = excluded.epoch - 1 RETURNING 1"
)
_LOADS = (
    "INSERT INTO shard_loads (shard, weight, at_us)"
    " SELECT a.shard, a.weight, $3 FROM unnest($1::integer[], $2::double precision[])"
    " AS a (shard, weight) ON CONFLICT (shard)"
    " DO UPDATE SET weight = excluded.weight, at_us = excluded.at_us"
)


async def heartbeat(session: Session, node: Node, presence: int | None) -> Pulse:
    """See ClusterStore.heartbeat; ``presence`` is the key of the lock that is held.

    Half a lease without an answer is too long to wait for it.
    """
    values: list[Any] = [getattr(node, name) for name in _NAMES]
    patience_s = max((node.lease_until_us - node.heartbeat_us) / 2 / US, MIN_PATIENCE_S)
    row = await session.vital(patience_s, _BEAT, *values, presence)
    return Pulse(accepted=row[0], drained=row[1], store_us=row[2], schema=row[3], epoch=row[4])


async def leave(sql: Sql, node_id: str, now_us: int) -> None:
    """See ClusterStore.leave."""
    await sql.change(
        "UPDATE nodes SET state = 'left', heartbeat_us = $1, lease_until_us = $1, running = 0,"
        " queued = 0, presence = NULL WHERE id = $2",
        now_us,
        node_id,
    )


async def any_over(sql: Sql, now_us: int) -> bool:
    """Return whether a node's lease is over that nobody has declared dead."""
    return await sql.value(_OVER, now_us) is not None


async def declare_dead(sql: Sql, now_us: int, vanished: Sequence[str]) -> list[str]:
    """See ClusterStore.declare_dead; ``vanished``: whose sessions seem to have ended."""
    return sorted(row[0] for row in await sql.made(_DECLARE, now_us, vanished))


async def list_nodes(sql: Sql) -> list[Node]:
    """See ClusterStore.list_nodes."""
    return [_node(row) for row in await sql.rows(_LIST)]


def _node(row: Any) -> Node:
    values = dict(row)
    return Node(roles=tuple(values.pop("roles")), **values)


async def prune_nodes(sql: Sql, before_us: int) -> int:
    """See ClusterStore.prune_nodes."""
    return await sql.change(
        "DELETE FROM nodes WHERE state IN ('dead', 'left') AND heartbeat_us < $1", before_us
    )


async def _known(sql: Sql, name: str) -> None:
    if await sql.value("SELECT 1 FROM nodes WHERE name = $1 LIMIT 1", name) is None:
        raise no_such("node", name)


async def drain(sql: Sql, name: str, reason: str, now_us: int) -> bool:
    """See ClusterStore.drain."""
    now = await sql.value("SELECT reason FROM drains WHERE name = $1", name)
    if now is None:
        await _known(sql, name)
    made = await sql.made(
        "INSERT INTO drains (name, reason, at_us) VALUES ($1, $2, $3) ON CONFLICT (name)"
        " DO UPDATE SET reason = excluded.reason, at_us = excluded.at_us"
        " WHERE drains.reason <> excluded.reason RETURNING 1",
        name,
        reason,
        now_us,
    )
    return bool(made)


async def resume(sql: Sql, name: str) -> bool:
    """See ClusterStore.resume."""
    if await sql.change("DELETE FROM drains WHERE name = $1", name):
        return True
    await _known(sql, name)
    return False


async def remove_node(sql: Sql, node_id: str, now_us: int) -> None:
    """See ClusterStore.remove_node."""
    row = await sql.row(
        "SELECT name, state IN ('dead', 'left') OR lease_until_us < $2 FROM nodes WHERE id = $1"
        " FOR UPDATE",
        node_id,
        now_us,
    )
    if row is None:
        raise no_such("node", node_id)
    if not row[1]:
        raise node_alive(row[0], node_id)
    await sql.change("DELETE FROM nodes WHERE id = $1", node_id)
    await sql.change(
        "DELETE FROM drains WHERE name = $1 AND NOT EXISTS (SELECT FROM nodes WHERE name = $1)",
        row[0],
    )


async def get_assignment(sql: Sql) -> Assignment:
    """See ClusterStore.get_assignment."""
    row = await sql.row("SELECT epoch, nodes, owners FROM assignment")
    return (
        Assignment() if row is None else Assignment(epoch=row[0], owners=unpacked(row[1], row[2]))
    )


async def set_assignment(session: Session, new: Assignment) -> bool:
    """See ClusterStore.set_assignment."""
    return await session.once(_ASSIGN, new.epoch, *packed(new.owners)) is not None


async def report_loads(session: Session, loads: Mapping[int, float], now_us: int) -> None:
    """See ClusterStore.report_loads."""
    # In order, so that those who report at once wait for each other in one direction.
    await session.all(_LOADS, *rows.columns(sorted(loads.items()), 2), now_us)


async def shard_loads(sql: Sql) -> dict[int, float]:
    """See ClusterStore.shard_loads."""
    found = await sql.rows("SELECT shard, weight FROM shard_loads ORDER BY shard")
    return {row[0]: row[1] for row in found}


async def change_counter(sql: Sql) -> int:
    """See ClusterStore.change_counter."""
    return int(await sql.value("SELECT value FROM counters WHERE name = 'changes'"))
