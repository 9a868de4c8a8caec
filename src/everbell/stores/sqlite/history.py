"""Reading the ledger, output, and forgetting what is old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from everbell.domain.run import Attempt, Run, RunKey
from everbell.ports.ends import window
from everbell.ports.store import OutputChunk, RunFilter
from everbell.stores.sqlite import rows

_KEY = "slot_us = ? AND job_id = ? AND trigger_id = ?"
_FINAL = "('succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'missed', 'lost')"


def attempts(sql: apsw.Cursor, key: RunKey) -> list[Attempt]:
    """See RunStore.attempts."""
    found = sql.execute(
        f"SELECT {rows.ATTEMPT} FROM attempts WHERE {_KEY} ORDER BY attempt",
        (key.slot_us, key.job_id, key.trigger_id),
    ).fetchall()
    return [rows.attempt(row) for row in found]


def append_output(sql: apsw.Cursor, chunks: Sequence[OutputChunk]) -> None:
    """See RunStore.append_output."""
    for chunk in chunks:
        key = chunk.key
        sql.execute(
            "INSERT INTO output (slot_us, job_id, trigger_id, attempt, start, stream, at_us, data)"
            " SELECT ?, ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM jobs WHERE id = ?)"
            " ON CONFLICT DO NOTHING",
            (
                key.slot_us,
                key.job_id,
                key.trigger_id,
                chunk.attempt,
                chunk.offset,
                chunk.stream,
                chunk.at_us,
                chunk.data,
                key.job_id,
            ),
        )


def read_output(
    sql: apsw.Cursor, key: RunKey, attempt: int, offset: int, limit_bytes: int
) -> list[OutputChunk]:
    """See RunStore.read_output."""
    which = (key.slot_us, key.job_id, key.trigger_id, attempt)
    first = sql.execute(
        f"SELECT max(start) FROM output WHERE {_KEY} AND attempt = ? AND start <= ?",
        (*which, offset),
    ).get
    found = sql.execute(
        f"SELECT start, stream, at_us, data FROM output WHERE {_KEY} AND attempt = ?"
        " AND start >= ? ORDER BY start",
        (*which, offset if first is None else first),
    )
    chunks = (
        OutputChunk(
            key=key, attempt=attempt, offset=start, stream=stream, at_us=at_us, data=bytes(data)
        )
        for start, stream, at_us, data in found
    )
    return window(chunks, offset, limit_bytes)


def list_runs(sql: apsw.Cursor, where: RunFilter, limit: int, before: RunKey | None) -> list[Run]:
    """See RunStore.list_runs."""
    terms: list[str] = ["1"]
    values: list[Any] = []
    for column, wanted in (("state", where.states), ("cause", where.triggers)):
        if wanted:
            terms.append(f"{column} IN ({rows.marks(len(wanted))})")
            values.extend(wanted)
    if where.project_ids is not None:
        terms.append(f"project_id IN ({rows.marks(len(where.project_ids))})")
        values.extend(where.project_ids)
    for term, value in (
        ("job_id = ?", where.job_id),
        ("slot_us >= ?", where.from_us),
        ("slot_us <= ?", where.to_us),
        ("node = ?", where.node),
    ):
        if value is not None:
            terms.append(term)
            values.append(value)
    if before is not None:
        terms.append("(slot_us, job_id, trigger_id) < (?, ?, ?)")
        values.extend((before.slot_us, before.job_id, before.trigger_id))
    found = sql.execute(
        f"SELECT {rows.RUN} FROM runs WHERE {' AND '.join(terms)}"
        " ORDER BY slot_us DESC, job_id DESC, trigger_id DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    return [rows.run(row) for row in found]


def last_runs(sql: apsw.Cursor, job_ids: Sequence[int]) -> dict[int, tuple[Run | None, Run | None]]:
    """See RunStore.last_runs."""
    started = "('running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost')"
    return {
        job_id: (_newest(sql, job_id, started), _newest(sql, job_id, "('skipped')"))
        for job_id in job_ids
    }


def _newest(sql: apsw.Cursor, job_id: int, states: str) -> Run | None:
    row = sql.execute(
        f"SELECT {rows.RUN} FROM runs INDEXED BY runs_of_job WHERE job_id = ?"
        f" AND state IN {states} ORDER BY slot_us DESC, trigger_id DESC LIMIT 1",
        (job_id,),
    ).fetchone()
    return None if row is None else rows.run(row)


def purge(sql: apsw.Cursor, before_us: int, limit: int) -> int:
    """See RunStore.purge."""
    found = sql.execute(
        f"SELECT slot_us, job_id, trigger_id FROM runs WHERE slot_us < ? AND state IN {_FINAL}"
        " ORDER BY slot_us, job_id, trigger_id LIMIT ?",
        (before_us, limit),
    ).fetchall()
    for table in ("output", "attempts", "runs"):
        sql.executemany(f"DELETE FROM {table} WHERE {_KEY}", found)
    sql.execute(
        "DELETE FROM remembered WHERE (scope, key) IN"
        " (SELECT scope, key FROM remembered WHERE at_us < ? ORDER BY at_us LIMIT ?)",
        (before_us, limit),
    )
    return len(found)


def last_seen_us(sql: apsw.Cursor) -> int:
    """Return the newest instant that anything in the file was done at."""
    return int(
        sql.execute(
            "SELECT max(coalesce((SELECT max(heartbeat_us) FROM nodes), 0),"
            " coalesce((SELECT max(updated_us) FROM jobs), 0),"
            " coalesce((SELECT max(max(coalesce(claimed_us, 0), coalesce(finished_us, 0)))"
            " FROM (SELECT claimed_us, finished_us FROM runs ORDER BY slot_us DESC LIMIT 1000)),"
            " 0))"
        ).get
    )
