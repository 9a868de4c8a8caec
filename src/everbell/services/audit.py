"""Who changed what: every change that a person asks for goes through an audited store."""

from __future__ import annotations

from everbell.domain.audit import AuditEntry, digest
from everbell.ports.store import Store
from everbell.services.context import Actor, Services


def noted(
    services: Services,
    actor: Actor,
    what: str,
    before: object = None,
    *,
    target: object = "",
    project_id: int | None = None,
) -> Store:
    """Return the store for one change, which it records in the same batch.

    ``what`` is the kind and the verb, as ``job.change``. ``before`` is the thing as it was, if it
    was. ``target`` and ``project_id`` are for what the change leaves nothing of.
    """
    kind = what.partition(".")[0]
    return services.store.audited(
        AuditEntry(
            at_us=services.clock.now_us(),
            who=actor.name,
            credential_id=actor.credential_id,
            address=actor.address,
            request_id=actor.request_id,
            what=what,
            kind=kind,
            target=str(target),
            project_id=project_id,
            before=digest(before),
        )
    )


async def list_all(
    services: Services, actor: Actor, limit: int, before: int | None = None
) -> list[AuditEntry]:
    """Return the entries that the actor may see, newest first."""
    return await services.store.list_audit(actor.project_ids, limit, before)
