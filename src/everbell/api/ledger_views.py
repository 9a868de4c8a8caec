"""The ledger's tools as the API shows them."""

from __future__ import annotations

from everbell.api import views
from everbell.api.ledger_shapes import FindingOut, SkippedOut, SlotToldOut, VerifyOut, WhyOut
from everbell.api.times import iso, iso_in
from everbell.domain.job import Job
from everbell.services.explain_run import SlotTold, Why
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
