"""One node: its services put together, started in order, stopped without losing a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from everbell.config.schema import Settings
from everbell.domain.errors import StoreError
from everbell.domain.job import US, Job, Retry
from everbell.domain.notice import Moment
from everbell.domain.notices import notices
from everbell.domain.planner import Limits
from everbell.domain.records import Hold, Node
from everbell.domain.run import Run, RunKey
from everbell.domain.settle import Defaults
from everbell.engine.catalog import Catalog
from everbell.engine.chains import followers
from everbell.engine.execution import Execution, Tools
from everbell.engine.finisher import Finisher
from everbell.engine.firing import Firing
from everbell.engine.heartbeat import Heartbeat, Identity, Thresholds, Watcher
from everbell.engine.holds import HoldEnds
from everbell.engine.housekeeping import Recovery, Reporter, Retention
from everbell.engine.loads import Loads
from everbell.engine.placement import Placement
from everbell.engine.service import Service
from everbell.ports.clock import Clock, Entropy
from everbell.ports.executor import CaptureSink, Executor
from everbell.ports.load import LoadMeter
from everbell.ports.observer import Change, RunObserver, Tracer
from everbell.ports.store import Finished, Share, Store

log = logging.getLogger(__name__)

BEHIND_US = 250_000
"""How late, in microseconds, a slot must be for nodes to take it that do not own its shard."""


class World(NamedTuple):
    """The adapters that a node lives on; only bootstrap and the simulation fill it in."""

    store: Store
    clock: Clock
    entropy: Entropy
    load: LoadMeter
    executors: Mapping[str, Executor]
    new_sink: Callable[[], CaptureSink]
    secret_key: bytes
    observer: RunObserver | None = None
    tracer: Tracer | None = None


class NodeEngine:
    """Claims, starts and finishes runs until stopped. Implements ``ports.observer.Hints``.

    ``failed`` is set, with the cause in ``failure``, when a service died: the process must stop.
    """

    def __init__(self, settings: Settings, world: World, identity: Identity) -> None:
        self.settings = settings
        self.world = world
        self.failed = asyncio.Event()
        self.failure = ""
        self._running = False
        self._stopped: list[Run] = []
        self._notices: dict[str, str] = {}
        clock, store = world.clock, world.store
        defaults = _defaults(settings)
        self.catalog = Catalog(store)
        self.finisher = Finisher(clock, self._fail, store)
        self.execution = Execution(
            clock,
            catalog=self.catalog,
            finisher=self.finisher,
            tools=Tools(
                world.executors, world.new_sink, world.secret_key, partial(followers, store)
            ),
            defaults=defaults,
            workers=settings.engine.max_workers,
        )
        self.firing = Firing(
            clock,
            self._fail,
            store=store,
            catalog=self.catalog,
            finisher=self.finisher,
            execution=self.execution,
        )
        self.heartbeat = Heartbeat(
            clock,
            self._fail,
            store=store,
            load=world.load,
            identity=identity,
            thresholds=_thresholds(settings),
        )
        self.watcher = Watcher(clock, self._fail, store)
        self.loads = Loads(clock)
        self.placement = Placement(
            clock,
            self._fail,
            store=store,
            loads=self.loads,
            behind_us=int(settings.engine.look_ahead * US) + BEHIND_US,
        )
        period = max(settings.node.lease / 3, 0.2)
        self.recovery = Recovery(clock, self._fail, store, defaults, period)
        self.reporter = Reporter(clock, self._fail, store, self.execution)
        self.retention = Retention(
            clock,
            self._fail,
            store,
            settings.engine.history_days,
            audit_days=settings.api.audit_days,
        )
        self.holds = HoldEnds(clock, self._fail, store)
        self._wire()

    def _wire(self) -> None:
        engine = self.settings.engine
        self.firing.limits = Limits(
            look_ahead_us=int(engine.look_ahead * US), grace_us=int(engine.misfire_grace * US)
        )
        self.firing.batch_size = engine.batch_size
        self.firing.max_queue = engine.max_queue
        self.firing.poll_s = engine.poll
        self.firing.may_claim = self._may_claim
        self.execution.may_start = self._may_start
        self.execution.again = self._again
        self.execution.followed = self.firing.wake
        self.execution.busy = self.reporter.attend
        self.execution.broken = self._fail
        self.execution.tracer = self.world.tracer
        for part in (self.execution, self.finisher, self.firing):
            part.observer = self.world.observer
        self.finisher.stored = self._stored
        self.heartbeat.busy = self._busy
        self.heartbeat.fenced = self._rejoin
        self.heartbeat.verify = self._verify_claims
        self.heartbeat.renewed = self.execution.pump
        self.heartbeat.drain = self._drain
        self.heartbeat.epoch = self.placement.heard
        self.placement.node_id = lambda: self.node_id
        self.placement.dealt = self._dealt
        self.placement.met = self._met
        self.firing.tally = self.loads.decided
        self.finisher.tally = self.loads.ended
        self.recovery.may_judge = self.heartbeat.calm
        self.recovery.died = self._died
        self.watcher.changed = self._foreign_change
        self.watcher.looked = self._looked
        self.firing.timers.doubt = self.watcher.wake
        self.recovery.recovered = self.firing.wake
        self.holds.released = self.firing.wake

    @property
    def node_id(self) -> str:
        """The id of this start of the node."""
        return self.firing.node_id

    def services(self) -> tuple[Service, ...]:
        """Return the services in the order in which they start."""
        return (
            self.heartbeat,
            self.finisher,
            self.reporter,
            self.recovery,
            self.watcher,
            self.placement,
            self.firing,
            self.holds,
            self.retention,
        )

    async def start(self) -> None:
        """Join the cluster and begin. Raises StoreError if the store can't be reached."""
        self._new_id()
        await self.heartbeat.step()
        self._running = True
        for service in self.services():
            service.start()

    async def stop(self, grace_s: float | None = None) -> None:
        """Take nothing new, let running runs end for ``grace_s``, hand the rest back, leave."""
        self._running = False
        self.heartbeat.stopping = True
        await self.firing.stop()
        self.execution.can_start = False
        try:
            await self._hand_back()
        except StoreError as error:
            log.warning("could not hand claims back; their lease ends: %s", error)
        await self._end_runs(self.settings.execution.shutdown_grace if grace_s is None else grace_s)
        for service in reversed(self.services()):
            if service is not self.finisher:
                await service.stop()
        try:
            async with asyncio.timeout(10):
                await self.finisher.flush()
                await self._hand_back()
                await self.world.store.leave(self.node_id, self.world.clock.now_us())
        except (TimeoutError, StoreError) as error:
            log.warning("the store is away; another node takes over what is left: %s", error)
        await self.finisher.stop()
        for executor in self.world.executors.values():
            await executor.close()

    def changed(self, change: Change) -> None:
        """Act on what a use case of this process changed."""
        if change.revoked:
            self.firing.timers.drop(change.revoked)
            self.execution.drop(change.revoked)
        self.catalog.forget(change.jobs)
        if change.cancelled:
            self._cancel(change.cancelled)
        if len(self.execution):
            # Runs that wait for a worker may have been held, disabled or deleted.
            self.watcher.suspect()
        if change.work and self._running:
            self.firing.wake()

    def health(self) -> dict[str, str]:
        """Return each service's state; "ok" or what is wrong."""
        states = {item.name: "ok" if item.healthy else "degraded" for item in self.services()}
        if self.heartbeat.throttled:
            states["load"] = self.heartbeat.throttled
        states |= self.notices()
        if self.failure:
            states["failure"] = self.failure
        return states

    def notices(self) -> dict[str, str]:
        """Return what people should know, by subject; the node serves nevertheless."""
        said = dict(self._notices)
        heartbeat = self.heartbeat
        if heartbeat.clockwatch.trouble:
            said["clock"] = heartbeat.clockwatch.trouble
        elif heartbeat.drained:
            said["drained"] = heartbeat.drained
        if heartbeat.newer_schema:
            said["schema"] = heartbeat.newer_schema
        return said

    def _new_id(self) -> None:
        node_id = "n" + self.world.entropy.token_bytes(8).hex()
        self.firing.node_id = self.heartbeat.node_id = node_id

    def _fail(self, name: str, error: BaseException) -> None:
        self.failure = self.failure or f"{name}: {error}"
        self.failed.set()

    def _may_claim(self) -> bool:
        self.execution.pump()
        heartbeat = self.heartbeat
        willing = self._running and not heartbeat.throttled and not heartbeat.drained
        return willing and heartbeat.trusted()

    def _may_start(self) -> bool:
        if not self.watcher.fresh():
            self.watcher.wake()
            return False
        return self.heartbeat.trusted()

    def _looked(self, look: Moment) -> None:
        self.firing.timers.looked(look)
        self.execution.pump()

    def _busy(self) -> tuple[int, int]:
        return len(self.execution.live), len(self.execution) + len(self.firing.timers)

    def _again(self, run: Run) -> None:
        self.firing.timers.add([run])

    def _stored(self, answers: list[Finished]) -> None:
        del answers
        self.firing.finished()

    def _dealt(self, share: Share | None) -> None:
        self.firing.share = share
        self.firing.wake()

    def _died(self) -> None:
        """Take up what a dead node would have decided."""
        self.placement.wake()
        self.firing.wake()

    def _met(self, nodes: Sequence[Node]) -> None:
        """Say what the living nodes do not agree on, once."""
        me = next((node for node in nodes if node.id == self.node_id), None)
        if me is None:
            return
        said = notices(me, nodes, self.world.clock.now_us())
        for subject, text in said.items():
            if self._notices.get(subject) != text:
                log.warning("%s: %s", subject, text)
        self._notices = said

    async def _drain(self) -> None:
        """Hand back all that waits here, for its time or for a worker; what runs may end."""
        waiting = [run.key for run in (*self.firing.timers.waiting(), *self.execution.ready())]
        self._stopped += self.firing.timers.drop(waiting)
        self._stopped += self.execution.drop(waiting)
        try:
            await self._give_back()
        except StoreError as error:
            log.warning("could not hand claims back, the next heartbeat tries again: %s", error)

    def _rejoin(self) -> None:
        """Drop everything that the store has given to others and come back as a new node."""
        self.firing.timers.drop([run.key for run in self.firing.timers.waiting()])
        self.execution.abandon()
        self._stopped = []
        self.firing.returning = set()
        self._new_id()
        self.firing.wake()

    async def _foreign_change(self) -> None:
        self.firing.wake()
        await self._verify_claims()

    async def _verify_claims(self) -> None:
        """Drop claims that others withdrew or stopped, and cancel what they asked to cancel."""
        store = self.world.store
        await self._give_back()
        waiting = [*self.firing.timers.waiting(), *self.execution.ready()]
        if waiting:
            kept = set(await store.still_claimed([(run.key, run.token) for run in waiting]))
            self._forget([run for run in waiting if run.key not in kept])
        now = self.world.clock.now_us()
        late = [run for run in self.firing.timers.waiting() if run.due_us <= now]
        ready = [*self.execution.ready(), *late]
        if ready:
            await self._return_stopped(ready)
        if self.execution.live or waiting:
            self._cancel(await store.cancel_flags(self.node_id))

    def _forget(self, runs: Sequence[Run]) -> None:
        """Drop claims, unless the store has given them to this node anew."""
        tokens = {run.key: run.token for run in runs}
        for holder in (self.firing.timers, self.execution):
            newer = [run for run in holder.drop(tokens) if run.token > tokens[run.key]]
            if isinstance(holder, Execution):
                holder.start(newer)
            else:
                holder.add(newer)

    async def _return_stopped(self, ready: Sequence[Run]) -> None:
        """Hand back due runs that did not start yet and whose job was stopped meanwhile."""
        holds = await self.world.store.list_holds()
        ids = sorted({run.key.job_id for run in ready})
        jobs = {job.id: job for job in await self.world.store.get_jobs(ids)}
        self._forget([run for run in ready if run.key.job_id not in jobs])
        stopped = [run for run in ready if run.key.job_id in jobs]
        stopped = [run for run in stopped if _is_stopped(run, jobs[run.key.job_id], holds)]
        stopped_keys = [run.key for run in stopped]
        self._stopped += self.execution.drop(stopped_keys)
        self._stopped += self.firing.timers.drop(stopped_keys)
        await self._give_back()

    async def _give_back(self) -> None:
        """Hand back what was stopped; a store that is away is asked again, nothing starts here."""
        runs = list(self._stopped)
        if not runs:
            return
        self.firing.returning |= {run.key for run in runs}
        await self.world.store.hand_back(runs, self.world.clock.now_us())
        self._stopped = [run for run in self._stopped if run not in runs]
        self.firing.returning = {run.key for run in self._stopped}

    def _cancel(self, keys: Sequence[RunKey]) -> None:
        self.firing.timers.flag(keys)
        self.execution.cancel(keys, "cancelled")

    async def _hand_back(self) -> None:
        runs = [*self.firing.timers.waiting(), *self.execution.ready(), *self._stopped]
        self.firing.timers.drop([run.key for run in runs])
        self.execution.drop([run.key for run in runs])
        if runs:
            await self.world.store.hand_back(runs, self.world.clock.now_us())

    async def _end_runs(self, grace_s: float) -> None:
        try:
            async with asyncio.timeout(grace_s):
                await self.execution.drained()
        except TimeoutError:
            log.warning("stopping %d runs that did not end in time", len(self.execution.live))
            self.execution.cancel(list(self.execution.live), "node_stopped")
            try:
                async with asyncio.timeout(self.settings.execution.kill_grace + 5):
                    await self.execution.drained()
            except TimeoutError:
                self.execution.abandon()


def _is_stopped(run: Run, job: Job, holds: Sequence[Hold]) -> bool:
    targets = {"all": 0, "project": job.project_id, "job": job.id}
    if any(hold.target_id == targets[hold.scope] for hold in holds):
        return True
    planned = run.trigger != "manual" and run.attempt == 1
    return planned and (not job.enabled or bool(job.parked))


def _defaults(settings: Settings) -> Defaults:
    execution = settings.execution
    return Defaults(
        http_timeout_s=execution.http_timeout,
        process_timeout_s=execution.process_timeout,
        retry=Retry(max=execution.retry_max, delay_s=execution.retry_delay),
        max_crashes=settings.engine.max_crashes,
    )


def _thresholds(settings: Settings) -> Thresholds:
    node = settings.node
    return Thresholds(
        max_memory_mb=node.max_memory,
        max_cpu=node.max_cpu,
        heartbeat_s=node.heartbeat,
        lease_s=node.lease,
        max_clock_offset_s=node.max_clock_offset,
    )
