"""How busy this machine and this process are."""

from __future__ import annotations

from typing import Protocol


class LoadMeter(Protocol):
    """Readings that decide whether a node takes new work.

    - Each reading is of now, never cached for more than a heartbeat.
    """

    def rss_bytes(self) -> int:
        """Return the resident memory of this process and its children."""
        ...

    def cpu_percent(self) -> float:
        """Return the machine's CPU use since the last call, 0..100."""
        ...

    def cores(self) -> int:
        """Return how many cores this process may use; at least 1."""
        ...

    def memory_bytes(self) -> tuple[int, int]:
        """Return the machine's memory, and how much of it is free for programs; 0 = unknown."""
        ...
