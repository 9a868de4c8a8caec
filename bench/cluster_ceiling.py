"""Ceilings of the storm on PostgreSQL: what the driver, and the server, reach with nothing around.

The store decides and ends N runs in batches of 1000 while all that it sends is written down with
its values. Then, each on an equal copy of the database: ``statements`` sends the same to the server
by asyncpg alone, claims on one connection and ends on another; ``pgbench`` does so from C, on one;
``rows`` writes only the same rows, without guards, reads or a look at what is due.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import uvloop
from cluster_parts import at, fill, function, now_us, settled

from everbell.domain.decision import Claim, Decision
from everbell.domain.job import US
from everbell.domain.run import Run
from everbell.ports.store import Finish
from everbell.stores.postgres import PostgresStore
from everbell.testing.postgres_server import PostgresServer, programs

BATCH = 1000
SESSION = {
    "search_path": "everbell",
    "plan_cache_mode": "force_generic_plan",
    "random_page_cost": "1.1",
    **dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"), "off"),
}
"""What the store sets too: each statement has an index that it is meant to use."""
Tape = list[tuple[str, tuple[Any, ...]]]
Tapes = list[tuple[Tape, Tape]]


class Recorded(asyncpg.Connection):  # type: ignore[misc]
    """Writes down what is fetched while ``tape`` is a list."""

    tape: Tape | None = None

    async def fetch(self, query: str, *values: Any, **more: Any) -> Any:
        if Recorded.tape is not None:
            Recorded.tape.append((query, values))
        return await super().fetch(query, *values, **more)


def _ended(run: Run, now: int) -> Finish:
    return Finish(
        run=run, state="succeeded", started_us=now, finished_us=now, code=0, failures="reset"
    )


async def through_the_store(url: str, sizes: Sequence[int], instant: int) -> Tapes:
    """Return the statements of claims, and those of ends, of each batch."""
    connect = asyncpg.connect

    async def recorded(*given: Any, **named: Any) -> Any:
        return await connect(*given, connection_class=Recorded, **named)

    asyncpg.connect = recorded
    try:
        store = await PostgresStore.open(url)
        tapes: Tapes = []
        for size in sizes:
            tapes.append(([], []))
            Recorded.tape = tapes[-1][0]
            due = await store.due(instant, size)
            decisions = [
                Decision(
                    job_id=job.id,
                    project_id=job.project_id,
                    version=job.version,
                    cursor_us=job.next_slot_us,
                    next_slot_us=None,
                    claims=(
                        Claim(slot_us=instant, due_us=instant, trigger="schedule", max_active=1),
                    ),
                )
                for job in due
            ]
            won = await store.decide("node", decisions, instant)
            Recorded.tape = tapes[-1][1]
            finishes = [_ended(run, instant) for each in won for run in each.runs]
            assert len(finishes) == size
            await store.finish(finishes, instant)
        Recorded.tape = None
        await store.close()
    finally:
        asyncpg.connect = connect
    return tapes


async def _connection(url: str) -> Any:
    return await asyncpg.connect(url, server_settings=SESSION)


async def statements(url: str, tapes: Tapes) -> float:
    """Return the seconds that the driver takes for the same statements."""
    first, second = await _connection(url), await _connection(url)
    free = asyncio.Semaphore(0)

    async def claim() -> None:
        for claims, _ in tapes:
            for query, values in claims:
                await first.fetch(query, *values)
            free.release()

    async def end() -> None:
        for _, ends in tapes:
            await free.acquire()
            for query, values in ends:
                await second.fetch(query, *values)

    begun = time.perf_counter()
    await asyncio.gather(claim(), end())
    took = time.perf_counter() - begun
    await first.close()
    await second.close()
    return took


_INSERT = (
    "INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, token, node,"
    " due_us, claimed_us) SELECT $1, job, '', 1, 1, 'claimed', 'schedule', token, 'node', $1, $1"
    " FROM unnest($2::bigint[], $3::bigint[]) AS a (job, token)"
)
_MOVE = "UPDATE jobs SET next_slot_us = NULL FROM unnest($1::bigint[]) AS a (job) WHERE id = a.job"
# Keys as columns, and `|| ''`: else the planner, for empty tables, joins each with each.
_END = (
    "WITH gone AS (DELETE FROM runs r"
    " USING unnest($2::bigint[], $3::bigint[], $4::text[]) AS a (slot, job, trigger)"
    " WHERE r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger"
    " AND r.state || '' = 'claimed' RETURNING r.*)"
    " INSERT INTO ended_runs (slot_us, job_id, trigger_id, project_id, version, state, cause,"
    " token, node, due_us, claimed_us, started_us, finished_us, code) SELECT slot_us, job_id,"
    " trigger_id, project_id, version, 'succeeded', cause, token, node, due_us, claimed_us, $1, $1,"
    " 0 FROM gone"
)


async def written_rows(url: str, count: int, instant: int) -> float:
    """Return the seconds that the driver takes to write the same rows, on one connection."""
    con = await _connection(url)
    found = await con.fetch("SELECT id FROM jobs WHERE next_slot_us IS NOT NULL ORDER BY id")
    ids = [row[0] for row in found]
    begun = time.perf_counter()
    for first in range(0, count, BATCH):
        jobs = ids[first : first + BATCH]
        async with con.transaction():
            await con.execute(_INSERT, instant, jobs, jobs)
            await con.execute(_MOVE, jobs)
        await con.execute(_END, instant, [instant] * len(jobs), jobs, [""] * len(jobs))
    took = time.perf_counter() - begun
    await con.close()
    return took


def _literal(value: Any) -> str:
    if isinstance(value, list | tuple):
        inner = ",".join("NULL" if one is None else _quoted(one) for one in value)
        return "'{" + inner.replace("'", "''") + "}'"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _quoted(one: Any) -> str:
    return str(one).lower() if isinstance(one, int) else f'"{one}"'


def _written(query: str, values: tuple[Any, ...]) -> str:
    return re.sub(r"\$(\d+)", lambda found: _literal(values[int(found[1]) - 1]), query) + ";\n"


def pgbench(url: str, script: Path, tapes: Tapes) -> float:
    """Return the seconds that pgbench takes for the same statements, on one connection."""
    with script.open("w") as out:
        for claims, ends in tapes:
            for query, values in (*claims, *ends):
                out.write(_written(query, values))
    words = [str(programs() / "pgbench"), "-n", "-t", "1", "-c", "1", "-f", str(script), url]
    options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    env = {**os.environ, "PGOPTIONS": options}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=env)
    found = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    if done.returncode or found is None:
        message = f"pgbench failed: {done.stderr[-1000:]}"
        raise RuntimeError(message)
    return float(found[1]) / 1000


async def _prepared(server: PostgresServer, count: int, instant: int) -> tuple[str, list[str]]:
    """Return a database with due jobs, and three copies.

    A first run makes what the store makes of a day.
    """
    name = server.new_database()
    jobs = [at(f"job-{number}", instant, function("noop")) for number in range(count + 1)]
    await fill(server.url(name), jobs, instant)
    await through_the_store(server.url(name), [1], instant)
    await settled(server.url(name))
    copies = [f"{name}_copy{number}" for number in range(3)]
    for copy in copies:
        server.sql(f"CREATE DATABASE {copy} TEMPLATE {name}")
    return server.url(name), [server.url(copy) for copy in copies]


def ceilings(server: PostgresServer, count: int) -> dict[str, Any]:
    """Return the runs per second that each reaches."""
    instant = (now_us() // US + 60) * US
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        url, copies = runner.run(_prepared(server, count, instant))
        begun = time.perf_counter()
        tapes = runner.run(through_the_store(url, [BATCH] * (count // BATCH), instant))
        through = time.perf_counter() - begun
        alone = runner.run(statements(copies[0], tapes))
        bare = runner.run(written_rows(copies[1], count, instant))
    by_pgbench = pgbench(copies[2], server.directory / "script.sql", tapes)
    return {
        "jobs": count,
        "batch": BATCH,
        "store_per_s": round(count / through),
        "statements_per_s": round(count / alone),
        "rows_per_s": round(count / bare),
        "pgbench_per_s": round(count / by_pgbench),
    }
