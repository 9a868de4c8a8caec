"""Simulated nodes: started, crashed at named points, paused, stopped and started again."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from typing import Any

import msgspec

from everbell.config.schema import Role, Settings
from everbell.domain.errors import StoreError
from everbell.domain.job import US
from everbell.engine.heartbeat import Identity
from everbell.engine.messenger import Lines
from everbell.engine.node import NodeEngine, World
from everbell.ports.observer import Change
from everbell.queues.memory import (
    MemoryBroker,
    MemoryReadyQueue,
    MemoryRegistry,
    MemoryWakeUps,
)
from everbell.testing.sim.history import Fault, History
from everbell.testing.sim.loop import OWNER, VirtualLoop
from everbell.testing.sim.world import (
    Faults,
    FaultyStore,
    Shared,
    SimClock,
    SimEntropy,
    SimExecutor,
    SimLoad,
    SimSink,
    Way,
)

CRASH_POINTS = (
    "before:decide",
    "after:decide",
    "before:finish",
    "after:finish",
    "before:take_queued",
    "after:take_queued",
    "before:append_output",
    "after:recover",
    "during:run",
    "during:check",
    "after:output",
)
PLACES = 4
SECRET = b"s" * 32
SPLIT: tuple[tuple[Role, ...], ...] = (("scheduler",), ("worker",), ("scheduler", "worker"))
"""One node schedules, the next one works, and a third does both."""


class Life:
    """One process: from its start to its crash or stop."""

    def __init__(self, cluster: Cluster, slot: int, number: int) -> None:
        self.cluster = cluster
        self.slot = slot
        self.name = f"n{slot}.{number}"
        seed = f"{cluster.seed}/{self.name}"
        self.faults = cluster.faults
        self.clock = SimClock(cluster.base_us, cluster.skews[slot])
        self.clock.jump, self.clock.peak = cluster.jump, cluster.peak
        self.armed: tuple[str, int] | None = None
        self.crashed = False
        self.paused = False
        self.store = FaultyStore(cluster.shared, f"{seed}/store", self.faults, self._point)
        self.executor = SimExecutor(
            self.name, self.clock, cluster.history, cluster.seed, self._point
        )
        world = World(
            store=self.store,  # a proxy with every verb of the port
            clock=self.clock,
            entropy=SimEntropy(f"{seed}/entropy"),
            load=SimLoad(),
            executors=dict.fromkeys(("http", "command", "script"), self.executor),
            new_sink=SimSink,
            secret_key=SECRET,
            lines=cluster.lines(),
        )
        settings = cluster.settings_of(slot)
        identity = Identity(
            name=f"n{slot}",
            host="sim",
            pid=number,
            version="0",
            workers=1,
            roles=settings.node.roles,
        )
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self.engine: NodeEngine = self.context.run(NodeEngine, settings, world, identity)
        self.task = cluster.loop.create_task(self._live(), context=self.context)

    async def _live(self) -> None:
        while True:
            try:
                await self.engine.start()
                break
            except StoreError:
                await asyncio.sleep(0.5)
        await self.engine.failed.wait()
        self.cluster.history.stopped.append(f"{self.name}: {self.engine.failure}")

    async def _point(self, name: str) -> None:
        if self.armed is None or self.armed[0] != name:
            return
        self.armed = (name, self.armed[1] - 1)
        if self.armed[1] <= 0:
            self.armed = None
            self.cluster.crash(self, name)
            await asyncio.get_running_loop().create_future()


class Cluster:
    """All nodes over one store; also the router of hints."""

    def __init__(
        self, seed: int, loop: VirtualLoop, store: Any, *, settings: Settings, base_us: int
    ) -> None:
        self.seed = seed
        self.loop = loop
        self.shared = Shared(store)
        self.settings = settings
        self.base_us = base_us
        self.history = History(look_ahead_us=int(settings.engine.look_ahead * US))
        self.faults = Faults()
        self.jump = [0]
        self.peak = [0]
        self.skews = [0] * PLACES
        self.broker = MemoryBroker(SimClock(base_us))
        self._roles: tuple[tuple[Role, ...], ...] = ()
        self.chance = random.Random(f"{seed}/cluster")
        self.lives: dict[int, Life] = {}
        self._count = 0
        self._dead: list[Life] = []
        loop.gate = self._gate  # type: ignore[assignment]  # owners are lives here

    def split(self, roles: tuple[tuple[Role, ...], ...] = SPLIT) -> None:
        """Give the nodes roles, and a broker that joins them."""
        self._roles = roles

    def settings_of(self, slot: int) -> Settings:
        """Return the settings of the node in a place."""
        if not self._roles:
            return self.settings
        node = msgspec.structs.replace(self.settings.node, roles=self._roles[slot])
        return msgspec.structs.replace(self.settings, node=node)

    def lines(self) -> Lines:
        """Return what connects a node to the others; in a cluster of equals nothing."""
        if not self._roles:
            return Lines()
        broker, wakeups = self.broker, MemoryWakeUps(self.broker)
        return Lines(MemoryReadyQueue(broker), (wakeups,), MemoryRegistry(broker))

    def boot(self, slot: int) -> Life:
        """Start a process in a place."""
        self._count += 1
        life = Life(self, slot, self._count)
        self.lives[slot] = life
        self.log(life, "boot")
        return life

    def crash(self, life: Life, why: str) -> None:
        """Kill a process: nothing of it runs or is seen ever again."""
        if life.crashed:
            return
        life.crashed = True
        life.executor.silent = True
        self.loop.deferred.pop(life, None)
        self.lives.pop(life.slot, None)
        self._dead.append(life)
        self.log(life, f"crash {why}")

    def pause(self, life: Life) -> None:
        """Stop a process, as SIGSTOP does; time goes on."""
        if not life.crashed:
            life.paused = True
            self.log(life, "pause")

    def resume(self, life: Life) -> None:
        """Let a stopped process go on."""
        if life.paused and not life.crashed:
            life.paused = False
            self.log(life, "resume")
            self.loop.resume(life)

    def cut(self, life: Life, way: Way) -> None:
        """Cut a process off from the store, both ways or one; or let it pass again."""
        if not life.crashed and life.store.way != way:
            life.store.way = way
            self.log(life, f"way {way}")

    async def stop(self, life: Life, grace_s: float) -> None:
        """Stop a process in good order; forget it when it does not end."""
        self.log(life, "stop")
        self.lives.pop(life.slot, None)
        task = self.loop.create_task(life.engine.stop(grace_s), context=life.context)
        done, _ = await asyncio.wait([task], timeout=120)
        if life.crashed:
            return
        if not done:
            self.history.stuck.append(f"{life.name} did not stop")
        elif task.exception() is not None:
            self.history.stopped.append(f"{life.name} stopping: {task.exception()!r}")
        self.crash(life, "exit")

    def changed(self, change: Change) -> None:
        """Hint a live node, as a use case in its process would; the others must poll."""
        awake = [life for life in self.lives.values() if not life.paused]
        if awake:
            life = self.chance.choice(awake)
            life.context.copy().run(life.engine.changed, change)

    def log(self, life: Life, kind: str) -> None:
        """Write a fault into the history."""
        at_us = round(self.loop.time() * US)
        self.history.events.append(Fault(at_us=at_us, node=life.name, kind=kind))

    async def reap(self) -> None:
        """End everything quietly, so that nothing is finalized in the middle of the next run."""
        for life in list(self.lives.values()):
            self.crash(life, "end")
        self.loop.gate = lambda _owner: "run"
        self.loop.deferred.clear()
        self.faults.outage = True
        for life in self._dead:
            life.engine.execution.can_start = False
            life.engine.execution.abandon()
        me = asyncio.current_task()
        tasks: list[Any] = []
        for _ in range(3):
            tasks = [t for kept in self.loop.owned.values() for t in kept if t is not me]
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)
        for task in tasks:
            # Their wake-ups were dropped with the crash: nothing will ever end them.
            task._log_destroy_pending = False
            with contextlib.suppress(RuntimeError):
                task.get_coro().close()

    def _gate(self, owner: Life | None) -> str:
        if owner is None:
            return "run"
        if owner.crashed:
            return "drop"
        return "defer" if owner.paused else "run"
