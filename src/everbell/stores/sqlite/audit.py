"""The audit log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import apsw
import msgspec

from everbell.domain.audit import AuditEntry, targets_of
from everbell.stores.sqlite import rows

T = TypeVar("T")
_CHANGES = "SELECT total_changes()"
_COLUMNS = (
    "at_us, who, credential_id, address, request_id, what, kind, target, project_id, before, after"
)


def noting(entry: AuditEntry, verb: Callable[[apsw.Cursor], T]) -> Callable[[apsw.Cursor], T]:
    """Return the verb, made to append the entry if it changes anything."""

    def both(sql: apsw.Cursor) -> T:
        untouched = sql.execute(_CHANGES).get
        answer = verb(sql)
        # As a statement: it ends the last one, whose changes count only then.
        if sql.execute(_CHANGES).get != untouched:
            for one in targets_of(entry, answer):
                _append(sql, one)
        return answer

    return both


def _append(sql: apsw.Cursor, it: AuditEntry) -> None:
    values = (
        it.at_us,
        it.who,
        it.credential_id,
        it.address,
        it.request_id,
        it.what,
        it.kind,
        it.target,
        it.project_id,
        it.before,
        it.after,
    )
    sql.execute(f"INSERT INTO audit ({_COLUMNS}) VALUES ({rows.marks(len(values))})", values)


def list_audit(
    sql: apsw.Cursor, project_ids: Sequence[int] | None, limit: int, before: int | None
) -> list[AuditEntry]:
    """See AuditStore.list_audit."""
    terms, values = ["1"], list[Any]()
    if project_ids is not None:
        terms.append(f"project_id IN ({rows.marks(len(project_ids))})")
        values.extend(project_ids)
    if before is not None:
        terms.append("id < ?")
        values.append(before)
    found = sql.execute(
        f"SELECT id, {_COLUMNS} FROM audit WHERE {' AND '.join(terms)} ORDER BY id DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    names = ("id", *_COLUMNS.split(", "))
    return [msgspec.convert(dict(zip(names, row, strict=True)), AuditEntry) for row in found]


def purge_audit(sql: apsw.Cursor, before_us: int) -> int:
    """See AuditStore.purge_audit."""
    sql.execute("DELETE FROM audit WHERE at_us < ?", (before_us,))
    return sql.connection.changes()
