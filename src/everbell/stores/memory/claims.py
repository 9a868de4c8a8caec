"""What is due, and who gets it, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from everbell.domain.decision import Claim, Decision, DueJob
from everbell.domain.errors import no_such
from everbell.domain.job import Job
from everbell.domain.placement import shard_of
from everbell.domain.run import PLANNED, WAITS, Run, RunKey
from everbell.ports.store import Decided, NewRun, Share
from everbell.stores.memory.data import Data
from everbell.stores.memory.definitions import MemoryDefinitions
from everbell.stores.memory.limits import has_room


class MemoryClaims(MemoryDefinitions):
    """Implements the deciding half of RunStore; the obligations are written there."""

    async def due(self, until_us: int, limit: int, share: Share | None = None) -> list[DueJob]:
        """See RunStore."""
        data = self._data
        waits_us = _waiting(share)
        found = [
            DueJob(
                id=job.id,
                version=job.version,
                project_id=job.project_id,
                next_slot_us=job.next_slot_us,
                active=data.active(job.id),
                queued=sum(run.state == "queued" for run in data.unfinished_of(job.id)),
                release_policy=job.release_policy,
                release_until_us=job.release_until_us,
            )
            for job in data.jobs.values()
            if job.next_slot_us is not None
            and job.next_slot_us + waits_us(job.id) <= until_us
            and data.plannable(job)
        ]
        return sorted(found, key=lambda job: (job.next_slot_us, job.id))[:limit]

    async def next_due_us(self, share: Share | None = None, *, queued: bool = True) -> int | None:
        """See RunStore."""
        data = self._data
        waits_us = _waiting(share)
        planned = [
            job.next_slot_us + waits_us(job.id)
            for job in data.jobs.values()
            if job.next_slot_us is not None and data.plannable(job)
        ]
        waiting = [run.due_us for run, _ in self._takeable()] if queued else []
        return min(planned + waiting, default=None)

    def _takeable(self) -> Iterator[tuple[Run, Job]]:
        data = self._data
        for run in data.unfinished():
            job = data.jobs[run.key.job_id]
            begun = run.trigger == "manual" or run.attempt > 1
            serves = begun or (job.enabled and not job.parked)
            if run.state == "queued" and serves and not job.quarantined and not data.held(job):
                yield run, job

    async def decide(self, node: str, decisions: Sequence[Decision], now_us: int) -> list[Decided]:
        """See RunStore."""
        return [_decide(self._data, node, decision, now_us) for decision in decisions]

    async def enqueue(self, run: NewRun, now_us: int) -> Run:  # noqa: ARG002
        """See RunStore."""
        data = self._data
        if run.key.job_id not in data.jobs:
            raise no_such("job", run.key.job_id)
        return data.enqueue(run)

    async def take_queued(
        self, node: str, now_us: int, limit: int, keys: Sequence[RunKey] | None = None
    ) -> list[Run]:
        """See RunStore."""
        data = self._data
        only = None if keys is None else set(keys)
        waiting = [
            pair
            for pair in self._takeable()
            if pair[0].due_us <= now_us and (only is None or pair[0].key in only)
        ]
        taken: list[Run] = []
        for run, job in sorted(waiting, key=lambda pair: (pair[0].due_us, pair[0].key)):
            bounded = job.definition.overlap != "allow"
            if bounded and data.active(job.id) >= job.definition.max_running:
                continue
            if not has_room(data, job):
                continue
            if len(taken) == limit:
                break
            waited = run.trigger in PLANNED and run.reason in WAITS
            claimed = replace(
                run,
                state="claimed",
                node=node,
                token=data.next_token(),
                claimed_us=now_us,
                version=job.version,
                reason="" if waited else run.reason,
            )
            taken.append(data.put(claimed))
        return taken


def _waiting(share: Share | None) -> Callable[[int], int]:
    """Return how much later (us) than its slot a job, by its id, counts as due."""
    if share is None:
        return lambda _: 0
    own, behind_us = set(share.shards), share.behind_us
    return lambda job_id: 0 if shard_of(job_id) in own else behind_us


def _decide(data: Data, node: str, decision: Decision, now_us: int) -> Decided:
    job = data.jobs.get(decision.job_id)
    if (
        job is None
        or (job.version, job.next_slot_us) != (decision.version, decision.cursor_us)
        or not data.plannable(job)
    ):
        return Decided(outcome="stale")
    if decision.quarantine:
        data.jobs[job.id] = replace(job, quarantined=decision.quarantine, updated_us=now_us)
        return Decided(outcome="done")
    if _blocked(data, decision):
        return Decided(outcome="blocked")
    if data.overlaps(job.id, decision.marks):
        return Decided(outcome="overlaps")
    for mark in decision.marks:
        data.mark(job, decision.version, mark, now_us)
    runs = [_claim(data, node, decision, claim, now_us) for claim in decision.claims]
    job = replace(data.jobs[job.id], next_slot_us=decision.next_slot_us)
    if decision.clear_release:
        job = replace(job, release_policy="", release_until_us=0)
    data.jobs[job.id] = job
    return Decided(outcome="done", runs=tuple(run for run in runs if run is not None))


def _blocked(data: Data, decision: Decision) -> bool:
    active = data.active(decision.job_id)
    known = data.of_job(decision.job_id)
    taken = {mark.slot_us for mark in decision.marks}
    for claim in decision.claims:
        if claim.slot_us in taken or RunKey(claim.slot_us, decision.job_id) in known:
            continue
        if claim.max_active is not None and active >= claim.max_active:
            return True
        taken.add(claim.slot_us)
        active += 1
    return False


def _claim(data: Data, node: str, decision: Decision, claim: Claim, now_us: int) -> Run | None:
    key = RunKey(claim.slot_us, decision.job_id)
    if data.run(key) is not None:
        return None
    return data.put(
        Run(
            key=key,
            project_id=decision.project_id,
            version=decision.version,
            state="claimed",
            trigger=claim.trigger,
            token=data.next_token(),
            node=node,
            due_us=claim.due_us,
            claimed_us=now_us,
        )
    )
