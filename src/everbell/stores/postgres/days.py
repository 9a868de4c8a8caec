"""Partitions by day: made ahead, made when they are needed, dropped when they are over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import asyncpg

from everbell.domain.errors import StoreError, StoreUnavailable
from everbell.stores.postgres import rows
from everbell.stores.postgres.session import NotPlain, Session

DAY_US = 86_400_000_000
AHEAD = 7
NEAR = 400
"""Days from today that get a partition when a run needs one; what is further off shares one."""
TRIES = 10
SWEEP = 5000
SWEEPS = 10
_KNOWN = (
    "SELECT floor(extract(epoch FROM now()) / 86400)::bigint, array_agg(from_us / 86400000000)"
    " FROM partitions WHERE parent = 'ended_runs'"
)
_ENDED = "state NOT IN ('claimed', 'running', 'queued')"
_FOUND = (
    f"SELECT {rows.KEY} FROM runs WHERE ({rows.KEY}) > ($1, $2, $3) AND {_ENDED}"
    f" ORDER BY {rows.KEY} LIMIT {SWEEP}"
)
_MOVE = (
    "WITH gone AS (DELETE FROM runs r USING unnest($1::bigint[], $2::bigint[], $3::text[])"
    " AS a (slot, job, trigger) WHERE r.slot_us = a.slot AND r.job_id = a.job"
    f" AND r.trigger_id = a.trigger AND {_ENDED} RETURNING {rows.RUN_OF})"
    f" INSERT INTO ended_runs ({rows.RUN}) SELECT * FROM gone ON CONFLICT DO NOTHING"
)


class Days:
    """The partitions that there are, as far as this node knows."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._today = 0
        self._known: set[int] = set()
        self._swept: tuple[int, int, str] = rows.LOWEST

    async def ahead(self, days: int = AHEAD) -> None:
        """Make the partitions of today and the coming days, by the clock of the server.

        Raises StoreUnavailable: the server is not there, or a right is missing.
        """
        row = await self._session.once(_KNOWN)
        self._today, self._known = row[0], set(row[1] or ())
        await self._make(range(self._today, self._today + days + 1))

    async def need(self, slots: Iterable[int]) -> None:
        """Make partitions for what is not far off. Where that fails, its rows go to the rest."""
        wanted = {slot // DAY_US for slot in slots} - self._known
        near = sorted(day for day in wanted if abs(day - self._today) <= NEAR)
        with contextlib.suppress(StoreError):
            await self._make(near)

    async def _make(self, days: Iterable[int]) -> None:
        for day in days:
            if day not in self._known and await self._call("SELECT make_day_2($1)", day):
                self._known.add(day)

    async def _call(self, query: str, value: int) -> Any:
        """Return the row, or None if others held their locks for too long again and again."""
        for _ in range(TRIES):
            try:
                return await self._session.once(query, value)
            except NotPlain:
                continue
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                    raise
        return None

    async def drop(self, before_us: int) -> int:
        """Drop partitions that are over; return how many runs went with them."""
        gone = 0
        while True:
            row = await self._call("SELECT dropped, gone FROM drop_day_2($1)", before_us)
            if row is None or row[0] is None:
                return gone
            gone += row[1]

    async def sweep(self) -> None:
        """Move ended runs that still stand in ``runs``, a part of them at a time."""
        for _ in range(SWEEPS):
            found = await self._session.read(lambda sql: sql.rows(_FOUND, *self._swept))
            await self.need(row[0] for row in found)
            with contextlib.suppress(NotPlain):  # others are at them; the next round sees
                await self._session.all(_MOVE, *rows.columns(map(tuple, found), 3))
            if len(found) < SWEEP:
                self._swept = rows.LOWEST
                return
            last = found[-1]
            self._swept = (last[0], last[1], last[2])
