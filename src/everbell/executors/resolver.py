"""Name resolution for callbacks: what was checked is what is connected to."""

from __future__ import annotations

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from everbell.executors.addresses import AddressPolicy
from everbell.executors.targets import refuse_unless_allowed


class GuardedResolver(AbstractResolver):
    """Resolves a name once, judges every answer, and hands on only addresses.

    The connector connects to exactly these addresses, so that a name that changes its answer
    between check and call (DNS rebinding) gains nothing. Nothing is cached: every new connection
    is judged anew. Literal addresses never come here; ``targets.check_literal`` judges them.
    """

    def __init__(self, policy: AddressPolicy, underneath: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._underneath = underneath or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the checked answers. Raises RefusedError, or OSError for an unknown name."""
        answers = await self._underneath.resolve(host, port, family)
        addresses = [ipaddress.ip_address(answer["host"].partition("%")[0]) for answer in answers]
        refuse_unless_allowed(host, addresses, self._policy)
        return answers

    async def close(self) -> None:
        """Release the resolver underneath."""
        await self._underneath.close()
