"""The ready queue on a Redis stream with a consumer group."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from typing import Any

from redis.exceptions import ResponseError

from everbell.domain.errors import NotFoundError, StoreError
from everbell.domain.run import RunKey
from everbell.ports.queue import Offer
from everbell.queues.redis.line import Word
from everbell.queues.redis.link import Duty, Link, words

log = logging.getLogger(__name__)

PACK = 100
"""Keys in one entry: an entry costs the same with one key or with a hundred."""
ENTRIES = 50
"""Entries in one write."""
READ = 100
"""Entries in one read: if each is full, not too much of it has to be given back."""
WAITING_MAX = 100_000
"""Keys that wait for the connection; what is more is dropped, and found in the store."""
LENGTH_MAX = 10_000
"""Entries that the stream keeps, about, if nobody takes them."""
ABANDONED_S = 10.0
TIDY_S = 60.0
GONE_MS = 3_600_000
"""A consumer that took nothing for so long, and has nothing, is a process of the past."""


class RedisReadyQueue:
    """Offers as entries of the stream ``stream``, read by the group ``group``. See ``ReadyQueue``.

    Entries that their taker did not finish within ``abandoned_s`` go to another one.
    """

    def __init__(
        self,
        link: Link,
        stream: str,
        group: str,
        consumer: str,
        abandoned_s: float = ABANDONED_S,
    ) -> None:
        self._link = link
        self._ear = link.new_line()
        self._stream = stream
        self._group = group
        self._consumer = consumer
        self._abandoned_s = abandoned_s
        self._keys: list[RunKey] = []
        self._ended: list[str] = []
        # What takes entries can be read, but not the other way round: writes may be refused alone.
        self._refused = {"offers": "", "takers": ""}
        self._usual = 1
        self._cursor: bytes = b"0-0"
        self._look_at = link.clock.monotonic() + abandoned_s / 2
        self._tidy_at = link.clock.monotonic() + TIDY_S
        self._telling = Duty(self._tell)

    @property
    def healthy(self) -> bool:
        """Whether offers reach anybody."""
        return self._link.healthy and not any(self._refused.values())

    @property
    def trouble(self) -> str:
        """Why not."""
        refusals = (text for text in self._refused.values() if text)
        return self._link.trouble or next(refusals, "")

    async def offer(self, keys: Sequence[RunKey]) -> None:
        """Hand keys on in the background; nothing while the server is away."""
        if keys and self._link.healthy:
            self._keys.extend(keys)
            del self._keys[: max(0, len(self._keys) - WAITING_MAX)]
            self._telling.begin()

    async def take(self, limit: int, wait_s: float) -> Sequence[Offer]:
        """Take abandoned offers if there are any, else new ones."""
        if limit <= 0 or not await self._link.up(wait_s):
            return []
        try:
            found = await self._abandoned(limit) or await self._new(limit, wait_s)
            return await self._cut(found, limit)
        except StoreError:
            return []

    async def done(self, offers: Sequence[Offer]) -> None:
        """Forget offers, in the background."""
        if offers and self._link.healthy:
            self._ended.extend(offer.id for offer in offers)
            self._telling.begin()

    async def close(self) -> None:
        """Hand on what waits if the server is there, and leave the group if nothing is pending."""
        try:
            await self._telling.finish(self._link.timeout_s if self._link.healthy else 0.0)
            if self._link.healthy:
                await self._leave()
        except StoreError:
            pass
        finally:
            await self._ear.drop()

    # --- telling ---------------------------------------------------------------------------

    async def _tell(self) -> bool:
        """Write one portion of offers and of finished entries."""
        keys, self._keys = self._keys[: PACK * ENTRIES], self._keys[PACK * ENTRIES :]
        ended, self._ended = self._ended[: PACK * 10], self._ended[PACK * 10 :]
        commands = [self._entry(keys[at : at + PACK]) for at in range(0, len(keys), PACK)]
        added = len(commands)
        commands += self._forget(ended)
        try:
            answers = await self._link.ask(*commands)
        except StoreError:
            self._keys.clear()
            self._ended.clear()
            return False
        if added:
            self._judge("offers", answers[:added])
        return bool(self._keys or self._ended)

    def _entry(self, keys: Sequence[RunKey]) -> tuple[Word, ...]:
        text = " ".join([key.id for key in keys])
        return ("XADD", self._stream, "MAXLEN", "~", LENGTH_MAX, "*", "keys", text)

    def _forget(self, ids: Sequence[str]) -> list[tuple[Word, ...]]:
        if not ids:
            return []
        return [("XACK", self._stream, self._group, *ids), ("XDEL", self._stream, *ids)]

    def _judge(self, whom: str, answers: Sequence[Any]) -> None:
        """Note whether the stream serves offers, or takers. The newest refusal counts."""
        refused = [one for one in answers if isinstance(one, ResponseError)]
        now = words(refused[-1], self._link.where) if refused else ""
        if now and not self._refused[whom]:
            log.warning("%s are refused (redis.job_store): %s", whom, now)
        self._refused[whom] = now and f"redis.job_store {self._stream!r}: {now}"
        if whom == "offers" and not now:
            self._refused["takers"] = ""

    # --- taking ----------------------------------------------------------------------------

    async def _new(self, limit: int, wait_s: float) -> list[Offer]:
        count = min(READ, max(1, limit // self._usual))
        block_ms = int(wait_s * 1000)
        block: tuple[Word, ...] = ("BLOCK", block_ms) if block_ms > 0 else ()
        command = (
            "XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count, *block,
            "STREAMS", self._stream, ">",
        )  # fmt: skip
        [answer] = await self._link.over(self._ear, command, wait_s=wait_s)
        if isinstance(answer, ResponseError):
            if not await self._make_group(answer, wait_s):
                return []
            [answer] = await self._link.over(self._ear, command, wait_s=wait_s)
            if isinstance(answer, ResponseError):
                return []  # flushed once more just now
        self._judge("takers", [])
        found = await self._read(answer[0][1] if answer else [])
        if found:
            self._usual = max(1, sum(len(one.keys) for one in found) // len(found))
        return found

    async def _abandoned(self, limit: int) -> list[Offer]:
        """Take what others took long ago and did not finish."""
        now = self._link.clock.monotonic()
        if now < self._look_at:
            return []
        count = min(READ, max(1, limit // self._usual))
        command = (
            "XAUTOCLAIM", self._stream, self._group, self._consumer,
            int(self._abandoned_s * 1000), self._cursor, "COUNT", count,
        )  # fmt: skip
        [answer] = await self._link.over(self._ear, command)
        if isinstance(answer, ResponseError):
            self._look_at = now + self._abandoned_s / 2
            return []  # no group yet: reading new entries makes one
        self._cursor = answer[0]
        if self._cursor == b"0-0":
            self._look_at = now + self._abandoned_s / 2
            await self._tidy(now)
        return await self._read(answer[1])

    async def _make_group(self, error: ResponseError, wait_s: float) -> bool:
        """Make the group if it is not there (a new or a flushed server); else wait a little."""
        if str(error).startswith(("NOGROUP", "UNBLOCKED")):
            make = ("XGROUP", "CREATE", self._stream, self._group, "0", "MKSTREAM")
            [made] = await self._link.over(self._ear, make)
            if not isinstance(made, ResponseError) or str(made).startswith("BUSYGROUP"):
                return True
            error = made
        self._judge("takers", [error])
        await self._link.clock.sleep(min(wait_s, 1.0))
        return False

    async def _read(self, entries: Sequence[Any]) -> list[Offer]:
        found: list[Offer] = []
        bad: list[str] = []
        for entry in entries:
            if not entry or entry[1] is None:
                continue  # dropped by the bound on the stream's length
            name, fields = entry[0].decode(), entry[1]
            try:
                text = dict(zip(fields[::2], fields[1::2], strict=True))[b"keys"].decode()
                keys = tuple(RunKey.parse(one) for one in text.split(" "))
            except (NotFoundError, KeyError, ValueError):
                bad.append(name)
            else:
                found.append(Offer(id=name, keys=keys))
        if bad:
            log.warning("entries of %r are no offers and are removed: %s", self._stream, bad[:3])
            await self._link.over(self._ear, *self._forget(bad))
        return found

    async def _cut(self, found: Sequence[Offer], limit: int) -> list[Offer]:
        """Keep as many keys as are wanted; offer the others again, to somebody with more room."""
        kept: list[Offer] = []
        again: list[RunKey] = []
        over: list[str] = []
        left = limit
        for one in found:
            if len(one.keys) > left:
                again.extend(islice(one.keys, left, None))
            if left:
                kept.append(Offer(id=one.id, keys=one.keys[:left]))
            else:
                over.append(one.id)
            left = max(0, left - len(one.keys))
        if again:
            packs = [self._entry(again[at : at + PACK]) for at in range(0, len(again), PACK)]
            await self._link.over(self._ear, *packs, *self._forget(over))
        return kept

    async def _tidy(self, now: float) -> None:
        """Remove consumers of processes that are long gone."""
        if now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_S
        [known] = await self._link.over(
            self._ear, ("XINFO", "CONSUMERS", self._stream, self._group)
        )
        if isinstance(known, ResponseError):
            return
        for one in known:
            told = dict(zip(one[::2], one[1::2], strict=True))
            if told[b"pending"] == 0 and told[b"idle"] > GONE_MS:
                gone = ("XGROUP", "DELCONSUMER", self._stream, self._group, told[b"name"])
                await self._link.over(self._ear, gone)

    async def _leave(self) -> None:
        pending = ("XPENDING", self._stream, self._group, "-", "+", 1, self._consumer)
        [left] = await self._link.over(self._ear, pending)
        if left == []:
            gone = ("XGROUP", "DELCONSUMER", self._stream, self._group, self._consumer)
            await self._link.over(self._ear, gone)
