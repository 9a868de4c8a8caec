"""What goes in and out of the ledger's tools."""

from __future__ import annotations

from everbell.api.schemas import In, Out, Reason, RunOut, TimeIn


class SkipIn(In, frozen=True, kw_only=True):
    """Which coming slot does not run (the next one), and why."""

    slot: TimeIn | None = None
    reason: Reason = ""


class InsteadIn(In, frozen=True, kw_only=True):
    """Which coming slot does not run (the next one), when it runs instead (now), and why."""

    slot: TimeIn | None = None
    at: TimeIn | None = None
    reason: Reason = ""


class SkippedOut(Out, frozen=True, kw_only=True):
    """The row of a slot that a person skipped, and the run in its place."""

    skipped: RunOut
    instead: RunOut | None
