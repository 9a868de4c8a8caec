"""Holds the outside log against the ledger; pure. Each way to be wrong has a name of its own.

The account of slots, and what tokens and attempts promise, are judged by the simulation's judges:
one definition of right for both. Here is what only reality has: lateness, several processes whose
log is all that is known of them, and windows of faults.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from everbell.domain.job import US, Definition, Job, JobVersion
from everbell.domain.run import Attempt, Run, RunKey
from everbell.testing.proof.record import Seen
from everbell.testing.sim import checkers
from everbell.testing.sim.history import End, History, Start, Violation

KINDS = {
    "double start": "duplicate",
    "more than once": "duplicate",
    "double row": "duplicate",
    "double account": "duplicate",
    "unaccounted": "missed",
    "wrong count": "missed",
    "phantom": "phantom",
    "not final": "open",
    "token order": "stale",
    "fence": "stale",
    "token reuse": "stale",
    "unfounded success": "lost",
    "early": "early",
}
"""What the simulation's judges call it, and what it is called here."""

_JUDGES = (
    checkers.one_run_per_slot,
    checkers.never_early,
    checkers.every_slot_accounted,
    checkers.fenced,
    checkers.tokens_grow,
    checkers.at_most_once,
)


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What the product says happened, up to ``read_us``."""

    rows: list[Run]
    jobs: list[Job]
    versions: dict[int, list[JobVersion]]
    attempts: dict[RunKey, list[Attempt]]
    read_us: int


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which something was broken, or still being healed: ``heals_s`` after its end.

    ``cut_off`` is whose calls a network kept back meanwhile, as the outside log names it.
    """

    kind: str
    begun_us: int
    ended_us: int
    heals_s: float = 5.0
    cut_off: str = ""

    def covers(self, first_us: int, last_us: int | None = None) -> bool:
        """Return whether a time, or a part of it, is inside."""
        last = first_us if last_us is None else last_us
        return first_us <= self.ended_us + self.heals_s * US and last >= self.begun_us - US // 20


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How late a start may be outside all windows, and what the clocks may differ by."""

    late_s: float = 1.0
    look_ahead_s: float = 0.5
    clocks_s: float = 0.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, and figures: p50, p99 and the worst lateness outside windows, in seconds."""

    violations: list[Violation]
    starts: int
    rows: int
    taken_over: int
    states: dict[str, int]
    late_p50_s: float
    late_p99_s: float
    late_max_s: float

    def kinds(self) -> set[str]:
        """Return the kinds of violations."""
        return {one.kind for one in self.violations}


def check(
    seen: Sequence[Seen],
    ledger: Ledger,
    windows: Sequence[Window] = (),
    bounds: Bounds = Bounds(),  # noqa: B008  (frozen)
) -> Verdict:
    """Compare, and name all that does not add up."""
    case = _Case(seen, ledger, windows, bounds)
    found = [*case.judged(), *case.outside(), *case.late(), *case.needless(), *case.overlaps()]
    found += case.given_up()
    late = sorted(case.lateness(calm=True)) or [0.0]
    states: dict[str, int] = defaultdict(int)
    for row in ledger.rows:
        states[row.state] += row.count
    return Verdict(
        violations=found,
        starts=len(case.starts),
        rows=len(ledger.rows),
        taken_over=sum(start.attempt > 1 for start in case.starts),
        states=dict(sorted(states.items())),
        late_p50_s=late[len(late) // 2],
        late_p99_s=late[(len(late) - 1) * 99 // 100],
        late_max_s=late[-1],
    )


class _Case:
    def __init__(
        self, seen: Sequence[Seen], ledger: Ledger, windows: Sequence[Window], bounds: Bounds
    ) -> None:
        self.seen, self.ledger, self.windows, self.bounds = seen, ledger, windows, bounds
        self.starts = [one for one in seen if one.kind == "start" and one.key is not None]
        self.ends = {
            (one.key, one.attempt, one.token): one.at_us for one in seen if one.kind == "end"
        }
        self.rows: Mapping[RunKey, Run] = {row.key: row for row in ledger.rows}
        self.last: Mapping[int, Definition] = {
            job.id: ledger.versions[job.id][-1].definition for job in ledger.jobs
        }

    def calm(self, first_us: int, last_us: int | None = None) -> bool:
        """Return whether no window touches a time."""
        return not any(window.covers(first_us, last_us) for window in self.windows)

    def judged(self) -> Iterator[Violation]:
        """What the simulation judges too."""
        ledger, slack = self.ledger, round(self.bounds.clocks_s * US)
        history = History(
            events=[
                _event(one, slack, self.sent_us(one)) for one in self.seen if one.key is not None
            ],
            rows=ledger.rows,
            jobs=ledger.jobs,
            versions=ledger.versions,
            attempts=ledger.attempts,
            end_wall_us=ledger.read_us,
            look_ahead_us=round(self.bounds.look_ahead_s * US),
        )
        for judge in _JUDGES:
            for found in judge(history):
                yield msgspec.structs.replace(found, kind=KINDS[found.kind])

    def sent_us(self, one: Seen) -> int:
        """Return when a call was surely sent: as it came, unless a network may have kept it.

        What was on its way when the network was cut arrives once it is whole, and the run has gone
        on elsewhere by then. No node can prevent that; it is what tokens are for. Such a call came
        by a connection that was there before the cut: none is given to a claim that is over.
        """
        assert one.key is not None
        for window in self.windows:
            cut_us = window.ended_us - window.begun_us  # with what it takes to cut and to mend
            if (
                one.who == window.cut_off
                and one.since_us is not None
                and one.since_us < window.begun_us + cut_us // 2
                and one.key.slot_us <= window.ended_us
                and window.begun_us < one.at_us <= window.ended_us + cut_us + US
            ):
                return window.begun_us
        return one.at_us

    def outside(self) -> Iterator[Violation]:
        """Starts that the ledger does not know, or knows otherwise."""
        known = {job.id for job in self.ledger.jobs}
        tokens = {(row.key, row.attempt, row.token) for row in self.ledger.rows}
        for key, attempts in self.ledger.attempts.items():
            tokens |= {(key, one.attempt, one.token) for one in attempts}
        for one in self.seen:
            if one.key is None or one.key.job_id not in known:
                yield _wrong("3", "phantom", one, "no such job")
        for one in self.starts:
            if one.key not in self.rows:
                yield _wrong("3", "unrecorded", one, "the ledger has no such run")
            elif (one.key, one.attempt, one.token) not in tokens:
                yield _wrong("3", "unrecorded", one, "the ledger has no such attempt")

    def lateness(self, *, calm: bool) -> Iterator[float]:
        """Seconds from slot to start, of first attempts; all of them, or of calm times only."""
        for one in self.starts:
            if not _planned_first(one):
                continue
            assert one.key is not None
            if not calm or self.calm(one.key.slot_us, one.at_us):
                yield (one.at_us - one.key.slot_us) / US

    def late(self) -> Iterator[Violation]:
        """Starts beyond the bound, though nothing was broken."""
        for one in self.starts:
            if not _planned_first(one):
                continue
            assert one.key is not None
            late = (one.at_us - one.key.slot_us) / US
            if late > self.bounds.late_s and self.calm(one.key.slot_us):
                yield _wrong("4", "late", one, f"{late:.3f} s after its slot")

    def needless(self) -> Iterator[Violation]:
        """Take-overs of runs whose node was well, and success written by a fenced attempt."""
        by_key: dict[RunKey, list[Seen]] = defaultdict(list)
        for one in self.starts:
            assert one.key is not None
            by_key[one.key].append(one)
        for key, found in by_key.items():
            found.sort(key=lambda one: one.attempt)
            for one, two in pairwise(found):
                ended = self.ends.get((key, one.attempt, one.token), two.at_us)
                if not self.calm(one.at_us, two.at_us):
                    continue
                kind = "duplicate" if ended >= two.at_us else "needless"
                yield _wrong("3", kind, two, "another attempt without a fault")

    def overlaps(self) -> Iterator[Violation]:
        """Two runs at once of a job that forbids it, though nothing was broken."""
        going: dict[int, dict[RunKey, int]] = defaultdict(dict)
        for one in self.seen:
            if one.key is None or one.key.job_id not in self.last:
                continue
            definition = self.last[one.key.job_id]
            if definition.overlap == "allow" or definition.max_running > 1:
                continue
            open_runs = going[one.key.job_id]
            if one.kind == "end":
                open_runs.pop(one.key, None)
                continue
            for other, since_us in open_runs.items():
                if other != one.key and self.calm(since_us, one.at_us):
                    yield _wrong("1", "overlap", one, f"beside {other.id}")
            open_runs[one.key] = one.at_us

    def given_up(self) -> Iterator[Violation]:
        """Slots that did not run, though their job's policy makes up for all of them."""
        for row in self.ledger.rows:
            definition = self.last.get(row.key.job_id)
            if definition is None or row.state not in {"missed", "lost"}:
                continue
            allowed = row.state == "lost" and definition.delivery == "at_most_once"
            if allowed and not self.calm(row.key.slot_us, row.finished_us):
                continue
            if row.state == "lost" or definition.misfire.policy == "all":
                detail = f"{row.id} is {row.state} ({row.reason or row.error})"
                yield Violation(promise="2", kind="given up", detail=detail)


def silent(jobs: Iterable[Job], seen: Sequence[Seen], from_us: int, to_us: int) -> list[Violation]:
    """Liveness: return the jobs that did not start once on a slot of a quiet time."""
    heard = {
        one.key.job_id
        for one in seen
        if one.kind == "start" and one.key is not None and from_us <= one.key.slot_us <= to_us
    }
    return [
        Violation(promise="5", kind="silent", detail=f"{job.name} did not run in the quiet time")
        for job in jobs
        if job.id not in heard
    ]


def _planned_first(one: Seen) -> bool:
    return one.attempt == 1 and one.key is not None and not one.key.trigger_id


def _event(one: Seen, slack_us: int, sent_us: int) -> Start | End:
    assert one.key is not None
    if one.kind == "end":
        return End(
            at_us=one.at_us, node=one.who, key=one.key, attempt=one.attempt, token=one.token,
            outcome="succeeded",
        )  # fmt: skip
    return Start(
        at_us=sent_us, wall_us=one.at_us + slack_us, node=one.who, key=one.key,
        attempt=one.attempt, token=one.token,
    )  # fmt: skip


def _wrong(promise: str, kind: str, one: Seen, detail: str) -> Violation:
    text = f"{one.run}#{one.attempt}/{one.token} by {one.who}: {detail}"
    return Violation(promise=promise, kind=kind, detail=text)
