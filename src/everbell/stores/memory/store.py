"""History and nodes in memory, and the store as a whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from msgspec.structs import replace

from everbell.domain.audit import AuditEntry
from everbell.domain.run import FINAL, Attempt, Run, RunKey
from everbell.ports.store import OutputChunk, RunFilter
from everbell.stores.memory import audit
from everbell.stores.memory.cluster import MemoryCluster
from everbell.stores.memory.ledger import MemoryLedger

_BEGUN = frozenset({"running", "succeeded", "failed", "timed_out", "cancelled", "lost"})


class MemoryStore(MemoryLedger, MemoryCluster):
    """Implements ``everbell.ports.store.Store`` in dictionaries; nothing outlives the process."""

    async def append_output(self, chunks: Sequence[OutputChunk]) -> None:
        """See RunStore."""
        for chunk in chunks:
            if chunk.key.job_id in self._data.jobs:
                of_attempt = self._data.output.setdefault((chunk.key, chunk.attempt), {})
                of_attempt.setdefault(chunk.offset, chunk)

    async def read_output(
        self, key: RunKey, attempt: int, offset: int, limit_bytes: int
    ) -> list[OutputChunk]:
        """See RunStore."""
        found: list[OutputChunk] = []
        size = 0
        for start, chunk in sorted(self._data.output.get((key, attempt), {}).items()):
            if start + len(chunk.data) <= offset:
                continue
            skip = max(offset - start, 0)
            part = replace(chunk, offset=start + skip, data=chunk.data[skip:])
            if found and size + len(part.data) > limit_bytes:
                break
            found.append(part)
            size += len(part.data)
        return found

    async def attempts(self, key: RunKey) -> list[Attempt]:
        """See RunStore."""
        kept = self._data.kept_attempts.get(key, {})
        return [kept[number] for number in sorted(kept)]

    async def list_runs(
        self, where: RunFilter, limit: int, before: RunKey | None = None
    ) -> list[Run]:
        """See RunStore."""
        found = [
            run
            for run in self._data.all_runs()
            if _matches(run, where) and (before is None or run.key < before)
        ]
        return sorted(found, key=lambda run: run.key, reverse=True)[:limit]

    async def last_runs(self, job_ids: Sequence[int]) -> dict[int, tuple[Run | None, Run | None]]:
        """See RunStore."""
        return {
            job_id: (self._newest(job_id, _BEGUN), self._newest(job_id, frozenset({"skipped"})))
            for job_id in job_ids
        }

    def _newest(self, job_id: int, states: frozenset[str]) -> Run | None:
        runs = self._data.runs.get(job_id, {}).values()
        found = [run for run in runs if run.state in states]
        return max(found, key=lambda run: run.key, default=None)

    async def purge(self, before_us: int, limit: int) -> int:
        """See RunStore."""
        data = self._data
        old = sorted(
            run.key for run in data.all_runs() if run.state in FINAL and run.key.slot_us < before_us
        )[:limit]
        for key in old:
            data.forget(key)
        answers = sorted((at_us, which) for which, (_, at_us) in data.remembered.items())
        for at_us, which in answers[:limit]:
            if at_us < before_us:
                del data.remembered[which]
        return len(old)

    def audited(self, entry: AuditEntry) -> MemoryStore:
        """See AuditStore."""
        same = copy.copy(self)
        for name in audit.NOTED:
            setattr(same, name, audit.noting(self._data, entry, getattr(self, name)))
        return same

    async def list_audit(
        self, project_ids: Sequence[int] | None, limit: int, before: int | None = None
    ) -> list[AuditEntry]:
        """See AuditStore."""
        found = [
            it
            for it in reversed(self._data.audit)
            if (project_ids is None or it.project_id in project_ids)
            and (before is None or it.id < before)
        ]
        return found[:limit]

    async def purge_audit(self, before_us: int) -> int:
        """See AuditStore."""
        kept = [it for it in self._data.audit if it.at_us >= before_us]
        gone = len(self._data.audit) - len(kept)
        self._data.audit[:] = kept
        return gone

    async def close(self) -> None:
        """See Store."""


def _matches(run: Run, where: RunFilter) -> bool:
    return (
        (where.project_ids is None or run.project_id in where.project_ids)
        and (where.job_id is None or run.key.job_id == where.job_id)
        and (not where.states or run.state in where.states)
        and (not where.triggers or run.trigger in where.triggers)
        and (where.from_us is None or run.key.slot_us >= where.from_us)
        and (where.to_us is None or run.key.slot_us <= where.to_us)
        and (where.node is None or run.node == where.node)
    )
