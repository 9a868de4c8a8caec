"""Hand-over of work through a queue server: to worker nodes, and to other people's programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from everbell.domain.job import Record
from everbell.domain.run import RunKey


class Offer(Record, frozen=True):
    """Queued runs that somebody may claim. ``id`` is the queue's own name for the offer."""

    id: str
    keys: tuple[RunKey, ...]


class ReadyQueue(Protocol):
    """Offers of queued runs to the worker nodes. The store is the truth, an offer is a hint.

    - Any offer may be lost, come late or come twice; who takes one still claims it in the store.
    - ``offer`` returns at once and never raises for a lost server: what can't be handed on is
      dropped. An empty list does nothing.
    - ``take`` returns offers with at least one and at most ``limit`` keys in all, or nothing after
      ``wait_s`` at the latest (a little later if the server is slow). It never raises for a lost
      server, and does not return at once, again and again, while the server is away.
    - An offer goes to one taker at a time. What was taken and is not ``done`` after a while, since
      its taker died, is given to another one.
    - ``done`` forgets offers; unknown ones are ignored; it never raises for a lost server.
    - What waits is bounded: the oldest is dropped first.
    - ``healthy`` is False from the first failure until the server does what it is asked again,
      which is found out without a caller. ``trouble`` says why, naming the setting to mend.
    - No call holds up other tasks of the loop.
    """

    @property
    def healthy(self) -> bool:
        """Whether offers reach anybody."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong and what to do, without secrets; empty = nothing."""
        ...

    async def offer(self, keys: Sequence[RunKey]) -> None:
        """Hand keys on, in order."""
        ...

    async def take(self, limit: int, wait_s: float) -> Sequence[Offer]:
        """Take what is offered, oldest first."""
        ...

    async def done(self, offers: Sequence[Offer]) -> None:
        """Forget offers whose runs are claimed, or are claimed by others."""
        ...

    async def close(self) -> None:
        """Release what is held; what was not handed on is dropped. May be called twice."""
        ...


class Message(Record, frozen=True):
    """One message for a foreign consumer.

    ``id`` is the run's, the same on every attempt. ``max_length``: about how many messages are
    kept, the oldest are dropped first; 0 = all.
    """

    key: str
    kind: Literal["stream", "list"]
    id: str
    body: bytes
    max_length: int = 0


class MessageQueues(Protocol):
    """Queues that foreign programs read.

    - ``reach`` waits a moment for a server that is away, and returns why it can't be used, or
      nothing; a ``put`` right after it waits for no connection.
    - ``put`` stores the messages, those of one queue in order, and returns, for each, an empty
      text or why it was not stored; a refusal of one (a key of another kind) leaves the others
      alone.
    - It never raises for a lost server. When the answer was lost the message may be stored all the
      same, and the text says so: the sender repeats it under the same ``id``.
    - When the caller is cancelled, messages may be stored or not, each as a whole.
    """

    @property
    def trouble(self) -> str:
        """What is wrong with the server and what to do, without secrets; empty = nothing."""
        ...

    async def reach(self) -> str:
        """Wait until messages can be stored."""
        ...

    async def put(self, messages: Sequence[Message]) -> Sequence[str]:
        """Store messages."""
        ...

    async def close(self) -> None:
        """Release what is held; a later ``put`` opens it again. May be called twice."""
        ...
