"""Jobs and holds, and the claims that a change withdraws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import apsw

from everbell.domain.decision import LeftBehind
from everbell.domain.errors import (
    ConflictError,
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
from everbell.domain.records import Hold
from everbell.domain.run import RunKey
from everbell.domain.stored import encode, placeholder
from everbell.ports.store import JobFilter, NewJob, Page, Revoked
from everbell.stores.sqlite import limits, marks, rows

_SELECT = f"SELECT {rows.JOB} FROM jobs LEFT JOIN definitions ON job_id = id"
_HELD = (
    "(SELECT count(*) FROM holds WHERE scope = 'all' OR (scope = 'project' AND"
    " target_id = jobs.project_id) OR (scope = 'job' AND target_id = jobs.id))"
)
_SCOPE = {"all": "?1 = 0", "project": "project_id = ?1", "job": "id = ?1"}


def add_jobs(sql: apsw.Cursor, jobs: Sequence[NewJob], now_us: int, most: int | None) -> list[Job]:
    """See DefinitionStore.add_jobs."""
    added = [get_job(sql, _add_job(sql, job, now_us)) for job in jobs]
    for owner in {job.project_id for job in jobs} if most is not None else ():
        count = sql.execute("SELECT count(*) FROM jobs WHERE project_id = ?", (owner,)).get
        if most is not None and count > most:
            raise too_many_jobs(count, most)
    return added


def _add_job(sql: apsw.Cursor, job: NewJob, now_us: int) -> int:
    text = encode(job.definition)
    name = job.definition.name
    if sql.execute("SELECT 1 FROM projects WHERE id = ?", (job.project_id,)).get is None:
        raise NotFoundError(f"no project {job.project_id}", hint="create the project first")
    try:
        job_id: int = sql.execute(
            "INSERT INTO jobs (uuid, project_id, name, folded_name, version, enabled, max_active,"
            " next_slot_us, created_us, updated_us)"
            " VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?) RETURNING id",
            (
                job.uuid,
                job.project_id,
                name,
                name.casefold(),
                job.enabled,
                job.definition.active_most,
                job.next_slot_us,
                now_us,
                now_us,
            ),
        ).get
    except apsw.ConstraintError as error:
        raise job_name_taken(name) from error
    sql.execute("INSERT INTO definitions VALUES (?, ?)", (job_id, text))
    sql.execute(
        "INSERT INTO job_versions VALUES (?, 1, ?, ?, ?)", (job_id, now_us, job.enabled, text)
    )
    sql.execute(f"UPDATE jobs SET held = {_HELD} WHERE id = ? AND {_HELD} > 0", (job_id,))
    if job.definition.limits:
        limits.name_limits(sql, job_id, job.project_id, job.definition.limits)
    return job_id


def get_job(sql: apsw.Cursor, key: int | str) -> Job:
    """See DefinitionStore.get_job."""
    row = None
    row_id = rows.possible_id(key)
    if row_id is not None:
        row = sql.execute(f"{_SELECT} WHERE id = ?", (row_id,)).fetchone()
    if row is None and isinstance(key, str):
        row = sql.execute(f"{_SELECT} WHERE uuid = ?", (key,)).fetchone()
    if row is None:
        raise no_such("job", key)
    return rows.job(row)


def get_jobs(sql: apsw.Cursor, ids: Sequence[int]) -> list[Job]:
    """See DefinitionStore.get_jobs."""
    jobs: list[Job] = []
    for job_id in sorted(set(ids)):
        row = sql.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone()
        if row is not None:
            jobs.append(rows.job(row))
    return jobs


def list_jobs(sql: apsw.Cursor, where: JobFilter, page: Page) -> tuple[list[Job], int]:
    """See DefinitionStore.list_jobs."""
    terms: list[str] = ["1"]
    values: list[Any] = []
    if where.project_ids is not None:
        terms.append(f"project_id IN ({rows.marks(len(where.project_ids))})")
        values.extend(where.project_ids)
    if where.search:
        terms.append("instr(folded_name, ?) > 0")
        values.append(where.search.casefold())
    if where.name is not None:
        terms.append("name = ?")
        values.append(where.name)
    if where.enabled is not None:
        terms.append("enabled = ?")
        values.append(where.enabled)
    if where.after:
        terms.append("id > ?")
        values.append(where.after)
    if where.parked is not None:
        terms.append("(parked <> '') = ?")
        values.append(where.parked)
    condition = " AND ".join(terms)
    found = sql.execute(
        f"{_SELECT} WHERE {condition} ORDER BY id LIMIT ? OFFSET ?",
        (*values, page.limit, page.offset),
    ).fetchall()
    total = sql.execute(f"SELECT count(*) FROM jobs WHERE {condition}", tuple(values)).get
    return [rows.job(row) for row in found], total


def change_job(
    sql: apsw.Cursor, job: Job, expected_version: int, now_us: int, left_behind: LeftBehind | None
) -> tuple[Job, Revoked]:
    """See DefinitionStore.change_job."""
    row = sql.execute(
        "SELECT version, name, definition, next_slot_us FROM jobs"
        " LEFT JOIN definitions ON job_id = id WHERE id = ?",
        (job.id,),
    ).fetchone()
    if row is None:
        raise no_such("job", job.id)
    version, name, stored, old_cursor = row
    if version != expected_version:
        raise job_changed(job.id, version, expected_version)
    if left_behind is not None:
        met = marks.overlap(sql.execute, job.id, left_behind.marks)
        if left_behind.cursor_us != old_cursor or met:
            raise slots_decided(job.id)
        for mark in left_behind.marks:
            marks.store(sql.execute, (job.id, job.project_id, version), mark, now_us)
        if left_behind.instead is not None:
            marks.queue(sql.execute, (job.id, job.project_id, version), left_behind.instead)
    text = encode(job.definition)
    if text != stored and job.definition == placeholder(name):
        raise unreadable_definition()
    revoked = _withdraw(sql, (job.id,), now_us)
    cursor = job.next_slot_us
    if text == stored and job.enabled:
        cursor = _earliest(cursor, revoked)
    _store_change(sql, job, text, (cursor, now_us))
    marks.skip_of_disabled(sql, job.id, now_us)
    if text != stored:
        limits.name_limits(sql, job.id, job.project_id, job.definition.limits)
    return get_job(sql, job.id), Revoked(keys=tuple(revoked))


def _store_change(
    sql: apsw.Cursor, job: Job, text: str, cursor_and_now: tuple[int | None, int]
) -> None:
    cursor, now_us = cursor_and_now
    definition = job.definition
    try:
        sql.execute(
            "UPDATE jobs SET version = version + 1, name = ?, folded_name = ?, enabled = ?,"
            " parked = ?, quarantined = ?, failures = ?, max_active = ?, next_slot_us = ?,"
            " updated_us = ? WHERE id = ?",
            (
                definition.name,
                definition.name.casefold(),
                job.enabled,
                job.parked,
                job.quarantined,
                job.failures,
                definition.active_most,
                cursor,
                now_us,
                job.id,
            ),
        )
    except apsw.ConstraintError as error:
        raise job_name_taken(definition.name) from error
    sql.execute("REPLACE INTO definitions VALUES (?, ?)", (job.id, text))
    sql.execute(
        "INSERT INTO job_versions SELECT id, version, ?, enabled, ? FROM jobs WHERE id = ?",
        (now_us, text, job.id),
    )


def _earliest(cursor: int | None, revoked: Sequence[RunKey]) -> int | None:
    """Return the cursor, moved back to the first planned slot that was withdrawn."""
    slots = [key.slot_us for key in revoked if not key.trigger_id]
    if cursor is not None:
        slots.append(cursor)
    return min(slots, default=None)


def _withdraw(sql: apsw.Cursor, job_ids: Sequence[int], now_us: int) -> list[RunKey]:
    """Take back first attempts that were claimed ahead and are not due soon; return them by key.

    Slots vanish from the ledger; runs that no slot plans go back to the queue.
    """
    keys: list[RunKey] = []
    for job_id in job_ids:
        found = sql.execute(
            "SELECT slot_us, job_id, trigger_id FROM runs WHERE job_id = ?"
            " AND state IN ('claimed', 'running') AND state = 'claimed' AND attempt = 1"
            " AND due_us > ? AND (trigger_id <> '' OR claimed_us < due_us)",
            (job_id, now_us + NOTICE_US),
        ).fetchall()
        for row in found:
            keys.append(rows.key(row))
            if row[2]:
                sql.execute(
                    "UPDATE runs SET state = 'queued', node = '', claimed_us = NULL"
                    " WHERE slot_us = ? AND job_id = ? AND trigger_id = ?",
                    row,
                )
            else:
                sql.execute(
                    "DELETE FROM runs WHERE slot_us = ? AND job_id = ? AND trigger_id = ?", row
                )
    return sorted(keys)


def delete_job(sql: apsw.Cursor, job_id: int, now_us: int, expected_version: int | None) -> Revoked:
    """See DefinitionStore.delete_job."""
    version = sql.execute("SELECT version FROM jobs WHERE id = ?", (job_id,)).get
    if version is None:
        raise no_such("job", job_id)
    if expected_version is not None and version != expected_version:
        raise job_changed(job_id, version, expected_version)
    claimed = sql.execute(
        "SELECT slot_us, job_id, trigger_id FROM runs WHERE job_id = ?"
        " AND state IN ('claimed', 'running') AND state = 'claimed' AND due_us > ?",
        (job_id, now_us),
    ).fetchall()
    for table in ("output", "attempts", "runs"):
        sql.execute(f"DELETE FROM {table} WHERE job_id = ?", (job_id,))
    sql.execute("DELETE FROM holds WHERE scope = 'job' AND target_id = ?", (job_id,))
    sql.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
    return Revoked(keys=tuple(sorted(rows.key(row) for row in claimed)))


def job_versions(sql: apsw.Cursor, job_id: int) -> list[JobVersion]:
    """See DefinitionStore.job_versions."""
    found = sql.execute(
        "SELECT v.job_id, v.version, since_us, v.enabled, definition, name FROM job_versions v"
        " JOIN jobs ON id = job_id WHERE v.job_id = ? ORDER BY v.version",
        (job_id,),
    ).fetchall()
    return [rows.version(row) for row in found]


def add_hold(sql: apsw.Cursor, hold: Hold) -> tuple[Hold, Revoked]:
    """See DefinitionStore.add_hold."""
    try:
        row = sql.execute(
            "INSERT INTO holds (scope, target_id, reason, who, created_us, until_us, choice)"
            f" VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING {rows.HOLD}",
            (
                hold.scope,
                hold.target_id,
                hold.reason,
                hold.who,
                hold.created_us,
                hold.until_us,
                hold.then,
            ),
        ).fetchone()
    except apsw.ConstraintError as error:
        message = f"this is held already ({hold.scope} {hold.target_id or ''})".replace(" )", ")")
        raise ConflictError(message, hint="release it first, or leave it") from error
    scope = _SCOPE[hold.scope]
    sql.execute(f"UPDATE jobs SET held = {_HELD} WHERE {scope}", (hold.target_id,))
    claimed = sql.execute(
        "SELECT DISTINCT job_id FROM runs WHERE state IN ('claimed', 'running')"
        f" AND job_id IN (SELECT id FROM jobs WHERE {scope})",
        (hold.target_id,),
    ).fetchall()
    keys = _withdraw(sql, [rows.number(row) for row in claimed], hold.created_us)
    for key in keys:
        if not key.trigger_id:
            sql.execute(
                "UPDATE jobs SET next_slot_us = min(coalesce(next_slot_us, ?1), ?1) WHERE id = ?2",
                (key.slot_us, key.job_id),
            )
    return rows.hold(row), Revoked(keys=tuple(keys))


def list_holds(sql: apsw.Cursor) -> list[Hold]:
    """See DefinitionStore.list_holds."""
    found = sql.execute(f"SELECT {rows.HOLD} FROM holds ORDER BY id").fetchall()
    return [rows.hold(row) for row in found]


def release(
    sql: apsw.Cursor, hold_id: int, choice: Literal["skip", "once", "each"], now_us: int
) -> Hold:
    """See DefinitionStore.release."""
    row = sql.execute(
        f"DELETE FROM holds WHERE id = ? RETURNING {rows.HOLD}", (hold_id,)
    ).fetchone()
    if row is None:
        raise no_such("hold", hold_id)
    hold = rows.hold(row)
    sql.execute(
        f"UPDATE jobs SET held = {_HELD}, release_policy = ?2, release_until_us = ?3"
        f" WHERE {_SCOPE[hold.scope]}",
        (hold.target_id, choice, now_us),
    )
    return hold
