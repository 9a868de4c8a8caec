"""What a node counts, and how Prometheus reads it. Every label has few values.

Counting is additions to plain numbers, in batches where the engine works in batches; names, help
texts and sums are made when somebody asks. ``docs/reference/metrics.md`` lists all.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from everbell.domain.decision import Decision
from everbell.domain.job import US, Action, HttpAction, Record
from everbell.domain.run import Outcome, Run
from everbell.ports.destinations import DestinationState
from everbell.ports.store import Decided, Finish, Finished
from everbell.telemetry.tally import Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.registry import Collector

LATENESS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0)
DURATION_S = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0)
STORE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
LAG_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
MAX_JOBS = 1000
"""Jobs counted by themselves; what the others do is counted under the id 0."""


class Reading(Record, frozen=True):
    """What a node is at this moment. ``lease_age_s``: since its lease was renewed."""

    live: int
    waiting: int
    timed: int
    ending: int
    workers: int
    lease_age_s: float
    lease_s: float
    healthy: dict[str, bool]
    throttled: bool
    destinations: list[DestinationState]
    followers: int = 0


class Metrics:
    """The counters of one node. Implements ``ports.observer.RunObserver``."""

    def __init__(self, *, by_job: bool = False) -> None:
        self.runs: Counter[tuple[str, str]] = Counter()
        self.by_job: Counter[tuple[int, str]] | None = Counter() if by_job else None
        self._jobs: set[int] = set()
        self.claims = 0
        self.retries = 0
        self.refused = 0
        self.calls: Counter[tuple[str, str]] = Counter()
        self.callbacks: Counter[tuple[str, str]] = Counter()
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.lateness = Histogram(LATENESS_S)
        self.duration = Histogram(DURATION_S)
        self.lag = Histogram(LAG_S)
        self.store: dict[str, Histogram] = {}
        self.store_errors: Counter[str] = Counter()

    # --- ports.observer.RunObserver ---

    def claimed(self, runs: Sequence[Run]) -> None:
        """See RunObserver."""
        self.claims += len(runs)

    def decided(self, decisions: Sequence[Decision], answers: Sequence[Decided]) -> None:
        """See RunObserver."""
        for decision, answer in zip(decisions, answers, strict=True):
            if not decision.marks or answer.outcome != "done":
                continue
            for mark in decision.marks:
                if mark.state != "queued":
                    self.runs[mark.state, mark.trigger] += mark.count
                    self._count_job(decision.job_id, mark.state, mark.count)

    def called(self, action: Action, outcome: Outcome) -> None:
        """See RunObserver."""
        self.calls[str(action.__struct_config__.tag), outcome.state] += 1
        if isinstance(action, HttpAction):
            self.callbacks[destination_class(action.url), _answer_class(outcome)] += 1

    def ended(self, finishes: Sequence[Finish], answers: Sequence[Finished]) -> None:
        """See RunObserver."""
        runs, lateness, duration = self.runs, self.lateness, self.duration
        for finish, answer in zip(finishes, answers, strict=True):
            if answer.outcome != "stored":
                self.refused += 1
                continue
            run = finish.run
            started_us = finish.started_us
            if started_us is not None:
                lateness.add(max(started_us - run.due_us, 0) / US)
                duration.add((finish.finished_us - started_us) / US)
            if finish.next_due_us is not None:
                self.retries += 1
                continue
            runs[finish.state, run.trigger] += 1
            if self.by_job is not None:
                self._count_job(run.key.job_id, finish.state, 1)

    def _count_job(self, job_id: int, state: str, count: int) -> None:
        if self.by_job is None:
            return
        if job_id not in self._jobs:
            if len(self._jobs) >= MAX_JOBS:
                job_id = 0
            else:
                self._jobs.add(job_id)
        self.by_job[job_id, state] += count

    # --- others ---

    def answered(self, method: str, route: str, status: int) -> None:
        """Count an answer of the API; ``route`` is a pattern, not an address."""
        self.requests[method, route, status] += 1

    def asked_store(self, verb: str, seconds: float, *, failed: bool) -> None:
        """Count a call of the store."""
        histogram = self.store.get(verb)
        if histogram is None:
            histogram = self.store[verb] = Histogram(STORE_S)
        histogram.add(seconds)
        if failed:
            self.store_errors[verb] += 1

    def jobs(self) -> list[int]:
        """Return the jobs that are counted by themselves."""
        return sorted(self._jobs)


@lru_cache(maxsize=4096)
def destination_class(url: str) -> str:
    """Return where a URL leads: loopback, private, public, or name (not known before DNS)."""
    try:
        host = urlsplit(url).hostname or ""
        address = ipaddress.ip_address(host)
    except ValueError:
        return "loopback" if url.split("/")[2:3] and _is_localhost(url) else "name"
    if address.is_loopback:
        return "loopback"
    return "public" if address.is_global else "private"


def _is_localhost(url: str) -> bool:
    host = url.split("/")[2].rpartition("@")[2].partition(":")[0].lower()
    return host == "localhost" or host.endswith(".localhost")


def _answer_class(outcome: Outcome) -> str:
    code = outcome.code
    return f"{code // 100}xx" if code is not None and 100 <= code < 600 else "none"


# --- in Prometheus' words ------------------------------------------------------------------------


class Exposition:
    """The text that Prometheus reads. ``reading`` tells what the node is at this moment.

    ``names`` maps a job's id to project and name.
    """

    def __init__(self, metrics: Metrics, reading: Callable[[], Reading], version: str) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self._metrics = metrics
        self._reading = reading
        self._version = version
        self._names: dict[int, tuple[str, str]] = {}
        self._registry: CollectorRegistry = CollectorRegistry()
        self._registry.register(cast("Collector", self))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str, names: dict[int, tuple[str, str]]) -> tuple[bytes, str]:
        """Return body and media type, as the ``Accept`` header wants it."""
        from prometheus_client.exposition import choose_encoder

        self._names = names
        encode, media = choose_encoder(accept)
        body: bytes = encode(self._registry)
        return body, media

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before it is asked for."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield every family (called by the registry)."""
        yield from self._runs()
        yield from self._moment(self._reading())
        yield from self._faces()

    def _runs(self) -> Iterable[Metric]:
        m = self._metrics
        yield _counter("runs", "Slots and runs decided for good.", ("state", "trigger"), m.runs)
        if m.by_job is not None:
            by_name: Counter[tuple[str, str, str]] = Counter()
            for (job_id, state), count in m.by_job.items():
                project, job = self._names.get(job_id, ("", "other"))
                by_name[project, job, state] += count
            by_job = ("project", "job", "state")
            yield _counter("job_runs", "Runs decided for good, by job.", by_job, by_name)
        yield _counter("claims", "Runs claimed.", (), {(): m.claims})
        yield _counter("retries", "Attempts that another one follows.", (), {(): m.retries})
        yield _counter("late_results", "Results refused: superseded.", (), {(): m.refused})
        yield _counter("actions", "Actions performed.", ("kind", "state"), m.calls)
        head = ("destination", "answer")
        yield _counter("callbacks", "HTTP callbacks.", head, m.callbacks)
        yield _histogram("lateness_seconds", "From when a run was due to its start.", m.lateness)
        yield _histogram("duration_seconds", "From an attempt's start to its end.", m.duration)

    def _moment(self, now: Reading) -> Iterable[Metric]:
        yield _gauge("node_info", "This node.", ("version",), {(self._version,): 1})
        yield _gauge("live_runs", "Runs at work.", (), {(): now.live})
        yield _gauge("workers", "Most runs at once.", (), {(): now.workers})
        queues = {("timer",): now.timed, ("worker",): now.waiting, ("store",): now.ending}
        yield _gauge("queue_length", "Runs that wait, for what.", ("for",), queues)
        yield _gauge("lease_age_seconds", "Since the lease was renewed.", (), {(): now.lease_age_s})
        yield _gauge("lease_seconds", "How long a lease lasts.", (), {(): now.lease_s})
        healthy = {(name,): int(good) for name, good in now.healthy.items()}
        yield _gauge("service_healthy", "Whether a part can work.", ("service",), healthy)
        yield _gauge("throttled", "Whether no new work is taken.", (), {(): int(now.throttled)})
        yield _gauge("followers", "Outputs followed.", (), {(): now.followers})
        states = Counter((one.breaker,) for one in now.destinations)
        shown = {(state,): states[state,] for state in ("closed", "half_open", "open")}
        yield _gauge("destinations", "Destinations by breaker.", ("breaker",), shown)
        waiting = sum(one.waiting for one in now.destinations)
        yield _gauge("callbacks_waiting", "Callbacks that wait for budgets.", (), {(): waiting})

    def _faces(self) -> Iterable[Metric]:
        m = self._metrics
        head = ("method", "route", "status")
        requests = {(a, b, str(c)): count for (a, b, c), count in m.requests.items()}
        yield _counter("api_requests", "Answers of the API.", head, requests)
        from prometheus_client.core import HistogramMetricFamily

        help_text = "Calls of the store, with their wait for its threads."
        family = HistogramMetricFamily("everbell_store_seconds", help_text, labels=["verb"])
        for verb, histogram in sorted(m.store.items()):
            family.add_metric([verb], histogram.buckets(), histogram.total)
        yield family
        errors = {(verb,): count for verb, count in m.store_errors.items()}
        yield _counter("store_errors", "Calls of the store that failed.", ("verb",), errors)
        yield _histogram("loop_lag_seconds", "How late the event loop turns.", m.lag)


def _counter(name: str, text: str, labels: Sequence[str], values: object) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"everbell_{name}", text, labels=list(labels))
    for key, value in _rows(values):
        family.add_metric(key, value)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], values: object) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"everbell_{name}", text, labels=list(labels))
    for key, value in _rows(values):
        family.add_metric(key, value)
    return family


def _rows(values: object) -> Iterable[tuple[list[str], float]]:
    assert isinstance(values, dict)
    for key, value in sorted(values.items()):
        yield [str(part) for part in key], float(value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"everbell_{name}", text)
    family.add_metric([], histogram.buckets(), histogram.total)
    return family
