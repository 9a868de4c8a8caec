"""Holds, and the claims that they withdraw."""

from __future__ import annotations

from typing import Literal

import asyncpg

from everbell.domain.errors import ConflictError, no_such
from everbell.domain.records import Hold
from everbell.ports.store import Revoked
from everbell.stores.postgres import locks, rows
from everbell.stores.postgres.jobs import HELD, withdraw
from everbell.stores.postgres.session import Sql

_SCOPE = {"all": "$1::bigint = 0", "project": "project_id = $1", "job": "id = $1"}
_BACK = (
    "UPDATE jobs SET next_slot_us = least(next_slot_us, a.slot)"
    " FROM (SELECT job, min(slot) AS slot FROM unnest($1::bigint[], $2::bigint[]) AS u (job, slot)"
    " GROUP BY job) a WHERE id = a.job"
)


async def _lock_scope(sql: Sql, hold: Hold) -> None:
    await sql.rows(
        f"SELECT 1 FROM jobs WHERE {_SCOPE[hold.scope]} ORDER BY id FOR NO KEY UPDATE",
        hold.target_id,
    )


async def add_hold(sql: Sql, hold: Hold) -> tuple[Hold, Revoked]:
    """See DefinitionStore.add_hold."""
    await locks.alone(sql)
    [new_id] = await locks.new_ids(sql, "holds")
    try:
        [row] = await sql.made(
            f"INSERT INTO holds ({rows.HOLD}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            f" RETURNING {rows.HOLD}",
            new_id,
            hold.scope,
            hold.target_id,
            hold.reason,
            hold.who,
            hold.created_us,
            hold.until_us,
            hold.then,
        )
    except asyncpg.UniqueViolationError as error:
        message = f"this is held already ({hold.scope} {hold.target_id or ''})".replace(" )", ")")
        raise ConflictError(message, hint="release it first, or leave it") from error
    await _lock_scope(sql, hold)
    scope = _SCOPE[hold.scope]
    await sql.change(f"UPDATE jobs SET held = {HELD} WHERE {scope}", hold.target_id)
    claimed = await sql.rows(
        "SELECT DISTINCT job_id FROM runs WHERE state IN ('claimed', 'running')"
        f" AND job_id IN (SELECT id FROM jobs WHERE {scope})",
        hold.target_id,
    )
    keys = await withdraw(sql, [row[0] for row in claimed], hold.created_us)
    back = [(key.job_id, key.slot_us) for key in keys if not key.trigger_id]
    if back:
        await sql.change(_BACK, *rows.columns(back, 2))
    await locks.told(sql)
    return rows.hold(row), Revoked(keys=tuple(keys))


async def list_holds(sql: Sql) -> list[Hold]:
    """See DefinitionStore.list_holds."""
    return [rows.hold(row) for row in await sql.rows(f"SELECT {rows.HOLD} FROM holds ORDER BY id")]


async def release(
    sql: Sql, hold_id: int, choice: Literal["skip", "once", "each"], now_us: int
) -> Hold:
    """See DefinitionStore.release."""
    await locks.alone(sql)
    found = await sql.made(f"DELETE FROM holds WHERE id = $1 RETURNING {rows.HOLD}", hold_id)
    if not found:
        raise no_such("hold", hold_id)
    hold = rows.hold(found[0])
    await _lock_scope(sql, hold)
    await sql.change(
        f"UPDATE jobs SET held = {HELD}, release_policy = $2, release_until_us = $3"
        f" WHERE {_SCOPE[hold.scope]}",
        hold.target_id,
        choice,
        now_us,
    )
    await locks.told(sql)
    return hold
