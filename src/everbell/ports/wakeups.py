"""Wake-ups between nodes: hints that save latency and decide nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable


class WakeUps(Protocol):
    """A bell that the nodes of a cluster hear.

    - ``ring`` never fails and never waits for a server: what is lost is only latency.
    - ``listen`` calls ``heard``, on the loop, for rings of other nodes, not for one's own. Rings
      may be lost, come twice or be merged; after a lost connection ``heard`` is called once.
    - Nothing is heard after ``close``.
    """

    async def ring(self) -> None:
        """Tell other nodes that there may be work or a change."""
        ...

    def listen(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` on every ring of other nodes."""
        ...

    async def close(self) -> None:
        """Stop listening and release what is held. May be called twice."""
        ...


@runtime_checkable
class Belled(Protocol):
    """A store that has wake-ups of its own."""

    def wakeups(self) -> WakeUps:
        """Return them."""
        ...
