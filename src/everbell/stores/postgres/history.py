"""Reading the ledger, output, and forgetting what is old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everbell.domain.run import FINAL, Attempt, Run, RunKey
from everbell.ports.ends import window
from everbell.ports.store import OutputChunk, RunFilter
from everbell.stores.postgres import rows
from everbell.stores.postgres.days import Days
from everbell.stores.postgres.session import Session, Sql

_KEY = f"({rows.KEY}) = ($1, $2, $3)"
_FINAL = "('succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'missed', 'lost')"
_APPEND = (
    "WITH given AS (INSERT INTO output (slot_us, job_id, trigger_id, attempt, start, stream, at_us,"
    " data) SELECT a.* FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[],"
    " $5::bigint[], $6::text[], $7::bigint[], $8::bytea[])"
    " AS a (slot, job, trigger, attempt, start, stream, at_us, data)"
    " JOIN jobs j ON j.id = a.job FOR KEY SHARE OF j ON CONFLICT DO NOTHING RETURNING 1)"
    " SELECT count(*) FROM given"
)
# As much as the caller asked for, and one chunk more, which is cut there.
_READ = (
    "SELECT start, stream, at_us, data FROM (SELECT start, stream, at_us, data,"
    " sum(octet_length(data)) OVER (ORDER BY start) - octet_length(data) AS ahead FROM output"
    f" WHERE {_KEY} AND attempt = $4 AND start >= coalesce((SELECT max(start) FROM output"
    f" WHERE {_KEY} AND attempt = $4 AND start <= $5), $5)) o"
    " WHERE ahead <= $6 + 1048576 ORDER BY start"
)
_NEWEST = (
    f"SELECT {rows.RUN_OF} FROM unnest($1::bigint[]) AS a (job) CROSS JOIN LATERAL"
    " (SELECT * FROM ledger WHERE job_id = a.job AND state {}"
    " ORDER BY job_id DESC, slot_us DESC, trigger_id DESC LIMIT 1) r"
)
_SKIPPED = _NEWEST.format("= 'skipped'")
_BEGUN = _NEWEST.format("IN ('running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost')")
_PURGE = (
    f"WITH old AS MATERIALIZED (SELECT {rows.KEY} FROM ledger WHERE slot_us < $1"
    f" AND state IN {_FINAL} ORDER BY {rows.KEY} LIMIT $2)"
    + "".join(
        f", no_{name} AS (DELETE FROM {name} t USING old WHERE t.slot_us < $1 AND (t.slot_us,"
        " t.job_id, t.trigger_id) = (old.slot_us, old.job_id, old.trigger_id) RETURNING 1)"
        for name in ("output", "attempts", "runs", "ended_runs")
    )
    + " SELECT (SELECT count(*) FROM no_runs) + (SELECT count(*) FROM no_ended_runs)"
)


def which(key: RunKey) -> tuple[int, int, str]:
    """Return a key's columns."""
    return (key.slot_us, key.job_id, key.trigger_id)


async def attempts(sql: Sql, key: RunKey) -> list[Attempt]:
    """See RunStore.attempts."""
    found = await sql.rows(
        f"SELECT {rows.ATTEMPT} FROM attempts WHERE {_KEY} ORDER BY attempt", *which(key)
    )
    return [rows.attempt(row) for row in found]


async def append_output(session: Session, chunks: Sequence[OutputChunk]) -> None:
    """See RunStore.append_output."""
    values = (
        (*which(it.key), it.attempt, it.offset, it.stream, it.at_us, it.data) for it in chunks
    )
    await session.once(_APPEND, *rows.columns(values, 8))


async def read_output(
    sql: Sql, key: RunKey, attempt: int, offset: int, limit_bytes: int
) -> list[OutputChunk]:
    """See RunStore.read_output."""
    found = await sql.rows(_READ, *which(key), attempt, offset, limit_bytes)
    chunks = (
        OutputChunk(key=key, attempt=attempt, offset=start, stream=stream, at_us=at_us, data=data)
        for start, stream, at_us, data in found
    )
    return window(chunks, offset, limit_bytes)


async def list_runs(sql: Sql, where: RunFilter, limit: int, before: RunKey | None) -> list[Run]:
    """See RunStore.list_runs."""
    terms: list[str] = ["true"]
    values: list[Any] = [limit]

    def add(term: str, *given: Any) -> None:
        first = len(values) + 1
        terms.append(term.format(*(f"${first + number}" for number in range(len(given)))))
        values.extend(given)

    if where.states:
        add("state = ANY ({}::text[])", where.states)
    if where.triggers:
        add("cause = ANY ({}::text[])", where.triggers)
    if where.project_ids is not None:
        add("project_id = ANY ({}::bigint[])", where.project_ids)
    for term, value in (
        ("job_id = {}", where.job_id),
        ("slot_us >= {}", where.from_us),
        ("slot_us <= {}", where.to_us),
        ("node = {}", where.node),
    ):
        if value is not None:
            add(term, value)
    if before is not None:
        add(f"({rows.KEY}) < ({{}}, {{}}, {{}})", *which(before))
        add("slot_us <= {}", before.slot_us)  # names the days, which the row above does not
    going = where.states and not FINAL.intersection(where.states)
    found = await sql.rows(
        f"SELECT {rows.RUN} FROM {'runs' if going else 'ledger'} WHERE {' AND '.join(terms)}"
        " ORDER BY slot_us DESC, job_id DESC, trigger_id DESC LIMIT $1",
        *values,
    )
    return [rows.run(row) for row in found]


async def last_runs(sql: Sql, job_ids: Sequence[int]) -> dict[int, tuple[Run | None, Run | None]]:
    """See RunStore.last_runs."""
    ids = sorted(set(job_ids))
    begun = await _newest(sql, ids, _BEGUN)
    skipped = await _newest(sql, ids, _SKIPPED)
    return {job_id: (begun.get(job_id), skipped.get(job_id)) for job_id in job_ids}


async def _newest(sql: Sql, job_ids: Sequence[int], query: str) -> dict[int, Run]:
    runs = [rows.run(row) for row in await sql.rows(query, job_ids)]
    return {run.key.job_id: run for run in runs}


async def purge(session: Session, days: Days, before_us: int, limit: int) -> int:
    """See RunStore.purge: whole days at once, however many runs they have; then one by one."""
    await days.ahead()
    await days.sweep()
    gone = await days.drop(before_us)

    async def rest(sql: Sql) -> int:
        count = int(await sql.value(_PURGE, before_us, limit - gone)) if gone < limit else 0
        await sql.change(
            "DELETE FROM remembered WHERE (scope, key) IN"
            " (SELECT scope, key FROM remembered WHERE at_us < $1 ORDER BY at_us LIMIT $2)",
            before_us,
            limit,
        )
        return count

    return gone + await session.write(rest)
