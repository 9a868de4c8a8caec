"""Runs that wait: those that no slot plans, followers, claims handed back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from everbell.domain.errors import NotFoundError
from everbell.domain.run import PLANNED, WAITS, Run, RunKey
from everbell.ports.store import NewRun
from everbell.stores.postgres import filing, limits, locks, rows
from everbell.stores.postgres.claims import ACTIVE, TAKEABLE
from everbell.stores.postgres.session import Sql

_ENQUEUE = (
    "WITH job AS MATERIALIZED (SELECT id FROM jobs WHERE id = $2 FOR KEY SHARE)"
    " INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, reason,"
    " due_us) SELECT $1, id, $3, $4, $5, 'queued', $6, $7, $8 FROM job"
    f" ON CONFLICT DO NOTHING RETURNING {rows.RUN}"
)
_SKIP = (
    "UPDATE runs r SET state = 'skipped', reason = 'disabled', finished_us = $2 FROM jobs j"
    " WHERE j.id = ANY ($1::bigint[]) AND NOT j.enabled AND r.job_id = j.id"
    " AND r.state = 'queued' AND r.attempt = 1 AND r.cause <> 'manual'"
)
_WAITING = (
    "SELECT r.slot_us, r.job_id, r.trigger_id, r.due_us, max_active, limited"
    " FROM runs r JOIN jobs ON id = r.job_id"
    f" WHERE state = 'queued' AND due_us <= $1 AND {TAKEABLE}"
    " AND (due_us, slot_us, job_id, trigger_id) > ($2, $3, $4, $5)"
    " AND job_id <> ALL ($6::bigint[])"
    " ORDER BY due_us, slot_us, job_id, trigger_id LIMIT $7"
)
_ASKED = (
    "SELECT r.slot_us, r.job_id, r.trigger_id, r.due_us, max_active, limited"
    " FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS a (slot, job, trigger)"
    " JOIN runs r ON r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger"
    f" JOIN jobs ON id = r.job_id WHERE state || '' = 'queued' AND due_us <= $4 AND {TAKEABLE}"
    " ORDER BY due_us, slot_us, job_id, trigger_id"
)
_STILL = (
    "SELECT r.slot_us, r.job_id, r.trigger_id, r.due_us, max_active, limited"
    " FROM unnest($1::bigint[], $2::bigint[], $3::text[]) WITH ORDINALITY"
    " AS a (slot, job, trigger, place)"
    " JOIN runs r ON r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger"
    f" JOIN jobs ON id = r.job_id WHERE state || '' = 'queued' AND {TAKEABLE}"
    " ORDER BY a.place FOR NO KEY UPDATE OF r"
)
_COUNTS = (
    f"SELECT job_id, count(*) FROM runs WHERE {ACTIVE} AND job_id = ANY ($1::bigint[])"
    " GROUP BY job_id"
)
_WAITED = (
    f"cause IN ({', '.join(map(repr, sorted(PLANNED)))})"
    f" AND reason IN ({', '.join(map(repr, sorted(WAITS)))})"
)
_TAKE = (
    "UPDATE runs r SET state = 'claimed', node = $5, token = a.token, claimed_us = $6,"
    f" version = j.version, reason = CASE WHEN {_WAITED} THEN '' ELSE reason END"
    " FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[])"
    " AS a (slot, job, trigger, token) JOIN jobs j ON j.id = a.job"
    " WHERE r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger"
    f" RETURNING {rows.RUN_OF}"
)
_HAND_BACK = (
    "UPDATE runs r SET state = 'queued', node = '', claimed_us = NULL"
    " FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[])"
    " AS a (slot, job, trigger, attempt, token)"
    " WHERE r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger"
    " AND r.attempt = a.attempt AND r.token = a.token AND r.state || '' = 'claimed'"
)
_PAGE = 256
RACES = 20
"""How often a node tries again that lost all it had chosen."""


def _queued(new: NewRun) -> Run:
    return Run(
        key=new.key,
        project_id=new.project_id,
        version=new.version,
        state="queued",
        trigger=new.trigger,
        reason=new.reason,
        due_us=new.due_us,
    )


async def enqueue(sql: Sql, new: NewRun) -> Run:
    """See RunStore.enqueue."""
    key = new.key
    values = (key.slot_us, key.job_id, key.trigger_id)
    made = await sql.made(
        _ENQUEUE, *values, new.project_id, new.version, new.trigger, new.reason, new.due_us
    )
    if made and await filing.only_new(sql, {key}):
        return rows.run(made[0])
    row = await sql.row(f"SELECT {rows.RUN} FROM ledger WHERE ({rows.KEY}) = ($1, $2, $3)", *values)
    if row is None:
        message = f"no job {key.job_id}"
        raise NotFoundError(message, hint="it was deleted; `everbell job list` shows the others")
    return rows.run(row)


async def follow(sql: Sql, then: Iterable[NewRun], there: set[int], now_us: int) -> None:
    """Queue what follows the end of runs, of the jobs that are ``there`` (and locked)."""
    made = [_queued(new) for new in then if new.key.job_id in there]
    if made:
        await filing.insert(sql, made)
        await skip_of_disabled(sql, {run.key.job_id for run in made}, now_us)


async def skip_of_disabled(sql: Sql, job_ids: Iterable[int], now_us: int) -> None:
    """End queued first attempts that jobs, if they are disabled, will never start."""
    await sql.change(_SKIP, sorted(job_ids), now_us)


async def hand_back(sql: Sql, runs: Sequence[Run], now_us: int) -> int:
    """See RunStore.hand_back."""
    jobs = {run.key.job_id for run in runs}
    await locks.jobs(sql, jobs)
    count = await sql.change(_HAND_BACK, *rows.fences(runs))
    await skip_of_disabled(sql, jobs, now_us)
    return count


async def take_queued(
    sql: Sql, node: str, now_us: int, limit: int, keys: Sequence[RunKey] | None
) -> list[Run] | None:
    """See RunStore.take_queued. None: others took all that was chosen; there may be more.

    What looks startable is chosen first, then locked and looked at again: others may take the same.
    Who tries again begins a new transaction: jobs are locked in one order, all at once.
    """
    if keys is None:
        chosen = await _choose(sql, now_us, limit)
    else:
        chosen = await _choose_of(sql, now_us, limit, dict.fromkeys(keys))
    if not chosen:
        return []
    await locks.jobs(sql, [row[1] for row in chosen])
    limited = any(row[5] for row in chosen)
    if limited:
        await locks.limits(sql)
    still = await sql.rows(_STILL, *rows.columns(((r[0], r[1], r[2]) for r in chosen), 3))
    room = _Room(sql)
    await room.look(still)
    # Of a job that got a limit just now nothing is taken before the next look, with its lock.
    mine = [row for row in still if (limited or not row[5]) and room.take(row)]
    return await _take(sql, node, now_us, mine) if mine else None


async def _choose_of(sql: Sql, now_us: int, limit: int, keys: Iterable[RunKey]) -> list[Any]:
    """Return those of the runs that can start, in order; nothing is locked yet."""
    asked = rows.columns(((it.slot_us, it.job_id, it.trigger_id) for it in keys), 3)
    found = await sql.rows(_ASKED, *asked, now_us)
    room = _Room(sql)
    await room.look(found)
    return [row for row in found if room.take(row)][:limit]


async def _choose(sql: Sql, now_us: int, limit: int) -> list[Any]:
    """Return queued runs whose jobs have room, in order; nothing is locked yet."""
    room = _Room(sql)
    chosen: list[Any] = []
    after: tuple[int, int, int, str] = (-rows.MAX_ID, 0, 0, "")
    page = max(limit, _PAGE)
    while len(chosen) < limit:
        found = await sql.rows(_WAITING, now_us, *after, room.full, page)
        await room.look(found)
        for row in found:
            if len(chosen) < limit and room.take(row):
                chosen.append(row)
        if len(found) < page:
            break
        last = found[-1]
        after = (last[3], last[0], last[1], last[2])
    return chosen


async def _take(sql: Sql, node: str, now_us: int, chosen: Sequence[Any]) -> list[Run]:
    tokens = await locks.tokens(sql, len(chosen))
    values = ((row[0], row[1], row[2], token) for row, token in zip(chosen, tokens, strict=True))
    made = await sql.made(_TAKE, *rows.columns(values, 4), node, now_us)
    return sorted((rows.run(row) for row in made), key=lambda run: run.token)


class _Room:
    """How many more runs jobs, and the limits that they share, allow; one use per choice."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._left: dict[int, int] = {}
        self._shared = limits.Shared(sql)
        self.full: list[int] = []

    async def look(self, found: Sequence[Any]) -> None:
        """Count for the jobs of these rows what is not counted yet."""
        new = {row[1]: row[4] for row in found if row[1] not in self._left}
        bounded = [job_id for job_id, most in new.items() if most is not None]
        active: dict[int, int] = {}
        if bounded:
            active = {row[0]: row[1] for row in await self._sql.rows(_COUNTS, bounded)}
        for job_id, most in new.items():
            self._left[job_id] = rows.MAX_ID if most is None else most - active.get(job_id, 0)
        await self._shared.look({row[1] for row in found if row[5]})

    def take(self, row: Any) -> bool:
        """Take one place if there is one."""
        job_id, limited = row[1], row[5]
        if self._left[job_id] <= 0 or (limited and not self._shared.take(job_id)):
            return False
        self._left[job_id] -= 1
        if not self._left[job_id]:
            self.full.append(job_id)
        return True
