"""The audit log in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from everbell.domain.audit import AuditEntry, targets_of
from everbell.stores.memory.data import Data

NOTED = (
    "add_project",
    "change_project",
    "delete_project",
    "add_credential",
    "change_credential",
    "add_jobs",
    "change_job",
    "delete_job",
    "add_hold",
    "release",
    "set_limit",
    "delete_limit",
    "enqueue",
    "request_cancel",
    "drain",
    "resume",
    "remove_node",
)
"""The verbs by which people change things."""


def noting(
    data: Data, entry: AuditEntry, verb: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """Return the verb, made to append the entry. No verb waits: both are one step."""

    async def both(*args: Any, **named: Any) -> Any:
        known = {run.key: run for run in data.all_runs()}
        answer = await verb(*args, **named)
        if answer is False:  # nothing changed
            return answer
        key = getattr(answer, "key", None)
        if key is None or known.get(key) != answer:
            for one in targets_of(entry, answer):
                data.audit.append(replace(one, id=data.new_id("audit")))
        return answer

    return both
