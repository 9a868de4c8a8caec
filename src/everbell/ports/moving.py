"""Both ends of a move from one store to another; see domain.moving for the order of its states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from everbell.domain.job import Record
from everbell.domain.moving import Digest, Move, Row, Shape

__all__ = ["Giver", "Numbers", "Receiver", "Source", "Standing"]


class Numbers(Record, frozen=True):
    """What must not be given out again: the last fencing token, and the last id by table."""

    token: int
    ids: dict[str, int]


class Standing(Record, frozen=True):
    """What the target is before a move. ``schema`` 0 = it has no tables yet.

    ``rows``: tables that hold something a move must not mix with. ``move``: its mark.
    """

    schema: int
    newest: int
    rows: dict[str, int]
    move: Move | None


class Source(Record, frozen=True):
    """What a store that is to be moved holds. ``rows`` by table.

    ``nodes`` are alive by their lease; ``users``: processes that have the file open. Active runs
    of a source without nodes belong to nodes that were killed.
    """

    where: str
    schema: int
    newest: int
    rows: dict[str, int]
    active: int
    queued: int
    nodes: tuple[str, ...]
    users: tuple[int, ...]
    secret_check: str
    move: Move | None


class Giver(Protocol):
    """A store that is used by nobody else from ``open`` to ``close``.

    Its content can't change between the first row that is read and ``leave``, which is one step:
    marked for ever, or not at all.
    """

    where: str

    def move(self) -> Move | None:
        """Return the mark of an earlier move."""
        ...

    def begin(self, move: Move) -> None:
        """Write down that a move begins; from here on the content stands still."""
        ...

    def columns(self) -> Mapping[str, Sequence[str]]:
        """Return the columns of every table."""
        ...

    def count(self, shape: Shape) -> int:
        """Return how many rows there are."""
        ...

    def rows(self, shape: Shape) -> Iterator[list[Row]]:
        """Give all rows in parts that fit into memory."""
        ...

    def days(self, until_us: int) -> list[int]:
        """Return days since the epoch that the ledger has slots of, the newest, in order."""
        ...

    def numbers(self) -> Numbers:
        """Return what was given out last."""
        ...

    def leave(self, move: Move) -> None:
        """Mark the store as moved: whoever opens it is sent on."""
        ...

    def close(self) -> None:
        """Let go of the store; without ``leave`` it is as it was."""
        ...


class Receiver(Protocol):
    """A store that is being filled, in one transaction: all of it or nothing."""

    where: str

    async def standing(self) -> Standing:
        """Look at the target; changes nothing."""
        ...

    async def begin(self, move: Move, days: Sequence[int]) -> None:
        """Make the tables, lock them, and empty them of an earlier try of the same move.

        The ledger gets room for days (since the epoch).

        Raises ConflictError: there is something else in them.
        """
        ...

    async def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Return kinds by column by table."""
        ...

    async def put(self, shape: Shape, rows: Sequence[Row]) -> None:
        """Store rows."""
        ...

    async def carry(self, numbers: Numbers) -> None:
        """Make what is given out from now on greater than what was given out there."""
        ...

    async def digest(self, shape: Shape) -> Digest:
        """Read back what was stored."""
        ...

    async def commit(self, move: Move) -> None:
        """Keep it all, marked as copied: nodes refuse it until ``done``."""
        ...

    async def done(self, move: Move) -> None:
        """Let nodes run on it."""
        ...

    async def close(self) -> None:
        """Let go of the target; what was not committed is gone."""
        ...
