"""Watches the machine that the proof runs on: what it does not do in time, no node can."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from everbell.domain.job import US
from everbell.testing.proof.checker import Window
from everbell.testing.proof.record import now_us

LOOK_S = 0.05
STILL_S = 0.4
"""A look that comes so late, disk included, is a standstill: the machine has others to serve."""
HEALS_S = 2.0
MOST = 0.25
"""Part of the time that may be excused so."""


class Machine:
    """A thread that looks at the clock and the disk; ``windows`` are the standstills so far."""

    def __init__(self, directory: Path) -> None:
        self.windows: list[Window] = []
        self._begun_us = now_us()
        self._file = os.open(directory / "machine.probe", os.O_WRONLY | os.O_CREAT, 0o600)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        last = now_us()
        while not self._stop.wait(LOOK_S):
            os.pwrite(self._file, b"x", 0)
            os.fsync(self._file)
            now = now_us()
            if now - last > STILL_S * US:
                self.windows.append(
                    Window(kind="machine", begun_us=last, ended_us=now, heals_s=HEALS_S)
                )
            last = now

    def excused(self) -> list[Window]:
        """Return the standstills. Raises AssertionError if there were too many to judge by."""
        still_s = sum(one.ended_us - one.begun_us for one in self.windows) / US
        passed_s = (now_us() - self._begun_us) / US
        assert still_s <= MOST * passed_s, (
            f"this machine stood still for {still_s:.1f} s of {passed_s:.1f} s: nothing can be told"
        )
        return list(self.windows)

    def close(self) -> None:
        """Stop looking. May be called twice."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(10)
            os.close(self._file)
