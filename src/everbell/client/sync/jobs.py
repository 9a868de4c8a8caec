# Generated from everbell/client/aio by scripts/gen_client.py; change that instead.
"""Jobs and schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, overload

from everbell.client.records import (
    Backfill,
    Hold,
    Job,
    Plan,
    Preview,
    Project,
    Run,
    Simulation,
    Skipped,
    Slot,
    Why,
)
from everbell.client.shapes import Dst, JobIn, JobPatch, Key
from everbell.client.sync.core import Core, Pages
from everbell.client.wire import Ask, given

JobRef = Key | Job
"""An id, a uuid, a name (with ``project``, where it is not unique), or the job's record."""

ProjectRef = Key | Project


class Jobs:
    """``client.jobs``. ``if_match`` is the ``etag`` of the job that a change is meant for."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @overload
    def create(
        self, job: JobIn | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Job: ...

    @overload
    def create(
        self, job: Sequence[JobIn | Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[Job]: ...

    def create(
        self,
        job: JobIn | Mapping[str, Any] | Sequence[JobIn | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> Job | list[Job]:
        """Store one job, or all jobs of a list, or none.

        Repetitions after a broken connection make no second job. A program that may be started
        again gives its own ``idempotency_key``, so that not even that makes one.
        """
        ask = Ask("jobs_create", body=job, idempotency_key=idempotency_key)
        if isinstance(job, JobIn | Mapping):
            return self._core.data(ask, Job)
        return self._core.data(ask, list[Job])

    def apply(
        self,
        jobs: Sequence[JobIn | Mapping[str, Any]],
        *,
        owner: str | None = None,
        project: ProjectRef | None = None,
        prune: bool | None = None,
        take_over: bool | None = None,
        plan: bool | None = None,
        days: int | None = None,
    ) -> Plan:
        """Make the jobs of an owner what they should be; the same again changes nothing.

        ``prune`` removes the owner's other jobs. ``plan`` only tells what would be done, with the
        fire times of the next ``days``.
        """
        body = given(
            jobs=jobs,
            owner=owner,
            project=project,
            prune=prune,
            take_over=take_over,
            plan=plan,
            days=days,
        )
        return self._core.data(Ask("jobs_apply", body=body), Plan)

    def list(
        self,
        *,
        project: ProjectRef | None = None,
        name: str | None = None,
        search: str | None = None,
        enabled: bool | None = None,
        parked: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Pages[Job]:
        """List jobs in order of id; ``limit`` is the size of a page."""
        query = {
            "project": project,
            "name": name,
            "search": search,
            "enabled": enabled,
            "parked": parked,
            "limit": limit,
            "offset": offset,
        }
        return Pages(self._core, Ask("jobs_list", query=query), Job)

    def get(self, job: JobRef, *, project: ProjectRef | None = None) -> Job:
        """Return a job by id, uuid or name. Raises NotFound."""
        return self._core.data(Ask("jobs_get", job, {"project": project}), Job)

    def replace(
        self,
        job: JobRef,
        new: JobIn | Job | Mapping[str, Any],
        *,
        project: ProjectRef | None = None,
        if_match: str | None = None,
    ) -> Job:
        """Replace a job's definition: what is not given gets its default. Raises VersionMismatch.

        ``enabled`` stays unless it is given. A ``Job`` may be sent back as it was shown.
        """
        ask = Ask("jobs_replace", job, {"project": project}, new, if_match)
        return self._core.data(ask, Job)

    def change(
        self,
        job: JobRef,
        patch: JobPatch | Mapping[str, Any],
        *,
        project: ProjectRef | None = None,
        if_match: str | None = None,
    ) -> Job:
        """Change what is given, keep the rest. Raises VersionMismatch."""
        ask = Ask("jobs_change", job, {"project": project}, patch, if_match)
        return self._core.data(ask, Job)

    def delete(
        self, job: JobRef, *, project: ProjectRef | None = None, if_match: str | None = None
    ) -> None:
        """Delete a job with its runs. Raises NotFound, VersionMismatch."""
        ask = Ask("jobs_delete", job, {"project": project}, if_match=if_match)
        self._core.nothing(ask)

    def enable(
        self, job: JobRef, *, project: ProjectRef | None = None, if_match: str | None = None
    ) -> Job:
        """Let a job run again, from now on."""
        ask = Ask("jobs_enable", job, {"project": project}, if_match=if_match)
        return self._core.data(ask, Job)

    def disable(
        self, job: JobRef, *, project: ProjectRef | None = None, if_match: str | None = None
    ) -> Job:
        """Plan nothing for a job until it is enabled."""
        ask = Ask("jobs_disable", job, {"project": project}, if_match=if_match)
        return self._core.data(ask, Job)

    def resolve(
        self, job: JobRef, *, project: ProjectRef | None = None, if_match: str | None = None
    ) -> Job:
        """Put a parked or quarantined job back to work."""
        ask = Ask("jobs_resolve", job, {"project": project}, if_match=if_match)
        return self._core.data(ask, Job)

    def skip_next(
        self,
        job: JobRef,
        *,
        slot: datetime | str | None = None,
        reason: str = "",
        project: ProjectRef | None = None,
        if_match: str | None = None,
    ) -> Skipped:
        """Decide that the next slot, or a coming ``slot``, does not run."""
        body = given(slot=slot, reason=reason)
        ask = Ask("jobs_skip_next", job, {"project": project}, body, if_match)
        return self._core.data(ask, Skipped)

    def run_instead(
        self,
        job: JobRef,
        *,
        slot: datetime | str | None = None,
        at: datetime | str | None = None,
        reason: str = "",
        project: ProjectRef | None = None,
        if_match: str | None = None,
    ) -> Skipped:
        """Skip the next slot, or ``slot``, and run now, or at another time, in its place."""
        body = given(slot=slot, at=at, reason=reason)
        ask = Ask("jobs_run_instead", job, {"project": project}, body, if_match)
        return self._core.data(ask, Skipped)

    def hold(
        self,
        job: JobRef,
        *,
        reason: str = "",
        until: datetime | str | None = None,
        then: str | None = None,
        project: ProjectRef | None = None,
    ) -> Hold:
        """Start nothing new of a job until the hold is released, or until a time.

        ``then`` decides on the slots that passed by that time: once, each or skip.
        """
        body = given(reason=reason, until=until, then=then)
        return self._core.data(Ask("jobs_hold", job, {"project": project}, body), Hold)

    def next(
        self, job: JobRef, *, n: int | None = None, project: ProjectRef | None = None
    ) -> Sequence[Slot]:
        """Return the job's next planned instants."""
        ask = Ask("jobs_next", job, {"project": project, "n": n})
        return self._core.data(ask, tuple[Slot, ...])

    def why(
        self,
        job: JobRef,
        *,
        at: datetime | str | None = None,
        project: ProjectRef | None = None,
    ) -> Why:
        """Tell why a job ran, or not, at a time (now)."""
        ask = Ask("jobs_why", job, {"project": project, "at": at})
        return self._core.data(ask, Why)

    def backfill(
        self,
        job: JobRef,
        *,
        start: datetime | str,
        end: datetime | str,
        max: int | None = None,  # noqa: A002 - the name that the API has
        dry_run: bool | None = None,
        reason: str = "",
        project: ProjectRef | None = None,
    ) -> Backfill:
        """Run the slots from ``start`` to ``end`` that have no successful run, at most ``max``.

        ``dry_run`` only tells which. Raises Conflict for a job that may not run now.
        """
        body = given(max=max, dry_run=dry_run, reason=reason) | {"from": start, "to": end}
        ask = Ask("jobs_backfill", job, {"project": project}, body)
        return self._core.data(ask, Backfill)

    def simulate(
        self,
        down: str,
        *,
        date: date | str,
        zone: str | None = None,
        job: JobRef | None = None,
        project: ProjectRef | None = None,
        takes: int | None = None,
        limit: int | None = None,
        cursor: int | str | None = None,
    ) -> Simulation:
        """Tell what an outage would do: ``down`` is local times of a day, ``"02:00-05:00"``.

        ``takes`` is how long each run lasts, in seconds. Nothing is stored. While the answer's
        ``next`` is not None, there is more: ask again with that as ``cursor``.
        """
        query = {
            "down": down,
            "date": date,
            "zone": zone,
            "job": job,
            "project": project,
            "takes": takes,
            "limit": limit,
            "cursor": cursor,
        }
        return self._core.data(Ask("simulate", query=query), Simulation)

    def run(
        self,
        job: JobRef,
        *,
        reason: str = "",
        project: ProjectRef | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Run a job now, whatever its schedule; repetitions start no second run."""
        ask = Ask(
            "jobs_run",
            job,
            {"project": project},
            {"reason": reason},
            idempotency_key=idempotency_key,
        )
        return self._core.data(ask, Run)


class Schedules:
    """``client.schedules``."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def preview(
        self,
        schedule: str,
        *,
        timezone: str | None = None,
        n: int | None = None,
        after: datetime | str | None = None,
        start_at: datetime | str | None = None,
        end_at: datetime | str | None = None,
        exclude: Sequence[str] | None = None,
        dst: Dst | None = None,
        week_start: str | None = None,
    ) -> Preview:
        """Explain a schedule: words, the next ``n`` slots, warnings. Raises InvalidSchedule."""
        body = given(
            schedule=schedule,
            timezone=timezone,
            n=n,
            after=after,
            start_at=start_at,
            end_at=end_at,
            exclude=exclude,
            dst=dst,
            week_start=week_start,
        )
        return self._core.data(Ask("schedules_preview", body=body), Preview)
