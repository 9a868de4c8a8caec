"""What must hold in a database, whatever its nodes do: looked at from outside, by SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from everbell.domain.run import RunKey
from everbell.testing.contracts.storm import HOUR_US, LIMIT, Told

_KEY = "slot_us, job_id, trigger_id"
_ACTIVE = "state IN ('claimed', 'running')"
_FINAL = "state NOT IN ('claimed', 'running', 'queued')"
NEVER = {
    "a run stands in both tables": f"SELECT {_KEY} FROM runs JOIN ended_runs USING ({_KEY})",
    "more runs at once than the job allows": (
        "SELECT id, max_active, n FROM jobs JOIN (SELECT job_id, count(*) AS n FROM runs"
        f" WHERE {_ACTIVE} GROUP BY job_id) r ON job_id = id WHERE n > max_active"
    ),
    "more runs at once than a limit allows": (
        "SELECT name, count(*) FROM job_limits l JOIN runs r ON r.job_id = l.job_id"
        f" WHERE {_ACTIVE} GROUP BY name HAVING count(*) > {LIMIT}"
    ),
    "rows of a job that is gone": " UNION ALL ".join(
        f"SELECT '{name}', job_id FROM {name} t"
        " WHERE NOT EXISTS (SELECT FROM jobs WHERE id = t.job_id)"
        for name in ("runs", "ended_runs", "attempts", "output")
    ),
    "what goes on is over, or the reverse": (
        f"SELECT {_KEY}, state FROM ended_runs WHERE NOT ({_FINAL})"
        f" UNION ALL SELECT {_KEY}, state FROM runs WHERE {_ACTIVE} AND (node = '' OR token = 0)"
    ),
    "a token was given twice": (
        f"SELECT token, count(*) FROM runs WHERE {_ACTIVE} GROUP BY token HAVING count(*) > 1"
    ),
}
_ROWS = f"SELECT {_KEY}, attempt, token, state, finished_us, reason, error, node FROM ledger"
_COVERED = (
    "SELECT slot_us, coalesce(until_us, slot_us) FROM ledger"
    " WHERE job_id = $1 AND trigger_id = '' ORDER BY slot_us"
)
_ATTEMPTS = (
    f"SELECT {_KEY}, r.attempt, (SELECT count(*) FROM attempts a WHERE a.slot_us = r.slot_us"
    " AND a.job_id = r.job_id AND a.trigger_id = r.trigger_id AND a.attempt < r.attempt) AS n"
    " FROM ledger r WHERE attempt > 1 AND slot_us >= $1"
)
_LOOSE = (
    "SELECT name FROM partitions p WHERE NOT EXISTS (SELECT FROM pg_inherits"
    " WHERE inhrelid = to_regclass(p.name) AND inhparent = to_regclass(p.parent))"
)
_STATES = ("claimed", "running", "queued")


class Watch:
    """Looks again and again; ``faults`` are the things that must not be."""

    def __init__(self, con: Any) -> None:
        self._con = con
        self.faults: list[str] = []
        self.looks = 0
        self._final: dict[RunKey, tuple[Any, ...]] = {}
        self._tokens: dict[RunKey, int] = {}

    async def look(self, kept_us: int) -> None:
        """Check everything in one moment of the database; what is older may be forgotten."""
        self.looks += 1
        async with self._con.transaction(isolation="repeatable_read", readonly=True):
            for what, query in NEVER.items():
                found = await self._con.fetch(query)
                if found:
                    self.faults.append(f"{what}: {[tuple(row) for row in found[:3]]}")
            for row in await self._con.fetch(_ROWS):
                if row[0] >= kept_us:
                    self._compare(RunKey(*row[:3]), tuple(row[3:]))

    def _compare(self, key: RunKey, values: tuple[Any, ...]) -> None:
        attempt, token, state, *_ = values
        last = self._tokens.get(key, 0)
        # A slot that was withdrawn may be marked instead: nobody runs it. Who ran it nevertheless
        # ends it with the token it had, also if others were given it, and lost it, since.
        ran = state not in _STATES and attempt == 1 and not key.trigger_id
        if 0 < token < last and not ran:
            self.faults.append(f"the token of {key} shrank: {last} to {token}")
        self._tokens[key] = max(token, last)
        before = self._final.get(key)
        if before is not None and before != values:
            self.faults.append(f"{key} was over and changed: {before} to {values}")
        if state not in _STATES:
            self._final[key] = values

    async def last(self, told: Iterable[Told], first_us: int) -> None:
        """Compare what was acknowledged to the processes with what is there in the end."""
        told = list(told)
        kept_us = max([first_us, *(it[1] for it in told if it[0] == "purged")])
        rows = {RunKey(*row[:3]): tuple(row[3:]) for row in await self._con.fetch(_ROWS)}
        jobs = [tuple(row) for row in await self._con.fetch("SELECT id, next_slot_us FROM jobs")]
        there = {job_id for job_id, _ in jobs}
        self._acknowledged(told, {
            key: row for key, row in rows.items() if key.slot_us >= kept_us
        }, (kept_us, there))  # fmt: skip
        for job_id, cursor in jobs:
            if cursor is not None:
                covered = [tuple(row) for row in await self._con.fetch(_COVERED, job_id)]
                self._coverage(job_id, covered, range(kept_us, cursor, HOUR_US))
        for row in await self._con.fetch(_LOOSE):
            self.faults.append(f"a day that is not attached: {row[0]}")
        for row in await self._con.fetch(_ATTEMPTS, kept_us):
            if row[4] != row[3] - 1:
                self.faults.append(f"attempts of {tuple(row[:3])}: {row[4]} before number {row[3]}")

    def _acknowledged(
        self, told: list[Told], rows: dict[RunKey, Any], kept: tuple[int, set[int]]
    ) -> None:
        kept_us, there = kept
        tokens = [it[3] for it in told if it[0] == "claimed"]
        if len(tokens) != len(set(tokens)):
            self.faults.append("a token was handed out twice")
        ends: dict[RunKey, tuple[Any, ...]] = {}
        over_s: dict[RunKey, float] = {}
        for it in told:
            if it[0] != "ended" or it[1].slot_us < kept_us or it[1].job_id not in there:
                continue
            key, end = it[1], it[2:6]
            over_s[key] = min(it[6], over_s.get(key, it[6]))
            if ends.setdefault(key, end) != end:
                self.faults.append(f"{key} ended twice: {ends[key]}, {end}")
            if (row := rows.get(key)) is None:
                self.faults.append(f"{key} ended and is gone: {end}")
            elif row[:4] != end:
                self.faults.append(f"{key} ended as {end}, and is {row}")
        for it in told:
            if it[0] == "claimed" and it[4] > over_s.get(it[1], it[4]):
                self.faults.append(f"{it[1]} was over and claimed again: {it}")

    def _coverage(self, job_id: int, rows: list[Any], slots: range) -> None:
        single = {low for low, high in rows if low == high}
        ranges = [(low, high) for low, high in rows if low < high]
        for slot in slots:
            inside = sum(low <= slot <= high for low, high in ranges)
            if not inside and slot not in single:
                self.faults.append(f"slot {slot} of job {job_id} was never decided")
            elif inside + (slot in single) > 1:
                self.faults.append(f"slot {slot} of job {job_id} was decided twice")
