"""Adapters of the ports that hand work and hints between processes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from everbell.config.schema import Redis
from everbell.domain.errors import ConfigError
from everbell.ports.clock import Clock

if TYPE_CHECKING:
    from everbell.queues.redis import RedisParts


@contextlib.asynccontextmanager
async def opened(
    redis: Redis, clock: Clock, me: str, directory: str | Path
) -> AsyncIterator[RedisParts | None]:
    """Give what a node has of the Redis server that the settings name, None if they name none.

    ``me`` is a name that no other process has; files of ``redis.tls`` are relative to
    ``directory``. Raises ConfigError, also if the driver is not installed. A server that is away is
    no error.
    """
    if not redis.addr:
        yield None
        return
    try:
        from everbell.queues.redis import open_redis
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {"redis", "hiredis"}:
            raise
        message = "redis.addr names Redis, whose driver is not installed"
        raise ConfigError(message, hint="pip install 'everbell[redis]'") from error
    parts = open_redis(redis, clock, me, lambda name: str(Path(directory) / name))
    try:
        yield parts
    finally:
        await parts.close()
