"""What a database says of its own health and of the jobs in it."""

from __future__ import annotations

from everbell.domain.job import Record
from everbell.domain.records import Node

NAMES = 5
"""So many names are told; of the others only how many there are."""


class Names(Record, frozen=True):
    """Some names, and how many there are in all."""

    count: int = 0
    names: tuple[str, ...] = ()


class Checkup(Record, frozen=True):
    """What was found.

    Of a file: ``integrity`` "ok", what is wrong, or "" if it is too large, and its sizes. Of a
    server: its name in ``server``, and ``clock_offset_s``, its clock minus this machine's.
    ``locked_by``: processes that have the file open while it can't be written; None = it can.
    ``orphans``: active runs of no living node; ``long``: active for more than a day.
    ``never``: enabled jobs with a schedule that has no slot any more and that never ran.
    ``overdue``: jobs that should have been decided a minute ago.
    """

    schema: int
    newest: int
    size_bytes: int = 0
    wal_bytes: int = 0
    integrity: str = ""
    server: str = ""
    clock_offset_s: float = 0.0
    locked_by: tuple[int, ...] | None = None
    secret_check: str = ""
    nodes: tuple[Node, ...] = ()
    orphans: Names = Names()
    long: Names = Names()
    parked: Names = Names()
    quarantined: Names = Names()
    never: Names = Names()
    overdue: Names = Names()
    holds: Names = Names()
    interpreters: tuple[str, ...] = ()
