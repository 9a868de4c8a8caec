"""Readings of memory and CPU by psutil."""

from __future__ import annotations

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

    def rss_bytes(self) -> int:
        """Return the resident memory of this process and of the programs that it started."""
        try:
            total = int(self._process.memory_info().rss)
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


def _rss_of(child: psutil.Process) -> int:
    try:
        return int(child.memory_info().rss)
    except psutil.Error:  # it has ended meanwhile
        return 0
