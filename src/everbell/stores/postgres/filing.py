"""Where runs stand: ``runs`` those that go on, ``ended_runs``, by day, those that are over.

The view ``ledger`` shows both. A run is in one of the two; whoever writes one looks into the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from everbell.domain.run import FINAL, Run, RunKey
from everbell.stores.postgres import rows
from everbell.stores.postgres.session import Sql

# A subquery in this place is never turned into a join: one look by key for each row.
_NOT_IN = (
    "(SELECT true FROM {} o WHERE o.slot_us = a.slot_us AND o.job_id = a.job_id"
    " AND o.trigger_id = a.trigger_id LIMIT 1) IS NULL"
)
_INSERT = (
    f"INSERT INTO {{}} ({rows.RUN}) SELECT * FROM {rows.RUNS_GIVEN} AS a ({rows.RUN})"
    f" WHERE {_NOT_IN} ON CONFLICT DO NOTHING RETURNING {rows.KEY}"
)
_INSERT_OPEN = _INSERT.format("runs", "ended_runs")
_INSERT_ENDED = _INSERT.format("ended_runs", "runs")
_TWICE = (
    "DELETE FROM runs r USING unnest($1::bigint[], $2::bigint[], $3::text[])"
    " AS a (slot_us, job_id, trigger_id) WHERE r.slot_us = a.slot_us AND r.job_id = a.job_id"
    f" AND r.trigger_id = a.trigger_id AND NOT {_NOT_IN.format('ended_runs')}"
    " RETURNING r.slot_us, r.job_id, r.trigger_id"
)


async def insert(sql: Sql, runs: Iterable[Run]) -> set[RunKey]:
    """Store runs whose keys are new; return the keys of those that were."""
    parts: dict[bool, list[Run]] = {False: [], True: []}
    for run in runs:
        parts[run.state in FINAL].append(run)
    made: set[RunKey] = set()
    if parts[True]:
        found = await sql.made(_INSERT_ENDED, *rows.runs_values(parts[True]))
        made = {rows.key(row) for row in found}
    if parts[False]:
        found = await sql.made(_INSERT_OPEN, *rows.runs_values(parts[False]))
        made |= await only_new(sql, {rows.key(row) for row in found})
    return made


async def only_new(sql: Sql, keys: set[RunKey]) -> set[RunKey]:
    """Take back rows just inserted into ``runs`` that were moving while that was done."""
    if not keys:
        return keys
    asked = rows.columns(((key.slot_us, key.job_id, key.trigger_id) for key in keys), 3)
    return keys - {rows.key(row) for row in await sql.rows(_TWICE, *asked)}
