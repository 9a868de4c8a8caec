# Generated from everbell/client/aio by scripts/gen_client.py; change that instead.
"""Runs, their output, holds and limits."""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import closing
from datetime import datetime

from everbell.client.errors import WaitTimeout
from everbell.client.records import End, Hold, Limit, Output, Run, Verification
from everbell.client.sync.core import Core, Pages
from everbell.client.sync.jobs import JobRef, ProjectRef
from everbell.client.wire import Ask, given

RunRef = str | Run
FIRST_LOOK_S = 0.05
LAST_LOOK_S = 1.0


class Runs:
    """``client.runs``."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def list(
        self,
        *,
        job: JobRef | None = None,
        project: ProjectRef | None = None,
        state: str | Collection[str] | None = None,
        trigger: str | Collection[str] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        node: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pages[Run]:
        """List runs, newest slot first; ``start`` and ``end`` are the first and the last slot.

        ``limit`` is the size of a page, ``cursor`` the ``next`` of an earlier page.
        """
        query = {
            "job": job,
            "project": project,
            "state": _words(state),
            "trigger": _words(trigger),
            "from": start,
            "to": end,
            "node": node,
            "limit": limit,
            "cursor": cursor,
        }
        return Pages(self._core, Ask("runs_list", query=query), Run)

    def get(self, run: RunRef) -> Run:
        """Return a run with its earlier attempts. Raises NotFound."""
        return self._core.data(Ask("runs_get", run), Run)

    def output(
        self, run: RunRef, *, attempt: int | None = None, offset: int | None = None
    ) -> bytes:
        """Return what an attempt (the last one) has written so far, from a byte offset on."""
        query = {"attempt": attempt, "offset": offset}
        ask = Ask("runs_output", run, query, headers={"accept": "text/plain"})
        return (self._core.reply(ask)).body

    def follow(
        self, run: RunRef, *, attempt: int | None = None, after: str | None = None
    ) -> Generator[Output | End]:
        """Yield the output as it is written, over all attempts or of one, then one ``End``.

        A connection that breaks is made again, without a gap and without repeating output.
        ``after`` is the ``id`` of the last ``Output`` that is known already.
        """
        # From the first attempt on, whichever is at work now: so nothing depends on the moment.
        place = after or f"{attempt or 1}-0"
        with closing(self._core.follow(run, attempt, place)) as events:
            for event in events:
                yield event

    def wait(self, run: RunRef, *, timeout: float | None = None) -> Run:
        """Return the run when it has ended. Raises WaitTimeout after ``timeout`` seconds."""
        transport = self._core.transport
        until = None if timeout is None else transport.monotonic() + timeout
        pause_s = FIRST_LOOK_S
        while True:
            found = self.get(run)
            if found.ended:
                return found
            if until is not None:
                left_s = until - transport.monotonic()
                if left_s <= 0:
                    raise WaitTimeout(
                        f"run {found.id} is still {found.state}", hint="it goes on; wait again"
                    )
                pause_s = min(pause_s, left_s)
            transport.sleep(pause_s)
            pause_s = min(LAST_LOOK_S, pause_s * 2)

    def cancel(self, run: RunRef) -> Run:
        """Ask for the end of a run. Raises Conflict if it has ended."""
        return self._core.data(Ask("runs_cancel", run), Run)

    def retry(self, run: RunRef) -> Run:
        """Run again what an ended run did, as a new run. Raises Conflict if it has not ended."""
        return self._core.data(Ask("runs_retry", run), Run)

    def verify(
        self,
        *,
        job: JobRef | None = None,
        project: ProjectRef | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        cursor: str | None = None,
    ) -> Verification:
        """Compare a part of the ledger with what the schedules planned.

        While its ``next`` is not None, there is more: ask again with that as ``cursor``.
        """
        query = {"job": job, "project": project, "from": start, "to": end, "cursor": cursor}
        return self._core.data(Ask("verify", query=query), Verification)


class Holds:
    """``client.holds``."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(
        self,
        scope: str,
        target: JobRef | ProjectRef | None = None,
        *,
        project: ProjectRef | None = None,
        reason: str = "",
        until: datetime | str | None = None,
        then: str | None = None,
    ) -> Hold:
        """Start nothing new in ``all``, a ``project`` or a ``job`` until it is released.

        With ``until`` it ends by itself; ``then`` decides on the slots that passed by that time:
        once, each or skip.
        """
        body = given(
            scope=scope, target=target, project=project, reason=reason, until=until, then=then
        )
        return self._core.data(Ask("holds_create", body=body), Hold)

    def list(self) -> Pages[Hold]:
        """List the holds."""
        return Pages(self._core, Ask("holds_list"), Hold)

    def release(self, hold: int | Hold, missed: str) -> Hold:
        """End a hold. ``missed`` decides on the slots that passed: once, each or skip."""
        key = hold.id if isinstance(hold, Hold) else hold
        return self._core.data(Ask("holds_release", key, body={"missed": missed}), Hold)


class Limits:
    """``client.limits``: how many runs of the jobs that name a limit may be active at once."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def list(
        self,
        *,
        project: ProjectRef | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Pages[Limit]:
        """List limits: those that are set, and those that jobs name (they allow one run)."""
        query = {"project": project, "limit": limit, "offset": offset}
        return Pages(self._core, Ask("limits_list", query=query), Limit)

    def get(self, name: str, *, project: ProjectRef | None = None) -> Limit:
        """Return a limit with what is active under it. Raises NotFound."""
        return self._core.data(Ask("limits_get", name, {"project": project}), Limit)

    def set(self, name: str, most: int, *, project: ProjectRef | None = None) -> Limit:
        """Set a limit. Runs that are active go on, also above it."""
        ask = Ask("limits_set", name, {"project": project}, {"most": most})
        return self._core.data(ask, Limit)

    def delete(self, name: str, *, project: ProjectRef | None = None) -> None:
        """Forget a limit: the jobs that name it run one at a time."""
        self._core.nothing(Ask("limits_delete", name, {"project": project}))


def _words(given: str | Collection[str] | None) -> Collection[str] | None:
    return [given] if isinstance(given, str) else given
