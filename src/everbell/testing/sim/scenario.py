"""From a seed to a history: what is drawn, what happens, how it is healed, and the verdict."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from everbell.config.schema import Engine, Execution, NodeSettings, Role, Settings
from everbell.domain.job import US
from everbell.domain.run import Run
from everbell.ports.store import JobFilter, Page, RunFilter
from everbell.services.context import Services
from everbell.testing.sim.checkers import check_all
from everbell.testing.sim.cluster import CRASH_POINTS, SECRET, SPLIT, Cluster
from everbell.testing.sim.history import History, Violation
from everbell.testing.sim.loop import VirtualLoop
from everbell.testing.sim.operations import Operator
from everbell.testing.sim.world import Faults, FaultyStore, SimClock, SimEntropy

STARTS = (
    datetime(2026, 3, 29, 0, 55, tzinfo=UTC),  # Europe/Stockholm leaves standard time at 01:00
    datetime(2026, 10, 25, 0, 55, tzinfo=UTC),  # and returns to it
    datetime(2026, 11, 1, 5, 55, tzinfo=UTC),  # America/New_York returns at 06:00
    datetime(2026, 10, 3, 15, 25, tzinfo=UTC),  # Australia/Lord_Howe gains half an hour at 15:30
    datetime(2026, 6, 15, 11, 59, 30, tzinfo=UTC),
)
KINDS = ("crash", "pause", "outage", "unavailable", "unknown", "jump", "stop", "latency", "ops")
QUIET_ROUNDS = 40
LAYOUTS: dict[str, tuple[tuple[Role, ...], ...]] = {
    "split": SPLIT,
    "api": (("scheduler",), ("worker",), ("api",)),
    "equals": (("scheduler", "worker"),) * 3,
    "workers": (("scheduler",), ("worker",), ("worker",)),
}
"""Who does what in a cluster that is joined by a broker."""
SKEW_US = 20_000
MOST_SKEW_US = 49_000
"""Two such clocks differ by less than what is promised to be harmless (0.1 s)."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed draws."""

    seed: int
    nodes: int
    jobs: int
    minutes: float
    start: int
    workers: int
    faults: tuple[str, ...]
    store: str = "memory"
    roles: str = "both"
    layout: str = "split"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a seed."""

    options: Options
    history: History
    violations: list[Violation]
    steps: int
    virtual_s: float


def draw(seed: int, *, store: str = "", minutes: float = 0) -> Options:
    """Draw the options of a seed. Swarm: each kind of fault is on in about half of the seeds."""
    chance = random.Random(f"{seed}/options")
    faults = tuple(kind for kind in KINDS if chance.random() < 0.5)
    drawn = Options(
        seed=seed,
        nodes=chance.choice([1, 2, 3]),
        jobs=chance.choice([3, 5, 8, 15]),
        minutes=chance.choice([2, 4, 6, 10]),
        start=chance.randrange(len(STARTS)),
        workers=chance.choice([1, 3, 20, 100]),
        faults=faults,
        store=chance.choice(["memory", "memory", "sqlite"]),
    )
    # Drawn after all else, so that older seeds stay what they were.
    roles = chance.choice(["both", "both", "split"])
    if roles == "split":
        nodes = max(drawn.nodes, 2)
        faults = (*faults, "broker") if chance.random() < 0.5 else faults
        drawn = msgspec.structs.replace(drawn, roles=roles, nodes=nodes, faults=faults)
    if chance.random() < 0.4:
        drawn = msgspec.structs.replace(drawn, faults=(*drawn.faults, "drain"))
    if drawn.nodes > 1 and chance.random() < 0.5:
        drawn = msgspec.structs.replace(drawn, faults=(*drawn.faults, "partition"))
    if chance.random() < 0.3:
        drawn = msgspec.structs.replace(drawn, faults=(*drawn.faults, "skew"))
    if drawn.nodes > 1 and chance.random() < 0.3:
        drawn = msgspec.structs.replace(drawn, faults=(*drawn.faults, "clock"))
    if roles == "split":
        drawn = msgspec.structs.replace(drawn, layout=chance.choice(sorted(LAYOUTS)))
    if store:
        drawn = msgspec.structs.replace(drawn, store=store)
    return msgspec.structs.replace(drawn, minutes=minutes) if minutes else drawn


def simulate(options: Options) -> Result:
    """Run one seed to its end and judge it."""
    loop = VirtualLoop(options.seed)
    try:
        return loop.run_until_complete(_run(options, loop))
    finally:
        loop.close()


async def _run(options: Options, loop: VirtualLoop) -> Result:
    store = await _store(options.store)
    try:
        return await _Simulation(options, loop, store).run()
    finally:
        await store.close()


class _Simulation:
    def __init__(self, options: Options, loop: VirtualLoop, store: Any) -> None:
        self.options = options
        self.chance = random.Random(f"{options.seed}/scenario")
        chance = self.chance
        settings = Settings(
            node=NodeSettings(name="sim", heartbeat=2.0, lease=6.0),
            engine=Engine(
                max_workers=options.workers,
                batch_size=chance.choice([2, 10, 1000]),
                max_queue=chance.choice([5, 50, 10_000]),
                max_crashes=chance.choice([1, 3, 50]),
            ),
            execution=Execution(
                process_timeout=30.0, retry_max=chance.choice([0, 0, 2]), retry_delay=1.0
            ),
        )
        base_us = round(STARTS[options.start].timestamp()) * US
        self.store = store
        self.cluster = Cluster(options.seed, loop, self.store, settings=settings, base_us=base_us)
        if options.roles == "split":
            self.cluster.split(LAYOUTS[options.layout])
        self.loop = loop
        self.clock = SimClock(base_us)
        self.clock.jump, self.clock.peak = self.cluster.jump, self.cluster.peak
        self.cluster.shared.highest_us = self.clock.highest_us
        # The operator's own way to the store is slow, but never fails.
        calm = Faults(latency_s=0.02)
        operator_store: Any = FaultyStore(self.cluster.shared, f"{options.seed}/ops", calm)
        services = Services(
            store=operator_store,
            clock=self.clock,
            entropy=SimEntropy(f"{options.seed}/ids"),
            settings=settings,
            secret_key=SECRET,
            checks=dict.fromkeys(("http", "command", "script"), lambda _action: None),
            hints=self.cluster,
        )
        self.services = services
        self.operator = Operator(
            services, self.cluster, random.Random(f"{options.seed}/operator"), self.clock
        )

    async def run(self) -> Result:
        await self.operator.create(self.options.jobs)
        on = set(self.options.faults)
        faults = self.cluster.faults
        # To notice a stop takes a few round trips of at most twice the latency each.
        self.cluster.history.notice_us = 5 * US if "latency" in on else US
        faults.latency_s = 0.5 if "latency" in on else 0.01
        faults.unavailable = 0.02 if "unavailable" in on else 0.0
        faults.unknown = 0.03 if "unknown" in on else 0.0
        for slot in range(self.options.nodes):
            most_us = MOST_SKEW_US if "skew" in on else SKEW_US
            self.cluster.skews[slot] = self.chance.randrange(-most_us, most_us)
            if "clock" in on and slot == self.options.nodes - 1:
                self._misset(slot)
            self.cluster.boot(slot)
        await self._trouble(on)
        await self._heal()
        await self._collect()
        await self.cluster.reap()
        history = self.cluster.history
        return Result(
            options=self.options,
            history=history,
            violations=check_all(history),
            steps=self.loop.steps,
            virtual_s=self.loop.time(),
        )

    def _misset(self, slot: int) -> None:
        """Give a node a clock that is wrong until all is healed; the store has a right one."""
        right = SimClock(self.clock.base_us)
        right.jump, right.peak = self.cluster.jump, self.cluster.peak
        self.cluster.shared.clock_us = right.now_us
        off_s = self.chance.choice([-3600.0, -30.0, -1.0, 1.0, 30.0, 3600.0])
        self.cluster.skews[slot] = round(off_s * US)

    async def _trouble(self, on: set[str]) -> None:
        end = self.loop.time() + self.options.minutes * 60
        actions: list[Callable[[], Any]] = [
            action
            for kind, action in (
                ("crash", self._crash),
                ("pause", self._pause),
                ("outage", self._outage),
                ("jump", self._jump),
                ("stop", self._stop),
                ("drain", self._drain),
                ("broker", self._broker),
                ("partition", self._partition),
                ("ops", self.operator.act),
                ("ops", self.operator.act),
                ("ops", self.operator.act),
            )
            if kind in on
        ]
        busy: set[asyncio.Task[Any]] = set()
        while self.loop.time() < end:
            await asyncio.sleep(self.chance.expovariate(1 / 8))
            if actions:
                task = self.loop.create_task(self.chance.choice(actions)())
                busy.add(task)
                task.add_done_callback(busy.discard)
        if busy:
            await asyncio.gather(*busy)

    async def _crash(self) -> None:
        life = self._any()
        if life is None:
            return
        if self.chance.random() < 0.7:
            life.armed = (self.chance.choice(CRASH_POINTS), self.chance.randrange(1, 4))
            await asyncio.sleep(self.chance.random() * 10)
            life.armed = None
        else:
            self.cluster.crash(life, "at random")
        if life.crashed:
            await asyncio.sleep(self.chance.choice([0.1, 2, 10, 40]))
            if life.slot not in self.cluster.lives:
                self.cluster.boot(life.slot)

    async def _pause(self) -> None:
        life = self._any()
        if life is not None and not life.paused:
            self.cluster.pause(life)
            await asyncio.sleep(self.chance.choice([0.5, 3, 8, 20]))
            self.cluster.resume(life)

    async def _outage(self) -> None:
        self.cluster.faults.outage = True
        await asyncio.sleep(self.chance.choice([0.2, 2, 7, 30]))
        self.cluster.faults.outage = False

    async def _broker(self) -> None:
        """Lose the queue server, or only all that it holds."""
        broker = self.cluster.broker
        broker.flush()
        broker.lost = self.chance.random() < 0.5
        await asyncio.sleep(self.chance.choice([0.5, 5, 30]))
        broker.lost = False

    async def _partition(self) -> None:
        """Cut one node off from the store, while the others go on."""
        life = self._any()
        if life is None or life.store.way != "open":
            return
        self.cluster.cut(life, self.chance.choice(("silent", "deaf", "mute")))
        await asyncio.sleep(self.chance.choice([1, 5, 9, 30]))
        self.cluster.cut(life, "open")

    async def _jump(self) -> None:
        step = self.chance.choice([-120.0, -10.0, -0.7, 0.7, 10.0, 120.0]) * self.chance.random()
        self.clock.leap(round(step * US))

    async def _stop(self) -> None:
        life = self._any()
        if life is None or life.paused:
            return
        await self.cluster.stop(life, self.chance.choice([0.0, 1.0, 30.0]))
        await asyncio.sleep(self.chance.choice([0.1, 5]))
        if life.slot not in self.cluster.lives:
            self.cluster.boot(life.slot)

    async def _drain(self) -> None:
        slot = self.chance.randrange(self.options.nodes)
        if await self.operator.drain(f"n{slot}"):
            await asyncio.sleep(self.chance.choice([1, 5, 20]))
            await self.operator.undrain(f"n{slot}")

    def _any(self) -> Any:
        lives = [life for _, life in sorted(self.cluster.lives.items())]
        return self.chance.choice(lives) if lives else None

    async def _heal(self) -> None:
        """End all faults, release and resolve all, then wait until everything has settled."""
        faults = self.cluster.faults
        faults.latency_s, faults.unavailable, faults.unknown, faults.outage = 0.01, 0.0, 0.0, False
        self.cluster.broker.lost = False
        self.cluster.skews = [0 if abs(it) > MOST_SKEW_US else it for it in self.cluster.skews]
        for life in list(self.cluster.lives.values()):
            life.armed = None
            life.clock.skew_us = self.cluster.skews[life.slot]
            self.cluster.cut(life, "open")
            self.cluster.resume(life)
        for slot in range(self.options.nodes):
            if slot not in self.cluster.lives:
                self.cluster.boot(slot)
        for slot in range(self.options.nodes):
            await self.operator.undrain(f"n{slot}")
        await self.operator.release_all()
        # A clock that was set back must first reach where it had been.
        await asyncio.sleep((self.clock.highest_us() - self.clock.now_us()) / US + 15)
        await self.operator.resolve_all()
        await asyncio.sleep(15)
        await self.operator.unschedule_all()
        for life in self.cluster.lives.values():
            life.executor.brisk = True
        for _ in range(QUIET_ROUNDS):
            await asyncio.sleep(15)
            await self.operator.resolve_all()
            if not await self._open():
                return
        self.cluster.history.stuck += [f"{run.id} is {run.state}" for run in await self._open()]

    async def _open(self) -> list[Run]:
        where = RunFilter(states=("queued", "claimed", "running"))
        runs: list[Run] = await self.store.list_runs(where, 1000)
        return runs

    async def _collect(self) -> None:
        history, store = self.cluster.history, self.store
        after = None
        while True:
            page = await store.list_runs(RunFilter(), 1000, after)
            history.rows += page
            if len(page) < 1000:
                break
            after = page[-1].key
        history.jobs, _ = await store.list_jobs(JobFilter(), Page(limit=1000))
        for job in history.jobs:
            history.versions[job.id] = await store.job_versions(job.id)
        for run in history.rows:
            if run.attempt > 1:
                history.attempts[run.key] = await store.attempts(run.key)
        history.changes = self.cluster.shared.changes
        history.end_wall_us = self.clock.now_us()


async def _store(kind: str) -> Any:
    if kind == "sqlite":
        from everbell.stores.sqlite import SqliteStore

        return await SqliteStore.open(":memory:", inline=True)
    from everbell.stores.memory import MemoryStore

    return MemoryStore()
