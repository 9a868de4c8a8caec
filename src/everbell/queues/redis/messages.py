"""Queues of foreign consumers, as Redis streams or lists."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ResponseError

from everbell.domain.errors import StoreError, StoreUnknownOutcome
from everbell.ports.queue import Message
from everbell.queues.redis.line import Word
from everbell.queues.redis.link import Link, words

CHUNK = 500
CHUNK_BYTES = 1_048_576
"""Most messages and bytes of one command: nobody else is served while Redis carries it out."""

# One command for many messages costs us a tenth of one command for each, and the bound is exact.
_PUT = """
local key, kind, most = KEYS[1], ARGV[1], tonumber(ARGV[2])
local length = redis.call(kind == 'stream' and 'XLEN' or 'LLEN', key)
local stored = 0
for i = 3, #ARGV, 2 do
  if most > 0 and length + stored >= most then break end
  if kind == 'stream' then
    redis.call('XADD', key, '*', 'id', ARGV[i], 'message', ARGV[i + 1])
  else
    redis.call('LPUSH', key, ARGV[i + 1])
  end
  stored = stored + 1
end
return stored
"""


class RedisMessages:
    """See ``MessageQueues``. Streams get the fields ``id`` and ``message``; lists, at the left."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._line = link.new_line()

    @property
    def trouble(self) -> str:
        """What is wrong with the server."""
        return self._link.trouble

    async def reach(self) -> str:
        """Wait a moment for a server that is away, and open the connection."""
        if not await self._link.up(self._link.timeout_s):
            return self._link.trouble
        try:
            await self._line.reach()
        except StoreError as error:
            self._link.lost(error)
            return self._lost(error)
        return ""

    async def put(self, messages: Sequence[Message]) -> Sequence[str]:
        """Store messages, many in one command."""
        if not self._link.healthy:
            return [self._link.trouble] * len(messages)
        groups = _groups(messages)
        commands = [_command([messages[at] for at in group]) for group in groups]
        try:
            answers = await self._link.over(self._line, *commands)
        except StoreError as error:
            return [self._lost(error)] * len(messages)
        told = [""] * len(messages)
        for group, answer in zip(groups, answers, strict=True):
            texts = self._told([messages[at] for at in group], answer)
            for at, text in zip(group, texts, strict=True):
                told[at] = text
        return told

    async def close(self) -> None:
        """End the connection."""
        await self._line.drop()

    def _lost(self, error: StoreError) -> str:
        text = f"{error.message}: {self._link.where}; {error.hint}"
        if isinstance(error, StoreUnknownOutcome):
            text += " (the message may have been stored all the same)"
        return text

    def _told(self, group: Sequence[Message], answer: object) -> list[str]:
        first = group[0]
        if isinstance(answer, ResponseError):
            said = words(answer, self._link.where)
            if "WRONGTYPE" in said:
                said = f"what is stored there is no {first.kind}; see queues.kind and queues.key"
            return [f"queue {first.key}: {said}"] * len(group)
        stored = answer if isinstance(answer, int) else 0
        full = (
            f"queue {first.key} holds {first.max_length} messages, as many as it may; do its "
            "consumers run, and remove what they have done? (queues.max_length)"
        )
        return [""] * stored + [full] * (len(group) - stored)


def _groups(messages: Sequence[Message]) -> list[list[int]]:
    """Divide messages, by their places, into groups of one queue each, none of them large."""
    groups: list[list[int]] = []
    newest: dict[tuple[str, str, int], tuple[list[int], int]] = {}
    for at, one in enumerate(messages):
        queue = (one.key, one.kind, one.max_length)
        group, size = newest.get(queue, ([], 0))
        if not group or len(group) >= CHUNK or size >= CHUNK_BYTES:
            group, size = [], 0
            groups.append(group)
        group.append(at)
        newest[queue] = (group, size + len(one.body))
    return groups


def _command(group: Sequence[Message]) -> tuple[Word, ...]:
    first = group[0]
    words: list[Word] = ["EVAL", _PUT, 1, first.key, first.kind, first.max_length]
    for one in group:
        words += (one.id, one.body)
    return tuple(words)
