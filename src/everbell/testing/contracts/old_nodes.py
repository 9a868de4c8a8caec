"""A node of schema version 1 at work: the statements that it sends, in a process of its own."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any

import asyncpg

from everbell.testing.contracts.making import NOW, SEC

_DECIDE = "SELECT * FROM decide_plain_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_FINISH = "SELECT finish_plain_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_KEEP = (
    "INSERT INTO attempts (slot_us, job_id, trigger_id, attempt, token, node, state, error)"
    " VALUES ($1, $2, '', 1, $3, 'old', 'failed', '')"
    " ON CONFLICT (slot_us, job_id, trigger_id, attempt) DO UPDATE SET token = excluded.token"
)
_SAY = "INSERT INTO output VALUES ($1, $2, '', 1, 0, 'stdout', $1, 'hi') ON CONFLICT DO NOTHING"


async def _cycle(con: Any, jobs: list[int], slot: int) -> list[tuple[int, int, int]]:
    """Decide a slot of jobs, keep an attempt and output of each, and end the runs."""
    count = len(jobs)
    same = [slot] * count
    causes = ["schedule"] * count
    ones = [1] * count
    after = [slot + SEC] * count
    made = await con.fetchrow(
        _DECIDE, "old", slot, jobs, ones, ones, same, after, same, same, causes, ones
    )
    tokens = dict(zip(made[0], made[1], strict=True))
    await con.executemany(_KEEP, [(slot, job, tokens[job]) for job in jobs])
    await con.executemany(_SAY, [(slot, job) for job in jobs])
    held = [tokens[job] for job in jobs]
    texts, zeros = [""] * count, [0] * count
    states, no = ["succeeded"] * count, [False] * count
    await con.execute(
        _FINISH, same, jobs, texts, ones, held, states, same, same, zeros, texts, texts, zeros, no,
        jobs,
    )  # fmt: skip
    return [(slot, job, tokens[job]) for job in jobs]


def work_as_old(url: str, jobs: list[int], stop: Event, answers: Connection) -> None:
    """Work until told to stop; tell (slot, job, token) of what was ended, and the longest cycle."""

    async def body() -> tuple[list[tuple[int, int, int]], float]:
        con = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
        ended: list[tuple[int, int, int]] = []
        slot, longest = NOW, 0.0
        loop = asyncio.get_running_loop()
        answers.send("ready")
        while not stop.is_set():
            begin = loop.time()
            ended += await _cycle(con, jobs, slot)
            longest = max(longest, loop.time() - begin)
            slot += SEC
        await con.close()
        return ended, longest

    answers.send(asyncio.run(body()))
