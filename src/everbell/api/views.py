"""Records as the API shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from everbell.api.job_input import in_outside_names
from everbell.api.schemas import (
    AttemptOut,
    AuditOut,
    ClockChangeOut,
    CredentialOut,
    HoldOut,
    JobOut,
    PreviewOut,
    ProjectOut,
    RunOut,
    SlotOut,
)
from everbell.api.schemas_cluster import ClusterOut, NodeOut
from everbell.api.times import iso, iso_in
from everbell.domain.audit import AuditEntry
from everbell.domain.job import HttpAction, Job
from everbell.domain.records import Credential, Hold, Project
from everbell.domain.run import Attempt, Run
from everbell.domain.schedule.explain import Slot
from everbell.services.context import Services
from everbell.services.nodes import Member, Survey
from everbell.services.preview import Preview
from everbell.services.projects import by_ids

_EVERY = re.compile(r"@every ((?:\d+(?:\.\d+)?(?:h|ms|m|s))+)\Z")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _at(at_us: int) -> str:
    return iso(at_us) or ""


def project(it: Project) -> ProjectOut:
    """Show a project."""
    return ProjectOut(
        id=it.id,
        uuid=it.uuid,
        name=it.name,
        description=it.description,
        created_at=_at(it.created_us),
        updated_at=_at(it.updated_us),
    )


def credential(it: Credential, secret: str | None = None) -> CredentialOut:
    """Show a credential; with its secret only right after it was made."""
    return CredentialOut(
        id=it.id,
        uuid=it.uuid,
        name=it.name,
        api_key=it.api_key,
        scopes=it.scopes,
        project_id=it.project_id,
        archived=it.archived,
        created_at=_at(it.created_us),
        expires_at=iso(it.expires_us),
        old_secret_until=iso(it.old_until_us) if it.old_hash else None,
        api_secret=msgspec.UNSET if secret is None else secret,
    )


def slot(it: Slot, zone: str) -> SlotOut:
    """Show a planned instant in a zone."""
    return SlotOut(at=_at(it.at_us), local=iso_in(it.at_us, zone), mark=it.mark, note=it.note)


def explained(schedule: str, seen: Preview) -> PreviewOut:
    """Show a schedule's explanation."""
    it, zone = seen.explained, seen.timezone
    return PreviewOut(
        schedule=schedule,
        timezone=zone,
        description=it.words,
        warnings=it.warnings,
        next=tuple(slot(one, zone) for one in it.slots),
        excluded=tuple(slot(one, zone) for one in it.excluded),
        clock_changes=tuple(
            ClockChangeOut(
                at=_at(one.at_us),
                local=iso_in(one.at_us, zone),
                before=one.before_s,
                after=one.after_s,
                note=one.note,
            )
            for one in it.changes
        ),
    )


def frequency(schedule: str | None) -> float | msgspec.UnsetType:
    """Return the seconds of an ``@every`` schedule."""
    found = _EVERY.match(schedule or "")
    if not found:
        return msgspec.UNSET
    return sum(float(n) * _UNIT_S[unit] for n, unit in _PART.findall(found.group(1)))


async def jobs(services: Services, stored: Sequence[Job]) -> list[JobOut]:
    """Show jobs, with their projects and what they did last."""
    owners = await by_ids(services, {one.project_id for one in stored})
    last = await services.store.last_runs([one.id for one in stored]) if stored else {}
    return [
        _job(one, owners.get(one.project_id), *last.get(one.id, (None, None))) for one in stored
    ]


def _job(it: Job, owner: Project | None, last: Run | None, skipped: Run | None) -> JobOut:
    what = it.definition
    return JobOut(
        id=it.id,
        uuid=it.uuid,
        project_id=it.project_id,
        project_uuid=owner.uuid if owner else "",
        project=owner.name if owner else "",
        **in_outside_names(it),
        spec=what.schedule,
        parked=it.parked,
        quarantined=it.quarantined,
        failures=it.failures,
        version=it.version,
        next_run=iso(it.next_slot_us) if it.enabled else None,
        last_run=iso(last.started_us or last.key.slot_us) if last else None,
        last_status=last.state if last else None,
        last_skipped=iso(skipped.key.slot_us) if skipped else None,
        created_at=_at(it.created_us),
        startdate=_at(it.created_us),
        updated_at=_at(it.updated_us),
        callback_url=what.action.url if isinstance(what.action, HttpAction) else msgspec.UNSET,
        frequency=frequency(what.schedule),
    )


async def runs(services: Services, stored: Sequence[Run]) -> list[RunOut]:
    """Show runs, with the names of their jobs."""
    ids = sorted({one.key.job_id for one in stored})
    owners = {job.id: job for job in await services.store.get_jobs(ids)} if ids else {}
    return [run(one, owners.get(one.key.job_id)) for one in stored]


def run(it: Run, job: Job | None, attempts: Sequence[Attempt] | None = None) -> RunOut:
    """Show a run; with its earlier attempts if they are given."""
    return RunOut(
        id=it.id,
        job_id=it.key.job_id,
        job_uuid=job.uuid if job else "",
        job=job.name if job else "",
        project_id=it.project_id,
        slot=_at(it.key.slot_us),
        trigger=it.trigger,
        state=it.state,
        reason=it.reason,
        attempt=it.attempt,
        token=it.token,
        node=it.node,
        due_at=_at(it.due_us),
        claimed_at=iso(it.claimed_us),
        started_at=iso(it.started_us),
        finished_at=iso(it.finished_us),
        duration_ms=_milliseconds(it.started_us, it.finished_us),
        lateness_ms=_milliseconds(_planned(it), it.started_us),
        code=it.code,
        error=it.error,
        output_bytes=it.output_bytes,
        truncated=it.truncated,
        until=iso(it.until_us),
        count=it.count,
        cancel_requested=it.cancel_requested,
        attempts=msgspec.UNSET if attempts is None else tuple(_attempt(one) for one in attempts),
    )


def _planned(it: Run) -> int:
    """Return when this attempt should have started: a retry has its own due time."""
    return it.due_us if it.attempt > 1 and it.due_us else it.key.slot_us


def _milliseconds(start_us: int | None, end_us: int | None) -> float | None:
    if start_us is None or end_us is None:
        return None
    return (end_us - start_us) / 1000


def _attempt(it: Attempt) -> AttemptOut:
    return AttemptOut(
        attempt=it.attempt,
        token=it.token,
        node=it.node,
        state=it.state,
        started_at=iso(it.started_us),
        finished_at=iso(it.finished_us),
        code=it.code,
        error=it.error,
    )


def hold(it: Hold) -> HoldOut:
    """Show a hold."""
    return HoldOut(
        id=it.id,
        scope=it.scope,
        target_id=it.target_id,
        reason=it.reason,
        who=it.who,
        created_at=_at(it.created_us),
        until=iso(it.until_us),
        then=it.then if it.until_us is not None else None,
    )


def audit(it: AuditEntry) -> AuditOut:
    """Show an entry of the audit log."""
    return AuditOut(
        id=it.id,
        at=_at(it.at_us),
        who=it.who,
        credential_id=it.credential_id or None,
        address=it.address,
        request_id=it.request_id,
        what=it.what,
        kind=it.kind,
        target=it.target,
        project_id=it.project_id,
        before=it.before,
        after=it.after,
    )


def node(it: Member) -> NodeOut:
    """Show a node."""
    node = it.node
    return NodeOut(
        id=node.id,
        name=node.name,
        host=node.host,
        pid=node.pid,
        version=node.version,
        state=node.state,
        started_at=_at(node.started_us),
        heartbeat_at=_at(node.heartbeat_us),
        lease_until=_at(node.lease_until_us),
        workers=node.workers,
        running=node.running,
        queued=node.queued,
        rss_bytes=node.rss_bytes,
        cpu_percent=node.cpu_percent,
        address=node.address,
        reason=node.reason,
        drained=node.drained,
        roles=node.roles,
        shards=it.shards,
        load=it.load,
        cores=node.cores,
        machine_cpu=node.machine_cpu,
        memory_total_bytes=node.memory_total_bytes,
        memory_free_bytes=node.memory_free_bytes,
        clock_offset_s=node.clock_offset_s,
        tzdata=node.tzdata,
        schema=node.schema,
        notes=it.notes,
    )


def cluster(it: Survey) -> ClusterOut:
    """Show how the work is spread."""
    return ClusterOut(
        epoch=it.epoch,
        nodes_alive=it.alive,
        shards=it.shards,
        dealt=it.dealt,
        load=it.load,
        load_ratio=it.ratio,
    )
