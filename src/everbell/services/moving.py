"""Moves all that a store holds into another one, and leaves the old one marked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from everbell.domain.errors import Bug, ConflictError, StoreCorrupt
from everbell.domain.job import Record
from everbell.domain.moving import Digest, Move, Row, Shape, digester, fitting, shapes
from everbell.ports.clock import Clock
from everbell.ports.moving import Giver, Receiver, Source, Standing

Tell = Callable[[str, int, int], None]
"""Called with a table, how many of its rows are there, and how many there will be."""


class Table(Record, frozen=True):
    """One table of a finished move; the digest was the same on both sides."""

    name: str
    rows: int
    digest: str


class Moved(Record, frozen=True):
    """What became of a move. ``already``: an earlier call had done all of it, or all but the end.

    ``replaced``: texts in which characters that the target can't store were replaced.
    """

    move: Move
    already: bool
    tables: tuple[Table, ...] = ()
    replaced: int = 0


async def move(giver: Giver, receiver: Receiver, clock: Clock, new_id: str, tell: Tell) -> Moved:
    """Move all; a call after a killed one goes on, one after a finished one says so.

    Raises ConflictError (the source was moved elsewhere, the target is not empty), StoreError.
    """
    known = giver.move()
    if known is not None and known.state == "moved":
        return await _finish(giver, receiver, known)
    made = Move(
        id=known.id if known is not None else new_id,
        source=giver.where,
        target=receiver.where,
        at_us=clock.now_us(),
        state="begun",
    )
    await refuse_full(receiver, made.id)
    giver.begin(made)
    await receiver.begin(made, giver.days(made.at_us))
    found, replaced = await _copy(giver, receiver, tell)
    await receiver.commit(replace(made, state="copied"))
    giver.leave(replace(made, state="moved"))
    made = replace(made, state="done")
    await receiver.done(made)
    return Moved(move=made, already=False, tables=tuple(found), replaced=replaced)


async def refuse_full(receiver: Receiver, move_id: str) -> None:
    """Raise ConflictError if the target holds what a move must not mix with."""
    refusal = full(receiver.where, await receiver.standing(), move_id)
    if refusal is not None:
        raise refusal


def full(where: str, standing: Standing, move_id: str) -> ConflictError | None:
    """Say why nothing can be moved into a database, unless it can."""
    there = standing.move
    if there is not None and there.state == "copied":
        if there.id == move_id:
            return None
        message = f"{where} holds an unfinished move of {there.source}"
        hint = f"finish it: everbell migrate --from {there.source}; or name another database"
        return ConflictError(message, hint=hint)
    if there is not None:
        message = f"{where} is in use: it was filled from {there.source}"
        return ConflictError(message, hint="name an empty database")
    if standing.rows:
        name, rows = max(standing.rows.items(), key=lambda item: item[1])
        message = f"{where} is not empty: {rows} rows in {name}"
        hint = "name an empty database, or empty this one: DROP SCHEMA everbell CASCADE"
        return ConflictError(message, hint=hint)
    return None


def in_use(source: Source) -> ConflictError | None:
    """Say why nothing can be moved out of a database, unless it can."""
    if source.users:
        who = f"processes {', '.join(map(str, source.users))} have it open"
        if source.nodes:
            who = f"{', '.join(source.nodes)} runs; {who}"
        message = f"{source.where} is in use: {who}"
        return ConflictError(message, hint="stop every node, then move")
    return None


async def _finish(giver: Giver, receiver: Receiver, known: Move) -> Moved:
    there = (await receiver.standing()).move
    if there is None or there.id != known.id:
        message = f"{giver.where} was moved to {known.target}; {receiver.where} has nothing of it"
        hint = "name that database in --to, with its password"
        raise ConflictError(message, hint=hint)
    made = replace(known, state="done")
    if there.state != "done":
        await receiver.done(made)
    return Moved(move=made, already=True)


async def _copy(giver: Giver, receiver: Receiver, tell: Tell) -> tuple[list[Table], int]:
    found, wrong = shapes(giver.columns(), await receiver.columns())
    if wrong:
        raise Bug("the tables of both stores do not fit: " + "; ".join(wrong))
    read: list[tuple[Shape, Digest]] = []
    replaced = 0
    for shape in found:
        digest, count = await _table(giver, receiver, shape, tell)
        read.append((shape, digest))
        replaced += count
    await receiver.carry(giver.numbers())
    checked: list[Table] = []
    for shape, digest in read:
        name = shape.part.name
        stored = await receiver.digest(shape)
        if stored != digest:
            message = (
                f"{name} differs after the copy: {digest.rows} rows ({digest.text}) read,"
                f" {stored.rows} ({stored.text}) stored in {receiver.where}"
            )
            raise StoreCorrupt(message, hint="nothing was moved; check both machines' disks")
        checked.append(Table(name=name, rows=digest.rows, digest=digest.text))
    return checked, replaced


async def _table(giver: Giver, receiver: Receiver, shape: Shape, tell: Tell) -> tuple[Digest, int]:
    add, fit = digester(shape), fitting(shape)
    digest, replaced, stored, total = Digest(), 0, 0, giver.count(shape)
    parts = giver.rows(shape)

    def prepare() -> Sequence[Row]:
        nonlocal digest, replaced
        rows, count = fit(next(parts, ()))
        digest = add(digest, rows)
        replaced += count
        return rows

    rows = await asyncio.to_thread(prepare)
    while rows:
        # The next part is read and counted while the target stores this one: half as long in all.
        reading = asyncio.ensure_future(asyncio.to_thread(prepare))
        try:
            await receiver.put(shape, rows)
        finally:
            await asyncio.wait({reading})
        stored += len(rows)
        tell(shape.part.name, stored, total)
        rows = reading.result()
    return digest, replaced
