"""What watches a node: its counters and its traces, as the settings want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from everbell.config.schema import Telemetry
from everbell.ports.clock import Clock
from everbell.ports.store import Store
from everbell.telemetry.metered import metered
from everbell.telemetry.metrics import Exposition, Metrics, Reading
from everbell.telemetry.traces import Traces


class Instruments(NamedTuple):
    """Each is None if it is switched off."""

    metrics: Metrics | None
    traces: Traces | None

    def over(self, store: Store, clock: Clock) -> Store:
        """Return the store, timed if anybody counts."""
        return store if self.metrics is None else metered(store, clock, self.metrics)

    def exposition(self, reading: Callable[[], Reading], version: str) -> Exposition | None:
        """Return what writes the counters down."""
        return None if self.metrics is None else Exposition(self.metrics, reading, version)


def open_instruments(settings: Telemetry, node: str, version: str) -> Instruments:
    """Return the instruments of a node. Raises ConfigError if one is not installed."""
    metrics = Metrics(by_job=settings.job_metrics) if settings.metrics else None
    traces = Traces(settings, node=node, version=version) if settings.traces else None
    return Instruments(metrics, traces)
