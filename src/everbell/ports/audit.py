"""The account of changes: who changed what, when, from where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from everbell.domain.audit import AuditEntry


class AuditStore(Protocol):
    """The audit log.

    - ``audited`` returns the same store, to be used for one change: the entry is stored in the
      same batch as what the next verb changes. So no change is without its entry, and no entry
      without its change: a verb that refuses, or changes nothing, leaves none.
    - ``id`` of the entry is ignored. An empty ``target`` becomes the id of what the verb made (one
      entry for each of several); an absent ``project_id`` that thing's project.
    - Entries are never changed. ``list_audit``: newest first; ``project_ids`` None = all entries,
      else only those of these projects; ``before`` is the id after which to go on.
    - ``purge_audit`` removes entries from before ``before_us``, and returns how many.
    """

    def audited(self, entry: AuditEntry) -> Self:
        """Return the store whose next change carries the entry."""
        ...

    async def list_audit(
        self, project_ids: Sequence[int] | None, limit: int, before: int | None = None
    ) -> list[AuditEntry]:
        """Return entries, newest first."""
        ...

    async def purge_audit(self, before_us: int) -> int:
        """Forget old entries."""
        ...
