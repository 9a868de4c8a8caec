"""What follows from the end of an attempt, or from the death of its node."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

from everbell.domain.job import US, Action, Definition, HttpAction, QueueAction, Record, Retry
from everbell.domain.run import PLANNED, Outcome, Run, State

RETRY_AFTER_MAX_S = 86_400.0
"""A target that asks for a longer wait is asked again after a day."""


HTTP_NO_CONTENT = 204


class Defaults(Record, frozen=True):
    """The node's settings for jobs that do not say otherwise."""

    http_timeout_s: float
    process_timeout_s: float
    retry: Retry
    max_crashes: int


class Settlement(Record, frozen=True):
    """How a run goes on. ``next_due_us`` given = with another attempt, at that time."""

    state: State
    next_due_us: int | None = None
    failures: Literal["reset", "count", "keep"] = "keep"
    park_after: int = 0


def timeout_of(definition: Definition, defaults: Defaults) -> float:
    """Return the seconds that one attempt of the job may take."""
    if definition.timeout_s is not None:
        return definition.timeout_s
    is_short = isinstance(definition.action, HttpAction | QueueAction)
    return defaults.http_timeout_s if is_short else defaults.process_timeout_s


CHECK_TIMEOUT_S = 60.0
"""A check that takes longer is over; the job runs."""
NOTHING_TO_DO = 1
"""The exit code of a check that found nothing to do (grep's and test's "no")."""


def wants_check(definition: Definition, run: Run) -> bool:
    """Return whether the job's check goes first: in planned runs, and only once.

    What a person, a chain or a backfill asks for runs anyway.
    """
    return definition.check is not None and run.trigger in PLANNED and run.attempt == 1


def read_check(action: Action, outcome: Outcome) -> Literal["work", "nothing", "unsure"]:
    """Return what a check found: HTTP 204 and exit code 1 say "nothing", 2xx and 0 "work".

    Every other end is no answer: the job runs, and its output says why.
    """
    if outcome.state == "skipped":
        return "nothing"
    if isinstance(action, HttpAction):
        if outcome.code == HTTP_NO_CONTENT:
            return "nothing"
        return "work" if outcome.state == "succeeded" else "unsure"
    if outcome.state == "failed" and outcome.code == NOTHING_TO_DO:
        return "nothing"
    return "work" if outcome.state == "succeeded" else "unsure"


def retry_delay_s(retry: Retry, run: Run) -> float:
    """Return the wait before the attempt after ``run.attempt``.

    Jitter is derived from the run's key, so that the simulation and a replay see the same wait.
    """
    try:
        factor = retry.multiplier ** max(run.attempt - 1 - run.crashes, 0)
    except OverflowError:
        factor = math.inf
    delay = min(retry.delay_s * factor, retry.cap_s) if retry.delay_s else 0.0
    if retry.jitter <= 0:
        return delay
    digest = hashlib.blake2b(f"{run.key.id}/{run.attempt}".encode(), digest_size=8).digest()
    return delay * (1 - retry.jitter * int.from_bytes(digest, "big") / 2**64)


def settle(
    run: Run, outcome: Outcome, definition: Definition, defaults: Defaults, now_us: int
) -> Settlement:
    """Decide what an outcome makes of a run: its end, or another attempt.

    ``at_most_once`` is never tried again: a target that failed may have done its work.
    """
    if outcome.state == "succeeded":
        return Settlement(state="succeeded", failures="reset")
    if outcome.state in {"cancelled", "skipped"}:
        return Settlement(state=outcome.state)
    retry = definition.retry if definition.retry is not None else defaults.retry
    used = run.attempt - 1 - run.crashes
    again = outcome.retryable and definition.delivery == "at_least_once"
    if again and outcome.state in retry.on and used < retry.max:
        delay = retry_delay_s(retry, run)
        if outcome.retry_after_s is not None:
            # The smaller first: NaN loses every comparison and so changes nothing.
            delay = max(delay, min(outcome.retry_after_s, RETRY_AFTER_MAX_S))
        return Settlement(state=outcome.state, next_due_us=now_us + int(delay * US))
    return Settlement(
        state=outcome.state, failures="count", park_after=definition.on_failure.park_after
    )


def recover(
    run: Run, definition: Definition | None, defaults: Defaults
) -> tuple[Literal["queued", "lost"], str]:
    """Decide what becomes of a run whose node died: taken over, or lost, and why."""
    if definition is None:
        return "lost", "job_unreadable"
    if definition.delivery == "at_most_once":
        return "lost", "node_died"
    if run.crashes + 1 > defaults.max_crashes:
        return "lost", "crash_limit"
    return "queued", "node_died"
