"""Judges of a history, one per promise; pure, and themselves tested on mutated histories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from everbell.domain.account import Account, periods_of
from everbell.domain.job import US, Job
from everbell.domain.run import FINAL, Run, RunKey
from everbell.testing.sim.chained import chains_complete, checked_first, limits_respected
from everbell.testing.sim.history import Checked, End, History, Op, Start, Violation

PLANNED = frozenset({"schedule", "catch_up"})


def check_all(history: History) -> list[Violation]:
    """Run every checker."""
    found: list[Violation] = []
    for checker in CHECKERS:
        found += checker(history)
    return found


def one_run_per_slot(history: History) -> Iterator[Violation]:
    """Promise 1: no attempt of a run starts twice; one row per key."""
    seen: dict[tuple[RunKey, int], Start] = {}
    for event in history.events:
        if not isinstance(event, Start):
            continue
        earlier = seen.setdefault((event.key, event.attempt), event)
        if earlier is not event:
            detail = f"{event.key.id} attempt {event.attempt}: {_at(earlier)} and {_at(event)}"
            yield Violation(promise="1", kind="double start", detail=detail)
    keys = [row.key for row in history.rows]
    if len(keys) != len(set(keys)):
        yield Violation(promise="1", kind="double row", detail="a key stands twice in the ledger")


def never_early(history: History) -> Iterator[Violation]:
    """Promise 1: nothing starts before its slot by the clock of its node."""
    for event in history.events:
        if isinstance(event, Start) and event.wall_us < event.key.slot_us:
            early = (event.key.slot_us - event.wall_us) / US
            yield Violation(promise="1", kind="early", detail=f"{event.key.id} by {early:.3f} s")


def every_slot_accounted(history: History) -> Iterator[Violation]:
    """Promise 2: each slot of each version's time has a row, each row is of a slot and final."""
    rows: dict[int, list[Run]] = defaultdict(list)
    for row in history.rows:
        if row.state not in FINAL:
            yield Violation(promise="2", kind="not final", detail=f"{row.id} is {row.state}")
        if not row.key.trigger_id:
            rows[row.key.job_id].append(row)
    for job in history.jobs:
        yield from _account(job, history, rows[job.id])


ALL = 1 << 62
_KINDS = {
    "gap": "unaccounted",
    "no_slot": "phantom",
    "wrong_count": "wrong count",
    "double": "double account",
}


def _account(job: Job, history: History, rows: list[Run]) -> Iterator[Violation]:
    """Judge by the account that ``everbell verify`` gives, knowing also where clocks had been."""
    versions = history.versions[job.id]
    changes = [one for one in history.changes if one.job_id == job.id]
    highest: dict[int, int] = {}
    for one in changes:
        highest[one.version] = max(one.highest_us, highest.get(one.version, 0))
    periods = periods_of(versions, history.end_wall_us, history.look_ahead_us, highest)
    # What a clock that was set back had passed already is not judged.
    twice = [(one.now_us, one.highest_us) for one in changes]
    account = Account(job, versions, periods, twice=twice)
    ordered = sorted(rows, key=lambda row: row.key)
    found = [*account.page(account.slots(-ALL, ALL, ALL), ordered), *account.end()]
    assert not account.in_range
    assert not account.unreadable
    for it in found:
        what = it.run or f"job {job.id}"
        detail = f"{what} {it.first_us}..{it.last_us} ({it.count}): {it.detail}"
        yield Violation(promise="2", kind=_KINDS[it.kind], detail=detail)


def fenced(history: History) -> Iterator[Violation]:
    """Promise 3: tokens grow with attempts; what the ledger calls done was done outside."""
    starts: dict[RunKey, list[Start]] = defaultdict(list)
    ends: dict[tuple[RunKey, int, int], str] = {}
    for event in history.events:
        if isinstance(event, Start):
            starts[event.key].append(event)
        elif isinstance(event, End):
            ends[event.key, event.attempt, event.token] = event.outcome
    for key, found in starts.items():
        found.sort(key=lambda start: start.attempt)
        for one, two in pairwise(found):
            if two.token <= one.token and two.attempt > one.attempt:
                detail = f"{key.id}: attempt {two.attempt} has token {two.token} <= {one.token}"
                yield Violation(promise="3", kind="token order", detail=detail)
            if two.at_us < one.at_us:
                detail = f"{key.id}: attempt {one.attempt} started after attempt {two.attempt}"
                yield Violation(promise="3", kind="fence", detail=detail)
    yield from _unfounded(history, ends)


def _unfounded(history: History, ends: dict[tuple[RunKey, int, int], str]) -> Iterator[Violation]:
    for row in history.rows:
        outcome = ends.get((row.key, row.attempt, row.token))
        if row.state == "succeeded" and outcome != "succeeded":
            detail = f"{row.id} attempt {row.attempt}: outside it {outcome or 'never ended'}"
            yield Violation(promise="3", kind="unfounded success", detail=detail)


def tokens_grow(history: History) -> Iterator[Violation]:
    """Promise 3: a token is given once per job."""
    owner: dict[tuple[int, int], tuple[RunKey, int]] = {}
    for event in history.events:
        if isinstance(event, Start):
            mine = (event.key, event.attempt)
            other = owner.setdefault((event.key.job_id, event.token), mine)
            if other != mine:
                detail = f"token {event.token} of {event.key.id} was given to {other[0].id} too"
                yield Violation(promise="3", kind="token reuse", detail=detail)


def at_most_once(history: History) -> Iterator[Violation]:
    """Promise 3: runs of at_most_once jobs start at most once."""
    strict = {
        job_id
        for job_id, versions in history.versions.items()
        if all(one.definition.delivery == "at_most_once" for one in versions)
    }
    seen: set[RunKey] = set()
    for event in history.events:
        if isinstance(event, Start) and event.key.job_id in strict:
            if event.key in seen:
                yield Violation(promise="3", kind="more than once", detail=event.key.id)
            seen.add(event.key)


def success_recorded(history: History) -> Iterator[Violation]:
    """Promise 3: a success outside, of a process that lived on, is in the ledger."""
    rows = {row.key: row for row in history.rows}
    known = {job.id for job in history.jobs}
    broken = history.troubled()
    for event in history.events:
        if not isinstance(event, End) or event.outcome != "succeeded" or event.node in broken:
            continue
        row = rows.get(event.key)
        if row is None and event.key.job_id in known:
            yield Violation(promise="3", kind="unrecorded", detail=event.key.id)


def stopped_means_stopped(history: History) -> Iterator[Violation]:
    """Promise 6: nothing starts in a held, disabled or deleted scope after the acknowledgement.

    A first attempt may still start within the look-ahead, and one store round trip, after it.
    """
    project_of = {row.key.job_id: row.project_id for row in history.rows}
    project_of |= {job.id: job.project_id for job in history.jobs}
    spans = _closed_spans(history)
    # A run begins with its check: what was stopped in between goes on.
    checked = {event.key for event in history.events if isinstance(event, Checked)}
    for event in history.events:
        if not isinstance(event, Start | Checked) or event.attempt > 1:
            continue
        if isinstance(event, Start) and event.key in checked:
            continue
        job_id = event.key.job_id
        scopes = (("all", 0), ("project", project_of.get(job_id, -1)), ("job", job_id))
        for scope in scopes:
            for kind, begin, end in spans.get(scope, ()):
                if kind == "disable" and event.key.trigger_id:
                    continue
                if begin + history.look_ahead_us + history.notice_us < event.at_us < end:
                    late = (event.at_us - begin) / US
                    detail = f"{_at(event)} {late:.3f} s after {kind} of {scope[0]} {scope[1]}"
                    yield Violation(promise="6", kind=f"start after {kind}", detail=detail)


_OPENERS = {"hold": "release", "disable": "enable", "delete": ""}


def _closed_spans(history: History) -> dict[tuple[str, int], list[tuple[str, int, int]]]:
    """Return (kind, acknowledged, reopened) per scope."""
    ops = [event for event in history.events if isinstance(event, Op)]
    spans: dict[tuple[str, int], list[tuple[str, int, int]]] = defaultdict(list)
    for op in ops:
        if op.kind not in _OPENERS:
            continue
        scope = (op.scope, op.target)
        reopened = [
            other.asked_us
            for other in ops
            if other.kind == _OPENERS[op.kind]
            and (other.scope, other.target) == scope
            and other.acked_us >= op.asked_us
        ]
        spans[scope].append((op.kind, op.acked_us, min(reopened, default=1 << 62)))
    return spans


def overlap_respected(history: History) -> Iterator[Violation]:
    """Overlap ``skip`` or ``queue`` with one run at once: never two, except beside a fenced one."""
    single = {
        job_id
        for job_id, versions in history.versions.items()
        if all(
            one.definition.overlap != "allow" and one.definition.max_running == 1
            for one in versions
        )
    }
    troubled = history.troubled()
    open_runs: dict[int, dict[tuple[RunKey, int, int], Start]] = defaultdict(dict)
    for event in history.events:
        if isinstance(event, Start) and event.key.job_id in single:
            others = open_runs[event.key.job_id]
            for other in others.values():
                if other.node not in troubled and not _fenced_at(history, other):
                    detail = f"{_at(event)} beside {_at(other)}"
                    yield Violation(promise="1", kind="overlap", detail=detail)
            others[event.key, event.attempt, event.token] = event
        elif isinstance(event, End):
            open_runs[event.key.job_id].pop((event.key, event.attempt, event.token), None)


def _fenced_at(history: History, start: Start) -> bool:
    """Whether the run was taken over or given up: its attempt is not the ledger's."""
    for row in history.rows:
        if row.key == start.key:
            return (row.attempt, row.token) != (start.attempt, start.token) or row.state == "lost"
    return True


def nothing_stuck(history: History) -> Iterator[Violation]:
    """Liveness: no node stopped by itself, nothing is open after the quiet phase."""
    for detail in history.stopped:
        yield Violation(promise="7", kind="node stopped", detail=detail)
    for detail in history.stuck:
        yield Violation(promise="5", kind="stuck", detail=detail)


def _at(start: Start | Checked) -> str:
    return (
        f"{start.key.id}#{start.attempt}/{start.token} on {start.node} at {start.at_us / US:.3f} s"
    )


CHECKERS: tuple[Callable[[History], Iterator[Violation]], ...] = (
    one_run_per_slot,
    never_early,
    every_slot_accounted,
    fenced,
    tokens_grow,
    at_most_once,
    success_recorded,
    stopped_means_stopped,
    overlap_respected,
    chains_complete,
    limits_respected,
    checked_first,
    nothing_stuck,
)
