"""What becomes of runs after the claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from msgspec.structs import replace

from everbell.domain.errors import NotFoundError
from everbell.domain.notice import may_cancel
from everbell.domain.run import FINAL, Run, RunKey
from everbell.ports.store import Finish, Verdict
from everbell.stores.postgres import locks, queue, rows
from everbell.stores.postgres.claims import ACTIVE
from everbell.stores.postgres.session import Session, Sql

_KEYS = "unnest($1::bigint[], $2::bigint[], $3::text[])"
_SAME_KEY = "r.slot_us = a.slot AND r.job_id = a.job AND r.trigger_id = a.trigger"
FENCES = (
    "unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[])"
    " AS a (slot, job, trigger, attempt, token)"
)
# `|| ''` keeps the planner from the partial index on active runs: rows are found by their key, one
# by one, also by a plan that was made while the table was empty.
BY_KEY_ACTIVE = "r.state || '' IN ('claimed', 'running')"
SAME_FENCE = f"{_SAME_KEY} AND r.attempt = a.attempt AND r.token = a.token"
_START = (
    "UPDATE runs r SET state = 'running', started_us = a.started FROM unnest($1::bigint[],"
    " $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])"
    " AS a (slot, job, trigger, attempt, token, started)"
    f" WHERE {SAME_FENCE} AND {BY_KEY_ACTIVE} RETURNING {rows.KEY}, r.attempt, r.token"
)
_LOCK = (
    f"FROM {FENCES} JOIN runs r ON {SAME_FENCE} AND {BY_KEY_ACTIVE}"
    " ORDER BY r.slot_us, r.job_id, r.trigger_id FOR NO KEY UPDATE OF r"
)
LOCKED = f"SELECT {rows.RUN_OF} {_LOCK}"
COUNT_LOCKED = f"SELECT count(*) FROM (SELECT 1 {_LOCK}) locked"
KEEP = (
    "INSERT INTO attempts (slot_us, job_id, trigger_id, attempt, token, node, state, started_us,"
    " finished_us, code, error) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[],"
    " $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bigint[], $9::bigint[],"
    " $10::bigint[], $11::text[]) ON CONFLICT (slot_us, job_id, trigger_id, attempt) DO UPDATE SET"
    " token = excluded.token, node = excluded.node, state = excluded.state,"
    " started_us = excluded.started_us, finished_us = excluded.finished_us, code = excluded.code,"
    " error = excluded.error"
)
_LOSE = (
    "UPDATE runs r SET state = 'lost', reason = a.reason, finished_us = $5"
    f" FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])"
    f" AS a (slot, job, trigger, reason) WHERE {_SAME_KEY}"
)
_HAND_OVER = (
    "UPDATE runs r SET state = 'queued', attempt = r.attempt + 1, crashes = r.crashes + 1,"
    " reason = a.reason, node = '', claimed_us = NULL, started_us = NULL"
    f" FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])"
    f" AS a (slot, job, trigger, reason) WHERE {_SAME_KEY}"
)


async def mark_running(
    session: Session, runs: Sequence[tuple[Run, int]]
) -> list[Literal["stored", "stale"]]:
    """See RunStore.mark_running."""
    last = {(*rows.key_of(run), run.attempt, run.token): at for run, at in runs}
    found = await session.all(
        _START, *rows.columns(((*key, at) for key, at in sorted(last.items())), 6)
    )
    stored = {tuple(row) for row in found}
    return [
        "stored" if (*rows.key_of(run), run.attempt, run.token) in stored else "stale"
        for run, _ in runs
    ]


async def get_many(sql: Sql, keys: Iterable[tuple[int, int, str]]) -> dict[RunKey, Run]:
    """Return those of the runs that exist."""
    found = await sql.rows(
        f"SELECT {rows.RUN_OF} FROM {_KEYS} AS a (slot, job, trigger)"
        f" CROSS JOIN LATERAL (SELECT * FROM ledger r WHERE {_SAME_KEY} LIMIT 1) r",
        *rows.columns(keys, 3),
    )
    runs = [rows.run(row) for row in found]
    return {run.key: run for run in runs}


async def get_run(sql: Sql, key: RunKey) -> Run:
    """See RunStore.get_run."""
    row = await sql.row(
        f"SELECT {rows.RUN} FROM ledger WHERE ({rows.KEY}) = ($1, $2, $3)",
        key.slot_us,
        key.job_id,
        key.trigger_id,
    )
    if row is None:
        message = f"no run {key.id!r}"
        raise NotFoundError(message, hint="it may be older than what is kept; see `run list`")
    return rows.run(row)


async def request_cancel(sql: Sql, key: RunKey, now_us: int) -> Run:
    """See RunStore.request_cancel."""
    values = (key.slot_us, key.job_id, key.trigger_id)
    where = f"({rows.KEY}) = ($1, $2, $3)"
    while True:
        locked = await sql.value(f"SELECT 1 FROM runs WHERE {where} FOR NO KEY UPDATE", *values)
        run = await get_run(sql, key)
        if run.state in FINAL:
            return run
        if locked is not None:
            break  # else the slot was withdrawn, and decided anew, while that was waited for
    if may_cancel(run, now_us):
        await sql.change(
            "UPDATE runs SET state = 'cancelled', cancel_requested = true, finished_us = $4,"
            f" reason = 'cancelled before its start' WHERE {where}",
            *values,
            now_us,
        )
    else:
        await sql.change(f"UPDATE runs SET cancel_requested = true WHERE {where}", *values)
    await locks.told(sql)
    return await get_run(sql, key)


async def orphans(sql: Sql, now_us: int, limit: int) -> list[Run]:
    """See RunStore.orphans."""
    found = await sql.rows(
        f"SELECT {rows.RUN} FROM runs WHERE {ACTIVE} AND node <> ALL (ARRAY("
        "SELECT id FROM nodes WHERE lease_until_us >= $1 AND state NOT IN ('dead', 'left')))"
        f" ORDER BY {rows.KEY} LIMIT $2",
        now_us,
        limit,
    )
    return [rows.run(row) for row in found]


async def recover(sql: Sql, verdicts: Sequence[Verdict], now_us: int) -> int:
    """See RunStore.recover."""
    targets = [new.key.job_id for it in verdicts for new in it.then]
    there = await locks.jobs(sql, [*(it.run.key.job_id for it in verdicts), *targets])
    judged: dict[tuple[Any, ...], Verdict] = {}
    for it in verdicts:
        judged.setdefault((it.run.key, it.run.attempt, it.run.token), it)
    found = await sql.rows(LOCKED, *rows.fences(it.run for it in judged.values()))
    pairs = [
        (run, judged[run.key, run.attempt, run.token]) for run in (rows.run(row) for row in found)
    ]
    handed = [(run, it) for run, it in pairs if it.state == "queued"]
    lost = [(run, it) for run, it in pairs if it.state == "lost"]
    if handed:
        kept = ((run, ("lost", run.started_us, now_us, None, it.reason)) for run, it in handed)
        await keep(sql, kept)
        await sql.change(_HAND_OVER, *_reasons(handed))
    if lost:
        await sql.change(_LOSE, *_reasons(lost), now_us)
        await queue.follow(sql, [new for _, it in lost for new in it.then], there, now_us)
    if pairs:
        await locks.told(sql)
    return len(pairs)


def _reasons(pairs: Sequence[tuple[Run, Verdict]]) -> list[Sequence[Any]]:
    return rows.columns(((*rows.key_of(run), rows.clean(it.reason)) for run, it in pairs), 4)


async def keep(sql: Sql, ended: Iterable[tuple[Run, tuple[Any, ...]]]) -> None:
    """Store attempts that did not end their run: state, start, end, code and error of each."""
    values = (
        (*rows.key_of(run), run.attempt, run.token, run.node, *end[:-1], rows.clean(end[-1]))
        for run, end in ended
    )
    await sql.change(KEEP, *rows.columns(values, 11))


async def still_claimed(sql: Sql, claims: Sequence[tuple[RunKey, int]]) -> list[RunKey]:
    """See RunStore.still_claimed."""
    asked = ((key.slot_us, key.job_id, key.trigger_id, token) for key, token in claims)
    found = await sql.rows(
        f"SELECT {rows.KEY} FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[])"
        " WITH ORDINALITY AS a (slot, job, trigger, token, place) CROSS JOIN LATERAL"
        f" (SELECT * FROM runs r WHERE {_SAME_KEY} LIMIT 1) r"
        f" WHERE r.token = a.token AND {BY_KEY_ACTIVE} ORDER BY a.place",
        *rows.columns(asked, 4),
    )
    return [rows.key(row) for row in found]


async def cancel_flags(sql: Sql, node: str) -> list[RunKey]:
    """See RunStore.cancel_flags."""
    found = await sql.rows(
        f"SELECT {rows.KEY} FROM runs WHERE cancel_requested AND node = $1 AND {ACTIVE}"
        f" ORDER BY {rows.KEY}",
        node,
    )
    return [rows.key(row) for row in found]


def withdrawn(it: Finish) -> Run:
    """Return the row of a claim that vanished before its start but ran nevertheless."""
    return replace(
        it.run,
        state=it.state if it.state in FINAL else "failed",
        started_us=it.started_us if it.started_us is not None else it.run.started_us,
        finished_us=it.finished_us,
        code=it.code,
        error=rows.clean(it.error),
        reason=it.reason or it.run.reason,
        output_bytes=it.output_bytes,
        truncated=it.truncated,
    )
