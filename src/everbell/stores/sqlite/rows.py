"""Rows to records: one fixed column order per table, built by position."""

from __future__ import annotations

from typing import Any

from everbell.domain.job import Job, JobVersion
from everbell.domain.records import Credential, Hold, Node, Project
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
    " release_policy, release_until_us, created_us, updated_us, definition, ranged_until_us"
)
RUN = (
    "slot_us, job_id, trigger_id, project_id, version, state, cause, reason, attempt, token, node,"
    " due_us, claimed_us, started_us, finished_us, code, error, output_bytes, truncated, until_us,"
    " slots, cancel_requested, crashes"
)
ATTEMPT = "attempt, token, node, state, started_us, finished_us, code, error"
HOLD = "id, scope, target_id, reason, who, created_us, until_us, choice"
NODE = (
    "id, name, host, pid, version, started_us, heartbeat_us, lease_until_us, state, workers,"
    " running, queued, rss_bytes, cpu_percent, address, reason, roles, cores, machine_cpu,"
    " memory_total_bytes, memory_free_bytes, tzdata, schema, clock_offset_s"
)


def marks(count: int) -> str:
    """Return ``?, ?, ...``."""
    return ", ".join("?" * count)


def job(row: Any) -> Job:
    """Build a job. One whose definition can't be read is quarantined and holds a placeholder."""
    definition, unreadable = decode(row[14], row[3])
    return Job(
        id=row[0],
        uuid=row[1],
        project_id=row[2],
        definition=definition,
        version=row[4],
        enabled=bool(row[5]),
        parked=row[6],
        quarantined=row[7] or unreadable,
        failures=row[8],
        next_slot_us=row[9],
        release_policy=row[10],
        release_until_us=row[11],
        created_us=row[12],
        updated_us=row[13],
        ranged_until_us=row[15],
    )


def version(row: Any) -> JobVersion:
    """Build a version from job_id, version, since_us, enabled, definition, name."""
    definition, _ = decode(row[4], row[5])
    return JobVersion(
        job_id=row[0],
        version=row[1],
        since_us=row[2],
        enabled=bool(row[3]),
        definition=definition,
    )


def key(row: Any) -> RunKey:
    """Build a run's key from slot_us, job_id, trigger_id."""
    return RunKey(row[0], row[1], row[2])


def number(row: Any) -> int:
    """Return the only column."""
    return int(row[0])


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
        truncated=row[18] == 1,
        until_us=row[19],
        count=row[20],
        cancel_requested=row[21] == 1,
        crashes=row[22],
    )


def run_values(it: Run) -> tuple[Any, ...]:
    """Return a run's columns, in the order of RUN."""
    key = it.key
    return (
        key.slot_us,
        key.job_id,
        key.trigger_id,
        it.project_id,
        it.version,
        it.state,
        it.trigger,
        it.reason,
        it.attempt,
        it.token,
        it.node,
        it.due_us,
        it.claimed_us,
        it.started_us,
        it.finished_us,
        it.code,
        it.error,
        it.output_bytes,
        it.truncated,
        it.until_us,
        it.count,
        it.cancel_requested,
        it.crashes,
    )


def attempt(row: Any) -> Attempt:
    """Build an attempt from the columns of ATTEMPT."""
    return Attempt(
        attempt=row[0],
        token=row[1],
        node=row[2],
        state=row[3],
        started_us=row[4],
        finished_us=row[5],
        code=row[6],
        error=row[7],
    )


def project(row: Any) -> Project:
    """Build a project from the columns of PROJECT."""
    return Project(
        id=row[0],
        uuid=row[1],
        name=row[2],
        description=row[3],
        created_us=row[4],
        updated_us=row[5],
    )


def credential(row: Any) -> Credential:
    """Build a credential from the columns of CREDENTIAL."""
    return Credential(
        id=row[0],
        uuid=row[1],
        name=row[2],
        api_key=row[3],
        secret_hash=row[4],
        scopes=tuple(row[5].split()),
        project_id=row[6],
        created_us=row[7],
        expires_us=row[8],
        archived=bool(row[9]),
        old_hash=row[10],
        old_until_us=row[11],
    )


def hold(row: Any) -> Hold:
    """Build a hold from the columns of HOLD."""
    return Hold(
        id=row[0],
        scope=row[1],
        target_id=row[2],
        reason=row[3],
        who=row[4],
        created_us=row[5],
        until_us=row[6],
        then=row[7],
    )


def node(row: Any) -> Node:
    """Build a node from the columns of NODE, and why it is drained."""
    return Node(
        id=row[0],
        name=row[1],
        host=row[2],
        pid=row[3],
        version=row[4],
        started_us=row[5],
        heartbeat_us=row[6],
        lease_until_us=row[7],
        state=row[8],
        workers=row[9],
        running=row[10],
        queued=row[11],
        rss_bytes=row[12],
        cpu_percent=row[13],
        address=row[14],
        reason=row[15],
        roles=tuple(row[16].split()),
        cores=row[17],
        machine_cpu=row[18],
        memory_total_bytes=row[19],
        memory_free_bytes=row[20],
        tzdata=row[21],
        schema=row[22],
        clock_offset_s=row[23],
        drained=row[24],
    )


def possible_id(key: int | str) -> int | None:
    """Return the row id that ``key`` can mean, or None."""
    if isinstance(key, str):
        if not (key.isascii() and key.isdigit() and len(key) < 20):
            return None
        key = int(key)
    return key if 0 < key <= MAX_ID else None
