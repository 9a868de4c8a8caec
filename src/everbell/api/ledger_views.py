"""The ledger's tools as the API shows them."""

from __future__ import annotations

from everbell.api import views
from everbell.api.ledger_shapes import FindingOut, SkippedOut, VerifyOut
from everbell.api.times import iso
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
