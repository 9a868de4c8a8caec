"""Ways to a server that can be cut: a proxy that goes silent, and network namespaces.

Silence is the worst that a network does: nothing is refused, nothing ends, nothing arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import threading
from typing import Literal

Mode = Literal["open", "silent", "deaf", "mute"]
"""``silent``: nothing passes. ``deaf``: requests pass, answers don't: what was asked for is done.
``mute``: answers pass, requests don't."""


class SilentProxy:
    """A TCP proxy on loopback, in a thread of its own.

    A connection that swallowed a byte never passes one again, as when a firewall forgot it; those
    that are made after ``mode`` is open again are well. Closed ends are not passed on in silence.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.mode: Mode = "open"
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        self._open.add(near_out)
        try:
            far, far_out = await asyncio.open_connection(*self._target)
        except OSError:
            near_out.close()
            return
        self._open.add(far_out)
        ways = (self._pass(near, far_out, "mute"), self._pass(far, near_out, "deaf"))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*ways)
        self._open -= {one for one in (near_out, far_out) if one.is_closing()}

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, closed_by: Mode
    ) -> None:
        broken = False
        try:
            while data := await reader.read(65536):
                broken = broken or self.mode in {"silent", closed_by}
                if not broken:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        if not broken and self.mode not in {"silent", closed_by}:
            writer.close()

    def cut(self) -> None:
        """Reset all connections."""
        self._loop.call_soon_threadsafe(self._reset)

    def _reset(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        self._open.clear()

    def close(self) -> None:
        """End the proxy and all that goes through it."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        self._reset()
        me = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reset()
        await asyncio.sleep(0.05)  # transports close in a later turn


# Lets no packet through: none fits into a bucket of one byte.
_DROP = ("root", "tbf", "rate", "8bit", "burst", "1", "limit", "1")


class Namespace:
    """A network of its own, with one cable to this machine. Needs root; see ``refused``.

    ``near`` is this machine's address on the cable, ``far`` the address inside.
    """

    def __init__(self) -> None:
        number = os.getpid() % 250 + 1
        self.name = f"everbell{number}"
        self._cable, self._inside = f"eb{number}near", f"eb{number}far"
        self.near, self.far = f"10.213.{number}.1", f"10.213.{number}.2"
        self.close()
        try:
            _run("ip", "netns", "add", self.name)
            _run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", self._inside)
            _run("ip", "link", "set", self._inside, "netns", self.name)
            _run("ip", "addr", "add", f"{self.near}/24", "dev", self._cable)
            _run("ip", "link", "set", self._cable, "up")
            _run("ip", "-n", self.name, "addr", "add", f"{self.far}/24", "dev", self._inside)
            _run("ip", "-n", self.name, "link", "set", self._inside, "up")
            _run("ip", "-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    @property
    def inside(self) -> tuple[str, ...]:
        """What is put before a command to run it inside."""
        return ("ip", "netns", "exec", self.name)

    def cut(self, how: Literal["cable", "silent", "deaf", "mute"]) -> None:
        """Pull the cable, or let one way or both swallow all packets (as seen from inside)."""
        if how == "cable":
            _run("ip", "link", "set", self._cable, "down")
        if how in {"silent", "deaf"}:
            _run("tc", "qdisc", "add", "dev", self._cable, *_DROP)
        if how in {"silent", "mute"}:
            _run("tc", "-n", self.name, "qdisc", "add", "dev", self._inside, *_DROP)

    def heal(self) -> None:
        """Undo all cuts."""
        _run("ip", "link", "set", self._cable, "up")
        _run("tc", "qdisc", "del", "dev", self._cable, "root", check=False)
        _run("tc", "-n", self.name, "qdisc", "del", "dev", self._inside, "root", check=False)

    def close(self) -> None:
        """Remove it."""
        _run("ip", "link", "del", self._cable, check=False)
        _run("ip", "netns", "del", self.name, check=False)


def refused() -> str:
    """Return why this machine lets nobody make networks; "" if it does."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "ip and tc (iproute2) are not installed"
    made = None
    try:
        made = Namespace()
        made.cut("silent")
    except (RuntimeError, OSError) as error:
        return str(error)
    finally:
        if made is not None:
            made.close()
    return ""


def _run(*words: str, check: bool = True) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    if check and done.returncode:
        message = f"{' '.join(words)}: {done.stderr.strip()}"
        raise RuntimeError(message)
