"""Keeps the node's lease, watches its load, and notices what other processes changed."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Literal

from everbell.domain.job import US, Record
from everbell.domain.notice import Moment
from everbell.domain.records import Node
from everbell.engine.clockwatch import ClockWatch
from everbell.engine.service import Service
from everbell.ports.clock import Clock
from everbell.ports.cluster import UNSEEN_MAX_S
from everbell.ports.load import LoadMeter
from everbell.ports.store import ClusterStore, Pulse

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.7
"""Share of ``max_memory`` at which a node takes no new work (Scheduler0's documented rule)."""


class Identity(Record, frozen=True):
    """What a node says of itself."""

    name: str
    host: str
    pid: int
    version: str
    workers: int
    address: str = ""
    roles: tuple[str, ...] = ("scheduler", "worker", "api")
    tzdata: str = ""


class Thresholds(Record, frozen=True):
    """Limits above which a node takes no new work; 0 = none. And its lease."""

    max_memory_mb: float = 0
    max_cpu: float = 0
    heartbeat_s: float = 2.0
    lease_s: float = 6.0
    max_clock_offset_s: float = 0.1


SMOOTH = 0.2
"""Part of the newest reading in the machine's CPU as other nodes see it."""
DOZE_S = 0.5
"""Between looks of a watcher on a node that has nothing to do."""
FRESH_S = 1.0
"""Nothing starts on a node that has not looked at changes for so long: it may have slept."""


async def _nothing() -> None:
    """Do nothing."""


class Heartbeat(Service):
    """Renews the lease. ``trusted`` tells whether the node may still start work.

    The node trusts its lease less than the store does: it stops starting runs one heartbeat
    before the lease is over. ``fenced`` is called when the store has declared the node dead.

    ``drained`` says why the node takes no new work although it could: an operator asked for it, or
    its clock is wrong. While it is, ``drain`` is called at each beat: it hands back what waits.
    ``trouble`` says what else is wrong with a node that works all the same.

    ``calm`` tells whether the node may judge others: not within a lease after it could not renew
    its own, or after the wall clock jumped, since then every lease looks over, also of the living;
    and not by a clock that is off. Such a node tells its own lease by the store's clock.
    """

    name = "heartbeat"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        *,
        store: ClusterStore,
        load: LoadMeter,
        identity: Identity,
        thresholds: Thresholds,
    ) -> None:
        super().__init__(clock, on_failure)
        self._store = store
        self._load = load
        self._identity = identity
        self._thresholds = thresholds
        # Others may judge a lease after the store was away: be back before they do.
        self.retry_max_s = min(thresholds.heartbeat_s / 2, self.retry_max_s)
        self._renewed = clock.monotonic()
        self._calm_from = clock.monotonic()
        self._seen_us = clock.now_us()
        self._seen_at = clock.monotonic()
        self.node_id = ""
        self.started_us = clock.now_us()
        self.busy: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.fenced: Callable[[], None] = lambda: None
        self.renewed: Callable[[], object] = lambda: None
        self.verify: Callable[[], Awaitable[object]] = _nothing
        self.drain: Callable[[], Awaitable[object]] = _nothing
        self.epoch: Callable[[int], object] = lambda _: None
        self.clockwatch = ClockWatch(clock, thresholds.max_clock_offset_s)
        self.throttled = ""
        self.drained = ""
        self.stopping = False
        self.schema: int | None = None
        self.newer_schema = ""
        self._machine_cpu = 0.0
        self._readings = 0
        self.last: Node | None = None
        self.trouble: Callable[[], str] = lambda: ""

    def trusted(self) -> bool:
        """Return whether the lease surely still holds, by the monotonic clock.

        It does not if others may have seen this process die: its lease is over then.
        """
        if self._store.unseen_s >= UNSEEN_MAX_S:
            return False
        return self.clock.monotonic() - self._renewed < self._thresholds.lease_s - self._margin_s

    def age_s(self) -> float:
        """Return seconds since the lease was renewed."""
        return self.clock.monotonic() - self._renewed

    def calm(self) -> bool:
        """Return whether leases that look over are over."""
        passed_us = (self.clock.monotonic() - self._seen_at) * US
        drift_us = abs(self.clock.now_us() - self._seen_us - passed_us)
        if drift_us > self._margin_s * US:
            log.warning("the clock jumped by %.1f s; leases are judged again later", drift_us / US)
            self._see()
            self._calm_from = self.clock.monotonic() + self._thresholds.lease_s
            self.wake()
        rested = self.clock.monotonic() >= self._calm_from
        return self.trusted() and rested and self.clockwatch.right()

    @property
    def _margin_s(self) -> float:
        return min(self._thresholds.heartbeat_s, self._thresholds.lease_s / 4)

    def _see(self) -> None:
        self._seen_us, self._seen_at = self.clock.now_us(), self.clock.monotonic()

    async def step(self) -> float:
        """Renew once."""
        rss, cpu = self._load.rss_bytes(), self._load.cpu_percent()
        self._judge(rss, cpu)
        begun = self.clockwatch.now()
        self.last = self._node(rss, cpu)
        pulse = await self._store.heartbeat(self.last)
        if not pulse.accepted:
            log.error("this node was declared dead while it could not renew its lease; it rejoins")
            # Until the store knows the new id, what is claimed under it is an orphan.
            self._renewed = self.clock.monotonic() - self._thresholds.lease_s
            self.fenced()
            return 0.0
        self.clockwatch.looked(begun, pulse.store_us)
        if not self.trusted():
            # Nothing starts before the claims were looked at: much may have been withdrawn.
            await self.verify()
            self._calm_from = self.clock.monotonic() + self._thresholds.lease_s
        self._renewed = begun.monotonic_us / US
        if self.calm():
            self._see()
        self._learn(pulse)
        if self.drained:
            await self.drain()
        self.renewed()
        return self._thresholds.heartbeat_s

    def _learn(self, pulse: Pulse) -> None:
        """Act on what the store said."""
        self.epoch(pulse.epoch)
        if self.schema is None:
            self.schema = pulse.schema
        elif pulse.schema is not None and pulse.schema > self.schema and not self.newer_schema:
            self.newer_schema = (
                f"the database has schema {pulse.schema}, this program was made for"
                f" {self.schema}: upgrade it"
            )
            log.warning("schema: %s", self.newer_schema)
        drained = pulse.drained
        if not drained and self.clockwatch.trouble:
            drained = f"clock: {self.clockwatch.trouble}"
        if drained and not self.drained:
            log.warning("drained, taking no new work: %s", drained)
        elif self.drained and not drained:
            log.warning("no longer drained, taking work again")
        if bool(drained) != bool(self.drained):
            # The other nodes are to see it now, not a heartbeat later.
            self.wake()
        self.drained = drained

    def _node(self, rss: int, cpu: float) -> Node:
        now = self.clock.now_us() + self.clockwatch.lag_us()
        running, queued = self.busy()
        state: Literal["up", "draining", "throttled"] = "throttled" if self.throttled else "up"
        if self.stopping or self.drained:
            state = "draining"
        total, free = self._load.memory_bytes()
        offset_s = self.clockwatch.offset_s
        machine_cpu = self._smoothed(cpu)
        return Node(
            id=self.node_id,
            name=self._identity.name,
            host=self._identity.host,
            pid=self._identity.pid,
            version=self._identity.version,
            started_us=self.started_us,
            heartbeat_us=now,
            lease_until_us=now + int(self._thresholds.lease_s * US),
            state=state,
            workers=self._identity.workers,
            running=running,
            queued=queued,
            rss_bytes=rss,
            cpu_percent=cpu,
            address=self._identity.address,
            reason=self.drained or ("" if self.stopping else self.throttled or self.trouble()),
            roles=self._identity.roles,
            cores=self._load.cores(),
            machine_cpu=round(machine_cpu, 1),
            memory_total_bytes=total,
            memory_free_bytes=free,
            tzdata=self._identity.tzdata,
            schema=self.schema or 0,
            clock_offset_s=None if offset_s is None else round(offset_s, 3),
        )

    def _smoothed(self, cpu: float) -> float:
        """Return the machine's CPU use over some beats; the first reading says nothing."""
        self._readings += 1
        if self._readings == 1:
            return cpu
        before = cpu if self._readings == 2 else self._machine_cpu
        self._machine_cpu = before + SMOOTH * (cpu - before)
        return self._machine_cpu

    def _judge(self, rss: int, cpu: float) -> None:
        limits = self._thresholds
        reason = ""
        if limits.max_memory_mb and rss >= MEMORY_SHARE * limits.max_memory_mb * 1024 * 1024:
            limit = f"70 % of node.max_memory ({limits.max_memory_mb:g} MiB)"
            reason = f"memory {rss >> 20} MiB is above {limit}"
        elif limits.max_cpu and cpu > limits.max_cpu:
            reason = f"CPU {cpu:.0f} % is above node.max_cpu ({limits.max_cpu:g} %)"
        if reason and not self.throttled:
            log.warning("taking no new work: %s", reason)
        elif self.throttled and not reason:
            log.warning("taking work again")
        self.throttled = reason


class Watcher(Service):
    """Notices within ``period_s`` that another process wrote to the store.

    ``looked`` is told of each look, once all that it found was acted on. While ``idle`` (nothing
    here can be withdrawn, and others ring when they write) it looks less often.
    """

    name = "watcher"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        store: ClusterStore,
        period_s: float = 0.1,
    ) -> None:
        super().__init__(clock, on_failure)
        self._store = store
        self._period_s = period_s
        self._seen: int | None = None
        self._suspected = False
        self.changed: Callable[[], Awaitable[object]] = _nothing
        self.looked: Callable[[Moment], None] = lambda _: None
        self.idle: Callable[[], bool] = lambda: False
        self._dozes = False
        self._looked_at = -math.inf

    def fresh(self) -> bool:
        """Return whether the last look is recent; not so after the process slept."""
        return self.clock.monotonic() - self._looked_at <= FRESH_S

    def suspect(self) -> None:
        """Look again, although nobody else may have written."""
        self._suspected = True
        self.wake()

    def attend(self) -> None:
        """Take note that there is something here that may be withdrawn."""
        if self._dozes:
            self._dozes = False
            self.wake()

    async def step(self) -> float:
        """Compare once."""
        begun = Moment(self.clock.now_us(), int(self.clock.monotonic() * US))
        counter = await self._store.change_counter()
        if self._suspected or (self._seen is not None and counter != self._seen):
            self._suspected = False
            try:
                await self.changed()
            except BaseException:
                self._suspected = True
                raise
        self._seen = counter
        self._looked_at = begun.monotonic_us / US
        self.looked(begun)
        self._dozes = self.idle()
        return DOZE_S if self._dozes else self._period_s
