"""Who waits for whom: definitions, jobs by id, limits, runs by key, then the counter.

Statements that change several runs are given them in that order, and their plans keep to it.
"""

from __future__ import annotations

from collections.abc import Collection

from everbell.stores.postgres.session import Sql


async def alone(sql: Sql) -> None:
    """Wait for everybody else who changes definitions."""
    await sql.value("SELECT 1 FROM counters WHERE name = 'definitions' FOR UPDATE")


async def jobs(sql: Sql, ids: Collection[int]) -> set[int]:
    """Lock jobs, so that nobody else claims or changes them; return those that exist."""
    found = await sql.rows(
        "SELECT id FROM jobs WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE",
        sorted(set(ids)),
    )
    return {row[0] for row in found}


async def limits(sql: Sql) -> None:
    """Wait for everybody else who takes runs under shared limits."""
    await sql.value("SELECT 1 FROM counters WHERE name = 'limits' FOR UPDATE")


async def new_ids(sql: Sql, what: str, count: int = 1) -> range:
    """Return ids that nothing had before; without gaps, as refusals give theirs back."""
    last = await sql.value(
        "UPDATE counters SET value = value + $2 WHERE name = $1 RETURNING value", what, count
    )
    return range(last - count + 1, last + 1)


async def told(sql: Sql) -> None:
    """Make the change counter tell of this transaction, once it is kept."""
    await sql.value("UPDATE counters SET value = value + 1 WHERE name = 'changes' RETURNING value")


async def tokens(sql: Sql, count: int) -> list[int]:
    """Return fencing tokens, ascending; the jobs they are for are locked."""
    if not count:
        return []
    found = await sql.rows("SELECT nextval('fence') FROM generate_series(1, $1::bigint)", count)
    return sorted(row[0] for row in found)
