"""What is due, and who gets it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from everbell.domain.decision import Claim, Decision, DueJob, blocked, claimed
from everbell.domain.errors import NotFoundError
from everbell.domain.placement import SHARDS
from everbell.domain.run import PLANNED, WAITS, Run, RunKey
from everbell.ports.store import Decided, NewRun, Share
from everbell.stores.sqlite import limits, marks, rows

_ACTIVE = "state IN ('claimed', 'running')"
_COUNT_ACTIVE = f"(SELECT count(*) FROM runs WHERE runs.job_id = jobs.id AND {_ACTIVE})"
_PLANNABLE = (
    "enabled = 1 AND parked = '' AND quarantined = '' AND held = 0 AND next_slot_us IS NOT NULL"
)
_DUE = (
    f"SELECT id, version, project_id, next_slot_us, {_COUNT_ACTIVE},"
    " (SELECT count(*) FROM runs WHERE runs.job_id = jobs.id AND state = 'queued'),"
    f" release_policy, release_until_us FROM jobs WHERE {_PLANNABLE} AND next_slot_us <= ?1{{}}"
    " ORDER BY next_slot_us, id LIMIT ?2"
)
_OWN = f"substr({{}}, id % {SHARDS} + 1, 1) = x'01'"
_DUE_SHARED = _DUE.format(f" AND (next_slot_us <= ?3 OR {_OWN.format('?4')})")
_DUE = _DUE.format("")
_NEXT = f"SELECT next_slot_us FROM jobs WHERE {_PLANNABLE} ORDER BY next_slot_us LIMIT 1"
_NEXT_OWN = (
    f"SELECT next_slot_us FROM jobs WHERE {_PLANNABLE} AND next_slot_us < ?1"
    f" AND {_OWN.format('?2')} ORDER BY next_slot_us LIMIT 1"
)
_GUARD = (
    f"SELECT id, {_COUNT_ACTIVE} FROM jobs WHERE id = ? AND version = ? AND next_slot_us = ?"
    " AND enabled = 1 AND parked = '' AND quarantined = '' AND held = 0"
)
_EXISTS = "SELECT 1 FROM runs WHERE slot_us = ? AND job_id = ? AND trigger_id = ''"
_CLAIM = (
    "INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, token,"
    " node, due_us, claimed_us) VALUES (?, ?, '', ?, ?, 'claimed', ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_MOVE = "UPDATE jobs SET next_slot_us = ? WHERE id = ?"
_TAKEABLE = (
    "held = 0 AND quarantined = ''"
    " AND (cause = 'manual' OR attempt > 1 OR (enabled = 1 AND parked = ''))"
)
_NEXT_QUEUED = (
    "SELECT due_us FROM runs CROSS JOIN jobs ON id = job_id"
    f" WHERE state = 'queued' AND {_TAKEABLE} ORDER BY due_us LIMIT 1"
)
_WAITING = (
    "SELECT slot_us, job_id, trigger_id, max_active, limited FROM {}"
    " CROSS JOIN jobs ON id = job_id"
    f" WHERE state = 'queued' AND due_us <= ?1 AND {_TAKEABLE}"
    " ORDER BY due_us, slot_us, job_id, trigger_id"
)
_ASKED = (
    "(SELECT DISTINCT value ->> 0 AS slot, value ->> 1 AS job, value ->> 2 AS what"
    " FROM json_each(?2)) CROSS JOIN runs ON slot_us = slot AND job_id = job AND trigger_id = what"
)
_WAITED = (
    f"cause IN ({', '.join(map(repr, sorted(PLANNED)))})"
    f" AND reason IN ({', '.join(map(repr, sorted(WAITS)))})"
)

BLOCKED = Decided(outcome="blocked")
STALE = Decided(outcome="stale")
OVERLAPS = Decided(outcome="overlaps")
DONE = Decided(outcome="done")


def due(sql: apsw.Cursor, until_us: int, limit: int, share: Share | None) -> list[DueJob]:
    """See RunStore.due."""
    if share is None:
        found = sql.execute(_DUE, (until_us, limit))
    else:
        values = (until_us, limit, until_us - share.behind_us, _mask(share))
        found = sql.execute(_DUE_SHARED, values)
    return [
        DueJob(
            id=row[0],
            version=row[1],
            project_id=row[2],
            next_slot_us=row[3],
            active=row[4],
            queued=row[5],
            release_policy=row[6],
            release_until_us=row[7],
        )
        for row in found
    ]


def _mask(share: Share) -> bytes:
    """Return one byte per shard: 1 = it is of the share."""
    mask = bytearray(SHARDS)
    for shard in share.shards:
        mask[shard] = 1
    return bytes(mask)


def next_due_us(sql: apsw.Cursor, share: Share | None, *, queued: bool) -> int | None:
    """See RunStore.next_due_us."""
    planned = sql.execute(_NEXT).get
    if planned is not None and share is not None:
        # Whoever it is of, it counts at that time; only an own job can count before.
        behind = planned + share.behind_us
        own = sql.execute(_NEXT_OWN, (behind, _mask(share))).get
        planned = behind if own is None else own
    waiting = sql.execute(_NEXT_QUEUED).get if queued else None
    return min((at for at in (planned, waiting) if at is not None), default=None)


class Tokens:
    """Fencing tokens handed out inside one transaction; stored once, at its end."""

    __slots__ = ("_first", "_sql", "last")

    def __init__(self, sql: apsw.Cursor) -> None:
        self._sql = sql
        self._first = self.last = int(sql.execute("SELECT token FROM fence").get)

    def next(self) -> int:
        """Return a token greater than any before."""
        self.last += 1
        return self.last

    def rewind(self) -> None:
        """Take all of them back."""
        self.last = self._first

    def store(self) -> None:
        """Keep how far they went."""
        if self.last != self._first:
            self._sql.execute("UPDATE fence SET token = ?", (self.last,))


def decide(
    sql: apsw.Cursor, node: str, decisions: Sequence[Decision], now_us: int
) -> list[Decided]:
    """See RunStore.decide."""
    tokens = Tokens(sql)
    answers = _decide_plain(sql, node, decisions, now_us, tokens)
    if answers is None:
        deciding = _Deciding(sql, node, now_us, tokens)
        answers = [deciding.answer(decision) for decision in decisions]
    tokens.store()
    return answers


def _decide_plain(
    sql: apsw.Cursor, node: str, decisions: Sequence[Decision], now_us: int, tokens: Tokens
) -> list[Decided] | None:
    """Carry out decisions of one claim each with three prepared statements.

    None = some are of another kind, meet a limit or have a row already: nothing was done, take
    them one by one.
    """
    if any(
        len(it.claims) != 1 or it.marks or it.clear_release or it.quarantine for it in decisions
    ):
        return None
    if len({it.job_id for it in decisions}) != len(decisions):
        return None
    seen = dict(
        sql.executemany(_GUARD, [(it.job_id, it.version, it.cursor_us) for it in decisions])
    )
    answers: list[Decided] = []
    won: list[tuple[Decision, Run]] = []
    for it in decisions:
        active = seen.get(it.job_id)
        claim = it.claims[0]
        if active is None:
            answers.append(STALE)
        elif claim.max_active is not None and active >= claim.max_active:
            tokens.rewind()
            return None
        else:
            run = claimed(it, claim, node, now_us, tokens.next())
            won.append((it, run))
            answers.append(Decided(outcome="done", runs=(run,)))
    if not _insert_all(sql, won):
        tokens.rewind()
        return None
    sql.executemany(_MOVE, [(it.next_slot_us, it.job_id) for it, _ in won])
    return answers


def _insert_all(sql: apsw.Cursor, won: Sequence[tuple[Decision, Run]]) -> bool:
    """Insert claims, all or none; return whether it was all."""
    count = sql.connection.total_changes
    before = count()
    sql.execute("SAVEPOINT plain")
    sql.executemany(
        _CLAIM,
        [
            (
                run.key.slot_us,
                run.key.job_id,
                run.project_id,
                run.version,
                run.trigger,
                run.token,
                run.node,
                run.due_us,
                run.claimed_us,
            )
            for _, run in won
        ],
    )
    complete = count() - before == len(won)
    if not complete:
        sql.execute("ROLLBACK TO plain")
    sql.execute("RELEASE plain")
    return complete


class _Deciding:
    """One call of ``decide``."""

    __slots__ = ("changes", "execute", "node", "now_us", "tokens")

    def __init__(self, sql: apsw.Cursor, node: str, now_us: int, tokens: Tokens) -> None:
        self.execute = sql.execute
        self.changes = sql.connection.changes
        self.node = node
        self.now_us = now_us
        self.tokens = tokens

    def answer(self, decision: Decision) -> Decided:
        """Carry out one decision."""
        job_id = decision.job_id
        guard = self.execute(_GUARD, (job_id, decision.version, decision.cursor_us)).fetchone()
        if guard is None:
            return STALE
        if decision.quarantine:
            self.execute(
                "UPDATE jobs SET quarantined = ?, updated_us = ? WHERE id = ?",
                (decision.quarantine, self.now_us, job_id),
            )
            return DONE
        if blocked(decision, guard[1], lambda slot: self.execute(_EXISTS, (slot, job_id)).get):
            return BLOCKED
        if marks.overlap(self.execute, job_id, decision.marks):
            return OVERLAPS
        owner = (job_id, decision.project_id, decision.version)
        for mark in decision.marks:
            marks.store(self.execute, owner, mark, self.now_us)
        runs = [run for claim in decision.claims if (run := self._claim(decision, claim))]
        self.execute(_MOVE, (decision.next_slot_us, job_id))
        if decision.clear_release:
            self.execute(
                "UPDATE jobs SET release_policy = '', release_until_us = 0 WHERE id = ?", (job_id,)
            )
        return Decided(outcome="done", runs=tuple(runs)) if runs else DONE

    def _claim(self, decision: Decision, claim: Claim) -> Run | None:
        token = self.tokens.last + 1
        job_id = decision.job_id
        self.execute(
            _CLAIM,
            (
                claim.slot_us,
                job_id,
                decision.project_id,
                decision.version,
                claim.trigger,
                token,
                self.node,
                claim.due_us,
                self.now_us,
            ),
        )
        if not self.changes():
            return None
        self.tokens.last = token
        return claimed(decision, claim, self.node, self.now_us, token)


def enqueue(sql: apsw.Cursor, new: NewRun) -> Run:
    """See RunStore.enqueue."""
    key = (new.key.slot_us, new.key.job_id, new.key.trigger_id)
    if sql.execute("SELECT 1 FROM jobs WHERE id = ?", (new.key.job_id,)).get is None:
        message = f"no job {new.key.job_id}"
        raise NotFoundError(message, hint="it was deleted; `everbell job list` shows the others")
    _queue(sql, new)
    row = sql.execute(
        f"SELECT {rows.RUN} FROM runs WHERE slot_us = ? AND job_id = ? AND trigger_id = ?", key
    ).fetchone()
    return rows.run(row)


def _queue(sql: apsw.Cursor, new: NewRun) -> None:
    key = new.key
    sql.execute(
        "INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, reason,"
        " due_us) VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            key.slot_us,
            key.job_id,
            key.trigger_id,
            new.project_id,
            new.version,
            new.trigger,
            new.reason,
            new.due_us,
        ),
    )


def follow(sql: apsw.Cursor, then: Iterable[NewRun], now_us: int) -> None:
    """Queue what follows the end of a run."""
    for new in then:
        job_id = new.key.job_id
        if sql.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).get is not None:
            _queue(sql, new)
            marks.skip_of_disabled(sql, job_id, now_us)


def take_queued(
    sql: apsw.Cursor, node: str, now_us: int, limit: int, keys: Sequence[RunKey] | None
) -> list[Run]:
    """See RunStore.take_queued."""
    chosen = _startable(sql, now_us, limit, keys)
    if not chosen:
        return []
    tokens = Tokens(sql)
    runs: list[Run] = []
    for key in chosen:
        row: tuple[Any, ...] | None = sql.execute(
            "UPDATE runs SET state = 'claimed', node = ?, token = ?, claimed_us = ?,"
            " version = (SELECT version FROM jobs WHERE id = runs.job_id),"
            f" reason = CASE WHEN {_WAITED} THEN '' ELSE reason END"
            " WHERE slot_us = ? AND job_id = ? AND trigger_id = ?"
            f" RETURNING {rows.RUN}",
            (node, tokens.next(), now_us, *key),
        ).fetchone()
        if row is not None:
            runs.append(rows.run(row))
    tokens.store()
    return runs


def _startable(
    sql: apsw.Cursor, now_us: int, limit: int, keys: Sequence[RunKey] | None
) -> list[tuple[int, int, str]]:
    """Return the keys of queued runs whose jobs have room, in order."""
    if keys is None:
        waiting = sql.execute(_WAITING.format("runs"), (now_us,))
    else:
        asked = msgspec.json.encode([(it.slot_us, it.job_id, it.trigger_id) for it in keys])
        waiting = sql.execute(_WAITING.format(_ASKED), (now_us, asked.decode()))
    room = _Room(sql.connection.cursor())
    chosen: list[tuple[int, int, str]] = []
    for slot_us, job_id, trigger_id, max_active, limited in waiting:
        if room.take(job_id, max_active, limited=limited):
            chosen.append((slot_us, job_id, trigger_id))
            if len(chosen) >= limit:
                break
    return chosen


class _Room:
    """How many more runs jobs, and the limits that they share, allow; one use per choice."""

    def __init__(self, sql: apsw.Cursor) -> None:
        self._sql = sql
        self._jobs: dict[int, int] = {}
        self._shared = limits.Shared(sql)

    def take(self, job_id: int, max_active: int | None, *, limited: int) -> bool:
        """Take one place if there is one."""
        left = self._left(job_id, max_active)
        if left <= 0 or (limited and not self._shared.take(job_id)):
            return False
        self._jobs[job_id] = left - 1
        return True

    def _left(self, job_id: int, max_active: int | None) -> int:
        if job_id not in self._jobs:
            active = 0
            if max_active is not None:
                active = self._sql.execute(
                    f"SELECT count(*) FROM runs WHERE job_id = ? AND {_ACTIVE}", (job_id,)
                ).get
            self._jobs[job_id] = (rows.MAX_ID if max_active is None else max_active) - active
        return self._jobs[job_id]
