"""Why did a job run, or not, at some time?"""

from __future__ import annotations

from collections.abc import Sequence

from everbell.domain.errors import ScheduleError
from everbell.domain.job import US, Definition, Job, JobVersion, Record, compile_schedule
from everbell.domain.run import ACTIVE, Run
from everbell.domain.schedule import Schedule
from everbell.domain.why import outcome_words, until_words
from everbell.ports.store import RunFilter
from everbell.services.context import Services

BESIDE_MAX = 50
SLACK_US = 1 * US
"""A time asked for to the second means the slot within that second."""


class SlotTold(Record, frozen=True):
    """A slot and what became of it."""

    at_us: int
    words: str
    run: Run | None = None


class Why(Record, frozen=True):
    """The answer: ``verdict`` in one sentence, ``facts`` that bear on it, and the slots around.

    ``version`` is the definition's version at that time; None = the job did not exist.
    """

    at_us: int
    verdict: str
    facts: tuple[str, ...]
    version: JobVersion | None
    slot: SlotTold | None = None
    before: SlotTold | None = None
    after: SlotTold | None = None
    runs: tuple[Run, ...] = ()


async def why(services: Services, job: Job, at_us: int | None = None) -> Why:
    """Explain the slot at ``at_us``, or what is nearest; None = the last slot before now."""
    now_us = services.clock.now_us()
    versions = await services.store.job_versions(job.id)
    asking = _Asking(services, job, versions, now_us)
    if at_us is None:
        last = asking.slot_before(now_us + 1)
        at_us = now_us if last is None else last
    return await asking.answer(at_us)


class _Asking:
    """One question."""

    def __init__(
        self, services: Services, job: Job, versions: Sequence[JobVersion], now_us: int
    ) -> None:
        self._store = services.store
        self._services = services
        self._job = job
        self._versions = versions
        self._now_us = now_us

    def version_at(self, at_us: int) -> JobVersion | None:
        """Return what the job was; changed at an instant, its slot is the old version's."""
        found = [one for one in self._versions if one.since_us < at_us]
        return found[-1] if found else None

    def slot_before(self, before_us: int) -> int | None:
        """Return the last slot before, of the version that had it."""
        for version in reversed(self._versions):
            if version.since_us >= before_us:
                continue
            schedule = self._schedule(version)
            found = schedule.previous_us(before_us) if schedule is not None else None
            if found is not None and found > version.since_us:
                return found
            before_us = min(before_us, version.since_us + 1)
        return None

    def slot_after(self, after_us: int) -> int | None:
        """Return the first slot after, of the version that had it or has it."""
        for index, version in enumerate(self._versions):
            last = index + 1 == len(self._versions)
            until = None if last else self._versions[index + 1].since_us
            if until is not None and until <= after_us:
                continue
            schedule = self._schedule(version)
            begin = max(after_us, version.since_us)
            found = schedule.next_us(begin) if schedule is not None else None
            if found is not None and (until is None or found <= until):
                return found
        return None

    def _schedule(self, version: JobVersion) -> Schedule | None:
        if not version.enabled:
            return None
        try:
            return compile_schedule(version.definition, self._job.uuid, self._job.created_us)
        except ScheduleError:
            return None

    async def answer(self, at_us: int) -> Why:
        """Put together what is known of an instant."""
        version = self.version_at(at_us)
        exact = self.slot_after(at_us - 1)
        slot_us = exact if exact is not None and exact < at_us + SLACK_US else None
        before_us = self.slot_before(at_us if slot_us is None else slot_us)
        after_us = self.slot_after(at_us if slot_us is None else slot_us)
        slot = None if slot_us is None else await self._told(slot_us)
        before = None if before_us is None else await self._told(before_us)
        after = None if after_us is None else await self._told(after_us)
        runs = await self._beside(at_us)
        mine = None if slot is None else slot.run
        if mine is not None:
            runs = [run for run in runs if run.key != mine.key]
        return Why(
            at_us=at_us if slot_us is None else slot_us,
            verdict=slot.words if slot is not None else self._no_slot(at_us, version),
            facts=(*await self._facts(slot), *self._then(version, at_us)),
            version=version,
            slot=slot,
            before=before,
            after=after,
            runs=tuple(runs),
        )

    def _no_slot(self, at_us: int, version: JobVersion | None) -> str:
        if version is None or at_us <= self._job.created_us:
            return "the job did not exist yet"
        if not version.enabled:
            return "no slot at that time: the job was disabled"
        if version.definition.active_schedule is None:
            return "no slot at that time: the job has no schedule, it runs only when told"
        return "no slot at that time"

    async def _told(self, slot_us: int) -> SlotTold:
        run = await self._row(slot_us)
        if run is not None:
            version = next((it for it in self._versions if it.version == run.version), None)
            known = self._job.definition if version is None else version.definition
            return SlotTold(at_us=slot_us, words=outcome_words(run, known), run=run)
        return SlotTold(at_us=slot_us, words=await self._without_row(slot_us))

    async def _row(self, slot_us: int) -> Run | None:
        where = RunFilter(job_id=self._job.id, to_us=slot_us, triggers=("schedule", "catch_up"))
        for run in await self._store.list_runs(where, BESIDE_MAX):
            if run.key.slot_us == slot_us or (run.until_us or 0) >= slot_us:
                return run
        return None

    async def _without_row(self, slot_us: int) -> str:
        job = self._job
        stopped = await self._stopped()
        if slot_us > self._now_us:
            return f"planned; but {stopped}" if stopped else "planned"
        kept = self._services.settings.engine.history_days
        if slot_us < self._now_us - int(kept * 86_400 * US):
            return f"forgotten: runs are kept {kept:g} days"
        if job.enabled and job.next_slot_us is not None and slot_us >= job.next_slot_us:
            if stopped:
                return f"undecided: {stopped}"
            if not await self._someone_works():
                return "undecided: no node is up; the first one to come decides it"
            return "undecided: a node is about to decide it"
        return "unaccounted for: no row, and nothing explains it (see `everbell verify`)"

    async def _stopped(self) -> str:
        """Say what keeps the job from running now."""
        job = self._job
        if job.quarantined:
            return f"the job is quarantined: {job.quarantined}"
        if not job.enabled:
            return "the job is disabled"
        if job.parked:
            return f"the job is parked: {job.parked}"
        targets = {"all": 0, "project": job.project_id, "job": job.id}
        for hold in await self._store.list_holds():
            if hold.target_id == targets[hold.scope]:
                said = f": {hold.reason}" if hold.reason else ""
                return f"hold {hold.id} of {hold.who} (scope {hold.scope}){said}{until_words(hold)}"
        return ""

    async def _someone_works(self) -> bool:
        nodes = await self._store.list_nodes()
        return any(it.state == "up" and it.lease_until_us >= self._now_us for it in nodes)

    async def _facts(self, slot: SlotTold | None) -> list[str]:
        facts: list[str] = []
        stopped = await self._stopped()
        if stopped:
            facts.append(f"now: {stopped}")
        run = slot.run if slot is not None else None
        if run is None:
            return facts
        if run.node:
            facts.append(f"node {run.node}, attempt {run.attempt}, token {run.token}")
        if run.reason == "overlap":
            facts += [
                f"run {it.id} was {'active' if it.state in ACTIVE else it.state} beside it"
                for it in await self._beside(run.key.slot_us)
                if it.key != run.key
            ]
        return facts

    async def _beside(self, at_us: int) -> list[Run]:
        """Return runs that were active at an instant."""
        where = RunFilter(job_id=self._job.id, to_us=at_us)
        found = await self._store.list_runs(where, BESIDE_MAX)
        return [
            run
            for run in found
            if run.started_us is not None
            and run.started_us <= at_us + SLACK_US
            and (run.finished_us is None or run.finished_us >= at_us)
        ]

    def _then(self, version: JobVersion | None, at_us: int) -> list[str]:
        if version is None:
            return []
        what = version.definition
        facts = [f"version {version.version} of the job was in force"]
        newer = [one for one in self._versions if one.since_us >= at_us]
        if newer:
            facts[0] += f"; it has been changed {len(newer)} times since"
        return [*facts, _policies(what)]


def _policies(what: Definition) -> str:
    schedule = "no schedule" if what.active_schedule is None else f"`{what.active_schedule}`"
    kind = " (override)" if what.override is not None else ""
    return (
        f"schedule {schedule}{kind} in {what.timezone}, misfire {what.misfire.policy} within"
        f" {what.misfire.window_s:g} s, overlap {what.overlap} (at most {what.max_running})"
    )
