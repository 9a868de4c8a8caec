"""Decide and finish through the store, beside the bare driver writing the same durable rows.

Both use the same schema, batch and ``synchronous=FULL``, in turn, in one run: the ratio holds on
any machine. One cycle = one slot claimed, its cursor moved, its end stored.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import apsw

from everbell.domain.decision import Claim, Decision
from everbell.domain.job import CommandAction, Definition
from everbell.domain.records import Project
from everbell.ports.store import Finish, NewJob
from everbell.stores.sqlite import SqliteStore

SEC = 1_000_000
START = 1_763_712_000_000_000


async def prepared(path: Path, jobs: int) -> SqliteStore:
    """Return a store with jobs that are all due at once."""
    store = await SqliteStore.open(path)
    await store.add_project(
        Project(id=0, uuid="p", name="p", description="", created_us=START, updated_us=START)
    )
    definitions = [
        Definition(name=f"job {number}", action=CommandAction(argv=("true",)))
        for number in range(jobs)
    ]
    await store.add_jobs(
        [
            NewJob(uuid=it.name, project_id=1, definition=it, next_slot_us=START)
            for it in definitions
        ],
        START,
    )
    return store


async def through_the_store(path: Path, batch: int, rounds: int) -> dict[str, float]:
    """Return cycles per second, and the share of each verb."""
    store = await prepared(path, batch)
    spent = {"due": 0.0, "decide": 0.0, "finish": 0.0}
    for number in range(rounds):
        now = START + number * SEC
        before = time.perf_counter()
        due = await store.due(now, batch)
        spent["due"] += time.perf_counter() - before
        decisions = [
            Decision(
                job_id=job.id,
                project_id=job.project_id,
                version=job.version,
                cursor_us=now,
                next_slot_us=now + SEC,
                claims=(Claim(slot_us=now, due_us=now, trigger="schedule", max_active=1),),
            )
            for job in due
        ]
        before = time.perf_counter()
        decided = await store.decide("node", decisions, now)
        spent["decide"] += time.perf_counter() - before
        ends = [
            Finish(
                run=run,
                state="succeeded",
                started_us=now,
                finished_us=now,
                code=0,
                failures="reset",
            )
            for answer in decided
            for run in answer.runs
        ]
        before = time.perf_counter()
        finished = await store.finish(ends, now)
        spent["finish"] += time.perf_counter() - before
        if sum(it.outcome == "stored" for it in finished) != batch:
            message = "a finish was lost"
            raise SystemExit(message)
    await store.close()
    cycles = batch * rounds
    return {
        "cycles_per_s": cycles / (spent["decide"] + spent["finish"]),
        **{f"{verb}_us": seconds / cycles * 1e6 for verb, seconds in spent.items()},
    }


async def bare(path: Path, batch: int, rounds: int) -> float:
    """Return cycles per second of the driver alone."""
    await (await prepared(path, batch)).close()
    db = apsw.Connection(str(path))
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA wal_autocheckpoint = 4000").fetchall()
    cursor = db.cursor()
    begin = time.perf_counter()
    for number in range(rounds):
        now = START + number * SEC
        cursor.execute("BEGIN IMMEDIATE")
        cursor.executemany(
            "INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause,"
            " token, node, due_us, claimed_us) VALUES (?, ?, '', 1, 1, 'claimed', 'schedule', ?,"
            " 'node', ?, ?) ON CONFLICT DO NOTHING",
            [(now, job, number * batch + job, now, now) for job in range(1, batch + 1)],
        )
        cursor.executemany(
            "UPDATE jobs SET next_slot_us = ? WHERE id = ? AND version = 1 AND next_slot_us = ?",
            [(now + SEC, job, now) for job in range(1, batch + 1)],
        )
        cursor.execute("COMMIT")
        cursor.execute("BEGIN IMMEDIATE")
        cursor.executemany(
            "UPDATE runs SET state = 'succeeded', started_us = ?, finished_us = ?, code = 0"
            " WHERE slot_us = ? AND job_id = ? AND trigger_id = '' AND token = ?",
            [(now, now, now, job, number * batch + job) for job in range(1, batch + 1)],
        )
        cursor.execute("COMMIT")
    seconds = time.perf_counter() - begin
    db.close()
    return batch * rounds / seconds


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="as always")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    ours: list[dict[str, float]] = []
    ceiling: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(options.repeat):
            base = Path(directory)
            ceiling.append(
                asyncio.run(bare(base / f"bare{number}.db", options.batch, options.rounds))
            )
            ours.append(
                asyncio.run(
                    through_the_store(base / f"ours{number}.db", options.batch, options.rounds)
                )
            )
    best = max(ours, key=lambda it: it["cycles_per_s"])
    typical = statistics.median(it["cycles_per_s"] for it in ours)
    result = {
        "store_cycles_per_s": round(typical),
        "bare_cycles_per_s": round(statistics.median(ceiling)),
        "ratio": round(typical / statistics.median(ceiling), 2),
        "best": {key: round(value, 2) for key, value in best.items()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
