"""What is decided about a due job, in the words that the store understands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from everbell.domain.job import Record
from everbell.domain.run import Run, RunKey, Trigger


class DueJob(Record, frozen=True):
    """A job whose cursor is due. ``active`` counts claimed and running runs, ``queued`` waiting."""

    id: int
    version: int
    project_id: int
    next_slot_us: int
    active: int
    queued: int = 0
    release_policy: Literal["", "skip", "once", "each"] = ""
    release_until_us: int = 0


class Claim(Record, frozen=True):
    """One slot to be claimed. ``max_active`` None = no limit on runs at once."""

    slot_us: int
    due_us: int
    trigger: Trigger
    max_active: int | None


class Mark(Record, frozen=True):
    """A slot, or a range of slots, decided without a run (``skipped``, ``missed``) or queued."""

    slot_us: int
    state: Literal["skipped", "missed", "queued"]
    reason: str
    trigger: Trigger = "schedule"
    until_us: int | None = None
    count: int = 1


class Instead(Record, frozen=True):
    """A run by hand at ``at_us`` that takes the place of a slot."""

    at_us: int
    trigger_id: str
    reason: str


class LeftBehind(Record, frozen=True):
    """Slots, with the cursor at ``cursor_us``, that a change of their job leaves behind, marked.

    ``instead``: a run to be queued with the same batch.
    """

    cursor_us: int
    marks: tuple[Mark, ...]
    instead: Instead | None = None


class Decision(Record, frozen=True):
    """What is to become of one due job.

    Guarded by ``version`` and ``cursor_us`` (the job as the decision saw it), by enabled, not
    parked, not quarantined and not held. Marks first, then claims, then the cursor moves to
    ``next_slot_us``. ``quarantine`` (a reason) takes the job out of service instead.
    ``clear_release`` forgets the choice that a release left.
    """

    job_id: int
    project_id: int
    version: int
    cursor_us: int
    next_slot_us: int | None
    claims: tuple[Claim, ...] = ()
    marks: tuple[Mark, ...] = ()
    clear_release: bool = False
    quarantine: str = ""


def claimed(decision: Decision, claim: Claim, node: str, now_us: int, token: int) -> Run:
    """Return the run of a slot that was won."""
    return Run(
        key=RunKey(claim.slot_us, decision.job_id),
        project_id=decision.project_id,
        version=decision.version,
        state="claimed",
        trigger=claim.trigger,
        token=token,
        node=node,
        due_us=claim.due_us,
        claimed_us=now_us,
    )


def blocked(decision: Decision, active: int, has_row: Callable[[int], object]) -> bool:
    """Return whether a claim would meet too many of ``active`` runs.

    Slots that have a row already (``has_row``) are left out, so they need no room.
    """
    claims = decision.claims
    highest = active + len(claims)
    if all(claim.max_active is None or highest <= claim.max_active for claim in claims):
        return False
    taken = {mark.slot_us for mark in decision.marks}
    for claim in claims:
        if claim.slot_us in taken or has_row(claim.slot_us):
            continue
        if claim.max_active is not None and active >= claim.max_active:
            return True
        taken.add(claim.slot_us)
        active += 1
    return False
