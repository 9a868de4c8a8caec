"""One session of its own by which a process is seen to live, sees others, and hears rings.

A node's process holds a session lock on the node's id, and says so in its row (``presence``). The
server frees the lock as soon as the process is gone, long before the lease is over. What frees the
lock too must kill nobody:

- A process that loses this session says at once in its row that it is not to be watched, and
  takes the lock again. Until the row proves that it still counts as alive, ``unseen_s`` tells for
  how long it may not.
- Who lost its own session, as everybody does when the server restarts or fails over, sees nothing
  until ``GRACE_S`` later: until then the others are back.
- A lock must be free in all looks of ``SURE_S``, and still when the death is written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, NamedTuple

from everbell.domain.errors import EverbellError
from everbell.stores.postgres.session import FAILURES, NotPlain, Session

GRACE_S = 2.0
SURE_S = 0.4
GAP_S = 2.0
"""Looks that are further apart are not taken for one."""
LOOK_S = 2.0
FORGET_S = 1.0
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 0.5
CHECK_S = 0.1
"""The driver tells of most ends of a session, not of all."""
CHANNEL = "everbell_rings"
_NAME = (
    "SELECT set_config('application_name',"
    " left(current_setting('application_name'), 50) || ' (presence)', false)"
)
_HOLD = "SELECT pg_advisory_lock($1)"
_FREE = "SELECT pg_advisory_unlock($1)"
# A row is proof that nobody has taken the node for dead.
_SAY = "UPDATE nodes SET presence = $2 WHERE id = $1 AND state NOT IN ('dead', 'left') RETURNING 1"
_LOOK = (
    "SELECT id, lease_until_us < $1, coalesce(pg_try_advisory_xact_lock_shared(presence), false),"
    " clock_timestamp() - pg_postmaster_start_time() > make_interval(secs => $2)"
    " FROM nodes WHERE state NOT IN ('dead', 'left')"
)


class Look(NamedTuple):
    """What one look found: a lease that is over; nodes whose sessions ended for sure."""

    over: bool
    vanished: tuple[str, ...] = ()


def key_of(node_id: str) -> int:
    """Return the key of the lock that stands for a node."""
    digest = blake2b(f"everbell node {node_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Presence:
    """The session of one process; it is made with the first ``hold`` or ``listen``."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], pulse: Session) -> None:
        self._connect = connect
        self._pulse = pulse
        self._con: Any = None
        self._wanted = ""
        self._held = ""
        self._ours: set[str] = set()
        self._heard: Callable[[], None] | None = None
        self._listening = False
        self._lost = ""
        self._doubt: float | None = None
        self._losses = 0
        self._since = 0.0
        self._free: dict[str, float] = {}
        self._looked = 0.0
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    # --- what the store asks for ---

    def hold(self, node_id: str) -> None:
        """Be seen as this node, and no other, from soon on."""
        if node_id != self._wanted:
            self._wanted = node_id
            self._ours.add(node_id)
            self._stir()

    def let_go(self, node_id: str) -> None:
        """Be seen as this node no longer."""
        if node_id == self._wanted:
            self._wanted = ""
            self._stir()

    def key(self, node_id: str) -> int | None:
        """Return the key of the node's lock if it is held now."""
        return key_of(node_id) if node_id == self._held else None

    def unseen_s(self) -> float:
        """Return for how long others may have taken this process for dead; 0.0 = they don't."""
        return 0.0 if self._doubt is None else max(self._now() - self._doubt, 1e-9)

    def proved(self, node_id: str, presence: int | None) -> None:
        """Take note that the server knew the node as alive when it was told this."""
        if self.key(node_id) == presence:
            self._doubt = None

    def listen(self, heard: Callable[[], None] | None) -> None:
        """Call ``heard`` on rings of others; None = no more."""
        self._heard = heard
        self._stir()

    def is_ours(self, node_id: str) -> bool:
        """Return whether this process is, or was, that node."""
        return node_id in self._ours

    @property
    def who(self) -> str:
        """The node that this process is; "" if it is none."""
        return self._wanted

    async def look(self, now_us: int) -> Look | None:
        """Look whose sessions ended; None = this process can't tell now."""
        con = self._con
        if con is None or con.is_closed() or self._turn.locked() or not self._settled():
            return None
        try:
            async with self._turn:
                found = await con.fetch(_LOOK, now_us, GRACE_S, timeout=LOOK_S)
        except TimeoutError:
            # A silent way: better no session than one that the other end has given up.
            con.terminate()
            return None
        except FAILURES:
            return None
        # The session may have been lost meanwhile, and another one may have taken its place.
        if con is not self._con or con.is_closed():
            return None
        return self._judge(found)

    def _judge(self, found: list[Any]) -> Look:
        now = self._now()
        if now - self._looked > GAP_S or not all(row[3] for row in found):
            self._free.clear()
        self._looked = now
        free = {row[0] for row in found if row[2]} - self._ours
        self._free = {node_id: self._free.get(node_id, now) for node_id in free}
        vanished = (node_id for node_id, since in self._free.items() if now - since >= SURE_S)
        return Look(over=any(row[1] for row in found), vanished=tuple(sorted(vanished)))

    def _settled(self) -> bool:
        return self._now() - self._since >= GRACE_S

    async def close(self) -> None:
        """End the session. May be called twice."""
        self._closed = True
        self._heard = None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._held, self._doubt = "", None
        con, self._con = self._con, None
        if con is not None:
            con.remove_termination_listener(self._ended)
            try:
                await con.close(timeout=2)
            except FAILURES:
                con.terminate()

    # --- what keeps it up ---

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _stir(self) -> None:
        if self._closed:
            return
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="everbell-presence")
        self._wake.set()

    async def _keep(self) -> None:
        pause_s = 0.0
        while True:
            self._wake.clear()
            if await self._up():
                pause_s = 0.0
                await self._event()
                continue
            pause_s = min(max(pause_s * 2, PAUSE_MIN_S), PAUSE_MAX_S)
            with contextlib.suppress(TimeoutError):
                # Waked by a loss, or by what is asked for: both are no reason to wait less.
                await asyncio.wait_for(asyncio.Event().wait(), pause_s)

    async def _event(self) -> None:
        """Wait until there is something to do; the driver does not tell every end of a session."""
        self._checks = asyncio.get_running_loop().call_later(CHECK_S, self._check)
        try:
            await self._wake.wait()
        finally:
            self._checks.cancel()

    def _check(self) -> None:
        if self._con is not None and self._con.is_closed():
            self._ended(self._con)
        self._checks = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    async def _up(self) -> bool:
        """Bring the session to what is asked for, and tell others if it is not seen."""
        if not self._lost:
            return await self._obey()
        losses = self._losses
        told, up = await asyncio.gather(self._forget(self._lost), self._obey())
        if losses != self._losses:
            return False
        if up:
            self._lost = ""
        if told:
            self._doubt = None
        return up

    async def _obey(self) -> bool:
        try:
            async with self._turn:
                await self._join()
                await self._lock()
                await self._tune()
        except FAILURES:
            # Half a session is none.
            if self._con is not None:
                self._con.terminate()
            return False
        return True

    async def _join(self) -> None:
        if self._con is not None and not self._con.is_closed():
            return
        con = await self._connect()
        con.add_termination_listener(self._ended)
        again = self._con is not None
        self._con, self._held, self._listening = con, "", False
        self._since = self._now()
        self._free.clear()
        await con.execute(_NAME)
        if again and self._heard is not None:
            await self._tune()
            self._heard()  # what rang meanwhile was not heard

    async def _lock(self) -> None:
        while self._held != self._wanted:
            wanted, held = self._wanted, self._held
            if wanted:
                await self._con.fetchval(_HOLD, key_of(wanted))
            self._held = wanted
            if held:
                await self._con.fetchval(_FREE, key_of(held))
            if wanted and await self._con.fetchval(_SAY, wanted, key_of(wanted)) is not None:
                self.proved(wanted, key_of(wanted))

    async def _tune(self) -> None:
        if self._heard is not None and not self._listening:
            await self._con.add_listener(CHANNEL, self._rung)
            self._listening = True

    def _ended(self, con: Any) -> None:
        if con is not self._con or self._closed:
            return
        held, self._held = self._held, ""
        self._listening = False
        if held:
            self._lost = held
            self._losses += 1
            self._doubt = self._doubt or self._now()
        self._wake.set()

    def _rung(self, con: Any, pid: int, channel: str, payload: str) -> None:  # noqa: ARG002
        if self._heard is not None and payload not in self._ours:
            self._heard()

    async def _forget(self, node_id: str) -> bool:
        """Say that the node is not to be watched."""
        try:
            async with asyncio.timeout(FORGET_S):
                return await self._pulse.once(_SAY, node_id, None) is not None
        except (EverbellError, NotPlain, TimeoutError):
            return False
