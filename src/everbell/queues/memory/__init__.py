"""Everything in memory, for tests and the simulation: what the ports promise, at its plainest."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence

from everbell.domain.job import US
from everbell.domain.run import RunKey
from everbell.ports.clock import Clock
from everbell.ports.queue import Message, Offer
from everbell.ports.registry import Member

__all__ = ["MemoryBroker", "MemoryMessages", "MemoryReadyQueue", "MemoryRegistry", "MemoryWakeUps"]

PACK = 100
WAITING_MAX = 10_000


class MemoryBroker:
    """What all processes share: the server. ``lost`` makes it look away."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lost = False
        self.entries: OrderedDict[int, tuple[RunKey, ...]] = OrderedDict()
        self.taken: dict[int, tuple[tuple[RunKey, ...], float]] = {}
        self.queues: dict[str, deque[Message]] = defaultdict(deque)
        self.kinds: dict[str, str] = {}
        self.members: dict[str, tuple[Member, float]] = {}
        self.bells: list[MemoryWakeUps] = []
        self.news = asyncio.Event()
        self._last = 0

    def add(self, keys: tuple[RunKey, ...]) -> None:
        """Add one entry; the oldest is dropped when there are too many."""
        self._last += 1
        self.entries[self._last] = keys
        if len(self.entries) > WAITING_MAX:
            self.entries.popitem(last=False)
        self.news.set()

    def flush(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self.taken.clear()
        self.queues.clear()
        self.members.clear()


class MemoryReadyQueue:
    """See ``ReadyQueue``."""

    def __init__(self, broker: MemoryBroker, abandoned_s: float = 10.0) -> None:
        self._broker = broker
        self._abandoned_s = abandoned_s

    @property
    def healthy(self) -> bool:
        """Whether the broker looks."""
        return not self._broker.lost

    @property
    def trouble(self) -> str:
        """Why not."""
        return "the broker is lost" if self._broker.lost else ""

    async def offer(self, keys: Sequence[RunKey]) -> None:
        """Hand keys on."""
        if not self._broker.lost:
            for at in range(0, len(keys), PACK):
                self._broker.add(tuple(keys[at : at + PACK]))

    async def take(self, limit: int, wait_s: float) -> Sequence[Offer]:
        """Take what is there, or wait for it."""
        if limit <= 0:
            return []
        found = self._take(limit)
        if not found and wait_s > 0:
            self._broker.news.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._broker.news.wait()
            except TimeoutError:
                return []
            found = self._take(limit)
        return found

    def _take(self, limit: int) -> list[Offer]:
        broker, found = self._broker, list[Offer]()
        if broker.lost:
            return found
        now = broker.clock.monotonic()
        for name, (keys, since) in reversed(list(broker.taken.items())):
            if now - since >= self._abandoned_s:
                del broker.taken[name]
                broker.entries[name] = keys
                broker.entries.move_to_end(name, last=False)
        while limit > 0 and broker.entries:
            name, keys = broker.entries.popitem(last=False)
            broker.taken[name] = (keys, now)
            found.append(Offer(id=str(name), keys=keys[:limit]))
            if len(keys) > limit:
                broker.add(keys[limit:])
            limit -= len(keys)
        return found

    async def done(self, offers: Sequence[Offer]) -> None:
        """Forget offers."""
        for offer in offers:
            self._broker.taken.pop(int(offer.id), None)

    async def close(self) -> None:
        """Nothing is held."""


class MemoryMessages:
    """See ``MessageQueues``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    @property
    def trouble(self) -> str:
        """What is wrong."""
        return "the broker is lost" if self._broker.lost else ""

    async def reach(self) -> str:
        """Say what is wrong."""
        return self.trouble

    async def put(self, messages: Sequence[Message]) -> Sequence[str]:
        """Store messages."""
        if self._broker.lost:
            return [self.trouble] * len(messages)
        return [self._put(one) for one in messages]

    def _put(self, one: Message) -> str:
        if self._broker.kinds.setdefault(one.key, one.kind) != one.kind:
            return f"queue {one.key}: what is stored there is no {one.kind}"
        queue = self._broker.queues[one.key]
        if one.max_length and len(queue) >= one.max_length:
            return f"queue {one.key} holds {one.max_length} messages, as many as it may"
        queue.append(one)
        return ""

    async def close(self) -> None:
        """Nothing is held."""


class MemoryWakeUps:
    """See ``WakeUps``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._heard: list[Callable[[], None]] = []

    async def ring(self) -> None:
        """Call the others, on the next turn of the loop."""
        if self._broker.lost:
            return
        loop = asyncio.get_running_loop()
        for bell in self._broker.bells:
            if bell is not self:
                for heard in bell._heard:  # noqa: SLF001 - one of us
                    loop.call_soon(heard)

    def listen(self, heard: Callable[[], None]) -> None:
        """Hear the others."""
        self._heard.append(heard)
        if self not in self._broker.bells:
            self._broker.bells.append(self)

    async def close(self) -> None:
        """Stop listening."""
        self._heard.clear()
        if self in self._broker.bells:
            self._broker.bells.remove(self)


class MemoryRegistry:
    """See ``Registry``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def refresh(self, member: Member, lease_s: float) -> None:
        """Show the member."""
        if not self._broker.lost:
            until = self._broker.clock.now_us() + lease_s * US
            self._broker.members[member.name] = (member, until)

    async def leave(self, name: str) -> None:
        """Take the member away."""
        self._broker.members.pop(name, None)

    async def members(self) -> Sequence[Member]:
        """Return who is alive."""
        now = self._broker.clock.now_us()
        alive = sorted(self._broker.members.items())
        return [member for _, (member, until) in alive if until > now]

    async def close(self) -> None:
        """Nothing is held."""
