"""What a run becomes at its end: the same in every engine that keeps it in rows."""

from __future__ import annotations

from everbell.domain.run import Run
from everbell.ports.store import Finish


def ended(
    it: Finish, started_us: int | None, reason: str, error: str, *, cancel_requested: bool = False
) -> Run:
    """Return the run as it is at its end.

    Under its token a claim's other columns never change: they need not be read again.
    """
    run = it.run
    return Run(
        key=run.key,
        project_id=run.project_id,
        version=run.version,
        state=it.state,
        trigger=run.trigger,
        reason=reason,
        attempt=run.attempt,
        token=run.token,
        node=run.node,
        due_us=run.due_us,
        claimed_us=run.claimed_us,
        started_us=started_us,
        finished_us=it.finished_us,
        code=it.code,
        error=error,
        output_bytes=it.output_bytes,
        truncated=it.truncated,
        until_us=run.until_us,
        count=run.count,
        cancel_requested=cancel_requested,
        crashes=run.crashes,
    )
