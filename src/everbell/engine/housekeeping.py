"""Takes over runs of dead nodes, says what runs, streams output, forgets old runs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from everbell.domain.job import US, Job
from everbell.domain.settle import Defaults, recover
from everbell.engine.chains import followers
from everbell.engine.execution import Execution
from everbell.engine.service import Service
from everbell.ports.clock import Clock
from everbell.ports.store import NewRun, Store, Verdict

log = logging.getLogger(__name__)

ORPHANS_MAX = 500
UNSURE_S = 5.0
"""Until a clock that is off is asked for again."""
LOOK_S = 0.25
"""Between looks for the dead, where the store sees them at once."""
PURGE_MAX = 2000
LONG_RUN_US = US
"""A run that lasts longer than this is marked as running; shorter ones cost no extra write."""
IDLE_S = 3600.0
QUIET_STEPS = 10
"""The reporter sleeps after so many looks at nothing."""
DAY_US = 86_400 * US
HOUR_US = 3600 * US


class Recovery(Service):
    """Hands over, or gives up, what dead nodes left; any node may do it, none is needed."""

    name = "recovery"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        store: Store,
        defaults: Defaults,
        period_s: float,
    ) -> None:
        super().__init__(clock, on_failure)
        self._store = store
        self._defaults = defaults
        self._period_s = period_s
        self._orphans_at = -math.inf
        self.recovered: Callable[[], None] = lambda: None
        self.died: Callable[[], None] = lambda: None
        self.may_judge: Callable[[], bool] = lambda: True

    async def step(self) -> float:
        """Look once. What dead nodes left is looked for when one died, and now and then."""
        pause_s = min(LOOK_S, self._period_s) if self._store.sees_deaths else self._period_s
        if not self.may_judge():
            return pause_s
        now = self.clock.now_us()
        dead = await self._store.declare_dead(now)
        if dead:
            log.warning("%d nodes are dead: %s", len(dead), ", ".join(dead))
            self._orphans_at = -math.inf
            self.died()
        if self.clock.monotonic() < self._orphans_at:
            return pause_s
        count = await self._take_care(now)
        if count < ORPHANS_MAX:
            self._orphans_at = self.clock.monotonic() + self._period_s - LOOK_S / 2
            return pause_s
        return 0.0

    async def _take_care(self, now: int) -> int:
        """Hand over or give up orphans; return how many there were."""
        orphans = await self._store.orphans(now, ORPHANS_MAX)
        if orphans:
            ids = sorted({run.key.job_id for run in orphans})
            jobs: dict[int, Job] = {job.id: job for job in await self._store.get_jobs(ids)}
            verdicts = []
            for run in orphans:
                job = jobs.get(run.key.job_id)
                known = job.definition if job is not None and not job.quarantined else None
                state, reason = recover(run, known, self._defaults)
                then: tuple[NewRun, ...] = ()
                if state == "lost" and job is not None and known is not None and known.then:
                    then = await followers(self._store, run, job, state, now)
                verdicts.append(Verdict(run=run, state=state, reason=reason, then=then))
            count = await self._store.recover(verdicts, now)
            log.warning("took care of %d runs that dead nodes left", count)
            self.recovered()
        return len(orphans)


class Reporter(Service):
    """Stores output of executing runs while they run, and that long ones are running."""

    name = "reporter"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        store: Store,
        execution: Execution,
        period_s: float = 0.2,
    ) -> None:
        super().__init__(clock, on_failure)
        self._store = store
        self._execution = execution
        self._period_s = period_s
        self._quiet = 0

    async def step(self) -> float:
        """Report once."""
        now = self.clock.now_us()
        self._execution.stop_overruns()
        live = list(self._execution.live.values())
        for item in live:
            self._execution.flush_output(item)
        long = [
            (item, item.started_us)
            for item in live
            if not item.marked
            and item.started_us is not None
            and now - item.started_us >= LONG_RUN_US
        ]
        if long:
            answers = await self._store.mark_running(
                [(item.run, at_us) for item, at_us in long], now
            )
            for (item, _), answer in zip(long, answers, strict=True):
                item.marked = True
                if answer == "stale" and item.run.key in self._execution.live:
                    text = "run %s has gone on without this node; it is stopped"
                    ids = {"run_id": item.run.id, "job_id": item.run.key.job_id}
                    log.warning(text, item.run.id, extra=ids)
                    self._execution.cancel([item.run.key], "superseded")
        self._quiet = 0 if live else self._quiet + 1
        return IDLE_S if self._dozes() else self._period_s

    def attend(self) -> None:
        """Take note that something executes again."""
        if self._dozes():
            self._quiet = 0
            self.wake()

    def _dozes(self) -> bool:
        return self._quiet >= QUIET_STEPS


class Retention(Service):
    """Forgets final runs and audit entries older than is kept, a batch of runs at a time.

    ``may_judge`` tells whether the clock is right: one that is ahead would forget what is young.
    """

    name = "retention"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        store: Store,
        history_days: float,
        period_s: float = 60.0,
        *,
        audit_days: float = 365.0,
    ) -> None:
        super().__init__(clock, on_failure)
        self._store = store
        self._history_us = int(history_days * DAY_US)
        self._audit_us = int(audit_days * DAY_US)
        self._audit_purged_us = 0
        self._period_s = period_s
        self.may_judge: Callable[[], bool] = lambda: True

    async def step(self) -> float:
        """Forget one batch. Days (UTC) are forgotten as a whole, which stores can do at once."""
        if not self.may_judge():
            return min(UNSURE_S, self._period_s)
        now = self.clock.now_us()
        before = now - self._history_us
        gone = await self._store.purge(before - before % DAY_US, PURGE_MAX)
        await self._store.prune_nodes(now - DAY_US)
        if now - self._audit_purged_us >= HOUR_US:
            self._audit_purged_us = now
            await self._store.purge_audit(now - self._audit_us)
        return 0.1 if gone >= PURGE_MAX else self._period_s
