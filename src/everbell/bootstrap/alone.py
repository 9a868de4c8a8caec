"""The API over a store, in this process and without a node."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from everbell import __version__
from everbell.api.app import create_app
from everbell.config.loader import Loaded
from everbell.config.schema import Settings
from everbell.config.secrets import (
    Secrets,
)
from everbell.executors.registry import build_executors
from everbell.services.context import Services
from everbell.stores.sqlite import SqliteStore
from everbell.telemetry.clock import SystemClock, SystemEntropy

if TYPE_CHECKING:
    from starlette.types import ASGIApp


from everbell.bootstrap.storage import open_checked


@contextlib.asynccontextmanager
async def open_local(loaded: Loaded, secrets: Secrets) -> AsyncIterator[ASGIApp]:
    """Give the API over the local store, in this process and without a node."""
    store = await open_checked(loaded, secrets)
    clock = SystemClock()
    executors = build_executors(loaded.settings, clock, __version__)
    services = Services(
        store=store,
        clock=clock,
        entropy=SystemEntropy(),
        settings=loaded.settings,
        secret_key=secrets.key,
        checks={kind: executor.check for kind, executor in executors.items()},
    )
    try:
        yield create_app(services)
    finally:
        await store.close()


class _At(SystemClock):
    """A clock that stands still."""

    def __init__(self, at_us: int) -> None:
        super().__init__()
        self._at_us = at_us

    def now_us(self) -> int:
        return self._at_us


@contextlib.asynccontextmanager
async def open_still(path: str | Path, settings: Settings) -> AsyncIterator[ASGIApp]:
    """Give the API over a backup, or another file, as of the last instant that it knows of.

    Nothing in it can be changed. Raises StoreUnavailable, StoreCorrupt.
    """
    store = await SqliteStore.open_still(path)
    try:
        clock = _At(await store.last_seen_us())
        entropy = SystemEntropy()
        yield create_app(
            Services(store=store, clock=clock, entropy=entropy, settings=settings, secret_key=b"")
        )
    finally:
        await store.close()
