"""What people do meanwhile: create, edit, switch, hold, trigger, cancel and delete jobs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from everbell.domain.errors import ConflictError, NotFoundError
from everbell.domain.job import (
    US,
    CommandAction,
    Definition,
    HttpAction,
    Job,
    Misfire,
    OnFailure,
    Retry,
    Then,
)
from everbell.domain.run import ACTIVE
from everbell.ports.store import JobFilter, Page, RunFilter
from everbell.services import holds, jobs, limits, nodes, runs, skipping
from everbell.services.context import LOCAL, Services
from everbell.services.skipping import Wish
from everbell.services.validate import Draft
from everbell.testing.sim.history import LimitSet, Op
from everbell.testing.sim.world import CHECK, SimClock

SCHEDULES = (
    "@every 1s",
    "@every 2s",
    "@every 7s",
    "@every 20s",
    "@every 1m",
    "*/5 * * * * *",
    "*/10 * * * * *",
    "* * * * *",
    "*/2 * * * *",
    "30 1,2 * * *",
    "*/7 0-23 * * *",
    "0,30 * * * * *",
)
ZONES = ("UTC", "Europe/Stockholm", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham")


class Operator:
    """Uses the same use cases as the API, and writes down what was acknowledged."""

    def __init__(
        self, services: Services, cluster: Any, chance: random.Random, clock: SimClock
    ) -> None:
        self._services = services
        self._cluster = cluster
        self._chance = chance
        self._clock = clock
        self._made = 0

    async def create(self, count: int) -> None:
        """Create jobs."""
        drafts = []
        for _ in range(count):
            self._made += 1
            drafts.append(Draft(definition=self._definition(f"job-{self._made}")))
        await jobs.create(self._services, LOCAL, drafts)

    async def act(self) -> None:
        """Do one random thing; losing a race against another operation is fine."""
        deeds: list[Callable[[], Any]] = [
            self._edit, self._edit_schedule, self._switch, self._switch, self._hold, self._release,
            self._trigger, self._cancel, self._cancel, self._resolve, self._delete,
            self._limit, self._skip,
        ]  # fmt: skip
        try:
            await self._chance.choice(deeds)()
        except (NotFoundError, ConflictError):
            return

    async def drain(self, name: str) -> bool:
        """Drain a node; False if none of this name has joined yet."""
        try:
            await nodes.drain(self._services, LOCAL, name)
        except NotFoundError:
            return False
        return True

    async def undrain(self, name: str) -> None:
        """End the drain of a node."""
        with contextlib.suppress(NotFoundError):
            await nodes.resume(self._services, LOCAL, name)

    async def release_all(self) -> None:
        """Release all holds and enable all jobs."""
        for hold in await holds.list_all(self._services, LOCAL):
            await self._release_one(hold.id, hold.scope, hold.target_id)
        for job in await self._jobs():
            if not job.enabled:
                await self._set_enabled(job, enabled=True)

    async def resolve_all(self) -> None:
        """Put parked jobs back to work."""
        for job in await self._jobs():
            if job.parked:
                await jobs.resolve(self._services, LOCAL, job.id)

    async def unschedule_all(self) -> None:
        """Take all schedules away, so that what is open can end."""
        for job in await self._jobs():
            await jobs.change(
                self._services, LOCAL, job.id, lambda old: self._draft(old, schedule=None)
            )

    def _definition(self, name: str) -> Definition:
        chance = self._chance
        at_most_once = chance.random() < 0.25
        return Definition(
            name=name,
            action=chance.choice(
                (HttpAction(url="http://sim.example/x"), CommandAction(argv=("true",)))
            ),
            schedule=chance.choice(SCHEDULES),
            timezone=chance.choice(ZONES),
            jitter_s=chance.choice([0.0, 0.0, 0.0, 3.0]),
            misfire=Misfire(
                policy=chance.choice(["skip", "latest", "all"]),
                window_s=chance.choice([5.0, 60.0, 3600.0]),
                max_catch_up=chance.choice([1, 5, 100]),
            ),
            overlap=chance.choice(["skip", "queue", "allow", "replace"]),
            max_running=chance.choice([1, 1, 2]),
            retry=chance.choice(
                [None, Retry(max=2, delay_s=1.0), Retry(max=5, delay_s=3.0, jitter=0.5)]
            ),
            timeout_s=chance.choice([None, 0.5, 10.0]),
            on_failure=OnFailure(park_after=chance.choice([0, 0, 3])),
            delivery="at_most_once" if at_most_once else "at_least_once",
            check=CHECK if chance.random() < 0.2 else None,
            then=self._then(),
            limits=chance.choice([(), (), (), ("a",), ("b",), ("a", "b")]),
        )

    def _then(self) -> tuple[Then, ...]:
        """Draw followers among the jobs made before, so that no chain is a circle."""
        chance, before = self._chance, self._made - 1
        drawn = [
            Then(
                job=f"job-{chance.randrange(before) + 1}",
                on=chance.choice(["success", "failure", "always"]),
                delay_s=chance.choice([0.0, 0.0, 3.0, 40.0]),
            )
            for _ in range(chance.choice([0, 0, 0, 1, 2]) if before > 0 else 0)
        ]
        return tuple({(one.job, one.on): one for one in drawn}.values())

    def _draft(self, job: Job, **changes: Any) -> Draft:
        return Draft(
            definition=msgspec.structs.replace(job.definition, **changes), enabled=job.enabled
        )

    async def _jobs(self) -> list[Job]:
        found, _ = await self._services.store.list_jobs(JobFilter(), Page(limit=1000))
        return found

    async def _pick(self) -> Job:
        found = await self._jobs()
        if not found:
            await self.create(1)
            found = await self._jobs()
        return self._chance.choice(found)

    def _now(self) -> int:
        return round(self._clock.monotonic() * US)

    def _log(
        self,
        asked_us: int,
        kind: str,
        scope: Literal["all", "project", "job"] = "job",
        target: int = 0,
    ) -> None:
        self._cluster.history.events.append(
            Op(
                asked_us=asked_us,
                acked_us=self._now(),
                wall_us=self._clock.now_us(),
                kind=kind,
                scope=scope,
                target=target,
            )
        )

    async def _edit(self) -> None:
        job, fresh = await self._pick(), self._definition("x")
        changes = {"overlap": fresh.overlap, "misfire": fresh.misfire, "retry": fresh.retry}
        await jobs.change(self._services, LOCAL, job.id, lambda old: self._draft(old, **changes))

    async def _edit_schedule(self) -> None:
        job, fresh = await self._pick(), self._definition("x")
        changes = {"schedule": fresh.schedule, "timezone": fresh.timezone}
        await jobs.change(self._services, LOCAL, job.id, lambda old: self._draft(old, **changes))

    async def _switch(self) -> None:
        job = await self._pick()
        await self._set_enabled(job, enabled=not job.enabled)

    async def _set_enabled(self, job: Job, *, enabled: bool) -> None:
        asked = self._now()
        await jobs.set_enabled(self._services, LOCAL, job.id, enabled)
        self._log(asked, "enable" if enabled else "disable", "job", job.id)

    async def _hold(self) -> None:
        job = await self._pick()
        scope: Literal["all", "project", "job"] = self._chance.choice(
            ("all", "project", "job", "job", "job")
        )
        target = {"all": None, "project": job.project_id, "job": job.id}[scope]
        asked = self._now()
        hold = await holds.add(self._services, LOCAL, scope, target)
        self._log(asked, "hold", scope, hold.target_id)

    async def _release(self) -> None:
        found = await holds.list_all(self._services, LOCAL)
        if found:
            hold = self._chance.choice(found)
            await self._release_one(hold.id, hold.scope, hold.target_id)

    async def _release_one(
        self, hold_id: int, scope: Literal["all", "project", "job"], target: int
    ) -> None:
        choice: Literal["once", "each", "skip"] = self._chance.choice(("once", "each", "skip"))
        asked = self._now()
        await holds.release(self._services, LOCAL, hold_id, choice)
        self._log(asked, "release", scope, target)

    async def _trigger(self) -> None:
        await runs.trigger(self._services, await self._pick())

    async def _cancel(self) -> None:
        where = RunFilter(states=("queued", *sorted(ACTIVE)))  # type: ignore[arg-type]
        found = await self._services.store.list_runs(where, 100)
        if found:
            await runs.cancel(self._services, LOCAL, self._chance.choice(found).id)

    async def _skip(self) -> None:
        instead = self._chance.random() < 0.5
        job = await self._pick()
        await skipping.skip(self._services, LOCAL, job, Wish(instead=instead))

    async def _resolve(self) -> None:
        await jobs.resolve(self._services, LOCAL, (await self._pick()).id)

    async def _limit(self) -> None:
        name, most = self._chance.choice("ab"), self._chance.choice([1, 2, 3])
        event = LimitSet(at_us=self._now(), name=name, most=most)
        self._cluster.history.events.append(event)
        await limits.put(self._services, LOCAL, name, most)

    async def _delete(self) -> None:
        job = await self._pick()
        asked = self._now()
        await jobs.delete(self._services, LOCAL, job.id)
        self._log(asked, "delete", "job", job.id)
        await self.create(1)
