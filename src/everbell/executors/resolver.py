"""Name resolution for callbacks: what was checked is what is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from everbell.executors.addresses import AddressPolicy
from everbell.executors.targets import refuse_unless_allowed

DNS_THREADS = 8


class SystemResolver(AbstractResolver):
    """Asks the system (hosts file, DNS) on threads of its own.

    The loop's shared threads are not used: a name server that hangs would block everything else
    that runs on them.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="everbell-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return all answers. Raises OSError for an unknown name."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _lookup, host, port, family)
        return [
            ResolveResult(
                hostname=host,
                host=str(answer[4][0]),
                port=port,
                family=answer[0],
                proto=answer[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for answer in found
        ]

    async def close(self) -> None:
        """Let the threads end; one that waits for a name server ends with its answer."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lookup(
    host: str, port: int, family: socket.AddressFamily
) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int | bytes, ...]]]:
    flags = socket.AI_ADDRCONFIG
    return list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, flags))


class GuardedResolver(AbstractResolver):
    """Resolves a name once, judges every answer, and hands on only judged addresses.

    The connector connects to exactly these addresses, so that a name that changes its answer
    between check and call (DNS rebinding) gains nothing. Nothing is cached: every new connection
    is judged anew. Literal addresses never come here; ``targets.check_literal`` judges them.
    """

    def __init__(self, policy: AddressPolicy, underneath: AbstractResolver) -> None:
        self._policy = policy
        self._underneath = underneath

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the judged answers. Raises RefusedError, or OSError for an unknown name."""
        answers = await self._underneath.resolve(host, port, family)
        addresses = [ipaddress.ip_address(answer["host"].partition("%")[0]) for answer in answers]
        refuse_unless_allowed(host, addresses, self._policy)
        return answers

    async def close(self) -> None:
        """Release the resolver underneath."""
        await self._underneath.close()
