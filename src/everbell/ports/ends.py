"""What every engine that keeps runs in rows does alike: a run at its end, a part of its output."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from everbell.domain.run import Run
from everbell.ports.store import Finish, OutputChunk


def ended(
    it: Finish, started_us: int | None, reason: str, error: str, *, cancel_requested: bool = False
) -> Run:
    """Return the run as it is at its end.

    Under its token a claim's other columns never change: they need not be read again.
    """
    return replace(
        it.run,
        state=it.state,
        reason=reason,
        started_us=started_us,
        finished_us=it.finished_us,
        code=it.code,
        error=error,
        output_bytes=it.output_bytes,
        truncated=it.truncated,
        cancel_requested=cancel_requested,
    )


def window(chunks: Iterable[OutputChunk], offset: int, limit_bytes: int) -> list[OutputChunk]:
    """Return what ``RunStore.read_output`` gives of chunks that are in order.

    The first byte is at ``offset``, in the middle of a chunk if need be; no chunk is cut at the
    end, and one chunk is given however large it is.
    """
    found: list[OutputChunk] = []
    size = 0
    for chunk in chunks:
        if chunk.offset + len(chunk.data) <= offset:
            continue
        skip = max(offset - chunk.offset, 0)
        size += len(chunk.data) - skip
        if found and size > limit_bytes:
            break
        found.append(
            replace(chunk, offset=chunk.offset + skip, data=chunk.data[skip:]) if skip else chunk
        )
    return found
