"""What becomes of runs after the claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import apsw
from msgspec.structs import replace

from everbell.domain.errors import NotFoundError
from everbell.domain.notice import may_cancel
from everbell.domain.run import FINAL, Run, RunKey
from everbell.ports.ends import ended
from everbell.ports.store import Finish, Finished, Verdict
from everbell.stores.sqlite import marks, rows
from everbell.stores.sqlite.claims import Tokens, follow

_KEY = "slot_us = ? AND job_id = ? AND trigger_id = ?"
_ACTIVE = "state IN ('claimed', 'running')"
_FENCE = f"{_KEY} AND attempt = ? AND token = ?"
# A claim that was withdrawn to the queue but ran nevertheless still has its token: it counts too.
_END = (
    "UPDATE runs SET state = ?, started_us = coalesce(?, started_us), finished_us = ?, code = ?,"
    " error = ?, reason = CASE ? WHEN '' THEN reason ELSE ? END, output_bytes = ?, truncated = ?,"
    " node = ?, claimed_us = ?"
    f" WHERE {_FENCE} AND token > 0 AND state IN ('claimed', 'running', 'queued')"
    " RETURNING started_us, reason, cancel_requested"
)
# The common end: begun, nobody asked to cancel it, so that nothing has to be read back.
_END_IF = (
    "UPDATE runs SET state = ?, started_us = ?, finished_us = ?, code = ?, error = ?, reason = ?,"
    " output_bytes = ?, truncated = ?"
    f" WHERE {_FENCE} AND token > 0 AND {_ACTIVE} AND cancel_requested = 0"
)
STALE = Finished(outcome="stale")


def key_of(run: Run) -> tuple[int, int, str]:
    """Return the key's columns."""
    key = run.key
    return (key.slot_us, key.job_id, key.trigger_id)


def mark_running(
    sql: apsw.Cursor, runs: Sequence[tuple[Run, int]]
) -> list[Literal["stored", "stale"]]:
    """See RunStore.mark_running."""
    answers: list[Literal["stored", "stale"]] = []
    changes = sql.connection.changes
    for run, started_us in runs:
        sql.execute(
            f"UPDATE runs SET state = 'running', started_us = ? WHERE {_FENCE} AND {_ACTIVE}",
            (started_us, *key_of(run), run.attempt, run.token),
        )
        answers.append("stored" if changes() else "stale")
    return answers


def finish(sql: apsw.Cursor, finishes: Sequence[Finish], now_us: int) -> list[Finished]:
    """See RunStore.finish."""
    answers = _finish_plain(sql, finishes)
    if answers is None:
        tokens = Tokens(sql)
        answers = [_finish(sql, it, now_us, tokens) for it in finishes]
        tokens.store()
    return answers


def _finish_plain(sql: apsw.Cursor, finishes: Sequence[Finish]) -> list[Finished] | None:
    """End attempts that end their run, with one prepared statement.

    None = some are of another kind, or did not pass: nothing was done, take them one by one.
    """
    if any(it.next_due_us is not None or it.started_us is None or it.then for it in finishes):
        return None
    runs = [_ended(it, it.started_us, it.reason or it.run.reason) for it in finishes]
    count = sql.connection.total_changes
    before = count()
    sql.execute("SAVEPOINT plain")
    sql.executemany(
        _END_IF,
        [
            (
                run.state,
                run.started_us,
                run.finished_us,
                run.code,
                run.error,
                run.reason,
                run.output_bytes,
                run.truncated,
                run.key.slot_us,
                run.key.job_id,
                run.key.trigger_id,
                run.attempt,
                run.token,
            )
            for run in runs
        ],
    )
    if count() - before != len(runs):
        sql.execute("ROLLBACK TO plain")
        sql.execute("RELEASE plain")
        return None
    sql.execute("RELEASE plain")
    failing = sql.execute("SELECT 1 FROM jobs WHERE failures > 0 LIMIT 1").get is not None
    for it in finishes:
        if it.failures == "count" or (failing and it.failures == "reset"):
            failing = True
            _count(sql, it, it.run.key.job_id)
    return [Finished(outcome="stored", run=run) for run in runs]


def _ended(
    it: Finish, started_us: int | None, reason: str, *, cancel_requested: bool = False
) -> Run:
    """Return the run at its end, with texts that can be stored."""
    error = it.error if it.error.isascii() else _clean(it.error)
    return ended(it, started_us, reason, error, cancel_requested=cancel_requested)


def _finish(sql: apsw.Cursor, it: Finish, now_us: int, tokens: Tokens) -> Finished:
    if it.next_due_us is None:
        run = _end(sql, it) or _end_of_withdrawn(sql, it)
    else:
        run = _go_on(sql, it, now_us, tokens) or _end_of_withdrawn(sql, it)
    if run is None:
        return _again(sql, it)
    if it.failures != "keep":
        _count(sql, it, run.key.job_id)
    if it.then:
        follow(sql, it.then, now_us)
    return Finished(outcome="stored", run=run)


def _end(sql: apsw.Cursor, it: Finish) -> Run | None:
    run = it.run
    key = run.key
    row = sql.execute(
        _END,
        (
            it.state,
            it.started_us,
            it.finished_us,
            it.code,
            _clean(it.error),
            it.reason,
            it.reason,
            it.output_bytes,
            it.truncated,
            run.node,
            run.claimed_us,
            key.slot_us,
            key.job_id,
            key.trigger_id,
            run.attempt,
            run.token,
        ),
    ).fetchone()
    if row is None:
        return None
    return _ended(it, row[0], row[1], cancel_requested=row[2] == 1)


def _clean(text: str) -> str:
    """Replace what UTF-8 can't carry: an error text must never stop a batch of finishes."""
    return text.encode("utf-8", "replace").decode()


def _end_of_withdrawn(sql: apsw.Cursor, it: Finish) -> Run | None:
    """Record the end of a claim that vanished before its start but ran nevertheless."""
    run = it.run
    if run.attempt != 1 or run.key.trigger_id or not run.token:
        return None
    if get(sql, run.key) is not None:
        return None
    if sql.execute("SELECT 1 FROM jobs WHERE id = ?", (run.key.job_id,)).get is None:
        return None
    ended = replace(
        run,
        state=it.state if it.state in FINAL else "failed",
        started_us=it.started_us if it.started_us is not None else run.started_us,
        finished_us=it.finished_us,
        code=it.code,
        error=_clean(it.error),
        reason=it.reason or run.reason,
        output_bytes=it.output_bytes,
        truncated=it.truncated,
    )
    sql.execute(f"INSERT INTO runs ({rows.RUN}) VALUES ({rows.marks(23)})", rows.run_values(ended))
    return ended


def _go_on(sql: apsw.Cursor, it: Finish, now_us: int, tokens: Tokens) -> Run | None:
    """Keep the attempt and claim the run again, for the same node."""
    run = it.run
    row = sql.execute(
        f"SELECT {rows.RUN} FROM runs WHERE {_FENCE} AND {_ACTIVE}",
        (*key_of(run), run.attempt, run.token),
    ).fetchone()
    if row is None:
        return None
    found = rows.run(row)
    started_us = it.started_us if it.started_us is not None else found.started_us
    _keep_attempt(sql, found, (it.state, started_us, it.finished_us, it.code, _clean(it.error)))
    row = sql.execute(
        "UPDATE runs SET state = 'claimed', attempt = attempt + 1, token = ?, due_us = ?,"
        " claimed_us = ?, started_us = NULL, finished_us = NULL, code = NULL, error = '',"
        f" output_bytes = 0, truncated = 0 WHERE {_KEY} RETURNING {rows.RUN}",
        (tokens.next(), it.next_due_us, now_us, *key_of(run)),
    ).fetchone()
    return rows.run(row)


def _keep_attempt(sql: apsw.Cursor, run: Run, end: tuple[Any, ...]) -> None:
    sql.execute(
        f"REPLACE INTO attempts (slot_us, job_id, trigger_id, attempt, token, node, state,"
        f" started_us, finished_us, code, error) VALUES ({rows.marks(11)})",
        (*key_of(run), run.attempt, run.token, run.node, *end),
    )


def _again(sql: apsw.Cursor, it: Finish) -> Finished:
    """Answer a finish that changed nothing: repeated (its answer was lost), or superseded."""
    run = it.run
    now = get(sql, run.key)
    if now is None:
        return STALE
    if it.next_due_us is None:
        same = (now.attempt, now.token, now.state, now.finished_us) == (
            run.attempt,
            run.token,
            it.state,
            it.finished_us,
        )
    else:
        row = sql.execute(
            f"SELECT token, state, finished_us FROM attempts WHERE {_KEY} AND attempt = ?",
            (*key_of(run), run.attempt),
        ).fetchone()
        same = row == (run.token, it.state, it.finished_us) and now.attempt == run.attempt + 1
    return Finished(outcome="stored", run=now) if same else STALE


def _count(sql: apsw.Cursor, it: Finish, job_id: int) -> None:
    if it.failures == "reset":
        sql.execute("UPDATE jobs SET failures = 0 WHERE id = ? AND failures <> 0", (job_id,))
        return
    failures = sql.execute(
        "UPDATE jobs SET failures = failures + 1 WHERE id = ? RETURNING failures", (job_id,)
    ).get
    if failures is not None and 0 < it.park_after <= failures:
        reason = f"{failures} failed runs in a row"
        sql.execute(
            "UPDATE jobs SET parked = ?, updated_us = ? WHERE id = ? AND parked = ''",
            (reason, it.finished_us, job_id),
        )


def get(sql: apsw.Cursor, key: RunKey) -> Run | None:
    """Return a run, or None."""
    row = sql.execute(
        f"SELECT {rows.RUN} FROM runs WHERE {_KEY}", (key.slot_us, key.job_id, key.trigger_id)
    ).fetchone()
    return None if row is None else rows.run(row)


def get_run(sql: apsw.Cursor, key: RunKey) -> Run:
    """See RunStore.get_run."""
    found = get(sql, key)
    if found is None:
        message = f"no run {key.id!r}"
        raise NotFoundError(message, hint="it may be older than what is kept; see `run list`")
    return found


def request_cancel(sql: apsw.Cursor, key: RunKey, now_us: int) -> Run:
    """See RunStore.request_cancel."""
    run = get_run(sql, key)
    values = key_of(run)
    if may_cancel(run, now_us):
        sql.execute(
            "UPDATE runs SET state = 'cancelled', cancel_requested = 1, finished_us = ?,"
            f" reason = 'cancelled before its start' WHERE {_KEY}",
            (now_us, *values),
        )
    elif run.state not in FINAL:
        sql.execute(f"UPDATE runs SET cancel_requested = 1 WHERE {_KEY}", values)
    return get_run(sql, key)


def hand_back(sql: apsw.Cursor, runs: Sequence[Run], now_us: int) -> int:
    """See RunStore.hand_back."""
    count = 0
    for run in runs:
        sql.execute(
            "UPDATE runs SET state = 'queued', node = '', claimed_us = NULL"
            f" WHERE {_FENCE} AND state = 'claimed'",
            (*key_of(run), run.attempt, run.token),
        )
        count += sql.connection.changes()
    for job_id in {run.key.job_id for run in runs}:
        marks.skip_of_disabled(sql, job_id, now_us)
    return count


def orphans(sql: apsw.Cursor, now_us: int, limit: int) -> list[Run]:
    """See RunStore.orphans."""
    found = sql.execute(
        f"SELECT {rows.RUN} FROM runs WHERE {_ACTIVE} AND node NOT IN"
        " (SELECT id FROM nodes WHERE lease_until_us >= ? AND state NOT IN ('dead', 'left'))"
        " ORDER BY slot_us, job_id, trigger_id LIMIT ?",
        (now_us, limit),
    ).fetchall()
    return [rows.run(row) for row in found]


def recover(sql: apsw.Cursor, verdicts: Sequence[Verdict], now_us: int) -> int:
    """See RunStore.recover."""
    count = 0
    for it in verdicts:
        run, reason = it.run, it.reason
        guard = (*key_of(run), run.attempt, run.token)
        row = sql.execute(
            f"SELECT {rows.RUN} FROM runs WHERE {_FENCE} AND {_ACTIVE}", guard
        ).fetchone()
        if row is None:
            continue
        count += 1
        found = rows.run(row)
        if it.state == "lost":
            sql.execute(
                f"UPDATE runs SET state = 'lost', reason = ?, finished_us = ? WHERE {_KEY}",
                (reason, now_us, *key_of(run)),
            )
            follow(sql, it.then, now_us)
            continue
        _keep_attempt(sql, found, ("lost", found.started_us, now_us, None, reason))
        sql.execute(
            "UPDATE runs SET state = 'queued', attempt = attempt + 1, crashes = crashes + 1,"
            f" reason = ?, node = '', claimed_us = NULL, started_us = NULL WHERE {_KEY}",
            (reason, *key_of(run)),
        )
    return count


def still_claimed(sql: apsw.Cursor, claims: Sequence[tuple[RunKey, int]]) -> list[RunKey]:
    """See RunStore.still_claimed."""
    return [
        key
        for key, token in claims
        if sql.execute(
            f"SELECT 1 FROM runs WHERE {_KEY} AND token = ? AND {_ACTIVE}",
            (key.slot_us, key.job_id, key.trigger_id, token),
        ).get
    ]


def cancel_flags(sql: apsw.Cursor, node: str) -> list[RunKey]:
    """See RunStore.cancel_flags."""
    found = sql.execute(
        "SELECT slot_us, job_id, trigger_id FROM runs WHERE cancel_requested = 1 AND node = ?"
        f" AND {_ACTIVE} ORDER BY slot_us, job_id, trigger_id",
        (node,),
    ).fetchall()
    return [rows.key(row) for row in found]
