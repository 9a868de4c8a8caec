"""A store whose calls are timed, and a loop whose turns are."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from everbell.domain.errors import StoreError
from everbell.ports.clock import Clock
from everbell.ports.store import Store
from everbell.telemetry.metrics import Metrics

LAG_PERIOD_S = 1.0


def metered(store: Store, clock: Clock, metrics: Metrics) -> Store:
    """Return the store with each call timed; what it does stays the same."""
    return cast("Store", _Metered(store, clock, metrics))


class _Metered:
    """Stands before a store. Verbs are wrapped when they are first used."""

    def __init__(self, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics

    def audited(self, entry: Any) -> _Metered:
        """See AuditStore."""
        return _Metered(self._store.audited(entry), self._clock, self._metrics)

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if not iscoroutinefunction(verb):
            return verb
        timed = self._timed(name, verb)
        setattr(self, name, timed)
        return timed

    def _timed(self, name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        monotonic, tell = self._clock.monotonic, self._metrics.asked_store

        async def call(*args: Any, **kwargs: Any) -> Any:
            begun = monotonic()
            failed = False
            try:
                return await verb(*args, **kwargs)
            except StoreError:
                failed = True
                raise
            finally:
                tell(name, monotonic() - begun, failed=failed)

        return call


async def watch_loop(clock: Clock, metrics: Metrics) -> None:
    """Measure, once a second, how late this task is waked; ends when cancelled."""
    while True:
        begun = clock.monotonic()
        await clock.sleep(LAG_PERIOD_S)
        metrics.lag.add(max(clock.monotonic() - begun - LAG_PERIOD_S, 0.0))
