"""Tells systemd that the node is up, stops, or still turns (``sd_notify(3)``)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping

from everbell.ports.clock import Clock

log = logging.getLogger(__name__)


class Supervisor:
    """What started the node, if it asked to be told. Without NOTIFY_SOCKET nothing is sent.

    ``watchdog_s``: seconds within which it wants a sign of life; 0 = it does not.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._address = env.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self.watchdog_s = 0.0
        mine = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        asked = env.get("WATCHDOG_USEC", "")
        if self._address and mine and asked.isascii() and asked.isdigit():
            self.watchdog_s = int(asked) / 1_000_000

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``; a supervisor that is gone harms nothing."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode(), self._address)
        except (OSError, ValueError) as error:
            log.warning("could not tell systemd %s: %s", lines[0], error)

    async def watch(self, clock: Clock, well: Callable[[], bool]) -> None:
        """Give signs of life, twice per period, as long as ``well``; ends when cancelled.

        Runs on the node's own loop: a loop that is stuck gives none, and the node is restarted.
        """
        if not self.watchdog_s:
            await asyncio.get_running_loop().create_future()
        while True:
            if well():
                self.tell("WATCHDOG=1")
            await clock.sleep(self.watchdog_s / 2)
