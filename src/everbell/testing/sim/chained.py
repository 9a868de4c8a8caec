"""Judges of what goes before a run, what follows it, and what may not go on beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from everbell.domain.chain import follower_key, followers
from everbell.domain.job import Then
from everbell.domain.run import PLANNED, Run, RunKey
from everbell.testing.sim.history import (
    Checked,
    End,
    Fault,
    History,
    LimitSet,
    Op,
    Start,
    Violation,
)


def ended_after_start(row: Run) -> bool:
    """Whether a run has an end that others follow: it began, or was given up with its node."""
    return row.state == "lost" or (
        row.started_us is not None and row.state not in {"skipped", "missed"}
    )


def chains_complete(history: History) -> Iterator[Violation]:
    """Each end has its followers, each once; no run follows what did not end so."""
    jobs = {job.name: job for job in history.jobs}
    rows = {row.key: row for row in history.rows}
    expected: set[RunKey] = set()
    for row in history.rows:
        if not ended_after_start(row) or row.key.job_id not in history.versions:
            continue
        for then in _then(history, row):
            follower = jobs.get(then.job)
            if follower is None:
                continue
            key = follower_key(row.key, then, follower.id)
            expected.add(key)
            if key not in rows:
                detail = f"{row.id} {row.state}: no run of {then.job} followed ({then.on})"
                yield Violation(promise="2", kind="chain broken", detail=detail)
    if any(isinstance(event, Op) and event.kind == "delete" for event in history.events):
        # What a deleted job left behind follows nothing that can still be read.
        return
    for row in history.rows:
        if row.trigger == "chain" and row.key not in expected:
            yield Violation(promise="2", kind="follows nothing", detail=f"{row.id}: {row.reason}")


def _then(history: History, row: Run) -> tuple[Then, ...]:
    """Return what was to follow; the simulation never edits the chains of a job."""
    definition = history.versions[row.key.job_id][-1].definition
    return followers(definition, row.state)


def limits_respected(history: History) -> Iterator[Violation]:
    """Never more runs at work under a shared limit than it ever allowed so far."""
    named = {job_id: v[-1].definition.limits for job_id, v in history.versions.items()}
    troubled = history.troubled()
    last = {row.key: (row.attempt, row.token) for row in history.rows if row.state != "lost"}
    most: dict[str, int] = defaultdict(lambda: 1)
    at_work: dict[str, set[tuple[RunKey, int, int]]] = defaultdict(set)
    for event in history.events:
        if isinstance(event, LimitSet):
            most[event.name] = max(most[event.name], event.most)
        if not isinstance(event, Start | End):
            continue
        # A fenced attempt may go on beside others: nobody can reach it.
        sure = event.node not in troubled and last.get(event.key) == (event.attempt, event.token)
        for name in named.get(event.key.job_id, ()):
            if isinstance(event, End):
                at_work[name].discard((event.key, event.attempt, event.token))
            elif sure:
                at_work[name].add((event.key, event.attempt, event.token))
            if len(at_work[name]) > most[name]:
                ids = ", ".join(sorted(key.id for key, _, _ in at_work[name]))
                yield Violation(promise="1", kind="limit", detail=f"{name} {most[name]}: {ids}")


def checked_first(history: History) -> Iterator[Violation]:
    """A check goes before planned first attempts only, once; "nothing to do" starts nothing."""
    checks: dict[tuple[RunKey, int], Checked] = {}
    started = {
        (event.key, event.attempt): event for event in history.events if isinstance(event, Start)
    }
    paused = {
        event.node for event in history.events if isinstance(event, Fault) and event.kind == "pause"
    }
    for event in history.events:
        if not isinstance(event, Checked):
            continue
        if checks.setdefault((event.key, event.attempt), event) is not event:
            yield Violation(promise="1", kind="double check", detail=event.key.id)
        if event.attempt != 1:
            yield Violation(promise="1", kind="check of a retry", detail=event.key.id)
        # While a process was stopped, its check may have run out of time.
        in_time = event.node not in paused
        if in_time and event.code == 1 and (event.key, event.attempt) in started:
            yield Violation(promise="1", kind="start of nothing", detail=event.key.id)
    for row in history.rows:
        check = checks.get((row.key, 1))
        if check is not None and row.trigger not in PLANNED:
            yield Violation(promise="1", kind="check of a trigger", detail=row.id)
        if row.reason == "nothing_to_do" and (check is None or check.code != 1):
            yield Violation(promise="1", kind="unfounded skip", detail=row.id)
