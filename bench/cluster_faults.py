"""Three nodes on PostgreSQL: one is killed again and again; mixed jobs are spread; a node is added.

Nodes append each start to one file. A job is affected by a kill if the killed node had started it
last. Its wait: from the kill, or from the job's slot if that comes later, to its next start.
"""

from __future__ import annotations

import asyncio
import collections
import random
import time
from pathlib import Path
from typing import Any

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
)

from everbell.domain.job import US
from everbell.stores.postgres import PostgresStore
from everbell.testing.postgres_server import PostgresServer

JOBS = 90
"""Due each second, evenly over it: a third of them are the killed node's."""
GIVE_UP_S = 12
_ACCOUNTED = (
    "SELECT job_id, sum(slots)::bigint FROM ledger WHERE slot_us >= $1 AND slot_us < $2"
    " GROUP BY job_id"
)
_STATES = (
    "SELECT state, sum(slots)::bigint FROM ledger WHERE slot_us >= $1 AND slot_us < $2"
    " GROUP BY state"
)


def _last_by(starts: list[Start], pid: int, at_us: int) -> set[str]:
    """Return the jobs whose last start before an instant was that process's."""
    last = {one.job: one.pid for one in starts if one.at_us <= at_us}
    return {job for job, owner in last.items() if owner == pid}


def _waits(starts: list[Start], jobs: set[str], killed_us: int) -> dict[str, tuple[float, float]]:
    """Return, of each job's next start, seconds since the kill, and since it could be."""
    found: dict[str, tuple[float, float]] = {}
    for one in starts:
        if one.at_us > killed_us and one.job in jobs and one.job not in found:
            since_due = one.at_us - max(killed_us, one.slot_us)
            found[one.job] = ((one.at_us - killed_us) / US, since_due / US)
    return found


def _trial(log: Path, victim: Node) -> dict[str, tuple[float, float]]:
    """Kill a node, and wait until each of its jobs has started again elsewhere."""
    at_us = now_us()
    victim.kill()
    jobs = _last_by(read_log(log), victim.pid, at_us)
    waits: dict[str, tuple[float, float]] = {}
    end = time.monotonic() + GIVE_UP_S
    while len(waits) < len(jobs) and time.monotonic() < end:
        time.sleep(0.25)
        waits = _waits(read_log(log), jobs, at_us)
    never = (float(GIVE_UP_S), float(GIVE_UP_S))
    return {job: waits.get(job, never) for job in jobs}


def failover(server: PostgresServer, trials: int) -> dict[str, Any]:
    """Kill nodes in turn; return how long their jobs stood still, and what the ledger says."""
    url = server.url(server.new_database())
    log = server.directory / "failover"
    action = function("told")
    jobs = [every(f"job {number}", 1, number * US // JOBS, action) for number in range(JOBS)]
    asyncio.run(fill(url, jobs))
    chance = random.Random(7)
    found_waits: list[dict[str, tuple[float, float]]] = []
    with nodes(url, alike(3, "--log", str(log))) as found:
        time.sleep(6)
        from_s = now_us() // US
        for number in range(trials):
            time.sleep(chance.random())
            turn = number % 3
            found_waits.append(_trial(log, found[turn]))
            place = found[turn].place
            found[turn] = Node(url, f"n{turn}", place, "--log", str(log)).ready()
            time.sleep(3)
        to_s = now_us() // US - 2
        time.sleep(1)
    accounted = dict(asyncio.run(rows(url, _ACCOUNTED, from_s * US, to_s * US)))
    states = dict(asyncio.run(rows(url, _STATES, from_s * US, to_s * US)))
    starts = [one for one in read_log(log) if from_s * US <= one.slot_us < to_s * US]
    return _told(found_waits) | {
        "slots": (to_s - from_s) * JOBS,
        "unaccounted": sum(
            abs(to_s - from_s - accounted.get(job, 0)) for job in range(1, JOBS + 1)
        ),
        "states": states,
        "taken_over": sum(1 for one in starts if one.attempt > 1),
        "doubled": doubled(starts),
    }


def _told(waits: list[dict[str, tuple[float, float]]]) -> dict[str, Any]:
    firsts = [min(one[0] for one in each.values()) for each in waits if each]
    since_kill = [one[0] for each in waits for one in each.values()]
    since_due = [one[1] for each in waits for one in each.values()]
    return {
        "kills": len(waits),
        "affected_jobs": len(since_kill),
        "kill_to_first_start_s": _spread(firsts),
        "kill_to_start_s": _spread(since_kill),
        "late_s": _spread(since_due),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(part(values, 0.5), 3), "worst": round(max(values), 3)}


async def _owners(url: str) -> tuple[str, ...]:
    store = await PostgresStore.open(url)
    try:
        return (await store.get_assignment()).owners
    finally:
        await store.close()


PERIODS = (1, 2, 3, 5, 10)
TAKES = (0.01, 0.05, 0.1, 0.3, 0.5)


def mixed(count: int = 100) -> dict[str, tuple[int, float]]:
    """Return jobs of many kinds: period and duration by name."""
    return {
        f"mixed {number}": (PERIODS[number % 5], TAKES[number // 5 % 5]) for number in range(count)
    }


LEARN_S = 60


def _settled(url: str, steady_s: float) -> float:
    """Wait until shards have kept their owners for a while; return the seconds to their last move.

    Nodes learn what jobs cost from their first runs.
    """
    begun = moved = time.monotonic()
    owners: tuple[str, ...] = ()
    while (now := time.monotonic()) < min(moved + steady_s, begun + LEARN_S) or not owners:
        found = asyncio.run(_owners(url))
        if found != owners:
            owners, moved = found, now
        time.sleep(1)
    return round(moved - begun, 1)


def spread(server: PostgresServer, steady_s: float, measure_s: float) -> dict[str, Any]:
    """Return how evenly three nodes carry mixed jobs, and what a fourth node moves."""
    url = server.url(server.new_database())
    log = server.directory / "spread"
    kinds = mixed()
    jobs = [
        every(name, period, number * 37_000, function("told", seconds=takes))
        for number, (name, (period, takes)) in enumerate(kinds.items())
    ]
    asyncio.run(fill(url, jobs))
    with nodes(url, alike(3, "--log", str(log))) as found:
        settled_after_s = _settled(url, steady_s)
        begun = now_us()
        time.sleep(measure_s)
        loads, counts = _loads(log, begun, kinds)
        before = asyncio.run(_owners(url))
        found.append(Node(url, "n3", found[0].place, "--log", str(log)).ready())
        _settled(url, steady_s)
        after = asyncio.run(_owners(url))
        begun = now_us()
        time.sleep(measure_s)
        loads_of_four, _ = _loads(log, begun, kinds)
    moved = sum(1 for old, new in zip(before, after, strict=True) if old != new)
    return {
        "jobs": len(kinds),
        "busy_workers_each": [round(one / measure_s, 2) for one in loads.values()],
        "settled_after_s": settled_after_s,
        "starts_each": list(counts.values()),
        "load_ratio": _ratio(loads, 3),
        "load_ratio_of_four": _ratio(loads_of_four, 4),
        "shards": len(before),
        "shards_moved": moved,
        "fair_share": len(before) // 4,
    }


def _loads(
    log: Path, begun_us: int, kinds: dict[str, tuple[int, float]]
) -> tuple[dict[int, float], dict[int, int]]:
    """Return seconds of work, and starts, of each process since an instant."""
    loads: dict[int, float] = collections.defaultdict(float)
    counts: dict[int, int] = collections.Counter()
    for one in read_log(log):
        if one.at_us >= begun_us:
            loads[one.pid] += kinds[one.job][1]
            counts[one.pid] += 1
    return loads, counts


def _ratio(loads: dict[int, float], many: int) -> float | None:
    """Return largest by smallest; None if a node had nothing."""
    if len(loads) < many:
        return None
    return round(max(loads.values()) / min(loads.values()), 2)
