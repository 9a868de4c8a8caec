"""Whether an attempt that had to wait may still begin."""

from __future__ import annotations

from collections.abc import Callable

NOT_STARTED = "cancelled before it was started"
NOT_SENT = "cancelled before it was sent"
NO_LEASE = "the node could not renew its lease"


class Claim:
    """A claim of a run, as the way to the target asks for it; ``held`` is the last answer."""

    __slots__ = ("_holds", "held")

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self.held = True

    def holds(self) -> bool:
        """Return whether the run is surely still this node's."""
        self.held = self._holds()
        return self.held
