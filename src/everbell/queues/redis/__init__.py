"""Redis: offers to workers, queues of foreign consumers, wake-ups and the registry of nodes.

None of it decides anything: a Redis that is lost, flushed or restarted costs only time.
"""

from __future__ import annotations

from collections.abc import Callable

from everbell.config.schema import Redis
from everbell.domain.errors import StoreError
from everbell.ports.clock import Clock
from everbell.queues.redis.line import connector, shown
from everbell.queues.redis.link import Link
from everbell.queues.redis.messages import RedisMessages
from everbell.queues.redis.ready import ABANDONED_S, RedisReadyQueue
from everbell.queues.redis.registry import RedisRegistry
from everbell.queues.redis.wakeups import RedisWakeUps

__all__ = ["RedisParts", "open_redis"]


class RedisParts:
    """All that one node has of one Redis server."""

    def __init__(self, redis: Redis, link: Link, me: str, abandoned_s: float) -> None:
        self.link = link
        self.ready = RedisReadyQueue(link, redis.job_store, redis.job_processed, me, abandoned_s)
        self.messages = RedisMessages(link)
        self.wakeups = RedisWakeUps(link, redis.channel, me)
        self.registry = RedisRegistry(link, redis.process_store)

    @property
    def healthy(self) -> bool:
        """Whether the server answers."""
        return self.link.healthy

    @property
    def trouble(self) -> str:
        """What is wrong and what to do, without secrets; empty = nothing."""
        return self.link.trouble or self.ready.trouble

    async def probe(self) -> bool:
        """Ask the server once whether it is there; say so if not."""
        try:
            await self.link.ask(("PING",))
        except StoreError:
            return False
        return True

    async def close(self) -> None:
        """End all connections. May be called twice."""
        await self.wakeups.close()
        await self.registry.close()
        await self.ready.close()
        await self.messages.close()
        await self.link.close()


def open_redis(
    redis: Redis,
    clock: Clock,
    me: str,
    path: Callable[[str], str] = str,
    abandoned_s: float = ABANDONED_S,
) -> RedisParts:
    """Return the parts of a server; connections are opened when they are needed.

    ``me`` is a name that no other process has; ``path`` finds a file that the settings name.
    Offers that their taker did not finish within ``abandoned_s`` go to another one.
    Raises ConfigError for an address or files that can't be used. A server that is not there is
    no error: it is tried again in the background.
    """
    link = Link(connector(redis, path), clock, redis.timeout, shown(redis))
    return RedisParts(redis, link, me, abandoned_s)
