"""What a database says of its own health and of the jobs in it; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from everbell.domain.errors import StoreCorrupt
from everbell.domain.job import US
from everbell.ports.checkup import NAMES, Checkup, Names
from everbell.stores.sqlite import cluster, moved
from everbell.stores.sqlite.connection import APPLICATION_ID, migrations
from everbell.stores.sqlite.errors import translated

CHECKED_BYTES = 2 * 1024**3
"""Larger files are not read as a whole: that would take minutes."""
OVERDUE_US = 60 * US
LONG_US = 86_400 * US


def check_up(path: Path, now_us: int) -> Checkup:
    """Look at a database. Raises ConfigError (moved away), StoreCorrupt, StoreUnavailable."""
    with _reading(path) as db, translated(str(path)):
        if db.pragma("application_id") != APPLICATION_ID:
            raise StoreCorrupt(f"{path} is no database of Everbell", hint="check database.url")
        moved.refuse(db, str(path))
        size, wal = path.stat().st_size, path.with_name(path.name + "-wal")
        integrity = ""
        if size <= CHECKED_BYTES:
            integrity = str(db.execute("PRAGMA quick_check(1)").get)
        version, newest = db.pragma("user_version"), migrations()[-1][0]
        if version != newest:  # its tables are those of another version
            return _only_the_file((size, wal), (version, newest), integrity)
        return Checkup(
            size_bytes=size,
            wal_bytes=wal.stat().st_size if wal.exists() else 0,
            schema=version,
            newest=newest,
            integrity=integrity,
            locked_by=_lockers(db, path),
            secret_check=str(
                db.execute("SELECT value FROM meta WHERE key = 'secret_check'").get or ""
            ),
            nodes=tuple(cluster.list_nodes(db.cursor())),
            orphans=_names(db, _ORPHANS, now_us),
            long=_names(db, _LONG, now_us - LONG_US),
            parked=_names(db, "SELECT name FROM jobs WHERE parked <> '' AND ?1 ORDER BY id", 1),
            quarantined=_names(
                db, "SELECT name FROM jobs WHERE quarantined <> '' AND ?1 ORDER BY id", 1
            ),
            never=_names(db, _NEVER, 1),
            overdue=_names(db, _OVERDUE, now_us - OVERDUE_US),
            holds=_names(db, "SELECT scope || ' ' || reason FROM holds WHERE ?1 ORDER BY id", 1),
            interpreters=tuple(str(row[0]) for row in db.execute(_INTERPRETERS)),
        )


_ORPHANS = (
    "SELECT jobs.name FROM runs JOIN jobs ON jobs.id = runs.job_id"
    " WHERE runs.state IN ('claimed', 'running') AND NOT EXISTS (SELECT 1 FROM nodes"
    " WHERE nodes.id = runs.node AND nodes.lease_until_us >= ?1"
    " AND nodes.state NOT IN ('dead', 'left'))"
)
_LONG = (
    "SELECT jobs.name FROM runs JOIN jobs ON jobs.id = runs.job_id"
    " WHERE runs.state IN ('claimed', 'running') AND coalesce(started_us, claimed_us) < ?1"
)
_NEVER = (
    "SELECT name FROM jobs JOIN definitions d ON d.job_id = jobs.id"
    " WHERE enabled = 1 AND next_slot_us IS NULL AND parked = '' AND quarantined = ''"
    " AND json_valid(d.definition) AND json_extract(d.definition, '$.schedule') IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.job_id = jobs.id) AND ?1 ORDER BY jobs.id"
)
_OVERDUE = (
    "SELECT name FROM jobs WHERE next_slot_us < ?1 AND enabled = 1 AND parked = ''"
    " AND quarantined = '' AND held = 0 ORDER BY next_slot_us"
)
_INTERPRETERS = (
    "SELECT DISTINCT json_extract(definition, '$.action.interpreter') FROM definitions"
    " WHERE json_valid(definition) AND json_extract(definition, '$.action.kind') = 'script'"
)


def _only_the_file(sizes: tuple[int, Path], schema: tuple[int, int], integrity: str) -> Checkup:
    size, wal = sizes
    return Checkup(
        size_bytes=size,
        wal_bytes=wal.stat().st_size if wal.exists() else 0,
        schema=schema[0],
        newest=schema[1],
        integrity=integrity,
    )


def _names(db: apsw.Connection, query: str, value: int) -> Names:
    count = int(db.execute(f"SELECT count(*) FROM ({query})", (value,)).get)
    some = db.execute(f"SELECT * FROM ({query}) LIMIT {NAMES}", (value,)).fetchall()
    return Names(count=count, names=tuple(str(name) for (name,) in some))


def _lockers(db: apsw.Connection, path: Path) -> tuple[int, ...] | None:
    """Return who keeps everybody from writing for a second; None = nobody."""
    try:
        db.execute("BEGIN IMMEDIATE")
    except apsw.BusyError:
        return tuple(users_of(path))
    db.execute("ROLLBACK")
    return None


def users_of(path: Path) -> Iterator[int]:
    """Give the other processes that have the file open, as far as this user may see them."""
    wanted = str(path.resolve())
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            opened = {str(one.readlink()) for one in (entry / "fd").iterdir()}
        except OSError:
            continue  # it ended, or is not ours to look at
        if wanted in opened and int(entry.name) != os.getpid():
            yield int(entry.name)


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    with translated(str(path)):
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(1000)
        yield db
    finally:
        db.close()
