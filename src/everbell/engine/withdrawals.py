"""Keeps what waits on a node in step with the store: what was withdrawn is dropped, not started."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from everbell.domain.errors import StoreError
from everbell.domain.job import Job
from everbell.domain.records import Hold
from everbell.domain.run import Run, RunKey
from everbell.engine.execution import Execution
from everbell.engine.firing import Firing
from everbell.ports.clock import Clock
from everbell.ports.store import Store

log = logging.getLogger(__name__)


class Withdrawals:
    """Drops, hands back and cancels claims of this node; ``returned`` = others may take some."""

    def __init__(self, clock: Clock, store: Store, firing: Firing, execution: Execution) -> None:
        self._clock = clock
        self._store = store
        self._firing = firing
        self._execution = execution
        self._stopped: list[Run] = []
        self.returned: Callable[[], None] = lambda: None

    async def verify(self) -> None:
        """Drop claims that others withdrew or stopped, and cancel what they asked to cancel."""
        store, timers, execution = self._store, self._firing.timers, self._execution
        await self._give_back()
        waiting = [*timers.waiting(), *execution.ready()]
        if waiting:
            kept = set(await store.still_claimed([(run.key, run.token) for run in waiting]))
            self._forget([run for run in waiting if run.key not in kept])
        now = self._clock.now_us()
        late = [run for run in timers.waiting() if run.due_us <= now]
        ready = [*execution.ready(), *late]
        if ready:
            await self._return_stopped(ready)
        if execution.live or waiting:
            self.cancel(await store.cancel_flags(self._firing.node_id))

    async def drain(self) -> None:
        """Hand back all that waits here, for its time or for a worker; what runs may end."""
        self._stop([run.key for run in (*self._firing.timers.waiting(), *self._execution.ready())])
        try:
            await self._give_back()
        except StoreError as error:
            log.warning("could not hand claims back, the next heartbeat tries again: %s", error)

    async def hand_back_all(self) -> None:
        """Hand back all that waits, once."""
        timers, execution = self._firing.timers, self._execution
        runs = [*timers.waiting(), *execution.ready(), *self._stopped]
        timers.drop([run.key for run in runs])
        execution.drop([run.key for run in runs])
        if runs:
            await self._store.hand_back(runs, self._clock.now_us())
            self.returned()

    def forget_all(self) -> None:
        """Forget what was to be handed back: the store has given it to others."""
        self._stopped = []
        self._firing.returning = set()

    def cancel(self, keys: Sequence[RunKey]) -> None:
        """End runs whose cancel was asked for."""
        self._firing.timers.flag(keys)
        self._execution.cancel(keys, "cancelled")

    def _forget(self, runs: Sequence[Run]) -> None:
        """Drop claims, unless the store has given them to this node anew."""
        tokens = {run.key: run.token for run in runs}
        for holder in (self._firing.timers, self._execution):
            newer = [run for run in holder.drop(tokens) if run.token > tokens[run.key]]
            if isinstance(holder, Execution):
                holder.start(newer)
            else:
                holder.add(newer)

    async def _return_stopped(self, ready: Sequence[Run]) -> None:
        """Hand back due runs that did not start yet and whose job was stopped meanwhile."""
        holds = await self._store.list_holds()
        ids = sorted({run.key.job_id for run in ready})
        jobs = {job.id: job for job in await self._store.get_jobs(ids)}
        self._forget([run for run in ready if run.key.job_id not in jobs])
        known = [run for run in ready if run.key.job_id in jobs]
        self._stop([run.key for run in known if _is_stopped(run, jobs[run.key.job_id], holds)])
        await self._give_back()

    def _stop(self, keys: Sequence[RunKey]) -> None:
        self._stopped += self._firing.timers.drop(keys)
        self._stopped += self._execution.drop(keys)

    async def _give_back(self) -> None:
        """Hand back what was stopped; a store that is away is asked again, nothing starts here."""
        runs = list(self._stopped)
        if not runs:
            return
        self._firing.returning |= {run.key for run in runs}
        await self._store.hand_back(runs, self._clock.now_us())
        self._stopped = [run for run in self._stopped if run not in runs]
        self._firing.returning = {run.key for run in self._stopped}
        self.returned()


def _is_stopped(run: Run, job: Job, holds: Sequence[Hold]) -> bool:
    targets = {"all": 0, "project": job.project_id, "job": job.id}
    if any(hold.target_id == targets[hold.scope] for hold in holds):
        return True
    planned = run.trigger != "manual" and run.attempt == 1
    return planned and (not job.enabled or bool(job.parked))
