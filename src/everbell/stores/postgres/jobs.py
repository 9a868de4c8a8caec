"""Jobs, and the claims that a change withdraws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from everbell.domain.decision import LeftBehind
from everbell.domain.errors import (
    NotFoundError,
    job_changed,
    job_name_taken,
    no_such,
    slots_decided,
    too_many_jobs,
    unreadable_definition,
)
from everbell.domain.job import Job, JobVersion
from everbell.domain.notice import NOTICE_US
from everbell.domain.run import Run, RunKey
from everbell.domain.stored import encode, placeholder
from everbell.ports.store import JobFilter, NewJob, Page, Revoked
from everbell.stores.postgres import filing, limits, locks, queue, rows
from everbell.stores.postgres.claims import marked, meeting, reach
from everbell.stores.postgres.projects import find
from everbell.stores.postgres.session import Sql

_SELECT = f"SELECT {rows.JOB} FROM jobs JOIN definitions ON job_id = id"
HELD = (
    "(SELECT count(*) FROM holds WHERE scope = 'all' OR (scope = 'project' AND"
    " target_id = jobs.project_id) OR (scope = 'job' AND target_id = jobs.id))"
)
_ADD = (
    "INSERT INTO jobs (id, project_id, version, enabled, max_active, next_slot_us, created_us,"
    " updated_us) SELECT id, project, 1, enabled, most, next_us, $6, $6 FROM unnest($1::bigint[],"
    " $2::bigint[], $3::boolean[], $4::bigint[], $5::bigint[])"
    " AS a (id, project, enabled, most, next_us)"
)
_DEFINE = (
    "INSERT INTO definitions (job_id, owner_id, uuid, name, folded_name, definition)"
    " SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[],"
    " $6::text[])"
)
_VERSIONS = (
    "INSERT INTO job_versions (job_id, version, since_us, enabled, definition)"
    " SELECT job_id, version, updated_us, enabled, definition FROM definitions"
    " JOIN jobs ON id = job_id WHERE job_id = ANY ($1::bigint[])"
)
_TAKEN = (
    "SELECT name FROM definitions JOIN unnest($1::bigint[], $2::text[]) AS a (project, wanted)"
    " ON owner_id = a.project AND name = a.wanted LIMIT 1"
)
_CHANGE = (
    "UPDATE jobs SET version = version + 1, enabled = $2, parked = $3, quarantined = $4,"
    " failures = $5, max_active = $6, next_slot_us = $7, updated_us = $8,"
    " ranged_until_us = greatest(ranged_until_us, $9) WHERE id = $1"
)
# First attempts that were claimed ahead and are not due soon.
_AHEAD = (
    "job_id = ANY ($1::bigint[]) AND state IN ('claimed', 'running') AND state = 'claimed'"
    " AND attempt = 1 AND due_us > $2"
)


async def add_jobs(sql: Sql, jobs: Sequence[NewJob], now_us: int, most: int | None) -> list[Job]:
    """See DefinitionStore.add_jobs."""
    if not jobs:
        return []
    await locks.alone(sql)
    owners = sorted({job.project_id for job in jobs})
    await _check_new(sql, jobs, owners)
    ids = list(await locks.new_ids(sql, "jobs", len(jobs)))
    await _insert(sql, jobs, ids, now_us)
    await sql.change(
        f"UPDATE jobs SET held = {HELD} WHERE id = ANY ($1::bigint[]) AND {HELD} > 0", ids
    )
    named = [
        (job_id, job.project_id, job.definition.limits)
        for job_id, job in zip(ids, jobs, strict=True)
        if job.definition.limits
    ]
    if named:
        await limits.name_limits(sql, named)
    for owner in owners if most is not None else ():
        count = await sql.value("SELECT count(*) FROM jobs WHERE project_id = $1", owner)
        if most is not None and count > most:
            raise too_many_jobs(count, most)
    return await get_jobs(sql, ids)


async def _check_new(sql: Sql, jobs: Sequence[NewJob], owners: Sequence[int]) -> None:
    found = await sql.rows("SELECT id FROM projects WHERE id = ANY ($1::bigint[])", owners)
    if missing := set(owners) - {row[0] for row in found}:
        raise NotFoundError(f"no project {min(missing)}", hint="create the project first")
    wanted = [(job.project_id, job.definition.name) for job in jobs]
    twice = (
        next((name for at, name in enumerate(wanted) if name in wanted[:at]), None)
        if len(set(wanted)) < len(wanted)
        else None
    )
    if twice is not None:
        raise job_name_taken(twice[1])
    taken = await sql.value(_TAKEN, *rows.columns(wanted, 2))
    if taken is not None:
        raise job_name_taken(taken)


async def _insert(sql: Sql, jobs: Sequence[NewJob], ids: Sequence[int], now_us: int) -> None:
    values = (
        (
            job_id,
            job.project_id,
            job.enabled,
            job.definition.active_most,
            job.next_slot_us,
        )
        for job_id, job in zip(ids, jobs, strict=True)
    )
    await sql.change(_ADD, *rows.columns(values, 5), now_us)
    texts = (
        (
            job_id,
            job.project_id,
            job.uuid,
            job.definition.name,
            job.definition.name.casefold(),
            encode(job.definition),
        )
        for job_id, job in zip(ids, jobs, strict=True)
    )
    try:
        await sql.change(_DEFINE, *rows.columns(texts, 6))
    except asyncpg.UniqueViolationError as error:
        raise job_name_taken(jobs[0].definition.name) from error
    await sql.change(_VERSIONS, ids)


async def get_job(sql: Sql, key: int | str) -> Job:
    """See DefinitionStore.get_job."""
    row = await find(sql, _SELECT, key, ("uuid",))
    if row is None:
        raise no_such("job", key)
    return rows.job(row)


async def get_jobs(sql: Sql, ids: Sequence[int]) -> list[Job]:
    """See DefinitionStore.get_jobs."""
    found = await sql.rows(f"{_SELECT} WHERE id = ANY ($1::bigint[]) ORDER BY id", list(set(ids)))
    return [rows.job(row) for row in found]


async def list_jobs(sql: Sql, where: JobFilter, page: Page) -> tuple[list[Job], int]:
    """See DefinitionStore.list_jobs."""
    terms: list[str] = ["true"]
    values: list[Any] = []
    for term, value in (
        ("owner_id = ANY ({}::bigint[])", where.project_ids),
        ("strpos(folded_name, {}) > 0", where.search.casefold() or None),
        ("name = {}", where.name),
        ("enabled = {}", where.enabled),
        ("id > {}", where.after or None),
        ("(parked <> '') = {}", where.parked),
    ):
        if value is not None:
            values.append(value)
            terms.append(term.format(f"${len(values)}"))
    condition = " AND ".join(terms)
    found = await sql.rows(
        f"{_SELECT} WHERE {condition} ORDER BY id"
        f" LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}",
        *values,
        page.limit,
        page.offset,
    )
    total = await sql.value(
        f"SELECT count(*) FROM jobs JOIN definitions ON job_id = id WHERE {condition}", *values
    )
    return [rows.job(row) for row in found], total


async def change_job(
    sql: Sql, job: Job, expected_version: int, now_us: int, left_behind: LeftBehind | None
) -> tuple[Job, Revoked]:
    """See DefinitionStore.change_job."""
    await locks.alone(sql)
    await locks.jobs(sql, [job.id])
    row = await sql.row(
        "SELECT version, name, definition, next_slot_us FROM jobs"
        " JOIN definitions ON job_id = id WHERE id = $1",
        job.id,
    )
    if row is None:
        raise no_such("job", job.id)
    version, name, stored, old_cursor = row
    _check_version(job.id, version, expected_version)
    if left_behind is not None:
        await _leave_behind(sql, job, (version, old_cursor, now_us), left_behind)
    text = encode(job.definition)
    if text != stored and job.definition == placeholder(name):
        raise unreadable_definition()
    revoked = await withdraw(sql, [job.id], now_us)
    cursor = job.next_slot_us
    if text == stored and job.enabled:
        cursor = _earliest(cursor, revoked)
    ranged_us = reach(left_behind.marks) if left_behind is not None else 0
    await _store_change(sql, job, text, (cursor, now_us, ranged_us))
    await queue.skip_of_disabled(sql, [job.id], now_us)
    if text != stored:
        await limits.name_limits(sql, [(job.id, job.project_id, job.definition.limits)])
    await locks.told(sql)
    return await get_job(sql, job.id), Revoked(keys=tuple(revoked))


def _check_version(job_id: int, version: int, expected: int | None) -> None:
    if expected is not None and version != expected:
        raise job_changed(job_id, version, expected)


async def _leave_behind(
    sql: Sql, job: Job, seen: tuple[int, int | None, int], left: LeftBehind
) -> None:
    version, old_cursor, now_us = seen
    met = await meeting(sql, [(job.id, left.marks)])
    if left.cursor_us != old_cursor or met:
        raise slots_decided(job.id)
    owner = (job.id, job.project_id, version)
    made = [marked(owner, mark, now_us) for mark in left.marks]
    if left.instead is not None:
        made.append(
            Run(
                key=RunKey(left.instead.at_us, job.id, left.instead.trigger_id),
                project_id=job.project_id,
                version=version,
                state="queued",
                trigger="manual",
                reason=left.instead.reason,
                due_us=left.instead.at_us,
            )
        )
    if made:
        await filing.insert(sql, made)


async def _store_change(
    sql: Sql, job: Job, text: str, moments: tuple[int | None, int, int]
) -> None:
    cursor, now_us, ranged_us = moments
    definition = job.definition
    await sql.change(
        _CHANGE,
        job.id,
        job.enabled,
        job.parked,
        job.quarantined,
        job.failures,
        definition.active_most,
        cursor,
        now_us,
        ranged_us,
    )
    try:
        await sql.change(
            "UPDATE definitions SET name = $2, folded_name = $3, definition = $4 WHERE job_id = $1",
            job.id,
            definition.name,
            definition.name.casefold(),
            text,
        )
    except asyncpg.UniqueViolationError as error:
        raise job_name_taken(definition.name) from error
    await sql.change(_VERSIONS, [job.id])


def _earliest(cursor: int | None, revoked: Sequence[RunKey]) -> int | None:
    """Return the cursor, moved back to the first planned slot that was withdrawn."""
    slots = [key.slot_us for key in revoked if not key.trigger_id]
    if cursor is not None:
        slots.append(cursor)
    return min(slots, default=None)


async def withdraw(sql: Sql, job_ids: Sequence[int], now_us: int) -> list[RunKey]:
    """Take back first attempts of locked jobs that were claimed ahead; return them by key.

    Slots vanish from the ledger; runs that no slot plans go back to the queue.
    """
    limit_us = now_us + NOTICE_US
    vanished = await sql.made(
        f"DELETE FROM runs WHERE {_AHEAD} AND trigger_id = '' AND claimed_us < due_us"
        f" RETURNING {rows.KEY}",
        job_ids,
        limit_us,
    )
    queued = await sql.made(
        "UPDATE runs SET state = 'queued', node = '', claimed_us = NULL"
        f" WHERE {_AHEAD} AND trigger_id <> '' RETURNING {rows.KEY}",
        job_ids,
        limit_us,
    )
    return sorted(rows.key(row) for row in (*vanished, *queued))


async def delete_job(sql: Sql, job_id: int, now_us: int, expected_version: int | None) -> Revoked:
    """See DefinitionStore.delete_job."""
    await locks.alone(sql)
    version = await sql.value("SELECT version FROM jobs WHERE id = $1 FOR UPDATE", job_id)
    if version is None:
        raise no_such("job", job_id)
    _check_version(job_id, version, expected_version)
    gone = await sql.made(
        f"DELETE FROM runs WHERE job_id = $1 RETURNING {rows.KEY}, state, due_us", job_id
    )
    # What ended meanwhile has moved by now.
    for table in ("ended_runs", "output", "attempts"):
        await sql.change(f"DELETE FROM {table} WHERE job_id = $1", job_id)
    await sql.change("DELETE FROM holds WHERE scope = 'job' AND target_id = $1", job_id)
    await sql.change("DELETE FROM jobs WHERE id = $1", job_id)
    await locks.told(sql)
    claimed = [rows.key(row) for row in gone if row[3] == "claimed" and row[4] > now_us]
    return Revoked(keys=tuple(sorted(claimed)))


async def job_versions(sql: Sql, job_id: int) -> list[JobVersion]:
    """See DefinitionStore.job_versions."""
    found = await sql.rows(
        "SELECT v.job_id, version, since_us, enabled, v.definition, name FROM job_versions v"
        " JOIN definitions d ON d.job_id = v.job_id WHERE v.job_id = $1 ORDER BY v.version",
        job_id,
    )
    return [rows.version(row) for row in found]
