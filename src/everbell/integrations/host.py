"""What the parts of this package see of an ``Everbell``."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from everbell.services.context import Actor, Services

if TYPE_CHECKING:
    from everbell.bootstrap import Embedded

T = TypeVar("T")


class Host(Protocol):
    """A program with jobs, and perhaps a node that runs inside of it."""

    name: str
    actor: Actor

    @property
    def services(self) -> Services:
        """The use cases of the running node. Raises ConflictError if none runs here."""
        ...

    @property
    def node(self) -> Embedded | None:
        """The node, while it runs."""
        ...

    def running(self) -> AbstractAsyncContextManager[object]:
        """Run a node in this loop until the block ends."""
        ...

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Perform a coroutine on the node's loop, from another thread."""
        ...

    def forget(self) -> tuple[object, ...]:
        """Let go, in a forked child, of what belongs to the parent, and return it."""
        ...
