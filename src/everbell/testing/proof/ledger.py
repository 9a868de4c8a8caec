"""Reads the product's account of what happened, whole, through the store's port."""

from __future__ import annotations

from everbell.ports.store import JobFilter, Page, RunFilter, Store
from everbell.testing.proof.checker import Ledger


async def read_ledger(store: Store, now_us: int) -> Ledger:
    """Return all that the store has."""
    rows = []
    before = None
    while True:
        page = await store.list_runs(RunFilter(), 1000, before)
        rows += page
        if len(page) < 1000:
            break
        before = page[-1].key
    jobs, _ = await store.list_jobs(JobFilter(), Page(limit=10_000))
    return Ledger(
        rows=rows,
        jobs=jobs,
        versions={job.id: await store.job_versions(job.id) for job in jobs},
        attempts={row.key: await store.attempts(row.key) for row in rows if row.attempt > 1},
        read_us=now_us,
    )
