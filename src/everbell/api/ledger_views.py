"""The ledger's tools as the API shows them."""

from __future__ import annotations

from everbell.api import views
from everbell.api.ledger_shapes import (
    BackfillOut,
    FateOut,
    FilledSlot,
    FindingOut,
    JobFateOut,
    OutageOut,
    SimulateOut,
    SkippedOut,
    SlotToldOut,
    VerifyOut,
    WhyOut,
)
from everbell.api.times import iso, iso_in
from everbell.domain.job import Job
from everbell.services.backfill import Filled
from everbell.services.explain_run import SlotTold, Why
from everbell.services.simulate import JobTold, Simulated, Told
from everbell.services.skipping import Skipped
from everbell.services.verify import Trouble, Verified, show_place


def _at(at_us: int) -> str:
    return iso(at_us) or ""


def skipped(it: Skipped) -> SkippedOut:
    """Show a skipped slot."""
    return SkippedOut(
        skipped=views.run(it.row, it.job),
        instead=None if it.run is None else views.run(it.run, it.job),
    )


def verified(it: Verified) -> VerifyOut:
    """Show a part of an account."""
    return VerifyOut(
        from_=_at(it.from_us),
        to=_at(it.to_us),
        jobs=it.jobs,
        slots=it.slots,
        states=it.states,
        unexplained=it.unexplained,
        explained=it.explained,
        findings=tuple(_finding(one) for one in it.troubles),
        next=show_place(it.place),
    )


def _finding(it: Trouble) -> FindingOut:
    found = it.finding
    return FindingOut(
        job_id=it.job.id,
        job=it.job.name,
        project_id=it.job.project_id,
        kind=found.kind,
        first=_at(found.first_us),
        last=_at(found.last_us),
        count=found.count,
        run=found.run or None,
        detail=found.detail,
        why=found.why,
    )


def why(it: Why, job: Job) -> WhyOut:
    """Show why a job ran, or not."""
    zone = (job.definition if it.version is None else it.version.definition).timezone

    def told(slot: SlotTold | None) -> SlotToldOut | None:
        if slot is None:
            return None
        run = None if slot.run is None else views.run(slot.run, job)
        local = iso_in(slot.at_us, zone)
        return SlotToldOut(at=_at(slot.at_us), local=local, words=slot.words, run=run)

    return WhyOut(
        job_id=job.id,
        job=job.name,
        timezone=zone,
        at=_at(it.at_us),
        local=iso_in(it.at_us, zone),
        verdict=it.verdict,
        facts=it.facts,
        version=None if it.version is None else it.version.version,
        slot=told(it.slot),
        before=told(it.before),
        after=told(it.after),
        beside=tuple(views.run(run, job) for run in it.runs),
    )


def filled(it: Filled, job: Job) -> BackfillOut:
    """Show what a backfill runs."""
    zone = job.definition.timezone
    return BackfillOut(
        started=it.started,
        slots=tuple(
            FilledSlot(
                at=_at(one.slot_us),
                local=iso_in(one.slot_us, zone),
                before=one.before,
                run=None if one.run is None else views.run(one.run, job),
            )
            for one in it.slots
        ),
        done=it.done,
        waiting=it.waiting,
        more=it.more,
    )


def simulated(it: Simulated, takes_s: float) -> SimulateOut:
    """Show what an outage would do."""
    return SimulateOut(
        timezone=it.zone,
        takes=takes_s,
        outages=tuple(
            OutageOut(
                from_=_at(one.from_us),
                to=_at(one.to_us),
                local_from=iso_in(one.from_us, it.zone),
                local_to=iso_in(one.to_us, it.zone),
            )
            for one in it.outages
        ),
        jobs=tuple(_job_fate(one) for one in it.jobs),
        next=None if it.after is None else str(it.after),
    )


def _job_fate(it: JobTold) -> JobFateOut:
    what = it.job.definition
    return JobFateOut(
        job_id=it.job.id,
        job=it.job.name,
        project_id=it.job.project_id,
        timezone=what.timezone,
        misfire=what.misfire.policy,
        overlap=what.overlap,
        counts=it.counts,
        fates=tuple(_fate(one, what.timezone) for one in it.fates),
        more=it.more,
        note=it.note,
    )


def _fate(it: Told, zone: str) -> FateOut:
    fate = it.fate
    return FateOut(
        slot=_at(fate.slot_us),
        local=iso_in(fate.slot_us, zone),
        what=fate.what,
        at=iso(fate.at_us),
        local_at=None if fate.at_us is None else iso_in(fate.at_us, zone),
        reason=fate.reason,
        until=iso(fate.until_us),
        count=fate.count,
        note=it.note,
    )
