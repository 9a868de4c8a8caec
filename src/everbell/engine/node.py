"""One node: its services put together, started in order, stopped without losing a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from everbell.config.schema import Settings
from everbell.domain.errors import StoreError
from everbell.domain.job import US, Retry
from everbell.domain.notice import Moment
from everbell.domain.notices import notices
from everbell.domain.planner import Limits
from everbell.domain.records import Node
from everbell.domain.run import Run
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
from everbell.engine.messenger import Intake, Lines, Messenger
from everbell.engine.placement import Placement
from everbell.engine.service import Service
from everbell.engine.withdrawals import Withdrawals
from everbell.ports.clock import Clock, Entropy
from everbell.ports.executor import CaptureSink, Executor
from everbell.ports.load import LoadMeter
from everbell.ports.observer import Change, RunObserver, Tracer
from everbell.ports.registry import Member
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
    lines: Lines = Lines()


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
        self._notices: dict[str, str] = {}
        self.roles = frozenset(settings.node.roles)
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
        self.withdrawals = Withdrawals(clock, store, self.firing, self.execution)
        self.watcher = Watcher(clock, self._fail, store)
        self.loads = Loads(clock)
        self.placement = Placement(
            clock,
            self._fail,
            store=store,
            loads=self.loads,
            behind_us=self._look_ahead_us() + BEHIND_US,
        )
        self._keep_house(defaults)
        self.messenger = Messenger(clock, self._fail, world.lines, settings.node.heartbeat)
        ready = world.lines.ready if "worker" in self.roles else None
        self.intake = Intake(clock, self._fail, ready) if ready is not None else None
        self._wire()

    def _keep_house(self, defaults: Defaults) -> None:
        settings, clock, store = self.settings, self.world.clock, self.world.store
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

    def _look_ahead_us(self) -> int:
        """Return how far ahead slots are decided.

        What others run is queued at its instant: queued runs are not withdrawn by edits.
        """
        return int(self.settings.engine.look_ahead * US) if "worker" in self.roles else 0

    def _wire(self) -> None:
        engine = self.settings.engine
        self.firing.decides = "scheduler" in self.roles
        self.firing.takes = "worker" in self.roles
        self.firing.limits = Limits(
            look_ahead_us=self._look_ahead_us(),
            grace_us=int(engine.misfire_grace * US),
            hand_on=not self.firing.takes,
        )
        self.firing.batch_size = engine.batch_size
        self.firing.max_queue = engine.max_queue
        self.firing.poll_s = engine.poll
        self.firing.may_claim = self._may_claim
        self.execution.may_start = self._may_start
        self.execution.again = self._again
        self.execution.followed = self._followed
        self.execution.busy = self.reporter.attend
        self.execution.broken = self._fail
        self.execution.tracer = self.world.tracer
        for part in (self.execution, self.finisher, self.firing):
            part.observer = self.world.observer
        self.finisher.stored = self._stored
        self.heartbeat.busy = self._busy
        self.heartbeat.fenced = self._rejoin
        self.heartbeat.verify = self.withdrawals.verify
        self.heartbeat.renewed = self.execution.pump
        self.heartbeat.drain = self.withdrawals.drain
        self.heartbeat.epoch = self.placement.heard
        self.placement.node_id = lambda: self.node_id
        self.placement.dealt = self._dealt
        self.placement.met = self._met
        self.firing.tally = self.loads.decided
        self.finisher.tally = self.loads.ended
        self.recovery.may_judge = self.heartbeat.calm
        self.retention.may_judge = self.holds.may_judge = self.heartbeat.clockwatch.right
        self.recovery.died = self._died
        self.watcher.changed = self._foreign_change
        self.watcher.looked = self._looked
        self.firing.timers.doubt = self.watcher.wake
        self.holds.released = self._recovered
        self._wire_lines()

    def _wire_lines(self) -> None:
        self.placement.is_scheduler = "scheduler" in self.roles
        self.recovery.recovered = self._recovered
        self.firing.handed_on = self.messenger.hand_on
        self.messenger.member = self._member
        self.heartbeat.trouble = self._trouble
        self.withdrawals.returned = self.messenger.ring
        self.firing.took = self.watcher.attend
        if self.world.lines.wakeups:
            self.watcher.idle = self._is_idle
        for wakeups in self.world.lines.wakeups:
            wakeups.listen(self._heard)
        if self.intake is not None:
            ready, sweep_us = self.world.lines.ready, int(self.settings.redis.sweep * US)
            self.firing.sweep_us = lambda: sweep_us if ready is not None and ready.healthy else 0
            self.intake.room = self.firing.room
            self.intake.claim = self.firing.claim_offered

    @property
    def node_id(self) -> str:
        """The id of this start of the node."""
        return self.firing.node_id

    def services(self) -> tuple[Service, ...]:
        """Return the services in the order in which they start."""
        serving: tuple[Service, ...] = (self.heartbeat, self.messenger, self.placement)
        if self.firing.decides or self.firing.takes:
            serving += (
                self.finisher,
                self.reporter,
                self.recovery,
                self.watcher,
                self.firing,
                self.holds,
                self.retention,
            )
        return serving if self.intake is None else (*serving, self.intake)

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
        if self.intake is not None:
            await self.intake.stop()
        await self.firing.stop()
        self.execution.can_start = False
        try:
            # What was claimed when the services were cut short goes back too.
            await self.firing.adopt()
            await self.withdrawals.hand_back_all()
        except StoreError as error:
            log.warning("could not hand claims back; their lease ends: %s", error)
        await self._end_runs(self.settings.execution.shutdown_grace if grace_s is None else grace_s)
        for service in reversed(self.services()):
            if service is not self.finisher:
                await service.stop()
        try:
            async with asyncio.timeout(10):
                await self.finisher.flush()
                await self.withdrawals.hand_back_all()
                await self.world.store.leave(self.node_id, self.world.clock.now_us())
        except (TimeoutError, StoreError) as error:
            log.warning("the store is away; another node takes over what is left: %s", error)
        await self.finisher.stop()
        await self.messenger.leave()
        for executor in self.world.executors.values():
            await executor.close()

    def changed(self, change: Change) -> None:
        """Act on what a use case of this process changed."""
        if change.revoked:
            self.firing.timers.drop(change.revoked)
            self.execution.drop(change.revoked)
        self.catalog.forget(change.jobs)
        if change.nodes:
            self.heartbeat.wake()
        if change.cancelled:
            self.withdrawals.cancel(change.cancelled)
        if len(self.execution):
            # Runs that wait for a worker may have been held, disabled or deleted.
            self.watcher.suspect()
        if self._running:
            self.messenger.ring()
            if change.work:
                self.firing.called()

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
        if self.world.lines.trouble:
            said["redis"] = self.world.lines.trouble
        return said

    def _trouble(self) -> str:
        trouble = self.world.lines.trouble
        return f"redis: {trouble}" if trouble else ""

    def _new_id(self) -> None:
        node_id = "n" + self.world.entropy.token_bytes(8).hex()
        self.firing.node_id = self.heartbeat.node_id = node_id

    def _fail(self, name: str, error: BaseException) -> None:
        self.failure = self.failure or f"{name}: {error}"
        self.failed.set()

    def _may_claim(self) -> bool:
        self.execution.pump()
        heartbeat = self.heartbeat
        if not heartbeat.clockwatch.sure():
            heartbeat.wake()
            return False
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

    def _rejoin(self) -> None:
        """Drop everything that the store has given to others and come back as a new node."""
        self.firing.timers.drop([run.key for run in self.firing.timers.waiting()])
        self.execution.abandon()
        self.withdrawals.forget_all()
        self._new_id()
        self.firing.wake()

    def _followed(self) -> None:
        """Start what follows a run, here or elsewhere."""
        self.firing.called()
        if self.firing.room() <= 0:
            self.messenger.ring()

    def _is_idle(self) -> bool:
        return not (self.firing.timers or self.execution or self.execution.live)

    def _heard(self) -> None:
        """Look what another node has changed."""
        self.watcher.wake()
        self.firing.called()

    def _recovered(self) -> None:
        self.firing.called()
        self.messenger.ring()

    def _member(self) -> Member | None:
        """Return what the registry shows of this node."""
        node = self.heartbeat.last
        if node is None:
            return None
        port = node.address.rpartition(":")[2]
        return Member(
            name=node.name,
            id=node.id,
            host=node.host,
            pid=node.pid,
            port=int(port) if port.isdigit() else 0,
            roles=",".join(node.roles),
            version=node.version,
            state=node.state,
            rss=node.rss_bytes,
            cpu=node.cpu_percent,
            running=node.running,
            queued=node.queued,
            heartbeat_us=node.heartbeat_us,
        )

    async def _foreign_change(self) -> None:
        self.firing.wake()
        await self.withdrawals.verify()

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
