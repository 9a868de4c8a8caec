"""Why a slot became what it became, in words; pure."""

from __future__ import annotations

from datetime import UTC, datetime

from everbell.domain.job import US, Definition
from everbell.domain.records import Hold
from everbell.domain.run import ACTIVE, BY_HAND, Run

_SKIPPED = {
    "overlap": "an earlier run was still active, and overlap policy `skip` allows {max} at once",
    "queue_full": "too many runs of the job waited already",
    "held": "it passed under a hold, and its release chose not to run it",
    "disabled": "the job was disabled before it could start",
    "rescheduled": "the schedule was changed before it was decided",
    "quarantined": "the job was quarantined, its definition could not be used",
    "nothing_to_do": "the job's check said that there was nothing to do",
}
_CANCELLED = {
    "replaced": "a newer run took its place (overlap policy `replace`)",
    "node_stopped": "its node was stopped and did not wait longer for it",
    "superseded": "another attempt went on without this one",
    "job_deleted": "its job was deleted",
}
_LOST = {
    "node_died": "its node died, and `at_most_once` forbids another try",
    "crash_limit": "its node died, as others did with it before",
    "job_unreadable": "its node died, and the definition can't be read any more",
}
_ORIGIN = {
    "schedule": "",
    "catch_up": ", caught up after its time",
    "manual": ", asked for by hand",
    "retry": ", a retry by hand",
    "chain": ", after another job",
    "backfill": ", filled in later",
}


def outcome_words(run: Run, definition: Definition) -> str:
    """Say what became of a run's slot and why, under the definition of then."""
    origin = _ORIGIN.get(run.trigger, "")
    why = run.error or run.reason
    if run.state == "skipped":
        return f"skipped: {_skipped(run, definition)}{_range(run)}"
    if run.state == "missed":
        return f"missed: {missed_words(definition)}{_range(run)}"
    if run.state == "cancelled":
        return f"cancelled{origin}: {_CANCELLED.get(run.reason, why or 'asked for')}"
    if run.state == "lost":
        return f"lost{origin}: {_LOST.get(run.reason, why or 'its node died')}"
    if run.state == "queued":
        return f"waits{origin}: {why or 'no node has taken it yet'}"
    if run.state in ACTIVE:
        late = late_words(run)
        return f"runs on node {run.node}{origin}{late}" if run.started_us else f"claimed{origin}"
    tries = f" in attempt {run.attempt}" if run.attempt > 1 else ""
    code = f" (code {run.code})" if run.code is not None and run.state != "succeeded" else ""
    tail = f": {why}" if why and run.state != "succeeded" else ""
    return f"ran and {run.state}{tries}{code}{origin}{late_words(run)}{tail}"


def _skipped(run: Run, definition: Definition) -> str:
    word, _, rest = run.reason.partition(": ")
    if word == BY_HAND:
        return "a person skipped it" + (f" ({rest})" if rest else "")
    known = _SKIPPED.get(run.reason)
    if known is None:
        return run.reason or run.error or "no reason was kept"
    return known.format(max=definition.max_running)


def _range(run: Run) -> str:
    return f" (one row for {run.count} slots)" if run.count > 1 else ""


def missed_words(definition: Definition) -> str:
    """Say what the misfire policy does with slots that no node was there to start."""
    misfire = definition.misfire
    window = f"{misfire.window_s:g} s"
    told = {
        "skip": "policy `skip` runs none of those",
        "latest": f"policy `latest` runs only the newest, and within {window}",
        "all": f"policy `all` runs the newest {misfire.max_catch_up} within {window}",
    }
    return f"no node started it in time; misfire {told[misfire.policy]}"


def until_words(hold: Hold) -> str:
    """Say when a hold ends by itself; nothing if a person has to end it."""
    if hold.until_us is None:
        return ""
    end = datetime.fromtimestamp(hold.until_us // US, UTC)
    return f", until {end:%Y-%m-%dT%H:%M:%SZ} (then: {hold.then})"


def late_words(run: Run) -> str:
    """Say how late a run started, if it was more than a second."""
    planned = run.key.slot_us if run.attempt == 1 else run.due_us
    if run.started_us is None or run.started_us - planned <= US or run.key.trigger_id:
        return ""
    return f", {(run.started_us - planned) / US:.1f} s late"
