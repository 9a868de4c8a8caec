"""Bounded capture of what a target writes: the head at once, the tail at the end."""

from __future__ import annotations

from collections import deque

MAX_CHUNK = 64 * 1024
"""Largest chunk handed out, in bytes."""

MAX_SEGMENTS = 4096
"""Most switches between streams kept in each half; bounds memory for byte-wise ping-pong."""


class BoundedSink:
    """An OutputSink that keeps at most ``limit`` bytes: half from the head, half from the tail.

    The head can be drained while the target runs; the tail is known only at the end. Bytes are
    kept as they came (NUL and invalid UTF-8 too). Reads no clock; same writes, same chunks.
    Not safe for several threads.
    """

    def __init__(self, limit: int) -> None:
        self._head_room = limit - limit // 2
        self._tail_limit = limit // 2
        self._head: deque[tuple[str, bytearray]] = deque()
        self._tail: deque[tuple[str, bytearray]] = deque()
        self._tail_size = 0
        self._head_switches = 0
        self._head_stream = ""
        self._finished = False
        self.total_bytes = 0
        """All bytes that the target wrote, dropped ones included."""
        self.dropped_bytes = 0
        """Bytes that were not kept."""

    @property
    def truncated(self) -> bool:
        """Whether bytes were dropped."""
        return self.dropped_bytes > 0

    def write(self, stream: str, data: bytes) -> None:
        """Take bytes of ``out`` or ``err``; never blocks, never fails."""
        if not data:
            return
        self.total_bytes += len(data)
        if self._finished:
            self.dropped_bytes += len(data)
            return
        if self._head_room > 0:
            data = self._to_head(stream, data)
        if data:
            self._to_tail(stream, data)

    def drain(self) -> list[tuple[str, bytes]]:
        """Return the chunks of the head that came since the last drain, in order."""
        chunks = _cut(self._head)
        self._head.clear()
        return chunks

    def finish(self) -> list[tuple[str, bytes]]:
        """Return what was not drained: rest of the head, a marker if bytes were lost, the tail.

        Later writes are counted as dropped; a second call returns nothing.
        """
        chunks = self.drain()
        if not self._finished and self.dropped_bytes:
            stream = self._tail[0][0] if self._tail else "out"
            marker = f"\n... {self.dropped_bytes} bytes dropped ...\n".encode()
            chunks.append((stream, marker))
        chunks.extend(_cut(self._tail))
        self._tail.clear()
        self._finished = True
        return chunks

    def _to_head(self, stream: str, data: bytes) -> bytes:
        if stream != self._head_stream:
            self._head_stream = stream
            self._head_switches += 1
            if self._head_switches > MAX_SEGMENTS:
                self._head_room = 0
                return data
        taken = data[: self._head_room]
        self._head_room -= len(taken)
        _append(self._head, stream, taken)
        return data[len(taken) :]

    def _to_tail(self, stream: str, data: bytes) -> None:
        if len(data) > self._tail_limit:
            self.dropped_bytes += len(data) - self._tail_limit
            data = data[len(data) - self._tail_limit :]
        if data:
            _append(self._tail, stream, data)
            self._tail_size += len(data)
        while self._tail_size > self._tail_limit or len(self._tail) > MAX_SEGMENTS:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._tail[0][1]
        excess = self._tail_size - self._tail_limit
        if 0 < excess < len(oldest):
            del oldest[:excess]
            lost = excess
        else:
            lost = len(oldest)
            self._tail.popleft()
        self._tail_size -= lost
        self.dropped_bytes += lost


def _append(segments: deque[tuple[str, bytearray]], stream: str, data: bytes) -> None:
    """Join neighbours of one stream up to a chunk, so that small writes stay cheap."""
    if segments:
        last_stream, last = segments[-1]
        if last_stream == stream and len(last) + len(data) <= MAX_CHUNK:
            last += data
            return
    segments.append((stream, bytearray(data)))


def _cut(segments: deque[tuple[str, bytearray]]) -> list[tuple[str, bytes]]:
    return [
        (stream, bytes(data[start : start + MAX_CHUNK]))
        for stream, data in segments
        for start in range(0, len(data), MAX_CHUNK)
    ]
