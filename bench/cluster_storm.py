"""A storm on PostgreSQL: N Python jobs due at one instant, on nodes in processes of their own.

Starts per second count from that instant to the last start; durable: to the last end that is in
the ledger; whole: to that, from the first moment at which a claim may be made. The server is
durable (fsync on) and shares the machine with the nodes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from cluster_parts import at, fill, function, nodes, now_us, rows, server_cpu_s, settled

from everbell.domain.job import US
from everbell.testing.postgres_server import PostgresServer

GIVE_UP_S = 60
AHEAD_US = 500_000
"""``engine.look_ahead``: claims may begin so long before the jobs are due."""


def storm(server: PostgresServer, count: int, each: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Run one storm on nodes with these options and a database of its own.

    It is put off if the jobs were not stored in time.
    """
    for lead_s in (5 + count // 2000, 30, 120):
        found = _storm(server, count, each, lead_s)
        if found is not None:
            return found
    message = "the jobs were not stored before the storm"
    raise RuntimeError(message)


def _storm(
    server: PostgresServer, count: int, each: Sequence[Sequence[str]], lead_s: int
) -> dict[str, Any] | None:
    url = server.url(server.new_database())
    with nodes(url, each) as found:
        time.sleep(2 + len(each))  # several have to agree who does what
        instant = (now_us() // US + lead_s) * US
        jobs = [at(f"job-{number}", instant, function("noop")) for number in range(count)]
        asyncio.run(fill(url, jobs))
        asyncio.run(settled(url))
        if now_us() > instant - US:
            return None
        while now_us() < instant - 700_000:
            time.sleep(0.01)
        cpu = [node.cpu_s() for node in found]
        server_cpu = server_cpu_s(server)
        while sum(node.ask("count") for node in found) < count:
            if now_us() > instant + GIVE_UP_S * US:
                break
            time.sleep(0.1)
        ended = max(node.ask("flush") for node in found)
        cpu_s = sum(node.cpu_s() for node in found) - sum(cpu)
        server_cpu = server_cpu_s(server) - server_cpu
        starts = [node.ask("starts") for node in found]
    late = sorted(one - instant for own in starts for one in own)
    kept = asyncio.run(rows(url, "SELECT count(*) FROM ledger WHERE state = 'succeeded'"))[0][0]
    return {
        "jobs": count,
        "nodes": len(each),
        "first_ms": round(late[0] / 1000, 1),
        "last_ms": round(late[-1] / 1000, 1),
        "starts_per_s": round(count / (late[-1] / US)),
        "durable_per_s": round(count / ((ended - instant) / US)),
        "whole_per_s": round(count / ((ended - instant + AHEAD_US) / US)),
        "cpu_us_per_run": round(cpu_s / count * 1e6, 1),
        "server_cpu_us_per_run": round(server_cpu / count * 1e6, 1),
        "of_each_node": [len(own) for own in starts],
        "lost": count - kept,
        "doubled": len(late) - count,
    }
