"""What is due, and who gets it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from everbell.domain.decision import Claim, Decision, DueJob, Mark, blocked, claimed
from everbell.domain.placement import SHARDS
from everbell.domain.run import Run, RunKey
from everbell.ports.store import Decided, Share
from everbell.stores.postgres import filing, locks, rows
from everbell.stores.postgres.session import Session, Sql

ACTIVE = "state IN ('claimed', 'running')"
OPEN = "enabled AND parked = '' AND quarantined = '' AND held = 0"
_COUNT = "(SELECT count(*) FROM runs r WHERE r.job_id = j.id AND r.{})"
_DUE = (
    "SELECT id, version, project_id, next_slot_us,"
    f" {_COUNT.format(ACTIVE)} AS active, {_COUNT.format('state = ' + repr('queued'))} AS queued,"
    " release_policy, release_until_us FROM jobs j"
    f" WHERE {OPEN} AND next_slot_us IS NOT NULL AND next_slot_us <= $1{{}}"
    " ORDER BY next_slot_us, id LIMIT $2"
)
# A mask, one bit per shard: it costs each row the same, however many shards there are.
_OWN = f"get_bit({{}}, (id % {SHARDS})::int) = 1"
_DUE_SHARED = _DUE.format(f" AND (next_slot_us <= $3 OR {_OWN.format('$4::bytea')})")
_DUE = _DUE.format("")
# Of jobs that are disabled or parked only manual runs and later attempts start.
TAKEABLE = (
    "held = 0 AND quarantined = ''"
    " AND (cause = 'manual' OR attempt > 1 OR (enabled AND parked = ''))"
)
_PLANNED = f"SELECT next_slot_us FROM jobs WHERE {OPEN} AND next_slot_us IS NOT NULL"
_FIRST = f"{_PLANNED} ORDER BY next_slot_us LIMIT 1"
_QUEUED = (
    "SELECT due_us FROM runs r JOIN jobs ON id = job_id"
    f" WHERE state = 'queued' AND {TAKEABLE} ORDER BY due_us LIMIT 1"
)
# The first of all, whoever it is of, counts at that time and the time behind; only an own job can
# count before. So nothing after that is looked at.
_FIRST_SHARED = (
    f"SELECT coalesce(({_PLANNED} AND next_slot_us < f.next_slot_us + $1"
    f" AND {_OWN.format('$2::bytea')} ORDER BY next_slot_us LIMIT 1), f.next_slot_us + $1)"
    f" FROM ({_FIRST}) f"
)
_NEXT = f"SELECT least(({_FIRST}), ({_QUEUED}))"
_NEXT_SHARED = f"SELECT least(({_FIRST_SHARED}), ({_QUEUED}))"
_PLAIN = "SELECT * FROM decide_plain_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_GUARDS = (
    f"SELECT id, version, next_slot_us, {_COUNT.format(ACTIVE)} FROM jobs j"
    f" WHERE id = ANY ($1::bigint[]) AND {OPEN}"
)
# LIMIT keeps the planner from turning these around: one look by key for each row that is asked.
_THERE = (
    "SELECT a.job, a.slot FROM unnest($1::bigint[], $2::bigint[]) AS a (job, slot)"
    " CROSS JOIN LATERAL (SELECT 1 FROM ledger r WHERE r.slot_us = a.slot AND r.job_id = a.job"
    " AND r.trigger_id = '' LIMIT 1) x"
)
INSIDE = (
    "SELECT DISTINCT a.job FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])"
    " AS a (job, low, high) CROSS JOIN LATERAL (SELECT 1 FROM ledger r WHERE r.job_id = a.job"
    " AND r.trigger_id = '' AND r.slot_us BETWEEN a.low AND a.high LIMIT 1) x"
)
_MOVE = (
    "UPDATE jobs SET next_slot_us = a.next_us,"
    " release_policy = CASE WHEN a.clear THEN '' ELSE release_policy END,"
    " release_until_us = CASE WHEN a.clear THEN 0 ELSE release_until_us END,"
    " ranged_until_us = greatest(ranged_until_us, a.ranged)"
    " FROM unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::bigint[])"
    " AS a (job, next_us, clear, ranged) WHERE id = a.job"
)
_QUARANTINE = (
    "UPDATE jobs SET quarantined = a.reason, updated_us = $3"
    " FROM unnest($1::bigint[], $2::text[]) AS a (job, reason) WHERE id = a.job"
)
BLOCKED = Decided(outcome="blocked")
STALE = Decided(outcome="stale")
OVERLAPS = Decided(outcome="overlaps")
DONE = Decided(outcome="done")


async def due(sql: Sql, until_us: int, limit: int, share: Share | None) -> list[DueJob]:
    """See RunStore.due."""
    if share is None:
        found = await sql.rows(_DUE, until_us, limit)
    else:
        behind_us = until_us - share.behind_us
        found = await sql.rows(_DUE_SHARED, until_us, limit, behind_us, _mask(share))
    return [_due_job(row) for row in found]


def _due_job(row: Any) -> DueJob:
    """Build a due job from its columns, in the order of the statement."""
    return DueJob(
        id=row[0],
        version=row[1],
        project_id=row[2],
        next_slot_us=row[3],
        active=row[4],
        queued=row[5],
        release_policy=row[6],
        release_until_us=row[7],
    )


def _mask(share: Share) -> bytes:
    """Return one bit per shard: 1 = it is of the share."""
    mask = bytearray(SHARDS // 8)
    for shard in share.shards:
        mask[shard // 8] |= 1 << shard % 8
    return bytes(mask)


async def next_due_us(sql: Sql, share: Share | None, *, queued: bool) -> int | None:
    """See RunStore.next_due_us."""
    found: int | None
    if share is None:
        found = await sql.value(_NEXT if queued else _FIRST)
    else:
        asked = (share.behind_us, _mask(share))
        found = await sql.value(_NEXT_SHARED if queued else _FIRST_SHARED, *asked)
    return found


def slots(decisions: Sequence[Decision]) -> Iterator[int]:
    """Return the slots that get a row."""
    for it in decisions:
        for claim in it.claims:
            yield claim.slot_us
        for mark in it.marks:
            yield mark.slot_us


def plain(decisions: Sequence[Decision]) -> bool:
    """Return whether these are of the ordinary kind: one claim each, of jobs that differ."""
    if any(
        len(it.claims) != 1 or it.marks or it.clear_release or it.quarantine for it in decisions
    ):
        return False
    return len({it.job_id for it in decisions}) == len(decisions)


async def decide_plain(
    session: Session, node: str, decisions: Sequence[Decision], now_us: int
) -> list[Decided]:
    """Carry out ordinary decisions in one round trip. Raises NotPlain if that is refused."""
    asked = rows.columns(
        (
            (
                it.job_id,
                it.project_id,
                it.version,
                it.cursor_us,
                it.next_slot_us,
                it.claims[0].slot_us,
                it.claims[0].due_us,
                it.claims[0].trigger,
                it.claims[0].max_active,
            )
            for it in decisions
        ),
        9,
    )
    row = await session.once(_PLAIN, node, now_us, *asked)
    won = dict(zip(row[0] or (), row[1] or (), strict=True))
    return [
        STALE
        if (token := won.get(it.job_id)) is None
        else Decided(outcome="done", runs=(claimed(it, it.claims[0], node, now_us, token),))
        for it in decisions
    ]


def marked(owner: tuple[int, int, int], mark: Mark, now_us: int) -> Run:
    """Return the row of a slot, or a range, of (job, project, version) decided without a run."""
    job_id, project_id, version = owner
    return Run(
        key=RunKey(mark.slot_us, job_id),
        project_id=project_id,
        version=version,
        state=mark.state,
        trigger=mark.trigger,
        reason=mark.reason,
        due_us=mark.slot_us,
        finished_us=None if mark.state == "queued" else now_us,
        until_us=mark.until_us,
        count=mark.count,
    )


def rounds(keys: Sequence[Any]) -> Iterator[list[int]]:
    """Split positions so that no key is twice in a part, and each key's stay in order."""
    seen: dict[Any, int] = {}
    parts: list[list[int]] = []
    for position, key in enumerate(keys):
        turn = seen[key] = seen.get(key, -1) + 1
        if turn == len(parts):
            parts.append([])
        parts[turn].append(position)
    return iter(parts)


async def decide(sql: Sql, node: str, decisions: Sequence[Decision], now_us: int) -> list[Decided]:
    """See RunStore.decide: decisions of any kind, with a few statements for all of them."""
    jobs = [it.job_id for it in decisions]
    await locks.jobs(sql, jobs)
    answers: list[Decided] = [STALE] * len(decisions)
    for part in rounds(jobs):
        deciding = _Deciding(sql, node, now_us)
        given = await deciding.answer([decisions[position] for position in part])
        for position, answer in zip(part, given, strict=True):
            answers[position] = answer
    return answers


class _Deciding:
    """Decisions on jobs that differ, whose rows are locked."""

    def __init__(self, sql: Sql, node: str, now_us: int) -> None:
        self.sql = sql
        self.node = node
        self.now_us = now_us
        self.active: dict[int, int] = {}
        self.there: set[tuple[int, int]] = set()
        self.inside: set[int] = set()

    async def answer(self, decisions: Sequence[Decision]) -> list[Decided]:
        """Carry them out."""
        await self._look(decisions)
        outcomes = [self._outcome(it) for it in decisions]
        done = [it for it, answer in zip(decisions, outcomes, strict=True) if answer is DONE]
        await self._quarantine([it for it in done if it.quarantine])
        won = await self._store([it for it in done if not it.quarantine])
        return [
            Decided(outcome="done", runs=won[it.job_id])
            if answer is DONE and won.get(it.job_id)
            else answer
            for it, answer in zip(decisions, outcomes, strict=True)
        ]

    async def _look(self, decisions: Sequence[Decision]) -> None:
        ids = [it.job_id for it in decisions]
        guards = {row[0]: row for row in await self.sql.rows(_GUARDS, ids)}
        asked = [it for it in decisions if _as_seen(it, guards.get(it.job_id))]
        self.active = {it.job_id: guards[it.job_id][3] for it in asked}
        slots = [(it.job_id, mark.slot_us) for it in asked for mark in it.marks]
        slots += [(it.job_id, claim.slot_us) for it in asked for claim in it.claims]
        if slots:
            found = await self.sql.rows(_THERE, *rows.columns(slots, 2))
            self.there = {(row[0], row[1]) for row in found}
        self.inside = await meeting(self.sql, [(it.job_id, it.marks) for it in asked])

    def _outcome(self, it: Decision) -> Decided:
        if it.job_id not in self.active:
            return STALE
        if it.quarantine:
            return DONE
        if blocked(it, self.active[it.job_id], lambda slot: (it.job_id, slot) in self.there):
            return BLOCKED
        return OVERLAPS if it.job_id in self.inside else DONE

    async def _quarantine(self, decisions: Sequence[Decision]) -> None:
        if decisions:
            asked = rows.columns(((it.job_id, it.quarantine) for it in decisions), 2)
            await self.sql.change(_QUARANTINE, *asked, self.now_us)

    async def _store(self, decisions: Sequence[Decision]) -> dict[int, tuple[Run, ...]]:
        if not decisions:
            return {}
        claims = {it.job_id: self._free(it) for it in decisions}
        tokens = iter(await locks.tokens(self.sql, sum(map(len, claims.values()))))
        won = {
            it.job_id: tuple(
                claimed(it, claim, self.node, self.now_us, next(tokens))
                for claim in claims[it.job_id]
            )
            for it in decisions
        }
        made = [run for runs in won.values() for run in runs]
        made += [
            marked((it.job_id, it.project_id, it.version), mark, self.now_us)
            for it in decisions
            for mark in it.marks
        ]
        if made:
            await filing.insert(self.sql, made)
        moves = (
            (it.job_id, it.next_slot_us, it.clear_release, reach(it.marks)) for it in decisions
        )
        await self.sql.change(_MOVE, *rows.columns(moves, 4))
        return won

    def _free(self, it: Decision) -> list[Claim]:
        """Return the claims whose slots have no row, each slot once."""
        taken = {mark.slot_us for mark in it.marks}
        free: list[Claim] = []
        for claim in it.claims:
            if claim.slot_us not in taken and (it.job_id, claim.slot_us) not in self.there:
                taken.add(claim.slot_us)
                free.append(claim)
        return free


def _as_seen(it: Decision, guard: Any) -> bool:
    return guard is not None and (guard[1], guard[2]) == (it.version, it.cursor_us)


def reach(marks: Sequence[Mark]) -> int:
    """Return how far the marks that are ranges reach; 0 if none is."""
    return max((mark.until_us or 0 for mark in marks), default=0)


async def meeting(sql: Sql, asked: Sequence[tuple[int, Sequence[Mark]]]) -> set[int]:
    """Return the jobs that have rows inside of a mark that is a range."""
    ranges = [
        (job_id, mark.slot_us, mark.until_us)
        for job_id, marks in asked
        for mark in marks
        if mark.until_us is not None
    ]
    if not ranges:
        return set()
    return {row[0] for row in await sql.rows(INSIDE, *rows.columns(ranges, 3))}
