"""Rings by LISTEN and NOTIFY, on the session by which a process is seen to live."""

from __future__ import annotations

from collections.abc import Callable

from everbell.domain.errors import EverbellError
from everbell.stores.postgres.presence import CHANNEL, Presence
from everbell.stores.postgres.session import NotPlain, Session

_RING = "SELECT pg_notify($1, $2)"


class PostgresWakeUps:
    """Implements ``everbell.ports.wakeups.WakeUps``; rings carry who rings, so that one's own are
    not heard.
    """

    def __init__(self, session: Session, presence: Presence) -> None:
        self._session = session
        self._presence = presence
        self._closed = False

    async def ring(self) -> None:
        """See WakeUps."""
        if self._closed:
            return
        try:
            await self._session.once(_RING, CHANNEL, self._presence.who)
        except (EverbellError, NotPlain):
            return  # others look by themselves, a little later

    def listen(self, heard: Callable[[], None]) -> None:
        """See WakeUps."""
        if not self._closed:
            self._presence.listen(heard)

    async def close(self) -> None:
        """See WakeUps."""
        self._closed = True
        self._presence.listen(None)
