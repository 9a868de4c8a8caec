"""Several processes on one broker, for the contracts of queues."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from everbell.config.schema import Redis
from everbell.domain.errors import StoreError
from everbell.ports.queue import MessageQueues, ReadyQueue
from everbell.ports.registry import Registry
from everbell.ports.wakeups import WakeUps
from everbell.queues.memory import (
    MemoryBroker,
    MemoryMessages,
    MemoryReadyQueue,
    MemoryRegistry,
    MemoryWakeUps,
)
from everbell.queues.redis import RedisParts, open_redis
from everbell.telemetry.clock import SystemClock
from everbell.testing.redis_server import RedisServer

PATIENT_S = 30.0
"""A busy machine does not make those who share a queue take one another's offers."""


class MemoryRig:
    """Everything in this process."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(SystemClock())

    async def process(self, abandoned_s: float = PATIENT_S) -> ReadyQueue:
        return MemoryReadyQueue(self.broker, abandoned_s)

    async def messages(self) -> MessageQueues:
        return MemoryMessages(self.broker)

    async def stored(self, key: str) -> Sequence[tuple[str, bytes]]:
        return [(one.id, one.body) for one in self.broker.queues[key]]

    async def bell(self) -> WakeUps:
        return MemoryWakeUps(self.broker)

    async def registry(self) -> Registry:
        return MemoryRegistry(self.broker)

    async def lose(self) -> None:
        self.broker.lost = True

    async def mend(self) -> None:
        self.broker.lost = False

    async def close(self) -> None:
        pass


class RedisRig:
    """A real server; each process has connections of its own."""

    def __init__(self, server: RedisServer, **settings: Any) -> None:
        self.server = server
        self._settings: dict[str, Any] = {"addr": server.addr, "timeout": 1.0} | settings
        self._opened: list[RedisParts] = []

    def parts(self, abandoned_s: float = PATIENT_S, **settings: Any) -> RedisParts:
        redis = Redis(**(self._settings | settings))
        me = f"node-{len(self._opened)}"
        parts = open_redis(redis, SystemClock(), me, abandoned_s=abandoned_s)
        self._opened.append(parts)
        return parts

    async def process(self, abandoned_s: float = PATIENT_S) -> ReadyQueue:
        return self.parts(abandoned_s).ready

    async def messages(self) -> MessageQueues:
        return self.parts().messages

    async def stored(self, key: str) -> Sequence[tuple[str, bytes]]:
        link = self._opened[0].link
        [kind] = await link.ask(("TYPE", key))
        if kind == b"list":
            [found] = await link.ask(("LRANGE", key, 0, -1))
            return [("", body) for body in reversed(found)]
        [found] = await link.ask(("XRANGE", key, "-", "+"))
        return [(fields[1].decode(), fields[3]) for _, fields in found]

    async def bell(self) -> WakeUps:
        return self.parts().wakeups

    async def registry(self) -> Registry:
        return self.parts().registry

    async def lose(self) -> None:
        self.server.kill()

    async def mend(self) -> None:
        self.server.start()

    async def close(self) -> None:
        async with asyncio.timeout(10):
            for parts in self._opened:
                with contextlib.suppress(StoreError):
                    await parts.close()
