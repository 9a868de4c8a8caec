from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everbell.domain.job import (
    US,
    CommandAction,
    Definition,
    HttpAction,
    OnFailure,
    Retry,
)
from everbell.domain.run import Outcome, Run, RunKey, Trigger
from everbell.domain.settle import (
    RETRY_AFTER_MAX_S,
    Defaults,
    read_check,
    recover,
    retry_delay_s,
    settle,
    timeout_of,
    wants_check,
)

NOW = 1_800_000_000 * US
DEFAULTS = Defaults(http_timeout_s=30, process_timeout_s=3600, retry=Retry(), max_crashes=3)
FAILED = Outcome(state="failed")


HTTP = HttpAction(url="http://x.example/")
COMMAND = CommandAction(argv=("true",))


def run(attempt: int = 1, crashes: int = 0, slot: int = NOW, trigger: Trigger = "schedule") -> Run:
    return Run(
        key=RunKey(slot, 7), project_id=1, version=1, state="running", trigger=trigger,
        attempt=attempt, crashes=crashes,
    )  # fmt: skip


def job(**changes) -> Definition:
    return Definition(name="x", action=CommandAction(argv=("true",)), **changes)


@pytest.mark.parametrize(
    ("attempt", "wait_s"), [(1, 2.0), (2, 6.0), (3, 18.0), (4, 20.0), (9, 20.0)]
)
def test_waits_grow_by_the_multiplier_up_to_the_cap(attempt, wait_s):
    retry = Retry(max=10, delay_s=2, multiplier=3, cap_s=20)
    assert retry_delay_s(retry, run(attempt)) == wait_s
    settled = settle(run(attempt), FAILED, job(retry=retry), DEFAULTS, NOW)
    assert settled.next_due_us == NOW + int(wait_s * US)
    assert settled.state == "failed"
    assert settled.failures == "keep"


def test_retries_end_after_max_and_count_as_one_failure():
    definition = job(retry=Retry(max=2), on_failure=OnFailure(park_after=3))
    settled = settle(run(3), FAILED, definition, DEFAULTS, NOW)
    assert settled.next_due_us is None
    assert (settled.failures, settled.park_after) == ("count", 3)


def test_crashes_use_up_no_retry():
    definition = job(retry=Retry(max=1))
    assert settle(run(3, crashes=2), FAILED, definition, DEFAULTS, NOW).next_due_us is not None
    assert settle(run(3, crashes=1), FAILED, definition, DEFAULTS, NOW).next_due_us is None


def test_only_listed_states_and_retryable_outcomes_are_tried_again():
    definition = job(retry=Retry(max=5, on=("timed_out",)))
    assert settle(run(), FAILED, definition, DEFAULTS, NOW).next_due_us is None
    late = Outcome(state="timed_out")
    assert settle(run(), late, definition, DEFAULTS, NOW).next_due_us is not None
    final = Outcome(state="timed_out", retryable=False)
    assert settle(run(), final, definition, DEFAULTS, NOW).next_due_us is None


def test_the_nodes_retry_holds_for_jobs_that_say_nothing():
    defaults = msgspec.structs.replace(DEFAULTS, retry=Retry(max=1))
    assert settle(run(), FAILED, job(), defaults, NOW).next_due_us is not None
    assert settle(run(), FAILED, job(retry=Retry(max=0)), defaults, NOW).next_due_us is None


@given(st.floats(0, 1), st.integers(1, 50), st.integers(0, 10**15))
def test_jitter_shortens_by_at_most_its_share_and_is_replayed(jitter, attempt, slot):
    retry = Retry(max=100, delay_s=10, jitter=jitter)
    wait = retry_delay_s(retry, run(attempt, slot=slot))
    assert 10 * (1 - jitter) - 1e-9 <= wait <= 10
    assert wait == retry_delay_s(retry, run(attempt, slot=slot))


@given(
    st.integers(1, 1_000_000),
    st.floats(1, 1e6),
    st.floats(0, 1e9),
    st.integers(0, 5),
)
def test_no_wait_overflows_or_is_negative(attempt, multiplier, delay, crashes):
    retry = Retry(max=2_000_000, delay_s=delay, multiplier=multiplier, cap_s=3600)
    wait = retry_delay_s(retry, run(attempt, crashes=crashes))
    assert 0 <= wait <= 3600
    settled = settle(run(attempt, crashes), FAILED, job(retry=retry), DEFAULTS, NOW)
    assert settled.next_due_us is not None


def test_retry_after_lengthens_the_wait_and_is_bounded():
    definition = job(retry=Retry(max=1, delay_s=5))

    def due(seconds):
        asked = Outcome(state="failed", retry_after_s=seconds)
        return settle(run(), asked, definition, DEFAULTS, NOW).next_due_us

    assert due(60.0) == NOW + 60 * US
    assert due(1.0) == NOW + 5 * US
    assert due(-9.0) == NOW + 5 * US
    assert due(math.nan) == NOW + 5 * US
    assert due(math.inf) == due(1e300) == NOW + int(RETRY_AFTER_MAX_S * US)


def test_success_resets_the_failures_and_a_cancel_keeps_them():
    done = settle(run(), Outcome(state="succeeded"), job(), DEFAULTS, NOW)
    assert (done.state, done.failures) == ("succeeded", "reset")
    for state in ("cancelled", "skipped"):
        ended = settle(run(), Outcome(state=state), job(retry=Retry(max=5)), DEFAULTS, NOW)
        assert (ended.state, ended.failures, ended.next_due_us) == (state, "keep", None)


def test_at_most_once_is_never_tried_again():
    definition = job(delivery="at_most_once", retry=Retry(max=5))
    settled = settle(run(), FAILED, definition, DEFAULTS, NOW)
    assert settled.next_due_us is None
    assert settled.failures == "count"


def test_recovery_by_policy():
    assert recover(run(), job(), DEFAULTS) == ("queued", "node_died")
    assert recover(run(), job(delivery="at_most_once"), DEFAULTS) == ("lost", "node_died")
    assert recover(run(), None, DEFAULTS) == ("lost", "job_unreadable")
    assert recover(run(crashes=2), job(), DEFAULTS)[0] == "queued"
    assert recover(run(crashes=3), job(), DEFAULTS) == ("lost", "crash_limit")


def test_timeout_of_the_job_wins_over_that_of_its_kind():
    web = Definition(name="x", action=HttpAction(url="http://x.example"))
    assert timeout_of(web, DEFAULTS) == 30
    assert timeout_of(job(), DEFAULTS) == 3600
    assert timeout_of(job(timeout_s=5), DEFAULTS) == 5


@pytest.mark.parametrize(
    ("action", "outcome", "found"),
    [
        (HTTP, Outcome(state="succeeded", code=204), "nothing"),
        (HTTP, Outcome(state="succeeded", code=200), "work"),
        (HTTP, Outcome(state="failed", code=500), "unsure"),
        (HTTP, Outcome(state="timed_out"), "unsure"),
        (COMMAND, Outcome(state="succeeded", code=0), "work"),
        (COMMAND, Outcome(state="failed", code=1), "nothing"),
        (COMMAND, Outcome(state="failed", code=2), "unsure"),
        (COMMAND, Outcome(state="failed", code=None, error="no program"), "unsure"),
        (COMMAND, Outcome(state="skipped"), "nothing"),
    ],
)
def test_what_a_check_says(action, outcome, found):
    assert read_check(action, outcome) == found


def test_planned_runs_are_checked_once_and_others_never():
    checked = job(check=COMMAND)
    assert wants_check(checked, run())
    assert wants_check(checked, run(trigger="catch_up"))
    for other in ("manual", "retry", "chain", "backfill"):
        assert not wants_check(checked, run(trigger=other))
    assert not wants_check(checked, run(attempt=2))
    assert not wants_check(job(), run())
