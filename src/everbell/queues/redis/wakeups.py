"""Wake-ups by Redis' publish and subscribe."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redis.exceptions import ResponseError

from everbell.domain.errors import StoreError, StoreUnavailable
from everbell.queues.redis.line import translate
from everbell.queues.redis.link import Duty, Link, end

log = logging.getLogger(__name__)

QUIET_S = 5.0
"""After so long without a word the server is asked whether it is still there."""


class RedisWakeUps:
    """See ``WakeUps``. ``me`` tells one's own rings from those of others."""

    def __init__(self, link: Link, channel: str, me: str, quiet_s: float = QUIET_S) -> None:
        self._link = link
        self._channel = channel
        self._me = me.encode()
        self._quiet_s = quiet_s
        self._ear = link.new_line()
        self._rings = 0
        self._ringing = Duty(self._ring)
        self._heard: list[Callable[[], None]] = []
        self._listening: asyncio.Task[None] | None = None

    async def ring(self) -> None:
        """Ring in the background; rings that wait for one another are one."""
        if self._link.healthy:
            self._rings += 1
            self._ringing.begin()

    def listen(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` for rings of others, and after a connection was lost."""
        self._heard.append(heard)
        if self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        """Stop listening; a ring on its way is let go."""
        self._heard.clear()
        await end(self._listening)
        await self._ringing.finish(self._link.timeout_s if self._link.healthy else 0.0)
        await self._ear.drop()

    async def _ring(self) -> bool:
        self._rings = 0
        try:
            await self._link.ask(("PUBLISH", self._channel, self._me))
        except StoreError:
            self._rings = 0
        return self._rings > 0

    async def _listen(self) -> None:
        lost = False
        while True:
            if not await self._link.up(self._quiet_s):
                lost = True
                continue
            try:
                await self._subscribe()
                if lost:
                    self._call()
                await self._hear()
            except StoreError as error:
                lost = True
                self._link.lost(error)
                await self._link.clock.sleep(0.05)

    async def _subscribe(self) -> None:
        """Begin to hear. Raises StoreError, also for a refusal."""
        await self._ear.drop()
        [answer] = await self._ear.call(("SUBSCRIBE", self._channel))
        if isinstance(answer, ResponseError):
            await self._link.clock.sleep(1.0)
            raise translate(answer, sent=False)

    async def _hear(self) -> None:
        asked = False
        while True:
            said = await self._ear.heard(self._link.timeout_s if asked else self._quiet_s)
            if said is None and asked:
                raise StoreUnavailable("Redis does not answer in time", hint="check the server")
            if said is None:
                await self._ear.tell("PING")
                asked = True
                continue
            asked = False
            if said[0] == b"message" and said[2] != self._me:
                self._call()

    def _call(self) -> None:
        for heard in self._heard:
            heard()
