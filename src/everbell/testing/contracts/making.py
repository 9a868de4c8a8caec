"""Short ways to make what the contract's tests talk about."""

from __future__ import annotations

from typing import Any, Literal

from msgspec.structs import replace

from everbell.domain.decision import Claim, Decision, Mark
from everbell.domain.job import CommandAction, Definition, Job
from everbell.domain.records import Credential, Hold, Node, Project
from everbell.domain.run import Run, RunKey, Trigger
from everbell.ports.store import Finish, NewJob, NewRun, Page, Store

NOW = 1_763_712_000_000_000
SEC = 1_000_000
_PAGE = Page()


def project(name: str = "p") -> Project:
    """Return a project to be added."""
    return Project(
        id=0, uuid=f"uuid-{name}", name=name, description="d", created_us=NOW, updated_us=NOW
    )


def credential(name: str = "c", **values: Any) -> Credential:
    """Return a credential to be added."""
    base = Credential(
        id=0,
        uuid=f"uuid-{name}",
        name=name,
        api_key=f"key-{name}",
        secret_hash="hash",
        scopes=("read", "run"),
        project_id=None,
        created_us=NOW,
    )
    return replace(base, **values)


def definition(name: str = "job", **values: Any) -> Definition:
    """Return a definition."""
    return Definition(name=name, action=CommandAction(argv=("true",)), **values)


def new_job(
    name: str = "job", project_id: int = 1, *, cursor: int | None = NOW, **values: Any
) -> NewJob:
    """Return a job to be added."""
    return NewJob(
        uuid=f"uuid-{name}-{project_id}",
        project_id=project_id,
        definition=definition(name, **values),
        next_slot_us=cursor,
    )


async def add_jobs(store: Store, *jobs: NewJob) -> list[Job]:
    """Add jobs, and the first project if there is none."""
    _, total = await store.list_projects(None, _PAGE)
    if not total:
        await store.add_project(project())
    return await store.add_jobs(jobs, NOW)


async def add_job(
    store: Store, name: str = "job", *, cursor: int | None = NOW, **values: Any
) -> Job:
    """Add one job."""
    return (await add_jobs(store, new_job(name, cursor=cursor, **values)))[0]


def claim(slot_us: int, max_active: int | None = None) -> Claim:
    """Return a claim of a slot, due at that slot."""
    return Claim(slot_us=slot_us, due_us=slot_us, trigger="schedule", max_active=max_active)


def mark(
    slot_us: int, state: Literal["skipped", "missed", "queued"], reason: str = "because"
) -> Mark:
    """Return a mark of one slot."""
    return Mark(slot_us=slot_us, state=state, reason=reason)


def decision(job: Job, *, next_us: int | None = None, **values: Any) -> Decision:
    """Return a decision about a job as it is; without claims or marks it claims the cursor."""
    cursor = job.next_slot_us or 0
    if not values.keys() & {"claims", "marks", "quarantine"}:
        values["claims"] = (claim(cursor),)
    return Decision(
        job_id=job.id,
        project_id=job.project_id,
        version=job.version,
        cursor_us=cursor,
        next_slot_us=cursor + 60 * SEC if next_us is None else next_us,
        **values,
    )


async def claimed(store: Store, job: Job, node: str = "n1", now_us: int = NOW) -> Run:
    """Claim the slot at the job's cursor."""
    [answer] = await store.decide(node, [decision(await store.get_job(job.id))], now_us)
    return answer.runs[0]


def new_run(job: Job, name: str = "m1", *, trigger: Trigger = "manual", due: int = NOW) -> NewRun:
    """Return a run that no slot plans."""
    return NewRun(
        key=RunKey(NOW, job.id, name),
        project_id=job.project_id,
        version=job.version,
        trigger=trigger,
        due_us=due,
        reason="by hand",
    )


def end(run: Run, **values: Any) -> Finish:
    """Return the end of a run's attempt; it succeeded unless said otherwise."""
    base = Finish(run=run, state="succeeded", started_us=NOW + 1, finished_us=NOW + 2, code=0)
    return replace(base, **values)


def hold(scope: Literal["all", "project", "job"] = "all", target_id: int = 0) -> Hold:
    """Return a hold to be added."""
    return Hold(id=0, scope=scope, target_id=target_id, reason="why", who="me", created_us=NOW)


def node(name: str = "n1", *, lease: int = NOW + 10 * SEC, **values: Any) -> Node:
    """Return a node whose id is its name."""
    base = Node(
        id=name,
        name=name,
        host="host",
        pid=7,
        version="1.0",
        started_us=NOW,
        heartbeat_us=NOW,
        lease_until_us=lease,
        state="up",
        workers=4,
        running=1,
        queued=2,
        rss_bytes=3,
        cpu_percent=4.5,
    )
    return replace(base, **values)
