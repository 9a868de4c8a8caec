"""The world of a simulated node: clock, chance, load, a failing store, logged targets."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import msgspec

from everbell.domain.audit import AuditEntry
from everbell.domain.errors import StoreUnavailable, StoreUnknownOutcome
from everbell.domain.job import US, Action, CommandAction
from everbell.domain.run import Outcome
from everbell.ports.executor import UNSURE_S, Assignment, OutputSink
from everbell.testing.sim.history import Changed, Checked, End, History, Start

WITHDRAW = frozenset({"change_job", "delete_job", "add_hold"})
READS = frozenset(
    {
        "get_project", "list_projects", "find_credential", "get_credential", "list_credentials",
        "get_job", "get_jobs", "list_jobs", "job_versions", "list_holds", "due", "next_due_us",
        "still_claimed", "cancel_flags", "read_output", "get_run", "attempts", "list_runs",
        "last_runs", "orphans", "list_nodes", "list_limits", "get_assignment", "shard_loads",
    }
)  # fmt: skip
LOAD_RSS = 64 << 20
PATIENCE_S = 3.0
"""How long a process waits for an answer: half a lease, as on PostgreSQL."""
Way = Literal["open", "silent", "deaf", "mute"]
"""One process's way to the store. ``deaf``: what is asked for is done, and the answer is lost.
``mute``: nothing is heard there. ``silent``: both."""
CHECK = CommandAction(argv=("check",))
"""The action that is a check; all others are work."""
ON_THE_WAY = 0.1
"""Part of the attempts that have to wait before they reach their target."""


class SimClock:
    """The clock of one node: wall time is the cluster's, shifted by jumps and a small skew."""

    def __init__(self, base_us: int, skew_us: int = 0) -> None:
        self.base_us = base_us
        self.skew_us = skew_us
        self.jump: list[int] = [0]
        self.peak: list[int] = [0]

    def now_us(self) -> int:
        """Return the wall clock."""
        passed = round(asyncio.get_running_loop().time() * US)
        return self.base_us + passed + self.skew_us + self.jump[0]

    def leap(self, step_us: int) -> None:
        """Set the wall clock of the whole cluster forward or back."""
        self.peak[0] = max(self.peak[0], self.now_us())
        self.jump[0] += step_us

    def highest_us(self) -> int:
        """Return the latest that the wall clock has ever shown."""
        return max(self.peak[0], self.now_us())

    def monotonic(self) -> float:
        """Return virtual seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(max(seconds, 0))


class SimEntropy:
    """Chance from the seed."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)

    def token_bytes(self, length: int) -> bytes:
        """Return seeded bytes."""
        return self._chance.randbytes(length)


class SimLoad:
    """An idle machine."""

    def rss_bytes(self) -> int:
        """Return a constant."""
        return LOAD_RSS

    def cpu_percent(self) -> float:
        """Return a constant."""
        return 5.0

    def cores(self) -> int:
        """Return a constant."""
        return 2

    def memory_bytes(self) -> tuple[int, int]:
        """Return constants."""
        return 64 * LOAD_RSS, 32 * LOAD_RSS


class SimSink:
    """Keeps all output in memory until it is drained."""

    def __init__(self) -> None:
        self._pieces: list[tuple[str, bytes]] = []
        self.total_bytes = 0
        self.truncated = False

    def write(self, stream: str, data: bytes) -> None:
        """Take output."""
        self._pieces.append((stream, data))
        self.total_bytes += len(data)

    def drain(self) -> list[tuple[str, bytes]]:
        """Return what is new."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def finish(self) -> list[tuple[str, bytes]]:
        """Nothing is ever held back."""
        return []


class Faults(msgspec.Struct, kw_only=True):
    """How the store treats one process; changed while the simulation runs."""

    latency_s: float = 0.0
    unavailable: float = 0.0
    unknown: float = 0.0
    outage: bool = False


class Shared:
    """One store behind all proxies; counts writes, so that each notices the others'.

    ``clock_us``: the store's own clock, if it is to have one, as PostgreSQL has.
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self.writes = 0
        self.changes: list[Changed] = []
        self.highest_us: Callable[[], int] = lambda: 0
        self.clock_us: Callable[[], int] | None = None

    def note_change(self, verb: str, args: tuple[Any, ...]) -> None:
        """Note how far the clock had been when a job changed."""
        if verb != "change_job":
            return
        job, version, now_us = args[:3]
        self.changes.append(
            Changed(
                job_id=job.id,
                version=version,
                now_us=now_us,
                highest_us=self.highest_us(),
            )
        )


class FaultyStore:
    """A store as one process sees it: late, sometimes away, sometimes silent about its answer.

    ``point`` is called as ``before:verb`` and ``after:verb``; it may never return (a crash).
    """

    def __init__(
        self, shared: Shared, seed: str, faults: Faults, point: Callable[[str], Any] | None = None
    ) -> None:
        self._shared = shared
        self._chance = random.Random(seed)
        self._faults = faults
        self._point = point
        self._own_writes = 0
        self.way: Way = "open"

    @property
    def sees_deaths(self) -> bool:
        """What the store behind says."""
        return bool(self._shared.store.sees_deaths)

    @property
    def unseen_s(self) -> float:
        """What the store behind says."""
        return float(self._shared.store.unseen_s)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        call = partial(self._call, verb, getattr(self._shared.store, verb))
        self.__dict__[verb] = call
        return call

    def audited(self, entry: AuditEntry) -> Any:
        """A proxy of the store. The change and its entry are one batch: they meet one fate."""
        return _Audited(self._call, self._shared.store.audited(entry))

    async def change_counter(self) -> int:
        """Count the writes of others."""
        await self._delay()
        self._refuse()
        await self._swallow("change_counter", "open")
        return self._shared.writes - self._own_writes

    async def close(self) -> None:
        """The shared store outlives its users."""

    async def _call(self, verb: str, real: Any, *args: Any, **kwargs: Any) -> Any:
        await self._delay()
        self._refuse()
        await self._swallow(verb, "deaf")
        await self._reach(f"before:{verb}")
        self._shared.note_change(verb, args)
        answer = await real(*args, **kwargs)
        if verb == "heartbeat" and self._shared.clock_us is not None:
            answer = msgspec.structs.replace(answer, store_us=self._shared.clock_us())
        if verb not in READS:
            self._shared.writes += 1
            self._own_writes += verb not in WITHDRAW
        await self._reach(f"after:{verb}")
        await self._delay()
        await self._swallow(verb, "mute")
        if verb not in READS and self._chance.random() < self._faults.unknown:
            message = "simulated: the answer was lost"
            raise StoreUnknownOutcome(message)
        return answer

    async def _swallow(self, verb: str, passing: Way) -> None:
        """Wait in vain if the way is cut here; ``passing`` is the cut that lets this pass."""
        if self.way in {"open", passing}:
            return
        await asyncio.sleep(PATIENCE_S)
        message = "simulated: nobody answers"
        if verb in READS or verb == "change_counter":
            raise StoreUnavailable(message)
        raise StoreUnknownOutcome(message)

    async def _delay(self) -> None:
        if self._faults.latency_s:
            await asyncio.sleep(self._chance.random() ** 3 * self._faults.latency_s)

    def _refuse(self) -> None:
        if self._faults.outage or self._chance.random() < self._faults.unavailable:
            message = "simulated: the store is away"
            raise StoreUnavailable(message)

    async def _reach(self, name: str) -> None:
        if self._point is not None:
            await self._point(name)


class _Audited:
    """The store for one change that carries an audit entry."""

    def __init__(self, call: Callable[..., Any], real: Any) -> None:
        self._call = call
        self._real = real

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return partial(self._call, verb, getattr(self._real, verb))


class Target:
    """How the targets of a job behave, drawn from the seed."""

    def __init__(self, seed: str) -> None:
        chance = random.Random(seed)
        self.seed = seed
        self.longest_s = chance.choice([0.05, 0.2, 1.0, 5.0, 20.0])
        self.fails = chance.choice([0.0, 0.0, 0.1, 0.5, 1.0])

    def draw(self, attempt: int, key: str) -> tuple[float, Outcome, bytes]:
        """Return duration, outcome and output of one attempt."""
        chance = random.Random(f"{self.seed}/{key}/{attempt}")
        duration = chance.random() * self.longest_s
        output = b"x" * chance.choice([0, 0, 10, 1000])
        if chance.random() >= self.fails:
            return duration, Outcome(state="succeeded", code=0), output
        after = chance.choice([None, None, 2.0])
        failed = Outcome(
            state="failed", code=1, error="drawn", retryable=chance.random() < 0.9,
            retry_after_s=after,
        )  # fmt: skip
        return duration, failed, output


class SimExecutor:
    """Performs any action by waiting, and logs to the outside what the target saw."""

    def __init__(
        self,
        node: str,
        clock: SimClock,
        history: History,
        seed: int,
        point: Callable[[str], Any] | None = None,
    ) -> None:
        self._node = node
        self._clock = clock
        self._history = history
        self._seed = seed
        self._point = point
        self.silent = False
        self.brisk = False

    def check(self, action: Action) -> None:
        """Accept everything."""

    async def close(self) -> None:
        """Nothing to release."""

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt in virtual time."""
        if self.silent:
            return Outcome(state="cancelled")
        if work.action == CHECK:
            return await self._check(work, cancel)
        run = work.run
        target = Target(f"{self._seed}/{run.key.job_id}")
        duration, outcome, output = target.draw(run.attempt, run.key.id)
        if self.brisk:
            duration, outcome = 0.01, Outcome(state="succeeded")
        if not await self._reached(work, cancel):
            return Outcome(state="cancelled")
        self._log_start(work)
        ended = "killed"
        try:
            if output:
                sink.write("out", output)
            await self._reach("during:run")
            outcome = await self._wait(work, cancel, duration, outcome)
            ended = outcome.state
            await self._reach("after:output")
        finally:
            self._log_end(work, ended)
        return outcome

    async def _reached(self, work: Assignment, cancel: asyncio.Event) -> bool:
        """Wait, as some do for a connection; return False if the attempt was cancelled."""
        chance = random.Random(f"{self._seed}/way/{work.run.key.id}/{work.run.attempt}")
        if self.brisk or chance.random() > ON_THE_WAY:
            return True
        way_s = chance.random() * chance.choice([0.1, 2.0, 10.0])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(way_s, work.timeout_s / 2)):
                await cancel.wait()
        while not cancel.is_set() and not work.holds():
            await self._clock.sleep(UNSURE_S)
        return not cancel.is_set()

    async def _check(self, work: Assignment, cancel: asyncio.Event) -> Outcome:
        run = work.run
        chance = random.Random(f"{self._seed}/check/{run.key.id}")
        code = chance.choice([0, 0, 1, 1, 2])
        duration = 0.01 if self.brisk else chance.random() * chance.choice([0.1, 3.0, 12.0])
        late = duration > work.timeout_s
        self._history.events.append(
            Checked(
                at_us=round(self._clock.monotonic() * US),
                node=self._node,
                key=run.key,
                attempt=run.attempt,
                token=run.token,
                code=None if late else code,
            )
        )
        await self._reach("during:check")
        found = Outcome(state="failed" if code else "succeeded", code=code)
        return await self._wait(work, cancel, duration, found)

    async def _wait(
        self, work: Assignment, cancel: asyncio.Event, duration: float, outcome: Outcome
    ) -> Outcome:
        try:
            async with asyncio.timeout(min(duration, work.timeout_s)):
                await cancel.wait()
        except TimeoutError:
            if duration > work.timeout_s:
                return Outcome(state="timed_out", error="drawn")
            return outcome
        return Outcome(state="cancelled")

    async def _reach(self, name: str) -> None:
        if self._point is not None:
            await self._point(name)

    def _log_start(self, work: Assignment) -> None:
        run = work.run
        self._history.events.append(
            Start(
                at_us=round(self._clock.monotonic() * US),
                wall_us=self._clock.highest_us(),
                node=self._node,
                key=run.key,
                attempt=run.attempt,
                token=run.token,
            )
        )

    def _log_end(self, work: Assignment, outcome: str) -> None:
        if self.silent:
            return
        run = work.run
        self._history.events.append(
            End(
                at_us=round(self._clock.monotonic() * US),
                node=self._node,
                key=run.key,
                attempt=run.attempt,
                token=run.token,
                outcome=outcome,
            )
        )
