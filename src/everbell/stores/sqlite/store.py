"""The store on one SQLite file: one writer thread, one reader thread, many processes."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import apsw

from everbell.domain.audit import AuditEntry
from everbell.domain.decision import Decision, DueJob, LeftBehind
from everbell.domain.errors import StoreUnavailable
from everbell.domain.job import Job, JobVersion
from everbell.domain.records import Credential, Hold, Limit, Node, Project
from everbell.domain.run import Attempt, Run, RunKey
from everbell.ports.store import (
    Assignment,
    Decided,
    Finish,
    Finished,
    JobFilter,
    NewJob,
    NewRun,
    OutputChunk,
    Page,
    Pulse,
    Revoked,
    RunFilter,
    Share,
    Verdict,
)
from everbell.stores.sqlite import audit, claims, cluster, history, ledger, limits, projects
from everbell.stores.sqlite import jobs as catalog
from everbell.stores.sqlite.connection import open_reader, open_still, open_writer
from everbell.stores.sqlite.worker import Transaction, Worker

T = TypeVar("T")
Synchronous = Literal["off", "normal", "full", "extra"]


class _Inline:
    """Runs verbs in the caller's thread: deterministic, for simulation on virtual time."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._closed = False

    async def call(self, verb: Callable[[apsw.Cursor], T], *, plain: bool = False) -> T:
        """Run ``verb`` now. Raises StoreUnavailable once closed."""
        if self._closed:
            message = f"the database is closed: {self._transaction.path}"
            raise StoreUnavailable(message, hint="open it again")
        return self._transaction.run_plain(verb) if plain else self._transaction.run(verb)

    async def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._transaction.db.close()


class SqliteStore:
    """Implements ``everbell.ports.store.Store``; the obligations are written there.

    Writes of all callers go through one thread, and those that wait together share one flush.
    Reads that decide nothing use a second connection. Other processes may use the file at once.
    """

    sees_deaths = False
    unseen_s = 0.0

    def __init__(self, writer: Worker | _Inline, reader: Worker | _Inline) -> None:
        self._writer = writer
        self._reader = reader
        self._write = writer.call
        self._read = reader.call
        self._withdrawals = [0]

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        synchronous: Synchronous = "full",
        busy_timeout_s: float = 5.0,
        inline: bool = False,
    ) -> SqliteStore:
        """Open, check and migrate a database file; it is created if its directory exists.

        ``synchronous`` "normal" may lose the last commits at a power loss (never at a crash of
        the process). ``inline`` uses no threads; only then may the path be ``:memory:``.

        Raises StoreUnavailable (no such directory, no right, locked, disk full) and StoreCorrupt
        (damaged, of another program, or of a newer version).
        """
        name = str(path)
        inline = inline or name == ":memory:"
        opener = partial(open_writer, name, synchronous=synchronous, busy_timeout_s=busy_timeout_s)
        if inline:
            only = _Inline(Transaction(opener(), name, write=True))
            return cls(only, only)
        run = asyncio.get_running_loop().run_in_executor
        db = await run(None, opener)
        try:
            reader = await run(None, partial(open_reader, name, busy_timeout_s=busy_timeout_s))
        except BaseException:
            db.close()
            raise
        return cls(
            Worker(Transaction(db, name, write=True), "everbell-sqlite-writer", group=True),
            Worker(Transaction(reader, name, write=False), "everbell-sqlite-reader", group=False),
        )

    @classmethod
    async def open_still(cls, path: str | Path) -> SqliteStore:
        """Open a backup, or another file, only to look at it. Raises what ``open`` raises."""
        name = str(path)
        db = await asyncio.get_running_loop().run_in_executor(None, open_still, name)
        only = _Inline(Transaction(db, name, write=False))
        return cls(only, only)

    async def last_seen_us(self) -> int:
        """Return the newest instant (us) that the file knows of: until then it tells."""
        return await self._read(history.last_seen_us)

    async def close(self) -> None:
        """Finish what waits, then close the file. May be called twice."""
        await self._reader.close()
        await self._writer.close()

    async def _withdraw(self, verb: Callable[[apsw.Cursor], T]) -> T:
        """Call a verb that withdraws claims; ``change_counter`` tells of it once it is kept."""

        def counted(sql: apsw.Cursor) -> T:
            self._withdrawals[0] += 1
            return verb(sql)

        return await self._write(counted)

    # --- definitions ---

    async def add_project(self, project: Project) -> Project:
        """See DefinitionStore."""
        return await self._write(lambda sql: projects.add_project(sql, project))

    async def get_project(self, key: int | str) -> Project:
        """See DefinitionStore."""
        return await self._read(lambda sql: projects.get_project(sql, key))

    async def list_projects(
        self, ids: tuple[int, ...] | None, page: Page
    ) -> tuple[list[Project], int]:
        """See DefinitionStore."""
        return await self._read(lambda sql: projects.list_projects(sql, ids, page))

    async def change_project(self, project: Project, expected_us: int | None = None) -> Project:
        """See DefinitionStore."""
        return await self._write(lambda sql: projects.change_project(sql, project, expected_us))

    async def delete_project(self, project_id: int, expected_us: int | None = None) -> None:
        """See DefinitionStore."""
        await self._write(lambda sql: projects.delete_project(sql, project_id, expected_us))

    async def add_credential(self, credential: Credential) -> Credential:
        """See DefinitionStore."""
        return await self._write(lambda sql: projects.add_credential(sql, credential))

    async def find_credential(self, api_key: str) -> Credential | None:
        """See DefinitionStore."""
        return await self._read(lambda sql: projects.find_credential(sql, api_key))

    async def get_credential(self, key: int | str) -> Credential:
        """See DefinitionStore."""
        return await self._read(lambda sql: projects.get_credential(sql, key))

    async def list_credentials(self, page: Page) -> tuple[list[Credential], int]:
        """See DefinitionStore."""
        return await self._read(lambda sql: projects.list_credentials(sql, page))

    async def change_credential(self, credential: Credential) -> Credential:
        """See DefinitionStore."""
        return await self._write(lambda sql: projects.change_credential(sql, credential))

    async def add_jobs(
        self, jobs: Sequence[NewJob], now_us: int, most: int | None = None
    ) -> list[Job]:
        """See DefinitionStore."""
        return await self._write(lambda sql: catalog.add_jobs(sql, jobs, now_us, most))

    async def get_job(self, key: int | str) -> Job:
        """See DefinitionStore."""
        return await self._read(lambda sql: catalog.get_job(sql, key))

    async def get_jobs(self, ids: Sequence[int]) -> list[Job]:
        """See DefinitionStore."""
        return await self._read(lambda sql: catalog.get_jobs(sql, ids))

    async def list_jobs(self, where: JobFilter, page: Page) -> tuple[list[Job], int]:
        """See DefinitionStore."""
        return await self._read(lambda sql: catalog.list_jobs(sql, where, page))

    async def change_job(
        self,
        job: Job,
        expected_version: int,
        now_us: int,
        left_behind: LeftBehind | None = None,
    ) -> tuple[Job, Revoked]:
        """See DefinitionStore."""
        return await self._withdraw(
            lambda sql: catalog.change_job(sql, job, expected_version, now_us, left_behind)
        )

    async def delete_job(
        self, job_id: int, now_us: int, expected_version: int | None = None
    ) -> Revoked:
        """See DefinitionStore."""
        return await self._withdraw(
            lambda sql: catalog.delete_job(sql, job_id, now_us, expected_version)
        )

    async def job_versions(self, job_id: int) -> list[JobVersion]:
        """See DefinitionStore."""
        return await self._read(lambda sql: catalog.job_versions(sql, job_id))

    async def add_hold(self, hold: Hold) -> tuple[Hold, Revoked]:
        """See DefinitionStore."""
        return await self._withdraw(lambda sql: catalog.add_hold(sql, hold))

    async def list_holds(self) -> list[Hold]:
        """See DefinitionStore."""
        return await self._read(catalog.list_holds)

    async def release(
        self, hold_id: int, choice: Literal["skip", "once", "each"], now_us: int
    ) -> Hold:
        """See DefinitionStore."""
        return await self._write(lambda sql: catalog.release(sql, hold_id, choice, now_us))

    async def set_limit(self, limit: Limit) -> Limit:
        """See DefinitionStore."""
        return await self._write(lambda sql: limits.set_limit(sql, limit))

    async def delete_limit(self, project_id: int, name: str) -> None:
        """See DefinitionStore."""
        await self._write(lambda sql: limits.delete_limit(sql, project_id, name))

    async def list_limits(self, project_ids: tuple[int, ...] | None) -> list[Limit]:
        """See DefinitionStore."""
        return await self._read(lambda sql: limits.list_limits(sql, project_ids))

    async def remember(self, scope: str, key: str, value: bytes, now_us: int) -> bytes | None:
        """See DefinitionStore."""
        return await self._write(lambda sql: projects.remember(sql, scope, key, value, now_us))

    async def meta(self, key: str, value: str | None = None) -> str:
        """See DefinitionStore."""
        return await self._write(lambda sql: projects.meta(sql, key, value))

    # --- audit ---

    def audited(self, entry: AuditEntry) -> SqliteStore:
        """See AuditStore."""
        same = copy.copy(self)
        write = self._write

        async def noted(verb: Callable[[apsw.Cursor], T], *, plain: bool = False) -> T:
            return await write(audit.noting(entry, verb), plain=plain)

        same._write = noted  # noqa: SLF001  (it is this very store)
        return same

    async def list_audit(
        self, project_ids: Sequence[int] | None, limit: int, before: int | None = None
    ) -> list[AuditEntry]:
        """See AuditStore."""
        return await self._read(lambda sql: audit.list_audit(sql, project_ids, limit, before))

    async def purge_audit(self, before_us: int) -> int:
        """See AuditStore."""
        return await self._write(lambda sql: audit.purge_audit(sql, before_us))

    # --- runs ---

    async def due(self, until_us: int, limit: int, share: Share | None = None) -> list[DueJob]:
        """See RunStore."""
        return await self._read(lambda sql: claims.due(sql, until_us, limit, share))

    async def next_due_us(self, share: Share | None = None, *, queued: bool = True) -> int | None:
        """See RunStore."""
        return await self._read(lambda sql: claims.next_due_us(sql, share, queued=queued))

    async def decide(self, node: str, decisions: Sequence[Decision], now_us: int) -> list[Decided]:
        """See RunStore."""
        return await self._write(lambda sql: claims.decide(sql, node, decisions, now_us))

    async def enqueue(self, run: NewRun, now_us: int) -> Run:  # noqa: ARG002
        """See RunStore."""
        return await self._write(lambda sql: claims.enqueue(sql, run))

    async def take_queued(
        self, node: str, now_us: int, limit: int, keys: Sequence[RunKey] | None = None
    ) -> list[Run]:
        """See RunStore."""
        return await self._write(lambda sql: claims.take_queued(sql, node, now_us, limit, keys))

    async def mark_running(
        self,
        runs: Sequence[tuple[Run, int]],
        now_us: int,  # noqa: ARG002
    ) -> list[Literal["stored", "stale"]]:
        """See RunStore."""
        return await self._write(lambda sql: ledger.mark_running(sql, runs))

    async def finish(self, finishes: Sequence[Finish], now_us: int) -> list[Finished]:
        """See RunStore."""
        return await self._write(lambda sql: ledger.finish(sql, finishes, now_us))

    async def request_cancel(self, key: RunKey, now_us: int) -> Run:
        """See RunStore."""
        return await self._write(lambda sql: ledger.request_cancel(sql, key, now_us))

    async def hand_back(self, runs: Sequence[Run], now_us: int) -> int:
        """See RunStore."""
        return await self._write(lambda sql: ledger.hand_back(sql, runs, now_us))

    async def orphans(self, now_us: int, limit: int) -> list[Run]:
        """See RunStore."""
        return await self._read(lambda sql: ledger.orphans(sql, now_us, limit))

    async def recover(self, verdicts: Sequence[Verdict], now_us: int) -> int:
        """See RunStore."""
        return await self._write(lambda sql: ledger.recover(sql, verdicts, now_us))

    async def still_claimed(self, claims: Sequence[tuple[RunKey, int]]) -> list[RunKey]:
        """See RunStore."""
        return await self._read(lambda sql: ledger.still_claimed(sql, claims))

    async def cancel_flags(self, node: str) -> list[RunKey]:
        """See RunStore."""
        return await self._read(lambda sql: ledger.cancel_flags(sql, node))

    async def append_output(self, chunks: Sequence[OutputChunk]) -> None:
        """See RunStore."""
        await self._write(lambda sql: history.append_output(sql, chunks))

    async def read_output(
        self, key: RunKey, attempt: int, offset: int, limit_bytes: int
    ) -> list[OutputChunk]:
        """See RunStore."""
        return await self._read(
            lambda sql: history.read_output(sql, key, attempt, offset, limit_bytes)
        )

    async def get_run(self, key: RunKey) -> Run:
        """See RunStore."""
        return await self._read(lambda sql: ledger.get_run(sql, key))

    async def attempts(self, key: RunKey) -> list[Attempt]:
        """See RunStore."""
        return await self._read(lambda sql: history.attempts(sql, key))

    async def list_runs(
        self, where: RunFilter, limit: int, before: RunKey | None = None
    ) -> list[Run]:
        """See RunStore."""
        return await self._read(lambda sql: history.list_runs(sql, where, limit, before))

    async def last_runs(self, job_ids: Sequence[int]) -> dict[int, tuple[Run | None, Run | None]]:
        """See RunStore."""
        return await self._read(lambda sql: history.last_runs(sql, job_ids))

    async def purge(self, before_us: int, limit: int) -> int:
        """See RunStore."""
        return await self._write(lambda sql: history.purge(sql, before_us, limit))

    # --- cluster ---

    async def heartbeat(self, node: Node) -> Pulse:
        """See ClusterStore."""
        return await self._write(lambda sql: cluster.heartbeat(sql, node))

    async def leave(self, node_id: str, now_us: int) -> None:
        """See ClusterStore."""
        await self._write(lambda sql: cluster.leave(sql, node_id, now_us))

    async def declare_dead(self, now_us: int) -> list[str]:
        """See ClusterStore."""
        return await self._write(lambda sql: cluster.declare_dead(sql, now_us))

    async def list_nodes(self) -> list[Node]:
        """See ClusterStore."""
        return await self._read(cluster.list_nodes)

    async def prune_nodes(self, before_us: int) -> int:
        """See ClusterStore."""
        return await self._write(lambda sql: cluster.prune_nodes(sql, before_us))

    async def drain(self, name: str, reason: str, now_us: int) -> bool:
        """See ClusterStore."""
        return await self._write(lambda sql: cluster.drain(sql, name, reason, now_us))

    async def resume(self, name: str) -> bool:
        """See ClusterStore."""
        return await self._write(lambda sql: cluster.resume(sql, name))

    async def remove_node(self, node_id: str, now_us: int) -> None:
        """See ClusterStore."""
        await self._write(lambda sql: cluster.remove_node(sql, node_id, now_us))

    async def get_assignment(self) -> Assignment:
        """See ClusterStore."""
        return await self._read(cluster.get_assignment)

    async def set_assignment(self, new: Assignment) -> bool:
        """See ClusterStore."""
        return await self._write(lambda sql: cluster.set_assignment(sql, new))

    async def report_loads(self, loads: Mapping[int, float], now_us: int) -> None:
        """See ClusterStore."""
        await self._write(lambda sql: cluster.report_loads(sql, loads, now_us))

    async def shard_loads(self) -> dict[int, float]:
        """See ClusterStore."""
        return await self._read(cluster.shard_loads)

    async def change_counter(self) -> int:
        """See ClusterStore: ``PRAGMA data_version`` of the writing connection, and our own."""
        # Both in the writing thread: a withdrawal that is not kept yet must not be counted.
        return await self._write(
            lambda sql: cluster.change_counter(sql) + self._withdrawals[0], plain=True
        )
