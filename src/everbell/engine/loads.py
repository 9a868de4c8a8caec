"""How much work each shard means, tallied from what is decided and executed here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from everbell.domain.decision import Decision
from everbell.domain.job import US
from everbell.domain.placement import SHARDS, shard_of, weight
from everbell.ports.clock import Clock
from everbell.ports.store import Finish

JOBS_MAX = 50_000
"""Jobs kept in mind; of more, those decided longest ago are forgotten: they weigh least."""
NEW_PART = 0.3
"""Part of the newest value in an average."""
QUIET_PERIODS = 3.0
QUIET_S = 600.0
"""A job that was not decided for this long, and for three of its periods, weighs nothing."""
SWEEP = 5000
"""Jobs looked at in a call for being silent."""
TRUST_S = 7200.0
"""What the owner before said of a shard stands for so long, until its jobs were decided here."""
NOTICEABLE = 0.25
"""Part of a shard's weight by which a change is worth telling."""
SLIGHT = 0.005
"""Part of all weight below which a change of one shard is not."""


class _Job:
    """A job in the tally; seconds, and its weight as it is in the sum of its shard."""

    __slots__ = ("mean", "period", "seen", "weight")

    def __init__(self, period: float) -> None:
        self.period = period
        self.mean: float | None = None
        self.seen = 0.0
        self.weight = 0.0


class Loads:
    """A bounded tally of jobs: their period from decisions, their seconds from ended attempts.

    Sums are kept up to date with each note, so that asking for them costs little however many
    jobs there are.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: dict[int, _Job] = {}
        self._sums = [0.0] * SHARDS
        self._counts = [0] * SHARDS
        self._sweep: list[int] = []
        self._heard: dict[int, tuple[float, float]] = {}
        self._told: dict[int, float] = {}

    def __len__(self) -> int:
        """Return how many jobs are in the tally."""
        return len(self._jobs)

    def decided(self, decisions: Iterable[Decision]) -> None:
        """Take note of decided slots and of the slots that follow."""
        now = self._clock.monotonic()
        jobs = self._jobs
        for decision in decisions:
            job_id = decision.job_id
            period = 0.0
            if decision.next_slot_us is not None:
                period = (decision.next_slot_us - _last_slot(decision)) / US
            job = jobs.pop(job_id, None)
            if period <= 0:
                if job is not None:
                    self._forget(job_id, job)
                continue
            if job is None:
                job = _Job(period)
                self._counts[shard_of(job_id)] += 1
            else:
                job.period += NEW_PART * (period - job.period)
            job.seen = now
            # Moved to the end: those at the beginning were decided longest ago.
            jobs[job_id] = job
            self._weigh(job_id, job)
        while len(jobs) > JOBS_MAX:
            oldest = next(iter(jobs))
            self._forget(oldest, jobs.pop(oldest))

    def ended(self, finishes: Iterable[Finish]) -> None:
        """Take note of how long attempts lasted."""
        for finish in finishes:
            job_id = finish.run.key.job_id
            job = self._jobs.get(job_id)
            if job is None or finish.started_us is None:
                continue
            seconds = max(finish.finished_us - finish.started_us, 0) / US
            job.mean = seconds if job.mean is None else job.mean + NEW_PART * (seconds - job.mean)
            self._weigh(job_id, job)

    def own(
        self, taken: Collection[int], lost: Collection[int], stored: Mapping[int, float]
    ) -> None:
        """Take note of shards that came, with what is known of them, and of shards that went."""
        now = self._clock.monotonic()
        for shard in taken:
            if stored.get(shard, 0.0) > 0:
                self._heard[shard] = (stored[shard], now)
                self._told[shard] = stored[shard]
        for shard in lost:
            self._heard.pop(shard, None)
            self._told.pop(shard, None)
        gone = set(lost)
        for job_id in [it for it in self._jobs if shard_of(it) in gone] if gone else ():
            self._forget(job_id, self._jobs.pop(job_id))

    def weights(self) -> dict[int, float]:
        """Return the weight of each shard of which something is known; forget silent jobs."""
        now = self._clock.monotonic()
        self._forget_silent(now)
        found = {shard: load for shard, load in enumerate(self._sums) if load > 0}
        for shard, (load, since) in list(self._heard.items()):
            if now - since > TRUST_S or found.get(shard, 0.0) >= load:
                del self._heard[shard]
            else:
                found[shard] = load
        return found

    def news(self, shards: Collection[int]) -> dict[int, float]:
        """Return the weights of these shards that changed noticeably since they were told."""
        weights = self.weights()
        slight = SLIGHT * sum(weights.values())
        news: dict[int, float] = {}
        for shard in shards:
            now, told = weights.get(shard, 0.0), self._told.get(shard, 0.0)
            if abs(now - told) > max(NOTICEABLE * max(now, told), slight):
                news[shard] = round(now, 3)
        return news

    def told(self, news: Mapping[int, float]) -> None:
        """Take note that these weights are stored."""
        self._told.update(news)

    def _weigh(self, job_id: int, job: _Job) -> None:
        new = weight(job.period, job.mean)
        self._sums[shard_of(job_id)] += new - job.weight
        job.weight = new

    def _forget(self, job_id: int, job: _Job) -> None:
        shard = shard_of(job_id)
        self._counts[shard] -= 1
        # Exactly zero, not what rounding leaves, when nothing is left.
        self._sums[shard] = self._sums[shard] - job.weight if self._counts[shard] else 0.0

    def _forget_silent(self, now: float) -> None:
        """Look at some of the jobs; at all of them within a few calls."""
        if not self._sweep:
            self._sweep = list(self._jobs)
        for job_id in self._sweep[-SWEEP:]:
            job = self._jobs.get(job_id)
            if job is not None and now - job.seen > max(QUIET_S, QUIET_PERIODS * job.period):
                self._forget(job_id, self._jobs.pop(job_id))
        del self._sweep[-SWEEP:]


def _last_slot(decision: Decision) -> int:
    slots = [claim.slot_us for claim in decision.claims]
    slots += [mark.slot_us if mark.until_us is None else mark.until_us for mark in decision.marks]
    return max(slots, default=decision.cursor_us)
