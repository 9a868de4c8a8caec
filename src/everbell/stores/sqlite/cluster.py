"""The nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import apsw
import msgspec

from everbell.domain.errors import no_such, node_alive
from everbell.domain.records import Node
from everbell.ports.cluster import Assignment, Pulse, packed, unpacked
from everbell.stores.sqlite import rows

_NAMES = rows.NODE.split(", ")
_LIST = (
    f"SELECT {rows.NODE}, coalesce((SELECT d.reason FROM drains d WHERE d.name = nodes.name), '')"
    " FROM nodes ORDER BY name, started_us, id"
)
_GONE = frozenset({"dead", "left"})
_encode = msgspec.json.encode


def heartbeat(sql: apsw.Cursor, node: Node) -> Pulse:
    """See ClusterStore.heartbeat."""
    state = sql.execute("SELECT state FROM nodes WHERE id = ?", (node.id,)).get
    accepted = state not in _GONE
    if accepted:
        values: list[Any] = [getattr(node, name) for name in _NAMES]
        values[_NAMES.index("roles")] = " ".join(node.roles)
        sql.execute(f"REPLACE INTO nodes ({rows.NODE}) VALUES ({rows.marks(len(values))})", values)
    drained = sql.execute("SELECT reason FROM drains WHERE name = ?", (node.name,)).get
    return Pulse(
        accepted=accepted,
        drained=drained or "",
        schema=int(sql.execute("PRAGMA user_version").get),
        epoch=_epoch(sql),
    )


def leave(sql: apsw.Cursor, node_id: str, now_us: int) -> None:
    """See ClusterStore.leave."""
    sql.execute(
        "UPDATE nodes SET state = 'left', heartbeat_us = ?1, lease_until_us = ?1, running = 0,"
        " queued = 0 WHERE id = ?2",
        (now_us, node_id),
    )


def declare_dead(sql: apsw.Cursor, now_us: int) -> list[str]:
    """See ClusterStore.declare_dead."""
    found = sql.execute(
        "UPDATE nodes SET state = 'dead' WHERE lease_until_us < ?"
        " AND state NOT IN ('dead', 'left') RETURNING id",
        (now_us,),
    ).fetchall()
    return sorted(str(node_id) for (node_id,) in found)


def list_nodes(sql: apsw.Cursor) -> list[Node]:
    """See ClusterStore.list_nodes."""
    return [rows.node(row) for row in sql.execute(_LIST).fetchall()]


def prune_nodes(sql: apsw.Cursor, before_us: int) -> int:
    """See ClusterStore.prune_nodes."""
    sql.execute(
        "DELETE FROM nodes WHERE state IN ('dead', 'left') AND heartbeat_us < ?", (before_us,)
    )
    return sql.connection.changes()


def _named(sql: apsw.Cursor, name: str) -> bool:
    return sql.execute("SELECT 1 FROM nodes WHERE name = ? LIMIT 1", (name,)).get is not None


def drain(sql: apsw.Cursor, name: str, reason: str, now_us: int) -> bool:
    """See ClusterStore.drain."""
    now = sql.execute("SELECT reason FROM drains WHERE name = ?", (name,)).get
    if now is None and not _named(sql, name):
        raise no_such("node", name)
    if now == reason:
        return False
    sql.execute(
        "REPLACE INTO drains (name, reason, at_us) VALUES (?, ?, ?)", (name, reason, now_us)
    )
    return True


def resume(sql: apsw.Cursor, name: str) -> bool:
    """See ClusterStore.resume."""
    sql.execute("DELETE FROM drains WHERE name = ?", (name,))
    if sql.connection.changes():
        return True
    if not _named(sql, name):
        raise no_such("node", name)
    return False


def remove_node(sql: apsw.Cursor, node_id: str, now_us: int) -> None:
    """See ClusterStore.remove_node."""
    row: Any = sql.execute(
        "SELECT name, state, lease_until_us FROM nodes WHERE id = ?", (node_id,)
    ).fetchone()
    if row is None:
        raise no_such("node", node_id)
    name, state, lease_until_us = row
    if state not in _GONE and lease_until_us >= now_us:
        raise node_alive(name, node_id)
    sql.execute("DELETE FROM nodes WHERE id = ?", (node_id,))
    if not _named(sql, name):
        sql.execute("DELETE FROM drains WHERE name = ?", (name,))


def _epoch(sql: apsw.Cursor) -> int:
    return int(sql.execute("SELECT epoch FROM assignment").get)


def get_assignment(sql: apsw.Cursor) -> Assignment:
    """See ClusterStore.get_assignment."""
    row: Any = sql.execute("SELECT epoch, nodes, owners FROM assignment").fetchone()
    nodes = msgspec.json.decode(row[1], type=list[str])
    places = msgspec.json.decode(row[2], type=list[int])
    return Assignment(epoch=row[0], owners=unpacked(nodes, places))


def set_assignment(sql: apsw.Cursor, new: Assignment) -> bool:
    """See ClusterStore.set_assignment."""
    nodes, places = packed(new.owners)
    sql.execute(
        "UPDATE assignment SET epoch = ?1, nodes = ?2, owners = ?3 WHERE epoch = ?1 - 1",
        (new.epoch, _encode(nodes).decode(), _encode(places).decode()),
    )
    return sql.connection.changes() > 0


def report_loads(sql: apsw.Cursor, loads: Mapping[int, float], now_us: int) -> None:
    """See ClusterStore.report_loads."""
    sql.executemany(
        "REPLACE INTO shard_loads (shard, weight, at_us) VALUES (?, ?, ?)",
        [(shard, weight, now_us) for shard, weight in loads.items()],
    )


def shard_loads(sql: apsw.Cursor) -> dict[int, float]:
    """See ClusterStore.shard_loads."""
    query = "SELECT shard, weight FROM shard_loads ORDER BY shard"
    found: list[Any] = sql.execute(query).fetchall()
    return {int(shard): float(weight) for shard, weight in found}


def change_counter(sql: apsw.Cursor) -> int:
    """See ClusterStore.change_counter."""
    return int(sql.execute("PRAGMA data_version").get)
