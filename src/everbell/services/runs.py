"""Runs: started by hand, cancelled, retried, read."""

from __future__ import annotations

import msgspec

from everbell.domain.errors import ConflictError, NotFoundError
from everbell.domain.job import Job
from everbell.domain.run import FINAL, Attempt, Run, RunKey, Trigger
from everbell.ports.observer import Change
from everbell.ports.store import NewRun, OutputChunk, RunFilter
from everbell.services.audit import noted
from everbell.services.context import LOCAL, Actor, Services, missing
from everbell.services.ids import short_id


async def trigger(
    services: Services,
    job: Job,
    key: RunKey | None = None,
    *,
    kind: Trigger = "manual",
    reason: str = "",
    actor: Actor = LOCAL,
) -> Run:
    """Queue a run of the job now. The same ``key`` again starts nothing twice.

    Raises ConflictError for a quarantined job: no node would take the run.
    """
    if job.quarantined:
        raise ConflictError(
            f"job {job.id} is quarantined: {job.quarantined}",
            hint=f"mend its definition, then POST /jobs/{job.id}/resolve",
        )
    now_us = services.clock.now_us()
    key = key or RunKey(now_us, job.id, short_id(services.entropy))
    what = "run.retry" if reason.startswith("retry of ") else "run.start"
    run = await noted(services, actor, what).enqueue(
        NewRun(
            key=key,
            project_id=job.project_id,
            version=job.version,
            trigger=kind,
            due_us=key.slot_us,
            reason=reason,
        ),
        now_us,
    )
    services.hints.changed(Change())
    return run


async def retry(services: Services, actor: Actor, run_id: str) -> Run:
    """Run again what a final run did, as a new run. Raises NotFoundError, ConflictError."""
    run = await get(services, actor, run_id)
    if run.state not in FINAL:
        raise ConflictError(
            f"run {run.id} is {run.state}, not final", hint="cancel it first, or wait for its end"
        )
    job = await services.store.get_job(run.key.job_id)
    # A retry waits while its job is disabled or parked; what a person asks for by hand does not.
    kind: Trigger = "retry" if job.enabled and not job.parked else "manual"
    return await trigger(services, job, kind=kind, reason=f"retry of {run.id}", actor=actor)


async def cancel(services: Services, actor: Actor, run_id: str) -> Run:
    """Ask for the end of a run. Raises NotFoundError, ConflictError when it has ended."""
    run = await get(services, actor, run_id)
    if run.state == "cancelled":
        return run
    if run.state not in FINAL:
        store = noted(services, actor, "run.cancel")
        run = await store.request_cancel(run.key, services.clock.now_us())
        services.hints.changed(Change(cancelled=(run.key,)))
    if run.state in FINAL and run.state != "cancelled":
        raise ConflictError(f"run {run.id} has ended already: {run.state}")
    return run


async def get(services: Services, actor: Actor, run_id: str) -> Run:
    """Return a run by its public id. Raises NotFoundError."""
    try:
        run = await services.store.get_run(RunKey.parse(run_id))
    except NotFoundError:
        raise missing("run", run_id) from None
    if not actor.sees(run.project_id):
        raise missing("run", run_id)
    return run


async def attempts(services: Services, run: Run) -> list[Attempt]:
    """Return the earlier attempts of a run, first to last."""
    return await services.store.attempts(run.key)


async def list_all(
    services: Services, actor: Actor, where: RunFilter, limit: int, before: RunKey | None = None
) -> list[Run]:
    """Return the actor's runs that match, newest slot first."""
    if actor.project_id is not None:
        where = msgspec.structs.replace(where, project_ids=(actor.project_id,))
    return await services.store.list_runs(where, limit, before)


async def output(
    services: Services, run: Run, attempt: int, offset: int, limit_bytes: int = 262_144
) -> list[OutputChunk]:
    """Return part of an attempt's output, from a byte offset on."""
    return await services.store.read_output(run.key, attempt, offset, limit_bytes)
