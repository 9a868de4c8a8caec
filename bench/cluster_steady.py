"""Many stored schedules on PostgreSQL: what idle nodes cost, lateness of 100 starts a second, and
an outage of the only node.

All on one database with schedules that are due some day. The 100 jobs are due together, at each
whole second, as a crontab has them.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
from cluster_parts import (
    Node,
    Start,
    alike,
    doubled,
    every,
    fill,
    function,
    nodes,
    now_us,
    part,
    read_log,
    rows,
    server_cpu_s,
    settled,
)

from everbell.domain.job import US, CommandAction, Definition
from everbell.testing.postgres_server import PostgresServer

BUSY = 100
OUTAGE_S = 5
_WRITES = (
    "SELECT relname::text, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables"
    " WHERE schemaname = 'everbell'"
)
_ACCOUNTED = (
    "SELECT state, sum(slots)::bigint FROM ledger JOIN definitions USING (job_id)"
    " WHERE starts_with(name, 'busy') AND slot_us >= $1 AND slot_us < $2 GROUP BY state"
)


def _far(number: int) -> Definition:
    schedule = f"{number % 60} {number % 24} {number % 28 + 1} {number % 12 + 1} *"
    return Definition(name=f"far {number}", schedule=schedule, action=CommandAction(argv=("true",)))


async def stored(server: PostgresServer, count: int) -> tuple[str, float]:
    """Return a database with ``count`` schedules that are far away, and how long that took."""
    url = server.url(server.new_database())
    begun = time.perf_counter()
    await fill(url, [_far(number) for number in range(count)], now_us() + 30 * 86_400 * US)
    took = time.perf_counter() - begun
    await settled(url)
    return url, took


async def _written(url: str) -> tuple[collections.Counter[str], int]:
    """Return the rows written so far by table, and the bytes of the log of changes."""
    con = await asyncpg.connect(url)
    try:
        await con.execute("SELECT pg_stat_force_next_flush()")
        found = collections.Counter({row[0]: row[1] for row in await con.fetch(_WRITES)})
        log = await con.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
    finally:
        await con.close()
    return found, log


def idle(server: PostgresServer, url: str, schedules: int, seconds: float) -> dict[str, Any]:
    """Return what three nodes cost that have nothing to do."""
    with nodes(url, alike(3)) as found:
        time.sleep(12)  # the server may keep what it counted at their start for 10 s
        before, log = asyncio.run(_written(url))
        cpu = [node.cpu_s() for node in found]
        server_cpu = server_cpu_s(server)
        time.sleep(seconds)
        used = [100 * (node.cpu_s() - one) / seconds for node, one in zip(found, cpu, strict=True)]
        server_used = 100 * (server_cpu_s(server) - server_cpu) / seconds
        after, log_after = asyncio.run(_written(url))
    written = {name: many for name, many in (after - before).items() if many}
    heartbeats = written.pop("nodes", 0)
    return {
        "nodes": 3,
        "schedules": schedules,
        "cpu_percent_each": [round(one, 2) for one in used],
        "server_cpu_percent": round(server_used, 2),
        "heartbeat_rows_per_s": round(heartbeats / seconds, 2),
        "other_rows_per_s": round(sum(written.values()) / seconds, 2),
        "other_tables": written,
        "wal_bytes_per_s": round((log_after - log) / seconds),
    }


def _lateness(starts: list[Start]) -> dict[str, Any]:
    late = [(one.at_us - one.slot_us) / 1000 for one in starts]
    return {
        "runs": len(late),
        "early": sum(1 for one in late if one < 0),
        "p50_ms": round(part(late, 0.5), 2),
        "p99_ms": round(part(late, 0.99), 2),
        "max_ms": round(max(late), 2),
    }


def _fill_busy(url: str) -> None:
    jobs = [every(f"busy {number}", 1, 0, function("told")) for number in range(BUSY)]
    asyncio.run(fill(url, jobs))


def lateness(server: PostgresServer, each: Sequence[Sequence[str]], seconds: int) -> dict[str, Any]:
    """Return how late nodes with these options start jobs in steady state."""
    url = server.url(server.new_database())
    log = server.directory / f"starts-{now_us()}"
    with nodes(url, [(*more, "--log", str(log)) for more in each]):
        _fill_busy(url)
        begun = now_us() // US + 3
        time.sleep(3 + seconds)
        return {"nodes": len(each)} | _lateness(_between(read_log(log), begun, begun + seconds))


def precision(server: PostgresServer, url: str, schedules: int, seconds: int) -> list[Any]:
    """Return lateness in steady state; then what became of an outage's slots."""
    _fill_busy(url)
    log = server.directory / "starts"
    more = ("--log", str(log))
    with nodes(url, [more]) as found:
        place = Path(found[0].place)
        begun = now_us() // US + 3
        time.sleep(3 + seconds)
        steady = _lateness(_between(read_log(log), begun, begun + seconds))
        from_s = now_us() // US
        found[0].kill()
        killed = now_us()
        time.sleep(OUTAGE_S)
        found[0] = Node(url, "n0", place, *more).ready()
        back = now_us()
        time.sleep(8)
        to_s = now_us() // US - 2
    states = dict(asyncio.run(rows(url, _ACCOUNTED, from_s * US, to_s * US)))
    starts = _between(read_log(log), from_s, to_s)
    first = min((one.at_us for one in starts if one.at_us > killed), default=0)
    outage = {
        "down_s": round((back - killed) / US, 1),
        "slots": (to_s - from_s) * BUSY,
        "unaccounted": (to_s - from_s) * BUSY - sum(states.values()),
        "states": states,
        "taken_over": sum(1 for one in starts if one.attempt > 1),
        "doubled": doubled(starts),
        "first_start_after_s": round((first - killed) / US, 2),
        "all_made_up_after_back_s": _made_up(starts, killed, back),
    }
    return [{"schedules": schedules + BUSY, "due_each_second": BUSY} | steady, outage]


def _between(starts: list[Start], from_s: int, to_s: int) -> list[Start]:
    return [one for one in starts if from_s * US <= one.slot_us < to_s * US]


def _made_up(starts: list[Start], killed: int, back: int) -> float:
    """Return the seconds from the node's return to the last start of a slot of the outage."""
    late = [one.at_us for one in starts if one.slot_us < back and one.at_us > killed]
    return round((max(late, default=back) - back) / US, 2)
