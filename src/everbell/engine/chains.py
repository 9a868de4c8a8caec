"""Finds the jobs that follow a run, and the keys of their runs."""

from __future__ import annotations

import logging

from everbell.domain.chain import LINKS_MAX, follower_key, links
from everbell.domain.chain import followers as wanted
from everbell.domain.job import US, Job
from everbell.domain.run import Run, State
from everbell.ports.lookup import find_job
from everbell.ports.store import NewRun, Store

log = logging.getLogger(__name__)


async def followers(
    store: Store, run: Run, job: Job, state: State, now_us: int
) -> tuple[NewRun, ...]:
    """Return the runs to be queued with the end of ``run``; jobs that are gone are logged.

    Raises StoreUnavailable.
    """
    found = wanted(job.definition, state)
    if found and links(run.key) >= LINKS_MAX:
        log.error("the chain of run %s ends: %d runs followed one another", run.id, LINKS_MAX)
        return ()
    new: list[NewRun] = []
    for then in found:
        follower = await find_job(store, job.project_id, then.job)
        if follower is None or follower.quarantined:
            log.error("run %s: no job %r can follow %s", run.id, then.job, job.name)
            continue
        new.append(
            NewRun(
                key=follower_key(run.key, then, follower.id),
                project_id=follower.project_id,
                version=follower.version,
                trigger="chain",
                due_us=now_us + int(then.delay_s * US),
                reason=f"{state} of {run.id}",
            )
        )
    return tuple(new)
