"""An installation with a bit of everything, and its move into PostgreSQL, for tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from everbell.domain.audit import AuditEntry
from everbell.domain.job import Job
from everbell.domain.records import Limit
from everbell.ports.store import JobFilter, OutputChunk, Page, Verdict
from everbell.services.moving import Moved, move
from everbell.stores.postgres.receiving import PostgresReceiver
from everbell.stores.sqlite import SqliteStore
from everbell.stores.sqlite.giving import SqliteGiver
from everbell.telemetry.clock import SystemClock
from everbell.testing.contracts import making
from everbell.testing.contracts.making import NOW, SEC

DAY = 86_400 * SEC
PAGE = Page(limit=1000)


def nothing(_name: str, _rows: int, _total: int) -> None:
    """Nobody watches."""


async def fill(path: Path) -> None:
    """Make a bit of everything, as nodes and people would."""
    store = await SqliteStore.open(path)
    await store.meta("secret_check", "abc")
    jobs = await making.add_jobs(
        store,
        making.new_job("plain"),
        making.new_job("held", cursor=NOW - 5 * DAY),
        making.new_job("limited ü", limits=("db",), overlap="allow"),
        making.new_job("off"),
    )
    plain, held, limited, off = jobs
    other = await store.add_project(making.project("other"))
    await store.add_jobs([making.new_job("plain", other.id)], NOW)
    await store.add_credential(making.credential())
    archived = await store.add_credential(making.credential("old", project_id=other.id))
    await store.change_credential(replace(archived, archived=True, expires_us=NOW, old_hash="x"))
    await store.set_limit(Limit(project_id=1, name="db", most=2))
    entry = AuditEntry(at_us=NOW, who="me", what="change", kind="job", address="127.0.0.1")
    await store.audited(entry).change_job(replace(off, enabled=False), off.version, NOW)
    await store.remember("scope", "key", b"\x00answer", NOW)
    await store.heartbeat(making.node("n1"))
    await store.heartbeat(making.node("n2", lease=NOW + 3600 * SEC, cpu_percent=1e-7))
    await store.leave("n1", NOW + 5)
    await store.drain("n2", "works on the disk", NOW)
    await ledger(store, plain, held, limited)
    await store.add_hold(making.hold("job", held.id))
    await store.close()


async def ledger(store: SqliteStore, plain: Job, held: Job, limited: Job) -> None:
    """Runs in every state, on several days."""
    run = await making.claimed(store, plain)
    await store.append_output(
        [OutputChunk(key=run.key, attempt=1, offset=0, stream="out", at_us=NOW, data=b"a\x00\xff")]
    )
    await store.finish([making.end(run, output_bytes=3, truncated=True)], NOW)
    for state in ("failed", "timed_out", "cancelled"):
        run = await making.claimed(store, plain)
        await store.finish([making.end(run, state=state, code=None, error="bad \0 Ä")], NOW)
    run = await making.claimed(store, plain)
    await store.finish([making.end(run, state="failed", next_due_us=NOW + SEC)], NOW)
    marks = (
        making.mark(NOW - 5 * DAY, "missed"),
        making.mark(NOW - 4 * DAY, "skipped"),
        replace(making.mark(NOW - 3 * DAY, "missed"), until_us=NOW - 2 * DAY, count=24),
        making.mark(NOW - DAY, "queued", "overlap"),
    )
    await store.decide("n2", [making.decision(held, next_us=NOW + DAY, marks=marks)], NOW)
    first = making.decision(limited, claims=(making.claim(NOW), making.claim(NOW + SEC)))
    [answer] = await store.decide("n2", [first], NOW)
    await store.mark_running([(answer.runs[0], NOW + 1)], NOW)
    await store.recover([Verdict(run=answer.runs[1], state="lost", reason="node gone")], NOW)
    await store.enqueue(making.new_run(plain, "m1"), NOW)
    await store.enqueue(making.new_run(limited, "then1", trigger="chain", due=NOW + DAY), NOW)
    await store.request_cancel(answer.runs[0].key, NOW)


async def moved(
    path: Path,
    url: str,
    new_id: str = "one",
    tell: Callable[[str, int, int], None] = nothing,
    kind: type[PostgresReceiver] = PostgresReceiver,
) -> Moved:
    """Move a database as the command does."""
    receiver = await kind.open(url)
    try:
        giver = SqliteGiver.open(path)
        try:
            return await move(giver, receiver, SystemClock(), new_id, tell)
        finally:
            giver.close()
    finally:
        await receiver.close()


async def usable(path: Path) -> None:
    """Fail unless a store opens there, with jobs."""
    store = await SqliteStore.open(path)
    assert await store.list_jobs(JobFilter(), PAGE)
    await store.close()


def run_cli(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a directory."""
    return subprocess.run(
        [sys.executable, "-m", "everbell", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
