"""The registry of live processes: a Redis set of their names, and a hash for each."""

from __future__ import annotations

import msgspec
from redis.exceptions import ResponseError

from everbell.domain.errors import StoreError, StoreUnavailable
from everbell.ports.registry import Member
from everbell.queues.redis.link import Duty, Link, words


class RedisRegistry:
    """See ``Registry``. The set ``store`` holds names, the hash ``store:NAME`` expires."""

    def __init__(self, link: Link, store: str) -> None:
        self._link = link
        self._store = store
        self._newest: tuple[Member, float] | None = None
        self._sweep_at = link.clock.monotonic()
        self._telling = Duty(self._tell)

    async def refresh(self, member: Member, lease_s: float) -> None:
        """Show the newest figures, in the background."""
        if self._link.healthy:
            self._newest = (member, lease_s)
            self._telling.begin()

    async def leave(self, name: str) -> None:
        """Take the member away; a server that is away forgets it by itself."""
        self._newest = None
        await self._telling.finish(self._link.timeout_s if self._link.healthy else 0.0)
        if self._link.healthy:
            try:
                await self._link.ask(("SREM", self._store, name), ("DEL", self._key(name)))
            except StoreError:
                return

    async def members(self) -> list[Member]:
        """Return who is alive, by name. Raises StoreUnavailable."""
        names = sorted(await self._names())
        if not names:
            return []
        answers = await self._link.ask(*(("HGETALL", self._key(name)) for name in names))
        found = []
        for name, answer in zip(names, answers, strict=True):
            if answer and not isinstance(answer, ResponseError):
                fields = {
                    key.decode(errors="replace"): value.decode(errors="replace")
                    for key, value in zip(answer[::2], answer[1::2], strict=True)
                }
                found.append(_member(name, fields))
        return found

    async def close(self) -> None:
        """End what runs in the background."""
        await self._telling.finish(0.0)

    def _key(self, name: str) -> str:
        return f"{self._store}:{name}"

    async def _names(self) -> list[str]:
        [names] = await self._link.ask(("SMEMBERS", self._store))
        if isinstance(names, ResponseError):
            raise StoreUnavailable(words(names, self._link.where), hint="see redis.process_store")
        return [name.decode(errors="replace") for name in names]

    async def _tell(self) -> bool:
        if self._newest is None:
            return False
        (member, lease_s), self._newest = self._newest, None
        key, fields = self._key(member.name), []
        for name, value in msgspec.structs.asdict(member).items():
            fields += [name, str(value)]
        try:
            await self._link.ask(
                ("SADD", self._store, member.name),
                ("HSET", key, *fields),
                ("PEXPIRE", key, int(lease_s * 1000)),
            )
            await self._sweep(lease_s)
        except StoreError:
            self._newest = None
        return self._newest is not None

    async def _sweep(self, lease_s: float) -> None:
        """Take away names whose hash has expired. One that just came shows itself again."""
        now = self._link.clock.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + lease_s
        names = await self._names()
        answers = await self._link.ask(*(("EXISTS", self._key(name)) for name in names))
        gone = [name for name, there in zip(names, answers, strict=True) if there == 0]
        if gone:
            await self._link.ask(("SREM", self._store, *gone))


def _member(name: str, fields: dict[str, str]) -> Member:
    kept = {key: fields[key] for key in Member.__struct_fields__ if key in fields}
    try:
        return msgspec.convert(kept | {"name": name}, Member, strict=False)
    except msgspec.ValidationError:
        return Member(name=name)
