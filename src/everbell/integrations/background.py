"""A node in a thread with a loop of its own, for programs that have none (WSGI).

Where a program forks (gunicorn with ``--preload``), a started node must not be carried over: its
thread would be gone and its database connection shared. So ``start`` waits a moment first. If the
process forks meanwhile, the children start nodes and the parent does not. A process that forks
later keeps its node, and the child has none until it calls ``start`` itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from everbell.integrations.host import Host
from everbell.ports.clock import Clock

log = logging.getLogger(__name__)

RESTART_S = 5.0
"""Pause before a node that failed is started again."""

CHILD_DELAY_S = 0.2
LOOK_S = 0.2
"""How often the thread looks whether the program ends."""

_all: weakref.WeakSet[Background] = weakref.WeakSet()
_graveyard: list[Any] = []
"""What a child inherited: never finalized, for that would touch the parent's database."""

State = Literal["idle", "pending", "running", "delegated"]


class Background:
    """The thread of one ``Everbell``."""

    def __init__(self, app: Host) -> None:
        self._app = app
        self._run_embedded: Callable[[Coroutine[Any, Any, int]], int] = asyncio.run
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self.state: State = "idle"
        self._delay_s = 0.0
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def start(self, delay_s: float) -> None:
        """Start the thread once; further calls do nothing."""
        if self._thread is not None and self._thread.is_alive():
            return
        # Imported here: a fork in the middle of an import leaves half a module to the child.
        from everbell.bootstrap import run_embedded

        self._reset()
        self._run_embedded = run_embedded
        self.state = "pending"
        self._delay_s = delay_s
        self._thread = threading.Thread(target=self._serve, name="everbell", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the node runs."""
        return self._ready.wait(timeout_s)

    def stop(self, timeout_s: float) -> None:
        """End the node in good order; nothing is lost if it takes longer than ``timeout_s``."""
        if self.state != "running":
            self.state = "idle"
        self._halt.set()
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _serve(self) -> None:
        if self._halt.wait(self._delay_s):
            return
        if multiprocessing.parent_process() is not None:
            self.state = "idle"
            return
        self.state = "running"
        while not self._halt.is_set():
            try:
                self._run_embedded(self._run())
            except Exception:
                log.critical("the node inside of %s can't run", self._app.name, exc_info=True)
            if self._halt.wait(RESTART_S):
                break
        self.state = "idle"

    async def _run(self) -> int:
        stop = asyncio.Event()
        self._loop, self._stop = asyncio.get_running_loop(), stop
        if self._halt.is_set():
            return 0
        async with self._app.running():
            node = self._app.node
            assert node is not None
            self._ready.set()
            ends: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(one.wait()) for one in (stop, node.engine.failed)
            ]
            ends.append(asyncio.ensure_future(self._main_ends(node.services.clock)))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        return 0

    async def _main_ends(self, clock: Clock) -> None:
        """Wait for the end of the program: it waits for the store's thread, which waits for us.

        So ``atexit`` would be too late.
        """
        while threading.main_thread().is_alive():
            await clock.sleep(LOOK_S)
        self._halt.set()

    def _forked_parent(self) -> None:
        if self.state == "pending":
            self.state = "delegated"
            self._halt.set()

    def _forked_child(self) -> None:
        inherited = self.state
        delay_s = self._delay_s
        app = self._app
        _graveyard.append((self._thread, self._loop, self._stop, *app.forget()))
        self._reset()
        if inherited in {"pending", "delegated"}:
            # Not at once: what multiprocessing forks says so only a moment later.
            self.start(max(delay_s, CHILD_DELAY_S))


def _parents() -> None:
    for one in list(_all):
        one._forked_parent()  # noqa: SLF001


def _children() -> None:
    for one in list(_all):
        one._forked_child()  # noqa: SLF001


os.register_at_fork(after_in_parent=_parents, after_in_child=_children)
