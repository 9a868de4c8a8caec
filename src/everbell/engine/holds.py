"""Ends holds whose time is over; any node may do it, and the store lets one of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from everbell.domain.audit import AuditEntry, digest
from everbell.domain.errors import NotFoundError
from everbell.domain.job import US
from everbell.domain.records import Hold
from everbell.engine.service import Service
from everbell.ports.clock import Clock
from everbell.ports.store import Store

log = logging.getLogger(__name__)


class HoldEnds(Service):
    """Releases holds at their ``until_us``, however late: by then their choice ends.

    ``may_judge`` tells whether the clock is right.
    """

    name = "holds"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        store: Store,
        period_s: float = 1.0,
    ) -> None:
        super().__init__(clock, on_failure)
        self._store = store
        self._period_s = period_s
        self.released: Callable[[], None] = lambda: None
        self.may_judge: Callable[[], bool] = lambda: True

    async def step(self) -> float:
        """Look once; return the seconds until the next hold ends, or until another look."""
        if not self.may_judge():
            return self._period_s
        ends = [hold for hold in await self._store.list_holds() if hold.until_us is not None]
        now = self.clock.now_us()
        over = [hold for hold in ends if hold.until_us is not None and hold.until_us <= now]
        for hold in over:
            await self._end(hold, now)
        if over:
            self.released()
        waits = [(hold.until_us or 0) - now for hold in ends if hold not in over]
        return min(self._period_s, *(wait / US for wait in waits)) if waits else self._period_s

    async def _end(self, hold: Hold, now_us: int) -> None:
        entry = AuditEntry(
            at_us=now_us,
            who="everbell",
            what=f"hold.end.{hold.then}",
            kind="hold",
            before=digest(hold),
            project_id=hold.target_id if hold.scope == "project" else await self._project_of(hold),
        )
        try:
            # What was planned after the end is no longer the hold's: misfire policy decides it.
            await self._store.audited(entry).release(hold.id, hold.then, hold.until_us or now_us)
        except NotFoundError:
            # Another node, or a person, was faster.
            return
        log.info("the hold of %s %d is over", hold.scope, hold.target_id)

    async def _project_of(self, hold: Hold) -> int | None:
        found = await self._store.get_jobs([hold.target_id]) if hold.scope == "job" else []
        return found[0].project_id if found else None
