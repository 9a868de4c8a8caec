"""The judge is believed only because it catches each way to tamper with a clean history."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from everbell.domain.job import US, CommandAction, Definition, Job, JobVersion, Misfire
from everbell.domain.run import Attempt, Run, RunKey
from everbell.testing.proof import record
from everbell.testing.proof.checker import Bounds, Ledger, Verdict, Window, check, silent
from everbell.testing.proof.record import Seen

BEGUN = 1_800_000_000 * US
SLOTS = 20
FAULT = Window(kind="kill", begun_us=BEGUN + 8 * US, ended_us=BEGUN + 9 * US, heals_s=2)
AFTER = 14
"""A slot well after the fault."""


def job(job_id: int, **more) -> Job:
    definition = Definition(
        name=f"job-{job_id}",
        action=CommandAction(argv=("true",)),
        schedule="@every 1s",
        misfire=Misfire(policy="all"),
        **more,
    )
    return Job(
        id=job_id, uuid=f"u{job_id}", project_id=1, definition=definition, version=1, enabled=True,
        created_us=BEGUN, updated_us=BEGUN, next_slot_us=BEGUN + (SLOTS + 1) * US,
    )  # fmt: skip


TWICE, ONCE = job(1), job(2, delivery="at_most_once")


def seen(key: RunKey, token: int, kind: str = "start", *, at_us: int, attempt: int = 1) -> Seen:
    return Seen(kind=kind, run=key.id, key=key, attempt=attempt, token=token, who="7", at_us=at_us)


class Story:
    """Two jobs, each second; slot 8 of the first was taken over in a fault."""

    def __init__(self) -> None:
        self.rows: list[Run] = []
        self.seen: list[Seen] = []
        self.attempts: dict[RunKey, list[Attempt]] = {}
        for it in (TWICE, ONCE):
            for number in range(1, SLOTS + 1):
                self._slot(RunKey(BEGUN + number * US, it.id), number)
        self._take_over(RunKey(BEGUN + 8 * US, TWICE.id))
        self.seen.sort(key=lambda one: one.at_us)

    def _slot(self, key: RunKey, token: int) -> None:
        self.rows.append(
            Run(key=key, project_id=1, version=1, state="succeeded", token=token, node="n1")
        )
        self.seen.append(seen(key, token, at_us=key.slot_us + 2000))
        self.seen.append(seen(key, token, "end", at_us=key.slot_us + 90_000))

    def _take_over(self, key: RunKey) -> None:
        row = next(row for row in self.rows if row.key == key)
        self.attempts[key] = [
            Attempt(attempt=1, token=8, node="n1", state="lost", started_us=0, finished_us=0)
        ]
        self.rows[self.rows.index(row)] = replace(row, attempt=2, token=100)
        self.seen.append(seen(key, 100, at_us=key.slot_us + US, attempt=2))
        self.seen.append(seen(key, 100, "end", at_us=key.slot_us + US + 9, attempt=2))

    def row(self, job_id: int, number: int) -> Run:
        return next(row for row in self.rows if row.key == RunKey(BEGUN + number * US, job_id))

    def start(self, job_id: int, number: int, attempt: int = 1) -> Seen:
        key = RunKey(BEGUN + number * US, job_id)
        return next(
            one
            for one in self.seen
            if one.kind == "start" and one.key == key and one.attempt == attempt
        )

    def swap(self, old, new) -> None:
        for held in (self.rows, self.seen):
            if old in held:
                held[held.index(old)] = new
        self.seen.sort(key=lambda one: one.at_us)

    def judge(self, windows=(FAULT,)) -> Verdict:
        ledger = Ledger(
            rows=self.rows,
            jobs=[TWICE, ONCE],
            versions={
                it.id: [
                    JobVersion(
                        job_id=it.id, version=1, since_us=BEGUN, enabled=True,
                        definition=it.definition,
                    )
                ]
                for it in (TWICE, ONCE)
            },
            attempts=self.attempts,
            read_us=BEGUN + SLOTS * US + 600_000,
        )  # fmt: skip
        return check(self.seen, ledger, windows, Bounds(late_s=0.5))


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_clean_history_is_clean_and_gives_figures(story):
    verdict = story.judge()
    assert verdict.violations == []
    assert (verdict.starts, verdict.rows, verdict.taken_over) == (41, 40, 1)
    assert verdict.late_p50_s == verdict.late_max_s == 0.002


def test_a_dropped_row_and_start_is_a_miss(story):
    row, start = story.row(1, AFTER), story.start(1, AFTER)
    story.rows.remove(row)
    story.seen = [one for one in story.seen if one.key != start.key]
    assert story.judge().kinds() == {"missed"}


def test_a_dropped_row_of_what_started_is_an_unrecorded_start_too(story):
    story.rows.remove(story.row(1, AFTER))
    assert story.judge().kinds() == {"missed", "unrecorded"}


def test_an_attempt_that_the_ledger_does_not_know_is_unrecorded(story):
    story.attempts.clear()
    assert story.judge().kinds() == {"unrecorded"}


def test_a_doubled_start_is_a_duplicate(story):
    start = story.start(1, AFTER)
    story.seen.append(replace(start, at_us=start.at_us + 10, who="8"))
    assert "duplicate" in story.judge().kinds()


def test_a_second_attempt_of_an_at_most_once_job_is_a_duplicate_even_in_a_fault(story):
    start = story.start(2, 8)
    story.seen.append(replace(start, attempt=2, token=200, at_us=start.at_us + US))
    assert "duplicate" in story.judge().kinds()


def test_two_attempts_at_once_without_a_fault_are_a_duplicate(story):
    start = story.start(1, 8, 2)
    story.swap(start, replace(start, at_us=start.key.slot_us + 50_000))
    assert story.judge().violations == []
    assert "duplicate" in story.judge(windows=()).kinds()


def test_an_attempt_after_another_ended_without_a_fault_is_needless(story):
    assert story.judge(windows=()).kinds() == {"needless"}


def test_a_shifted_start_is_late_or_early(story):
    start = story.start(1, AFTER)
    story.swap(start, replace(start, at_us=start.at_us + US))
    assert "late" in story.judge().kinds()


def test_lateness_is_forgiven_only_in_the_window_of_a_fault(story):
    start = story.start(1, 9)
    story.swap(start, replace(start, at_us=start.at_us + 600_000))
    assert "late" not in story.judge().kinds()
    assert "late" in story.judge(windows=()).kinds()


def test_a_start_before_its_slot_is_early(story):
    start = story.start(1, AFTER)
    story.swap(start, replace(start, at_us=start.key.slot_us - 1))
    assert "early" in story.judge().kinds()


def test_swapped_tokens_are_stale(story):
    one, two = story.start(1, 8, 1), story.start(1, 8, 2)
    story.swap(one, replace(one, token=two.token))
    story.swap(two, replace(two, token=one.token))
    assert "stale" in story.judge().kinds()


def test_a_start_under_an_old_token_after_the_new_one_is_stale(story):
    one, two = story.start(1, 8, 1), story.start(1, 8, 2)
    story.swap(one, replace(one, at_us=two.at_us + 5000))
    assert "stale" in story.judge().kinds()


CUT = Window(
    kind="network", begun_us=BEGUN + 8 * US - 500_000, ended_us=BEGUN + 11 * US, cut_off="10.0.0.2"
)


def kept(story, **other) -> None:
    """Have the first attempt of slot 8 arrive after the second, kept back by a network."""
    one = story.start(1, 8, 1)
    old = {"who": CUT.cut_off, "at_us": CUT.ended_us + US, "since_us": one.at_us - 400_000}
    story.swap(one, replace(one, **(old | other)))


def test_what_a_network_kept_back_may_arrive_after_the_next_attempt(story):
    kept(story)
    assert story.judge((CUT,)).kinds() == set()


def test_a_first_attempt_before_the_cut_is_in_order(story):
    kept(story, at_us=CUT.begun_us - 60_000)
    two = story.start(1, 8, 2)
    story.swap(two, replace(two, who="10.0.0.1", since_us=two.at_us - 9))
    assert "stale" not in story.judge((CUT,)).kinds()


@pytest.mark.parametrize(
    ("why", "other"),
    [
        ("another caller's", {"who": "10.0.0.1"}),
        ("a program's", {"who": "7", "since_us": None}),
        ("by a connection of afterwards", {"since_us": CUT.ended_us - 50_000}),
        ("far too late", {"at_us": CUT.ended_us + 5 * US}),
    ],
)
def test_no_other_start_may_come_late(story, why, other):
    kept(story, **other)
    assert "stale" in story.judge((CUT,)).kinds(), why


def test_a_slot_after_the_cut_was_not_kept_back(story):
    kept(story)
    early = replace(CUT, begun_us=BEGUN + 4 * US, ended_us=BEGUN + 7 * US)
    assert "stale" in story.judge((early, FAULT)).kinds()


def test_a_token_given_twice_is_stale(story):
    start = story.start(1, AFTER)
    story.swap(start, replace(start, token=3))
    assert "stale" in story.judge().kinds()


def test_a_forged_success_is_lost(story):
    key = story.row(1, AFTER).key
    story.seen = [one for one in story.seen if one.key != key]
    assert story.judge().kinds() == {"lost"}


def test_a_success_of_a_target_that_never_ended_is_lost(story):
    key = story.row(1, AFTER).key
    story.seen = [one for one in story.seen if one.key != key or one.kind == "start"]
    assert story.judge().kinds() == {"lost", "overlap"}


def test_a_run_of_no_slot_and_one_of_no_job_are_phantoms(story):
    strange = replace(story.row(1, AFTER), key=RunKey(BEGUN + 14_333_333, 1), state="failed")
    story.rows.append(strange)
    assert story.judge().kinds() == {"phantom"}
    story.rows.remove(strange)
    key = RunKey(BEGUN, 99)
    story.seen.append(seen(key, 1, at_us=BEGUN))
    assert "phantom" in story.judge().kinds()


def test_two_runs_at_once_of_a_job_that_forbids_it_overlap(story):
    end = next(
        one for one in story.seen if one.kind == "end" and one.key == story.row(1, AFTER).key
    )
    story.swap(end, replace(end, at_us=end.at_us + US))
    assert story.judge().kinds() == {"overlap"}


def test_a_run_without_an_end_is_open(story):
    row = story.row(1, AFTER)
    story.swap(row, replace(row, state="running"))
    assert story.judge().kinds() == {"open"}


def test_a_lost_run_is_given_up_unless_it_may_start_once_only_and_there_was_a_fault(story):
    story.swap(story.row(2, 8), replace(story.row(2, 8), state="lost"))
    assert story.judge().violations == []
    story.swap(story.row(2, AFTER), replace(story.row(2, AFTER), state="lost"))
    assert story.judge().kinds() == {"given up"}


def test_a_missed_slot_is_given_up_when_all_were_to_be_made_up_for(story):
    row = story.row(1, AFTER)
    story.swap(row, replace(row, state="missed"))
    assert "given up" in story.judge().kinds()


def test_a_job_that_does_not_fire_in_the_quiet_time_is_silent(story):
    quiet = (BEGUN + 15 * US, BEGUN + SLOTS * US)
    assert silent([TWICE, ONCE], story.seen, *quiet) == []
    story.seen = [one for one in story.seen if one.key.job_id == 1]
    assert [one.kind for one in silent([TWICE, ONCE], story.seen, *quiet)] == ["silent"]


def test_a_command_writes_its_start_and_its_end(tmp_path: Path):
    log = tmp_path / "outside.log"
    env = {
        "EVERBELL_RUN_ID": "7-1000", "EVERBELL_ATTEMPT": "2", "EVERBELL_TOKEN": "9",
        "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    argv = record.command(log, 0.05)
    assert subprocess.run(argv, env=env, check=False).returncode == 0, shlex.join(argv)
    start, end = record.read(log)
    assert (start.kind, end.kind) == ("start", "end")
    assert (start.key, start.attempt, start.token) == (RunKey(1000, 7), 2, 9)
    assert end.at_us - start.at_us >= 50_000
