"""Claims slots shortly before they are due, and queued runs when they may start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from everbell.domain.decision import Decision, DueJob
from everbell.domain.errors import NotFoundError, StoreUnknownOutcome
from everbell.domain.job import US
from everbell.domain.planner import Limits, Plan, plan
from everbell.domain.run import ACTIVE, Run, RunKey
from everbell.engine.catalog import Catalog
from everbell.engine.execution import Execution
from everbell.engine.finisher import Finisher
from everbell.engine.service import Service
from everbell.engine.timers import Timers
from everbell.ports.clock import Clock
from everbell.ports.observer import RunObserver
from everbell.ports.store import Decided, RunFilter, Share, Store

log = logging.getLogger(__name__)

RECONCILE_MAX = 10_000
SLOTS_A_PASS = 20_000
"""Slots decided before the other services get their turn: a long outage leaves many to mark."""
PACES = 5
"""Passes in the time of one look-ahead, at most, while slots follow one another closely."""
FULL_S = 0.05
"""Pause when the node's own queue is full; a run that ends cuts it short."""
OFFERED_US = US // 2
"""Offered before their time by the clock here, by no more, runs are claimed: clocks differ."""
NEVER_US = 1 << 62


NOTHING = Share(shards=(), behind_us=1 << 60)
"""The share of a node that decides no slots."""


class Firing(Service):
    """The loop from ``due`` to ``claim``; sleeps until the next due slot or a hint.

    ``decides`` and ``takes``: the roles of a scheduler and of a worker. A node that only decides
    queues its slots at their instant and tells ``handed_on``. ``sweep_us``: queued runs that
    somebody else may bring here by an offer are looked for in the store only that much later.
    """

    name = "firing"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        *,
        store: Store,
        catalog: Catalog,
        finisher: Finisher,
        execution: Execution,
    ) -> None:
        super().__init__(clock, on_failure)
        self.store = store
        self.catalog = catalog
        self.finisher = finisher
        self.execution = execution
        self.timers = Timers(clock, execution.start)
        self.node_id = ""
        self.limits = Limits(look_ahead_us=500_000, grace_us=1_000_000)
        self.batch_size = 1000
        self.max_queue = 10_000
        self.poll_s = 1.0
        self.may_claim: Callable[[], bool] = lambda: True
        self.returning: set[RunKey] = set()
        self._one_by_one: set[int] = set()
        self.observer: RunObserver | None = None
        self.share: Share | None = None
        self.decides = True
        self.takes = True
        self.handed_on: Callable[[list[RunKey]], None] = lambda _: None
        self.sweep_us: Callable[[], int] = lambda: 0
        self.took: Callable[[], None] = lambda: None
        self._called = False
        self._quiet = False
        # The time of the first run that is known to wait for it: nobody offers that one.
        self._foreseen_us = NEVER_US
        self._claiming = asyncio.Lock()
        self.tally: Callable[[list[Decision]], None] = lambda _: None
        self._reconcile = False
        self._backlog = False

    def reconcile(self) -> None:
        """Look for claims that the store holds for this node and the node does not know of."""
        self._reconcile = True
        self.wake()

    def finished(self) -> None:
        """Take note that runs ended: what they blocked may start."""
        if self._backlog:
            self.called()

    def called(self) -> None:
        """Look at once, also for queued runs that nobody offered."""
        self._called = True
        self.wake()

    def room(self) -> int:
        """Return how many queued runs may be claimed; none while nothing may be."""
        return self._most() if self.takes and self.may_claim() else 0

    async def claim_offered(self, keys: Sequence[RunKey]) -> None:
        """Claim queued runs that were offered.

        By the clock of who offered them their time has come. By a clock here that is a little
        behind they wait for it, as slots do that are claimed ahead.
        """
        async with self._claiming:
            node_id, now = self.node_id, self.clock.now_us()
            latest_us = max((key.slot_us for key in keys), default=now)
            at_us = max(now, min(latest_us, now + OFFERED_US))
            try:
                runs = await self.store.take_queued(node_id, at_us, len(keys), keys)
            except StoreUnknownOutcome:
                self.reconcile()
                raise
            self._take(node_id, runs)

    async def step(self) -> float:
        """Claim what is due; return the seconds until more is."""
        try:
            return await self._pass()
        except StoreUnknownOutcome:
            self._reconcile = True
            raise

    async def _pass(self) -> float:
        if not self.may_claim():
            return self.poll_s
        node_id = self.node_id
        if self._reconcile:
            await self.adopt()
        if self._quiet and not self._called:
            # Nothing was due for a while: one look tells whether that is so still.
            wait_s = await self._pause(None, progress=False)
            if self._quiet:
                return wait_s
        if not self.takes:
            self._called = False
            progress, wait_us = await self._decide(node_id, self.batch_size)
            return await self._pause(wait_us, progress=progress)
        free = self._free()
        if free <= 0:
            self._backlog = True
            return FULL_S
        taken = await self._take_waiting(node_id)
        if not self._take(node_id, taken):
            return 0.0
        progress, wait_us = await self._decide(node_id, free - len(taken))
        if len(taken) == self.batch_size:
            return 0.0
        return await self._pause(wait_us, progress=progress)

    async def _take_waiting(self, node_id: str) -> list[Run]:
        """Claim queued runs: all if somebody called, or if one is there that nobody offers."""
        most = min(self._most(), self.batch_size)
        if most <= 0:
            return []
        now = self.clock.now_us()
        called, self._called = self._called or self._foreseen_us <= now, False
        until_us = now - (0 if called else self.sweep_us())
        try:
            taken = await self.store.take_queued(node_id, until_us, most)
        except BaseException:
            self._called = self._called or called
            raise
        if self._foreseen_us <= now:
            self._foreseen_us = NEVER_US
        # There may be more of what was called for.
        self._called = self._called or (called and len(taken) == most)
        return taken

    def _take(self, node_id: str, runs: list[Run]) -> bool:
        """Take claims won as ``node_id``; not if that was declared dead meanwhile."""
        if node_id != self.node_id:
            log.warning("dropped %d claims: the node was declared dead meanwhile", len(runs))
            return False
        if runs:
            self.took()
        self.timers.add(runs)
        if self.observer is not None:
            self.observer.claimed(runs)
        return True

    def _free(self) -> int:
        return self.max_queue - len(self.timers) - len(self.execution)

    def _most(self) -> int:
        """Return how many queued runs are worth claiming: what waits here may start elsewhere."""
        return max(min(self._free(), self.execution.spare()), 0)

    async def _pause(self, wait_us: int | None, *, progress: bool) -> float:
        """Return the seconds until something can be decided; after progress, perhaps at once."""
        now = self.clock.now_us()
        share = self.share if self.decides else NOTHING
        next_us = await self.store.next_due_us(share, queued=self.takes)
        self._backlog = next_us is not None and next_us <= now
        soon_us = now + self.limits.look_ahead_us + int(self.poll_s * US)
        self._quiet = next_us is None or next_us > soon_us
        if next_us is None:
            return self.poll_s
        if next_us > now:
            self._foreseen_us = next_us
        seconds = (next_us - self.limits.look_ahead_us - now) / US
        if seconds > 0:
            # Slots that follow one another closely are claimed together, still well ahead.
            return min(max(seconds, self.limits.look_ahead_us / US / PACES), self.poll_s)
        if progress:
            return 0.0
        if seconds <= 0 and wait_us is not None and wait_us > now:
            seconds = (wait_us - now) / US
        elif seconds <= 0:
            # Blocked by active runs: their end wakes this loop; new slots must not wait for it.
            seconds = self.limits.look_ahead_us / US / 2
            if next_us > now:
                # A queued run whose time comes: it can't be claimed ahead.
                seconds = min(seconds, (next_us - now) / US)
        return min(seconds, self.poll_s)

    async def _decide(self, node_id: str, free: int) -> tuple[bool, int | None]:
        """Decide due jobs; return whether anything was stored, and when to look again."""
        if free <= 0 or not self.decides:
            return False, None
        due = await self._due()
        if not due:
            return False, None
        await self.catalog.load([(job.id, job.version) for job in due])
        plans = self._plans(due, free)
        waits = [made.wait_until_us for _, made in plans if made.wait_until_us is not None]
        decisions = [made.decision for _, made in plans if made.decision is not None]
        stored = False
        if decisions:
            answers = await self.store.decide(node_id, decisions, self.clock.now_us())
            if self.observer is not None:
                self.observer.decided(decisions, answers)
            stored = self._claimed(node_id, decisions, answers)
        for job, made in plans:
            if made.replace:
                await self._replace(job.id)
        return stored, min(waits, default=None)

    async def _due(self) -> list[DueJob]:
        until = self.clock.now_us() + self.limits.look_ahead_us
        due = await self.store.due(until, self.batch_size, self.share)
        if any(job.active and self.finisher.holds_job(job.id) for job in due):
            await self.finisher.flush()
            due = await self.store.due(until, self.batch_size, self.share)
        return due

    def _plans(self, due: Iterable[DueJob], free: int) -> list[tuple[DueJob, Plan]]:
        now = self.clock.now_us()
        plans: list[tuple[DueJob, Plan]] = []
        slots = SLOTS_A_PASS
        for job in due:
            if free <= 0 or slots <= 0:
                break
            made = self._plan(job, now)
            if made is None:
                continue
            plans.append((job, made))
            if made.decision is not None:
                free -= len(made.decision.claims)
                slots -= len(made.decision.claims)
                slots -= sum(mark.count for mark in made.decision.marks)
        return plans

    def _plan(self, job: DueJob, now_us: int) -> Plan | None:
        entry = self.catalog.get(job.id, job.version)
        if entry is None:
            return None
        if entry.problem:
            return Plan(_quarantine(job, entry.problem))
        try:
            limits = self.limits
            if job.id in self._one_by_one:
                self._one_by_one.discard(job.id)
                limits = msgspec.structs.replace(limits, ranges=False)
            return plan(job, entry.job.definition, entry.schedule, now_us, limits)
        except (ValueError, OverflowError, ArithmeticError) as error:
            log.exception("job %s can't be planned", job.id, extra={"job_id": job.id})
            return Plan(_quarantine(job, f"can't be planned: {error}"))

    def _claimed(
        self, node_id: str, decisions: Iterable[Decision], answers: Iterable[Decided]
    ) -> bool:
        done = False
        runs: list[Run] = []
        stored: list[Decision] = []
        for decision, answer in zip(decisions, answers, strict=True):
            done = done or answer.outcome in {"done", "overlaps"}
            runs.extend(answer.runs)
            if answer.outcome == "done":
                stored.append(decision)
            elif answer.outcome == "overlaps":
                self._one_by_one.add(decision.job_id)
        self.tally(stored)
        self._take(node_id, runs)
        if queued := [key for it in stored for key in _queued(it)]:
            if self.takes:
                self.called()  # nobody offers what was queued here
            else:
                self.handed_on(queued)
        return done

    async def _replace(self, job_id: int) -> None:
        """Cancel a job's older runs in favour of the newest that waits."""
        where = RunFilter(job_id=job_id, states=("queued", "claimed", "running"))
        runs = await self.store.list_runs(where, self.batch_size)
        for run in runs[1:]:
            try:
                stopped = await self.store.request_cancel(run.key, self.clock.now_us())
            except NotFoundError:
                # Withdrawn, or deleted with its job, since it was listed.
                continue
            except StoreUnknownOutcome:
                # It may be over already: it must not start, also when only its retry waits here.
                self.timers.flag([run.key])
                self.execution.cancel([run.key], "replaced")
                self._reconcile = True
                continue
            if stopped.state in ACTIVE:
                self.execution.cancel([run.key], "replaced")
            else:
                self.timers.drop([run.key])
                self.execution.drop([run.key])
                # It waited for its retry; what is on its way from the store must not start either.
                self.execution.cancel([run.key], "replaced")

    async def adopt(self) -> None:
        """Take up claims whose acknowledgement was lost.

        The list is old when it arrives: what was known before it was asked for may have started
        and ended meanwhile, so that only claims unknown before and after are lost ones. A run
        known under another token is looked at again later. No offer is claimed meanwhile: a claim
        whose answer is on its way is not lost, and would start twice.
        """
        async with self._claiming:
            await self._adopt_lost()

    async def _adopt_lost(self) -> None:
        node_id = self.node_id
        where = RunFilter(states=("claimed", "running"), node=node_id)
        before = self._known()
        runs = await self.store.list_runs(where, RECONCILE_MAX)
        after = self._known()
        if node_id != self.node_id:
            return
        lost: list[Run] = []
        self._reconcile = False
        for run in runs:
            if run.key not in before and run.key not in after:
                lost.append(run)
            elif run.token not in {before.get(run.key), after.get(run.key)}:
                self._reconcile = True
        if lost:
            log.warning("took up %d claims whose acknowledgement was lost", len(lost))
            self.timers.add(lost)

    def _known(self) -> dict[RunKey, int]:
        known = dict.fromkeys((*self.finisher.keys(), *self.returning), 0)
        known |= self.execution.tokens()
        known |= {run.key: run.token for run in self.timers.waiting()}
        return known


def _queued(decision: Decision) -> list[RunKey]:
    marks = (mark for mark in decision.marks if mark.state == "queued")
    return [RunKey(mark.slot_us, decision.job_id) for mark in marks]


def _quarantine(job: DueJob, reason: str) -> Decision:
    return Decision(
        job_id=job.id,
        project_id=job.project_id,
        version=job.version,
        cursor_us=job.next_slot_us,
        next_slot_us=None,
        quarantine=reason,
    )
