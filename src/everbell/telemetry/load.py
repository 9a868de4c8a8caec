"""Readings of memory and CPU by psutil."""

from __future__ import annotations

import psutil


class SystemLoad:
    """LoadMeter of the real machine."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._measured = False

    def rss_bytes(self) -> int:
        """Return the resident memory of this process and of the programs that it started."""
        total = int(self._process.memory_info().rss)
        for child in self._process.children(recursive=True):
            try:
                total += int(child.memory_info().rss)
            except psutil.Error:
                continue
        return total

    def cpu_percent(self) -> float:
        """Return the machine's CPU use since the last call, 0..100; the first call gives 0.

        The moment between two calls in a row says nothing: it would show the start itself.
        """
        use = float(psutil.cpu_percent(interval=None))
        if not self._measured:
            self._measured = True
            return 0.0
        return use
