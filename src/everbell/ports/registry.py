"""Which processes are alive, for people and programs that look into the queue server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from everbell.domain.job import Record


class Member(Record, frozen=True):
    """What a process shows of itself. ``cpu`` is percent of the machine, ``rss`` bytes."""

    name: str
    id: str = ""
    host: str = ""
    pid: int = 0
    port: int = 0
    roles: str = ""
    version: str = ""
    state: str = "up"
    rss: int = 0
    cpu: float = 0.0
    running: int = 0
    queued: int = 0
    heartbeat_us: int = 0


class Registry(Protocol):
    """Live processes by name. A view only: nothing is decided by it.

    - ``refresh`` shows a member for ``lease_s`` from now; it returns at once and never raises for
      a lost server.
    - A member that is not refreshed in time goes from ``members``, and somebody's next refresh
      clears away what is left of it.
    - ``leave`` takes a member away at once; unknown ones are ignored; a lost server is no error.
    - ``members`` is ordered by name. Raises StoreUnavailable if the server is away.
    """

    async def refresh(self, member: Member, lease_s: float) -> None:
        """Show the member, with its newest figures."""
        ...

    async def leave(self, name: str) -> None:
        """Take the member away."""
        ...

    async def members(self) -> Sequence[Member]:
        """Return who is alive."""
        ...

    async def close(self) -> None:
        """Release what is held. May be called twice."""
        ...
