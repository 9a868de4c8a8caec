"""The nodes."""

from __future__ import annotations

import apsw

from everbell.domain.records import Node
from everbell.stores.sqlite import rows


def heartbeat(sql: apsw.Cursor, node: Node) -> bool:
    """See ClusterStore.heartbeat."""
    state = sql.execute("SELECT state FROM nodes WHERE id = ?", (node.id,)).get
    if state in {"dead", "left"}:
        return False
    sql.execute(
        f"REPLACE INTO nodes ({rows.NODE}) VALUES ({rows.marks(16)})",
        (
            node.id,
            node.name,
            node.host,
            node.pid,
            node.version,
            node.started_us,
            node.heartbeat_us,
            node.lease_until_us,
            node.state,
            node.workers,
            node.running,
            node.queued,
            node.rss_bytes,
            node.cpu_percent,
            node.address,
            node.reason,
        ),
    )
    return True


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
    found = sql.execute(f"SELECT {rows.NODE} FROM nodes ORDER BY name, started_us, id").fetchall()
    return [rows.node(row) for row in found]


def prune_nodes(sql: apsw.Cursor, before_us: int) -> int:
    """See ClusterStore.prune_nodes."""
    sql.execute(
        "DELETE FROM nodes WHERE state IN ('dead', 'left') AND heartbeat_us < ?", (before_us,)
    )
    return sql.connection.changes()


def change_counter(sql: apsw.Cursor) -> int:
    """See ClusterStore.change_counter."""
    return int(sql.execute("PRAGMA data_version").get)
