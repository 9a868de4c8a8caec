"""Random verbs: an engine answers as the oracle in memory does. Subclass ``Model`` for each."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from everbell.domain.errors import EverbellError
from everbell.domain.job import CommandAction, Definition
from everbell.domain.records import Hold, Node, Project
from everbell.domain.run import Attempt, Run, RunKey
from everbell.ports.store import (
    Claim,
    Decided,
    Decision,
    DueJob,
    Finish,
    Finished,
    JobFilter,
    Mark,
    NewJob,
    NewRun,
    OutputChunk,
    Page,
    Pulse,
    RunFilter,
    Share,
    Store,
    Verdict,
)
from everbell.stores.memory import MemoryStore

NODES = ("n1", "n2")
ENDS: tuple[Literal["succeeded", "failed", "timed_out"], ...] = (
    "succeeded",
    "failed",
    "timed_out",
)
_rule: Any = rule
few = st.integers(0, 5)
offsets = st.integers(-3, 6)

DECIDE: dict[str, Any] = {
    "data": st.data(),
    "node": st.sampled_from(NODES),
    "ahead": st.integers(0, 4),
    "quarantine": st.integers(0, 19),
}
FINISH: dict[str, Any] = {
    "which": st.integers(0, 50),
    "stale": st.booleans(),
    "state": st.sampled_from(ENDS),
    "again": st.none() | st.integers(0, 3),
    "failures": st.sampled_from(["reset", "count", "keep"]),
    "twice": st.booleans(),
}


def done(call: Awaitable[Any]) -> Any:
    """Return the answer of a call that waits for nothing."""
    try:
        call.__await__().send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the call waits")


def _decide_some(model: Any, **values: Any) -> None:
    model.decide_some(**values)


def _finish_one(model: Any, **values: Any) -> None:
    model.finish_one(**values)


class Model(RuleBasedStateMachine):
    """Both stores get the same calls; tokens need not be the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.other = self.open()
        self.tokens: dict[int, int] = {0: 0}
        self.memory: Store = MemoryStore()
        self.now = 100
        self.names = 0
        self.runs: list[Run] = []
        self.seen: list[DueJob] = []
        for number in range(2):
            self.both("add_project", _project(number))
        for name, overlap in enumerate(("skip", "allow", "queue")):
            self._add(name, 1 + name % 2, overlap, 1, 0)

    def both(self, verb: str, *values: Any) -> Any:
        """Return the answer of both, which must be one."""
        theirs = self._ask(self.memory, verb, values)
        ours = self._ask(self.other, verb, _with_tokens(values, self.tokens))
        self._learn(ours, theirs)
        back = {own: known for known, own in self.tokens.items()}
        assert _with_tokens(ours, back) == theirs, verb
        return theirs

    def _ask(self, store: Store, verb: str, values: tuple[Any, ...]) -> Any:
        try:
            call = getattr(store, verb)(*values)
            return done(call) if store is self.memory else self.wait(call)
        except EverbellError as error:
            return type(error)

    def _learn(self, ours: Any, theirs: Any) -> None:
        """Note which token of ours stands for which of the oracle's."""
        own, known = _runs_in(ours), _runs_in(theirs)
        if len(own) == len(known):
            for mine, its in zip(own, known, strict=True):
                self.tokens.setdefault(its.token, mine.token)

    def open(self) -> Store:
        """Return an empty store."""
        raise NotImplementedError

    def wait(self, call: Awaitable[Any]) -> Any:
        """Return the answer of a call of that store."""
        return done(call)

    def pick(self, number: int) -> Any:
        """Return one of the jobs, or None."""
        jobs, _ = done(self.memory.list_jobs(JobFilter(), Page(limit=100)))
        return jobs[number % len(jobs)] if jobs else None

    def a_run(self, number: int, *, stale: bool) -> Run | None:
        """Return a run as it is, or as some verb returned it earlier."""
        known = done(self.memory.list_runs(RunFilter(), 100)) if not stale else self.runs
        return known[number % len(known)] if known else None

    @rule(step=st.integers(1, 3))
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule(
        name=few,
        project=st.sampled_from([1, 1, 2, 3]),
        overlap=st.sampled_from(["skip", "allow", "queue"]),
        limit=st.integers(1, 2),
        cursor=st.none() | offsets,
    )
    def add(self, name: int, project: int, overlap: Any, limit: int, cursor: int | None) -> None:
        self._add(name, project, overlap, limit, cursor)

    def _add(self, name: int, project: int, overlap: Any, limit: int, cursor: int | None) -> None:
        self.names += 1
        job = NewJob(
            uuid=f"job-{self.names}",
            project_id=project,
            definition=Definition(
                name=f"Job {name}",
                action=CommandAction(argv=("true",)),
                overlap=overlap,
                max_running=limit,
            ),
            next_slot_us=None if cursor is None else self.now + cursor,
            enabled=name != 5,
        )
        self.both("add_jobs", [job], self.now)

    @rule(
        which=few,
        enabled=st.sampled_from([True, True, True, False]),
        parked=st.sampled_from(["", "", "", "broken"]),
        cursor=st.none() | offsets,
        text=few,
        late=st.sampled_from([False, False, True]),
    )
    def change(
        self, *, which: int, enabled: Any, parked: str, cursor: int | None, text: int, late: bool
    ) -> None:
        job = self.pick(which)
        if job is None:
            return
        definition = job.definition
        if text > 2:
            definition = replace(definition, description=str(text), name=f"Job {text}")
        changed = replace(
            job,
            definition=definition,
            enabled=enabled,
            parked=parked,
            quarantined="",
            next_slot_us=None if cursor is None else self.now + cursor,
        )
        self.both("change_job", changed, job.version - late, self.now)

    @rule(which=few, number=few)
    def delete(self, which: int, number: int) -> None:
        job = self.pick(which)
        if job is not None and number == 0:
            self.both("delete_job", job.id, self.now)
            self.both("get_job", job.id)

    @rule(scope=st.sampled_from(["job", "project", "all"]), held=st.integers(1, 3))
    def hold(self, scope: Any, held: int) -> None:
        target = 0 if scope == "all" else held
        hold = Hold(id=0, scope=scope, target_id=target, reason="r", who="w", created_us=self.now)
        self.both("add_hold", hold)

    @precondition(lambda self: done(self.memory.list_holds()))
    @rule(number=few, choice=st.sampled_from(["skip", "once", "each"]))
    def release(self, number: int, choice: Any) -> None:
        holds = done(self.memory.list_holds())
        hold_id = holds[number % len(holds)].id if number < 5 else 99
        self.both("release", hold_id, choice, self.now)

    def decide_some(self, data: st.DataObject, node: str, ahead: int, quarantine: int) -> None:
        due = self.both("due", self.now + ahead, 3)
        if quarantine in {16, 17, 18}:
            due = self.seen  # decided late: what was seen then may be held or changed by now
        self.seen = due
        if not due:
            return
        decisions = [
            Decision(
                job_id=job.id,
                project_id=job.project_id,
                version=job.version + data.draw(st.sampled_from([0, 0, 0, 0, 0, 1])),
                cursor_us=job.next_slot_us,
                next_slot_us=data.draw(
                    st.sampled_from([self.now + 1, self.now + 2, job.next_slot_us + 1, None])
                ),
                claims=tuple(
                    Claim(
                        slot_us=job.next_slot_us + at,
                        due_us=job.next_slot_us + at,
                        trigger="schedule",
                        max_active=data.draw(st.sampled_from([None, 1, 2])),
                    )
                    for at in data.draw(
                        st.sampled_from([(0,), (0,), (0, 1), (1,), (0, 1, 2), (0, 0), ()])
                    )
                ),
                marks=tuple(
                    Mark(
                        slot_us=job.next_slot_us + at,
                        state=data.draw(st.sampled_from(["skipped", "missed", "queued"])),
                        reason="because",
                    )
                    for at in data.draw(st.sampled_from([(), (), (), (1,), (0,), (2, 1)]))
                ),
                clear_release=data.draw(st.booleans()),
                quarantine="bad" if quarantine == 19 else "",
            )
            for job in due + due[: data.draw(st.sampled_from([0, 0, 1]))]
        ]
        for answer in self.both("decide", node, decisions, self.now):
            self.runs.extend(answer.runs)

    decide = _rule(**DECIDE)(_decide_some)
    decide_more = _rule(**DECIDE)(_decide_some)
    decide_again = _rule(**DECIDE)(_decide_some)

    @rule(which=few, slot=offsets, name=few, delay=st.integers(0, 2))
    def enqueue(self, which: int, slot: int, name: int, delay: int) -> None:
        job = self.pick(which)
        run = NewRun(
            key=RunKey(self.now + slot, job.id if job else 77, f"m{name}"),
            project_id=job.project_id if job else 1,
            version=1,
            trigger="manual" if name % 2 else "chain",
            due_us=self.now + delay,
            reason="by hand",
        )
        self.both("enqueue", run, self.now)

    @rule(node=st.sampled_from(NODES), limit=st.integers(1, 3), some=st.none() | few)
    def take(self, node: str, limit: int, some: int | None) -> None:
        keys = None if some is None else [run.key for run in self.runs[some::2]]
        self.runs.extend(self.both("take_queued", node, self.now, limit, keys))

    @rule(ahead=offsets, shard=few, behind=st.integers(0, 3))
    def look(self, ahead: int, shard: int, behind: int) -> None:
        share = Share(shards=(shard, shard + 2), behind_us=behind)
        self.both("due", self.now + ahead, 3, share)
        self.both("next_due_us", share)

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 50), stale=st.booleans())
    def mark_running(self, which: int, stale: bool) -> None:
        run = self.a_run(which, stale=stale)
        if run is not None:
            self.both("mark_running", [(run, self.now)], self.now)

    def finish_one(
        self, *, which: int, stale: bool, state: Any, again: int | None, failures: Any, twice: bool
    ) -> None:
        run = self.a_run(which, stale=stale)
        if run is None or not run.token:
            return
        end = Finish(
            run=run,
            state=state,
            started_us=None if which % 3 else self.now - 1,
            finished_us=self.now,
            code=which,
            error="x" * (which % 2),
            reason="why" * (which % 2),
            output_bytes=which,
            next_due_us=None if again is None else self.now + again,
            failures=failures,
            park_after=which % 3,
        )
        for answer in self.both("finish", [end] * (1 + twice), self.now):
            if answer.run is not None:
                self.runs.append(answer.run)

    finish = _rule(**FINISH)(_finish_one)
    finish_more = _rule(**FINISH)(_finish_one)

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 50), stale=st.booleans(), verb=st.integers(0, 4))
    def touch(self, which: int, stale: bool, verb: int) -> None:
        run = self.a_run(which, stale=stale)
        if run is None:
            return
        if verb == 0:
            self.both("request_cancel", run.key, self.now)
        elif verb == 1:
            self.both("hand_back", [run], self.now)
        elif verb == 2:
            self.both("recover", [Verdict(run=run, state="queued", reason="node gone")], self.now)
        elif verb == 3:
            self.both("recover", [Verdict(run=run, state="lost", reason="node gone")], self.now)
        self.both("still_claimed", [(run.key, run.token)])
        self.both("attempts", run.key)
        self.both("get_run", run.key)

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 50), at=few, size=st.integers(1, 3), limit=st.integers(1, 5))
    def output(self, which: int, at: int, size: int, limit: int) -> None:
        run = self.runs[which % len(self.runs)]
        chunk = OutputChunk(
            key=run.key, attempt=run.attempt, offset=at * 3, stream="out", at_us=1, data=b"a" * size
        )
        self.both("append_output", [chunk])
        self.both("read_output", run.key, run.attempt, at, limit)

    @rule(node=st.sampled_from(NODES), lease=offsets)
    def heartbeat(self, node: str, lease: int) -> None:
        self.both("heartbeat", _node(node, self.now, self.now + lease))

    @rule(node=st.sampled_from(NODES), verb=st.integers(0, 8))
    def cluster(self, node: str, verb: int) -> None:
        if verb == 0:
            self.both("leave", node, self.now)
        elif verb == 1:
            self.both("declare_dead", self.now)
        elif verb == 2:
            self.both("prune_nodes", self.now - 3)
        elif verb == 6:
            self.both("drain", node, f"why{self.now % 2}", self.now)
        elif verb == 7:
            self.both("resume", node)
        elif verb == 8:
            self.both("remove_node", node, self.now)
        self.both("list_nodes")
        self.both("orphans", self.now, 3)
        self.both("cancel_flags", node)

    @rule(back=st.integers(0, 20), limit=st.integers(1, 3))
    def purge(self, back: int, limit: int) -> None:
        self.both("purge", self.now - back, limit)

    @rule(key=few)
    def remember(self, key: int) -> None:
        self.both("remember", "s", str(key), str(self.now).encode(), self.now)
        self.both("meta", str(key), str(self.now))

    @rule(
        states=st.lists(st.sampled_from(["queued", "claimed", "failed"]), max_size=2),
        low=st.none() | offsets,
        high=st.none() | offsets,
        before=st.integers(0, 50),
    )
    def read(self, states: Any, low: int | None, high: int | None, before: int) -> None:
        run = self.a_run(before, stale=False)
        where = RunFilter(
            project_ids=None if before % 3 else (1,),
            states=tuple(states),
            from_us=None if low is None else self.now + low,
            to_us=None if high is None else self.now + high,
        )
        self.both("list_runs", where, 4, None if run is None else run.key)
        self.both("last_runs", [1, 2, 3])
        self.both("list_jobs", JobFilter(search="JOB", enabled=before % 2 == 0), Page(limit=2))
        self.both("job_versions", 1)

    @invariant()
    def same(self) -> None:
        self.both("list_runs", RunFilter(), 1000)
        self.both("list_jobs", JobFilter(), Page(limit=1000))
        self.both("next_due_us")

    def teardown(self) -> None:
        self.wait(self.other.close())


def _runs_in(answer: Any) -> list[Any]:
    """Return the runs and attempts of an answer, in order."""
    if isinstance(answer, Run | Attempt):
        return [answer]
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, Decided):
        answer = answer.runs
    if isinstance(answer, Finished):
        answer = [answer.run]
    if isinstance(answer, list | tuple):
        return [run for item in answer for run in _runs_in(item)]
    return []


def _with_tokens(value: Any, table: dict[int, int]) -> Any:
    """Return the value with its tokens exchanged."""
    if isinstance(value, Run | Attempt):
        return replace(value, token=table.get(value.token, -value.token))
    if isinstance(value, Finish | Finished | Verdict):
        return replace(value, run=_with_tokens(value.run, table))
    if isinstance(value, Pulse):  # what one engine has of its own
        return replace(value, store_us=None, schema=None)
    if isinstance(value, Decided):
        return replace(value, runs=_with_tokens(value.runs, table))
    if isinstance(value, dict):
        return {key: _with_tokens(item, table) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], RunKey):
        return (value[0], table.get(value[1], -value[1]))
    if isinstance(value, list):
        return [_with_tokens(item, table) for item in value]
    if isinstance(value, tuple):
        return tuple(_with_tokens(item, table) for item in value)
    return value


def _project(number: int) -> Project:
    return Project(
        id=0, uuid=f"p{number}", name=f"P{number}", description="", created_us=1, updated_us=1
    )


def _node(name: str, now: int, lease: int) -> Node:
    return Node(
        id=name,
        name=name,
        host="h",
        pid=1,
        version="1",
        started_us=1,
        heartbeat_us=now,
        lease_until_us=lease,
        state="up",
        workers=1,
        running=0,
        queued=0,
        rss_bytes=0,
        cpu_percent=0.5,
    )
