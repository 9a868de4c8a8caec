"""Rows to records and back. Columns are named as the fields are, unless a word is reserved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from everbell.domain.job import Job, JobVersion
from everbell.domain.records import Credential, Hold
from everbell.domain.run import Attempt, Run, RunKey
from everbell.domain.stored import decode

MAX_ID = 2**63 - 1

PROJECT = "id, uuid, name, description, created_us, updated_us"
CREDENTIAL = (
    "id, uuid, name, api_key, secret_hash, scopes, project_id, created_us, expires_us,"
    " archived, old_hash, old_until_us"
)
JOB = (
    "id, uuid, project_id, name, version, enabled, parked, quarantined, failures, next_slot_us,"
    " release_policy, release_until_us, ranged_until_us, created_us, updated_us, definition"
)
HOLD = "id, scope, target_id, reason, who, created_us, until_us, choice"
NODE = (
    "id, name, host, pid, version, started_us, heartbeat_us, lease_until_us, state, workers,"
    " running, queued, rss_bytes, cpu_percent, address, reason, roles, cores, machine_cpu,"
    " memory_total_bytes, memory_free_bytes, tzdata, schema, clock_offset_s"
)
ATTEMPT = "attempt, token, node, state, started_us, finished_us, code, error"

# The columns of a run, with their types: rows come and go as arrays of columns.
_RUN = {
    "slot_us": "bigint",
    "job_id": "bigint",
    "trigger_id": "text",
    "project_id": "bigint",
    "version": "bigint",
    "state": "text",
    "cause": "text",
    "reason": "text",
    "attempt": "bigint",
    "token": "bigint",
    "node": "text",
    "due_us": "bigint",
    "claimed_us": "bigint",
    "started_us": "bigint",
    "finished_us": "bigint",
    "code": "bigint",
    "error": "text",
    "output_bytes": "bigint",
    "truncated": "boolean",
    "until_us": "bigint",
    "slots": "bigint",
    "cancel_requested": "boolean",
    "crashes": "bigint",
}
RUN = ", ".join(_RUN)
RUN_OF = ", ".join(f"r.{name}" for name in _RUN)
KEY = "slot_us, job_id, trigger_id"
LOWEST = (-(2**63), 0, "")
"""Before the key of every run."""
_NUMBERED = enumerate(_RUN.values(), 1)
RUNS_GIVEN = f"unnest({', '.join(f'${number}::{kind}[]' for number, kind in _NUMBERED)})"
"""Rows in the form of ``runs_values``."""


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    """Turn rows into ``width`` columns, the form in which they travel."""
    return list(zip(*rows, strict=True)) or [()] * width


def clean(text: str) -> str:
    """Replace what PostgreSQL can't store: a text of a run must never stop a batch."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def job(row: Any) -> Job:
    """Build a job. One whose definition can't be read is quarantined and holds a placeholder."""
    definition, unreadable = decode(row[15], row[3])
    return Job(
        id=row[0],
        uuid=row[1],
        project_id=row[2],
        version=row[4],
        enabled=row[5],
        parked=row[6],
        quarantined=row[7] or unreadable,
        failures=row[8],
        next_slot_us=row[9],
        release_policy=row[10],
        release_until_us=row[11],
        ranged_until_us=row[12],
        created_us=row[13],
        updated_us=row[14],
        definition=definition,
    )


def version(row: Any) -> JobVersion:
    """Build a version from job_id, version, since_us, enabled, definition, name."""
    values = dict(row)
    name, text = values.pop("name"), values.pop("definition")
    definition, _ = decode(text, name)
    return JobVersion(definition=definition, **values)


def key(row: Any) -> RunKey:
    """Build a run's key from slot_us, job_id, trigger_id."""
    return RunKey(row[0], row[1], row[2])


def key_of(run: Run) -> tuple[int, int, str]:
    """Return the columns of a run's key."""
    it = run.key
    return (it.slot_us, it.job_id, it.trigger_id)


def fences(runs: Iterable[Run]) -> list[Sequence[Any]]:
    """Return what guards a change of these runs: key, attempt and token, as columns.

    By key: rows are locked in the order in which they are given, see ``locks``.
    """
    return columns(sorted((*key_of(it), it.attempt, it.token) for it in runs), 5)


def run(row: Any) -> Run:
    """Build a run from the columns of RUN."""
    return Run(
        key=RunKey(row[0], row[1], row[2]),
        project_id=row[3],
        version=row[4],
        state=row[5],
        trigger=row[6],
        reason=row[7],
        attempt=row[8],
        token=row[9],
        node=row[10],
        due_us=row[11],
        claimed_us=row[12],
        started_us=row[13],
        finished_us=row[14],
        code=row[15],
        error=row[16],
        output_bytes=row[17],
        truncated=row[18],
        until_us=row[19],
        count=row[20],
        cancel_requested=row[21],
        crashes=row[22],
    )


def run_values(it: Run) -> tuple[Any, ...]:
    """Return a run's columns, in the order of RUN."""
    return (
        *key_of(it),
        it.project_id,
        it.version,
        it.state,
        it.trigger,
        clean(it.reason),
        it.attempt,
        it.token,
        it.node,
        it.due_us,
        it.claimed_us,
        it.started_us,
        it.finished_us,
        it.code,
        clean(it.error),
        it.output_bytes,
        it.truncated,
        it.until_us,
        it.count,
        it.cancel_requested,
        it.crashes,
    )


def runs_values(runs: Iterable[Run]) -> list[Sequence[Any]]:
    """Return runs as the columns of RUNS_GIVEN."""
    return columns((run_values(it) for it in runs), len(_RUN))


def attempt(row: Any) -> Attempt:
    """Build an attempt from the columns of ATTEMPT."""
    return Attempt(**dict(row))


def credential(row: Any) -> Credential:
    """Build a credential from the columns of CREDENTIAL."""
    values = dict(row)
    return Credential(scopes=tuple(values.pop("scopes").split()), **values)


def hold(row: Any) -> Hold:
    """Build a hold from the columns of HOLD."""
    values = dict(row)
    return Hold(then=values.pop("choice"), **values)


def possible_id(key: int | str) -> int | None:
    """Return the row id that ``key`` can mean, or None."""
    if isinstance(key, str):
        if not (key.isascii() and key.isdigit() and len(key) < 20):
            return None
        key = int(key)
    return key if 0 < key <= MAX_ID else None
