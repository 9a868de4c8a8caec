"""How late before its time a claim may be taken back, and when a node may start it unseen.

A change, a disable or a hold withdraws claims that lie ahead, so that their slots can be decided
anew. The node that claimed them may be another process, or asleep. Two rules, one on each side,
make sure that it never starts what was taken back:

- claims due within ``NOTICE_US`` of the change are left alone: they start, at most that late;
- a node starts a claim only if it looked at the store's changes within ``NOTICE_US`` (less what
  clocks may differ) before it was due, or later; else it looks first.
"""

from __future__ import annotations

from typing import NamedTuple

from everbell.domain.run import Run

NOTICE_US = 300_000
"""Claims due sooner than this after a change start nevertheless (microseconds)."""
CLOCKS_US = 100_000
"""How far the clocks of two nodes may differ (microseconds)."""


class Moment(NamedTuple):
    """An instant by both clocks of a node, in microseconds."""

    wall_us: int
    monotonic_us: int


def may_withdraw(run: Run, now_us: int) -> bool:
    """Return whether a change at ``now_us`` may take this claim back.

    A slot that was due when it was claimed started at once, whatever a clock that was set back says
    now, also if its node died since.
    """
    ahead = bool(run.key.trigger_id) or run.claimed_us is None or run.claimed_us < run.due_us
    waits = run.state == "claimed" and run.attempt == 1
    return waits and ahead and run.due_us > now_us + NOTICE_US


def may_cancel(run: Run, now_us: int) -> bool:
    """Return whether a cancel ends the run at once; else its node is asked to end it."""
    return run.state == "queued" or (run.state == "claimed" and run.due_us > now_us + NOTICE_US)


def surely_claimed(run: Run, held_since_us: int, look: Moment, now: Moment) -> bool:
    """Return whether nobody can have withdrawn or cancelled a claim since ``look``.

    ``held_since_us`` (monotonic): when the node learned that the claim is its own. The wall clock
    may have been set since the look, so that its age is bounded by the monotonic one too.
    """
    sure_from_us = run.due_us - NOTICE_US + CLOCKS_US
    if run.claimed_us is not None and run.claimed_us >= sure_from_us:
        return True
    age_us = now.monotonic_us - look.monotonic_us
    recent = age_us <= NOTICE_US - CLOCKS_US + max(now.wall_us - run.due_us, 0)
    return recent and look.wall_us >= sure_from_us and look.monotonic_us >= held_since_us
