"""Ends of attempts: the short way for ordinary ones, the long way for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everbell.domain.run import Run, RunKey
from everbell.ports.ends import ended
from everbell.ports.store import Finish, Finished
from everbell.stores.postgres import filing, ledger, locks, queue, rows
from everbell.stores.postgres.claims import rounds
from everbell.stores.postgres.session import Session, Sql

_PLAIN = "SELECT finish_plain_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_KINDS = (
    *("bigint", "bigint", "text", "bigint", "bigint", "text", "bigint", "bigint", "bigint"),
    *("text", "text", "bigint", "boolean", "text", "bigint"),
)
_GIVEN = {
    "state": "a.state",
    "reason": "CASE a.reason WHEN '' THEN r.reason ELSE a.reason END",
    "node": "a.node",
    "claimed_us": "a.claimed",
    "started_us": "coalesce(a.started, r.started_us)",
    "finished_us": "a.finished",
    "code": "a.code",
    "error": "a.error",
    "output_bytes": "a.bytes",
    "truncated": "a.truncated",
}
_ENDED = ", ".join(_GIVEN.get(name, f"r.{name}") + f" AS {name}" for name in rows.RUN.split(", "))
# A claim that was withdrawn to the queue but ran nevertheless still has its token: it counts too.
_END = (
    "WITH gone AS (DELETE FROM runs r USING unnest("
    + ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_KINDS, 1))
    + ") AS a (slot, job, trigger, attempt, token, state, started, finished, code, error, reason,"
    f" bytes, truncated, node, claimed) WHERE {ledger.SAME_FENCE} AND r.token > 0"
    f" AND r.state || '' IN ('claimed', 'running', 'queued') RETURNING {_ENDED})"
    f" INSERT INTO ended_runs ({rows.RUN}) SELECT * FROM gone ON CONFLICT DO NOTHING"
    f" RETURNING {rows.KEY}, started_us, reason, cancel_requested"
)
_GO_ON = (
    "UPDATE runs r SET state = 'claimed', attempt = r.attempt + 1, token = a.fresh,"
    " due_us = a.due, claimed_us = $6, started_us = NULL, finished_us = NULL, code = NULL,"
    " error = '', output_bytes = 0, truncated = false"
    " FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[])"
    " AS a (slot, job, trigger, due, fresh)"
    " WHERE r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger"
    f" RETURNING {rows.RUN_OF}"
)
_TOLD = (
    "SELECT t.slot_us, t.job_id, t.trigger_id, t.attempt, t.token, t.state, t.finished_us"
    f" FROM {ledger.FENCES} JOIN attempts t ON t.slot_us = a.slot AND t.job_id = a.job"
    " AND t.trigger_id = a.trigger AND t.attempt = a.attempt AND t.token = a.token"
)
_FAILING = (
    "UPDATE jobs SET failures = a.failures,"
    " parked = CASE WHEN a.parked <> '' AND jobs.parked = '' THEN a.parked ELSE jobs.parked END,"
    " updated_us = CASE WHEN a.parked <> '' AND jobs.parked = '' THEN a.at_us ELSE updated_us END"
    " FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[])"
    " AS a (job, failures, parked, at_us) WHERE id = a.job"
)
STALE = Finished(outcome="stale")


def plain(finishes: Sequence[Finish]) -> bool:
    """Return whether these are of the ordinary kind: begun, over, and nothing follows."""
    return not any(
        it.next_due_us is not None or it.started_us is None or it.then or it.failures == "count"
        for it in finishes
    )


async def finish_plain(session: Session, finishes: Sequence[Finish]) -> list[Finished]:
    """End runs in one round trip. Raises NotPlain if any of them did not pass."""
    runs = [_ended(it, it.started_us, it.reason or it.run.reason) for it in finishes]
    by_key = sorted(runs, key=rows.key_of)  # the order in which rows are locked
    values = (
        (
            *rows.key_of(run),
            run.attempt,
            run.token,
            run.state,
            run.started_us,
            run.finished_us,
            run.code,
            run.error,
            run.reason,
            run.output_bytes,
            run.truncated,
        )
        for run in by_key
    )
    reset = [it.run.key.job_id for it in finishes if it.failures == "reset"]
    await session.once(_PLAIN, *rows.columns(values, 13), reset)
    return [Finished(outcome="stored", run=run) for run in runs]


def _ended(
    it: Finish, started_us: int | None, reason: str, *, cancel_requested: bool = False
) -> Run:
    """Return the run at its end, with texts that can be stored."""
    error = rows.clean(it.error)
    return ended(it, started_us, rows.clean(reason), error, cancel_requested=cancel_requested)


async def finish(sql: Sql, finishes: Sequence[Finish], now_us: int) -> list[Finished]:
    """See RunStore.finish: ends of any kind, with a few statements for all of them."""
    followers = [new.key.job_id for it in finishes for new in it.then]
    there = await locks.jobs(sql, [*(it.run.key.job_id for it in finishes), *followers])
    answers: list[Finished] = [STALE] * len(finishes)
    stored: list[int] = []
    for part in rounds([it.run.key for it in finishes]):
        ending = _Ending(sql, there, now_us)
        await ending.end([finishes[position] for position in part])
        for position in part:
            key = finishes[position].run.key
            answers[position] = ending.answers.get(key, STALE)
            if key in ending.stored:
                stored.append(position)
    done = [finishes[position] for position in sorted(stored)]
    await _count(sql, done)
    await queue.follow(sql, [new for it in done for new in it.then], there, now_us)
    return answers


class _Ending:
    """Ends of runs that differ, whose jobs are locked. ``stored``: those that changed something."""

    def __init__(self, sql: Sql, there: set[int], now_us: int) -> None:
        self.sql = sql
        self.there = there
        self.now_us = now_us
        self.answers: dict[RunKey, Finished] = {}
        self.stored: set[RunKey] = set()

    async def end(self, finishes: Sequence[Finish]) -> None:
        """Carry them out."""
        over = [it for it in finishes if it.next_due_us is None]
        again = [it for it in finishes if it.next_due_us is not None]
        if over and again:  # each kind alone locks its rows in the order of their keys
            await self.sql.value(ledger.COUNT_LOCKED, *rows.fences(it.run for it in finishes))
        await self._end(over)
        await self._go_on(again)
        rest = [it for it in finishes if it.run.key not in self.stored]
        if not rest:
            return
        now = await ledger.get_many(self.sql, [rows.key_of(it.run) for it in rest])
        gone = [it for it in rest if it.run.key not in now and self._withdrawn(it)]
        if gone:
            runs = [ledger.withdrawn(it) for it in gone]
            await filing.insert(self.sql, runs)
            for run in runs:
                self._store(run)
        await self._again([it for it in rest if it.run.key in now], now)

    def _store(self, run: Run) -> None:
        self.stored.add(run.key)
        self.answers[run.key] = Finished(outcome="stored", run=run)

    def _withdrawn(self, it: Finish) -> bool:
        run = it.run
        first = run.attempt == 1 and not run.key.trigger_id and run.token > 0
        return first and run.key.job_id in self.there

    async def _end(self, finishes: Sequence[Finish]) -> None:
        if not finishes:
            return
        values = (
            (
                *rows.key_of(it.run),
                it.run.attempt,
                it.run.token,
                it.state,
                it.started_us,
                it.finished_us,
                it.code,
                rows.clean(it.error),
                rows.clean(it.reason),
                it.output_bytes,
                it.truncated,
                it.run.node,
                it.run.claimed_us,
            )
            for it in sorted(finishes, key=lambda it: rows.key_of(it.run))
        )
        given = {it.run.key: it for it in finishes}
        for row in await self.sql.made(_END, *rows.columns(values, 15)):
            it = given[rows.key(row)]
            self._store(_ended(it, row[3], row[4], cancel_requested=row[5]))

    async def _go_on(self, finishes: Sequence[Finish]) -> None:
        """Keep the attempts and claim the runs again, for the same node."""
        if not finishes:
            return
        given = {it.run.key: it for it in finishes}
        found = await self.sql.rows(ledger.LOCKED, *rows.fences(it.run for it in finishes))
        runs = [rows.run(row) for row in found]
        if not runs:
            return
        await ledger.keep(self.sql, ((run, _how(given[run.key], run)) for run in runs))
        tokens = await locks.tokens(self.sql, len(runs))
        values = (
            (*rows.key_of(run), given[run.key].next_due_us, token)
            for run, token in zip(runs, tokens, strict=True)
        )
        for row in await self.sql.made(_GO_ON, *rows.columns(values, 5), self.now_us):
            self._store(rows.run(row))

    async def _again(self, finishes: Sequence[Finish], now: dict[RunKey, Run]) -> None:
        """Answer ends that changed nothing: repeated (their answer was lost), or superseded."""
        retries = [it.run for it in finishes if it.next_due_us is not None]
        told: set[tuple[Any, ...]] = set()
        if retries:
            told = {tuple(row) for row in await self.sql.rows(_TOLD, *rows.fences(retries))}
        for it in finishes:
            run, found = it.run, now[it.run.key]
            if it.next_due_us is None:
                same = (found.attempt, found.token, found.state, found.finished_us) == (
                    run.attempt,
                    run.token,
                    it.state,
                    it.finished_us,
                )
            else:
                kept = (*rows.key_of(run), run.attempt, run.token, it.state, it.finished_us)
                same = kept in told and found.attempt == run.attempt + 1
            if same:
                self.answers[run.key] = Finished(outcome="stored", run=found)


def _how(it: Finish, run: Run) -> tuple[Any, ...]:
    started_us = it.started_us if it.started_us is not None else run.started_us
    return (it.state, started_us, it.finished_us, it.code, it.error)


async def _count(sql: Sql, finishes: Sequence[Finish]) -> None:
    """Count failures in a row, in order, and park the jobs that have too many."""
    counting = {it.run.key.job_id for it in finishes if it.failures != "keep"}
    if not counting:
        return
    found = await sql.rows(
        "SELECT id, failures FROM jobs WHERE id = ANY ($1::bigint[])", sorted(counting)
    )
    before = {row[0]: row[1] for row in found}
    now = dict(before)
    parked: dict[int, tuple[str, int]] = {}
    for it in finishes:
        job_id = it.run.key.job_id
        if job_id not in now or it.failures == "keep":
            continue
        now[job_id] = 0 if it.failures == "reset" else now[job_id] + 1
        if it.failures == "count" and 0 < it.park_after <= now[job_id]:
            reason = f"{now[job_id]} failed runs in a row"
            parked.setdefault(job_id, (reason, it.finished_us))
    values = [
        (job_id, count, *parked.get(job_id, ("", 0)))
        for job_id, count in now.items()
        if count != before[job_id] or job_id in parked
    ]
    if values:
        await sql.change(_FAILING, *rows.columns(values, 4))
