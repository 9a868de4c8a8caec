"""The audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from everbell.domain.audit import AuditEntry, targets_of
from everbell.stores.postgres import rows
from everbell.stores.postgres.session import Sql, Verb

T = TypeVar("T")
_COLUMNS = (
    "at_us, who, credential_id, address, request_id, what, kind, target, project_id, before, after"
)
_NAMES = _COLUMNS.split(", ")
_APPEND = (
    f"INSERT INTO audit ({_COLUMNS})"
    f" VALUES ({', '.join(f'${number}' for number in range(1, len(_NAMES) + 1))})"
)


def noting(entry: AuditEntry, verb: Verb[T]) -> Verb[T]:
    """Return the verb, made to append the entry if it changes anything."""

    async def both(sql: Sql) -> T:
        answer = await verb(sql)
        if sql.changed:
            for one in targets_of(entry, answer):
                values = [getattr(one, name) for name in _NAMES]
                await sql.change(
                    _APPEND,
                    *(rows.clean(value) if isinstance(value, str) else value for value in values),
                )
        return answer

    return both


async def list_audit(
    sql: Sql, project_ids: Sequence[int] | None, limit: int, before: int | None
) -> list[AuditEntry]:
    """See AuditStore.list_audit."""
    found = await sql.rows(
        f"SELECT id, {_COLUMNS} FROM audit"
        " WHERE ($1::bigint[] IS NULL OR project_id = ANY ($1::bigint[]))"
        " AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        project_ids,
        before,
        limit,
    )
    return [msgspec.convert(dict(row), AuditEntry) for row in found]


async def purge_audit(sql: Sql, before_us: int) -> int:
    """See AuditStore.purge_audit."""
    return await sql.change("DELETE FROM audit WHERE at_us < $1", before_us)
