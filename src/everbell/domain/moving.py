"""What moves from one store into another, column by column, and how both sides are compared.

A store that is moved is left behind: marked, so that no node starts on it again. The mark and the
order of its states are what makes a move safe against being killed:

    source                      target
    begun (nodes may still run)
                                copied (whole and checked; nodes refuse it)
    moved (nodes refuse it)
                                done (nodes may run)

So at no instant both may be run on. A move that was killed before ``moved`` is made anew, after
it the target is complete and only ``done`` is missing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from everbell.domain.job import US, Record
from everbell.domain.run import FINAL

MARK = "migration"
"""Name of the row of ``meta`` that holds a Move; it is not moved itself."""
UNIT = "\x1f"
_NONE = "None"


class Move(Record, frozen=True):
    """The mark of a move. ``source`` and ``target``: addresses without passwords."""

    id: str
    source: str
    target: str
    at_us: int
    state: Literal["begun", "copied", "moved", "done"]


def encode_move(move: Move) -> str:
    """Return the form in which a mark is stored."""
    return msgspec.json.encode(move).decode()


def decode_move(text: str | None) -> Move | None:
    """Return the mark; None = there is none, or nobody can read it."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Move)
    except msgspec.MsgspecError:
        return None


class Part(NamedTuple):
    """A table of the target. ``source``: the table, or join, of the other side that it comes from.

    ``order``: its key there. ``renamed``: columns that have another expression there than their
    own name, with the (table, column) that each one takes.
    """

    name: str
    source: str
    order: str
    renamed: Mapping[str, tuple[str, str, str]] = {}
    where: str = "true"

    @property
    def table(self) -> str:
        """The table of the source that it comes from, or the first of a join."""
        return self.source.partition(" ")[0]


def _part(name: str, order: str, where: str = "true") -> Part:
    return Part(name, name, order, {}, where)


_ENDED = "state IN (" + ", ".join(f"'{state}'" for state in sorted(FINAL)) + ")"
_RUN_KEY = "slot_us, job_id, trigger_id"
_DEFINITIONS = Part(
    "definitions",
    "jobs LEFT JOIN definitions ON definitions.job_id = jobs.id",
    "jobs.id",
    {
        "job_id": ("jobs.id", "definitions", "job_id"),
        "owner_id": ("jobs.project_id", "jobs", "project_id"),
        "uuid": ("jobs.uuid", "jobs", "uuid"),
        "name": ("jobs.name", "jobs", "name"),
        "folded_name": ("jobs.folded_name", "jobs", "folded_name"),
        "definition": ("coalesce(definitions.definition, '')", "definitions", "definition"),
    },
)
# Referred to before what refers; the ledger as one stream in its own order, so that it is appended.
PARTS = (
    _part("projects", "id"),
    _part("credentials", "id"),
    _part("jobs", "id"),
    _DEFINITIONS,
    _part("job_versions", "job_id, version"),
    _part("holds", "id"),
    _part("limits", "project_id, name"),
    _part("job_limits", "project_id, name, job_id"),
    _part("runs", _RUN_KEY, f"NOT {_ENDED}"),
    Part("ended_runs", "runs", _RUN_KEY, {}, _ENDED),
    _part("attempts", f"{_RUN_KEY}, attempt"),
    _part("output", f"{_RUN_KEY}, attempt, start"),
    _part("nodes", "id"),
    _part("drains", "name"),
    _part("remembered", "scope, key"),
    _part("meta", "key", f"key <> '{MARK}'"),
    _part("audit", "id"),
)

# Counters, which go on above the old ones: ids without a row of their own, fencing tokens.
CARRIED_FROM = frozenset({"fence", "sqlite_sequence"})
CARRIED_INTO = frozenset({"counters", "partitions", "schema_version"})
ANEW = frozenset({"assignment", "shard_loads"})
"""Tables that nodes fill by themselves."""
UNSET = frozenset({("nodes", "presence")})
"""Columns of the target that only its own nodes fill; NULL until then."""
DAY_US = 86_400 * US
COUNTED = ("projects", "credentials", "jobs", "holds", "audit")
"""Tables whose last id goes along, so that an id is never given out twice."""

KINDS = frozenset({"bigint", "text", "boolean", "bytea", "double precision", "text[]"})
"""Of columns of the target. In the source a list of words is one text, with spaces between."""


class Shape(NamedTuple):
    """The columns of a part, in the order in which its rows travel, and their kinds."""

    part: Part
    columns: tuple[str, ...]
    kinds: tuple[str, ...]


def shapes(
    source: Mapping[str, Iterable[str]], target: Mapping[str, Mapping[str, str]]
) -> tuple[list[Shape], list[str]]:
    """Match two catalogs: columns by table there, kinds by column by table here.

    Return the shapes, and in words what would be lost or is missing: it must be nothing.
    """
    found: list[Shape] = []
    wrong: list[str] = []
    taken: set[tuple[str, str]] = set()
    for part in PARTS:
        columns = target.get(part.name)
        if columns is None:
            wrong.append(f"the target has no table {part.name}")
            continue
        for name, kind in columns.items():
            if (part.name, name) in UNSET:
                continue
            _, table, column = part.renamed.get(name, ("", part.table, name))
            taken.add((table, column))
            if column not in source.get(table, ()):
                wrong.append(f"{part.name}.{name} of the target has no source")
            if kind not in KINDS:
                wrong.append(f"{part.name}.{name} of the target is of the kind {kind!r}")
        kept = [name for name in columns if (part.name, name) not in UNSET]
        found.append(Shape(part, tuple(kept), tuple(columns[name] for name in kept)))
    for table, names in source.items():
        if table not in CARRIED_FROM | ANEW:
            wrong += [
                f"{table}.{name} would be lost" for name in names if (table, name) not in taken
            ]
    known = {part.name for part in PARTS} | CARRIED_INTO | ANEW
    wrong += [f"nobody knows what becomes of {name}" for name in target if name not in known]
    return found, wrong


Row = Sequence[Any]
Fit = Callable[[Sequence[Row]], tuple[list[Row], int]]


def fitting(shape: Shape) -> Fit:
    """Return what turns rows as they are read into rows as they are written.

    It also counts the texts in which something had to be replaced: NUL, and halves of surrogate
    pairs, which the target can't hold.
    """
    changes = [
        (index, _CHANGES[kind]) for index, kind in enumerate(shape.kinds) if kind in _CHANGES
    ]

    def fit(rows: Sequence[Row]) -> tuple[list[Row], int]:
        made: list[Row] = []
        replaced = 0
        for row in rows:
            values = list(row)
            for index, change in changes:
                value = values[index]
                if value is not None:
                    new = change(value)
                    if new is not value:
                        replaced += type(new) is str
                        values[index] = new
            made.append(values)
        return made, replaced

    return fit


def _clean(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    cleaned = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return text if cleaned == text else cleaned


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "text": _clean,
    "boolean": lambda value: value == 1,
    "double precision": float,
    "text[]": str.split,
}


class Digest(NamedTuple):
    """How many rows, and a sum over all of them in which their order does not count."""

    rows: int = 0
    total: int = 0

    @property
    def text(self) -> str:
        """The sum in 16 hexadecimal digits."""
        return f"{self.total % 2**64:016x}"


def digester(shape: Shape) -> Callable[[Digest, Sequence[Row]], Digest]:
    """Return what adds rows to a digest: the sum of 60 bits of the MD5 of each row's text.

    The text of a row is what `str` makes of its values, joined by UNIT; bytes stand as their MD5,
    floats as their eight bytes, both in hexadecimal digits. Against accidents, not against malice.
    """
    odd = [(index, _IN_TEXT[kind]) for index, kind in enumerate(shape.kinds) if kind in _IN_TEXT]
    md5 = hashlib.md5

    def add(to: Digest, rows: Sequence[Row]) -> Digest:
        total = to.total
        for row in rows:
            text = UNIT.join(map(str, _told(row, odd) if odd else row)).encode()
            total += int.from_bytes(md5(text, usedforsecurity=False).digest()[:8], "big") >> 4
        return Digest(to.rows + len(rows), total)

    return add


def _told(row: Row, odd: Iterable[tuple[int, Callable[[Any], str]]]) -> Row:
    values = list(row)
    for index, change in odd:
        if values[index] is not None:
            values[index] = change(values[index])
    return values


def _md5_of(value: bytes) -> str:
    return hashlib.md5(value, usedforsecurity=False).hexdigest()


_IN_TEXT: dict[str, Callable[[Any], str]] = {
    "bytea": _md5_of,
    "double precision": lambda value: struct.pack(">d", value).hex(),
    "text[]": " ".join,
}
