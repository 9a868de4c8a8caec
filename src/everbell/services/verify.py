"""Proves on the user's own data that every slot is accounted for, and says what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from everbell.domain.account import Account, Finding, Slots, periods_of, set_back
from everbell.domain.job import US, Job, JobVersion, Record
from everbell.domain.records import Hold, Node
from everbell.domain.run import ACTIVE, FINAL, Run, RunKey
from everbell.domain.why import until_words
from everbell.ports.store import JobFilter, Page, RunFilter
from everbell.services.context import Actor, Services

SETTLE_US = 5 * US
"""Slots this young may still be on their way into the ledger."""
LATE_US = 60 * US
"""What waits longer than this needs an explanation."""
PAGE_SLOTS = 500
"""Small: between pages the runs of a node at work get their turn."""
PAGE_ROWS = 500
REQUEST_WORK = 50_000
"""Slots and rows after which a request ends and the next one goes on."""
REQUEST_JOBS = 500
FINDINGS_MAX = 1_000
BEFORE_MAX = 50
"""Rows before the first slot among which a range may reach into the time that is judged."""


FORGOTTEN = "the row of a range that began before runs are kept is forgotten"


class Place(Record, frozen=True):
    """Where the last request ended: after this job, or (``from_us``) inside of it."""

    job_id: int
    from_us: int | None = None


class Asked(Record, frozen=True):
    """What is to be verified. None = all that is kept, up to now."""

    project_id: int | None = None
    job_id: int | None = None
    from_us: int | None = None
    to_us: int | None = None
    place: Place | None = None


class Trouble(Record, frozen=True):
    """A finding of a job."""

    job: Job
    finding: Finding


class Verified(Record, frozen=True):
    """What was looked at, and what does not add up. ``states`` counts slots by what they became.

    ``place`` given = there is more; ask again from there.
    """

    from_us: int
    to_us: int
    jobs: int
    slots: int
    states: dict[str, int]
    troubles: tuple[Trouble, ...]
    unexplained: int
    explained: int
    place: Place | None = None


async def verify(services: Services, actor: Actor, asked: Asked) -> Verified:
    """Compare the ledger with what the schedules planned, a bounded part at a time."""
    work = Work(services, asked)
    await work.look_around()
    while work.has_room:
        job = await work.next_job(actor)
        if job is None:
            break
        await work.judge(job)
    return work.result()


class Work:
    """One request."""

    def __init__(self, services: Services, asked: Asked) -> None:
        self._store = services.store
        self._clock = services.clock
        engine = services.settings.engine
        self._look_ahead_us = int(engine.look_ahead * US)
        self._history_us = int(engine.history_days * 86_400 * US)
        self._now_us = services.clock.now_us()
        self._asked = asked
        settled = self._now_us - self._look_ahead_us - SETTLE_US
        self._to_us = settled if asked.to_us is None else min(asked.to_us, settled)
        self._place = asked.place
        self._more = True
        self._queue: list[Job] = []
        self._holds: list[Hold] = []
        self._nodes: dict[str, Node] = {}
        self._left = REQUEST_WORK
        self._jobs = self._slots = self._unexplained = self._explained = 0
        self._states: Counter[str] = Counter()
        self._troubles: list[Trouble] = []

    async def look_around(self) -> None:
        """Read what bears on every job."""
        self._holds = await self._store.list_holds()
        self._nodes = {node.id: node for node in await self._store.list_nodes()}

    @property
    def has_room(self) -> bool:
        """Whether another job may be judged in this request."""
        return self._left > 0 and self._jobs < REQUEST_JOBS and self._more

    @property
    def kept_us(self) -> int:
        """From when on runs are kept; moves on while this works."""
        return self._clock.now_us() - self._history_us

    async def next_job(self, actor: Actor) -> Job | None:
        """Return the next job by id, or None."""
        if not self._queue:
            self._queue = await self._more_jobs(actor)
        if not self._queue:
            self._more, self._place = False, None
            return None
        return self._queue.pop(0)

    async def _more_jobs(self, actor: Actor) -> list[Job]:
        place, asked = self._place, self._asked
        if place is not None and place.from_us is not None:
            return await self._store.get_jobs([place.job_id])
        after = 0 if place is None else place.job_id
        if asked.job_id is not None:
            return await self._store.get_jobs([asked.job_id]) if after < asked.job_id else []
        ids = actor.project_ids if asked.project_id is None else (asked.project_id,)
        where = JobFilter(project_ids=ids, after=after)
        return (await self._store.list_jobs(where, Page(limit=100)))[0]

    async def judge(self, job: Job) -> None:
        """Compare one job, as far as this request goes."""
        place = self._place
        first = self._first(job)
        if place is not None and place.job_id == job.id and place.from_us is not None:
            first = max(first, place.from_us)
        else:
            self._jobs += 1
        judged = await self._judged(job, first)
        self._slots += judged.slots
        self._states += judged.states
        for finding in judged.findings:
            self._note(job, finding)
        goes_on = judged.ended_us < self._to_us
        self._place = Place(job_id=job.id, from_us=judged.ended_us if goes_on else None)
        if goes_on:
            self._left = 0

    async def _judged(self, job: Job, first_us: int) -> JobAccount:
        """Judge again if something odd was found and the job changed meanwhile."""
        judged = JobAccount(self, job, first_us)
        await judged.run()
        if all(one.why for one in judged.findings):
            return judged
        now = await self._store.get_jobs([job.id])
        if not now:
            judged.findings.clear()
        elif (now[0].version, now[0].next_slot_us) != (job.version, job.next_slot_us):
            judged = JobAccount(self, now[0], first_us)
            await judged.run()
        return judged

    def _first(self, job: Job) -> int:
        asked = self._asked.from_us
        first = max(self.kept_us, job.created_us - 1)
        return first if asked is None else max(first, asked - 1)

    def _note(self, job: Job, finding: Finding) -> None:
        """Count a finding, and keep it if there is room."""
        if finding.why:
            self._explained += 1
        else:
            self._unexplained += 1
        if len(self._troubles) < FINDINGS_MAX:
            self._troubles.append(Trouble(job=job, finding=finding))

    def result(self) -> Verified:
        """Return the answer."""
        asked = self._asked.from_us
        return Verified(
            from_us=self.kept_us if asked is None else max(self.kept_us, asked),
            to_us=self._to_us,
            jobs=self._jobs,
            slots=self._slots,
            states=dict(sorted(self._states.items())),
            troubles=tuple(self._troubles),
            unexplained=self._unexplained,
            explained=self._explained,
            place=self._place if self._more else None,
        )

    # --- for one job ---

    def spend(self, slots: Slots, rows: Sequence[Run]) -> bool:
        """Take note of a page; return whether there may be another one."""
        self._left -= len(slots.must) + len(rows)
        return self._left > 0

    @property
    def span(self) -> tuple[int, int, int]:
        """Now, the last slot that is judged, and the look-ahead."""
        return self._now_us, self._to_us, self._look_ahead_us

    async def versions(self, job: Job) -> list[JobVersion]:
        """Return what the job was, oldest first."""
        return await self._store.job_versions(job.id)

    async def rows(self, job: Job, after_us: int, until_us: int) -> list[Run]:
        """Return a job's rows of a time, in order of time."""
        where = RunFilter(job_id=job.id, from_us=after_us + 1, to_us=until_us)
        found: list[Run] = []
        before: RunKey | None = None
        while True:
            page = await self._store.list_runs(where, PAGE_ROWS, before)
            found += [run for run in page if not run.key.trigger_id or run.state not in FINAL]
            if len(page) < PAGE_ROWS:
                return found[::-1]
            before = page[-1].key

    async def reaching_in(self, job: Job, first_us: int) -> list[Run]:
        """Return the ranges that began before, and reach into, the time that is judged."""
        where = RunFilter(job_id=job.id, to_us=first_us, triggers=("schedule", "catch_up"))
        earlier = await self._store.list_runs(where, BEFORE_MAX)
        return [run for run in reversed(earlier) if run.until_us and run.until_us > first_us]

    def held(self, job: Job) -> Hold | None:
        """Return a hold that covers the job."""
        targets = {"all": 0, "project": job.project_id, "job": job.id}
        return next((it for it in self._holds if it.target_id == targets[it.scope]), None)

    @property
    def someone_works(self) -> bool:
        """Whether a node takes new runs."""
        return any(
            node.state == "up" and node.lease_until_us >= self._now_us
            for node in self._nodes.values()
        )

    def is_alive(self, node_id: str) -> bool:
        """Whether a node's lease lasts, or ended a moment ago."""
        node = self._nodes.get(node_id)
        gone = node is None or node.state in {"dead", "left"}
        return not gone and node is not None and node.lease_until_us >= self._now_us - LATE_US


class JobAccount:
    """One job's slots and rows, page by page; one use. ``ended_us`` tells how far it got."""

    def __init__(self, work: Work, job: Job, first_us: int) -> None:
        self._work = work
        self._job = job
        self._now_us, self._to_us, self._look_ahead_us = work.span
        self._first_us = first_us
        self._at_edge = first_us <= work.kept_us
        self._first_slot_us: int | None = None
        self.ended_us = self._to_us
        self.slots = 0
        self.states: Counter[str] = Counter()
        self.findings: list[Finding] = []

    async def run(self) -> None:
        """Judge up to the end, or as far as the request goes."""
        versions = await self._work.versions(self._job)
        at_us = self._first_us
        if not versions or at_us >= self._to_us:
            return
        account = Account(
            self._job,
            versions,
            periods_of(versions, self._now_us, self._look_ahead_us),
            twice=set_back(versions),
            open_us=self._job.next_slot_us if self._job.enabled else None,
        )
        for row in await self._work.reaching_in(self._job, at_us):
            account.resume(row)
        while at_us < self._to_us:
            slots = account.slots(at_us, self._to_us, PAGE_SLOTS)
            rows = await self._work.rows(self._job, at_us, slots.until_us)
            at_us = slots.until_us
            planned = self._page(account, slots, rows)
            if not self._work.spend(slots, planned) and not account.in_range:
                break
        self._take(account.end())
        self._tell_unreadable(account, versions)
        self.ended_us = at_us

    def _page(self, account: Account, slots: Slots, rows: Sequence[Run]) -> list[Run]:
        planned = [row for row in rows if not row.key.trigger_id]
        needed = [slot for slot, must in slots.must.items() if must]
        self.slots += len(needed)
        if self._first_slot_us is None:
            self._first_slot_us = min(needed, default=None)
        for row in planned:
            self.states[row.state] += row.count
        self._take(account.page(slots, planned))
        odd = (self._unfinished(row) for row in rows if row.state not in FINAL)
        self._take(one for one in odd if one is not None)
        return planned

    def _take(self, found: Iterable[Finding]) -> None:
        for one in found:
            if one.kind == "gap" and one.last_us <= self._work.kept_us:
                continue  # forgotten meanwhile
            if one.kind == "gap" and self._at_edge and one.first_us == self._first_slot_us:
                self.findings.append(replace(one, why=FORGOTTEN))
            elif one.kind == "undecided":
                self.findings.append(replace(one, why=self._why_undecided(one)))
            else:
                self.findings.append(one)

    def _tell_unreadable(self, account: Account, versions: Sequence[JobVersion]) -> None:
        for number in sorted(account.unreadable):
            since = next(one.since_us for one in versions if one.version == number)
            self.findings.append(
                Finding(
                    kind="gap",
                    first_us=since,
                    last_us=since,
                    count=0,
                    detail=f"the schedule of version {number} can't be read",
                    why="no slots can be derived from it; the job was quarantined then",
                )
            )

    def _why_undecided(self, it: Finding) -> str:
        job = self._job
        if job.quarantined:
            return f"the job is quarantined: {job.quarantined}"
        if job.parked:
            return f"the job is parked: {job.parked}; `resolve` decides them"
        if hold := self._work.held(job):
            said = f" ({hold.reason})" if hold.reason else ""
            return (
                f"hold {hold.id} of {hold.who}{said}{until_words(hold)}: its release decides them"
            )
        if not self._work.someone_works:
            return "no node is up: the first one to come decides them"
        if it.first_us > self._now_us - LATE_US:
            return "a node is about to decide them"
        return ""

    def _unfinished(self, row: Run) -> Finding | None:
        """Return what is odd about a row that is not final."""
        since = max(row.due_us, row.claimed_us or 0)
        if since > self._now_us - LATE_US or (
            row.state in ACTIVE and self._work.is_alive(row.node)
        ):
            return None
        finding = Finding(
            kind="not_final",
            first_us=row.key.slot_us,
            last_us=row.key.slot_us,
            run=row.id,
            detail=f"{row.state} since {(self._now_us - since) // US} s",
        )
        return replace(finding, why=self._why_unfinished(row))

    def _why_unfinished(self, row: Run) -> str:
        job = self._job
        if not self._work.someone_works:
            return "no node is up to go on with it"
        if row.state in ACTIVE:
            return ""
        stopped = not job.enabled or job.parked or job.quarantined
        if stopped or self._work.held(job):
            return "it waits: the job is held, disabled, parked or quarantined"
        if job.definition.overlap != "allow" or job.definition.limits:
            return "it waits for its turn behind other runs"
        return ""


def show_place(place: Place | None) -> str | None:
    """Return a place as text."""
    if place is None:
        return None
    return str(place.job_id) if place.from_us is None else f"{place.job_id}-{place.from_us}"


def read_place(text: str) -> Place:
    """Read what ``show_place`` wrote. Raises ValueError."""
    job, _, at = text.partition("-")
    parts = [job, at] if at else [job]
    if not all(one.isascii() and one.isdigit() and len(one) <= 18 for one in parts):
        raise ValueError("is no place")
    return Place(job_id=int(job), from_us=int(at) if at else None)
