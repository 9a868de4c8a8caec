"""The client."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Self

from everbell.client.aio.admin import (
    AsyncAudit,
    AsyncCredentials,
    AsyncHealthChecks,
    AsyncNodes,
    AsyncProjects,
)
from everbell.client.aio.core import AsyncCore
from everbell.client.aio.jobs import AsyncJobs, AsyncSchedules
from everbell.client.aio.runs import AsyncHolds, AsyncLimits, AsyncRuns
from everbell.client.aio.transport import AsyncTransport
from everbell.client.wire import options


class AsyncClient:
    """A server as seen by one key: ``async with AsyncClient(url, key, secret) as client``.

    What is not given comes from EVERBELL_SERVER, EVERBELL_API_KEY and EVERBELL_API_SECRET.
    ``timeout`` bounds each attempt, in seconds; ``retries`` is how often a request is sent again
    after a broken connection, 429 or 503. What could be done twice by that is never repeated:
    creations and runs carry an Idempotency-Key. Redirects are not followed, proxies not asked.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        api_secret: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 4,
        tls: ssl.SSLContext | None = None,
        transport: AsyncTransport | None = None,
    ) -> None:
        at = options(url, api_key, api_secret, timeout, retries)
        self._core = AsyncCore(at, transport or AsyncTransport(timeout, tls))
        self.projects = AsyncProjects(self._core)
        self.credentials = AsyncCredentials(self._core)
        self.jobs = AsyncJobs(self._core)
        self.runs = AsyncRuns(self._core)
        self.holds = AsyncHolds(self._core)
        self.limits = AsyncLimits(self._core)
        self.schedules = AsyncSchedules(self._core)
        self.nodes = AsyncNodes(self._core)
        self.audit = AsyncAudit(self._core)
        self.health = AsyncHealthChecks(self._core)

    def __repr__(self) -> str:
        return f"AsyncClient({self._core.at.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._core.transport.close()
