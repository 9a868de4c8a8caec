"""The store on PostgreSQL: a pool of connections to the primary; nodes keep nothing."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, TypeVar

import asyncpg

from everbell.domain.audit import AuditEntry
from everbell.domain.decision import Decision, DueJob, LeftBehind
from everbell.domain.errors import ConfigError
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
from everbell.stores.postgres import (
    audit,
    claims,
    cluster,
    ends,
    history,
    holds,
    ledger,
    limits,
    projects,
    queue,
)
from everbell.stores.postgres import jobs as catalog
from everbell.stores.postgres.connection import Target, Tls, context
from everbell.stores.postgres.days import Days
from everbell.stores.postgres.errors import translate
from everbell.stores.postgres.presence import Look, Presence
from everbell.stores.postgres.receiving import refuse_unfinished
from everbell.stores.postgres.schema import prepare
from everbell.stores.postgres.session import NotPlain, Pool, Session, Sql, Verb
from everbell.stores.postgres.wakeups import PostgresWakeUps

T = TypeVar("T")


class PostgresStore:
    """Implements ``everbell.ports.store.Store``; the obligations are written there.

    Many processes on many machines may use one database at once. Ordinary batches of decisions and
    ends are one round trip each; what is not ordinary takes a few statements for the whole batch.
    """

    sees_deaths = True

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._session = Session(pool)
        # A heartbeat never waits behind others for a connection.
        self._own = pool.single()
        self._pulse = Session(self._own)
        self.presence = Presence(pool.extra, self._pulse)
        self._days = Days(self._session)
        self._write = self._session.write
        self._read = self._session.read
        self._quick = self._session.quick

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        tls: Tls | None = None,
        connections: int = 8,
        busy_timeout_s: float = 5.0,
        name: str = "",
    ) -> PostgresStore:
        """Connect to the primary that ``url`` names, check the database and bring it up to date.

        ``tls`` verifies the server in full, name included; without, ``sslmode`` of the URL counts.
        ``name`` is shown in pg_stat_activity.

        Raises ConfigError (files of ``tls``, the URL, an unfinished move into it), StoreUnavailable
        (not there, refused) and StoreCorrupt (of another program, or of a newer version).
        """
        target = Target(url, tls, busy_timeout_s, name)
        pool = Pool(target, context(tls) if tls is not None else None, connections)
        try:
            con = await pool.take()
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            message = f"database.url can't be used: {error}"
            hint = "write postgresql://user:password@host:5432/database"
            raise ConfigError(message, hint=hint) from error
        try:
            await prepare(con, target.where)
            await refuse_unfinished(con, target.where)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            con.terminate()
            raise translate(error, target.where, unknown=False) from error
        except BaseException:
            con.terminate()
            raise
        finally:
            pool.give(con)
        store = cls(pool)
        try:
            await store._days.ahead(1)
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Let go of the connections. May be called twice."""
        await self.presence.close()
        await self._own.close()
        await self._pool.close()

    async def _short(self, way: Awaitable[T] | None, long_way: Callable[[Sql], Awaitable[T]]) -> T:
        """Go the short way if there is one and it is not refused, else the long one."""
        if way is not None:
            try:
                return await way
            except NotPlain:
                pass
        return await self._write(long_way)

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
        return await self._write(
            lambda sql: catalog.change_job(sql, job, expected_version, now_us, left_behind)
        )

    async def delete_job(
        self, job_id: int, now_us: int, expected_version: int | None = None
    ) -> Revoked:
        """See DefinitionStore."""
        return await self._write(
            lambda sql: catalog.delete_job(sql, job_id, now_us, expected_version)
        )

    async def job_versions(self, job_id: int) -> list[JobVersion]:
        """See DefinitionStore."""
        return await self._read(lambda sql: catalog.job_versions(sql, job_id))

    async def add_hold(self, hold: Hold) -> tuple[Hold, Revoked]:
        """See DefinitionStore."""
        return await self._write(lambda sql: holds.add_hold(sql, hold))

    async def list_holds(self) -> list[Hold]:
        """See DefinitionStore."""
        return await self._read(holds.list_holds)

    async def release(
        self, hold_id: int, choice: Literal["skip", "once", "each"], now_us: int
    ) -> Hold:
        """See DefinitionStore."""
        return await self._write(lambda sql: holds.release(sql, hold_id, choice, now_us))

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

    def audited(self, entry: AuditEntry) -> PostgresStore:
        """See AuditStore."""
        same = copy.copy(self)
        write = self._session.write

        async def noted(verb: Verb[T]) -> T:
            return await write(audit.noting(entry, verb))

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
        return await self._quick(lambda sql: claims.due(sql, until_us, limit, share))

    async def next_due_us(self, share: Share | None = None, *, queued: bool = True) -> int | None:
        """See RunStore."""
        return await self._quick(lambda sql: claims.next_due_us(sql, share, queued=queued))

    async def decide(self, node: str, decisions: Sequence[Decision], now_us: int) -> list[Decided]:
        """See RunStore."""
        await self._days.need(claims.slots(decisions))
        plain = claims.plain(decisions)
        short = claims.decide_plain(self._session, node, decisions, now_us) if plain else None
        return await self._short(short, lambda sql: claims.decide(sql, node, decisions, now_us))

    async def enqueue(self, run: NewRun, now_us: int) -> Run:  # noqa: ARG002
        """See RunStore."""
        await self._days.need((run.key.slot_us,))
        return await self._write(lambda sql: queue.enqueue(sql, run))

    async def take_queued(
        self, node: str, now_us: int, limit: int, keys: Sequence[RunKey] | None = None
    ) -> list[Run]:
        """See RunStore."""
        for _ in range(queue.RACES):
            taken = await self._write(lambda sql: queue.take_queued(sql, node, now_us, limit, keys))
            if taken is not None:
                return taken
        return []

    async def mark_running(
        self,
        runs: Sequence[tuple[Run, int]],
        now_us: int,  # noqa: ARG002
    ) -> list[Literal["stored", "stale"]]:
        """See RunStore."""
        return await ledger.mark_running(self._session, runs)

    async def finish(self, finishes: Sequence[Finish], now_us: int) -> list[Finished]:
        """See RunStore."""
        plain = ends.plain(finishes)
        short = ends.finish_plain(self._session, finishes) if plain else None
        return await self._short(short, lambda sql: ends.finish(sql, finishes, now_us))

    async def request_cancel(self, key: RunKey, now_us: int) -> Run:
        """See RunStore."""
        return await self._write(lambda sql: ledger.request_cancel(sql, key, now_us))

    async def hand_back(self, runs: Sequence[Run], now_us: int) -> int:
        """See RunStore."""
        return await self._write(lambda sql: queue.hand_back(sql, runs, now_us))

    async def orphans(self, now_us: int, limit: int) -> list[Run]:
        """See RunStore."""
        return await self._quick(lambda sql: ledger.orphans(sql, now_us, limit))

    async def recover(self, verdicts: Sequence[Verdict], now_us: int) -> int:
        """See RunStore."""
        return await self._write(lambda sql: ledger.recover(sql, verdicts, now_us))

    async def still_claimed(self, claims: Sequence[tuple[RunKey, int]]) -> list[RunKey]:
        """See RunStore."""
        return await self._quick(lambda sql: ledger.still_claimed(sql, claims))

    async def cancel_flags(self, node: str) -> list[RunKey]:
        """See RunStore."""
        return await self._quick(lambda sql: ledger.cancel_flags(sql, node))

    async def append_output(self, chunks: Sequence[OutputChunk]) -> None:
        """See RunStore."""
        await history.append_output(self._session, chunks)

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
        return await history.purge(self._session, self._days, before_us, limit)

    # --- cluster ---

    async def heartbeat(self, node: Node) -> Pulse:
        """See ClusterStore."""
        self.presence.hold(node.id)
        presence = self.presence.key(node.id)
        pulse = await cluster.heartbeat(self._pulse, node, presence)
        if pulse.accepted:
            self.presence.proved(node.id, presence)
        return pulse

    async def leave(self, node_id: str, now_us: int) -> None:
        """See ClusterStore."""
        await self._write(lambda sql: cluster.leave(sql, node_id, now_us))
        self.presence.let_go(node_id)

    async def declare_dead(self, now_us: int) -> list[str]:
        """See ClusterStore."""
        look = await self.presence.look(now_us)
        if look is None:
            over = await self._quick(lambda sql: cluster.any_over(sql, now_us))
            look = Look(over=over)
        if not look.over and not look.vanished:
            return []
        return await self._write(lambda sql: cluster.declare_dead(sql, now_us, look.vanished))

    def wakeups(self) -> PostgresWakeUps:
        """Return the bell of the nodes of this database."""
        return PostgresWakeUps(self._session, self.presence)

    @property
    def unseen_s(self) -> float:
        """See ClusterStore."""
        return self.presence.unseen_s()

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
        return await self._quick(cluster.get_assignment)

    async def set_assignment(self, new: Assignment) -> bool:
        """See ClusterStore."""
        return await cluster.set_assignment(self._session, new)

    async def report_loads(self, loads: Mapping[int, float], now_us: int) -> None:
        """See ClusterStore."""
        await cluster.report_loads(self._session, loads, now_us)

    async def shard_loads(self) -> dict[int, float]:
        """See ClusterStore."""
        return await self._quick(cluster.shard_loads)

    async def change_counter(self) -> int:
        """See ClusterStore: a row that withdrawing verbs write in their transaction."""
        return await self._quick(cluster.change_counter)
