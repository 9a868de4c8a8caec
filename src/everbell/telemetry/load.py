"""Readings of memory and CPU by psutil."""

from __future__ import annotations

from pathlib import Path

import psutil


class SystemLoad:
    """LoadMeter of the real machine.

    A reading that fails (no descriptor left, no /proc) repeats the last one: a node does not die
    because it can't measure itself.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._rss = 0
        self._cpu: float | None = None
        self._memory = (0, 0)

    def rss_bytes(self) -> int:
        """Return the resident memory of this process and of the programs that it started."""
        try:
            total = int(self._process.memory_info().rss)
            if _has_children(self._process.pid):
                for child in self._process.children(recursive=True):
                    total += _rss_of(child)
        except (OSError, psutil.Error):
            return self._rss
        self._rss = total
        return total

    def cpu_percent(self) -> float:
        """Return the machine's CPU use since the last call, 0..100; the first call gives 0.

        The moment before the first call says nothing: it would show the start itself.
        """
        try:
            use = float(psutil.cpu_percent(interval=None))
        except (OSError, psutil.Error):
            return self._cpu or 0.0
        self._cpu = 0.0 if self._cpu is None else use
        return self._cpu

    def cores(self) -> int:
        """Return how many cores this process may use; at least 1."""
        try:
            return max(len(self._process.cpu_affinity() or ()), 1)
        except (AttributeError, OSError, psutil.Error):  # no such thing on macOS
            return psutil.cpu_count() or 1

    def memory_bytes(self) -> tuple[int, int]:
        """Return the machine's memory, and how much of it is free for programs; 0 = unknown."""
        try:
            found = psutil.virtual_memory()
        except (OSError, psutil.Error):
            return self._memory
        self._memory = int(found.total), int(found.available)
        return self._memory


def _has_children(pid: int) -> bool:
    """Return whether the process has children; a look at all processes costs far more.

    Where the kernel does not list children, there may be some.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return any((task / "children").read_bytes() for task in tasks)
    except FileNotFoundError:
        return True


def _rss_of(child: psutil.Process) -> int:
    try:
        return int(child.memory_info().rss)
    except psutil.Error:  # it has ended meanwhile
        return 0
