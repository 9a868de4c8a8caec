# Generated from everbell/client/aio by scripts/gen_client.py; change that instead.
"""The client."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Self

from everbell.client.sync.admin import (
    Audit,
    Credentials,
    HealthChecks,
    Nodes,
    Projects,
)
from everbell.client.sync.core import Core
from everbell.client.sync.jobs import Jobs, Schedules
from everbell.client.sync.runs import Holds, Limits, Runs
from everbell.client.sync.transport import Transport
from everbell.client.wire import options


class Client:
    """A server as seen by one key: ``with Client(url, key, secret) as client``.

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
        transport: Transport | None = None,
    ) -> None:
        at = options(url, api_key, api_secret, timeout, retries)
        self._core = Core(at, transport or Transport(timeout, tls))
        self.projects = Projects(self._core)
        self.credentials = Credentials(self._core)
        self.jobs = Jobs(self._core)
        self.runs = Runs(self._core)
        self.holds = Holds(self._core)
        self.limits = Limits(self._core)
        self.schedules = Schedules(self._core)
        self.nodes = Nodes(self._core)
        self.audit = Audit(self._core)
        self.health = HealthChecks(self._core)

    def __repr__(self) -> str:
        return f"Client({self._core.at.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._core.transport.close()
