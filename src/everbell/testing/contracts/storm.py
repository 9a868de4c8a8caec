"""Nodes that do random things to few jobs of one PostgreSQL, all at once: they surely meet.

Each process has a store of its own and several tasks. An hour of the jobs' time passes in
``HOUR_S``, so that days come and go meanwhile. What was acknowledged is told at the end; what holds
at any time is looked at from outside (``storm_watch``).
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251  (a seed replays each process's choices)
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal

from msgspec.structs import replace

from everbell.domain.decision import Claim, LeftBehind
from everbell.domain.errors import (
    ConflictError,
    NotFoundError,
    StoreConflict,
    StoreUnavailable,
    StoreUnknownOutcome,
)
from everbell.domain.run import FINAL, Run, RunKey
from everbell.ports.store import (
    Decided,
    Decision,
    DueJob,
    Finish,
    JobFilter,
    Mark,
    NewRun,
    OutputChunk,
    Page,
    RunFilter,
    Verdict,
)
from everbell.stores.postgres import PostgresStore
from everbell.testing.contracts.making import hold, new_job

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
HOUR_S = 0.1
KEPT_US = 4 * DAY_US
LIMIT = 1
"""How many runs the limit "db" allows."""
# name: overlap, max_running, limits
JOBS: dict[str, tuple[Literal["skip", "queue", "allow"], int, tuple[str, ...]]] = {
    "skip": ("skip", 1, ()),
    "skip2": ("skip", 2, ()),
    "queue": ("queue", 1, ()),
    "allow": ("allow", 1, ()),
    "limited": ("allow", 1, ("db",)),
    "limited2": ("queue", 2, ("db",)),
    "limited3": ("skip", 1, ("db",)),
    "limited4": ("allow", 1, ("db",)),
}
_EXPECTED = (ConflictError, NotFoundError, StoreConflict, StoreUnavailable, StoreUnknownOutcome)
_ENDS: tuple[Literal["succeeded", "failed", "timed_out"], ...] = (
    "succeeded",
    "failed",
    "timed_out",
)
Told = tuple[Any, ...]


def _missed(first: int, last: int) -> tuple[Mark, ...]:
    """Mark these slots as missed: one range for each day, as days are forgotten one by one."""
    marks: list[Mark] = []
    while first <= last:
        end = min(last, first - first % DAY_US + DAY_US - HOUR_US)
        count = (end - first) // HOUR_US + 1
        until = end if count > 1 else None
        marks.append(
            Mark(slot_us=first, state="missed", reason="late", until_us=until, count=count)
        )
        first = end + HOUR_US
    return tuple(marks)


class Chaos:
    """One process's tasks. ``told``: what the store acknowledged, in order."""

    def __init__(self, store: PostgresStore, name: str, base: tuple[int, float]) -> None:
        self.store = store
        self.name = name
        self.base = base
        self.told: list[Told] = []
        self.wrong: list[str] = []
        self.verbs: dict[str, int] = {}
        self.held: list[Run] = []
        self.old: list[Run] = []
        self.dice = random.Random(name)

    def now(self) -> int:
        """The jobs' time, the same in all processes."""
        start_us, start_s = self.base
        passed = asyncio.get_running_loop().time() - start_s
        return start_us + int(passed / HOUR_S * HOUR_US)

    async def work(self, until_s: float) -> None:
        """Do something until then."""
        verbs: Sequence[tuple[Any, int]] = (
            (self.decide, 30), (self.finish, 30), (self.take, 14), (self.start, 10),
            (self.enqueue, 6), (self.say, 5), (self.hand_back, 3), (self.cancel, 3),
            (self.recover, 3), (self.change, 2), (self.hold, 1), (self.release, 2),
            (self.purge, 1), (self.replaced, 1), (self.read, 2),
        )  # fmt: skip
        calls = [verb for verb, _ in verbs]
        weights = [weight for _, weight in verbs]
        while asyncio.get_running_loop().time() < until_s:
            [verb] = self.dice.choices(calls, weights)
            try:
                await verb()
                self.verbs[verb.__name__] = self.verbs.get(verb.__name__, 0) + 1
            except _EXPECTED as error:
                name = f"{verb.__name__} {type(error).__name__}"
                self.verbs[name] = self.verbs.get(name, 0) + 1
            except Exception as error:  # noqa: BLE001  (nothing else may come: it is told)
                self.wrong.append(f"{verb.__name__}: {error!r}")

    def _any(self, runs: Sequence[Run]) -> Run | None:
        return self.dice.choice(runs) if runs else None

    def _claimed(self, runs: Sequence[Run], asked_s: float) -> None:
        for run in runs:
            self.told.append(("claimed", run.key, run.attempt, run.token, asked_s))
        self.held.extend(runs)

    async def decide(self) -> None:
        """Decide what is due, some of it an hour or two ahead."""
        due = await self.store.due(self.now() + self.dice.choice((0, 0, 2)) * HOUR_US, 5)
        names = {job.id: job.definition.name for job in await self._jobs()}
        given = [self._decision(job, names[job.id]) for job in due if names.get(job.id) in JOBS]
        for it, answer in zip(given, await self._decided(given), strict=True):
            if answer.outcome == "blocked":
                [first] = it.claims
                state: Any = "queued" if "queue" in names[it.job_id] else "skipped"
                mark = Mark(slot_us=first.slot_us, state=state, reason="overlap")
                await self._decided([replace(it, claims=(), marks=(mark,))])

    async def _jobs(self) -> list[Any]:
        jobs, _ = await self.store.list_jobs(JobFilter(), Page(limit=50))
        return jobs

    async def _decided(self, given: list[Decision]) -> list[Decided]:
        asked_s = asyncio.get_running_loop().time()
        answers = await self.store.decide(self.name, given, self.now()) if given else []
        for answer in answers:
            self._claimed(answer.runs, asked_s)
        return answers

    def _decision(self, job: DueJob, name: str) -> Decision:
        overlap, most, limits = JOBS[name]
        slot, now = job.next_slot_us, self.now()
        after = slot + HOUR_US
        claims: tuple[Claim, ...] = ()
        marks: tuple[Mark, ...] = ()
        if now - slot > 12 * HOUR_US:
            last = now - now % HOUR_US
            marks = _missed(slot, last)
            after = last + HOUR_US
        elif limits:
            marks = (Mark(slot_us=slot, state="queued", reason="limit"),)
        else:
            limit = None if overlap == "allow" else most
            claims = (Claim(slot_us=slot, due_us=slot, trigger="schedule", max_active=limit),)
        return Decision(
            job_id=job.id,
            project_id=job.project_id,
            version=job.version,
            cursor_us=slot,
            next_slot_us=after,
            claims=claims,
            marks=marks,
        )

    async def take(self) -> None:
        """Take what is queued, sometimes by key."""
        keys = None
        if self.dice.random() < 0.4:
            where = RunFilter(states=("queued",))
            keys = [run.key for run in await self.store.list_runs(where, 5)]
        count = self.dice.randint(1, 3)
        asked_s = asyncio.get_running_loop().time()
        self._claimed(await self.store.take_queued(self.name, self.now(), count, keys), asked_s)

    async def start(self) -> None:
        """Say of one's claims that they run."""
        runs = [run for run in self.held[-6:] if run.due_us <= self.now()]
        answers = await self.store.mark_running([(run, self.now()) for run in runs], self.now())
        for run, answer in zip(runs, answers, strict=True):
            if answer == "stored":
                self.told.append(("started", run.key, run.attempt, run.token))

    async def finish(self) -> None:
        """End some of what is held, in all ways, some of it twice at once or with an old token."""
        ends: list[Finish] = []
        mine = [run for run in self.held if run.due_us <= self.now()]
        for run in self.dice.sample(mine, min(len(mine), self.dice.randint(1, 4))):
            self.held.remove(run)
            ends.append(self._end(run))
        if self.old and self.dice.random() < 0.2:
            ends.append(self._end(self.dice.choice(self.old)))
        if not ends:
            return
        self.old = [*self.old, *(it.run for it in ends)][-20:]
        twice = 2 if self.dice.random() < 0.2 else 1
        asked_s = asyncio.get_running_loop().time()
        results = await asyncio.gather(
            *(self.store.finish(ends, self.now()) for _ in range(twice)), return_exceptions=True
        )
        ended_s = asyncio.get_running_loop().time()
        seen: set[int] = set()
        for answers in results:
            if isinstance(answers, BaseException):
                raise answers
            for it, answer in zip(ends, answers, strict=True):
                if answer.outcome != "stored" or answer.run is None:
                    continue
                if it.next_due_us is None:
                    run = it.run
                    end = (run.attempt, run.token, it.state, it.finished_us)
                    self.told.append(("ended", run.key, *end, ended_s))
                elif answer.run.state not in FINAL and answer.run.token not in seen:
                    seen.add(answer.run.token)
                    self._claimed([answer.run], asked_s)

    def _end(self, run: Run) -> Finish:
        kind = self.dice.random()
        now = self.now()
        then: tuple[NewRun, ...] = ()
        if kind > 0.9:
            then = (self._new(run.key.job_id, f"then-{run.key.slot_us % 7}", "chain"),)
        return Finish(
            run=run,
            state=self.dice.choice(_ENDS),
            started_us=None if kind < 0.2 else run.due_us,
            finished_us=now,
            failures="count" if kind < 0.1 else "reset" if kind < 0.6 else "keep",
            next_due_us=now if kind < 0.15 else None,
            then=then,
        )

    def _new(self, job_id: int, name: str, trigger: Literal["manual", "chain"]) -> NewRun:
        now = self.now()
        key = RunKey(now - now % (6 * HOUR_US), job_id, name)
        return NewRun(key=key, project_id=1, version=1, trigger=trigger, due_us=now)

    async def enqueue(self) -> None:
        """Add a run that others add as well."""
        jobs = await self._jobs()
        name = f"m{self.dice.randint(0, 2)}"
        if jobs:
            new = self._new(self.dice.choice(jobs).id, name, "manual")
            await self.store.enqueue(new, self.now())

    async def say(self) -> None:
        """Store output of what is held, and of what is long over."""
        runs = [run for run in (self._any(self.held), self._any(self.old)) if run is not None]
        chunks = [
            OutputChunk(
                key=run.key,
                attempt=run.attempt,
                offset=3 * at,
                stream="out",
                at_us=self.now(),
                data=b"abc",
            )
            for run in runs
            for at in range(2)
        ]
        await self.store.append_output(chunks)

    async def hand_back(self) -> None:
        """Return a claim."""
        run = self._any(self.held)
        if run is not None:
            self.held.remove(run)
            self.old = [*self.old, run][-20:]
            await self.store.hand_back([run], self.now())

    async def cancel(self) -> None:
        """Cancel something that goes on."""
        open_ones = RunFilter(states=("queued", "claimed", "running"))
        run = self._any(await self.store.list_runs(open_ones, 30))
        if run is not None:
            await self.store.request_cancel(run.key, self.now())

    async def recover(self) -> None:
        """Judge runs of others as if those were dead."""
        active = RunFilter(states=("claimed", "running"))
        runs = await self.store.list_runs(active, 30)
        verdicts = [
            Verdict(run=run, state=self.dice.choice(("queued", "lost")), reason="as if dead")
            for run in self.dice.sample(runs, min(len(runs), 2))
        ]
        await self.store.recover(verdicts, self.now())

    async def change(self) -> None:
        """Define a job anew, or disable or enable it: it goes on with the next slot."""
        jobs = [job for job in await self._jobs() if job.definition.name in JOBS]
        job = self.dice.choice(jobs)
        now, cursor = self.now(), job.next_slot_us
        after = now - now % HOUR_US + HOUR_US
        marks = _missed(cursor, after - HOUR_US)
        changed = replace(
            job,
            definition=replace(job.definition, description=str(now)),
            enabled=not job.enabled or self.dice.random() < 0.7,
            parked="",
            quarantined="",
            next_slot_us=after,
        )
        left = LeftBehind(cursor_us=cursor, marks=marks)
        await self.store.change_job(changed, job.version, now, left)

    async def hold(self) -> None:
        """Hold one job or all."""
        jobs = await self._jobs()
        if jobs:
            job = self.dice.choice(jobs)
            made = hold("job", job.id) if self.dice.random() < 0.7 else hold("all")
            await self.store.add_hold(replace(made, created_us=self.now()))

    async def release(self) -> None:
        """Release what is held longest."""
        for found in (await self.store.list_holds())[:1]:
            await self.store.release(found.id, "each", self.now())

    async def purge(self) -> None:
        """Forget what is old."""
        before = self.now() - KEPT_US
        before -= before % DAY_US
        self.told.append(("purged", before))
        await self.store.purge(before, 50)

    async def replaced(self) -> None:
        """Delete a job that comes and goes, or add it."""
        jobs = [job for job in await self._jobs() if job.definition.name == "passing"]
        if jobs:
            await self.store.enqueue(self._new(jobs[0].id, "last", "manual"), self.now())
            await self.store.delete_job(jobs[0].id, self.now())
        else:
            new = new_job("passing", cursor=None, overlap="allow")
            await self.store.add_jobs([replace(new, uuid=f"{self.name}-{self.now()}")], self.now())

    async def read(self) -> None:
        """Read what lists show."""
        jobs = await self._jobs()
        await self.store.last_runs([job.id for job in jobs])
        for run in await self.store.list_runs(RunFilter(), 10):
            await self.store.attempts(run.key)
            await self.store.read_output(run.key, run.attempt, 0, 99)


def storm(where: str, name: str, base: tuple[int, float], lasts_s: float, said: Connection) -> None:
    """Be one of the processes; tell (acknowledged, faults, counts of verbs) at the end."""

    async def body() -> tuple[list[Told], list[str], dict[str, int]]:
        store = await PostgresStore.open(where, name=name)
        said.send("ready")
        chaos = Chaos(store, name, base)
        until_s = asyncio.get_running_loop().time() + lasts_s
        await asyncio.gather(*(chaos.work(until_s) for _ in range(3)))
        await store.close()
        return chaos.told, chaos.wrong, chaos.verbs

    said.send(asyncio.run(body()))
